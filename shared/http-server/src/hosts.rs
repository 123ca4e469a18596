//! The names that a server answers to.
//!
//! A page of another site can have its own name lead to this server (DNS rebinding), and then reads as its own whatever
//! the server answers. The Host header of such a request is that name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// The word that admits any host.
const ANY: &str = "*";

/// The hosts that requests may name: this machine's own, the address that was connected to, and those that were added.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    added: BTreeSet<String>,
}

/// A host that the server does not answer to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownHost {
    /// The host of the request.
    #[error("this server does not answer to the host {0}")]
    Named(String),
    /// The request names none, or several.
    #[error("the request does not name one host")]
    Unnamed,
}

impl Hosts {
    /// Returns the hosts that are admitted by default and `added`: names or addresses without a port, or `*` for any.
    pub fn new(added: impl IntoIterator<Item = String>) -> Self {
        Self { added: added.into_iter().map(|host| bare(&host).to_ascii_lowercase()).collect() }
    }

    /// Checks the host that a request names; ports are not compared.
    ///
    /// # Errors
    /// [`UnknownHost`].
    pub fn check(&self, uri: &Uri, headers: &HeaderMap, local: IpAddr) -> Result<(), UnknownHost> {
        if self.added.contains(ANY) {
            return Ok(());
        }
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(UnknownHost::Unnamed);
        };
        let host = host.to_str().map_err(|_error| UnknownHost::Unnamed)?;
        let named: Authority = host.parse().map_err(|_error| UnknownHost::Unnamed)?;
        // A request may carry a whole URL, which counts before the header.
        for authority in [Some(&named), uri.authority()].into_iter().flatten() {
            if !self.is_admitted(authority.host(), local) {
                return Err(UnknownHost::Named(authority.host().to_owned()));
            }
        }
        Ok(())
    }

    fn is_admitted(&self, host: &str, local: IpAddr) -> bool {
        let host = bare(host);
        let is_own = match host.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address == local.to_canonical()
            }
            Err(_name) => host.eq_ignore_ascii_case("localhost"),
        };
        is_own || self.added.contains(&host.to_ascii_lowercase())
    }
}

/// Returns an IPv6 address without its brackets, and any other host as it is.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "10.0.0.7";

    fn check(hosts: &Hosts, host: &str) -> Result<(), UnknownHost> {
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        hosts.check(&Uri::from_static("/api/stats"), &headers, LOCAL.parse().unwrap())
    }

    #[test]
    fn only_own_names_and_addresses_are_answered() {
        let hosts = Hosts::default();
        for own in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "127.9.9.9",
            "[::1]:8000",
            "10.0.0.7:1",
        ] {
            assert_eq!(check(&hosts, own), Ok(()), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example:8000",
            "localhost.evil.example",
            "10.0.0.8:8000",
            "[2001:db8::1]:8000",
        ] {
            let named = check(&hosts, foreign).unwrap_err().to_string();
            let host = foreign.parse::<Authority>().unwrap();
            assert_eq!(named, format!("this server does not answer to the host {}", host.host()));
        }
        for none in ["", "a b", "user@localhost/path"] {
            assert_eq!(check(&hosts, none), Err(UnknownHost::Unnamed), "{none:?}");
        }
    }

    #[test]
    fn hosts_that_were_added_are_answered_too() {
        let hosts = Hosts::new(["Orders.example".to_owned(), "[2001:db8::1]".to_owned()]);
        assert_eq!(check(&hosts, "orders.EXAMPLE:443"), Ok(()));
        assert_eq!(check(&hosts, "[2001:db8::1]:8000"), Ok(()));
        assert!(check(&hosts, "more.orders.example").is_err());
        assert_eq!(check(&Hosts::new(["*".to_owned()]), "evil.example"), Ok(()));
    }

    #[test]
    fn a_request_names_one_host_wherever_it_names_it() {
        let check = |uri: &'static str, hosts: &[&'static str]| {
            let named = hosts.iter().map(|host| (HOST, host.parse().unwrap()));
            let headers: HeaderMap = named.collect();
            Hosts::default().check(&Uri::from_static(uri), &headers, LOCAL.parse().unwrap())
        };
        assert_eq!(check("/", &["localhost"]), Ok(()));
        assert_eq!(check("/", &[]), Err(UnknownHost::Unnamed));
        let mut both = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        both.append(HOST, "localhost".parse().unwrap());
        let found = Hosts::default().check(&Uri::from_static("/"), &both, LOCAL.parse().unwrap());
        assert_eq!(found, Err(UnknownHost::Unnamed));
        assert!(check("http://evil.example/", &["localhost"]).is_err());
    }
}
