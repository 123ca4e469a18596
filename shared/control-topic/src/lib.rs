//! Pause and resume of services through a compacted topic.
//!
//! The last record of a key holds; a record without a value deletes it. Keys are texts, values JSON objects:
//!
//! | partition | key | value | meaning |
//! |---|---|---|---|
//! | 0, commands | `generator`, `processor` | `{"state":"paused","id":"9c0a…","at":"2026-11-21T15:00:00.000Z","by":"kim@night"}` | the desired state of all services of the role; without a record they run |
//! | 1, reports | `generator/<instance>`, `processor/<instance>` | `{"state":"running","command":"9c0a…","since":"…","member_id":"…"}` | the state of one instance, and the command that it follows; written again every few seconds while the instance is alive |
//!
//! A [`Participant`] reads only commands, so the amount that it reads does not grow with the number of participants. A
//! [`Follower`] reads both partitions, to show the instances or to wait for them.
//!
//! A command takes effect in every instance that is alive, and a follower can tell when:
//!
//! ```text
//!  instance:  write a report ─► acknowledged ─► read commands to their end ─► begin
//!  operator:  write a command ─► acknowledged ─► read reports to their end ─► wait for those that do not name the command
//! ```
//!
//! Either the instance reads the command before it begins, or the operator reads a report that does not name it.
//!
//! An operator's topic with one partition is left as it is: it holds commands and reports together. Everything works as
//! with two partitions, but every participant reads the reports of all others, and logs a warning about that.
//!
//! Unknown keys are skipped, and so are reports that are no such object, or have a `version` other than 1: a later version
//! may write them to be left alone. A command that cannot be read for one of these reasons counts as none, and the role
//! runs. Compaction deletes the command before it, so no instance may follow that one. A command without an id, which an
//! operator wrote by hand, is named by its offset.
//!
//! Reading order: [`record`] is one record, [`view`] the state of the topic. Both do no IO. [`Follower`] keeps a view up to
//! date, [`command()`] writes a command, and [`Participant`] is a service's part: it follows commands and reports.
//!
//! The broker sets the timestamps (`message.timestamp.type=LogAppendTime`), so one clock tells how long an instance has not
//! reported.
//!
//! # Invariants
//!
//! - A command is reported as followed only when every live instance has followed it, however many there are.
//! - The records that a participant reads do not grow with the number of participants.
//! - An instance begins no work before it has read the control topic.

pub mod record;
pub mod view;

mod announcement;
mod command;
mod follower;
mod participant;
mod topic;
mod writing;

pub use command::{CommandError, command, ends, forget};
pub use follower::Follower;
pub use participant::{Instruction, Participant};
pub use topic::{SILENCE_MAX, new_topic};
