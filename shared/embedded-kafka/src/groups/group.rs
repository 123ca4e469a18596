//! The state of one group: members, leader, generation, and the transitions between its states.
//!
//! ```text
//!            first member joins              all have joined, or the rebalance timeout
//!   Empty ───────────────────▶ PreparingRebalance ───────────────────▶ CompletingRebalance
//!     ▲                          ▲   │      ▲                            │      │
//!     └──────── all have left ───┼───┘      └── a member joins or goes ──┘      │ the leader
//!                                └──── a member joins, changes or goes ─── Stable ◀┘ assigns
//! ```
//!
//! Joining is in [`super::join`], assigning in [`super::sync`], timeouts in [`super::timers`], committed offsets in
//! [`super::offsets`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;

use crate::groups::member::{JoinAnswer, JoinedMember, Member, Protocol, StoredMember, SyncAnswer};
use crate::groups::offsets::Offsets;

/// The states of a group, with the names `DescribeGroups` uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// No members; offsets may be there.
    #[default]
    Empty,
    /// Waiting for all members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// Returns the name clients know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(super) state: GroupState,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Member ids by the id of the static member.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids from `MEMBER_ID_REQUIRED` responses, and when they expire.
    pub(super) pending_members: BTreeMap<String, Duration>,
    /// Members that have joined the generation and have not sent `SyncGroup`.
    pub(super) pending_sync: BTreeSet<String>,
    pub(super) join_deadline: Option<Duration>,
    pub(super) sync_deadline: Option<Duration>,
    pub(crate) offsets: Offsets,
    stored: StoredGroup,
}

/// The parts of a group that a broker writes into `__consumer_offsets`, and so has after a restart.
#[derive(Debug, Clone, Default)]
struct StoredGroup {
    generation_id: i32,
    protocol_type: Option<String>,
    protocol_name: Option<String>,
    leader: Option<String>,
    members: Vec<(String, StoredMember, Protocol)>,
}

impl Group {
    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    /// Returns the protocol type, `None` for a group that has only committed offsets.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// Returns the protocol selected for the generation.
    pub(crate) fn protocol_name(&self) -> Option<&str> {
        self.protocol_name.as_deref()
    }

    /// Returns the members in the order of their ids.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// Checks that a request comes from a member.
    ///
    /// # Errors
    /// `FENCED_INSTANCE_ID` when another member has replaced the static member, `UNKNOWN_MEMBER_ID`.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if current != member_id => {
                    return Err(ResponseError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Returns whether the group keeps a common protocol with a member that offers `protocols`.
    pub(super) fn can_agree_on(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        (self.protocol_type.as_deref() == Some(protocol_type))
            && protocols.iter().any(|protocol| self.all_offer(&protocol.name))
    }

    pub(super) fn all_have_joined(&self) -> bool {
        self.pending_members.is_empty()
            && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    pub(super) fn add(&mut self, member_id: String, protocol_type: String, member: Member) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        if let Some(instance) = &member.stored.group_instance_id {
            self.static_members.insert(instance.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.pending_members.remove(&member_id);
        self.members.insert(member_id, member);
    }

    pub(super) fn remove(&mut self, member_id: &str) {
        if let Some(member) = self.members.remove(member_id)
            && let Some(instance) = member.stored.group_instance_id
        {
            self.static_members.remove(&instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    /// Elects a joined member as leader unless the leader has joined, and returns whether the group has a joined member.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let successor = self.members.iter().find(|(_, member)| has_joined(member));
        match successor.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Returns the longest rebalance timeout of the members.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.stored.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Begins the next generation: `CompletingRebalance` with members, else `Empty`.
    pub(super) fn begin_generation(&mut self) {
        self.generation_id += 1;
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.state = GroupState::Empty;
        } else {
            self.protocol_name = self.select_protocol();
            self.state = GroupState::CompletingRebalance;
        }
    }

    /// Returns the protocol that most members prefer among the common ones.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let preferred = member.protocols.iter().find(|protocol| self.all_offer(&protocol.name));
            if let Some(protocol) = preferred {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// Returns a member's answer for the current generation; only the leader's lists the members.
    pub(super) fn joined(&self, member_id: &str) -> JoinAnswer {
        let members = if self.is_leader(member_id) { self.joined_members() } else { Vec::new() };
        JoinAnswer {
            error: None,
            member_id: member_id.to_owned(),
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members,
        }
    }

    /// Stores the group for a restart of the broker.
    pub(super) fn store(&mut self) {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        let stored_member = |(id, member): (&String, &Member)| {
            let offered = Protocol { name: protocol.clone(), metadata: member.metadata(&protocol) };
            (id.clone(), member.stored.clone(), offered)
        };
        self.stored = StoredGroup {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(stored_member).collect(),
        };
    }

    /// Answers all waiting requests with an error.
    pub(super) fn refuse_waiting(&mut self, error: ResponseError) {
        for (member_id, member) in &mut self.members {
            member.answer_join(|| JoinAnswer::refused(error, member_id.as_str()));
            member.answer_sync(SyncAnswer::refused(error));
        }
    }

    /// Returns the group after a restart of the broker: as stored last, with new sessions.
    pub(crate) fn restarted(self, now: Duration) -> Self {
        let stored = self.stored;
        let state = if stored.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        let mut group = Self {
            state,
            generation_id: stored.generation_id,
            protocol_type: stored.protocol_type.clone(),
            protocol_name: stored.protocol_name.clone(),
            leader: stored.leader.clone(),
            offsets: self.offsets,
            ..Self::default()
        };
        for (id, member, protocol) in &stored.members {
            if let Some(instance) = &member.group_instance_id {
                group.static_members.insert(instance.clone(), id.clone());
            }
            group
                .members
                .insert(id.clone(), Member::restored(member.clone(), protocol.clone(), now));
        }
        group.stored = stored;
        group
    }

    fn all_offer(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.offers(protocol))
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let joined = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            group_instance_id: member.stored.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }
}
