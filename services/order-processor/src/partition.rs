//! One partition at work: takes records in, hands out checkpoints, and never lets one record delay another.
//!
//! A worker owns its partition's state. Everything that happens to the partition happens in one [`step`](steps), one event
//! at a time: a fetch arrives, an attempt or a dead letter finishes, a retry comes due, the session asks for something.
//! After each event the worker takes records in, from the place of its [`cursor`](cursor::Cursor) on, until one has to
//! wait.
//!
//! ```text
//!  fetched ─► cursor ─► dispatch ─┬─► done in place ────────────────────────────► state ─► checkpoint ─► session
//!                                 ├─► attempt pending ─► in flight ──┬─► done ──────▲
//!                                 ├─► poison ─► doomed ─► letter in flight ─► written┤
//!                                 ├─► waits for its schema           └─► transient ─► waiting ─► attempt
//!                                 └─► queued behind its key
//! ```
//!
//! An attempt needs a permit of the limiter, which bounds the attempts of a process and withholds permits while the
//! handler's dependency is down. Many dead letters with no order processed between them pause the partition until an
//! operator releases it.
//!
//! The worker's data are in five parts: [`intake`] (fetches, cursor, schemas), [`attempts`] (incomplete records, permits,
//! work in flight), [`dead_letters`], [`session_link`] (requests and answers) and [`reporting`] (log lines, timing,
//! status). The other modules add what the worker does with them.

mod arrival;
mod attempt;
mod attempts;
mod blocking;
mod cursor;
mod dead_letters;
mod decoding;
mod dispatch;
mod dlq_limit;
mod incomplete;
mod intake;
mod letters;
mod lookups;
mod messages;
mod outcome;
mod permits;
mod poison;
mod publishing;
mod reporting;
mod schemas;
mod session_link;
mod shared;
mod spans;
mod steps;
#[cfg(test)]
mod tests;
mod timing;
mod unreadable_range;
mod worker;

pub(crate) use self::messages::{Assignment, Durability, Notice, ReadError, Request, Snapshot};
pub(crate) use self::shared::Shared;
pub(crate) use self::steps::run;
