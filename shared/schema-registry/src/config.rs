//! The configuration of the client.

use std::time::Duration;

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
    /// How long a call waits before its second attempt; each further wait is twice as long. Default 100 ms.
    ///
    /// An id that the registry does not know is asked for again after such waits, too.
    pub retry_backoff: Duration,
    /// The longest of these waits, also between the rounds of
    /// [`ensure_registered`](crate::SchemaRegistry::ensure_registered), and the time for which an answer that
    /// there is no such schema holds. Default 1 s.
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

    /// Returns how long to wait after so many attempts in a row that found the registry unavailable.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.retry_backoff.saturating_mul(doubled).min(self.retry_backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let config = RegistryConfig::new("http://localhost:8081");
        let waits = [1, 2, 3, 4, 5, u32::MAX].map(|attempts| config.backoff(attempts).as_millis());
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    }
}
