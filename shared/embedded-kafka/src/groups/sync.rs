//! `SyncGroup`, Heartbeat and `OffsetCommit`: the requests of members of a generation.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::groups::group::{Group, GroupState};
use crate::groups::member::{Claim, Reply, SyncAnswer, SyncRequest};

impl Group {
    /// Handles a `SyncGroup` request, and answers it at once or when the leader has assigned.
    pub(crate) fn sync(&mut self, now: Duration, request: SyncRequest, reply: Reply<SyncAnswer>) {
        if let Err(error) = self.check_sync(&request) {
            reply.send(SyncAnswer::refused(error));
            return;
        }
        let member_id = request.claim.member_id;
        match self.state {
            GroupState::Empty | GroupState::PreparingRebalance => {
                reply.send(SyncAnswer::refused(ResponseError::RebalanceInProgress));
            }
            GroupState::CompletingRebalance => {
                self.note_synced(&member_id);
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.awaiting_sync = Some(reply);
                }
                if self.is_leader(&member_id) {
                    self.assign(now, request.assignments);
                }
            }
            GroupState::Stable => {
                self.note_synced(&member_id);
                let assignment = self
                    .members
                    .get(&member_id)
                    .map(|member| member.stored.assignment.clone())
                    .unwrap_or_default();
                reply.send(self.assigned(assignment));
            }
        }
    }

    /// Handles a heartbeat.
    ///
    /// # Errors
    /// As [`Group::check_member`]; `ILLEGAL_GENERATION`; `REBALANCE_IN_PROGRESS` when the member has to join again.
    pub(crate) fn heartbeat(&mut self, now: Duration, claim: &Claim) -> Result<(), ResponseError> {
        self.check_claim(claim)?;
        self.hear(now, &claim.member_id);
        match self.state {
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// Checks that a client may commit offsets; a member's commit extends its session.
    ///
    /// Only a group without members accepts commits without a generation (−1): those of tools and of consumers that assign
    /// partitions to themselves.
    ///
    /// # Errors
    /// As [`Group::check_member`]; `ILLEGAL_GENERATION`; `REBALANCE_IN_PROGRESS` while the group waits for the
    /// assignment. During `PreparingRebalance` members commit the work of the old generation.
    pub(crate) fn check_commit(
        &mut self,
        now: Duration,
        claim: &Claim,
    ) -> Result<(), ResponseError> {
        let has_generation = 0 <= claim.generation_id;
        if !has_generation && (self.state == GroupState::Empty) {
            return Ok(());
        }
        if !has_generation && claim.member_id.is_empty() && claim.group_instance_id.is_none() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_claim(claim)?;
        match self.state {
            GroupState::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            GroupState::Empty | GroupState::PreparingRebalance | GroupState::Stable => {
                self.hear(now, &claim.member_id);
                Ok(())
            }
        }
    }

    fn check_claim(&self, claim: &Claim) -> Result<(), ResponseError> {
        self.check_member(&claim.member_id, claim.group_instance_id.as_deref())?;
        if claim.generation_id == self.generation_id {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ResponseError> {
        self.check_claim(&request.claim)?;
        let contradicts = |said: &Option<String>, known: &Option<String>| {
            said.is_some() && known.is_some() && (said != known)
        };
        if contradicts(&request.protocol_type, &self.protocol_type)
            || contradicts(&request.protocol_name, &self.protocol_name)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Gives every member its assignment from the leader, or an empty one.
    fn assign(&mut self, now: Duration, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        self.state = GroupState::Stable;
        let answer = self.assigned(Bytes::new());
        for (id, member) in &mut self.members {
            member.stored.assignment = assignments.remove(id).unwrap_or_default();
            let assignment = member.stored.assignment.clone();
            if member.answer_sync(SyncAnswer { assignment, ..answer.clone() }) {
                member.heard(now);
            }
        }
        self.store();
    }

    fn assigned(&self, assignment: Bytes) -> SyncAnswer {
        SyncAnswer {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }

    fn note_synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn hear(&mut self, now: Duration, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.heard(now);
        }
    }
}
