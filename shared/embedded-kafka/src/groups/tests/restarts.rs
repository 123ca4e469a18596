//! What is left of groups when the broker restarts.

use super::*;

fn restart(lab: Lab) -> Lab {
    Lab { groups: lab.groups.restarted(Duration::ZERO), now: Duration::ZERO, ids: lab.ids }
}

#[test]
fn a_stable_group_continues_its_generation() {
    let mut lab = Lab::new();
    let members = lab.stable(2);
    assert_eq!(lab.commit(&members[0]), Ok(()));
    lab.pass(Duration::from_secs(9));
    let mut lab = restart(lab);
    lab.is_in(GroupState::Stable);
    lab.pass(ALMOST_A_SESSION);
    for member in &members {
        assert_eq!(lab.heartbeat(member), Ok(()), "sessions begin anew");
        assert_eq!(lab.commit(member), Ok(()));
        assert_eq!(lab.sync(member, &[]).answer().assignment, Bytes::from_static(b"work"));
    }
    assert_eq!(joins_leader(&lab), members[0].member_id);
    lab.pass(SESSION_TIMEOUT);
    lab.is_in(GroupState::Empty);
}

#[test]
fn an_unfinished_rebalance_is_forgotten() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    let (newcomer, mut held) = lab.join_new();
    held.is_waiting();
    let mut lab = restart(lab);
    held.0.try_recv().expect_err("no request waits");
    lab.is_in(GroupState::Stable);
    assert_eq!(lab.heartbeat(&members[0]), Ok(()));
    assert_eq!(lab.rejoin(&newcomer).answer().error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn an_empty_group_keeps_its_generation_and_offsets() {
    let mut lab = Lab::new();
    let members = lab.stable(1);
    assert_eq!(lab.commit(&members[0]), Ok(()));
    lab.leave(&members[0].member_id, None);
    let mut lab = restart(lab);
    lab.is_in(GroupState::Empty);
    let group = lab.groups.get(GROUP).unwrap();
    assert_eq!(group.offsets.get("orders", 0).map(|committed| committed.offset), Some(7));
    let (_, mut join) = lab.join_new();
    assert_eq!(join.answer().generation_id, members[0].generation_id + 2);
}

#[test]
fn a_static_member_is_recognised_after_the_restart() {
    let mut lab = Lab::new();
    let request = lab.static_request("", "one");
    let joined = lab.join(request).answer();
    let old = static_claim(&joined.member_id, "one", joined.generation_id);
    drop(lab.sync(&old, &[(&joined.member_id, "work")]));
    let mut lab = restart(lab);
    let request = lab.static_request("", "one");
    let back = lab.join(request).answer();
    assert_eq!((back.error, back.generation_id), (None, old.generation_id));
    assert_eq!(lab.heartbeat(&old), Err(ResponseError::FencedInstanceId));
}
