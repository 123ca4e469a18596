//! Where the dashboard is served, and to whom.

use std::net::{IpAddr, SocketAddr};

use service_runtime::settings::{FromSettings, Secret, Settings};

/// The fewest characters of a token.
const TOKEN_CHARS_MIN: usize = 16;

/// Settings of `order-processor dashboard`.
#[derive(Clone, Debug)]
pub struct DashboardSettings {
    /// Where it listens, as `host:port`; `None` is nowhere.
    pub address: Option<String>,
    /// Whether nobody may change anything there.
    pub read_only: bool,
    /// What a visitor has to know.
    pub token: Option<Secret>,
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
                "Whether the dashboard only shows, and changes nothing.",
            ),
            token: s.secret(
                "DASHBOARD_TOKEN",
                TOKEN_CHARS_MIN,
                "What one has to know to see the dashboard; unset lets everybody in who can connect.",
            ),
        };
        let is_guarded = dashboard.read_only || dashboard.token.is_some();
        s.rule(
            &["DASHBOARD_ADDR"],
            is_guarded || dashboard.address.as_deref().is_none_or(is_loopback),
            "beyond this machine the dashboard needs DASHBOARD_TOKEN or DASHBOARD_READ_ONLY=true",
        );
        dashboard
    }
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
    use super::*;

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
