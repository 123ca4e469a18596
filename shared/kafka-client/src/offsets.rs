//! Offsets: those that a group has committed, the ends of a partition's log, and whether positions are part of it.
//!
//! Commits have a connection of their own to the group's coordinator. A broker processes one request per connection at
//! a time: a commit behind the member's own JoinGroup would be processed after the rebalance, with a stale generation.
//!
//! OffsetCommit: <https://kafka.apache.org/protocol#The_Messages_OffsetCommit>, OffsetFetch:
//! <https://kafka.apache.org/protocol#The_Messages_OffsetFetch>, ListOffsets:
//! <https://kafka.apache.org/protocol#The_Messages_ListOffsets>.

mod committed;
pub(crate) mod comparison;
mod found;
mod leaders;
mod log;

pub use self::committed::{CommittedOffset, GroupOffsets, OffsetCommit, is_committed_in};
pub use self::comparison::{Comparison, compare};
pub use self::found::{Found, all_of};
pub use self::log::{OffsetAt, list_offset, list_offsets};
