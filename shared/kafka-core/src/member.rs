//! Membership of one consumer in one consumer group: the classic rebalance protocol as a state machine without IO.
//!
//! The caller (`kafka-client`) takes the next request from [`Member::poll_request`] and passes every response to the
//! matching `on_…` method. It sleeps until [`Member::poll_timeout`] and delivers the events of [`Member::poll_event`]
//! to the application. Time comes in as an argument.
//!
//! ```text
//!                 ┌────────────── RebalanceInProgress, coordinator moved ───────────────┐
//!                 ▼                                                                     │
//!  Unjoined ─► Joining ─► (leader: Assigning ─►) ReadyToSync ─► Syncing ─► Stable ──────┤
//!     ▲                                                                     │  ▲        │
//!     └───────────── fenced: all partitions are lost ───────────────────────┘  └─ drain ┘
//! ```
//!
//! In the cooperative protocol a member owns its partitions through a rebalance, and processes those that it keeps. In
//! the eager protocol it revokes and drains all of them before it joins again.
//!
//! Protocol: <https://kafka.apache.org/protocol#The_Messages_JoinGroup>, cooperative rebalancing:
//! [KIP-429](https://cwiki.apache.org/confluence/x/vAclBg), member ids:
//! [KIP-394](https://cwiki.apache.org/confluence/x/jGkYBg), static membership:
//! [KIP-345](https://cwiki.apache.org/confluence/x/kRg0BQ).

mod config;
mod event;
mod leading;
mod requests;
mod responses;
mod state;
#[cfg(test)]
mod tests;

pub use self::config::MemberConfig;
pub use self::event::{CommitIdentity, CommitPermission, Event, MemberError};
pub use self::leading::PartitionCounts;
pub use self::requests::Request;
pub use self::state::Member;
