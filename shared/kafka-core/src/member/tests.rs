mod leading;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use super::responses::UNEXPLAINED_MAX;
use super::{CommitIdentity, CommitPermission, Event, Member, MemberConfig, MemberError, Request};
use crate::TopicPartition;
use crate::assignor::Assignor;
use crate::consumer_protocol::{Assignment, Subscription};

const ME: &str = "processor-1";
const LEADER: &str = "processor-0";
const INTERVAL: Duration = Duration::from_secs(1);

/// A member and its clock; the test answers as the coordinator.
struct Bench {
    member: Member,
    now: Instant,
}

fn partitions(indexes: &[i32]) -> BTreeSet<TopicPartition> {
    indexes.iter().map(|index| TopicPartition::new("orders", *index)).collect()
}

fn by_topic(indexes: &[i32]) -> BTreeMap<String, Vec<i32>> {
    if indexes.is_empty() {
        BTreeMap::new()
    } else {
        BTreeMap::from([("orders".to_owned(), indexes.to_vec())])
    }
}

fn granted(generation: i32) -> CommitPermission {
    CommitPermission::Granted(CommitIdentity { member_id: ME.to_owned(), generation })
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "an origin for a clock that only the test moves")]
    fn new(assignor: Assignor) -> Self {
        let config = MemberConfig {
            group_id: "group".to_owned(),
            topics: vec!["orders".into()],
            assignor,
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(30),
            heartbeat_interval: INTERVAL,
        };
        let now = Instant::now();
        let mut member = Member::new(config, now);
        member.on_coordinator_found();
        Self { member, now }
    }

    fn request(&mut self) -> Request {
        if let Some(due) = self.member.poll_timeout() {
            self.now = self.now.max(due);
        }
        self.member.poll_request(self.now).expect("a request is due")
    }

    fn expect_join(&mut self) -> messages::JoinGroupRequest {
        let request = self.request();
        let Request::Join(join) = request else { panic!("expected JoinGroup, not {request:?}") };
        join
    }

    fn expect_sync(&mut self) -> messages::SyncGroupRequest {
        let request = self.request();
        let Request::Sync(sync) = request else { panic!("expected SyncGroup, not {request:?}") };
        sync
    }

    fn heartbeat(&mut self, error_code: i16) {
        let request = self.request();
        assert!(matches!(request, Request::Heartbeat(_)), "expected Heartbeat, not {request:?}");
        let response = messages::HeartbeatResponse::default().with_error_code(error_code);
        self.member.on_heartbeat(&response, self.now);
    }

    fn refuse_heartbeat(&mut self, error: ResponseError) {
        let response = messages::HeartbeatResponse::default().with_error_code(error.code());
        self.member.on_heartbeat(&response, self.now);
    }

    fn answer_join(&mut self, generation: i32, leader: &'static str) {
        let response = messages::JoinGroupResponse::default()
            .with_generation_id(generation)
            .with_leader(StrBytes::from_static_str(leader))
            .with_member_id(StrBytes::from_static_str(ME));
        self.member.on_join(&response, self.now);
    }

    fn refuse_join(&mut self, error: ResponseError) {
        let response = messages::JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_member_id(StrBytes::from_static_str(ME));
        self.member.on_join(&response, self.now);
    }

    /// Answers this member's JoinGroup: it leads, and `others` joined with their metadata.
    fn lead(&mut self, others: &[(&str, &[u8])], generation: i32) {
        let response = self.expect_join_as_leader(others).with_generation_id(generation);
        self.member.on_join(&response, self.now);
    }

    fn expect_join_as_leader(&mut self, others: &[(&str, &[u8])]) -> messages::JoinGroupResponse {
        let mine = self.expect_join().protocols[0].metadata.clone();
        let member = |id: &str, metadata: Bytes| {
            messages::join_group_response::JoinGroupResponseMember::default()
                .with_member_id(StrBytes::from_string(id.to_owned()))
                .with_metadata(metadata)
        };
        let others =
            others.iter().map(|(id, metadata)| member(id, Bytes::copy_from_slice(metadata)));
        messages::JoinGroupResponse::default()
            .with_leader(StrBytes::from_static_str(ME))
            .with_member_id(StrBytes::from_static_str(ME))
            .with_members(others.chain([member(ME, mine)]).collect())
    }

    /// Passes the partition count of the topic of orders; `None` if the cluster does not know the topic.
    fn count(&mut self, partitions: Option<i32>) {
        let counts = BTreeMap::from([("orders".to_owned(), partitions)]);
        self.member.on_partition_counts(counts, self.now);
    }

    fn assigned_by_member(
        sync: &messages::SyncGroupRequest,
    ) -> BTreeMap<String, BTreeMap<String, Vec<i32>>> {
        sync.assignments
            .iter()
            .map(|assigned| {
                let assignment = Assignment::decode(&assigned.assignment).unwrap();
                (assigned.member_id.to_string(), assignment.partitions)
            })
            .collect()
    }

    fn answer_sync(&mut self, indexes: &[i32]) {
        let assignment = Assignment { partitions: by_topic(indexes), ..Assignment::default() };
        let response =
            messages::SyncGroupResponse::default().with_assignment(assignment.encode().unwrap());
        self.member.on_sync(&response, self.now);
    }

    /// Runs a rebalance that assigns `indexes`.
    fn rebalance(&mut self, generation: i32, indexes: &[i32]) {
        self.expect_join();
        self.answer_join(generation, LEADER);
        self.expect_sync();
        self.answer_sync(indexes);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.member.poll_event()).collect()
    }

    /// Stable in generation 1 with partitions 0 and 1, events read.
    fn stable(assignor: Assignor) -> Self {
        let mut bench = Self::new(assignor);
        bench.rebalance(1, &[0, 1]);
        bench.events();
        bench
    }

    /// Stable in generation 1 as its leader and only member, with `indexes` assigned, events read.
    fn leading(assignor: Assignor, indexes: &[i32]) -> Self {
        let mut bench = Self::new(assignor);
        bench.lead(&[], 1);
        bench.count(i32::try_from(indexes.len()).ok());
        bench.expect_sync();
        bench.answer_sync(indexes);
        bench.events();
        bench
    }

    fn owned_on_the_wire(request: &messages::JoinGroupRequest) -> BTreeMap<String, Vec<i32>> {
        let metadata = &request.protocols.first().expect("one protocol is offered").metadata;
        Subscription::decode(metadata).expect("our own blob").owned
    }
}

#[test]
fn a_new_member_joins_again_with_the_id_it_was_given() {
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    assert_eq!(bench.expect_join().member_id.as_str(), "");
    bench.refuse_join(ResponseError::MemberIdRequired);
    assert_eq!(bench.expect_join().member_id.as_str(), ME);
    bench.answer_join(1, LEADER);
    assert!(bench.expect_sync().assignments.is_empty());
    bench.answer_sync(&[0, 1]);
    assert_eq!(
        bench.events(),
        [
            Event::Joined { generation: 1, is_leader: false, owned: 2 },
            Event::Assigned(partitions(&[0, 1])),
        ]
    );
    assert!(bench.member.is_stable());
}

#[test]
fn a_cooperative_member_keeps_working_through_a_rebalance_and_gives_up_only_what_moves() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    assert_eq!(bench.events(), [], "nothing is revoked before the assignment is known");
    assert_eq!(Bench::owned_on_the_wire(&bench.expect_join()), by_topic(&[0, 1]));
    assert_eq!(
        bench.member.commit_permission(),
        granted(1),
        "the old generation commits while joining"
    );
    bench.answer_join(2, LEADER);
    assert_eq!(bench.member.commit_permission(), CommitPermission::Wait);
    bench.expect_sync();
    assert_eq!(bench.member.commit_permission(), CommitPermission::Wait);
    bench.answer_sync(&[0]);
    assert_eq!(bench.member.commit_permission(), granted(2));
    assert_eq!(
        bench.events(),
        [
            Event::Joined { generation: 2, is_leader: false, owned: 1 },
            Event::Revoked(partitions(&[1])),
        ]
    );

    bench.heartbeat(0);
    assert!(!bench.member.is_stable(), "a member that drains heartbeats and does not join");
    bench.member.drained(&partitions(&[1]));
    assert_eq!(Bench::owned_on_the_wire(&bench.expect_join()), by_topic(&[0]));
}

#[test]
fn an_eager_member_drains_everything_before_it_joins() {
    let mut bench = Bench::stable(Assignor::Range);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    assert_eq!(bench.events(), [Event::Revoked(partitions(&[0, 1]))]);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    assert_eq!(bench.events(), [], "one rebalance revokes once");
    bench.member.drained(&partitions(&[0]));
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    assert_eq!(bench.member.commit_permission(), granted(1));
    bench.member.drained(&partitions(&[1]));
    bench.rebalance(2, &[1]);
    assert_eq!(
        bench.events(),
        [
            Event::Joined { generation: 2, is_leader: false, owned: 1 },
            Event::Assigned(partitions(&[1])),
        ]
    );
}

#[test]
fn a_fenced_member_loses_everything_and_commits_nothing() {
    for (error, id_afterwards) in
        [(ResponseError::UnknownMemberId, ""), (ResponseError::IllegalGeneration, ME)]
    {
        let mut bench = Bench::stable(Assignor::CooperativeSticky);
        bench.heartbeat(error.code());
        assert_eq!(bench.events(), [Event::Lost(partitions(&[0, 1]))]);
        assert_eq!(bench.member.commit_permission(), CommitPermission::Denied);
        let join = bench.expect_join();
        assert_eq!(join.member_id.as_str(), id_afterwards, "{error:?}");
        assert_eq!(Bench::owned_on_the_wire(&join), by_topic(&[]));
    }
}

#[test]
fn only_errors_about_the_present_generation_take_partitions_away() {
    let fencing = [
        ResponseError::UnknownMemberId,
        ResponseError::IllegalGeneration,
        ResponseError::RebalanceInProgress,
    ];
    for error in fencing {
        let mut bench = Bench::stable(Assignor::CooperativeSticky);
        bench.member.on_commit_error(error, 0, bench.now);
        assert_eq!(bench.events(), [], "{error:?} about an earlier generation is stale");

        bench.heartbeat(ResponseError::RebalanceInProgress.code());
        bench.expect_join();
        bench.member.on_commit_error(error, 1, bench.now);
        assert_eq!(bench.events(), [], "{error:?} while joining is answered by the JoinGroup");
    }
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    bench.member.on_commit_error(ResponseError::IllegalGeneration, 1, bench.now);
    assert_eq!(bench.events(), [Event::Lost(partitions(&[0, 1]))]);
}

#[test]
fn a_lost_connection_costs_no_partition_in_any_state() {
    let mut joining = Bench::stable(Assignor::CooperativeSticky);
    joining.heartbeat(ResponseError::RebalanceInProgress.code());
    joining.expect_join();
    let mut syncing = Bench::stable(Assignor::CooperativeSticky);
    syncing.heartbeat(ResponseError::RebalanceInProgress.code());
    syncing.expect_join();
    syncing.answer_join(2, LEADER);
    syncing.expect_sync();
    for mut bench in [joining, syncing] {
        bench.member.on_disconnected(bench.now);
        assert!(bench.member.needs_coordinator());
        bench.member.on_coordinator_found();
        let join = bench.expect_join();
        assert_eq!(join.member_id.as_str(), ME);
        assert_eq!(Bench::owned_on_the_wire(&join), by_topic(&[0, 1]));
        assert_eq!(bench.events(), []);
    }
    let mut stable = Bench::stable(Assignor::CooperativeSticky);
    assert!(matches!(stable.request(), Request::Heartbeat(_)));
    stable.member.on_disconnected(stable.now);
    stable.member.on_coordinator_found();
    stable.heartbeat(0);
    assert!(stable.member.is_stable());
}

#[test]
fn an_unexplained_error_is_retried_for_30_s_with_growing_pauses() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    bench.request();
    let begun = bench.now;
    let mut tries = 0;
    while bench.events().is_empty() && bench.now < begun + 2 * UNEXPLAINED_MAX {
        tries += 1;
        bench.refuse_heartbeat(ResponseError::UnknownServerError);
        if let Some(due) = bench.member.poll_timeout() {
            bench.now = due;
            assert!(bench.member.poll_request(bench.now).is_some());
        }
    }
    assert!(begun + UNEXPLAINED_MAX <= bench.now, "ended after {:?}", bench.now - begun);
    assert!((10..40).contains(&tries), "{tries} tries");
    assert_eq!(bench.member.commit_permission(), CommitPermission::Denied);
    assert_eq!(bench.member.poll_request(bench.now + INTERVAL), None);
}

#[test]
fn an_unexplained_error_ends_the_membership_whichever_request_it_answers() {
    let refused = |request| {
        Event::Fatal(MemberError::Refused { request, error: ResponseError::UnknownServerError })
    };
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    let begun = bench.now;
    let mut events = Vec::new();
    while events.is_empty() && bench.now < begun + 2 * UNEXPLAINED_MAX {
        bench.expect_join();
        bench.refuse_join(ResponseError::UnknownServerError);
        events = bench.events();
    }
    assert_eq!(events, [refused("JoinGroup")]);

    // Each JoinGroup succeeds and each SyncGroup fails.
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    let begun = bench.now;
    let mut events = Vec::new();
    while events.is_empty() && bench.now < begun + 2 * UNEXPLAINED_MAX {
        bench.expect_join();
        bench.answer_join(1, LEADER);
        bench.expect_sync();
        let error_code = ResponseError::UnknownServerError.code();
        let response = messages::SyncGroupResponse::default().with_error_code(error_code);
        bench.member.on_sync(&response, bench.now);
        events = bench.events();
    }
    assert_eq!(events, [refused("SyncGroup")]);
}

#[test]
fn an_unexplained_error_is_forgotten_after_a_success() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    let begun = bench.now;
    while bench.now < begun + 3 * UNEXPLAINED_MAX {
        bench.heartbeat(ResponseError::UnknownServerError.code());
        bench.heartbeat(0);
    }
    assert_eq!(bench.events(), []);
}

#[test]
fn a_second_member_with_the_same_instance_id_is_named_in_the_error() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    bench.member.config.instance_id = Some("replica-7".to_owned());
    bench.heartbeat(ResponseError::FencedInstanceId.code());
    let events = bench.events();
    let Some(Event::Fatal(error)) = events.last() else {
        panic!("{events:?} does not end fatally")
    };
    assert!(error.to_string().contains("replica-7"), "{error}");
}

#[test]
fn whatever_the_coordinator_answers_nothing_is_both_owned_and_denied() {
    for code in (-1..135).filter(|code| *code != 0) {
        let error = ResponseError::try_from_code(code).unwrap();
        let mut assigning = Bench::stable(Assignor::CooperativeSticky);
        assigning.heartbeat(ResponseError::RebalanceInProgress.code());
        assigning.lead(&[], 2);
        for mut bench in [Bench::stable(Assignor::CooperativeSticky), assigning] {
            bench.heartbeat(code);
            let lost = bench.events().iter().any(|event| matches!(event, Event::Lost(_)));
            let denied = bench.member.commit_permission() == CommitPermission::Denied;
            assert_eq!(lost, denied, "{error:?}");
            assert_eq!(bench.member.owned.is_empty(), denied, "{error:?}");
        }
    }
}

#[test]
fn leaving_names_the_member_and_ends_everything() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    let Some(Request::Leave(leave)) = bench.member.leave() else { panic!("a member leaves") };
    assert_eq!(leave.members[0].member_id.as_str(), ME);
    assert_eq!(bench.member.commit_permission(), CommitPermission::Denied);
    assert_eq!(bench.member.poll_request(bench.now + INTERVAL), None);
    assert_eq!(bench.member.leave(), None);
}
