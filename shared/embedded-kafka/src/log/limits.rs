//! The topic configurations that limit a log.

/// The limits from a topic's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// `max.message.bytes`: the largest record batch accepted.
    pub(crate) batch_bytes_max: usize,
    /// `retention.bytes`: a larger partition drops its oldest batches; `None` keeps all.
    pub(crate) retention_bytes: Option<usize>,
    /// Whether `cleanup.policy` has `compact`, which makes keys mandatory. The broker compacts no log.
    pub(crate) compacted: bool,
}
