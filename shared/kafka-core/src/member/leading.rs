//! The leader's part: it reads the subscriptions, assigns the partitions and watches their counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::messages;

use super::event::{Event, MemberError};
use super::requests;
use super::state::{Member, State};
use crate::consumer_protocol::{Implementation, MemberSubscription, Subscription};

/// How long the leader waits for the count of a topic of its own that the cluster does not know, before it assigns
/// without the topic.
pub(super) const UNKNOWN_TOPIC_MAX: Duration = Duration::from_secs(5);
/// Claims on partitions from this index on are ignored: a claim must not decide how much is allocated.
const CLAIMED_PARTITIONS_MAX: i32 = 1 << 16;

/// The number of partitions of each topic; `None` where the cluster does not describe the topic.
pub type PartitionCounts = BTreeMap<String, Option<i32>>;

impl Member {
    /// Returns the topics whose partition counts this member needs as the group's leader; `None` if it does not lead.
    ///
    /// It needs them at once while [`Member::is_assigning`], and periodically afterwards: the group rebalances when a
    /// count changes.
    pub fn watched_topics(&self) -> Option<BTreeSet<String>> {
        match &self.state {
            State::Assigning { .. } | State::Stable { .. } if self.is_leader => {
                Some(self.subscribed.clone())
            }
            State::Unjoined { .. }
            | State::Joining
            | State::ReadyToSync { .. }
            | State::Syncing
            | State::Assigning { .. }
            | State::Stable { .. }
            | State::Stopped => None,
        }
    }

    /// Returns whether the group waits for this member's assignments.
    pub fn is_assigning(&self) -> bool {
        matches!(self.state, State::Assigning { .. })
    }

    /// Acts on the partition counts of [`Member::watched_topics`]; counts of any other set of topics are outdated and
    /// ignored.
    ///
    /// After a JoinGroup the leader assigns with them. Later it joins again when they have changed.
    pub fn on_partition_counts(&mut self, counts: PartitionCounts, now: Instant) {
        if !self.watched_topics().is_some_and(|topics| topics.iter().eq(counts.keys())) {
            return;
        }
        match &self.state {
            State::Assigning { members, unknown_until, .. } => {
                let counts = self.known_counts(counts, members);
                let knows_own = self.config.topics.iter().all(|own| counts.contains_key(&**own));
                if knows_own || *unknown_until <= now {
                    self.assign(counts, now);
                }
            }
            State::Stable { .. } => {
                if self.known_counts(counts, &[]) != self.assigned_counts {
                    self.rejoin();
                }
            }
            State::Unjoined { .. }
            | State::Joining
            | State::ReadyToSync { .. }
            | State::Syncing
            | State::Stopped => {}
        }
    }

    /// Reads the members' subscriptions. An unreadable one counts as empty, because an error would end this leader and
    /// then the next.
    pub(super) fn read_subscriptions(
        &mut self,
        response: &messages::JoinGroupResponse,
    ) -> Vec<MemberSubscription> {
        let mut others = Vec::new();
        let mut members = Vec::new();
        for member in &response.members {
            let member_id = member.member_id.to_string();
            let subscription = match Subscription::decode(&member.metadata) {
                Ok(subscription) => {
                    if subscription.implementation == Implementation::Other {
                        others.push(member_id.clone());
                    }
                    subscription
                }
                Err(error) => {
                    let member_id = member_id.clone();
                    self.events.push_back(Event::UnreadableSubscription { member_id, error });
                    Subscription::default()
                }
            };
            members.push(MemberSubscription {
                member_id,
                group_instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
                subscription,
            });
        }
        let topics = members.iter().flat_map(|member| member.subscription.topics.iter().cloned());
        self.subscribed = topics.collect();
        if !others.is_empty() {
            self.events.push_back(Event::OtherClients(others));
        }
        members
    }

    fn assign(&mut self, counts: BTreeMap<String, i32>, now: Instant) {
        let State::Assigning { members, .. } = &self.state else { return };
        let assigned = self.config.assignor.assign(members, &counts);
        let assignments = requests::assignments(members, assigned, &counts);
        self.assigned_counts = counts;
        match assignments {
            Ok(assignments) => self.state = State::ReadyToSync { not_before: now, assignments },
            Err(source) => self.stop(MemberError::Protocol { what: "the assignment", source }),
        }
    }

    /// Returns the counts to assign with. A topic that the cluster does not describe keeps the count of its last
    /// assignment, because metadata can be briefly outdated or missing. Topics without any count are left out.
    fn known_counts(
        &self,
        counts: PartitionCounts,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, i32> {
        let claimed = |topic: &str| {
            let owned = members.iter().filter_map(|member| member.subscription.owned.get(topic));
            let indexes =
                owned.flatten().filter(|index| (0..CLAIMED_PARTITIONS_MAX).contains(*index));
            indexes.max().map(|index| index + 1)
        };
        let last = |topic: &str| self.assigned_counts.get(topic).copied().max(claimed(topic));
        counts
            .into_iter()
            .filter_map(|(topic, count)| count.or_else(|| last(&topic)).map(|count| (topic, count)))
            .collect()
    }
}
