//! Stop and start: which services are to run, and which do, in a compacted topic.
//!
//! The last record of a key is what holds; a record without a value takes it back. Keys are texts, values JSON objects:
//!
//! | partition | key | value | says |
//! |---|---|---|---|
//! | 0, commands | `generator`, `processor` | `{"state":"paused","id":"9c0a…","at":"2026-11-21T15:00:00.000Z","by":"kim@night"}` | what all of the role are to do; without a record they run |
//! | 1, reports | `generator/<instance>`, `processor/<instance>` | `{"state":"running","command":"9c0a…","since":"…","member_id":"…"}` | what one of them does, and the command that it follows; again every few seconds while it lives |
//!
//! A [`Participant`] reads commands only, so what it reads does not grow with the number of participants. Whoever shows or
//! awaits what they do reads both partitions with a [`Follower`].
//!
//! A command takes effect in every instance that lives, and a follower can tell when:
//!
//! ```text
//!  instance:  write a report ─► acknowledged ─► read commands to their end ─► begin
//!  operator:  write a command ─► acknowledged ─► read reports to their end ─► wait for those that do not name the command
//! ```
//!
//! Either the instance reads the command before it begins, or the operator reads a report that does not name it.
//!
//! A topic with one partition, of an operator's making, is left as it is: it holds commands and reports together. All works
//! as it does with two, but every participant reads what all others report, and says so in a warning.
//!
//! What this version does not know is skipped: other keys, and reports that are no such object, or have a `version` other
//! than 1, which a later one may write to be left alone. A command that cannot be read for one of these reasons counts as
//! none, and the role runs: compaction leaves nothing of the command before it, so no instance goes by that one. A command
//! without an id, which an operator wrote by hand, is named by its offset.
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

pub use command::{CommandError, command, ends, forget};
pub use follower::Follower;
pub use participant::{Instruction, Participant};

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::cluster::TopicMetadata;
use kafka_client::topics::NewTopic;

/// The partition of commands, which everybody reads.
const COMMANDS: i32 = 0;
/// The partition of reports; a topic that has none has them beside the commands.
const REPORTS: i32 = 1;
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
    NewTopic { name: name.into(), partitions: REPORTS + 1, replication_factor, configs }
}

/// Returns the partition that holds the reports.
fn reports(topic: &TopicMetadata) -> i32 {
    if topic.leaders.contains_key(&REPORTS) { REPORTS } else { COMMANDS }
}

/// Returns the partitions that hold commands or reports.
fn partitions(topic: &TopicMetadata) -> impl Iterator<Item = i32> + use<> {
    COMMANDS..=reports(topic)
}
