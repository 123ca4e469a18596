//! Access to the dashboard: hosts, sites, tokens, sessions, proxies, streams.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use end_to_end::Scenario;
use end_to_end::service::{PATIENCE, Service, field};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    RETRY_AFTER, SET_COOKIE,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FULL_TOKEN: &str = "the-token-that-changes";
const READ_TOKEN: &str = "the-token-that-only-sees";
/// Streams that one client may have.
const STREAMS_OF_CLIENT: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_another_host_are_refused_with_its_name() -> Result<()> {
    let stack_default = [("DASHBOARD_READ_ONLY", "true"), ("DASHBOARD_ADDR", "0.0.0.0:0")];
    for settings in [&[][..], &stack_default, &[("DASHBOARD_TOKEN", FULL_TOKEN)]] {
        let dashboard = Dashboard::start("dashboard-hosts", settings).await?;
        let refused = dashboard.get("/").header(HOST, "evil.example:8000").send().await?;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{settings:?}");
        let error_text = error(refused).await?;
        ensure!(
            error_text.contains("evil.example") && error_text.contains("DASHBOARD_HOSTS"),
            "{error_text}"
        );
        for own in ["localhost:8000", "127.0.0.1", "[::1]:8000"] {
            let answered = dashboard.get("/").header(HOST, own).send().await?;
            assert_eq!(answered.status(), StatusCode::OK, "{own}");
        }
        dashboard.stop().await?;
    }
    let added = [("DASHBOARD_HOSTS", "orders.example, more.example")];
    let dashboard = Dashboard::start("dashboard-hosts", &added).await?;
    let answered = dashboard.get("/api/session").header(HOST, "more.example").send().await?;
    assert_eq!(answered.status(), StatusCode::OK);
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_reads_and_changes_nothing() -> Result<()> {
    let dashboard = Dashboard::start("dashboard-sites", &[]).await?;
    let own = HeaderValue::from_str(&dashboard.url)?;
    let latin = HeaderValue::from_bytes(b"http://caf\xe9.example")?;
    let text = HeaderValue::from_static;
    for (name, value, expected) in [
        (SITE, text("same-origin"), StatusCode::OK),
        (SITE, text("none"), StatusCode::OK),
        (ORIGIN, own, StatusCode::OK),
        (SITE, text("cross-site"), StatusCode::FORBIDDEN),
        (SITE, text("same-site"), StatusCode::FORBIDDEN),
        (ORIGIN, text("http://evil.example"), StatusCode::FORBIDDEN),
        (ORIGIN, text("null"), StatusCode::FORBIDDEN),
        (ORIGIN, latin, StatusCode::FORBIDDEN),
    ] {
        for path in ["/api/session", "/api/stats"] {
            let answer = dashboard.get(path).header(&name, &value).send().await?;
            assert_eq!(answer.status(), expected, "{path} with {name}: {value:?}");
        }
    }
    let page = dashboard.get("/").header(SITE, "cross-site").send().await?;
    assert_eq!(page.status(), StatusCode::OK, "the page may be linked to");
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        let found = page.headers().get(name).with_context(|| format!("find {name}"))?;
        assert_eq!(found, value, "{name}");
    }
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_has_its_rights_and_actions_name_the_operator() -> Result<()> {
    let both = [("DASHBOARD_TOKEN", FULL_TOKEN), ("DASHBOARD_READ_TOKEN", READ_TOKEN)];
    let dashboard = Dashboard::start("dashboard-tokens", &both).await?;
    for (token, is_read_only, changing) in
        [(FULL_TOKEN, false, StatusCode::OK), (READ_TOKEN, true, StatusCode::FORBIDDEN)]
    {
        let bearer = format!("Bearer {token}");
        let cookie = dashboard.signed_in(token).await?;
        for (name, value) in [(AUTHORIZATION, &bearer), (COOKIE, &cookie)] {
            let with = |request: RequestBuilder| request.header(&name, value);
            let session: Value = with(dashboard.get("/api/session")).send().await?.json().await?;
            assert_eq!(session["read_only"], json!(is_read_only), "{token}");
            assert_eq!(session["signed_in"], json!(name == COOKIE));
            let seen = with(dashboard.get("/api/stats")).send().await?;
            assert_eq!(seen.status(), StatusCode::OK, "{token}");
            let command = json!({"target": "processor", "action": "pause"});
            let response = with(dashboard.call(Method::POST, "/api/control").json(&command));
            let response = response.send().await?;
            assert_eq!(response.status(), changing, "{token}");
            if is_read_only {
                let error_text = error(response).await?;
                ensure!(error_text.contains("DASHBOARD_TOKEN"), "{error_text}");
            } else {
                let shown: Value = response.json().await?;
                assert_eq!(shown["processor"]["by"], "full-token@dashboard");
            }
        }
    }
    let line = dashboard.service.line("commanded services").await?;
    assert_eq!(field(&line, "by")?, "full-token@dashboard");
    ensure!(field(&line, "peer")?.as_str().is_some_and(|peer| peer.starts_with("127.")), "{line}");
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_only_its_own_session_and_its_stream() -> Result<()> {
    let dashboard =
        Dashboard::start("dashboard-sessions", &[("DASHBOARD_TOKEN", FULL_TOKEN)]).await?;
    let first = dashboard.signed_in(FULL_TOKEN).await?;
    let second = dashboard.signed_in(FULL_TOKEN).await?;
    ensure!(first != second, "two sessions share the cookie {first}");
    let mut stream = dashboard.get("/api/events").header(COOKIE, &first).send().await?;
    stream.chunk().await?.context("read an event")?;

    let out = dashboard.call(Method::DELETE, "/api/session").header(COOKIE, &first).send().await?;
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    let cleared = text(out.headers(), &SET_COOKIE)?;
    ensure!(cleared.contains("Max-Age=0"), "{cleared}");
    for (cookie, expected) in [(&first, StatusCode::UNAUTHORIZED), (&second, StatusCode::OK)] {
        let answer = dashboard.get("/api/stats").header(COOKIE, cookie).send().await?;
        assert_eq!(answer.status(), expected);
    }
    let ended = timeout(PATIENCE, async { while let Ok(Some(_)) = stream.chunk().await {} }).await;
    ensure!(ended.is_ok(), "the stream goes on");
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_belongs_to_one_dashboard_and_is_secure_only_behind_a_trusted_proxy()
-> Result<()> {
    let token = ("DASHBOARD_TOKEN", FULL_TOKEN);
    let plain = Dashboard::start("dashboard-cookies", &[token]).await?;
    let trusting = [
        token,
        ("DASHBOARD_TRUSTED_PROXIES", "127.0.0.0/8"),
        ("DASHBOARD_USER_HEADER", "X-Forwarded-User"),
    ];
    let proxied = Dashboard::start("dashboard-cookies", &trusting).await?;
    let mut names = Vec::new();
    for (dashboard, is_secure) in [(&plain, false), (&proxied, true)] {
        let request = dashboard.sign_in(FULL_TOKEN).header("x-forwarded-proto", "https");
        let cookie = text(request.send().await?.headers(), &SET_COOKIE)?;
        assert_eq!(cookie.contains("; Secure"), is_secure, "{cookie}");
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Max-Age="] {
            ensure!(cookie.contains(attribute), "{cookie}");
        }
        ensure!(!cookie.contains("Path="), "it is for the paths below its own: {cookie}");
        names.push(cookie.split('=').next().context("read a name")?.to_owned());
    }
    ensure!(names[0] != names[1], "two dashboards of one host share the cookie {}", names[0]);

    for (dashboard, by) in [(&plain, "full-token@dashboard"), (&proxied, "kim@dashboard")] {
        let command = json!({"target": "generator", "action": "pause"});
        let request = dashboard.call(Method::POST, "/api/control").json(&command);
        let request = request.bearer_auth(FULL_TOKEN).header("x-forwarded-user", "kim");
        let shown: Value = request.send().await?.json().await?;
        assert_eq!(shown["generator"]["by"], by);
    }
    plain.stop().await?;
    proxied.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_logged_with_their_peer_and_throttled() -> Result<()> {
    let dashboard =
        Dashboard::start("dashboard-guesses", &[("DASHBOARD_TOKEN", FULL_TOKEN)]).await?;
    let cookie = dashboard.signed_in(FULL_TOKEN).await?;
    let wrong = async |guess: usize| {
        let request = if guess.is_multiple_of(2) {
            dashboard.sign_in(&format!("guess {guess}"))
        } else {
            dashboard.get("/api/stats").bearer_auth(format!("guess {guess}"))
        };
        request.send().await
    };
    let mut guesses = 0;
    let throttled = loop {
        let answer = wrong(guesses).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            break answer;
        }
        guesses += 1;
        ensure!(guesses < 100, "100 guesses were answered");
    };
    ensure!(guesses >= 5, "a person may be wrong more often than {guesses} times");
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    ensure!(throttled.headers().contains_key(RETRY_AFTER), "it does not say for how long");
    let right = dashboard.get("/api/stats").bearer_auth(FULL_TOKEN).send().await?;
    assert_eq!(right.status(), StatusCode::TOO_MANY_REQUESTS, "a guess must look the same");
    let session = dashboard.get("/api/stats").header(COOKIE, &cookie).send().await?;
    assert_eq!(session.status(), StatusCode::OK, "a session is no guess");
    let line = dashboard.service.line("wrong token").await?;
    ensure!(field(&line, "peer")?.as_str().is_some_and(|peer| peer.starts_with("127.")), "{line}");
    ensure!(!line.contains("guess"), "{line}");
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_use_up_all_streams() -> Result<()> {
    let settings = [("DASHBOARD_TOKEN", FULL_TOKEN)];
    let dashboard = Dashboard::start("dashboard-streams", &settings).await?;
    let busy = dashboard.signed_in(FULL_TOKEN).await?;
    let mut streams = Vec::new();
    for _tab in 0..STREAMS_OF_CLIENT {
        let stream = dashboard.get("/api/events").header(COOKIE, &busy).send().await?;
        assert_eq!(stream.status(), StatusCode::OK);
        assert_eq!(text(stream.headers(), &HeaderName::from_static("x-accel-buffering"))?, "no");
        streams.push(stream);
    }
    let one_more = dashboard.get("/api/events").header(COOKIE, &busy).send().await?;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    let other = dashboard.signed_in(FULL_TOKEN).await?;
    let stream = dashboard.get("/api/events").header(COOKIE, &other).send().await?;
    assert_eq!(stream.status(), StatusCode::OK);
    dashboard.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_unread() -> Result<()> {
    let dashboard =
        Dashboard::start("dashboard-bodies", &[("DASHBOARD_TOKEN", FULL_TOKEN)]).await?;
    let long = dashboard.sign_in(&"x".repeat(8 * 1024)).send().await?;
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let request = dashboard.call(Method::POST, "/api/dlq/dismiss");
    let request = request.header(CONTENT_TYPE, "application/json").body("x".repeat(100_000));
    assert_eq!(request.send().await?.status(), StatusCode::UNAUTHORIZED);
    dashboard.stop().await
}

/// A dashboard and a client that keeps no cookies.
struct Dashboard {
    service: Service,
    url: String,
    client: Client,
    _scenario: Scenario,
}

impl Dashboard {
    async fn start(name: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let scenario = Scenario::open(name).await?;
        let command = scenario.console("dashboard")?.args(["dashboard"]);
        let command = command.env("DASHBOARD_ADDR", "127.0.0.1:0");
        let command =
            settings.iter().fold(command, |command, (name, value)| command.env(name, value));
        let service = command.start()?;
        let line = service.line("serving the dashboard").await?;
        let url = field(&line, "url")?.as_str().context("read the URL")?.to_owned();
        let url = url.replace(&Ipv4Addr::UNSPECIFIED.to_string(), &Ipv4Addr::LOCALHOST.to_string());
        let client = http_client::builder(&[])?.build()?;
        Ok(Self { service, url, client, _scenario: scenario })
    }

    async fn stop(mut self) -> Result<()> {
        self.service.terminate()?;
        self.service.expect_exit(0).await
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.call(Method::GET, path)
    }

    fn sign_in(&self, token: &str) -> RequestBuilder {
        self.call(Method::POST, "/api/session").json(&json!({"token": token}))
    }

    /// Signs in and returns the cookie as a browser sends it.
    async fn signed_in(&self, token: &str) -> Result<String> {
        let answer = self.sign_in(token).send().await?;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let cookie = text(answer.headers(), &SET_COOKIE)?;
        Ok(cookie.split(';').next().unwrap_or_default().to_owned())
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<String> {
    let value = headers.get(name).with_context(|| format!("find {name}"))?;
    Ok(value.to_str()?.to_owned())
}

/// Returns what an answer says went wrong.
async fn error(answer: Response) -> Result<String> {
    let body: Value = answer.json().await?;
    Ok(body["error"].as_str().context("read the error")?.to_owned())
}
