//! The `cooperative-sticky` assignor.
//!
//! Members tell what they own, so the leader needs no memory. A partition has an owner if one member claims it in a
//! higher generation than all others who claim it; the claims of members that were cut off and have come back are older
//! than those of their successors. From there the balance is found with as few moves as possible, and then every
//! partition that somebody still claims is withheld from anybody else: its claimant reads in its assignment that it is
//! to give it up, does so and joins again, and in the next round it is free.

use std::collections::BTreeMap;

use super::MemberSubscription;
use super::balance::{Balance, Topic};
use crate::consumer_protocol::TopicPartitions;

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
            let wants = |member: usize| order[member].subscription.topics.contains(topic);
            let owner = |partition| claims.owner(topic, partition).filter(|&owner| wants(owner));
            Topic {
                subscribers: (0..order.len()).filter(|&member| wants(member)).collect(),
                owners: (0..count).map(owner).collect(),
            }
        }),
    );

    let mut assigned: Vec<TopicPartitions> = vec![TopicPartitions::new(); order.len()];
    for ((topic, _), holders) in topics.into_iter().zip(balance.settle()) {
        for (partition, holder) in (0..).zip(holders) {
            if let Some(holder) = holder
                && claims.allow(topic, partition, holder)
            {
                assigned[holder].entry(topic.clone()).or_default().push(partition);
            }
        }
    }
    order.iter().map(|member| member.member_id.clone()).zip(assigned).collect()
}

/// Who says that it owns what, by the member's place in the order.
struct Claims<'a> {
    by_topic: BTreeMap<&'a str, BTreeMap<i32, Vec<Claim>>>,
}

#[derive(Clone, Copy)]
struct Claim {
    /// A member without a generation has the lowest.
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

    /// Returns who owns the partition: nobody where two members claim it in the same, highest generation, because one
    /// of them is wrong.
    fn owner(&self, topic: &str, partition: i32) -> Option<usize> {
        let claims = self.of_partition(topic, partition);
        let newest = claims.iter().map(|claim| claim.generation).max()?;
        let mut newest = claims.iter().filter(|claim| claim.generation == newest);
        match (newest.next(), newest.next()) {
            (Some(only), None) => Some(only.member),
            _ => None,
        }
    }

    /// Returns whether `holder` may have the partition in this round: it owns it, or nobody else claims it.
    fn allow(&self, topic: &str, partition: i32, holder: usize) -> bool {
        (self.owner(topic, partition) == Some(holder))
            || self.of_partition(topic, partition).iter().all(|claim| claim.member == holder)
    }
}
