//! Members with a `group.instance.id` (KIP-345).

use super::*;

/// Brings up a stable group of static members, the leader first.
fn stable_static(lab: &mut Lab, instances: &[&str]) -> Vec<Claim> {
    let mut ids = Vec::new();
    for instance in instances {
        let request = lab.static_request("", instance);
        drop(lab.join(request));
        let group = lab.groups.get(GROUP).unwrap();
        ids.push(group.static_members[*instance].clone());
    }
    let mut joins = Vec::new();
    for (id, instance) in ids.iter().zip(instances) {
        let request = lab.static_request(id, instance);
        joins.push(lab.join(request));
    }
    let generation = joins[0].answer().generation_id;
    let mut claims: Vec<Claim> = ids
        .iter()
        .zip(instances)
        .map(|(id, instance)| static_claim(id, instance, generation))
        .collect();
    let leader = joins_leader(lab);
    claims.sort_by_key(|claim| claim.member_id != leader);
    let assignments: Vec<(&str, &str)> = claims
        .iter()
        .map(|claim| (claim.member_id.as_str(), claim.group_instance_id.as_deref().unwrap()))
        .collect();
    for claim in claims.iter().rev() {
        let own = if claim.member_id == leader { &assignments[..] } else { &[] };
        drop(lab.sync(claim, own));
    }
    lab.is_in(GroupState::Stable);
    claims
}

#[test]
fn a_static_member_joins_in_one_step_with_an_id_of_its_instance() {
    let mut lab = Lab::new();
    let request = lab.static_request("", "one");
    let answer = lab.join(request).answer();
    assert_eq!((answer.error, answer.generation_id), (None, 1));
    assert!(answer.member_id.starts_with("one-"), "{}", answer.member_id);
    assert_eq!(answer.members[0].group_instance_id.as_deref(), Some("one"));
}

#[test]
fn a_restarted_follower_gets_its_assignment_back_without_a_rebalance() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let instance = members[1].group_instance_id.clone().unwrap();
    let request = lab.static_request("", &instance);
    let answer = lab.join(request).answer();
    assert_eq!((answer.error, answer.generation_id), (None, members[1].generation_id));
    assert_ne!(answer.member_id, members[1].member_id);
    assert_eq!((answer.members.len(), answer.skip_assignment), (0, false));
    lab.is_in(GroupState::Stable);
    let back = static_claim(&answer.member_id, &instance, answer.generation_id);
    assert_eq!(lab.sync(&back, &[]).answer().assignment, Bytes::from(instance.into_bytes()));
}

#[test]
fn a_restarted_leader_skips_the_assignment() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let instance = members[0].group_instance_id.clone().unwrap();
    let request = lab.static_request("", &instance);
    let answer = lab.join(request).answer();
    assert!(answer.skip_assignment);
    assert_eq!((&answer.leader, answer.members.len()), (&answer.member_id, 2));
    lab.is_in(GroupState::Stable);
}

#[test]
fn a_restarted_leader_that_cannot_skip_the_assignment_gets_the_old_leaders_id() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let instance = members[0].group_instance_id.clone().unwrap();
    let abilities = JoinAbilities { joins_with_given_id: true, skips_assignment: false };
    let request = JoinRequest { abilities, ..lab.static_request("", &instance) };
    let answer = lab.join(request).answer();
    assert_eq!((&answer.leader, answer.skip_assignment), (&members[0].member_id, false));
    assert_eq!(answer.members.len(), 0);
}

#[test]
fn the_old_member_of_a_restarted_static_member_is_fenced() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let old = &members[1];
    let instance = old.group_instance_id.clone().unwrap();
    let request = lab.static_request("", &instance);
    assert_eq!(lab.join(request).answer().error, None);
    let fenced = Some(ResponseError::FencedInstanceId);
    assert_eq!(lab.heartbeat(old).err(), fenced);
    assert_eq!(lab.commit(old).err(), fenced);
    assert_eq!(lab.sync(old, &[]).answer().error, fenced);
    assert_eq!(lab.leave(&old.member_id, Some(&instance)), fenced);
    let request = lab.static_request(&old.member_id, &instance);
    assert_eq!(lab.join(request).answer().error, fenced);
    let without_instance = claim(&old.member_id, old.generation_id);
    assert_eq!(lab.heartbeat(&without_instance).err(), Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_waiting_request_of_a_fenced_member_is_answered() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let instance = members[0].group_instance_id.clone().unwrap();
    let request = lab.static_request(&members[0].member_id, &instance);
    let mut held = lab.join(request);
    held.is_waiting();
    let request = lab.static_request("", &instance);
    let mut new = lab.join(request);
    assert_eq!(held.answer().error, Some(ResponseError::FencedInstanceId));
    new.is_waiting();
}

#[test]
fn a_restart_while_the_assignment_is_awaited_begins_a_rebalance() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let mut joins = Vec::new();
    for member in &members {
        let instance = member.group_instance_id.clone().unwrap();
        let request = lab.static_request(&member.member_id, &instance);
        joins.push(lab.join(request));
    }
    lab.is_in(GroupState::CompletingRebalance);
    let instance = members[1].group_instance_id.clone().unwrap();
    let request = lab.static_request("", &instance);
    lab.join(request).is_waiting();
    lab.is_in(GroupState::PreparingRebalance);
}

#[test]
fn a_restart_that_changes_the_selected_protocol_begins_a_rebalance() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one"]);
    let request =
        JoinRequest { protocols: protocols(&["other", "range"]), ..lab.static_request("", "one") };
    let answer = lab.join(request).answer();
    assert_eq!(answer.protocol_name.as_deref(), Some("other"));
    assert_eq!(answer.generation_id, members[0].generation_id + 1);
}

#[test]
fn a_static_member_survives_a_rebalance_that_it_does_not_join() {
    let mut lab = Lab::new();
    let members = stable_static(&mut lab, &["one", "two"]);
    let instance = members[0].group_instance_id.clone().unwrap();
    let request = JoinRequest {
        session_timeout: Duration::from_mins(1),
        ..lab.static_request(&members[0].member_id, &instance)
    };
    let mut held = lab.join(request);
    // The other one is heard of, but does not join.
    for _ in 0..4 {
        lab.pass(Duration::from_secs(7));
        assert_eq!(lab.heartbeat(&members[1]), Err(ResponseError::RebalanceInProgress));
    }
    lab.pass(Duration::from_secs(2));
    assert_eq!(held.answer().members.len(), 2);
}

#[test]
fn administrators_remove_static_members_by_instance() {
    let mut lab = Lab::new();
    stable_static(&mut lab, &["one"]);
    assert_eq!(lab.leave("", Some("two")), Some(ResponseError::UnknownMemberId));
    assert_eq!(lab.leave("", None), Some(ResponseError::UnknownMemberId));
    assert_eq!(lab.leave("", Some("one")), None);
    lab.is_in(GroupState::Empty);
}
