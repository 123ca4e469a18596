//! The group's own topics: what is replayed for it, and what operators have decided about its dead letters.
//!
//! Their names begin with a prefix that tells groups apart, and topics of orders. Kafka refuses a topic whose name
//! differs from another's only in `.` and `_`, so prefixes differ in more than that:
//!
//! | the group's id | prefix |
//! |---|---|
//! | letters, digits and hyphens | `<orders>.<group>` |
//! | anything else | `<orders>.<group>-<hash>`, both parts legal and short; the hash is of both as they were |
//!
//! The last part of a prefix has neither `.` nor `_`, so the parts are told apart again. A group's id that ends as one
//! with a hash gets a hash, too.

use anyhow::{Context as _, bail};
use dead_letter::hex;
use kafka_client::cluster::Cluster;
use kafka_client::error::ClientError;
use kafka_client::offsets::GroupOffsets;
use kafka_client::topics::TOPIC_NAME_LENGTH_MAX;
use sha2::{Digest, Sha256};

use crate::patience::patiently;
use crate::settings::ProcessorSettings;

/// What the names end with.
pub(crate) const REPLAY: &str = ".replay";
pub(crate) const ACTIONS: &str = ".dlq-actions";
/// Longest prefix, in characters.
const PREFIX_LENGTH_MAX: usize = TOPIC_NAME_LENGTH_MAX - ACTIONS.len();
/// Bytes of the hash: too many for two names to have the same.
const HASH_BYTES: usize = 16;
/// Most characters of a group's id in a prefix with a hash.
const GROUP_LENGTH_MAX: usize = 64;

/// Returns what the names of the topics of `group` begin with.
pub(crate) fn prefix(orders_topic: &str, group: &str) -> String {
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

/// Returns whether a topic's name may have this character.
fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Returns the first characters of a text, with `-` for each that is not to be kept.
fn replaced(text: &str, chars_max: usize, is_kept: impl Fn(char) -> bool) -> String {
    text.chars().take(chars_max).map(|c| if is_kept(c) { c } else { '-' }).collect()
}

/// Returns whether topics' names can begin with `text`.
pub(crate) fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX_LENGTH_MAX && text.chars().all(is_legal)
}

/// Returns 32 hexadecimal digits that stand for both names.
fn hash(orders_topic: &str, group: &str) -> String {
    // No text has this byte, so that the names cannot run into each other.
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

/// Returns the replay topic of an earlier release that the group has committed offsets in, if it is another one.
///
/// Earlier releases put `-` for what is not legal and cut what was too long, so groups could have a topic in common. A
/// prefix that the settings name is the operator's decision.
///
/// # Errors
/// A retriable [`ClientError`] while the cluster cannot tell.
pub(crate) async fn earlier_replay_topic(
    cluster: &Cluster,
    settings: &ProcessorSettings,
) -> Result<Option<String>, ClientError> {
    let group = &settings.group.group_id;
    let earlier = earlier_name(&settings.topics.orders_topic, group, REPLAY);
    if settings.group.topics_prefix.is_some() || earlier == settings.replay_topic() {
        return Ok(None);
    }
    let partitions = cluster.existing(&[&earlier]).await?.partitions();
    if partitions.is_empty() {
        return Ok(None);
    }
    let committed = GroupOffsets::new(cluster.clone(), group).committed(&partitions).await?;
    let is_used = committed.values().any(|committed| matches!(committed, Ok(Some(_))));
    Ok(is_used.then_some(earlier))
}

/// Refuses a command of a group whose replays are in a topic of an earlier release.
///
/// # Errors
/// When there is such a topic, or the cluster does not answer.
pub(crate) async fn check(cluster: &Cluster, settings: &ProcessorSettings) -> anyhow::Result<()> {
    let earlier = patiently(|| earlier_replay_topic(cluster, settings)).await;
    refuse(earlier.context("find out about the group's topics of earlier releases")?)
}

/// Refuses to leave the group's replays in a topic of an earlier release without a word.
///
/// # Errors
/// When there is such a topic.
pub(crate) fn refuse(earlier: Option<String>) -> anyhow::Result<()> {
    let Some(earlier) = earlier else { return Ok(()) };
    let way = match earlier.strip_suffix(REPLAY) {
        Some(prefix) => {
            format!("GROUP_TOPICS_PREFIX={prefix} goes on with its topics, or delete it")
        }
        None => "delete it".to_owned(),
    };
    bail!(
        "the group has committed offsets in {earlier}, which an earlier release named so that other groups can have the \
         same: {way}, and what the group replayed through it counts no more"
    )
}

fn earlier_name(orders_topic: &str, group: &str, purpose: &str) -> String {
    replaced(&format!("{orders_topic}.{group}{purpose}"), TOPIC_NAME_LENGTH_MAX, is_legal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_is_kept_and_any_other_is_made_legal_with_a_hash() {
        assert_eq!(prefix("orders", "order-processor-group"), "orders.order-processor-group");
        assert_eq!(prefix("shop.orders_v2", "night"), "shop.orders_v2.night");
        for (group, legal) in [("team/fw", "team-fw"), ("a.b", "a-b"), ("a_b", "a-b"), ("å", "-")]
        {
            let prefix = prefix("orders", group);
            let hash = prefix.strip_prefix(&format!("orders.{legal}-")).expect("readable");
            assert!(ends_with_hash(&prefix) && hash.len() == 32, "{prefix}");
        }
        assert_eq!(prefix("orders", "team/fw"), "orders.team-fw-b3c4f0e693ed703e01a7e312606c450b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_two_groups_topics_have_names_that_kafka_refuses_side_by_side(
            (first, second) in pairs(),
        ) {
            let names = [&first, &second].map(|(orders, group)| {
                [REPLAY, ACTIONS].map(|purpose| prefix(orders, group) + purpose)
            });
            for name in names.iter().flatten() {
                prop_assert!(name.len() <= TOPIC_NAME_LENGTH_MAX, "{name}");
                prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
            }
            let [first_names, second_names] = names.map(|names| names.map(|name| as_metric(&name)));
            prop_assert_ne!(&first_names[0], &first_names[1]);
            // Orders' topics that collide themselves are not there side by side.
            let are_possible = first.0 == second.0 || as_metric(&first.0) != as_metric(&second.0);
            if first != second && are_possible {
                for name in &first_names {
                    prop_assert!(!second_names.contains(name), "{first:?} {second:?} {name}");
                }
            }
        }
    }

    /// Returns the name in the form in which Kafka compares topics: its metrics know no `.`.
    fn as_metric(name: &str) -> String {
        name.replace('.', "_")
    }

    /// Two pairs of topic and group that are much alike.
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
                    // The same text, cut elsewhere.
                    3 => {
                        let all = format!("{topic}.{group}");
                        let mut dots = all.match_indices(['.', '_', '-']).map(|(at, _)| at);
                        let at = dots.nth(at).unwrap_or(topic.len());
                        (all[..at].to_owned(), all[at + 1..].to_owned())
                    }
                    4 => (topic.clone(), group.replace(['.', '/'], "_").replace(':', ".")),
                    // A group that is called what the other's part of the prefix is.
                    5 => {
                        let prefix = prefix(&topic, &group);
                        let (_, part) = prefix.rsplit_once('.').unwrap_or_default();
                        (topic.clone(), part.to_owned())
                    }
                    _ => {
                        let prefix = prefix(&topic, &group);
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
