//! The origin of a request: the client behind proxies, its encryption, its user, and the page that a browser sends it for.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use http_server::{Connection, client};
use ipnet::IpNet;
use service_runtime::is_printable;

use crate::settings::DashboardSettings;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The most characters of a user's name.
const USER_CHARS_MAX: usize = 64;

/// The trusted proxies, and the header in which they name the user.
#[derive(Clone, Debug)]
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    user_header: Option<HeaderName>,
}

/// The origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
    /// The client behind trusted proxies, or the network of one; it is throttled as a whole.
    pub(crate) client: IpAddr,
    /// Whether a trusted proxy says that the request came to it encrypted.
    pub(crate) is_encrypted: bool,
    /// The user whom a trusted proxy names.
    pub(crate) user: Option<String>,
}

impl Proxies {
    pub(crate) fn of(settings: &DashboardSettings) -> Self {
        let trusted = settings.trusted_proxies.clone();
        Self { trusted, user_header: settings.user_header.clone() }
    }

    pub(crate) fn origin(&self, connection: Connection, headers: &HeaderMap) -> Origin {
        let (peer, address) = (connection.peer, connection.peer.ip().to_canonical());
        if !self.is_trusted(address) {
            return Origin { peer, client: client(address), is_encrypted: false, user: None };
        }
        let user = self.user_header.as_ref().and_then(|name| text(headers, name));
        let is_name = |name: &&str| {
            !name.is_empty()
                && name.chars().count() <= USER_CHARS_MAX
                && name.chars().all(is_printable)
        };
        Origin {
            peer,
            client: client(self.client_behind(address, headers)),
            is_encrypted: last(headers, &FORWARDED_PROTO).is_some_and(|proto| proto == "https"),
            user: user.filter(is_name).map(str::to_owned),
        }
    }

    /// Returns the last address that no trusted proxy has: any client may write those before it.
    fn client_behind(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in value.to_str().unwrap_or_default().rsplit(',') {
                let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
                client = address.to_canonical();
                if !self.is_trusted(client) {
                    return client;
                }
            }
        }
        client
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// Returns whether a request comes from the dashboard's own page, as far as a browser says. Other programs send no such header.
pub(crate) fn is_of_this_page(headers: &HeaderMap) -> bool {
    // Proxies pass this on as it is, and rewrite Host. Browsers leave it out where there is no TLS.
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = text(headers, &HOST).unwrap_or_default();
    authority.is_some_and(|(_scheme, authority)| authority.eq_ignore_ascii_case(host))
}

/// Returns the last item of a header that proxies add to.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    Some(value.rsplit(',').next().unwrap_or(value).trim())
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str, headers: &[(&str, &str)]) -> Origin {
        let proxies = Proxies {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            user_header: Some(HeaderName::from_static("x-forwarded-user")),
        };
        let peer = SocketAddr::new(peer.parse().unwrap(), 50_000);
        let connection = Connection { peer, local: peer };
        let headers: Vec<(HeaderName, _)> = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        proxies.origin(connection, &map)
    }

    #[test]
    fn only_the_headers_of_trusted_proxies_count() {
        let headers = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "kim"),
        ];
        let foreign = origin("192.0.2.9", &headers);
        assert_eq!(
            (foreign.client.to_string(), foreign.is_encrypted, foreign.user),
            ("192.0.2.9".to_owned(), false, None)
        );
        let proxied = origin("::ffff:10.1.1.1", &headers);
        assert_eq!(
            (proxied.client.to_string(), proxied.is_encrypted, proxied.user),
            ("192.0.2.1".to_owned(), true, Some("kim".to_owned()))
        );
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        let client = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            origin("10.0.0.1", &headers).client.to_string()
        };
        assert_eq!(client(&["203.0.113.66, 192.0.2.1, 10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(&["203.0.113.66", "192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(&["203.0.113.66, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&["2001:db8::1"]), "2001:db8::");
    }

    #[test]
    fn a_name_that_cannot_be_one_is_none() {
        let user = |name: &str| origin("10.0.0.1", &[("x-forwarded-user", name)]).user;
        assert_eq!(user("Kim Ng").as_deref(), Some("Kim Ng"));
        assert_eq!(user(""), None);
        assert_eq!(user(&"k".repeat(USER_CHARS_MAX + 1)), None);
    }
}
