//! The configuration of the client.

use std::time::Duration;

use pacing::Backoff;

/// The registry's URLs, timeouts and retries.
#[derive(Clone)]
pub struct RegistryConfig {
    /// The registry's base URL, or several of one registry separated by commas, tried in turn.
    ///
    /// Each is `http` or `https`, may carry `user:password@` for basic authentication, and may have a path,
    /// with or without a slash at its end.
    pub url: String,
    /// The timeout of one HTTP request, from connecting to the last byte of the response. Default 5 s.
    pub request_timeout: Duration,
    /// How often a call tries all URLs, at least once. Default 3.
    pub attempts_max: u32,
    /// The wait before the second attempt of a call; each further wait is twice as long. Default 100 ms.
    ///
    /// Lookups of an id that the registry denies have the same waits.
    pub retry_backoff: Duration,
    /// The longest wait, also between the rounds of
    /// [`ensure_registered`](crate::SchemaRegistry::ensure_registered) and of a final denial. Default 1 s.
    pub retry_backoff_max: Duration,
}

impl RegistryConfig {
    /// Returns the default configuration for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            request_timeout: Duration::from_secs(5),
            attempts_max: 3,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }
}
