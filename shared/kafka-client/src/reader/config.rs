//! How a reader fetches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ClientError;

/// Observer of fetches: gets the duration of each, with the broker's wait, and its error if it failed.
#[derive(Clone)]
pub struct OnFetch(pub(super) Arc<Observer>);

type Observer = dyn Fn(Duration, Option<&ClientError>) + Send + Sync;

impl OnFetch {
    /// Calls `observe` after every fetch. It must not block.
    pub fn new(observe: impl Fn(Duration, Option<&ClientError>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl fmt::Debug for OnFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFetch").finish_non_exhaustive()
    }
}

/// How much is fetched at once, and how long a broker may wait for new records.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// Most bytes of one partition in one response, unless its first batch alone is larger.
    pub partition_bytes_max: i32,
    /// Most bytes of one response, unless the first batch alone is larger.
    pub response_bytes_max: i32,
    /// How long the broker waits for new records before it answers without any.
    pub wait_max: Duration,
    /// The rack of this process: the broker may name a replica there to read from (KIP-392).
    pub rack: Option<String>,
    /// Observer of fetches.
    pub on_fetch: Option<OnFetch>,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            partition_bytes_max: 1024 * 1024,
            response_bytes_max: 4 * 1024 * 1024,
            wait_max: Duration::from_millis(500),
            rack: None,
            on_fetch: None,
        }
    }
}
