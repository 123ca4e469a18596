//! The timers of a group: ends of sessions, of pending member ids and of the phases of a rebalance.

use std::time::Duration;

use tracing::info;

use crate::groups::group::{Group, GroupState};

/// A timer of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The session of a member ends.
    Session(String),
    /// An id from a `MEMBER_ID_REQUIRED` response expires.
    PendingMember(String),
    /// The wait for `JoinGroup` requests ends.
    Join,
    /// The wait for `SyncGroup` requests ends.
    Sync,
}

impl Group {
    /// Returns the time of the next timer.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.next_due().map(|(at, _)| at)
    }

    /// Runs all timers that are due at `now`, the oldest first.
    pub(crate) fn expire(&mut self, now: Duration) {
        while let Some((at, due)) = self.next_due() {
            if now < at {
                break;
            }
            match due {
                Due::Session(member_id) => self.end_session(now, &member_id),
                Due::PendingMember(member_id) => {
                    self.pending_members.remove(&member_id);
                    self.complete_join_if_all_have_joined(now);
                }
                Due::Join => self.complete_join(now),
                Due::Sync => self.end_sync_phase(now),
            }
        }
    }

    fn next_due(&self) -> Option<(Duration, Due)> {
        let sessions = self.members.iter().filter_map(|(id, member)| {
            member.session_ends.map(|at| (at, Due::Session(id.clone())))
        });
        let pending =
            self.pending_members.iter().map(|(id, until)| (*until, Due::PendingMember(id.clone())));
        let join = self.join_deadline.map(|at| (at, Due::Join));
        let sync = self.sync_deadline.map(|at| (at, Due::Sync));
        sessions.chain(pending).chain(join).chain(sync).min()
    }

    fn end_session(&mut self, now: Duration, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.session_ends = None;
        if member.is_excused() {
            return;
        }
        info!(member_id, "removing a member whose session has ended");
        self.remove_member(member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(now, "the session of a member has ended");
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_have_joined(now),
            GroupState::Empty => {}
        }
    }

    /// Removes the members that have not sent `SyncGroup` within the rebalance timeout.
    fn end_sync_phase(&mut self, now: Duration) {
        self.sync_deadline = None;
        match self.state {
            GroupState::CompletingRebalance | GroupState::Stable => {
                for member_id in std::mem::take(&mut self.pending_sync) {
                    info!(member_id, "removing a member that has not fetched its assignment");
                    self.remove_member(&member_id);
                }
                self.prepare_rebalance(now, "a member has not fetched its assignment");
            }
            GroupState::Empty | GroupState::PreparingRebalance => {}
        }
    }
}
