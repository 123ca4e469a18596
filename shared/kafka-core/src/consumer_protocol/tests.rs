use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn topic_partitions(all: &[(&str, &[i32])]) -> TopicPartitions {
    all.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect()
}

/// Subscriptions to `alpha` and `orders` as `ConsumerProtocol.serializeSubscription` of Kafka 4.3.1 writes them, with
/// the user data of its cooperative-sticky assignor in generation 7, owning alpha-1, orders-0 and orders-2.
mod java {
    use super::*;

    const TOPICS: &str = "00000002 0005616c706861 00066f7264657273";
    const USER_DATA: &str = "00000004 00000007";
    const OWNED: &str =
        "00000002 0005616c706861 00000001 00000001 00066f7264657273 00000002 00000000 00000002";
    const GENERATION: &str = "00000007";
    const RACK: &str = "00067261636b2d31";

    fn check(hex: &[&str], owned: &[(&str, &[i32])], generation: Option<i32>, rack: Option<&str>) {
        let subscription = Subscription::decode(&bytes(&hex.concat())).unwrap();
        assert_eq!(subscription.topics, ["alpha", "orders"]);
        assert_eq!(subscription.owned, topic_partitions(owned));
        assert_eq!(subscription.generation, generation);
        assert_eq!(subscription.rack_id.as_deref(), rack);
        assert_eq!(subscription.implementation, Implementation::Other);
    }

    #[test]
    fn subscriptions_of_versions_0_to_3_are_read() {
        let owned: &[(&str, &[i32])] = &[("alpha", &[1]), ("orders", &[0, 2])];
        check(&["0000", TOPICS, USER_DATA], &[], Some(7), None);
        check(&["0001", TOPICS, USER_DATA, OWNED], owned, Some(7), None);
        check(&["0002", TOPICS, USER_DATA, OWNED, GENERATION], owned, Some(7), None);
        check(
            &["0003", TOPICS, USER_DATA, OWNED, GENERATION, RACK],
            owned,
            Some(7),
            Some("rack-1"),
        );
    }

    #[test]
    fn the_known_fields_of_a_later_version_are_read() {
        let owned: &[(&str, &[i32])] = &[("alpha", &[1]), ("orders", &[0, 2])];
        let later = ["0009", TOPICS, USER_DATA, OWNED, GENERATION, RACK, "ffff0102"];
        check(&later, owned, Some(7), Some("rack-1"));
    }

    #[test]
    fn a_first_join_has_no_generation() {
        let cooperative = "0003 00000001 00066f7264657273 00000004ffffffff 00000000 ffffffff ffff";
        let range = "0003 00000001 00066f7264657273 ffffffff 00000000 ffffffff ffff";
        for hex in [cooperative, range] {
            let subscription = Subscription::decode(&bytes(hex)).unwrap();
            let expected =
                Subscription { topics: vec!["orders".into()], ..Subscription::default() };
            assert_eq!(subscription, expected);
        }
    }

    #[test]
    fn the_eager_sticky_assignors_user_data_hold_the_owned_partitions() {
        let owned: &[(&str, &[i32])] = &[("alpha", &[1]), ("orders", &[0, 2])];
        check(&["0000", TOPICS, "0000002b", OWNED, GENERATION], owned, Some(7), None);
    }

    #[test]
    fn assignments_of_versions_0_to_3_are_read() {
        let partitions =
            "00000002 00066f7264657273 00000002 00000002 00000000 0005616c706861 00000001 00000001";
        for (version, user_data) in
            [("0000", "ffffffff"), ("0001", "000000020102"), ("0003", "ffffffff")]
        {
            let assignment = Assignment::decode(&bytes(&[version, partitions, user_data].concat()));
            let expected = topic_partitions(&[("alpha", &[1]), ("orders", &[0, 2])]);
            let expected = Assignment { partitions: expected, ..Assignment::default() };
            assert_eq!(assignment, Ok(expected));
        }
        let empty = Assignment::decode(&bytes("0003 00000000 ffffffff"));
        assert_eq!(empty, Ok(Assignment::default()));
    }
}

/// What librdkafka 2.16.0 sent with `cooperative-sticky`, as the broker describes its group.
mod librdkafka {
    use super::*;

    const TOPICS: &str = "0003 00000002 0005616c706861 00066f7264657273";

    #[test]
    fn subscriptions_are_read() {
        let first = [TOPICS, "00000000 00000000 ffffffff 00067261636b2d31"].concat();
        let first = Subscription::decode(&bytes(&first)).unwrap();
        assert_eq!((first.generation, first.rack_id.as_deref()), (None, Some("rack-1")));
        assert_eq!(first.owned, TopicPartitions::new());

        let second = [TOPICS, "00000008 0000000000000002 00000000 00000002 0000"].concat();
        let second = Subscription::decode(&bytes(&second)).unwrap();
        assert_eq!((second.generation, second.rack_id), (Some(2), None));

        let owned = "00000001 00066f7264657273 00000003 00000000 00000001 00000002";
        let third =
            [TOPICS, "00000020", owned, "00000002", owned, "00000002 00067261636b2d31"].concat();
        let third = Subscription::decode(&bytes(&third)).unwrap();
        assert_eq!(third.owned, topic_partitions(&[("orders", &[0, 1, 2])]));
        assert_eq!(third.generation, Some(2));
        assert_eq!(third.implementation, Implementation::Other);
    }

    #[test]
    fn assignments_are_read_and_its_assignors_user_data_are_ignored() {
        let hex =
            "0000 00000001 0005616c706861 00000002 00000001 00000000 00000008 00000000 00000002";
        let expected = topic_partitions(&[("alpha", &[0, 1])]);
        let expected = Assignment { partitions: expected, ..Assignment::default() };
        assert_eq!(Assignment::decode(&bytes(hex)), Ok(expected));
    }
}

#[test]
fn our_subscription_is_version_3_with_the_generation_first_in_the_user_data() {
    let subscription = Subscription {
        topics: vec!["orders".into(), "alpha".into(), "orders".into()],
        owned: topic_partitions(&[("orders", &[0, 2])]),
        generation: Some(7),
        rack_id: None,
        implementation: Implementation::This,
    };
    let hex = [
        "0003 00000002 0005616c706861 00066f7264657273",
        "00000011 00000007 6b61666b612d67726f75702f31",
        "00000001 00066f7264657273 00000002 00000000 00000002",
        "00000007 ffff",
    ];
    assert_eq!(subscription.encode().unwrap(), bytes(&hex.concat()));

    let first = Subscription { topics: vec!["orders".into()], ..Subscription::default() };
    let hex = [
        "0003 00000001 00066f7264657273",
        "00000011 ffffffff 6b61666b612d67726f75702f31",
        "00000000 ffffffff ffff",
    ];
    assert_eq!(first.encode().unwrap(), bytes(&hex.concat()));
}

#[test]
fn our_assignment_is_version_0_with_the_partition_counts_in_the_user_data() {
    let partitions = topic_partitions(&[("orders", &[0, 2])]);
    let assignment = Assignment { partitions: partitions.clone(), ..Assignment::default() };
    let hex = "0000 00000001 00066f7264657273 00000002 00000000 00000002 00000000";
    assert_eq!(assignment.encode().unwrap(), bytes(hex));

    let partition_counts = BTreeMap::from([("orders".to_owned(), 3)]);
    let assignment = Assignment { partitions, partition_counts };
    let hex = [
        "0000 00000001 00066f7264657273 00000002 00000000 00000002",
        "0000001d 6b61666b612d67726f75702f31 00000001 00066f7264657273 00000003",
    ];
    assert_eq!(assignment.encode().unwrap(), bytes(&hex.concat()));
}

#[test]
fn user_data_without_our_counts_leave_the_partitions_readable() {
    let partitions = "0000 00000001 00066f7264657273 00000001 00000002";
    let marker = "6b61666b612d67726f75702f31";
    for user_data in ["", "ffffffff", "00000003 616263", "00000040 6b61", "00000011 [m] 7fffffff"] {
        let hex = [partitions, &user_data.replace("[m]", marker)].concat();
        let partitions = topic_partitions(&[("orders", &[2])]);
        let expected = Assignment { partitions, ..Assignment::default() };
        assert_eq!(Assignment::decode(&bytes(&hex)), Ok(expected), "{user_data}");
    }
}

#[test]
fn no_bytes_are_an_empty_assignment_but_not_a_subscription() {
    assert_eq!(Assignment::decode(&[]), Ok(Assignment::default()));
    assert_eq!(Subscription::decode(&[]), Err(ConsumerProtocolError::Truncated));
}

#[test]
fn counts_of_billions_are_refused_without_allocating_for_them() {
    for hex in ["0003 7fffffff", "0001 00000000 ffffffff 7fffffff 0000 7fffffff"] {
        assert_eq!(Subscription::decode(&bytes(hex)), Err(ConsumerProtocolError::Truncated));
    }
    assert_eq!(Assignment::decode(&bytes("0000 7fffffff")), Err(ConsumerProtocolError::Truncated));
}

#[test]
fn malformed_fields_are_refused() {
    let negative_version = Subscription::decode(&bytes("ffff 00000000 ffffffff"));
    assert_eq!(negative_version, Err(ConsumerProtocolError::Version(-1)));
    for hex in ["0003 ffffffff", "0003 00000001 ffff", "0003 00000001 0002c328"] {
        assert_eq!(Subscription::decode(&bytes(hex)), Err(ConsumerProtocolError::Malformed));
    }
    let long = Subscription { topics: vec!["t".repeat(40_000)], ..Subscription::default() };
    assert_eq!(long.encode(), Err(ConsumerProtocolError::TooLong));
}

fn any_topic_partitions() -> impl Strategy<Value = TopicPartitions> {
    let partitions = btree_set(0..50_i32, 1..6).prop_map(|set| set.into_iter().collect());
    btree_map("[a-z]{1,8}", partitions, 0..4)
}

proptest! {
    #[test]
    fn written_subscriptions_and_assignments_are_read_back(
        topics in btree_set("[a-zé.]{1,20}", 0..5),
        owned in any_topic_partitions(),
        generation in option::of(0..i32::MAX),
        rack_id in option::of("[a-z]{1,5}"),
        partition_counts in btree_map("[a-z]{1,8}", any::<i32>(), 0..4),
    ) {
        let topics = topics.into_iter().collect();
        let implementation = Implementation::This;
        let written = Subscription { topics, owned: owned.clone(), generation, rack_id, implementation };
        prop_assert_eq!(Subscription::decode(&written.encode().unwrap()), Ok(written));

        let written = Assignment { partitions: owned, partition_counts };
        prop_assert_eq!(Assignment::decode(&written.encode().unwrap()), Ok(written));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(version in 0..5_u8, rest in vec(any::<u8>(), 0..80), zeros in 0..8_usize) {
        let mut bytes = vec![0, version];
        bytes.resize(2 + zeros, 0);
        bytes.extend_from_slice(&rest);
        if let Ok(subscription) = Subscription::decode(&bytes) {
            let partitions: usize = subscription.owned.values().map(Vec::len).sum();
            prop_assert!(partitions + subscription.topics.len() <= bytes.len());
        }
        if let Ok(assignment) = Assignment::decode(&bytes) {
            prop_assert!(assignment.partitions.len() <= bytes.len());
        }
    }
}
