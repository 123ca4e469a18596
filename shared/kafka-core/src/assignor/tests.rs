mod properties;

use super::*;
use crate::consumer_protocol::Subscription;

type Assigned = BTreeMap<String, TopicPartitions>;
type Given<'a> = &'a [(&'a str, &'a [i32])];

fn member(id: &str, topics: &[&str]) -> MemberSubscription {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    MemberSubscription {
        member_id: id.to_owned(),
        group_instance_id: None,
        subscription: Subscription { topics, ..Subscription::default() },
    }
}

fn static_member(id: &str, instance: &str, topics: &[&str]) -> MemberSubscription {
    MemberSubscription { group_instance_id: Some(instance.to_owned()), ..member(id, topics) }
}

fn owning(id: &str, generation: i32, owned: Given<'_>) -> MemberSubscription {
    let mut member = member(id, &["t", "u"]);
    member.subscription.owned = topic_partitions(owned);
    member.subscription.generation = Some(generation);
    member
}

fn topic_partitions(all: Given<'_>) -> TopicPartitions {
    all.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect()
}

fn counts(all: &[(&str, i32)]) -> BTreeMap<String, i32> {
    all.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

fn check(
    assignor: Assignor,
    members: &[MemberSubscription],
    partitions: &[(&str, i32)],
    expected: &[(&str, Given<'_>)],
) {
    let expected: Assigned =
        expected.iter().map(|(id, all)| ((*id).to_owned(), topic_partitions(all))).collect();
    assert_eq!(assignor.assign(members, &counts(partitions)), expected);
    let reversed: Vec<_> = members.iter().rev().cloned().collect();
    assert_eq!(assignor.assign(&reversed, &counts(partitions)), expected, "in another order");
}

#[test]
fn names_are_those_of_the_protocol() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        assert_eq!(assignor.to_string().parse(), Ok(assignor));
    }
    assert_eq!(Assignor::CooperativeSticky.name(), "cooperative-sticky");
    assert_eq!(Assignor::Range.name(), "range");
    let unknown = "sticky".parse::<Assignor>().unwrap_err().to_string();
    assert_eq!(unknown, "\"sticky\" is not an assignor: use cooperative-sticky or range");
}

mod range {
    use super::*;

    #[test]
    fn the_first_members_get_one_more_of_each_topic() {
        check(
            Assignor::Range,
            &[member("a", &["t", "u"]), member("b", &["t", "u"])],
            &[("t", 3), ("u", 3)],
            &[("a", &[("t", &[0, 1]), ("u", &[0, 1])]), ("b", &[("t", &[2]), ("u", &[2])])],
        );
    }

    #[test]
    fn only_subscribers_share_a_topic_and_every_member_is_in_the_result() {
        check(
            Assignor::Range,
            &[member("a", &["t"]), member("b", &["t", "u"]), member("c", &["u"]), member("d", &[])],
            &[("t", 5), ("u", 1), ("nobody", 2)],
            &[
                ("a", &[("t", &[0, 1, 2])]),
                ("b", &[("t", &[3, 4]), ("u", &[0])]),
                ("c", &[]),
                ("d", &[]),
            ],
        );
    }

    #[test]
    fn static_members_come_first_in_the_order_of_their_names() {
        check(
            Assignor::Range,
            &[
                member("a", &["t"]),
                static_member("z", "instance-1", &["t"]),
                static_member("b", "instance-2", &["t"]),
            ],
            &[("t", 4)],
            &[("z", &[("t", &[0, 1])]), ("b", &[("t", &[2])]), ("a", &[("t", &[3])])],
        );
    }

    #[test]
    fn topics_that_do_not_exist_yet_are_left_out() {
        check(
            Assignor::Range,
            &[member("a", &["t", "later"])],
            &[("t", 1)],
            &[("a", &[("t", &[0])])],
        );
        check(Assignor::Range, &[], &[("t", 1)], &[]);
    }
}

mod cooperative_sticky {
    use super::*;

    const STICKY: Assignor = Assignor::CooperativeSticky;

    #[test]
    fn a_first_assignment_spreads_each_topic() {
        let both = &["t", "u"];
        check(
            STICKY,
            &[member("a", both), member("b", both), member("c", both)],
            &[("t", 3), ("u", 3)],
            &[
                ("a", &[("t", &[0]), ("u", &[1])]),
                ("b", &[("t", &[2]), ("u", &[0])]),
                ("c", &[("t", &[1]), ("u", &[2])]),
            ],
        );
    }

    #[test]
    fn partitions_of_a_dead_member_are_spread_by_topic() {
        let two: &[i32] = &[2, 4];
        check(
            STICKY,
            &[owning("c", 3, &[("t", two), ("u", two)]), member("d", &["t", "u"])],
            &[("t", 6), ("u", 6)],
            &[
                ("c", &[("t", &[2, 3, 4]), ("u", &[2, 4, 5])]),
                ("d", &[("t", &[0, 1, 5]), ("u", &[0, 1, 3])]),
            ],
        );
    }

    #[test]
    fn a_partition_that_moves_is_withheld_until_its_owner_has_revoked_it() {
        let all: &[i32] = &[0, 1, 2];
        check(
            STICKY,
            &[owning("a", 4, &[("t", all), ("u", all)]), member("b", &["t", "u"])],
            &[("t", 3), ("u", 3)],
            &[("a", &[("t", &[0]), ("u", &[0, 1])]), ("b", &[])],
        );
        check(
            STICKY,
            &[owning("a", 5, &[("t", &[0]), ("u", &[0, 1])]), owning("b", 5, &[])],
            &[("t", 3), ("u", 3)],
            &[("a", &[("t", &[0]), ("u", &[0, 1])]), ("b", &[("t", &[1, 2]), ("u", &[2])])],
        );
    }

    #[test]
    fn the_claim_of_the_higher_generation_counts() {
        check(
            STICKY,
            &[owning("a", 3, &[("t", &[0, 1])]), owning("b", 4, &[("t", &[0, 1])])],
            &[("t", 4)],
            &[("a", &[("t", &[2, 3])]), ("b", &[("t", &[0, 1])])],
        );
        // Without a generation, a claim is the oldest.
        let mut without = owning("a", 0, &[("t", &[0])]);
        without.subscription.generation = None;
        check(
            STICKY,
            &[without, owning("b", 0, &[("t", &[0])])],
            &[("t", 2)],
            &[("a", &[("t", &[1])]), ("b", &[("t", &[0])])],
        );
    }

    #[test]
    fn a_partition_claimed_twice_in_one_generation_is_withheld_for_a_round() {
        check(
            STICKY,
            &[owning("a", 4, &[("t", &[0, 1])]), owning("b", 4, &[("t", &[0])])],
            &[("t", 3)],
            &[("a", &[("t", &[1, 2])]), ("b", &[])],
        );
    }

    #[test]
    fn a_partition_of_a_topic_that_its_owner_left_is_withheld_until_it_is_revoked() {
        let mut other = owning("a", 4, &[("t", &[0])]);
        other.subscription.topics = vec!["u".to_owned()];
        check(
            STICKY,
            &[other, member("b", &["t"])],
            &[("t", 2), ("u", 1)],
            &[("a", &[("u", &[0])]), ("b", &[("t", &[1])])],
        );
    }

    #[test]
    fn claims_of_partitions_that_do_not_exist_are_ignored() {
        check(
            STICKY,
            &[owning("a", 4, &[("t", &[-1, 0, 7]), ("gone", &[0])])],
            &[("t", 1)],
            &[("a", &[("t", &[0])])],
        );
    }

    #[test]
    fn a_chain_of_moves_is_found_where_subscriptions_allow_no_direct_one() {
        // Only b shares a topic with each of the others: a passes on to b what b passes on to c.
        let mut a = owning("a", 4, &[("t", &[0, 1, 2])]);
        a.subscription.topics = vec!["t".to_owned()];
        let mut c = member("c", &["u"]);
        c.subscription.generation = Some(4);
        check(
            STICKY,
            &[a, owning("b", 4, &[("u", &[0, 1])]), c],
            &[("t", 3), ("u", 2)],
            &[("a", &[("t", &[0, 1])]), ("b", &[("u", &[0])]), ("c", &[])],
        );
    }

    #[test]
    fn a_partition_without_an_owner_goes_where_its_topic_is_missing() {
        check(
            STICKY,
            &[owning("a", 4, &[("u", &[0])]), owning("b", 4, &[("t", &[0])])],
            &[("t", 1), ("u", 2)],
            &[("a", &[("u", &[0])]), ("b", &[("t", &[0]), ("u", &[1])])],
        );
    }

    #[test]
    fn nothing_that_is_owned_moves_while_the_rest_can_be_placed_evenly() {
        let subscribed = |mut member: MemberSubscription, topics: &[&str]| {
            member.subscription.topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
            member
        };
        // One after the other, t-0 and u-0 are both assigned to a. It must pass t-0 on to b, not o-0, which it owns.
        check(
            STICKY,
            &[
                subscribed(owning("a", 4, &[("o", &[0])]), &["o", "t", "u"]),
                subscribed(owning("b", 4, &[("x", &[0])]), &["o", "t", "x"]),
                subscribed(owning("c", 4, &[("y", &[0, 1])]), &["u", "y"]),
            ],
            &[("o", 1), ("t", 1), ("u", 1), ("x", 1), ("y", 2)],
            &[
                ("a", &[("o", &[0]), ("u", &[0])]),
                ("b", &[("t", &[0]), ("x", &[0])]),
                ("c", &[("y", &[0, 1])]),
            ],
        );
    }

    #[test]
    fn a_member_in_a_chain_passes_on_what_it_does_not_own() {
        let mut a = owning("a", 4, &[("s", &[0, 1, 2, 3])]);
        a.subscription.topics = vec!["s".to_owned()];
        let mut b = owning("b", 4, &[("t", &[1])]);
        b.subscription.topics.push("s".to_owned());
        check(
            STICKY,
            &[a, b, owning("c", 4, &[("t", &[2])])],
            &[("s", 4), ("t", 3)],
            &[("a", &[("s", &[0, 1])]), ("b", &[("t", &[1])]), ("c", &[("t", &[0, 2])])],
        );
    }
}
