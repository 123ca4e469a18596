//! `JoinGroup` and `LeaveGroup`: members come and go, rebalances begin and end.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tracing::info;

use crate::groups::group::{Group, GroupState};
use crate::groups::member::{JoinAbilities, JoinAnswer, JoinRequest, Member, Reply, SyncAnswer};

/// How long the group keeps a new member whose `JoinGroup` request waits.
///
/// The member does not know its id yet and sends no heartbeats. Without this limit, the member of a closed connection
/// would stay.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_mins(5);
/// The shortest wait of a rebalance, for members with a rebalance timeout of 0.
const REBALANCE_WAIT_MIN: Duration = Duration::from_millis(1);

impl Group {
    /// Handles a `JoinGroup` request, and answers it at once or after the rebalance.
    pub(crate) fn join(&mut self, now: Duration, request: JoinRequest, reply: Reply<JoinAnswer>) {
        if !self.can_agree_on(&request.protocol_type, &request.protocols) {
            let error = ResponseError::InconsistentGroupProtocol;
            reply.send(JoinAnswer::refused(error, request.member_id));
        } else if request.member_id.is_empty() {
            self.join_as_new_member(now, request, reply);
        } else if self.pending_members.contains_key(&request.member_id) {
            let member_id = request.member_id.clone();
            self.add_member(now, member_id, request, reply);
        } else {
            let instance = request.group_instance_id.as_deref();
            match self.check_member(&request.member_id, instance) {
                Ok(()) => self.rejoin(now, request, reply),
                Err(error) => reply.send(JoinAnswer::refused(error, request.member_id)),
            }
        }
    }

    /// Removes a member that leaves.
    ///
    /// Administrators send an empty `member_id` to remove the static member `group_instance_id`.
    ///
    /// # Errors
    /// As [`Group::check_member`].
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if member_id.is_empty() {
            let current = group_instance_id.and_then(|id| self.static_members.get(id)).cloned();
            let member_id = current.ok_or(ResponseError::UnknownMemberId)?;
            self.remove_member(&member_id);
            return Ok(());
        }
        if self.pending_members.remove(member_id).is_some() {
            return Ok(());
        }
        self.check_member(member_id, group_instance_id)?;
        self.remove_member(member_id);
        Ok(())
    }

    /// Begins or ends a rebalance after members have left.
    pub(crate) fn rebalance_without_the_gone(&mut self, now: Duration) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(now, "a member has left");
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_have_joined(now),
            GroupState::Empty => {}
        }
    }

    /// Removes a member, and answers its waiting `JoinGroup` request.
    pub(super) fn remove_member(&mut self, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.answer_join(|| JoinAnswer::refused(ResponseError::UnknownMemberId, ""));
        }
        self.remove(member_id);
    }

    fn join_as_new_member(
        &mut self,
        now: Duration,
        request: JoinRequest,
        reply: Reply<JoinAnswer>,
    ) {
        let id_prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id = format!("{id_prefix}-{}", request.fresh_id);
        let known_instance = request
            .group_instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance))
            .cloned();
        if let Some(old_id) = known_instance {
            self.replace_static_member(now, &old_id, &member_id, request, reply);
        } else if request.group_instance_id.is_none() && request.abilities.joins_with_given_id {
            self.pending_members.insert(member_id.clone(), now + request.session_timeout);
            reply.send(JoinAnswer::refused(ResponseError::MemberIdRequired, member_id));
        } else {
            self.add_member(now, member_id, request, reply);
        }
    }

    fn add_member(
        &mut self,
        now: Duration,
        member_id: String,
        request: JoinRequest,
        reply: Reply<JoinAnswer>,
    ) {
        let protocol_type = request.protocol_type.clone();
        let mut member = Member::joining(request, reply);
        member.session_ends = Some(now + NEW_MEMBER_JOIN_TIMEOUT);
        self.add(member_id, protocol_type, member);
        self.prepare_rebalance_or_complete_join(now, "a member has joined");
    }

    /// Handles a `JoinGroup` request of a member.
    fn rejoin(&mut self, now: Duration, request: JoinRequest, reply: Reply<JoinAnswer>) {
        let member_id = request.member_id.clone();
        let is_unchanged = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            // A member that joins again unchanged may have missed the answer and gets it again. The leader of a stable
            // group joins again to assign anew, for instance because a topic has more partitions.
            GroupState::CompletingRebalance if is_unchanged => reply.send(self.joined(&member_id)),
            GroupState::Stable if is_unchanged && !self.is_leader(&member_id) => {
                reply.send(self.joined(&member_id));
            }
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => {
                self.update_member(&member_id, request, reply);
                self.prepare_rebalance_or_complete_join(now, "a member has joined again");
            }
            GroupState::Empty => {
                reply.send(JoinAnswer::refused(ResponseError::UnknownMemberId, member_id));
            }
        }
    }

    fn update_member(&mut self, member_id: &str, request: JoinRequest, reply: Reply<JoinAnswer>) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.protocols = request.protocols;
            member.stored.session_timeout = request.session_timeout;
            member.stored.rebalance_timeout = request.rebalance_timeout;
            member.awaiting_join = Some(reply);
        }
    }

    /// Replaces a static member that has restarted.
    ///
    /// The old member is fenced. In a stable group the new member gets the old one's assignment without a rebalance, unless
    /// it changes the selected protocol (KIP-345).
    fn replace_static_member(
        &mut self,
        now: Duration,
        old_id: &str,
        new_id: &str,
        request: JoinRequest,
        reply: Reply<JoinAnswer>,
    ) {
        let leader_before = self.leader.clone();
        let abilities = request.abilities;
        self.move_static_member(now, old_id, new_id);
        self.update_member(new_id, request, reply);
        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol_name => {
                self.store();
                self.answer_restarted_member(new_id, leader_before, abilities);
            }
            GroupState::Stable => {
                self.prepare_rebalance(now, "a static member changed the selected protocol");
            }
            GroupState::CompletingRebalance => {
                self.prepare_rebalance(now, "a static member has a new id");
            }
            GroupState::PreparingRebalance | GroupState::Empty => {
                self.complete_join_if_all_have_joined(now);
            }
        }
    }

    fn move_static_member(&mut self, now: Duration, old_id: &str, new_id: &str) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        member.answer_join(|| JoinAnswer::refused(ResponseError::FencedInstanceId, old_id));
        member.answer_sync(SyncAnswer::refused(ResponseError::FencedInstanceId));
        member.is_new = false;
        member.heard(now);
        if let Some(instance) = &member.stored.group_instance_id {
            self.static_members.insert(instance.clone(), new_id.to_owned());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }

    fn answer_restarted_member(
        &mut self,
        member_id: &str,
        leader_before: Option<String>,
        abilities: JoinAbilities,
    ) {
        let mut answer = self.joined(member_id);
        if abilities.skips_assignment {
            answer.skip_assignment = self.is_leader(member_id);
        } else {
            // A client that cannot skip the assignment must not become the leader: it would assign to the old member ids.
            answer.leader = leader_before.unwrap_or_default();
            answer.members = Vec::new();
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.answer_join(|| answer);
        }
    }

    fn prepare_rebalance_or_complete_join(&mut self, now: Duration, reason: &str) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(now, reason);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_have_joined(now),
        }
    }

    /// Begins a rebalance; members that wait for an assignment have to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Duration, reason: &str) {
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.stored.assignment = Bytes::new();
                if member.answer_sync(SyncAnswer::refused(ResponseError::RebalanceInProgress)) {
                    member.heard(now);
                }
            }
        }
        self.sync_deadline = None;
        self.pending_sync.clear();
        let was_empty = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        info!(generation = self.generation_id, reason, "group prepares a rebalance");
        if was_empty || self.all_have_joined() {
            self.complete_join(now);
        } else {
            self.wait_for_members(now);
        }
    }

    /// Ends the join phase early when all members have joined.
    pub(super) fn complete_join_if_all_have_joined(&mut self, now: Duration) {
        if (self.state == GroupState::PreparingRebalance) && self.all_have_joined() {
            self.complete_join(now);
        }
    }

    /// Ends the join phase: removes dynamic members that have not joined, and gives the others the new generation.
    pub(super) fn complete_join(&mut self, now: Duration) {
        self.join_deadline = None;
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| {
                member.awaiting_join.is_none() && member.stored.group_instance_id.is_none()
            })
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in missing {
            self.remove(&member_id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left and none has joined: the group waits until their sessions end.
            self.wait_for_members(now);
            return;
        }
        self.begin_generation();
        info!(
            generation = self.generation_id,
            members = self.members.len(),
            "group has a generation"
        );
        if self.members.is_empty() {
            self.store();
            return;
        }
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let answer = self.joined(&member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.answer_join(|| answer);
                member.heard(now);
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        self.sync_deadline = Some(now + self.rebalance_timeout());
    }

    fn wait_for_members(&mut self, now: Duration) {
        self.join_deadline = Some(now + self.rebalance_timeout().max(REBALANCE_WAIT_MIN));
    }
}
