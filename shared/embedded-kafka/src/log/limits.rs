//! The topic configurations that limit a log.

/// What a topic's configuration says about its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// `max.message.bytes`: the largest record batch accepted.
    pub(crate) batch_bytes_max: usize,
    /// `retention.bytes`: the oldest batches go when a partition holds more; `None` keeps all.
    pub(crate) retention_bytes: Option<usize>,
    /// Whether `cleanup.policy` has `compact`, which makes keys mandatory. Logs are not compacted.
    pub(crate) compacted: bool,
}
