//! The fetch session of one lane (KIP-227): what the broker remembers, and what the next request has to say.
//!
//! A broker remembers the partitions of a session with their positions, and answers only what has changed. A request of
//! a session names the partitions to add, to change and to forget. It carries the number of the session's last answer
//! plus one, so both sides notice a request or an answer that was lost. Then a full request begins a new session and
//! closes the old one. A broker without sessions, or without room for one, answers id 0: every request is full.
//!
//! ```text
//!                answered with an id
//!   full (0) ────────────────────────► incremental (1, 2, …)
//!    ▲  │ answered without an id         │ an error, id 0, a broken connection
//!    └──┴────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kafka_core::TopicPartition;
use uuid::Uuid;

/// The number of a request that begins a session.
const FULL: i32 = 0;
/// No session.
const NO_ID: i32 = 0;

/// A partition of a topic with this id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic_id: Uuid,
    pub(super) tp: TopicPartition,
}

/// How a partition is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Params {
    /// The offset to fetch from.
    pub(super) offset: i64,
    /// The leader epoch in the metadata; −1 if unknown.
    pub(super) leader_epoch: i32,
    /// `partition_max_bytes`.
    pub(super) room: i32,
}

/// What a request says about its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRequest {
    pub(super) id: i32,
    pub(super) epoch: i32,
    /// Whether all topics of the session have ids.
    pub(super) has_ids: bool,
    /// Partitions to add or to change; of a full request all.
    pub(super) fetch: Vec<(Key, Params)>,
    pub(super) forget: Vec<Key>,
}

/// The session of one lane.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    /// The number of the next request.
    epoch: i32,
    /// What is to be fetched.
    wanted: BTreeMap<Key, Params>,
    /// What the broker fetches for this session, or was last asked to.
    known: BTreeMap<Key, Params>,
    /// Where both may differ.
    changed: BTreeSet<Key>,
    /// What the broker has to forget before it is added again.
    renewed: BTreeSet<Key>,
    /// Wanted partitions whose topic has no id.
    nameless: BTreeSet<Key>,
    /// Whether the requests of the session name topics by id.
    had_ids: bool,
    /// How many full requests were made. Only the first partition of a response may exceed its size, so they take turns;
    /// within a session the broker does that.
    rotation: usize,
}

impl Session {
    /// Adds a partition, or changes how it is fetched.
    pub(super) fn want(&mut self, key: Key, params: Params) {
        if key.topic_id.is_nil() {
            self.nameless.insert(key.clone());
        }
        if self.wanted.insert(key.clone(), params) != Some(params) {
            self.changed.insert(key);
        }
    }

    /// Removes a partition.
    pub(super) fn unwant(&mut self, key: &Key) {
        if self.wanted.remove(key).is_some() {
            self.nameless.remove(key);
            self.changed.insert(key.clone());
        }
    }

    /// Lets the broker forget a partition before it is added. Of one that it knows, it reports only changes, so a reader that
    /// knows nothing of it would not learn where the log ends.
    pub(super) fn renew(&mut self, key: &Key) {
        if self.known.contains_key(key) {
            self.renewed.insert(key.clone());
        }
    }

    pub(super) fn wants(&self, key: &Key) -> bool {
        self.wanted.contains_key(key)
    }

    pub(super) fn wanted(&self) -> &BTreeMap<Key, Params> {
        &self.wanted
    }

    /// Returns how the broker was asked to fetch a partition.
    pub(super) fn asked(&self, key: &Key) -> Option<Params> {
        self.known.get(key).copied()
    }

    /// Returns the next request. One request is in flight at a time.
    pub(super) fn request(&mut self) -> SessionRequest {
        // All requests of a session name topics the same way.
        let has_ids = self.nameless.is_empty();
        if has_ids != self.had_ids {
            self.begin_anew();
            self.had_ids = has_ids;
        }
        let (id, epoch) = (self.id, self.epoch);
        if epoch == FULL {
            self.changed.clear();
            self.renewed.clear();
            self.known.clone_from(&self.wanted);
            let mut fetch: Vec<_> = self.wanted.clone().into_iter().collect();
            let first = self.rotation.checked_rem(fetch.len()).unwrap_or(0);
            fetch.rotate_left(first);
            self.rotation = self.rotation.wrapping_add(1);
            return SessionRequest { id, epoch, has_ids, fetch, forget: Vec::new() };
        }
        let (mut fetch, mut forget) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.changed) {
            let is_renewed = self.renewed.remove(&key) && self.known.remove(&key).is_some();
            match self.wanted.get(&key) {
                wanted if is_renewed => {
                    self.changed.extend(wanted.map(|_| key.clone()));
                    forget.push(key);
                }
                Some(params) if self.known.get(&key) != Some(params) => {
                    self.known.insert(key.clone(), *params);
                    fetch.push((key, *params));
                }
                None if self.known.remove(&key).is_some() => forget.push(key),
                Some(_) | None => {}
            }
        }
        SessionRequest { id, epoch, has_ids, fetch, forget }
    }

    /// Notes the session id of an answer without an error.
    pub(super) fn on_answer(&mut self, id: i32) {
        if id == NO_ID || (self.epoch != FULL && id != self.id) {
            self.begin_anew();
            self.id = NO_ID;
            return;
        }
        self.id = id;
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
    }

    /// Notes that the broker does not know the session.
    pub(super) fn on_unknown(&mut self) {
        self.begin_anew();
        self.id = NO_ID;
    }

    /// Begins a new session with the next request, which closes the old one: its state is unknown.
    pub(super) fn begin_anew(&mut self) {
        self.epoch = FULL;
    }
}

#[cfg(test)]
mod tests;
