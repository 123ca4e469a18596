//! HTTP requests to the registry: URLs, TLS, deadlines, attempts, and the responses that count as an outage.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use order_avro::SCHEMA_BYTES_MAX;
use reqwest::{Client, Method, Response, StatusCode, Url, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Outage, RegistryConfig, RegistryError};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// The largest response in bytes: JSON's escapes make a schema's text longer.
const ANSWER_BYTES_MAX: usize = 2 * SCHEMA_BYTES_MAX;

/// The longest error message in characters.
const MESSAGE_CHARS_MAX: usize = 1000;

/// One call, for any of the URLs.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// The path below the base URL; segments are percent-encoded when sent.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Option<&'a str>,
    /// The schema in the body, if any.
    pub(crate) schema: Option<&'a str>,
}

/// An error response of the registry.
pub(crate) struct Rejection {
    pub(crate) url: String,
    pub(crate) status: u16,
    /// The registry's error code, if the response has one.
    pub(crate) error_code: Option<u32>,
    pub(crate) message: String,
}

pub(crate) struct Transport {
    client: Client,
    bases: Vec<Base>,
    /// The index of the URL that answered last.
    preferred: AtomicUsize,
    /// The number of requests by HTTP status; `None` is no response.
    requests: Mutex<BTreeMap<Option<u16>, u64>>,
    config: RegistryConfig,
}

/// One URL of the registry.
struct Base {
    /// Without a slash at its end.
    url: Url,
    proxy: Option<String>,
    shown: String,
}

#[derive(Serialize)]
struct SchemaBody<'a> {
    schema: &'a str,
}

#[derive(Deserialize)]
struct ErrorBody {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Transport {
    pub(crate) fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let urls =
            config.url.split(',').map(|url| base(url.trim())).collect::<Result<Vec<_>, _>>()?;
        let unusable = |reason: String| RegistryError::Configuration {
            url: urls.first().map(shown).unwrap_or_default(),
            reason,
        };
        let client = http_client::builder(&urls)
            .map_err(|error| unusable(error.to_string()))?
            .timeout(config.request_timeout)
            .build()
            .map_err(|error| unusable(chain(&error)))?;
        let requests = Mutex::default();
        let bases = urls.into_iter().map(Base::new).collect();
        Ok(Self { client, bases, preferred: AtomicUsize::new(0), requests, config })
    }

    /// Returns the URLs that have a proxy, each with its proxy.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = (String, &str)> {
        self.bases.iter().filter_map(|base| Some((shown(&base.url), base.proxy.as_deref()?)))
    }

    /// Returns the number of requests by HTTP status; `None` is no response.
    pub(crate) fn requests(&self) -> BTreeMap<Option<u16>, u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, status: Option<u16>) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(status).or_default() += 1;
    }

    pub(crate) fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// Makes a call, and repeats it up to `attempts_max` times while the registry is unavailable.
    ///
    /// The outer error is always [`RegistryError::Unavailable`].
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        let mut backoff = self.config.backoff();
        let mut attempts = 1;
        loop {
            match self.call_each(call).await {
                Err(_) if attempts < self.config.attempts_max => {}
                result => return result,
            }
            backoff.wait().await;
            attempts += 1;
        }
    }

    /// Makes a call at one URL after the other, beginning with the last one that answered.
    async fn call_each<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut tried = 1;
        loop {
            let index = (preferred + tried - 1) % self.bases.len();
            let result = self.call_at(&self.bases[index], call).await;
            if result.is_ok() {
                self.preferred.store(index, Ordering::Relaxed);
            }
            if result.is_ok() || (tried == self.bases.len()) {
                return result;
            }
            tried += 1;
        }
    }

    async fn call_at<T: DeserializeOwned>(
        &self,
        base: &Base,
        call: &Call<'_>,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        let unavailable =
            |outage, detail| RegistryError::Unavailable { url: base.shown.clone(), outage, detail };
        let broken = |error: reqwest::Error| {
            let outage = if error.is_timeout() { Outage::Timeout } else { Outage::Network };
            unavailable(outage, chain(&error.without_url()))
        };
        let mut url = base.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(call.path);
        }
        url.set_query(call.query);
        let mut request =
            self.client.request(call.method.clone(), url).header(header::ACCEPT, ACCEPT);
        if let Some(schema) = call.schema {
            // The header comes first: `json` sets its own only if there is none.
            request =
                request.header(header::CONTENT_TYPE, CONTENT_TYPE).json(&SchemaBody { schema });
        }
        let answered = request.send().await;
        self.count(answered.as_ref().ok().map(|response| response.status().as_u16()));
        let response = answered.map_err(broken)?;
        let status = response.status();
        if let Some(target) = http_client::redirect_target(&response) {
            let detail = format!(
                "to {target}: only 307 and 308 to the same scheme, host and port are followed"
            );
            return Err(unavailable(Outage::Redirect(status.as_u16()), detail));
        }
        let Some(body) = read(response).await.map_err(broken)? else {
            let rejection = Rejection::too_long(base, status);
            return match rejection.outage() {
                Some(outage) => Err(unavailable(outage, rejection.message)),
                None => Ok(Err(rejection)),
            };
        };
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map(Ok)
                .map_err(|error| unavailable(Outage::Garbled, error.to_string()));
        }
        let rejection = Rejection::new(base.shown.clone(), status, &body);
        match rejection.outage() {
            Some(outage) => Err(unavailable(outage, rejection.message)),
            None => Ok(Err(rejection)),
        }
    }
}

impl Rejection {
    fn new(url: String, status: StatusCode, body: &[u8]) -> Self {
        let (error_code, message) = match serde_json::from_slice(body) {
            Ok(ErrorBody { error_code, message }) => (Some(error_code), message),
            Err(_) => (None, String::from_utf8_lossy(body).trim().to_owned()),
        };
        let message = if message.is_empty() { "no message".to_owned() } else { message };
        Self { url, status: status.as_u16(), error_code, message: cut(&message) }
    }

    fn too_long(base: &Base, status: StatusCode) -> Self {
        let message = format!("the registry's answer has more than {ANSWER_BYTES_MAX} bytes");
        Self { url: base.shown.clone(), status: status.as_u16(), error_code: None, message }
    }

    /// Returns whether it is a successful response beyond the limit.
    pub(crate) fn is_too_long(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the outage that the status means, if any.
    fn outage(&self) -> Option<Outage> {
        match self.status {
            401 | 403 | 407 => Some(Outage::Denied(self.status)),
            408 | 425 | 429 | 500.. => Some(Outage::Status(self.status)),
            _ => None,
        }
    }

    /// Returns whether the registry itself denies the schema or subject.
    ///
    /// The 404 of a proxy, or of a wrong path in the URL, has no error code of a registry.
    pub(crate) fn is_not_found(&self) -> bool {
        (self.status == 404) && self.error_code.is_some_and(|code| code / 100 == 404)
    }

    /// Converts a response that no registry has for this call into an outage.
    pub(crate) fn into_unavailable(self) -> RegistryError {
        let outage = Outage::Status(self.status);
        RegistryError::Unavailable { url: self.url, outage, detail: self.message }
    }

    pub(crate) fn into_refused(self) -> RegistryError {
        let error_code = self.error_code.unwrap_or(self.status.into());
        RegistryError::Refused { status: self.status, error_code, message: self.message }
    }
}

impl Base {
    fn new(url: Url) -> Self {
        let proxy = http_client::proxy(&url);
        let through = proxy.as_ref().map(|proxy| format!(" (through the proxy {proxy})"));
        let shown = shown(&url) + &through.unwrap_or_default();
        Self { url, proxy, shown }
    }
}

/// Reads the body of a response; `None` beyond the limit.
async fn read(response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > ANSWER_BYTES_MAX) {
        return Ok(None);
    }
    let body = http_client::read(response, ANSWER_BYTES_MAX + 1).await?;
    Ok((body.len() <= ANSWER_BYTES_MAX).then_some(body))
}

fn base(text: &str) -> Result<Url, RegistryError> {
    let unusable =
        |url, reason: &str| RegistryError::Configuration { url, reason: reason.to_owned() };
    // An unparsed text may show its credentials.
    let mut url = Url::parse(text)
        .map_err(|error| unusable(without_credentials(text), &error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(shown(&url), "it has to begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unusable(shown(&url), "it must not have a query or a fragment"));
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
    }
    Ok(url)
}

/// Returns the URL without its credentials.
fn shown(url: &Url) -> String {
    without_credentials(url.as_str())
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => url.to_owned(),
    }
}

/// Returns the text of an error and its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_path_with_or_without_a_slash_at_the_end() {
        for (text, expected) in [
            ("http://localhost:8081", "http://localhost:8081/subjects/a%2Fb%20%25%C3%BC/versions"),
            ("http://localhost:8081/", "http://localhost:8081/subjects/a%2Fb%20%25%C3%BC/versions"),
            (
                "https://h/apis/ccompat/v7",
                "https://h/apis/ccompat/v7/subjects/a%2Fb%20%25%C3%BC/versions",
            ),
            (
                "https://h/apis/ccompat/v7/",
                "https://h/apis/ccompat/v7/subjects/a%2Fb%20%25%C3%BC/versions",
            ),
        ] {
            let mut url = base(text).expect("a URL");
            url.path_segments_mut().expect("segments").extend(["subjects", "a/b %ü", "versions"]);
            assert_eq!(url.as_str(), expected, "{text}");
        }
    }

    #[test]
    fn unusable_urls_are_refused_without_showing_their_credentials() {
        for text in [
            "",
            "localhost:8081",
            "ftp://u:secret@h",
            "http://u:secret@h:port",
            "http://u:secret@h/?a=1",
        ] {
            let error = base(text).expect_err("no usable URL");
            assert!(matches!(error, RegistryError::Configuration { .. }), "{text}: {error}");
            assert!(!error.to_string().contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_url_without_tls_needs_no_certificates() {
        assert!(Transport::new(RegistryConfig::new("http://a, http://b/path/")).is_ok());
    }
}
