//! The `range` assignor.

use std::collections::BTreeMap;

use crate::consumer_protocol::{MemberSubscription, TopicPartitions};

pub(super) fn assign(
    members: &[MemberSubscription],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, TopicPartitions> {
    let mut order: Vec<&MemberSubscription> = members.iter().collect();
    order.sort_by_key(|member| rank(member));
    let mut assigned: BTreeMap<String, TopicPartitions> =
        members.iter().map(|member| (member.member_id.clone(), TopicPartitions::new())).collect();

    for (topic, &count) in partitions {
        let subscribers: Vec<_> = order
            .iter()
            .filter(|member| member.subscription.topics.contains(topic))
            .map(|member| &member.member_id)
            .collect();
        let mut rest = 0..count;
        // Each share is rounded up: the first members get one more where the partitions do not divide evenly.
        for (index, member) in subscribers.iter().enumerate() {
            let share = rest.len().div_ceil(subscribers.len() - index);
            let range: Vec<i32> = rest.by_ref().take(share).collect();
            if let Some(partitions) = assigned.get_mut(*member)
                && !range.is_empty()
            {
                partitions.insert(topic.clone(), range);
            }
        }
    }
    assigned
}

/// Orders static members by `group.instance.id` and then dynamic ones by member id. A static member that restarts gets
/// a new member id and keeps its ranges.
fn rank(member: &MemberSubscription) -> (bool, &str) {
    match &member.group_instance_id {
        Some(name) => (false, name),
        None => (true, &member.member_id),
    }
}
