//! Members come, agree, and go.

use super::*;

#[test]
fn a_new_member_gets_an_id_and_joins_with_it() {
    let mut lab = Lab::new();
    let given = lab.rejoin("").answer();
    assert_eq!(given.error, Some(ResponseError::MemberIdRequired));
    assert_eq!((given.generation_id, given.members.len()), (-1, 0));
    assert!(given.member_id.starts_with("client-"), "{}", given.member_id);
    let joined = lab.rejoin(&given.member_id).answer();
    assert_eq!((joined.error, joined.generation_id), (None, 1));
    assert_eq!(joined.leader, given.member_id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    lab.is_in(GroupState::CompletingRebalance);
}

#[test]
fn an_old_client_without_member_ids_joins_in_one_step() {
    let mut lab = Lab::new();
    let abilities = JoinAbilities { joins_with_given_id: false, skips_assignment: false };
    let request = JoinRequest { abilities, ..lab.request("") };
    assert_eq!(lab.join(request).answer().generation_id, 1);
}

#[test]
fn invented_ids_and_unknown_groups_are_refused() {
    let mut lab = Lab::new();
    assert_eq!(lab.rejoin("invented").answer().error, Some(ResponseError::UnknownMemberId));
    lab.stable(1);
    assert_eq!(lab.rejoin("invented").answer().error, Some(ResponseError::UnknownMemberId));
    let nameless = JoinRequest { group_id: String::new(), ..lab.request("") };
    assert_eq!(lab.join(nameless).answer().error, Some(ResponseError::InvalidGroupId));
}

#[test]
fn session_timeouts_outside_the_brokers_limits_are_refused() {
    let mut lab = Lab::new();
    for session_timeout in [Duration::from_millis(5999), Duration::from_millis(1_800_001)] {
        let request = JoinRequest { session_timeout, ..lab.request("") };
        let error = lab.join(request).answer().error;
        assert_eq!(error, Some(ResponseError::InvalidSessionTimeout));
    }
}

#[test]
fn a_join_waits_until_every_member_has_joined() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let (_, mut newcomer) = lab.join_new();
    newcomer.is_waiting();
    assert_eq!(lab.heartbeat(&members[0]), Err(ResponseError::RebalanceInProgress));
    let mut first = lab.rejoin(&members[0].member_id);
    first.is_waiting();
    let mut second = lab.rejoin(&members[1].member_id);
    let answers = [newcomer.answer(), first.answer(), second.answer()];
    let generation = members[0].generation_id + 1;
    assert!(answers.iter().all(|answer| answer.generation_id == generation));
    let counts: Vec<usize> = answers.iter().map(|answer| answer.members.len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 3, "only the leader gets the members: {counts:?}");
    assert!(answers.iter().all(|answer| answer.leader == members[0].member_id));
}

#[test]
fn a_rebalance_waits_for_a_pending_member_id() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    let given = lab.rejoin("").answer();
    let mut leader = lab.rejoin(&members[0].member_id);
    leader.is_waiting();
    let mut newcomer = lab.rejoin(&given.member_id);
    assert_eq!((leader.answer().members.len(), newcomer.answer().error), (2, None));
}

#[test]
fn the_first_rebalance_does_not_wait_for_pending_member_ids() {
    let mut lab = Lab::new();
    let first = lab.rejoin("").answer().member_id;
    let second = lab.rejoin("").answer().member_id;
    assert_eq!(lab.rejoin(&first).answer().members.len(), 1);
    lab.rejoin(&second).is_waiting();
}

#[test]
fn members_without_a_common_protocol_are_refused() {
    let mut lab = Lab::new();
    lab.stable(1);
    let inconsistent = Some(ResponseError::InconsistentGroupProtocol);
    let other_protocol = JoinRequest { protocols: protocols(&["sticky"]), ..lab.request("") };
    assert_eq!(lab.join(other_protocol).answer().error, inconsistent);
    let other_type = JoinRequest { protocol_type: "connect".to_owned(), ..lab.request("") };
    assert_eq!(lab.join(other_type).answer().error, inconsistent);
    let mut empty = Lab::new();
    let nothing = JoinRequest { protocols: Vec::new(), ..empty.request("") };
    assert_eq!(empty.join(nothing).answer().error, inconsistent);
    let typeless = JoinRequest { protocol_type: String::new(), ..empty.request("") };
    assert_eq!(empty.join(typeless).answer().error, inconsistent);
}

#[test]
fn the_protocol_most_members_prefer_among_the_common_ones_is_selected() {
    let mut lab = Lab::new();
    let offers = [&["a", "b", "c"][..], &["c", "b"], &["b", "c"], &["c", "b"]];
    let mut pending = Vec::new();
    let mut ids = Vec::new();
    for offer in offers {
        let request = JoinRequest { protocols: protocols(offer), ..lab.request("") };
        let member_id = lab.join(request.clone()).answer().member_id;
        ids.push(member_id.clone());
        pending.push(lab.join(JoinRequest { member_id, ..request }));
    }
    let request = JoinRequest { protocols: protocols(offers[0]), ..lab.request(&ids[0]) };
    pending.push(lab.join(request));
    // a is not common; b is preferred by the first and third, c by the second and fourth: a tie goes to the first name.
    assert_eq!(pending.pop().unwrap().answer().protocol_name.as_deref(), Some("b"));
}

#[test]
fn an_unchanged_follower_that_joins_a_stable_group_gets_the_generation_again() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let answer = lab.rejoin(&members[1].member_id).answer();
    assert_eq!(answer.generation_id, members[1].generation_id);
    assert_eq!(answer.members.len(), 0);
    lab.is_in(GroupState::Stable);
}

#[test]
fn a_leader_that_joins_a_stable_group_begins_a_rebalance() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    lab.rejoin(&members[0].member_id).is_waiting();
    lab.is_in(GroupState::PreparingRebalance);
}

#[test]
fn a_follower_with_new_metadata_begins_a_rebalance() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let request = JoinRequest {
        protocols: protocols(&["range", "more"]),
        ..lab.request(&members[1].member_id)
    };
    lab.join(request).is_waiting();
    lab.is_in(GroupState::PreparingRebalance);
}

#[test]
fn an_unchanged_member_that_awaits_its_assignment_gets_the_generation_again() {
    let mut lab = Lab::new();
    let (id, mut first) = lab.join_new();
    let first = first.answer();
    let again = lab.rejoin(&id).answer();
    assert_eq!(first, again);
    let changed = JoinRequest { protocols: protocols(&["range", "x"]), ..lab.request(&id) };
    assert_eq!(lab.join(changed).answer().generation_id, first.generation_id + 1);
}

#[test]
fn assignments_arrive_when_the_leader_has_assigned() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let mut joins = [lab.rejoin(&members[0].member_id), lab.rejoin(&members[1].member_id)];
    let [leader, follower] = joins.each_mut().map(|join| claim_of(&join.answer()));
    let mut follower_sync = lab.sync(&follower, &[]);
    follower_sync.is_waiting();
    let mut leader_sync = lab.sync(&leader, &[(&follower.member_id, "p1"), ("gone", "p9")]);
    assert_eq!(follower_sync.answer().assignment, Bytes::from_static(b"p1"));
    let own = leader_sync.answer();
    assert_eq!(
        (own.error, own.assignment.len()),
        (None, 0),
        "whom the leader forgets gets nothing"
    );
    assert_eq!(own.protocol_name.as_deref(), Some("range"));
    lab.is_in(GroupState::Stable);
    assert_eq!(lab.sync(&follower, &[]).answer().assignment, Bytes::from_static(b"p1"));
}

#[test]
fn a_rebalance_sends_members_that_await_an_assignment_back_to_join() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let mut joins = [lab.rejoin(&members[0].member_id), lab.rejoin(&members[1].member_id)];
    let [_, follower] = joins.each_mut().map(|join| claim_of(&join.answer()));
    let mut held = lab.sync(&follower, &[]);
    lab.join_new().1.is_waiting();
    assert_eq!(held.answer().error, Some(ResponseError::RebalanceInProgress));
}

#[test]
fn sync_checks_member_generation_protocol_and_state() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.sync(&claim("x", 1), &[]).answer().error,
        Some(ResponseError::UnknownMemberId),
        "no group"
    );
    let members = lab.stable(2);
    let member = &members[1];
    let mut check = |claim: &Claim, expected| {
        assert_eq!(lab.sync(claim, &[]).answer().error, Some(expected), "{claim:?}");
    };
    check(&claim("x", member.generation_id), ResponseError::UnknownMemberId);
    check(&claim(&member.member_id, 77), ResponseError::IllegalGeneration);
    let (reply, answer) = Reply::channel();
    let request = SyncRequest {
        group_id: GROUP.to_owned(),
        claim: member.clone(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("other".to_owned()),
        assignments: Vec::new(),
    };
    lab.groups.sync(lab.now, request, reply);
    assert_eq!(Pending(answer).answer().error, Some(ResponseError::InconsistentGroupProtocol));
    lab.rejoin(&members[0].member_id).is_waiting();
    let error = lab.sync(member, &[]).answer().error;
    assert_eq!(error, Some(ResponseError::RebalanceInProgress));
}

#[test]
fn heartbeats_check_member_and_generation() {
    let mut lab = Lab::new();
    assert_eq!(lab.heartbeat(&claim("x", 1)), Err(ResponseError::UnknownMemberId), "no group");
    let members = lab.stable(1);
    assert_eq!(lab.heartbeat(&members[0]), Ok(()));
    let old = claim(&members[0].member_id, members[0].generation_id - 1);
    assert_eq!(lab.heartbeat(&old), Err(ResponseError::IllegalGeneration));
    let stranger = claim("x", members[0].generation_id);
    assert_eq!(lab.heartbeat(&stranger), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_member_that_leaves_begins_a_rebalance_and_the_last_one_empties_the_group() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    assert_eq!(lab.leave(&members[0].member_id, None), None);
    lab.is_in(GroupState::PreparingRebalance);
    let survivor = lab.rejoin(&members[1].member_id).answer();
    assert_eq!((survivor.leader.as_str(), survivor.members.len()), (&*members[1].member_id, 1));
    assert_eq!(lab.leave(&members[1].member_id, None), None);
    lab.is_in(GroupState::Empty);
    assert_eq!(lab.leave(&members[1].member_id, None), Some(ResponseError::UnknownMemberId));
    assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_rebalance_does_not_wait_for_a_pending_member_that_left() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    let given = lab.rejoin("").answer().member_id;
    let mut leader = lab.rejoin(&members[0].member_id);
    leader.is_waiting();
    assert_eq!(lab.leave(&given, None), None);
    assert_eq!(leader.answer().members.len(), 1);
}
