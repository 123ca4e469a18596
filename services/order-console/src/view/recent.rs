//! The latest orders and the status of each, from the checkpoints and the ends of three topics.
//!
//! | topic | says |
//! |---|---|
//! | orders, replay | which orders came last; which dead letters were sent again |
//! | dead letters | which of them failed |

use std::collections::{BTreeMap, BTreeSet};

use dead_letter::{Identity, RawHeader, replay_of};
use kafka_client::cluster::{Cluster, partitions};
use kafka_client::offsets::{OffsetAt, list_offsets};
use kafka_core::TopicPartition;
use kafka_core::record_batch::Record;
use order_avro::SCHEMA_ID_HEADER;
use order_ledger::checkpoint::{PartitionState, RecordState};
use uuid::Uuid;

use super::body::{Orders, RecentOrder, Status};
use super::tail::Tail;
use crate::dlq::decoded::{Decoded, Decoder, Undecoded};
use crate::dlq::letter::DlqContext;
use crate::group_snapshot::GroupSnapshot;
use crate::settings::ConsoleSettings;
use crate::text::bytes;
use crate::time::Time;

/// The most orders of an answer.
pub(crate) const ORDERS_MAX: usize = 100;
/// Records of all partitions of a topic that are kept, and the least and the most of one partition.
const KEPT: usize = 300;
const KEPT_OF_PARTITION: (usize, usize) = (5, 50);
/// Dead letters of one partition that are kept.
const LETTERS_OF_PARTITION: usize = 500;
/// The longest value that is decoded, in bytes, and the longest text that is shown, in characters.
const VALUE_BYTES_MAX: usize = 64 * 1024;
const TEXT_CHARS_MAX: usize = 200;

/// The ends of the three topics.
pub(super) struct Recent {
    dlq: DlqContext,
    decoder: Decoder,
    orders: Tail<Seen>,
    replays: Tail<Seen>,
    letters: Tail<(Identity, String)>,
}

/// An order as it was read.
#[derive(Debug)]
struct Seen {
    /// As far as it was decoded; its status is not known yet.
    order: RecentOrder,
    /// The identity that its dead letter would have.
    identity: Identity,
    /// The dead letter that it replays.
    letter: Option<Identity>,
    /// The value while it is not decoded.
    undecoded: Option<Undecoded>,
}

impl Recent {
    pub(super) fn new(settings: &ConsoleSettings) -> Self {
        let group = settings.group.group_id.clone();
        Self {
            dlq: DlqContext {
                topic: settings.group.dlq_topic.clone(),
                topic_id: Uuid::nil(),
                group,
            },
            decoder: Decoder::new(settings),
            orders: Tail::new(settings.topics.orders_topic.as_str()),
            replays: Tail::new(settings.group_topics.replay.as_str()),
            letters: Tail::new(settings.group.dlq_topic.as_str()),
        }
    }

    pub(super) async fn catch_up(
        &mut self,
        cluster: &Cluster,
        settings: &ConsoleSettings,
        reading: &GroupSnapshot,
    ) -> anyhow::Result<()> {
        let group = &self.dlq.group;
        let mut outcome = Ok(());
        for (tail, name) in [
            (&mut self.orders, &settings.topics.orders_topic),
            (&mut self.replays, &settings.group_topics.replay),
        ] {
            let Some(topic) = reading.topics.get(name) else { continue };
            let count = topic.leaders.len().max(1);
            let length = (KEPT / count).clamp(KEPT_OF_PARTITION.0, KEPT_OF_PARTITION.1);
            let make =
                |tp: &TopicPartition, record: &Record<'_>| seen(tp, topic.topic_id, group, record);
            outcome =
                outcome.and(tail.catch_up(cluster, topic, &reading.log_ends, length, make).await);
            for seen in tail.iter_mut() {
                seen.decode(&mut self.decoder).await;
            }
        }
        let described = cluster.metadata(&[&settings.group.dlq_topic]).await?;
        if let Some(topic) = described.get(&settings.group.dlq_topic) {
            self.dlq.topic_id = topic.topic_id;
            let ends = list_offsets(cluster, &partitions(&described), OffsetAt::LastStable).await?;
            let known = ends.into_iter().filter_map(|(tp, end)| Some((tp, end.ok()?))).collect();
            let dlq = &self.dlq;
            let make = |tp: &TopicPartition, record: &Record<'_>| {
                let letter = dlq.read(tp.partition, record);
                let error_type = shown(letter.cause.type_or_label());
                (letter.identity, error_type)
            };
            self.letters.catch_up(cluster, topic, &known, LETTERS_OF_PARTITION, make).await?;
        }
        Ok(outcome?)
    }

    pub(super) fn orders(&self, states: &BTreeMap<TopicPartition, PartitionState>) -> Orders {
        let failed: BTreeMap<&Identity, &str> =
            self.letters.iter().map(|(identity, words)| (identity, words.as_str())).collect();
        let resent: BTreeSet<&Identity> =
            self.replays.iter().filter_map(|seen| seen.letter.as_ref()).collect();
        let mut latest: Vec<&Seen> = self.orders.iter().chain(self.replays.iter()).collect();
        latest.sort_by_key(|seen| std::cmp::Reverse((seen.order.produced_at, seen.order.offset)));
        latest.truncate(ORDERS_MAX);
        let orders = latest.into_iter().map(|seen| {
            let RecentOrder { topic, partition, offset, .. } = &seen.order;
            let state = states.get(&TopicPartition::new(topic.as_str(), *partition));
            let state = state.map(|state| state.record_state(*offset));
            let error_type = failed.get(&seen.identity).copied();
            seen.order(state, error_type, resent.contains(&seen.identity))
        });
        Orders { orders: orders.collect() }
    }
}

fn seen(tp: &TopicPartition, topic_id: Uuid, group: &str, record: &Record<'_>) -> Seen {
    let headers: Vec<RawHeader<'_>> =
        record.headers.iter().map(|header| (header.name, header.value)).collect();
    let identity = |topic_id, partition, offset, replay_count| Identity {
        topic_id,
        partition,
        offset,
        group: group.to_owned(),
        replay_count,
    };
    let (own, letter) = match replay_of(&headers) {
        Some((of, count)) => (
            identity(of.topic_id, of.partition, of.offset, count),
            Some(identity(of.topic_id, of.partition, of.offset, count.saturating_sub(1))),
        ),
        None => (identity(topic_id, tp.partition, record.offset, 0), None),
    };
    let is_short = record.value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX);
    let undecoded = is_short.then(|| {
        let header = record.headers.last(SCHEMA_ID_HEADER.as_bytes());
        let schema_header = header.and_then(|header| header.value).map(<[u8]>::to_vec);
        Undecoded { value: record.value.map(<[u8]>::to_vec), schema_header }
    });
    let note =
        if is_short { "the schema registry does not answer" } else { "too long to be shown" };
    let order = RecentOrder {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        offset: record.offset,
        produced_at: Time::of(record.timestamp_ms),
        order_id: None,
        product: None,
        price: None,
        key: record.key.map(|key| shown(&bytes(&key[..key.len().min(TEXT_CHARS_MAX)]))),
        status: Status::Waiting,
        attempts: None,
        error_type: None,
        note: Some(note.to_owned()),
    };
    Seen { order, identity: own, letter, undecoded }
}

impl Seen {
    async fn decode(&mut self, decoder: &mut Decoder) {
        let Some(undecoded) = &self.undecoded else { return };
        self.order.note = match decoder.decode_kept(undecoded).await {
            Decoded::Order(order, _) => {
                self.order.order_id = Some(shown(&order.order_id));
                self.order.product = Some(shown(&order.product));
                self.order.price = Some(order.price).filter(|price| price.is_finite());
                None
            }
            // The registry may answer later.
            Decoded::NoRegistry(_) => return,
            Decoded::NotAnOrder(why) => Some(shown(&why)),
            Decoded::Nothing | Decoded::Omitted => Some("no value".to_owned()),
        };
        self.undecoded = None;
    }

    fn order(
        &self,
        state: Option<RecordState>,
        error_type: Option<&str>,
        is_resent: bool,
    ) -> RecentOrder {
        let (status, attempts) = match state {
            Some(RecordState::Complete) if is_resent => (Status::Replayed, None),
            Some(RecordState::Complete | RecordState::Doomed { .. }) if error_type.is_some() => {
                (Status::DeadLettered, None)
            }
            Some(RecordState::Complete) if self.letter.is_some() => (Status::Replayed, None),
            Some(RecordState::Complete) => (Status::Processed, None),
            Some(RecordState::Incomplete { attempts }) if attempts > 0 => {
                (Status::Retrying, Some(attempts))
            }
            Some(
                RecordState::Incomplete { .. } | RecordState::Doomed { .. } | RecordState::NotRead,
            )
            | None => (Status::Waiting, None),
        };
        let error_type =
            error_type.filter(|_| matches!(status, Status::DeadLettered | Status::Replayed));
        let error_type = error_type.map(str::to_owned);
        RecentOrder { status, attempts, error_type, ..self.order.clone() }
    }
}

/// Cuts a text to what is shown of it.
fn shown(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use dead_letter::{REPLAY_COUNT_HEADER, REPLAY_OF_HEADER};
    use kafka_core::record_batch::{BatchBuilder, batches};

    use super::*;

    const ORDERS: Uuid = Uuid::from_u128(1);

    fn read(topic: &str, headers: &[RawHeader<'_>]) -> Seen {
        let batch = BatchBuilder::new(7).record(5, Some(b"k"), None, headers).build().unwrap();
        let opened = batches(batch).next().unwrap().open(1 << 20).unwrap();
        let record = opened.records().next().unwrap().unwrap();
        let id = if topic == "orders" { ORDERS } else { Uuid::from_u128(2) };
        seen(&TopicPartition::new(topic, 3), id, "night", &record)
    }

    #[test]
    fn the_status_of_an_order_follows_from_its_checkpoint_its_letter_and_its_replay() {
        let order = read("orders", &[]);
        let status = |state, error_type, is_resent| {
            let order = order.order(state, error_type, is_resent);
            (order.status, order.attempts, order.error_type)
        };
        let (complete, open) =
            (Some(RecordState::Complete), |attempts| RecordState::Incomplete { attempts });
        let dead = || Some("simulated".to_owned());
        assert_eq!(status(None, None, false), (Status::Waiting, None, None));
        assert_eq!(status(Some(RecordState::NotRead), None, false), (Status::Waiting, None, None));
        assert_eq!(status(Some(open(0)), None, false), (Status::Waiting, None, None));
        assert_eq!(status(Some(open(2)), None, false), (Status::Retrying, Some(2), None));
        assert_eq!(status(complete, None, false), (Status::Processed, None, None));
        assert_eq!(
            status(complete, Some("simulated"), false),
            (Status::DeadLettered, None, dead())
        );
        assert_eq!(status(complete, Some("simulated"), true), (Status::Replayed, None, dead()));
        // The letter is written before its record counts as complete.
        let doomed = Some(RecordState::Doomed { attempts: 3, reason: None });
        assert_eq!(status(doomed, Some("simulated"), false).0, Status::DeadLettered);
        assert_eq!(status(doomed, None, false).0, Status::Waiting);
        assert_eq!(status(Some(open(3)), Some("simulated"), false).0, Status::Retrying);
    }

    #[test]
    fn a_replay_is_identified_by_where_the_order_failed_first() {
        let of = format!("orders/{ORDERS}/3/7");
        let replay = read(
            "orders.night.replay",
            &[
                (REPLAY_OF_HEADER.as_bytes(), Some(of.as_bytes())),
                (REPLAY_COUNT_HEADER.as_bytes(), Some(b"1")),
            ],
        );
        assert_eq!(replay.letter, Some(read("orders", &[]).identity));
        assert_eq!(replay.identity.to_string(), format!("{ORDERS}/3/7/1/night"));
        let status =
            |error_type| replay.order(Some(RecordState::Complete), error_type, false).status;
        assert_eq!(status(None), Status::Replayed);
        assert_eq!(status(Some("simulated")), Status::DeadLettered, "it has failed again");
    }
}
