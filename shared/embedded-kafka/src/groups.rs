//! The group coordinator: the classic consumer group protocol, without sockets and clocks.
//!
//! Every call takes `now`, the time since the broker started. `JoinGroup` waits until all members have joined and
//! `SyncGroup` until the leader has assigned: the group keeps their [`Reply`], and a later call answers them.
//! The owner calls [`Groups::expire`] at [`Groups::next_deadline`].
//!
//! It behaves like Apache Kafka's coordinator; see KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member
//! ids) and KIP-814 (static leaders).

pub(crate) mod group;
mod join;
pub(crate) mod member;
pub(crate) mod offsets;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;

use crate::groups::group::Group;
use crate::groups::member::{Claim, JoinAnswer, JoinRequest, Reply, SyncAnswer, SyncRequest};
use crate::groups::offsets::{CommittedOffset, METADATA_CHARS_MAX};

/// The longest session timeout that a member may ask for.
pub(crate) const SESSION_TIMEOUT_MAX: Duration = Duration::from_mins(30);

#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSettings {
    /// The shortest session timeout that a member may ask for.
    pub(crate) min_session_timeout: Duration,
}

/// A member that leaves a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// The member's id; empty to remove a static member.
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
}

/// An `OffsetCommit` request, with offsets for partitions that exist.
#[derive(Debug, Clone)]
pub(crate) struct CommitRequest {
    pub(crate) group_id: String,
    pub(crate) claim: Claim,
    /// The offsets by topic and partition.
    pub(crate) offsets: Vec<(String, i32, CommittedOffset)>,
    /// The error for a generation of an unknown group, which depends on the version of the request.
    pub(crate) no_group_error: ResponseError,
}

/// All groups of the broker.
#[derive(Debug)]
pub(crate) struct Groups {
    settings: GroupSettings,
    /// `offset.metadata.max.bytes`.
    pub(crate) metadata_chars_max: usize,
    by_id: BTreeMap<String, Group>,
}

impl Groups {
    /// Creates a coordinator without groups.
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self { settings, metadata_chars_max: METADATA_CHARS_MAX, by_id: BTreeMap::new() }
    }

    /// Returns the coordinator after a restart of the broker.
    pub(crate) fn restarted(self, now: Duration) -> Self {
        let restarted = |(id, group): (String, Group)| (id, group.restarted(now));
        let by_id = self.by_id.into_iter().map(restarted).collect();
        Self { by_id, ..self }
    }

    /// Reloads a group as its next coordinator does. Requests that wait get `NOT_COORDINATOR`.
    pub(crate) fn reload(&mut self, now: Duration, group_id: &str) {
        if let Some(mut group) = self.by_id.remove(group_id) {
            group.refuse_waiting(ResponseError::NotCoordinator);
            self.by_id.insert(group_id.to_owned(), group.restarted(now));
        }
    }

    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.by_id.get(group_id)
    }

    /// Returns the time of the next timer.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.by_id.values().filter_map(Group::next_deadline).min()
    }

    /// Runs all timers that are due at `now`.
    pub(crate) fn expire(&mut self, now: Duration) {
        for group in self.by_id.values_mut() {
            group.expire(now);
        }
    }

    /// Handles a `JoinGroup` request; the reply may come later.
    pub(crate) fn join(&mut self, now: Duration, request: JoinRequest, reply: Reply<JoinAnswer>) {
        self.expire(now);
        let allowed = self.settings.min_session_timeout..=SESSION_TIMEOUT_MAX;
        if request.group_id.is_empty() {
            let error = ResponseError::InvalidGroupId;
            reply.send(JoinAnswer::refused(error, request.member_id));
        } else if !allowed.contains(&request.session_timeout) {
            let error = ResponseError::InvalidSessionTimeout;
            reply.send(JoinAnswer::refused(error, request.member_id));
        } else if request.member_id.is_empty() {
            self.get_or_create(&request.group_id).join(now, request, reply);
        } else if let Some(group) = self.by_id.get_mut(&request.group_id) {
            group.join(now, request, reply);
        } else {
            let error = ResponseError::UnknownMemberId;
            reply.send(JoinAnswer::refused(error, request.member_id));
        }
    }

    /// Handles a `SyncGroup` request; the reply may come later.
    pub(crate) fn sync(&mut self, now: Duration, request: SyncRequest, reply: Reply<SyncAnswer>) {
        self.expire(now);
        match self.find(&request.group_id) {
            Ok(group) => group.sync(now, request, reply),
            Err(error) => reply.send(SyncAnswer::refused(error)),
        }
    }

    /// Handles a heartbeat.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID`, `UNKNOWN_MEMBER_ID`, and as [`Group::heartbeat`].
    pub(crate) fn heartbeat(
        &mut self,
        now: Duration,
        group_id: &str,
        claim: &Claim,
    ) -> Result<(), ResponseError> {
        self.expire(now);
        self.find(group_id)?.heartbeat(now, claim)
    }

    /// Removes members and returns the error of each.
    ///
    /// # Errors
    /// `INVALID_GROUP_ID` for the request as a whole.
    pub(crate) fn leave(
        &mut self,
        now: Duration,
        group_id: &str,
        leaving: &[Leaving],
    ) -> Result<Vec<Option<ResponseError>>, ResponseError> {
        self.expire(now);
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let Some(group) = self.by_id.get_mut(group_id) else {
            return Ok(vec![Some(ResponseError::UnknownMemberId); leaving.len()]);
        };
        let results: Vec<_> = leaving
            .iter()
            .map(|member| group.leave(&member.member_id, member.group_instance_id.as_deref()).err())
            .collect();
        if results.iter().any(Option::is_none) {
            group.rebalance_without_the_gone(now);
        }
        Ok(results)
    }

    /// Commits offsets and returns the error of each; a commit without a generation creates the group.
    ///
    /// # Errors
    /// As [`Group::check_commit`], and `no_group_error` of the request, for the request as a whole.
    pub(crate) fn commit(
        &mut self,
        now: Duration,
        request: CommitRequest,
    ) -> Result<Vec<Option<ResponseError>>, ResponseError> {
        self.expire(now);
        if !self.by_id.contains_key(&request.group_id) && (0 <= request.claim.generation_id) {
            return Err(request.no_group_error);
        }
        let metadata_chars_max = self.metadata_chars_max;
        let group = self.get_or_create(&request.group_id);
        group.check_commit(now, &request.claim)?;
        let commit = |(topic, partition, committed): (String, i32, CommittedOffset)| {
            if !committed.fits(metadata_chars_max) {
                return Some(ResponseError::OffsetMetadataTooLarge);
            }
            group.offsets.commit(&topic, partition, committed);
            None
        };
        Ok(request.offsets.into_iter().map(commit).collect())
    }

    /// Removes all committed offsets of a topic.
    pub(crate) fn delete_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.delete_topic(topic);
        }
    }

    fn get_or_create(&mut self, group_id: &str) -> &mut Group {
        self.by_id.entry(group_id.to_owned()).or_default()
    }

    fn find(&mut self, group_id: &str) -> Result<&mut Group, ResponseError> {
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        self.by_id.get_mut(group_id).ok_or(ResponseError::UnknownMemberId)
    }
}
