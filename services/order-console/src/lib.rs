//! The operators' console of a group of order-processors.
//!
//! Reading order: [`cli`] has one module for each command, and only it prints. [`dashboard`] and `top` show a `view` of the
//! whole group. `stats` are the group's numbers, from a `group_snapshot`. `control` is the state of generators and
//! processors. `dlq` answers queries about dead letters, and `replay` sends them again.
//!
//! # Invariants
//!
//! - A dead letter is replayed once: through kill -9, lost acknowledgements, a broken lock, a process that slept.
//! - A replay's request begins only while its heartbeat stays valid until the request's deadline.
//! - Letters whose request has no answer are sent again only after 15 s, when they are not in the topic.
//! - Only the live run with the lowest claim replays. An ended run stays ended.
//! - A replay to the orders' own topic is known after that topic forgot it.
//! - A replay has the key, value and headers of the record that failed, also after a second failure.
//! - An action on dead letters from the page touches no more letters than its dry run counted.
//! - Memory and output per dead letter or decision do not grow with its texts.
//! - No control sequence reaches a terminal from a topic.
//! - The dashboard answers as its `OpenAPI` file says, with the numbers of `stats`.
//! - A group that cannot be read is shown as such. A value that was never read is unknown, not zero.
//! - Each token allows what it is for, from the dashboard's own page only, and every action has its author.
//! - A session ends, also for its stream. Wrong tokens are throttled.
//! - `top` shows the numbers of `stats`, and sends a command only after a yes.
//! - However `top` ends, the terminal is as it was, and log lines come after.
//! - The outcome of an order is decided by its checkpoint, its letter and its replay.

pub mod cli;
pub mod dashboard;
pub mod settings;

mod control;
mod dlq;
mod group_snapshot;
mod operator;
mod replay;
mod stats;
mod text;
mod time;
mod top;
mod view;
