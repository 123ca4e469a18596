//! Dividing the partitions of a group's topics among its members: what the group's leader does.
//!
//! Assignors are known to the group by the name under which a member offers them, and any client's member may be the
//! leader, so names and semantics are those of Kafka's own assignors. Members may subscribe to different topics. The
//! result depends on nothing but the arguments.
//!
//! `cooperative-sticky` follows
//! [KIP-429](https://cwiki.apache.org/confluence/display/KAFKA/KIP-429%3A+Kafka+Consumer+Incremental+Rebalance+Protocol).

mod balance;
mod cooperative_sticky;
mod range;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::consumer_protocol::{Subscription, TopicPartitions};

/// A way to divide partitions among members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Members keep what they have as far as the balance allows, and go on with it while the group rebalances. A
    /// partition that moves is first given to nobody, so that its owner can finish, commit and join again.
    CooperativeSticky,
    /// Members give everything up at each rebalance. Each topic's partitions are dealt in ranges, in the order of the
    /// members' names; with equal partition counts, a member gets the same partitions of all topics.
    Range,
}

/// What the leader knows about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSubscription {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// Its own lasting name, for a static member.
    pub group_instance_id: Option<String>,
    /// What it wants and has.
    pub subscription: Subscription,
}

impl Assignor {
    /// Returns the name under which members offer the assignor to the group.
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

    /// Divides the topics that `members` subscribe to; `partitions` tells how many each has. Topics that are not in
    /// there do not exist yet and are left out. Every member is in the result, with nothing if need be.
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

/// The name is none of the assignors'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no assignor; there are cooperative-sticky and range")]
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
