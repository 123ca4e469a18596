//! The coordinator, call by call, with a simulated time.

mod commits;
mod joining;
mod restarts;
mod static_members;
mod timeouts;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::groups::group::GroupState;
use crate::groups::member::{
    Claim, JoinAbilities, JoinAnswer, JoinRequest, Protocol, Reply, SyncAnswer, SyncRequest,
};
use crate::groups::offsets::CommittedOffset;
use crate::groups::{CommitRequest, GroupSettings, Groups, Leaving};

const GROUP: &str = "order-processor-group";
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A moment less than the session timeout.
const ALMOST_A_SESSION: Duration = Duration::from_millis(9_999);
const MOMENT: Duration = Duration::from_millis(1);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);

/// A `JoinGroup` or `SyncGroup` request in flight.
struct Pending<T>(oneshot::Receiver<T>);

impl<T> Pending<T> {
    /// Returns the answer.
    #[track_caller]
    fn answer(&mut self) -> T {
        self.0.try_recv().expect("the request still waits")
    }

    #[track_caller]
    fn is_waiting(&mut self) {
        let state = self.0.try_recv();
        assert!(
            matches!(state, Err(oneshot::error::TryRecvError::Empty)),
            "the request was answered"
        );
    }
}

/// A coordinator and its time.
struct Lab {
    groups: Groups,
    now: Duration,
    ids: u128,
}

impl Lab {
    fn new() -> Self {
        let groups = Groups::new(GroupSettings { min_session_timeout: Duration::from_secs(6) });
        Self { groups, now: Duration::ZERO, ids: 0 }
    }

    /// Advances the time, and runs every timer when it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.groups.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.groups.expire(self.now);
        }
        self.now = until;
    }

    fn request(&mut self, member_id: &str) -> JoinRequest {
        self.ids += 1;
        JoinRequest {
            group_id: GROUP.to_owned(),
            member_id: member_id.to_owned(),
            group_instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: REBALANCE_TIMEOUT,
            protocol_type: "consumer".to_owned(),
            protocols: protocols(&["range"]),
            fresh_id: Uuid::from_u128(self.ids),
            abilities: JoinAbilities { joins_with_given_id: true, skips_assignment: true },
        }
    }

    fn static_request(&mut self, member_id: &str, instance: &str) -> JoinRequest {
        let group_instance_id = Some(instance.to_owned());
        JoinRequest { group_instance_id, ..self.request(member_id) }
    }

    fn join(&mut self, request: JoinRequest) -> Pending<JoinAnswer> {
        let (reply, answer) = Reply::channel();
        self.groups.join(self.now, request, reply);
        Pending(answer)
    }

    fn rejoin(&mut self, member_id: &str) -> Pending<JoinAnswer> {
        let request = self.request(member_id);
        self.join(request)
    }

    /// Requests an id for a new member and sends its second `JoinGroup` request.
    fn join_new(&mut self) -> (String, Pending<JoinAnswer>) {
        let given = self.rejoin("").answer();
        assert_eq!(given.error, Some(ResponseError::MemberIdRequired));
        let pending = self.rejoin(&given.member_id);
        (given.member_id, pending)
    }

    fn sync(&mut self, claim: &Claim, assignments: &[(&str, &str)]) -> Pending<SyncAnswer> {
        let (reply, answer) = Reply::channel();
        let assignments = assignments
            .iter()
            .map(|(id, assignment)| {
                ((*id).to_owned(), Bytes::copy_from_slice(assignment.as_bytes()))
            })
            .collect();
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            claim: claim.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments,
        };
        self.groups.sync(self.now, request, reply);
        Pending(answer)
    }

    fn heartbeat(&mut self, claim: &Claim) -> Result<(), ResponseError> {
        self.groups.heartbeat(self.now, GROUP, claim)
    }

    fn leave(&mut self, member_id: &str, instance: Option<&str>) -> Option<ResponseError> {
        let leaving = Leaving {
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
        };
        self.groups.leave(self.now, GROUP, &[leaving]).unwrap()[0]
    }

    fn commit(&mut self, claim: &Claim) -> Result<(), ResponseError> {
        self.commit_offset(claim, 7, "").map(|error| assert_eq!(error, None))
    }

    fn commit_offset(
        &mut self,
        claim: &Claim,
        offset: i64,
        metadata: &str,
    ) -> Result<Option<ResponseError>, ResponseError> {
        let committed = CommittedOffset { offset, leader_epoch: 0, metadata: metadata.to_owned() };
        let request = CommitRequest {
            group_id: GROUP.to_owned(),
            claim: claim.clone(),
            offsets: vec![("orders".to_owned(), 0, committed)],
            no_group_error: ResponseError::GroupIdNotFound,
        };
        self.groups.commit(self.now, request).map(|results| results[0])
    }

    #[track_caller]
    fn is_in(&self, state: GroupState) {
        assert_eq!(self.groups.get(GROUP).map(crate::groups::group::Group::state), Some(state));
    }

    /// Forms a stable group and returns its members, the leader first.
    fn stable(&mut self, size: usize) -> Vec<Claim> {
        let mut ids = Vec::new();
        for _ in 0..size {
            let (id, _held) = self.join_new();
            ids.push(id);
        }
        // All members join the rebalance that the last one began.
        let mut joins: Vec<_> = ids.iter().map(|id| self.rejoin(id)).collect();
        let mut claims: Vec<Claim> =
            joins.iter_mut().map(|join| claim_of(&join.answer())).collect();
        let leader = joins_leader(self);
        claims.sort_by_key(|claim| claim.member_id != leader);
        let assignments: Vec<(&str, &str)> =
            claims.iter().map(|claim| (claim.member_id.as_str(), "work")).collect();
        for claim in claims.iter().rev() {
            let own = if claim.member_id == leader { &assignments[..] } else { &[] };
            drop(self.sync(claim, own));
        }
        self.is_in(GroupState::Stable);
        claims
    }
}

fn joins_leader(lab: &Lab) -> String {
    lab.groups.get(GROUP).and_then(|group| group.leader.clone()).unwrap()
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol = |name: &&str| Protocol {
        name: (*name).to_owned(),
        metadata: Bytes::copy_from_slice(format!("for {name}").as_bytes()),
    };
    names.iter().map(protocol).collect()
}

#[track_caller]
fn claim_of(answer: &JoinAnswer) -> Claim {
    assert_eq!(answer.error, None);
    claim(&answer.member_id, answer.generation_id)
}

fn claim(member_id: &str, generation_id: i32) -> Claim {
    Claim { member_id: member_id.to_owned(), group_instance_id: None, generation_id }
}

fn static_claim(member_id: &str, instance: &str, generation_id: i32) -> Claim {
    Claim { group_instance_id: Some(instance.to_owned()), ..claim(member_id, generation_id) }
}
