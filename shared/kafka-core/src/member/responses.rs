//! How a member acts on the coordinator's responses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages;

use super::event::{Event, MemberError};
use super::leading::UNKNOWN_TOPIC_MAX;
use super::requests;
use super::state::{Member, RETRY_BACKOFF, State, Unexplained};
use crate::consumer_protocol::Assignment;
use crate::error_code::{Disposition, disposition};

/// How long unexplained errors are retried before they end the membership.
pub(super) const UNEXPLAINED_MAX: Duration = Duration::from_secs(30);
/// The longest backoff between two such tries.
const UNEXPLAINED_PAUSE_MAX: Duration = Duration::from_secs(2);

impl Member {
    /// Acts on the response to a JoinGroup.
    pub fn on_join(&mut self, response: &messages::JoinGroupResponse, now: Instant) {
        if !matches!(self.state, State::Joining) {
            return;
        }
        if let Some(error) = ResponseError::try_from_code(response.error_code) {
            if disposition(error) == Disposition::MemberIdAssigned {
                self.member_id = response.member_id.to_string();
                self.state = State::Unjoined { not_before: now };
            } else {
                self.on_error("JoinGroup", error, now);
            }
            return;
        }
        self.member_id = response.member_id.to_string();
        self.generation = response.generation_id;
        self.is_leader = response.leader == response.member_id;
        let members = self.read_subscriptions(response);
        // A static leader that has restarted must not assign, but still watches the topics (KIP-814).
        if !self.is_leader || response.skip_assignment {
            self.state = State::ReadyToSync { not_before: now, assignments: Vec::new() };
            return;
        }
        self.state = State::Assigning {
            members,
            next_heartbeat: now + self.config.heartbeat_interval,
            unknown_until: now + UNKNOWN_TOPIC_MAX,
        };
    }

    /// Acts on the response to a SyncGroup.
    pub fn on_sync(&mut self, response: &messages::SyncGroupResponse, now: Instant) {
        if !matches!(self.state, State::Syncing) {
            return;
        }
        if let Some(error) = ResponseError::try_from_code(response.error_code) {
            self.on_error("SyncGroup", error, now);
            return;
        }
        self.unexplained = None;
        let Assignment { partitions, partition_counts } =
            match Assignment::decode(&response.assignment) {
                Ok(assignment) => assignment,
                Err(source) => {
                    self.stop(MemberError::Protocol { what: "the assignment", source });
                    return;
                }
            };
        if !partition_counts.is_empty() {
            self.assigned_counts = partition_counts;
        }
        let assigned = requests::partitions(partitions);
        let added: BTreeSet<_> = assigned.difference(&self.owned).cloned().collect();
        let revoked: BTreeSet<_> = self.owned.difference(&assigned).cloned().collect();
        self.owned.extend(added.iter().cloned());
        self.events.push_back(Event::Joined {
            generation: self.generation,
            is_leader: self.is_leader,
            owned: assigned.len(),
        });
        if !revoked.is_empty() {
            self.draining.clone_from(&revoked);
            self.events.push_back(Event::Revoked(revoked.clone()));
        }
        if !added.is_empty() {
            self.events.push_back(Event::Assigned(added));
        }
        // After a revocation the member joins again, so that the leader can assign the revoked partitions.
        self.state = State::Stable {
            next_heartbeat: now + self.config.heartbeat_interval,
            rejoin: !revoked.is_empty(),
        };
    }

    /// Acts on the response to a Heartbeat.
    pub fn on_heartbeat(&mut self, response: &messages::HeartbeatResponse, now: Instant) {
        self.heartbeat_in_flight = false;
        let Some(error) = ResponseError::try_from_code(response.error_code) else {
            self.unexplained = None;
            return;
        };
        match (disposition(error), &self.state) {
            (Disposition::Rejoin, State::Stable { .. }) => self.rejoin(),
            (_, State::Stable { .. } | State::Assigning { .. }) => {
                self.on_error("Heartbeat", error, now);
            }
            // A heartbeat of an earlier state says nothing about the current one.
            _ => {}
        }
    }

    /// Acts on the error code of an OffsetCommit that was sent in `generation`.
    ///
    /// An error about an earlier generation is ignored: the caller repeats the commit with the current identity.
    pub fn on_commit_error(&mut self, error: ResponseError, generation: i32, now: Instant) {
        if disposition(error) == Disposition::FindCoordinator {
            self.needs_coordinator = true;
            return;
        }
        if generation != self.generation || !matches!(self.state, State::Stable { .. }) {
            return;
        }
        match disposition(error) {
            Disposition::Fenced | Disposition::Fatal => self.on_error("OffsetCommit", error, now),
            Disposition::Rejoin
            | Disposition::Retry
            | Disposition::RetryBounded
            | Disposition::FindCoordinator
            | Disposition::MemberIdAssigned => {}
        }
    }

    fn on_error(&mut self, request: &'static str, error: ResponseError, now: Instant) {
        let again = State::Unjoined { not_before: now + RETRY_BACKOFF };
        match disposition(error) {
            Disposition::Retry => self.retry(now + RETRY_BACKOFF),
            Disposition::FindCoordinator => {
                self.needs_coordinator = true;
                self.retry(now + RETRY_BACKOFF);
            }
            Disposition::Rejoin => self.state = again,
            Disposition::Fenced => {
                // An illegal generation leaves the member id valid; an unknown member needs a new one.
                if error != ResponseError::IllegalGeneration {
                    self.member_id.clear();
                }
                self.lose_everything();
                self.state = State::Unjoined { not_before: now };
            }
            Disposition::MemberIdAssigned | Disposition::RetryBounded => {
                let Unexplained { since, pause } =
                    self.unexplained.unwrap_or(Unexplained { since: now, pause: RETRY_BACKOFF });
                if since + UNEXPLAINED_MAX <= now {
                    self.stop(MemberError::Refused { request, error });
                    return;
                }
                self.unexplained =
                    Some(Unexplained { since, pause: (pause * 2).min(UNEXPLAINED_PAUSE_MAX) });
                self.retry(now + pause);
            }
            Disposition::Fatal => {
                let identity_taken = matches!(
                    error,
                    ResponseError::FencedInstanceId | ResponseError::UnreleasedInstanceId
                );
                match self.config.instance_id.clone().filter(|_| identity_taken) {
                    Some(instance_id) => {
                        self.stop(MemberError::FencedInstance { instance_id, error });
                    }
                    None => self.stop(MemberError::Refused { request, error }),
                }
            }
        }
    }

    /// Schedules the failed request again.
    fn retry(&mut self, not_before: Instant) {
        match &mut self.state {
            State::Stable { next_heartbeat, .. } => *next_heartbeat = not_before,
            // The generation may have changed while SyncGroup was in flight, so the member joins again.
            State::Unjoined { .. }
            | State::Joining
            | State::Assigning { .. }
            | State::ReadyToSync { .. }
            | State::Syncing => self.state = State::Unjoined { not_before },
            State::Stopped => {}
        }
    }
}
