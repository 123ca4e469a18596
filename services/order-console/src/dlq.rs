//! The dead letters of a group: what they are, what has become of each, and what an operator can do about them.
//!
//! | task | what it does | writes to |
//! |---|---|---|
//! | [`query`], [`causes`] | read the dead-letter topic to the end it has when they start | – |
//! | [`follow`] | follows it | – |
//! | [`dismiss`] | writes down what an operator decided | the actions topic |
//! | [`replay`](crate::replay) | sends letters again | the replay topic (or the orders' own), the lock |
//!
//! Reading order: [`dead_letter::cause`] says why a record is a dead letter, whichever program wrote it; `letter` is such
//! a record, `filter` selects letters, and `letter_state` says what has become of them. `decisions` are what operators
//! decided, read from the topic of [`dead_letter::actions`] by `action_log`. `walk` reads each letter once, over `reading`.
//! `queue` puts these together for the tasks above. Nothing here prints.
//!
//! Memory: of a letter only its identity is kept, some 40 bytes, and as much for each that was replayed or dismissed;
//! besides, a few fetches of 1 MiB.

pub(crate) mod action_log;
pub(crate) mod causes;
pub(crate) mod decisions;
pub(crate) mod decoded;
pub(crate) mod dismiss;
pub(crate) mod filter;
pub(crate) mod follow;
mod identities;
pub(crate) mod letter;
pub(crate) mod letter_state;
pub(crate) mod lock_table;
pub(crate) mod query;
pub(crate) mod queue;
pub(crate) mod reading;
pub(crate) mod topic_log;
pub(crate) mod walk;
