//! The most even division of partitions that subscriptions allow, with few moves.
//!
//! A chain moves one partition from each member to the next. A division is as even as possible if and only if no chain
//! leads from a member to one with at least two fewer partitions (such a chain is a cost-reducing path of a
//! semi-matching: Harvey, Ladner, Lovász, Tamir, *Semi-matchings for bipartite graphs and load balancing*, 2006).
//!
//! 1. Owners keep their partitions.
//! 2. Each partition without an owner goes to the subscriber with the fewest.
//! 3. Chains are applied until there is none: first chains of partitions without an owner, which no member has to revoke,
//!    then chains of any partitions.
//!
//! When the owners have revoked the withheld partitions, step 2 alone can reach the same even division. So the next
//! rebalance moves nothing more.

use std::cmp::Reverse;
use std::collections::VecDeque;

/// A topic whose partitions are divided. Members are numbered from 0.
pub(super) struct Topic {
    /// The members that subscribe to it, ascending.
    pub(super) subscribers: Vec<usize>,
    /// For each partition, the subscriber that owns it.
    pub(super) owners: Vec<Option<usize>>,
}

/// The partitions that a chain may move.
#[derive(Clone, Copy)]
enum Chains {
    OfFreePartitions,
    OfAnyPartitions,
}

pub(super) struct Balance {
    topics: Vec<Topic>,
    /// By topic and partition: the member to which it is assigned.
    assignees: Vec<Vec<Option<usize>>>,
    /// By member and topic: the number of assigned partitions.
    counts: Vec<Vec<usize>>,
    /// By member and topic: the number of assigned partitions without an owner.
    free_counts: Vec<Vec<usize>>,
    /// By member: the number of assigned partitions.
    loads: Vec<usize>,
}

/// One step of a chain: a partition of `topic` moves.
struct Step {
    from: usize,
    to: usize,
    topic: usize,
}

impl Balance {
    /// Assigns every partition to its owner.
    pub(super) fn new(members: usize, topics: impl Iterator<Item = Topic>) -> Self {
        let topics: Vec<Topic> = topics.collect();
        let mut balance = Self {
            assignees: topics.iter().map(|topic| vec![None; topic.owners.len()]).collect(),
            counts: vec![vec![0; topics.len()]; members],
            free_counts: vec![vec![0; topics.len()]; members],
            loads: vec![0; members],
            topics,
        };
        for topic in 0..balance.topics.len() {
            for partition in 0..balance.topics[topic].owners.len() {
                if let Some(owner) = balance.topics[topic].owners[partition] {
                    balance.assign(topic, partition, owner);
                }
            }
        }
        balance
    }

    /// Returns the assignee of each partition by topic; `None` for a topic without subscribers.
    pub(super) fn solve(mut self) -> Vec<Vec<Option<usize>>> {
        self.place_free_partitions();
        self.apply(Chains::OfFreePartitions);
        self.apply(Chains::OfAnyPartitions);
        self.assignees
    }

    fn assign(&mut self, topic: usize, partition: usize, to: usize) {
        let free = usize::from(self.topics[topic].owners[partition].is_none());
        if let Some(from) = self.assignees[topic][partition].replace(to) {
            self.loads[from] -= 1;
            self.counts[from][topic] -= 1;
            self.free_counts[from][topic] -= free;
        }
        self.loads[to] += 1;
        self.counts[to][topic] += 1;
        self.free_counts[to][topic] += free;
    }

    /// Assigns each partition without an owner to the subscriber with the fewest partitions; among equals, to the one
    /// with the fewest of this topic. The loop alternates between topics, so that each of them spreads over all
    /// members.
    fn place_free_partitions(&mut self) {
        let longest = self.topics.iter().map(|topic| topic.owners.len()).max().unwrap_or(0);
        for partition in 0..longest {
            for topic in 0..self.topics.len() {
                if self.assignees[topic].get(partition) != Some(&None) {
                    continue;
                }
                let least = self.topics[topic]
                    .subscribers
                    .iter()
                    .min_by_key(|&&member| (self.loads[member], self.counts[member][topic]));
                if let Some(&least) = least {
                    self.assign(topic, partition, least);
                }
            }
        }
    }

    /// Applies chains until there is none. Each makes the division more even, so the loop ends.
    fn apply(&mut self, chains: Chains) {
        while let Some(chain) = self.find_chain(chains) {
            for step in chain {
                if let Some(partition) = self.choose(&step, chains) {
                    self.assign(step.topic, partition, step.to);
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

    /// Returns a shortest chain from `start` to a member with at least two fewer partitions; among equally short ones,
    /// the chain to the member with the fewest.
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

    /// Returns the topic of which a partition should move from `from` to `to`. It is the one that `from` has most of
    /// compared to `to`, so that the partitions of each topic spread, too.
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

    /// Returns the partition for a step: preferably one that `from` does not own, then the last.
    fn choose(&self, step: &Step, chains: Chains) -> Option<usize> {
        let owners = &self.topics[step.topic].owners;
        (0..owners.len())
            .filter(|&partition| self.assignees[step.topic][partition] == Some(step.from))
            .filter(|&partition| match chains {
                Chains::OfFreePartitions => owners[partition].is_none(),
                Chains::OfAnyPartitions => true,
            })
            .max_by_key(|&partition| (owners[partition] != Some(step.from), partition))
    }
}

/// Returns the steps that lead to `end`, the last one first. So each member passes a partition on before it receives
/// one, and no partition moves twice.
fn trace(mut reached_by: Vec<Option<Step>>, end: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = end;
    while let Some(step) = reached_by[at].take() {
        at = step.from;
        steps.push(step);
    }
    steps
}
