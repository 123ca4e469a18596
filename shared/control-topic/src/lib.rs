//! Stop and start: which services are to run, and which do, in a compacted topic of one partition.
//!
//! The last record of a key is what holds; a record without a value takes it back. Keys are texts, values JSON objects:
//!
//! | key | value | says |
//! |---|---|---|
//! | `generator`, `processor` | `{"state":"paused","at":"2026-11-21T15:00:00.000Z","by":"kim@night"}` | what all of the role are to do; without a record they run |
//! | `generator/<instance>`, `processor/<instance>` | `{"state":"running","since":"…","member_id":"…"}` | what one of them does, again every few seconds while it lives |
//!
//! What this version does not know is skipped: other keys, and what instances say that is no such object, or has a `version`
//! other than 1, which a later one may write to be left alone. A word about a role that cannot be read for one of these
//! reasons counts as none, and the role runs: compaction leaves nothing of the word before it, so nobody goes by that.
//!
//! Reading order: [`record`] is one record, [`view`] what all of them come to. Both do no IO. [`Follower`] keeps a view
//! up to date, [`command()`] writes what is wanted, and [`Participant`] is a service's part in it: it learns what it is to
//! do, and says what it does.
//!
//! The broker stamps the records (`message.timestamp.type=LogAppendTime`), so that whether an instance is silent is told
//! by one clock.

pub mod record;
pub mod view;

mod command;
mod follower;
mod participant;
mod writing;

pub use command::{CommandError, Commanded, command};
pub use follower::{Follower, Missing};
pub use participant::{Instruction, Participant};

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::topics::NewTopic;

/// The topic's only partition.
const PARTITION: i32 = 0;
/// How often an instance says that it lives.
pub const SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// After so long without a sign an instance counts as gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Returns the control topic as it is created where it is missing.
///
/// Segments are small and short-lived, because only those that are closed are compacted, and a start reads everything.
pub fn new_topic(name: &str, replication_factor: i16) -> NewTopic {
    let configs = [
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("segment.ms", "600000"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "3600000"),
    ];
    let configs: BTreeMap<String, String> =
        configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    NewTopic { name: name.into(), partitions: 1, replication_factor, configs }
}
