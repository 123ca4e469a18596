//! What an operator asks a replay for.

use std::time::Duration;

use super::lock::Others;
use crate::dlq::filter::Filter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the group's own replay topic.
    ReplayTopic,
    /// To the orders' topic, where every group reads them.
    Source,
}

/// Whether letters are sent or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Send,
    DryRun,
}

/// A replay, as an operator asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) filter: Filter,
    /// How many letters are sent at most.
    pub(crate) limit: u64,
    /// Letters that failed after as many replays are left alone.
    pub(crate) replays_max: u32,
    pub(crate) destination: Destination,
    /// Names of headers that are not sent.
    pub(crate) dropped: Vec<String>,
    pub(crate) interval: Option<Duration>,
    pub(crate) mode: Mode,
    pub(crate) others: Others,
    pub(crate) by: String,
}
