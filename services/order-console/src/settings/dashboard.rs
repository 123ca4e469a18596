//! Settings of the dashboard: its address, tokens and proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderName;
use axum::http::uri::Authority;
use ipnet::IpNet;
use service_runtime::settings::{FromSettings, Secret, Settings};

/// The fewest characters of a token.
const TOKEN_CHARS_MIN: usize = 16;

/// Settings of `order-console dashboard`.
#[derive(Clone, Debug)]
pub struct DashboardSettings {
    /// Where it listens, as `host:port`; `None` is nowhere.
    pub address: Option<String>,
    /// Whether it refuses all changes.
    pub read_only: bool,
    /// The token that allows to read and to change.
    pub token: Option<Secret>,
    /// The token that allows to read.
    pub read_token: Option<Secret>,
    /// Hosts that it answers to besides its own.
    pub hosts: Vec<String>,
    /// The networks of proxies whose `X-Forwarded-*` headers and user header are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which such a proxy names the user.
    pub user_header: Option<HeaderName>,
}

impl FromSettings for DashboardSettings {
    fn read(s: &mut Settings) -> Self {
        let dashboard = Self {
            address: s.listen_address(
                "DASHBOARD_ADDR",
                "127.0.0.1:8000",
                "Where the dashboard is served.",
            ),
            read_only: s.flag(
                "DASHBOARD_READ_ONLY",
                false,
                "Whether the dashboard refuses all changes.",
            ),
            token: s.secret(
                "DASHBOARD_TOKEN",
                TOKEN_CHARS_MIN,
                "Token to read and to change; without any token every client may do both.",
            ),
            read_token: s.secret(
                "DASHBOARD_READ_TOKEN",
                TOKEN_CHARS_MIN,
                "Token to read only; with it alone nothing can be changed.",
            ),
            hosts: read_hosts(s),
            trusted_proxies: read_proxies(s),
            user_header: s.optional(
                "DASHBOARD_USER_HEADER",
                "the name of a header, such as X-Forwarded-User",
                "Header in which a trusted proxy names the user, for the record of what was done.",
            ),
        };
        let is_protected =
            dashboard.read_only || dashboard.token.is_some() || dashboard.read_token.is_some();
        s.rule(
            &["DASHBOARD_ADDR"],
            is_protected || dashboard.address.as_deref().is_none_or(is_loopback),
            "beyond this machine the dashboard needs a token or DASHBOARD_READ_ONLY=true",
        );
        s.rule(
            &["DASHBOARD_TOKEN", "DASHBOARD_READ_TOKEN"],
            dashboard.token.is_none() || dashboard.token != dashboard.read_token,
            "the two tokens must differ",
        );
        s.rule(
            &["DASHBOARD_USER_HEADER", "DASHBOARD_TRUSTED_PROXIES"],
            dashboard.user_header.is_none() || !dashboard.trusted_proxies.is_empty(),
            "a user header is only accepted from trusted proxies",
        );
        dashboard
    }
}

fn read_hosts(s: &mut Settings) -> Vec<String> {
    let hosts = s.optional_parsed(
        "DASHBOARD_HOSTS",
        "names or addresses without a port, separated by commas; * is any",
        "Hosts under which the dashboard answers, besides localhost and the address that was connected to.",
        |text| {
            let hosts: Vec<String> = items(text).map(str::to_owned).collect();
            let is_host = |host: &String| {
                host == "*" || host.parse::<Authority>().is_ok_and(|it| it.host() == host.as_str())
            };
            (!hosts.is_empty() && hosts.iter().all(is_host)).then_some(hosts)
        },
    );
    hosts.unwrap_or_default()
}

fn read_proxies(s: &mut Settings) -> Vec<IpNet> {
    let proxies = s.optional_parsed(
        "DASHBOARD_TRUSTED_PROXIES",
        "addresses or networks such as 10.0.0.0/8, separated by commas",
        "Proxies whose X-Forwarded-For, X-Forwarded-Proto and user header are trusted.",
        |text| {
            let network = |item: &str| {
                item.parse().or_else(|_error| item.parse::<IpAddr>().map(IpNet::from)).ok()
            };
            items(text).map(network).collect::<Option<Vec<IpNet>>>().filter(|all| !all.is_empty())
        },
    );
    proxies.unwrap_or_default()
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Returns whether only programs of this machine can connect to `host:port`.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
    let ip = address.parse::<SocketAddr>().map(|address| address.ip());
    let ip = ip.or_else(|_error| host.parse::<IpAddr>());
    ip.map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use service_runtime::settings::{Environment, load};

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<DashboardSettings, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        load(&environment).map_err(|violations| violations.to_string())
    }

    #[test]
    fn beyond_this_machine_it_is_protected_or_not_there_and_tokens_are_not_printed() {
        let public = ("DASHBOARD_ADDR", "0.0.0.0:8000");
        let open = read(&[public]).unwrap_err();
        assert!(open.contains("needs a token or DASHBOARD_READ_ONLY"), "{open}");
        for guard in [
            ("DASHBOARD_READ_ONLY", "true"),
            ("DASHBOARD_TOKEN", "correct horse battery"),
            ("DASHBOARD_READ_TOKEN", "correct horse battery"),
        ] {
            assert!(read(&[public, guard]).is_ok(), "{guard:?}");
        }
        let short = read(&[("DASHBOARD_TOKEN", "hunter2")]).unwrap_err();
        assert!(short.contains("at least 16") && !short.contains("hunter2"), "{short}");
        let same = ["DASHBOARD_TOKEN", "DASHBOARD_READ_TOKEN"];
        let same = read(&same.map(|name| (name, "correct horse battery"))).unwrap_err();
        assert!(same.contains("must differ") && !same.contains("horse"), "{same}");
    }

    #[test]
    fn hosts_and_proxies_are_lists() {
        let found = read(&[
            ("DASHBOARD_HOSTS", "orders.example, [2001:db8::1],"),
            ("DASHBOARD_TRUSTED_PROXIES", "10.0.0.0/8,2001:db8::7"),
            ("DASHBOARD_USER_HEADER", "X-Forwarded-User"),
        ])
        .unwrap();
        assert_eq!(found.hosts, ["orders.example", "[2001:db8::1]"]);
        let proxies: Vec<String> = found.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["10.0.0.0/8", "2001:db8::7/128"]);
        for wrong in [
            ("DASHBOARD_HOSTS", "orders.example:8000"),
            ("DASHBOARD_HOSTS", "http://orders.example"),
            ("DASHBOARD_TRUSTED_PROXIES", "proxy.example"),
            ("DASHBOARD_USER_HEADER", "X Forwarded User"),
            ("DASHBOARD_USER_HEADER", "X-Forwarded-User"),
        ] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_loopback_addresses_are_of_this_machine_alone() {
        for address in
            ["127.0.0.1:8000", "127.9.9.9:1", "[::1]:8000", "localhost:8000", "LOCALHOST:1"]
        {
            assert!(is_loopback(address), "{address}");
        }
        for address in [
            "0.0.0.0:8000",
            "[::]:8000",
            "10.0.0.1:8000",
            "dashboard:8000",
            "127.0.0.1.example.com:8000",
        ] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
