//! The most even division of partitions that subscriptions allow, with few moves.
//!
//! A division is as even as it can be if and only if no member can get rid of a partition to a member that has at least
//! two fewer, directly or along a chain of members each of which passes one partition on to the next (a cost-reducing
//! path of a semi-matching: Harvey, Ladner, Lovász, Tamir, *Semi-matchings for bipartite graphs and load balancing*,
//! 2006). So: owners keep theirs; the partitions without an owner go to the members with the least; then chains are
//! found and applied until there is none, at first chains of partitions without an owner, which cost nothing.
//!
//! After a round of withheld partitions has been given up, the even division of that round is still within reach by
//! placing partitions without an owner alone, so that the next round moves nothing more.

use std::cmp::Reverse;
use std::collections::VecDeque;

/// A topic whose partitions are divided; members are numbered.
pub(super) struct Topic {
    /// The members that subscribe to it, ascending.
    pub(super) subscribers: Vec<usize>,
    /// For each partition, the subscriber that owns it.
    pub(super) owners: Vec<Option<usize>>,
}

/// Which partitions a chain may consist of.
#[derive(Clone, Copy)]
enum Chains {
    OfFreePartitions,
    OfAnyPartitions,
}

/// A division that is being evened out.
pub(super) struct Balance {
    topics: Vec<Topic>,
    /// For each topic and partition, the member that has it.
    holders: Vec<Vec<Option<usize>>>,
    /// For each member, how many partitions of each topic it has.
    counts: Vec<Vec<usize>>,
    /// How many of these have no owner.
    free_counts: Vec<Vec<usize>>,
    /// For each member, how many partitions it has.
    loads: Vec<usize>,
}

/// One step of a chain: `from` passes a partition of `topic` on to `to`.
struct Step {
    from: usize,
    to: usize,
    topic: usize,
}

impl Balance {
    /// Begins with every partition at its owner.
    pub(super) fn new(members: usize, topics: impl Iterator<Item = Topic>) -> Self {
        let topics: Vec<Topic> = topics.collect();
        let mut balance = Self {
            holders: topics.iter().map(|topic| vec![None; topic.owners.len()]).collect(),
            counts: vec![vec![0; topics.len()]; members],
            free_counts: vec![vec![0; topics.len()]; members],
            loads: vec![0; members],
            topics,
        };
        for topic in 0..balance.topics.len() {
            for partition in 0..balance.topics[topic].owners.len() {
                if let Some(owner) = balance.topics[topic].owners[partition] {
                    balance.give(topic, partition, owner);
                }
            }
        }
        balance
    }

    /// Returns the holder of each partition of each topic; none where nobody subscribes.
    pub(super) fn settle(mut self) -> Vec<Vec<Option<usize>>> {
        self.place_free_partitions();
        self.apply(Chains::OfFreePartitions);
        self.apply(Chains::OfAnyPartitions);
        self.holders
    }

    fn give(&mut self, topic: usize, partition: usize, to: usize) {
        let free = usize::from(self.topics[topic].owners[partition].is_none());
        if let Some(from) = self.holders[topic][partition].replace(to) {
            self.loads[from] -= 1;
            self.counts[from][topic] -= 1;
            self.free_counts[from][topic] -= free;
        }
        self.loads[to] += 1;
        self.counts[to][topic] += 1;
        self.free_counts[to][topic] += free;
    }

    /// Gives each partition without an owner to the subscriber with the least, and of these to the one with the least of
    /// its topic. Topics take turns, so that a busy and an idle one end up spread alike.
    fn place_free_partitions(&mut self) {
        let longest = self.topics.iter().map(|topic| topic.owners.len()).max().unwrap_or(0);
        for partition in 0..longest {
            for topic in 0..self.topics.len() {
                if self.holders[topic].get(partition) != Some(&None) {
                    continue;
                }
                let least = self.topics[topic]
                    .subscribers
                    .iter()
                    .min_by_key(|&&member| (self.loads[member], self.counts[member][topic]));
                if let Some(&least) = least {
                    self.give(topic, partition, least);
                }
            }
        }
    }

    /// Applies chains until no member can get rid of a partition to one that has at least two fewer. Each chain makes
    /// the division more even, so there is an end.
    fn apply(&mut self, chains: Chains) {
        while let Some(chain) = self.find_chain(chains) {
            for step in chain {
                if let Some(partition) = self.choose(&step, chains) {
                    self.give(step.topic, partition, step.to);
                }
            }
        }
    }

    fn find_chain(&self, chains: Chains) -> Option<Vec<Step>> {
        let least = self.loads.iter().min()?;
        let mut fullest: Vec<usize> =
            (0..self.loads.len()).filter(|&member| least + 2 <= self.loads[member]).collect();
        fullest.sort_by_key(|&member| Reverse(self.loads[member]));
        fullest.into_iter().find_map(|member| self.find_chain_from(member, chains))
    }

    /// Returns a shortest chain from `start` to a member with at least two fewer, and of these the one with the least.
    fn find_chain_from(&self, start: usize, chains: Chains) -> Option<Vec<Step>> {
        let members = self.loads.len();
        let mut reached_by: Vec<Option<Step>> = (0..members).map(|_| None).collect();
        let mut level = VecDeque::from([start]);
        while !level.is_empty() {
            let mut next = VecDeque::new();
            for from in level {
                let is_new = |to: &usize| (*to != start) && reached_by[*to].is_none();
                let unreached: Vec<usize> = (0..members).filter(is_new).collect();
                for to in unreached {
                    if let Some(topic) = self.best_topic(from, to, chains) {
                        reached_by[to] = Some(Step { from, to, topic });
                        next.push_back(to);
                    }
                }
            }
            let end = next
                .iter()
                .copied()
                .filter(|&member| self.loads[member] + 2 <= self.loads[start])
                .min_by_key(|&member| self.loads[member]);
            if let Some(end) = end {
                return Some(trace(reached_by, end));
            }
            level = next;
        }
        None
    }

    /// Returns the topic of which `from` can best pass a partition on to `to`: the one of which it has most in
    /// comparison, so that the partitions of each topic spread as well.
    fn best_topic(&self, from: usize, to: usize, chains: Chains) -> Option<usize> {
        let movable = match chains {
            Chains::OfFreePartitions => &self.free_counts[from],
            Chains::OfAnyPartitions => &self.counts[from],
        };
        let can_pass = |topic: &usize| {
            (movable[*topic] > 0) && self.topics[*topic].subscribers.binary_search(&to).is_ok()
        };
        let others_of_receiver = |topic: usize| self.loads[to] - self.counts[to][topic];
        (0..self.topics.len())
            .filter(can_pass)
            .min_by_key(|&topic| Reverse(self.counts[from][topic] + others_of_receiver(topic)))
    }

    /// Returns the partition for a step: one that `from` does not own, else the last.
    fn choose(&self, step: &Step, chains: Chains) -> Option<usize> {
        let owners = &self.topics[step.topic].owners;
        (0..owners.len())
            .filter(|&partition| self.holders[step.topic][partition] == Some(step.from))
            .filter(|&partition| match chains {
                Chains::OfFreePartitions => owners[partition].is_none(),
                Chains::OfAnyPartitions => true,
            })
            .max_by_key(|&partition| (owners[partition] != Some(step.from), partition))
    }
}

/// Returns the steps that lead to `end`, the last one first: each member receives only after it has passed on, so that
/// no partition travels twice.
fn trace(mut reached_by: Vec<Option<Step>>, end: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = end;
    while let Some(step) = reached_by[at].take() {
        at = step.from;
        steps.push(step);
    }
    steps
}
