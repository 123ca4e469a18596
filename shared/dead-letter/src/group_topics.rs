//! The names of a group's own topics: its replays, and its operators' actions on dead letters.
//!
//! The names begin with a prefix that is unique for each group and orders' topic. Kafka refuses a topic whose name
//! differs from another's only in `.` and `_`, so prefixes differ in more than that:
//!
//! | the group's id | prefix |
//! |---|---|
//! | letters, digits and hyphens | `<orders>.<group>` |
//! | anything else | `<orders>.<group>-<hash>`, both parts made legal and short; the hash is of the original names |
//!
//! The last part of a prefix has neither `.` nor `_`, so a prefix can be split again. A group id that already ends like
//! one with a hash gets a hash, too.

use sha2::{Digest, Sha256};

use crate::hex;

const REPLAY: &str = ".replay";
const ACTIONS: &str = ".dlq-actions";
/// Longest name that Kafka allows a topic, in characters.
const TOPIC_NAME_LENGTH_MAX: usize = 249;
const PREFIX_LENGTH_MAX: usize = TOPIC_NAME_LENGTH_MAX - ACTIONS.len();
/// Bytes of the hash: enough to rule out that two names have the same.
const HASH_BYTES: usize = 16;
/// Most characters of a group's id in a prefix with a hash.
const GROUP_LENGTH_MAX: usize = 64;

/// The names of a group's own topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTopics {
    /// The topic that the group reads its replays from.
    pub replay: String,
    /// The topic of the operators' [`actions`](crate::actions).
    pub actions: String,
    /// The replay topic of earlier releases, if it has another name and the operator has set no prefix.
    ///
    /// Earlier releases replaced illegal characters by `-` and cut long names, so two groups could share a topic.
    pub earlier_replay: Option<String>,
}

impl GroupTopics {
    /// Names the topics of `group`, which processes `orders_topic`. The operator's `prefix` (`GROUP_TOPICS_PREFIX`)
    /// takes precedence.
    pub fn new(orders_topic: &str, group: &str, prefix: Option<&str>) -> Self {
        let derived = || derived_prefix(orders_topic, group);
        let start = prefix.map_or_else(derived, str::to_owned);
        let replay = start.clone() + REPLAY;
        let earlier =
            replaced(&format!("{orders_topic}.{group}{REPLAY}"), TOPIC_NAME_LENGTH_MAX, is_legal);
        let earlier_replay = (prefix.is_none() && earlier != replay).then_some(earlier);
        Self { replay, actions: start + ACTIONS, earlier_replay }
    }
}

/// The group's replays are in the topic of an earlier release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group has committed offsets in {0}, the replay topic of an earlier release, which another group may share: \
     {way}; then replays in it do not count",
    way = way_out(.0)
)]
pub struct EarlierTopicUsed(pub String);

fn way_out(earlier: &str) -> String {
    match earlier.strip_suffix(REPLAY) {
        Some(prefix) => {
            format!("set GROUP_TOPICS_PREFIX={prefix} to keep its topics, or delete it")
        }
        None => "delete it".to_owned(),
    }
}

/// Returns the prefix of the names of a group's topics.
fn derived_prefix(orders_topic: &str, group: &str) -> String {
    let is_plain = |c: char| is_legal(c) && !matches!(c, '.' | '_');
    let plain = format!("{orders_topic}.{group}");
    let is_kept = group.chars().all(is_plain)
        && orders_topic.chars().all(is_legal)
        && plain.len() <= PREFIX_LENGTH_MAX
        && !ends_with_hash(group);
    if is_kept {
        return plain;
    }
    let group_part = replaced(group, GROUP_LENGTH_MAX, is_plain);
    let topic_max = PREFIX_LENGTH_MAX - group_part.len() - 2 * HASH_BYTES - 2;
    let topic_part = replaced(orders_topic, topic_max, is_legal);
    format!("{topic_part}.{group_part}-{}", hash(orders_topic, group))
}

/// Returns whether Kafka allows this character in a topic's name.
fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Returns the first characters of a text, with `-` for each that is not kept.
fn replaced(text: &str, chars_max: usize, is_kept: impl Fn(char) -> bool) -> String {
    text.chars().take(chars_max).map(|c| if is_kept(c) { c } else { '-' }).collect()
}

/// Returns a hash of both names in 32 hexadecimal digits.
fn hash(orders_topic: &str, group: &str) -> String {
    // UTF-8 never has this byte, so it separates the names unambiguously.
    let mut digest = Sha256::new_with_prefix(orders_topic);
    digest.update([0xff]);
    digest.update(group);
    hex(&digest.finalize()[..HASH_BYTES])
}

fn ends_with_hash(group: &str) -> bool {
    group.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == 2 * HASH_BYTES && end.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_is_kept_and_any_other_is_made_legal_with_a_hash() {
        assert_eq!(
            derived_prefix("orders", "order-processor-group"),
            "orders.order-processor-group"
        );
        assert_eq!(derived_prefix("shop.orders_v2", "night"), "shop.orders_v2.night");
        for (group, legal) in [("team/fw", "team-fw"), ("a.b", "a-b"), ("a_b", "a-b"), ("å", "-")]
        {
            let prefix = derived_prefix("orders", group);
            let hash = prefix.strip_prefix(&format!("orders.{legal}-")).expect("readable");
            assert!(ends_with_hash(&prefix) && hash.len() == 32, "{prefix}");
        }
        assert_eq!(
            derived_prefix("orders", "team/fw"),
            "orders.team-fw-b3c4f0e693ed703e01a7e312606c450b"
        );
    }

    #[test]
    fn the_longest_prefix_that_the_settings_allow_leaves_room_for_the_rest() {
        let longest = "p".repeat(237);
        let topics = GroupTopics::new("orders", "group", Some(&longest));
        let lengths = [&topics.replay, &topics.actions].map(String::len);
        assert_eq!(lengths.into_iter().max(), Some(TOPIC_NAME_LENGTH_MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_two_groups_topics_have_names_that_kafka_refuses_side_by_side(
            (first, second) in pairs(),
        ) {
            let names = [&first, &second].map(|(orders, group)| {
                [REPLAY, ACTIONS].map(|purpose| derived_prefix(orders, group) + purpose)
            });
            for name in names.iter().flatten() {
                prop_assert!(name.len() <= TOPIC_NAME_LENGTH_MAX, "{name}");
                prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
            }
            let [first_names, second_names] = names.map(|names| names.map(|name| as_metric(&name)));
            prop_assert_ne!(&first_names[0], &first_names[1]);
            // Kafka does not allow both orders' topics if their own names collide.
            let are_possible = first.0 == second.0 || as_metric(&first.0) != as_metric(&second.0);
            if first != second && are_possible {
                for name in &first_names {
                    prop_assert!(!second_names.contains(name), "{first:?} {second:?} {name}");
                }
            }
        }
    }

    /// Returns the name as Kafka compares topics: its metrics replace `.` by `_`.
    fn as_metric(name: &str) -> String {
        name.replace('.', "_")
    }

    /// Generates two similar pairs of topic and group.
    fn pairs() -> impl Strategy<Value = ((String, String), (String, String))> {
        let text = || {
            let chars = prop::sample::select(vec!['a', 'b', '.', '_', '-', '/', ':', 'å']);
            let length = prop_oneof![4 => 0..6usize, 1 => 100..300usize];
            let chars = length.prop_flat_map(move |n| prop::collection::vec(chars.clone(), n));
            chars.prop_map(String::from_iter)
        };
        let own = (text(), text());
        (own, text(), text(), 0..7, 0..12usize).prop_map(
            |((topic, group), topic2, group2, way, at)| {
                let (other_topic, other_group) = match way {
                    0 => (topic2, group2),
                    1 => (topic.clone(), group2),
                    2 => (topic2, group.clone()),
                    // The same text, split elsewhere.
                    3 => {
                        let all = format!("{topic}.{group}");
                        let mut dots = all.match_indices(['.', '_', '-']).map(|(at, _)| at);
                        let at = dots.nth(at).unwrap_or(topic.len());
                        (all[..at].to_owned(), all[at + 1..].to_owned())
                    }
                    4 => (topic.clone(), group.replace(['.', '/'], "_").replace(':', ".")),
                    // A group id that equals the other group's part of the prefix.
                    5 => {
                        let prefix = derived_prefix(&topic, &group);
                        let (_, part) = prefix.rsplit_once('.').unwrap_or_default();
                        (topic.clone(), part.to_owned())
                    }
                    _ => {
                        let prefix = derived_prefix(&topic, &group);
                        match prefix.rsplit_once('-') {
                            Some((front, end)) => (front.to_owned(), end.to_owned()),
                            None => (topic2, group2),
                        }
                    }
                };
                ((topic, group), (other_topic, other_group))
            },
        )
    }
}
