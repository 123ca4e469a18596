use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;

/// A group that follows the cooperative protocol, step by step.
#[derive(Clone, Debug)]
struct Group {
    members: BTreeMap<String, MemberSubscription>,
    partitions: BTreeMap<String, i32>,
    generation: i32,
    /// The number of the next member, so that ids do not come back.
    joined: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Join(BTreeSet<usize>),
    Leave(prop::sample::Index),
    Subscribe(prop::sample::Index, BTreeSet<usize>),
    AddPartitions(usize, i32),
}

const TOPICS: [&str; 4] = ["p", "q", "r", "s"];

fn names(topics: &BTreeSet<usize>) -> Vec<String> {
    topics.iter().map(|&topic| TOPICS[topic].to_owned()).collect()
}

impl Group {
    fn new(partitions: BTreeMap<String, i32>) -> Self {
        Self { members: BTreeMap::new(), partitions, generation: 0, joined: 0 }
    }

    fn join(&mut self, topics: Vec<String>) {
        self.joined += 1;
        // Ids do not come in the order of joining.
        let id = format!("{}-{}", self.joined * 7 % 10, self.joined);
        let mut member = member(&id, &[]);
        member.subscription.topics = topics;
        self.members.insert(id, member);
    }

    fn id(&self, index: prop::sample::Index) -> Option<String> {
        (!self.members.is_empty()).then(|| index.get(&self.ids()).clone())
    }

    fn ids(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Join(topics) => self.join(names(&topics)),
            Event::Leave(index) => {
                if let Some(id) = self.id(index) {
                    self.members.remove(&id);
                }
            }
            Event::Subscribe(index, topics) => {
                if let Some(id) = self.id(index) {
                    self.members.get_mut(&id).unwrap().subscription.topics = names(&topics);
                }
            }
            Event::AddPartitions(topic, more) => {
                *self.partitions.entry(TOPICS[topic].to_owned()).or_default() += more;
            }
        }
    }

    fn owned(&self) -> Assigned {
        let owned = |member: &MemberSubscription| member.subscription.owned.clone();
        self.members.iter().map(|(id, member)| (id.clone(), owned(member))).collect()
    }

    fn owner_of(&self, topic: &str, partition: i32) -> Option<&String> {
        let owns = |member: &MemberSubscription| has(&member.subscription.owned, topic, partition);
        self.members.iter().find(|(_, member)| owns(member)).map(|(id, _)| id)
    }

    /// Runs one rebalance and checks its result; returns how many partitions were withheld.
    fn rebalance(&mut self) -> Result<usize, TestCaseError> {
        let members: Vec<_> = self.members.values().cloned().collect();
        let assigned = Assignor::CooperativeSticky.assign(&members, &self.partitions);
        prop_assert_eq!(
            assigned.keys().collect::<Vec<_>>(),
            self.members.keys().collect::<Vec<_>>()
        );
        let mut withheld = 0;
        for (topic, &count) in &self.partitions {
            for partition in 0..count {
                let holders: Vec<&String> = assigned
                    .iter()
                    .filter(|(_, all)| has(all, topic, partition))
                    .map(|(id, _)| id)
                    .collect();
                let owner = self.owner_of(topic, partition);
                let wanted = members.iter().any(|one| one.subscription.topics.contains(topic));
                match holders[..] {
                    [] if wanted => {
                        prop_assert!(owner.is_some(), "{}-{} is left out", topic, partition);
                        withheld += 1;
                    }
                    [] => {}
                    [holder] => {
                        prop_assert!(self.members[holder].subscription.topics.contains(topic));
                        prop_assert!(owner.is_none() || (owner == Some(holder)), "moved directly");
                    }
                    _ => prop_assert!(false, "{}-{} has holders {:?}", topic, partition, holders),
                }
            }
        }
        self.generation += 1;
        for (id, owned) in assigned {
            let subscription = &mut self.members.get_mut(&id).unwrap().subscription;
            subscription.owned = owned;
            subscription.generation = Some(self.generation);
        }
        Ok(withheld)
    }

    /// Rebalances until nothing is withheld, which takes at most two rounds.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        if self.rebalance()? > 0 {
            prop_assert_eq!(self.rebalance()?, 0, "a third round is needed");
        }
        Ok(())
    }

    fn loads(&self) -> Vec<usize> {
        self.members.values().map(|member| load(&member.subscription.owned)).collect()
    }
}

fn has(all: &TopicPartitions, topic: &str, partition: i32) -> bool {
    all.get(topic).is_some_and(|partitions| partitions.contains(&partition))
}

fn load(all: &TopicPartitions) -> usize {
    all.values().map(Vec::len).sum()
}

/// Returns how many partitions moved away from members that are in both assignments.
fn moved(before: &Assigned, after: &Assigned) -> usize {
    let lost = |id: &String, all: &TopicPartitions| {
        let after = after.get(id)?;
        let each = all.iter().flat_map(|(topic, all)| all.iter().map(move |one| (topic, *one)));
        Some(each.filter(|(topic, one)| !has(after, topic, *one)).count())
    };
    before.iter().filter_map(|(id, all)| lost(id, all)).sum()
}

/// Returns the least sum of squared loads over all divisions, by trying them all.
fn least_squares(partitions: &[Vec<usize>], loads: &mut Vec<usize>) -> usize {
    let Some((subscribers, rest)) = partitions.split_first() else {
        return loads.iter().map(|load| load * load).sum();
    };
    if subscribers.is_empty() {
        return least_squares(rest, loads);
    }
    let try_one = |&member: &usize| {
        loads[member] += 1;
        let squares = least_squares(rest, loads);
        loads[member] -= 1;
        squares
    };
    subscribers.iter().map(try_one).min().unwrap()
}

fn topics() -> impl Strategy<Value = BTreeSet<usize>> {
    btree_set(0..TOPICS.len(), 0..TOPICS.len())
}

fn partitions() -> impl Strategy<Value = BTreeMap<String, i32>> {
    btree_map(prop::sample::select(&TOPICS[..]).prop_map(str::to_owned), 0..9_i32, 1..5)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => topics().prop_map(Event::Join),
        2 => any::<prop::sample::Index>().prop_map(Event::Leave),
        2 => (any::<prop::sample::Index>(), topics()).prop_map(|(who, topics)| Event::Subscribe(who, topics)),
        1 => (0..TOPICS.len(), 1..4_i32).prop_map(|(topic, more)| Event::AddPartitions(topic, more)),
    ]
}

fn all_topics() -> Vec<String> {
    TOPICS.iter().map(|topic| (*topic).to_owned()).collect()
}

proptest! {
    #[test]
    fn whatever_happens_two_rounds_settle_and_nothing_moves_after(
        partitions in partitions(),
        events in vec(vec(event(), 1..4), 1..8),
    ) {
        let mut group = Group::new(partitions);
        for events in events {
            for event in events {
                group.apply(event);
            }
            group.settle()?;
            let settled = group.owned();
            group.rebalance()?;
            prop_assert_eq!(&group.owned(), &settled);
        }
    }

    #[test]
    fn differing_subscriptions_are_divided_as_evenly_as_possible(
        partitions in btree_map(prop::sample::select(&TOPICS[..]).prop_map(str::to_owned), 0..4_i32, 1..4),
        members in vec(topics(), 1..4),
        joining in topics(),
    ) {
        let mut group = Group::new(partitions);
        for topics in members {
            group.join(names(&topics));
        }
        for _ in 0..2 {
            group.settle()?;
            let subscribers = |topic: &String| -> Vec<usize> {
                let wants = group.members.values().map(|one| one.subscription.topics.contains(topic));
                wants.enumerate().filter(|(_, wants)| *wants).map(|(index, _)| index).collect()
            };
            let each: Vec<_> = group
                .partitions
                .iter()
                .flat_map(|(topic, &count)| (0..count).map(|_| subscribers(topic)).collect::<Vec<_>>())
                .collect();
            let least = least_squares(&each, &mut vec![0; group.members.len()]);
            prop_assert_eq!(group.loads().iter().map(|load| load * load).sum::<usize>(), least);
            group.join(names(&joining));
        }
    }

    #[test]
    fn with_equal_subscriptions_loads_differ_by_one_at_most_and_only_what_must_move_does(
        partitions in partitions(),
        first in 1..6_usize,
        joining in 0..4_usize,
        leaving in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut group = Group::new(partitions);
        (0..first).for_each(|_| group.join(all_topics()));
        group.settle()?;

        (0..joining).for_each(|_| group.join(all_topics()));
        for index in leaving {
            group.apply(Event::Leave(index));
        }
        let before = group.owned();
        let loads = group.loads();
        group.settle()?;

        let (least, most) = (group.loads().into_iter().min(), group.loads().into_iter().max());
        prop_assert!(most <= least.map(|least| least + 1));
        if let Some(total) = group.partitions.values().sum::<i32>().try_into().ok().filter(|_| !loads.is_empty()) {
            let total: usize = total;
            // Whatever is above the larger share has to go, and so does what fills others up to the smaller share
            // when the partitions of members that left do not suffice.
            let (floor, ceil) = (total / loads.len(), total.div_ceil(loads.len()));
            let excess: usize = loads.iter().map(|load| load.saturating_sub(ceil)).sum();
            let missing: usize = loads.iter().map(|load| floor.saturating_sub(*load)).sum();
            let free = total - loads.iter().sum::<usize>();
            prop_assert_eq!(moved(&before, &group.owned()), excess.max(missing.saturating_sub(free)));
        }
    }

    #[test]
    fn claims_that_contradict_each_other_never_give_a_partition_to_two(
        claims in vec((0..4_i32, btree_map(prop::sample::select(&TOPICS[..]).prop_map(str::to_owned),
            btree_set(0..6_i32, 0..5).prop_map(|all| all.into_iter().collect()), 0..4)), 1..5),
        partitions in partitions(),
    ) {
        let members: Vec<_> = claims
            .into_iter()
            .enumerate()
            .map(|(index, (generation, owned))| {
                let mut member = member(&index.to_string(), &TOPICS);
                member.subscription.generation = Some(generation).filter(|generation| 0 < *generation);
                member.subscription.owned = owned;
                member
            })
            .collect();
        let assigned = Assignor::CooperativeSticky.assign(&members, &partitions);
        for (topic, &count) in &partitions {
            for partition in 0..count {
                let holders: Vec<_> =
                    members.iter().filter(|one| has(&assigned[&one.member_id], topic, partition)).collect();
                prop_assert!(holders.len() <= 1);
                let claimants: Vec<_> =
                    members.iter().filter(|one| has(&one.subscription.owned, topic, partition)).collect();
                // While another member claims it, only the claimant of the highest generation may have it.
                for holder in holders {
                    let newest = claimants.iter().filter(|one| one.member_id != holder.member_id)
                        .all(|one| one.subscription.generation < holder.subscription.generation);
                    let alone = claimants.iter().all(|one| one.member_id == holder.member_id);
                    prop_assert!(alone || (newest && claimants.contains(&holder)));
                }
            }
        }
    }

    #[test]
    fn ranges_cover_each_topic_once_and_differ_by_one_at_most(
        partitions in partitions(),
        members in vec((topics(), any::<bool>()), 0..6),
    ) {
        let members: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(index, (topics, is_static))| {
                let mut member = member(&index.to_string(), &[]);
                member.group_instance_id = is_static.then(|| format!("instance-{}", 9 - index));
                member.subscription.topics = names(&topics);
                member
            })
            .collect();
        let assigned = Assignor::Range.assign(&members, &partitions);
        prop_assert_eq!(assigned.len(), members.len());
        for (topic, &count) in &partitions {
            let subscribers: Vec<_> =
                members.iter().filter(|one| one.subscription.topics.contains(topic)).collect();
            let mut all: Vec<i32> =
                assigned.values().filter_map(|all| all.get(topic)).flatten().copied().collect();
            all.sort_unstable();
            let expected = if subscribers.is_empty() { 0 } else { count };
            prop_assert_eq!(all, (0..expected).collect::<Vec<_>>());
            let loads: Vec<usize> = subscribers
                .iter()
                .map(|one| assigned[&one.member_id].get(topic).map_or(0, Vec::len))
                .collect();
            prop_assert!(loads.iter().max() <= loads.iter().min().map(|least| least + 1).as_ref());
        }
    }
}
