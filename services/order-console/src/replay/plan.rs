//! What a replay is to send, counted.

use std::collections::BTreeMap;

use super::choice::Reason;
use crate::dlq::letter::Letter;
use crate::dlq::walk::Skipped;

/// The most causes that are counted apart.
const CAUSES_MAX: usize = 1_000;

/// The letters that are to be sent, and those that are not, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) chosen: u64,
    pub(crate) by_cause: BTreeMap<(String, String), u64>,
    pub(crate) by_partition: BTreeMap<i32, u64>,
    pub(crate) left: BTreeMap<Reason, u64>,
    pub(crate) skipped: Skipped,
}

impl Plan {
    /// Counts a letter that is to be sent to that partition.
    pub(crate) fn add(&mut self, letter: &Letter<'_>, partition: i32) {
        self.chosen += 1;
        let topic = letter.cause.topic.clone().unwrap_or_else(|| "-".to_owned());
        let mut cause = (letter.cause.type_or_label().to_owned(), topic);
        if self.by_cause.len() >= CAUSES_MAX && !self.by_cause.contains_key(&cause) {
            cause = ("other causes".to_owned(), "-".to_owned());
        }
        *self.by_cause.entry(cause).or_default() += 1;
        *self.by_partition.entry(partition).or_default() += 1;
    }
}
