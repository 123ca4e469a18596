//! What the project's HTTP clients share: TLS by rustls with ring, answers that are read only so far, and how redirects and
//! proxies are dealt with.
//!
//! A request goes to the scheme, host and port that it was made for, and nowhere else: a redirect is followed only there, and
//! only where the request stays what it was. The proxies that the environment names are used, and told about.
//!
//! # Invariants
//!
//! - No request, credentials or body follow a redirect to another scheme, host or port, or by another method.

use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, ClientBuilder, Response, Url, header::LOCATION, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// How many redirects of one request are followed.
const REDIRECTS_MAX: usize = 5;

/// Returns a builder of a client for `urls`, which trusts what the system trusts.
///
/// The client follows the redirects 307 and 308 to the same scheme, host and port. Every other redirect is an answer; see
/// [`redirect_target`]. The system's certificates are only looked for when one of the URLs is encrypted: a container may have
/// none.
///
/// # Errors
/// An URL is encrypted and the system has no certificates to trust.
pub fn builder(urls: &[Url]) -> Result<ClientBuilder, rustls::Error> {
    let encrypted = urls.iter().any(|url| url.scheme() == "https");
    let tls = if encrypted { platform_tls()? } else { unused_tls()? };
    let redirects = redirect::Policy::custom(follow_within_origin);
    Ok(Client::builder().tls_backend_preconfigured(tls).redirect(redirects).referer(false))
}

/// Follows a redirect that keeps the request's method, body and destination.
fn follow_within_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
    let first = attempt.previous().first();
    let keeps_origin = first.is_some_and(|first| first.origin() == attempt.url().origin());
    if keeps_method && keeps_origin && (attempt.previous().len() <= REDIRECTS_MAX) {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// Returns where an answer redirects to that was not followed, without user, password, query and fragment: they may be
/// secrets.
pub fn redirect_target(response: &Response) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let mut target = response.url().join(location).ok()?;
    // A URL that cannot have a password has none.
    target.set_username("").and_then(|()| target.set_password(None)).unwrap_or_default();
    target.set_query(None);
    target.set_fragment(None);
    Some(target)
}

/// Returns the proxy through which a URL is reached, without user and password, if `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
/// and `NO_PROXY` name one.
pub fn proxy(url: &Url) -> Option<String> {
    proxy_by(&Matcher::from_system(), url)
}

fn proxy_by(environment: &Matcher, url: &Url) -> Option<String> {
    let intercept = environment.intercept(&url.as_str().parse().ok()?)?;
    let (scheme, authority) = (intercept.uri().scheme_str()?, intercept.uri().authority()?);
    let address = authority.as_str().rsplit('@').next()?;
    Some(format!("{scheme}://{address}"))
}

/// Reads the body of an answer, or its first `bytes_max` bytes.
///
/// # Errors
/// The connection broke before that.
///
/// # Cancel safety
/// What was read so far is lost, and so is the connection.
pub async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if room < chunk.len() {
            break;
        }
    }
    Ok(body)
}

/// Returns a TLS configuration that trusts what the system trusts.
fn platform_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth())
}

/// Returns a TLS configuration without trusted certificates, for URLs without TLS.
fn unused_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_tls_needs_no_certificates() {
        let url = Url::parse("http://a/b").unwrap();

        assert!(builder(&[url]).is_ok());
    }

    #[test]
    fn the_proxy_of_a_url_is_that_of_its_scheme_without_secrets() {
        let environment = Matcher::builder()
            .http("http://kim:secret@proxy:3128")
            .https("proxy.example")
            .no("localhost,.internal")
            .build();
        for (url, expected) in [
            ("http://registry:8081/x", Some("http://proxy:3128")),
            ("http://user:pw@registry:8081", Some("http://proxy:3128")),
            ("https://registry", Some("http://proxy.example")),
            ("http://localhost:8081", None),
            ("https://registry.internal", None),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(proxy_by(&environment, &url).as_deref(), expected, "{url}");
        }
        assert_eq!(proxy_by(&Matcher::builder().build(), &Url::parse("http://a").unwrap()), None);
    }
}
