//! Assignors: how the group's leader divides the partitions of the subscribed topics among the members.
//!
//! A member offers an assignor by its name, and a member of any client may be the leader. So names and semantics are
//! those of Kafka's own assignors. Members may subscribe to different topics. The result depends only on the arguments.
//!
//! `cooperative-sticky` follows
//! [KIP-429](https://cwiki.apache.org/confluence/display/KAFKA/KIP-429%3A+Kafka+Consumer+Incremental+Rebalance+Protocol).

mod balance;
mod cooperative_sticky;
mod range;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::consumer_protocol::{MemberSubscription, TopicPartitions};

/// A way to divide partitions among members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Members keep their partitions where the balance allows it, and process them while the group rebalances. A
    /// partition that moves is assigned to no member for one rebalance: its owner drains, commits and joins again.
    CooperativeSticky,
    /// Members revoke all partitions at each rebalance. Each topic's partitions are assigned in ranges: to static
    /// members in the order of their `group.instance.id`s, then to dynamic ones in the order of their member ids.
    /// Members with equal subscriptions get the same partitions of topics with equal partition counts.
    Range,
}

impl Assignor {
    /// Returns the protocol name under which members offer the assignor in `JoinGroup`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
        }
    }

    /// Returns whether members keep their partitions while they join.
    pub fn is_cooperative(self) -> bool {
        match self {
            Self::CooperativeSticky => true,
            Self::Range => false,
        }
    }

    /// Divides the partitions of the topics that `members` subscribe to.
    ///
    /// `partitions` maps each existing topic to its partition count; other topics are left out. The result has an
    /// entry for every member, by member id.
    pub fn assign(
        self,
        members: &[MemberSubscription],
        partitions: &BTreeMap<String, i32>,
    ) -> BTreeMap<String, TopicPartitions> {
        match self {
            Self::CooperativeSticky => cooperative_sticky::assign(members, partitions),
            Self::Range => range::assign(members, partitions),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No assignor has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an assignor: use cooperative-sticky or range")]
pub struct UnknownAssignor(String);

impl FromStr for Assignor {
    type Err = UnknownAssignor;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::CooperativeSticky, Self::Range]
            .into_iter()
            .find(|assignor| assignor.name() == name)
            .ok_or_else(|| UnknownAssignor(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
