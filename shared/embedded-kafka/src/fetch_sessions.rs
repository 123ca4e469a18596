//! Fetch sessions (KIP-227): a client names only what changes, and gets only partitions with news.
//!
//! A session belongs to a node. Its partitions are in the order of the next answer: one that was answered moves to the
//! end, so that partitions take turns when an answer is full.

use std::collections::BTreeMap;

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// The default of `max.incremental.fetch.session.cache.slots`.
const SESSIONS_MAX: usize = 1000;
/// The session id of a request without a session.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a request that begins a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants no session.
const FINAL_EPOCH: i32 = -1;
/// The first version that names topics by id.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;
/// The offset in answers with an error, which differs from all offsets.
const NO_OFFSET: i64 = -1;

/// A partition that a fetch asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AskedPartition {
    /// Empty in versions with topic ids.
    pub(crate) topic: TopicName,
    /// Nil in versions without topic ids.
    pub(crate) topic_id: Uuid,
    pub(crate) asked: FetchPartition,
}

impl AskedPartition {
    fn key(&self) -> Key {
        (self.topic.to_string(), self.topic_id, self.asked.partition)
    }
}

/// The partitions of one fetch, in the order of its answer.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    pub(crate) partitions: Vec<AskedPartition>,
    node: NodeId,
    kind: PlanKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    Sessionless,
    /// The answer may create a session.
    Full {
        names_by_id: bool,
    },
    /// The answer belongs to this session, if its epoch is still this one.
    Incremental {
        id: i32,
        epoch: i32,
    },
}

/// The partitions of an answer and its session.
#[derive(Debug)]
pub(crate) struct Answered<'a> {
    pub(crate) session_id: i32,
    pub(crate) partitions: Vec<(&'a AskedPartition, PartitionData)>,
}

/// A topic's name, its id, and the index of a partition.
type Key = (String, Uuid, i32);

#[derive(Debug)]
struct Session {
    node: NodeId,
    /// The epoch of the next request.
    epoch: i32,
    names_by_id: bool,
    /// Grows with every use of any session.
    last_use: u64,
    by_key: BTreeMap<Key, Cached>,
    /// The keys in the order of the next answer.
    order: BTreeMap<u64, Key>,
    next_turn: u64,
}

/// A partition of a session, with what the client knows of it.
#[derive(Debug)]
struct Cached {
    turn: u64,
    partition: AskedPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

/// The sessions of all nodes.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    by_id: BTreeMap<i32, Session>,
    last_id: i32,
    uses: u64,
    sessions_max: usize,
}

impl Default for FetchSessions {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), last_id: NO_SESSION, uses: 0, sessions_max: SESSIONS_MAX }
    }
}

impl FetchSessions {
    /// Begins a fetch: updates its session and returns all partitions to read.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH`, `FETCH_SESSION_TOPIC_ID_ERROR`.
    pub(crate) fn begin(
        &mut self,
        node: NodeId,
        api_version: i16,
        request: &FetchRequest,
    ) -> Result<FetchPlan, ResponseError> {
        let names_by_id = FIRST_VERSION_WITH_TOPIC_IDS <= api_version;
        let asked = asked_partitions(request);
        let plan = |kind, partitions| FetchPlan { partitions, node, kind };
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if self.by_id.get(&request.session_id).is_some_and(|session| session.node == node) {
                self.by_id.remove(&request.session_id);
            }
            let may_begin = (request.session_epoch == INITIAL_EPOCH) && !asked.is_empty();
            let full = PlanKind::Full { names_by_id };
            return Ok(plan(if may_begin { full } else { PlanKind::Sessionless }, asked));
        }
        self.uses += 1;
        let id = request.session_id;
        let session = self.by_id.get_mut(&id).filter(|session| session.node == node);
        let session = session.ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != request.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.names_by_id != names_by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        for partition in &asked {
            session.ask(partition);
        }
        for topic in &request.forgotten_topics_data {
            for index in &topic.partitions {
                session.forget(&(topic.topic.to_string(), topic.topic_id, *index));
            }
        }
        if session.by_key.is_empty() {
            self.by_id.remove(&id);
            return Ok(plan(PlanKind::Sessionless, asked));
        }
        session.last_use = self.uses;
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        let kind = PlanKind::Incremental { id, epoch: session.epoch };
        Ok(plan(kind, session.in_order()))
    }

    /// Ends a fetch with what was read of each partition of the plan: leaves out what is no news to the session.
    ///
    /// # Errors
    /// `INVALID_FETCH_SESSION_EPOCH` when another request of the session came in between.
    pub(crate) fn finish<'a>(
        &mut self,
        plan: &'a FetchPlan,
        read: Vec<PartitionData>,
    ) -> Result<Answered<'a>, ResponseError> {
        let mut partitions: Vec<_> = plan.partitions.iter().zip(read).collect();
        let session_id = match plan.kind {
            PlanKind::Sessionless => NO_SESSION,
            PlanKind::Full { names_by_id } => self.create(plan.node, names_by_id, &partitions),
            PlanKind::Incremental { id, epoch } => {
                let session = self.session(id, epoch)?;
                partitions.retain(|(asked, data)| session.is_news(&asked.key(), data));
                id
            }
        };
        Ok(Answered { session_id, partitions })
    }

    /// Ends a fetch without its partitions, because the client is over its quota.
    ///
    /// # Errors
    /// As [`FetchSessions::finish`].
    pub(crate) fn finish_throttled(
        &mut self,
        plan: &FetchPlan,
    ) -> Result<Answered<'static>, ResponseError> {
        let session_id = match plan.kind {
            PlanKind::Sessionless | PlanKind::Full { .. } => NO_SESSION,
            PlanKind::Incremental { id, epoch } => self.session(id, epoch).map(|_| id)?,
        };
        Ok(Answered { session_id, partitions: Vec::new() })
    }

    /// Sets how many sessions there may be; the least recently used ones make room.
    pub(crate) fn set_limit(&mut self, sessions_max: usize) {
        self.sessions_max = sessions_max;
        self.shrink_to(sessions_max);
    }

    /// Forgets the sessions of all nodes.
    pub(crate) fn forget_all(&mut self) {
        self.by_id.clear();
    }

    /// Forgets the sessions of a node.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        self.by_id.retain(|_, session| session.node != node);
    }

    fn shrink_to(&mut self, count: usize) {
        while count < self.by_id.len() {
            let oldest = self.by_id.iter().min_by_key(|(_, session)| session.last_use);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
            self.by_id.remove(&oldest);
        }
    }

    fn session(&mut self, id: i32, epoch: i32) -> Result<&mut Session, ResponseError> {
        let session = self.by_id.get_mut(&id).filter(|session| session.epoch == epoch);
        session.ok_or(ResponseError::InvalidFetchSessionEpoch)
    }

    /// Returns the id of a new session, [`NO_SESSION`] if there may be none.
    fn create(
        &mut self,
        node: NodeId,
        names_by_id: bool,
        partitions: &[(&AskedPartition, PartitionData)],
    ) -> i32 {
        if self.sessions_max == 0 {
            return NO_SESSION;
        }
        self.shrink_to(self.sessions_max - 1);
        self.uses += 1;
        self.last_id = if self.last_id == i32::MAX { 1 } else { self.last_id + 1 };
        let mut session = Session {
            node,
            epoch: INITIAL_EPOCH + 1,
            names_by_id,
            last_use: self.uses,
            by_key: BTreeMap::new(),
            order: BTreeMap::new(),
            next_turn: 0,
        };
        for (asked, data) in partitions {
            session.ask(asked);
            session.is_news(&asked.key(), data);
        }
        self.by_id.insert(self.last_id, session);
        self.last_id
    }
}

impl Session {
    /// Adds a partition, or changes what is asked of it.
    fn ask(&mut self, partition: &AskedPartition) {
        let key = partition.key();
        if let Some(cached) = self.by_key.get_mut(&key) {
            cached.partition.asked = partition.asked.clone();
            return;
        }
        // A copy of the name does not keep the buffer of the request.
        let topic = TopicName(StrBytes::from_string(partition.topic.to_string()));
        let cached = Cached {
            turn: self.next_turn,
            partition: AskedPartition { topic, ..partition.clone() },
            high_watermark: NO_OFFSET,
            log_start_offset: NO_OFFSET,
        };
        self.order.insert(self.next_turn, key.clone());
        self.next_turn += 1;
        self.by_key.insert(key, cached);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(cached) = self.by_key.remove(key) {
            self.order.remove(&cached.turn);
        }
    }

    fn in_order(&self) -> Vec<AskedPartition> {
        let cached = self.order.values().filter_map(|key| self.by_key.get(key));
        cached.map(|cached| cached.partition.clone()).collect()
    }

    /// Returns whether an answer has to hold what was read of a partition, and keeps what the client learns by it.
    fn is_news(&mut self, key: &Key, data: &PartitionData) -> bool {
        let Some(cached) = self.by_key.get_mut(key) else { return false };
        let has_error = data.error_code != 0;
        let is_news = data.records.as_ref().is_some_and(|records| !records.is_empty())
            || (cached.high_watermark != data.high_watermark)
            || (cached.log_start_offset != data.log_start_offset)
            || (0 <= data.diverging_epoch.epoch)
            || has_error;
        // Without a known offset the partition is news again when its error is gone.
        cached.high_watermark = if has_error { NO_OFFSET } else { data.high_watermark };
        cached.log_start_offset = data.log_start_offset;
        if is_news {
            self.order.remove(&cached.turn);
            cached.turn = self.next_turn;
            self.order.insert(self.next_turn, key.clone());
            self.next_turn += 1;
        }
        is_news
    }
}

fn asked_partitions(request: &FetchRequest) -> Vec<AskedPartition> {
    let of_topic = |topic: &FetchTopic| {
        let (name, topic_id) = (topic.topic.clone(), topic.topic_id);
        let asked = topic.partitions.clone().into_iter();
        asked.map(move |asked| AskedPartition { topic: name.clone(), topic_id, asked })
    };
    request.topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests;
