//! Who may commit when.

use super::*;

const NO_GENERATION: i32 = -1;

#[test]
fn only_a_group_without_members_accepts_commits_without_a_generation() {
    let mut lab = Lab::new();
    assert_eq!(lab.commit(&claim("", NO_GENERATION)), Ok(()), "the commit creates the group");
    lab.is_in(GroupState::Empty);
    assert_eq!(lab.commit(&claim("anybody", NO_GENERATION)), Ok(()));
    let members = lab.stable(1);
    assert_eq!(lab.commit(&claim("", NO_GENERATION)), Err(ResponseError::UnknownMemberId));
    let own_id = claim(&members[0].member_id, NO_GENERATION);
    assert_eq!(lab.commit(&own_id), Err(ResponseError::IllegalGeneration));
    lab.leave(&members[0].member_id, None);
    assert_eq!(lab.commit(&claim("", NO_GENERATION)), Ok(()));
}

#[test]
fn the_error_for_a_generation_of_an_unknown_group_depends_on_the_version() {
    let mut lab = Lab::new();
    assert_eq!(lab.commit(&claim("x", 1)), Err(ResponseError::GroupIdNotFound));
    assert!(lab.groups.get(GROUP).is_none());
}

#[test]
fn members_commit_in_their_generation_and_while_the_next_is_prepared_but_not_before_it_is_assigned()
{
    let mut lab = Lab::new();
    let members = lab.stable(2);
    let stale = claim(&members[0].member_id, members[0].generation_id - 1);
    let stranger = claim("x", members[0].generation_id);
    assert_eq!(lab.commit(&members[0]), Ok(()));
    assert_eq!(lab.commit(&stale), Err(ResponseError::IllegalGeneration));
    assert_eq!(lab.commit(&stranger), Err(ResponseError::UnknownMemberId));

    let mut leader = lab.rejoin(&members[0].member_id);
    lab.is_in(GroupState::PreparingRebalance);
    assert_eq!(lab.commit(&members[0]), Ok(()), "the generation that ends");
    assert_eq!(lab.commit(&members[1]), Ok(()), "the generation that ends");

    drop(lab.rejoin(&members[1].member_id));
    lab.is_in(GroupState::CompletingRebalance);
    let leader = claim_of(&leader.answer());
    assert_eq!(lab.commit(&leader), Err(ResponseError::RebalanceInProgress));
    assert_eq!(lab.commit(&members[0]), Err(ResponseError::IllegalGeneration));

    drop(lab.sync(&leader, &[]));
    lab.is_in(GroupState::Stable);
    assert_eq!(lab.commit(&leader), Ok(()));
    assert_eq!(lab.commit(&members[0]), Err(ResponseError::IllegalGeneration));
}

#[test]
fn metadata_of_4096_characters_is_accepted_and_longer_metadata_refused() {
    let mut lab = Lab::new();
    let longest = "é".repeat(4096);
    assert_eq!(lab.commit_offset(&claim("", NO_GENERATION), 1, &longest), Ok(None));
    let too_long = Ok(Some(ResponseError::OffsetMetadataTooLarge));
    assert_eq!(lab.commit_offset(&claim("", NO_GENERATION), 2, &"é".repeat(4097)), too_long);
    // Outside the basic plane a character counts twice.
    assert_eq!(lab.commit_offset(&claim("", NO_GENERATION), 2, &"🦀".repeat(2049)), too_long);
    assert_eq!(lab.commit_offset(&claim("", NO_GENERATION), 3, &"🦀".repeat(2048)), Ok(None));
    let committed = lab.groups.get(GROUP).unwrap().offsets.get("orders", 0).unwrap();
    assert_eq!((committed.offset, committed.metadata.chars().count()), (3, 2048));
}

#[test]
fn deleting_a_topic_deletes_its_committed_offsets() {
    let mut lab = Lab::new();
    assert_eq!(lab.commit(&claim("", NO_GENERATION)), Ok(()));
    lab.groups.delete_topic("orders");
    let group = lab.groups.get(GROUP).unwrap();
    assert_eq!(group.offsets.get("orders", 0), None);
    assert_eq!(group.offsets.iter().count(), 0);
}
