//! Members that fall silent, and rebalances that stop waiting.

use super::*;

#[test]
fn a_silent_member_is_removed_after_its_session_timeout() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    lab.pass(ALMOST_A_SESSION);
    assert_eq!(lab.heartbeat(&members[0]), Ok(()));
    lab.is_in(GroupState::Stable);
    lab.pass(MOMENT);
    lab.is_in(GroupState::PreparingRebalance);
    assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::UnknownMemberId));
    assert_eq!(lab.rejoin(&members[0].member_id).answer().members.len(), 1);
}

#[test]
fn commits_and_heartbeats_keep_a_session_alive() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    for _ in 0..5 {
        lab.pass(ALMOST_A_SESSION);
        assert_eq!(lab.heartbeat(&members[0]), Ok(()));
        lab.pass(ALMOST_A_SESSION);
        assert_eq!(lab.commit(&members[0]), Ok(()));
    }
    lab.pass(SESSION_TIMEOUT);
    lab.is_in(GroupState::Empty);
}

#[test]
fn members_that_do_not_join_within_the_rebalance_timeout_are_removed() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let mut leader = lab.rejoin(&members[0].member_id);
    for _ in 0..4 {
        lab.pass(Duration::from_secs(7));
        assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::RebalanceInProgress));
        leader.is_waiting();
    }
    lab.pass(Duration::from_secs(2));
    assert_eq!(leader.answer().members.len(), 1);
    assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_falls_silent_is_replaced() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    assert_eq!(joins_leader(&lab), members[0].member_id);
    lab.pass(ALMOST_A_SESSION);
    assert_eq!(lab.heartbeat(&members[1]), Ok(()));
    lab.pass(MOMENT);
    let joined = lab.rejoin(&members[1].member_id).answer();
    assert_eq!((joined.leader.as_str(), joined.members.len()), (&*members[1].member_id, 1));
}

#[test]
fn a_member_whose_join_waits_needs_no_heartbeats() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let mut held = lab.rejoin(&members[0].member_id);
    for _ in 0..4 {
        lab.pass(Duration::from_secs(7));
        assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::RebalanceInProgress));
    }
    held.is_waiting();
    drop(lab.rejoin(&members[1].member_id));
    assert_eq!(held.answer().error, None);
    // Its session begins with the answer.
    lab.pass(ALMOST_A_SESSION);
    lab.is_in(GroupState::CompletingRebalance);
}

#[test]
fn a_member_that_never_fetches_its_assignment_is_removed() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let mut joins = [lab.rejoin(&members[0].member_id), lab.rejoin(&members[1].member_id)];
    let [leader, follower] = joins.each_mut().map(|join| claim_of(&join.answer()));
    drop(lab.sync(&leader, &[]));
    lab.is_in(GroupState::Stable);
    for _ in 0..4 {
        lab.pass(Duration::from_secs(7));
        assert_eq!((lab.heartbeat(&leader), lab.heartbeat(&follower)), (Ok(()), Ok(())));
    }
    lab.pass(Duration::from_secs(2));
    lab.is_in(GroupState::PreparingRebalance);
    assert_eq!(lab.heartbeat(&follower), Err(ResponseError::UnknownMemberId));
    assert_eq!(lab.heartbeat(&leader), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_pending_member_id_expires_after_the_session_timeout() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    let given = lab.rejoin("").answer().member_id;
    let mut leader = lab.rejoin(&members[0].member_id);
    lab.pass(ALMOST_A_SESSION);
    leader.is_waiting();
    lab.pass(MOMENT);
    assert_eq!(leader.answer().members.len(), 1);
    assert_eq!(lab.rejoin(&given).answer().error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_new_member_of_a_closed_connection_is_removed_after_five_minutes() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    let request = JoinRequest { rebalance_timeout: Duration::from_hours(1), ..lab.request("") };
    let member_id = lab.join(request.clone()).answer().member_id;
    let mut newcomer = lab.join(JoinRequest { member_id, ..request });
    for _ in 0..33 {
        lab.pass(Duration::from_secs(9));
        assert_eq!(lab.heartbeat(&members[0]), Err(ResponseError::RebalanceInProgress));
    }
    newcomer.is_waiting();
    lab.pass(Duration::from_secs(3));
    assert_eq!(newcomer.answer().error, Some(ResponseError::UnknownMemberId));
}
