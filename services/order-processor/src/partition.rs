//! One partition at work: takes records in and hands out checkpoints. A record that waits delays only later ones of its key.
//!
//! A worker owns its partition's state. Everything that happens to the partition happens in one [`step`](steps), one event
//! at a time: a fetch arrives, an attempt or a dead letter finishes, a retry comes due, the session asks for something.
//! After each event the worker continues reading at its [`cursor`](cursor::Cursor) until a record has to wait.
//!
//! ```text
//!  fetched ─► cursor ─► dispatch ─┬─► done in place ────────────────────────────► state ─► checkpoint ─► session
//!                                 ├─► attempt pending ─► in flight ──┬─► done ──────▲
//!                                 ├─► no order ─► doomed ─► letter in flight ─► written
//!                                 ├─► waits for its schema           └─► transient ─► waiting ─► attempt
//!                                 └─► queued behind its key
//!  an attempt that failed for good is doomed too
//! ```
//!
//! The path of one record:
//!
//! 1. [`steps`] receives its fetch, and [`cursor`] opens its batch.
//! 2. [`dispatch`] asks the state whether it is new, and [`decoding`] reads its order.
//! 3. [`attempt`] calls the handler; most orders finish in that call, and their records are never copied.
//! 4. Any other record becomes one of the [`incomplete`] ones, and [`outcome`] decides what follows each attempt.
//! 5. The state counts it as an order or, after [`giving_up`], as a dead letter; [`reporting`] answers with the checkpoint.
//!
//! An attempt needs a permit of the limiter, which bounds the attempts of a process and withholds permits while the
//! handler's dependency is down. Many dead letters with no order processed between them pause the partition until an
//! operator releases it.
//!
//! | question | module |
//! |---|---|
//! | What does a worker have, and what do all workers share? | [`worker`] |
//! | What do session and worker tell one another? | [`messages`] |
//! | What is the next event? | [`steps`] |
//! | Which record is next, and what does it wait for? | [`cursor`], [`intake`] |
//! | What becomes of a record that was read? | [`dispatch`], [`unreadable_range`] |
//! | Which order is in its value, and which schema does it need? | [`decoding`], [`schemas`] |
//! | How is the handler called, and when may it be? | [`attempt`], [`permits`] |
//! | Which records are not complete, and what is in flight for them? | [`pending`], [`incomplete`] |
//! | What follows an attempt? | [`outcome`] |
//! | When is a dead letter written, and when do dead letters pause the partition? | [`giving_up`], [`dead_letters`] |
//! | What do others see? | [`reporting`], [`timing`], [`spans`] |

mod worker;

mod messages;

mod steps;

mod cursor;
mod intake;

mod dispatch;
mod unreadable_range;

mod decoding;
mod schemas;

mod attempt;
mod permits;

mod incomplete;
mod pending;

mod outcome;

mod dead_letters;
mod giving_up;

mod reporting;
mod spans;
mod timing;

#[cfg(test)]
mod tests;

pub(crate) use self::messages::{
    Assignment, Drain, Notice, Published, ReadError, Request, Snapshot,
};
pub(crate) use self::steps::run;
pub(crate) use self::worker::Shared;
