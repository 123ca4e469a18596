//! What the member does that leads its group.

use super::super::leading::UNKNOWN_TOPIC_MAX;
use super::*;

#[test]
fn the_leader_assigns_with_the_partition_counts_it_asked_for() {
    let mut bench = Bench::new(Assignor::Range);
    let other = Subscription { topics: vec!["orders".to_owned()], ..Subscription::default() };
    bench.lead(&[("processor-0", &other.encode().unwrap())], 1);
    assert_eq!(bench.member.poll_request(bench.now), None);
    assert_eq!(bench.member.watched_topics(), Some(BTreeSet::from(["orders".to_owned()])));
    bench.count(Some(3));
    assert_eq!(
        Bench::assigned_by_member(&bench.expect_sync()),
        BTreeMap::from([
            ("processor-0".to_owned(), by_topic(&[0, 1])),
            (ME.to_owned(), by_topic(&[2]))
        ])
    );
    bench.answer_sync(&[2]);
    bench.events();

    bench.count(Some(3));
    assert!(bench.member.is_stable(), "unchanged counts are no reason to rebalance");
    bench.count(Some(4));
    assert_eq!(bench.events(), [Event::Revoked(partitions(&[2]))]);
}

#[test]
fn a_member_whose_subscription_is_unreadable_is_named_and_gets_nothing() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        for unreadable in [&b""[..], b"\xff\xff", b"\x00\x03\x00", b"\x00\x00\x7f\xff\xff\xff"] {
            let mut bench = Bench::new(assignor);
            bench.lead(&[("other-1", unreadable)], 1);
            let events = bench.events();
            let [Event::UnreadableSubscription { member_id, .. }] = events.as_slice() else {
                panic!("{assignor}: {events:?}")
            };
            assert_eq!(member_id, "other-1");
            bench.count(Some(3));
            let handed_out = Bench::assigned_by_member(&bench.expect_sync());
            let expected =
                [("other-1".to_owned(), by_topic(&[])), (ME.to_owned(), by_topic(&[0, 1, 2]))];
            assert_eq!(handed_out, BTreeMap::from(expected), "{assignor}");
        }
    }
}

#[test]
fn the_leader_heartbeats_while_it_waits_for_partition_counts() {
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[], 1);
    assert_eq!(bench.member.poll_request(bench.now), None);
    for _ in 0..3 {
        let before = bench.now;
        bench.heartbeat(0);
        assert_eq!(bench.now - before, INTERVAL);
    }
    bench.count(Some(1));
    bench.expect_sync();
}

#[test]
fn counts_that_come_during_a_heartbeat_are_assigned_with_after_its_answer() {
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[], 1);
    assert!(matches!(bench.request(), Request::Heartbeat(_)));
    bench.count(Some(1));
    let response = messages::HeartbeatResponse::default();
    bench.member.on_heartbeat(&response, bench.now);
    bench.expect_sync();
    bench.answer_sync(&[0]);
    assert!(bench.member.is_stable());
}

#[test]
fn a_rebalance_that_begins_while_the_leader_assigns_is_joined() {
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[], 1);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    bench.expect_join();
    bench.answer_join(2, LEADER);
    bench.expect_sync();
}

#[test]
fn a_leader_that_is_fenced_while_it_assigns_loses_what_it_had() {
    let mut bench = Bench::stable(Assignor::CooperativeSticky);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    bench.lead(&[], 2);
    bench.heartbeat(ResponseError::UnknownMemberId.code());
    assert_eq!(bench.events(), [Event::Lost(partitions(&[0, 1]))]);
    bench.expect_join();
}

#[test]
fn a_topic_that_the_cluster_does_not_know_for_a_moment_keeps_its_assignment() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let mut bench = Bench::leading(assignor, &[0, 1, 2]);
        bench.count(None);
        assert!(
            bench.member.is_stable(),
            "{assignor}: a forgotten topic is no reason to rebalance"
        );
        bench.count(Some(3));
        assert!(bench.member.is_stable(), "{assignor}: nor is its return");

        bench.heartbeat(ResponseError::RebalanceInProgress.code());
        bench.member.drained(&partitions(&[0, 1, 2]));
        bench.lead(&[], 2);
        bench.count(None);
        let handed_out = Bench::assigned_by_member(&bench.expect_sync());
        assert_eq!(handed_out, BTreeMap::from([(ME.to_owned(), by_topic(&[0, 1, 2]))]));
    }
}

#[test]
fn a_new_leader_takes_the_count_of_an_unknown_topic_from_what_members_own() {
    let owner = |owned: &[i32]| {
        let topics = vec!["orders".to_owned()];
        let generation = Some(1);
        let owned = by_topic(owned);
        Subscription { topics, owned, generation, ..Subscription::default() }.encode().unwrap()
    };
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[("other-1", &owner(&[0, 2])), ("other-2", &owner(&[i32::MAX, -1, 3]))], 2);
    bench.count(None);
    let handed_out = Bench::assigned_by_member(&bench.expect_sync());
    assert_eq!(handed_out["other-1"], by_topic(&[0, 2]));
    assert_eq!(handed_out["other-2"], by_topic(&[3]));
    assert_eq!(handed_out[ME], by_topic(&[1]), "its last owner has left");
}

#[test]
fn a_topic_of_its_own_that_was_never_known_is_asked_for_again_before_the_leader_assigns_without_it()
{
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[], 1);
    let begun = bench.now;
    while bench.member.is_assigning() && bench.now < begun + 2 * UNKNOWN_TOPIC_MAX {
        bench.count(None);
        if bench.member.is_assigning() {
            bench.heartbeat(0);
        }
    }
    assert_eq!(bench.now - begun, UNKNOWN_TOPIC_MAX);
    assert_eq!(Bench::assigned_by_member(&bench.expect_sync())[ME], by_topic(&[]));
    bench.answer_sync(&[]);
    bench.count(Some(1));
    bench.expect_join();
}

#[test]
fn an_unknown_topic_of_another_member_is_not_waited_for() {
    let other = Subscription { topics: vec!["nowhere".to_owned()], ..Subscription::default() };
    let mut bench = Bench::new(Assignor::CooperativeSticky);
    bench.lead(&[("other-1", &other.encode().unwrap())], 1);
    let counts = BTreeMap::from([("nowhere".to_owned(), None), ("orders".to_owned(), Some(2))]);
    bench.member.on_partition_counts(counts.clone(), bench.now);
    assert_eq!(Bench::assigned_by_member(&bench.expect_sync())[ME], by_topic(&[0, 1]));
    bench.answer_sync(&[0, 1]);
    bench.member.on_partition_counts(counts, bench.now);
    assert!(bench.member.is_stable());
}

#[test]
fn counts_that_answer_an_earlier_question_are_not_assigned_with() {
    let mut bench = Bench::leading(Assignor::CooperativeSticky, &[0]);
    bench.heartbeat(ResponseError::RebalanceInProgress.code());
    let other = Subscription { topics: vec!["replay".to_owned()], ..Subscription::default() };
    bench.lead(&[("other-1", &other.encode().unwrap())], 2);
    bench.count(Some(1));
    assert!(bench.member.is_assigning());
    let counts = BTreeMap::from([("orders".to_owned(), Some(1)), ("replay".to_owned(), Some(1))]);
    bench.member.on_partition_counts(counts, bench.now);
    assert!(!bench.member.is_assigning());
}

#[test]
fn a_static_leader_that_restarts_assigns_nothing_and_has_the_group_rebalance_when_a_topic_grows() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let mut bench = restarted_static_leader(assignor);
        bench.count(Some(2));
        bench.count(None);
        assert!(bench.member.is_stable(), "{assignor}: nothing has grown");
        bench.count(Some(3));
        assert!(!bench.member.is_stable(), "{assignor}");
        bench.member.drained(&partitions(&[0, 1]));
        bench.lead(&[], 2);
        bench.count(Some(3));
        let handed_out = Bench::assigned_by_member(&bench.expect_sync());
        assert_eq!(handed_out[ME], by_topic(&[0, 1, 2]), "{assignor}");
    }
}

#[test]
fn a_static_leader_that_restarts_notices_what_has_grown_meanwhile() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let mut bench = restarted_static_leader(assignor);
        bench.count(Some(3));
        assert!(!bench.member.is_stable(), "{assignor}");
    }
}

/// Stable as a static member that has led its group before a restart, with partitions 0 and 1 assigned.
fn restarted_static_leader(assignor: Assignor) -> Bench {
    let mut before = Bench::new(assignor);
    before.lead(&[], 1);
    before.count(Some(2));
    let assignment = before.expect_sync().assignments.remove(0).assignment;

    let mut bench = Bench::new(assignor);
    bench.member.config.instance_id = Some("replica-7".to_owned());
    let members = bench.expect_join_as_leader(&[]);
    let response = members.with_generation_id(1).with_skip_assignment(true);
    bench.member.on_join(&response, bench.now);
    assert_eq!(bench.expect_sync().assignments, []);
    let response = messages::SyncGroupResponse::default().with_assignment(assignment);
    bench.member.on_sync(&response, bench.now);
    assert_eq!(bench.member.watched_topics(), Some(BTreeSet::from(["orders".to_owned()])));
    assert!(bench.events().contains(&Event::Assigned(partitions(&[0, 1]))));
    bench
}
