//! What the project's HTTP clients share: TLS by rustls with ring, and answers that are read only so far.

use std::sync::Arc;

use reqwest::{Client, ClientBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Returns a builder of a client for `urls`, which trusts what the system trusts.
///
/// The system's certificates are only looked for when one of the URLs is encrypted: a container may have none.
///
/// # Errors
/// An URL is encrypted and the system has no certificates to trust.
pub fn builder(urls: &[Url]) -> Result<ClientBuilder, rustls::Error> {
    let encrypted = urls.iter().any(|url| url.scheme() == "https");
    let tls = if encrypted { platform_tls()? } else { unused_tls()? };
    Ok(Client::builder().tls_backend_preconfigured(tls))
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

/// Returns a TLS configuration that trusts nobody, for URLs without TLS.
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
}
