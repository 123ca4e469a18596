use axum::extract::Request;
use service_runtime::settings::{Environment, load};

use super::*;
use crate::settings::ConsoleSettings;

const TOKEN: &str = "correct horse battery";
const READ_TOKEN: &str = "staple of reading";
const FULL: (&str, &str) = ("DASHBOARD_TOKEN", TOKEN);
const READ: (&str, &str) = ("DASHBOARD_READ_TOKEN", READ_TOKEN);
const READ_ONLY: (&str, &str) = ("DASHBOARD_READ_ONLY", "true");

fn access(variables: &[(&str, &str)]) -> Access {
    let environment: Environment =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Access::of(&load::<ConsoleSettings>(&environment).unwrap().dashboard).unwrap()
}

/// Sends a request from this machine, by its own name.
fn admit(
    access: &Access,
    method: &Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Visitor, Problem> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let local = "127.0.0.1:8000".parse().unwrap();
    access.admit(&head, Connection { peer: local, local }, Instant::now())
}

fn status(access: &Access, method: &Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    match admit(access, method, path, headers) {
        Ok(_visitor) => 200,
        Err(Problem(status, _)) => status.as_u16(),
    }
}

#[test]
fn the_rights_of_a_visitor_depend_on_the_configured_tokens_and_the_one_in_the_request() {
    let [full, read] = [TOKEN, READ_TOKEN].map(|token| format!("Bearer {token}"));
    let [none, full, read] = [None, Some(&full), Some(&read)];
    // For each setting and each token: the page, seeing, changing.
    for (settings, token, expected) in [
        (&[][..], none, [200, 200, 200]),
        (&[READ_ONLY], none, [200, 200, 403]),
        (&[FULL], none, [200, 401, 401]),
        (&[FULL], full, [200, 200, 200]),
        (&[FULL], read, [200, 401, 401]),
        (&[FULL, READ_ONLY], full, [200, 200, 403]),
        (&[READ], none, [200, 401, 401]),
        (&[READ], read, [200, 200, 403]),
        (&[FULL, READ], full, [200, 200, 200]),
        (&[FULL, READ], read, [200, 200, 403]),
    ] {
        let access = access(settings);
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let found = [
            status(&access, &Method::GET, "/", &headers),
            status(&access, &Method::GET, "/api/stats", &headers),
            status(&access, &Method::POST, "/api/dlq/replay", &headers),
        ];
        assert_eq!(found, expected, "{settings:?} {token:?}");
        assert_eq!(status(&access, &Method::POST, "/api/session", &headers), 200);
    }
}

#[test]
fn a_token_counts_only_whole_and_as_a_bearer() {
    let access = access(&[FULL]);
    let see = |name, value: &str| status(&access, &Method::GET, "/api/stats", &[(name, value)]);
    assert_eq!(see("authorization", &format!("Bearer {TOKEN}")), 200);
    assert_eq!(see("authorization", &format!("Bearer {}", &TOKEN[1..])), 401);
    assert_eq!(see("authorization", TOKEN), 401);
    let name = &access.cookie_name;
    assert_eq!(see("cookie", &format!("{name}={TOKEN}")), 401);
    assert_eq!(see("cookie", name), 401);
    let secret = access.sessions.open(Token::Full, Instant::now()).unwrap();
    assert_eq!(see("cookie", &format!("other=1; {name}={secret}")), 200);
    assert_eq!(see("cookie", &format!("{name}x={secret}")), 401);
}

#[test]
fn only_its_own_page_and_programs_use_the_api() {
    let access = access(&[]);
    let own = ("origin", "http://localhost:8000");
    let proxied = ("origin", "https://orders.example");
    for (headers, expected) in [
        (&[][..], 200),
        (&[own, ("sec-fetch-site", "same-origin")], 200),
        (&[proxied, ("sec-fetch-site", "same-origin")], 200),
        (&[own], 200),
        (&[("origin", "http://localhost:9000")], 403),
        (&[("origin", "null")], 403),
        (&[own, ("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
    ] {
        for (method, path) in [(Method::GET, "/api/stats"), (Method::POST, "/api/control")] {
            assert_eq!(status(&access, &method, path, headers), expected, "{method} {headers:?}");
        }
        assert_eq!(status(&access, &Method::GET, "/", headers), 200, "the page may be linked to");
    }
}

#[test]
fn an_action_says_who_by_the_user_of_a_proxy_or_the_name_of_the_token() {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-user", "kim")];
    let name = |settings: &[(&str, &str)], headers: &[(&str, &str)]| {
        admit(&access(settings), &Method::GET, "/api/stats", headers).unwrap().name()
    };
    assert_eq!(name(&[], &[]), "dashboard");
    assert_eq!(name(&[FULL], &headers), "full-token@dashboard");
    let proxy = [
        FULL,
        ("DASHBOARD_TRUSTED_PROXIES", "127.0.0.1"),
        ("DASHBOARD_USER_HEADER", "X-Forwarded-User"),
    ];
    assert_eq!(name(&proxy, &headers), "kim@dashboard");
}
