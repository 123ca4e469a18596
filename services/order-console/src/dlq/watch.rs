//! `dlq watch`: letters as they come, decoded, one line each.

use std::collections::{BTreeSet, VecDeque};

use anyhow::bail;
use dead_letter::Identity;
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use kafka_client::reader::{Fetched, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use service_runtime::printable;
use tokio::sync::mpsc;

use super::Overview;
use super::decoded::{Decoded, Decoder};
use super::filter::Filter;
use super::letter::{Desk, Letter};
use super::reading::Chunk;
use super::render::{json_letter, nullable, short, time};
use crate::output::Output;

/// Fetches of a partition that wait to be looked at.
const QUEUE_MAX: usize = 1;
/// Letters that are remembered to show a repeat of one only once: a crash repeats the latest ones.
const REMEMBERED_MAX: usize = 10_000;

/// Where watching begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first letter that is there.
    Beginning,
    /// After the last.
    End,
}

/// What is shown, how, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    pub(crate) filter: Filter,
    pub(crate) from: From,
    /// How many letters; then it ends.
    pub(crate) limit: u64,
    pub(crate) is_json: bool,
}

/// Prints letters until told to stop, or until there were as many as wanted.
///
/// # Errors
/// When the topic is deleted, or when nobody reads the output any more.
pub(crate) async fn run(
    overview: &Overview,
    decoder: &mut Decoder,
    watching: &Watching,
) -> anyhow::Result<()> {
    let Overview { cluster, stop, dlq: topic, desk, .. } = overview;
    let mut reader = Reader::start(cluster.clone(), ReaderConfig::default());
    let mut fetches = SelectAll::new();
    for (partition, range) in &topic.ranges {
        let position = if watching.from == From::Beginning { range.start } else { range.end };
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let tp = TopicPartition::new(topic.name.as_str(), *partition);
        reader.add(tp, topic.id, position, sender);
        fetches.push(follow(*partition, position, receiver));
    }
    let mut output = Output::new();
    let mut remembered = Remembered::default();
    let mut left = watching.limit;
    while left > 0 {
        let next = tokio::select! {
            () = stop.cancelled() => break,
            next = fetches.next() => next,
        };
        let chunk = match next {
            Some((partition, position, Fetched::Batches(news))) => {
                Chunk::open(partition, news, position..i64::MAX)
            }
            Some((partition, _, Fetched::OutOfRange { position })) => {
                bail!("{}-{partition} has nothing at offset {position} any more", topic.name)
            }
            Some((_, _, Fetched::Recreated { .. })) => {
                bail!("topic {} was deleted and created again", topic.name)
            }
            None => bail!("the reader of {} has ended", topic.name),
        };
        for words in chunk.unreadable.iter().cloned().chain(chunk.undecodable()) {
            tracing::warn!(partition = chunk.partition, "passed over what cannot be read: {words}");
        }
        for record in chunk.records() {
            let letter = desk.read(chunk.partition, &record);
            let is_shown = watching.filter.takes(&letter)
                && letter.identity.group == desk.group
                && remembered.is_new(&letter.identity);
            if is_shown && left > 0 {
                left -= 1;
                output.line(&line(desk, &letter, decoder, watching.is_json).await)?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// Streams what arrives for a partition, with the partition and the position that was asked for.
fn follow(
    partition: i32,
    position: i64,
    receiver: mpsc::Receiver<Fetched>,
) -> impl Stream<Item = (i32, i64, Fetched)> + Unpin {
    Box::pin(stream::unfold(receiver, move |mut receiver| async move {
        let fetched = receiver.recv().await?;
        Some(((partition, position, fetched), receiver))
    }))
}

/// The latest letters, told apart from repeats of them.
#[derive(Debug, Default)]
struct Remembered {
    known: BTreeSet<Identity>,
    order: VecDeque<Identity>,
}

impl Remembered {
    fn is_new(&mut self, identity: &Identity) -> bool {
        if !self.known.insert(identity.clone()) {
            return false;
        }
        self.order.push_back(identity.clone());
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

async fn line(desk: &Desk, letter: &Letter<'_>, decoder: &mut Decoder, is_json: bool) -> String {
    if is_json {
        // What becomes of a letter is not known yet when it comes.
        return json_letter(&desk.topic, letter, None).to_string();
    }
    let cause = &letter.cause;
    let place = match (&cause.topic, cause.partition, cause.offset) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic}-{partition}@{offset}"),
        (topic, _, _) => topic.clone().unwrap_or_else(|| "-".to_owned()),
    };
    let value = decoder.decode(letter).await;
    // Most keys are the order's id.
    let key = match &value {
        Decoded::Order(order, _) if letter.key == Some(order.order_id.as_bytes()) => String::new(),
        Decoded::Order(..)
        | Decoded::NotAnOrder(_)
        | Decoded::NoRegistry(_)
        | Decoded::Nothing
        | Decoded::Omitted => format!("key={} ", short(&nullable(letter.key))),
    };
    format!(
        "{} {} {} from {} {key}{} ({})",
        time(letter.failed_at_ms()),
        letter.place,
        printable(cause.type_or_label()),
        printable(&place),
        value.words(),
        cause.message.as_deref().map_or_else(|| "no message".to_owned(), short),
    )
}
