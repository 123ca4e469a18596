//! The `cooperative-sticky` assignor.
//!
//! Each member's subscription lists the partitions that it owns (a claim), so the leader needs no memory. A partition's
//! owner is the member that claims it in a higher generation than all other claimants. A member that was disconnected
//! claims with an older generation than the member that got its partitions.
//!
//! From these owners the leader finds an even division with few moves. It withholds every partition that another member
//! still claims. The claimant's assignment lacks the partition, so the claimant revokes it and joins again. In that
//! rebalance the partition has no owner and can be assigned.

use std::collections::BTreeMap;

use super::balance::{Balance, Topic};
use crate::consumer_protocol::{MemberSubscription, TopicPartitions};

pub(super) fn assign(
    members: &[MemberSubscription],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, TopicPartitions> {
    let mut order: Vec<&MemberSubscription> = members.iter().collect();
    order.sort_by_key(|member| &member.member_id);
    let claims = Claims::of(&order);

    let topics: Vec<(&String, i32)> =
        partitions.iter().map(|(topic, &count)| (topic, count)).collect();
    let balance = Balance::new(
        order.len(),
        topics.iter().map(|&(topic, count)| {
            let subscribes = |member: usize| order[member].subscription.topics.contains(topic);
            let owner =
                |partition| claims.owner(topic, partition).filter(|&owner| subscribes(owner));
            Topic {
                subscribers: (0..order.len()).filter(|&member| subscribes(member)).collect(),
                owners: (0..count).map(owner).collect(),
            }
        }),
    );

    let mut assigned: Vec<TopicPartitions> = vec![TopicPartitions::new(); order.len()];
    for ((topic, _), assignees) in topics.into_iter().zip(balance.solve()) {
        for (partition, assignee) in (0..).zip(assignees) {
            if let Some(assignee) = assignee
                && claims.allow(topic, partition, assignee)
            {
                assigned[assignee].entry(topic.clone()).or_default().push(partition);
            }
        }
    }
    order.iter().map(|member| member.member_id.clone()).zip(assigned).collect()
}

/// Which members claim which partitions. Members are numbered by their place in the order.
struct Claims<'a> {
    by_topic: BTreeMap<&'a str, BTreeMap<i32, Vec<Claim>>>,
}

#[derive(Clone, Copy)]
struct Claim {
    /// `None` is lower than any generation.
    generation: Option<i32>,
    member: usize,
}

impl<'a> Claims<'a> {
    fn of(members: &[&'a MemberSubscription]) -> Self {
        let mut by_topic: BTreeMap<&str, BTreeMap<i32, Vec<Claim>>> = BTreeMap::new();
        for (member, MemberSubscription { subscription, .. }) in members.iter().enumerate() {
            let claim = Claim { generation: subscription.generation, member };
            for (topic, partitions) in &subscription.owned {
                let claims = by_topic.entry(topic).or_default();
                for &partition in partitions {
                    claims.entry(partition).or_default().push(claim);
                }
            }
        }
        Self { by_topic }
    }

    fn of_partition(&self, topic: &str, partition: i32) -> &[Claim] {
        let of_topic = self.by_topic.get(topic);
        of_topic.and_then(|claims| claims.get(&partition)).map_or(&[], Vec::as_slice)
    }

    /// Returns the partition's owner. It has none where two members claim it in the same, highest generation: one of
    /// them is wrong.
    fn owner(&self, topic: &str, partition: i32) -> Option<usize> {
        let claims = self.of_partition(topic, partition);
        let newest = claims.iter().map(|claim| claim.generation).max()?;
        let mut newest = claims.iter().filter(|claim| claim.generation == newest);
        match (newest.next(), newest.next()) {
            (Some(only), None) => Some(only.member),
            _ => None,
        }
    }

    /// Returns whether `assignee` may have the partition in this rebalance: it owns it, or no other member claims it.
    fn allow(&self, topic: &str, partition: i32, assignee: usize) -> bool {
        (self.owner(topic, partition) == Some(assignee))
            || self.of_partition(topic, partition).iter().all(|claim| claim.member == assignee)
    }
}
