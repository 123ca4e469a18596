//! The record that failed, also where its letter was too large to carry all of it.

use anyhow::Context as _;
use bytes::Bytes;
use dead_letter::{OwnedHeader, RawHeader, hex, names, original_headers};
use kafka_client::cluster::Cluster;
use kafka_core::record_batch::Record;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::dlq::letter::Letter;
use crate::dlq::reading::Scan;
use crate::dlq::topic_log::TopicLog;

/// What a record was before it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<OwnedHeader>,
}

/// A failed record, as far as it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole(Original),
    /// The letter leaves something out, and its topic does not have the record any more, for this reason.
    Gone(String),
}

impl Original {
    pub(super) fn in_letter(letter: &Letter<'_>) -> Self {
        Self {
            key: letter.key.map(Bytes::copy_from_slice),
            value: letter.value.map(Bytes::copy_from_slice),
            headers: letter.original_headers(),
        }
    }

    /// Returns a record with what the letter has, and the rest from where it failed; `None` if that is not the same record.
    fn completed(letter: &Letter<'_>, record: &Record<'_>) -> Option<Self> {
        let headers: Vec<RawHeader<'_>> =
            record.headers.iter().map(|header| (header.name, header.value)).collect();
        let is_same = |part: Option<&[u8]>, kept: Option<&[u8]>, omitted: &str, digest: &str| {
            if is_omitted(letter, omitted) {
                part.is_some_and(|part| {
                    letter.text(digest) == Some(hex(&Sha256::digest(part)).as_str())
                })
            } else {
                part == kept
            }
        };
        let is_the_record = is_same(record.key, letter.key, names::KEY, names::KEY_SHA256)
            && is_same(record.value, letter.value, names::VALUE, names::VALUE_SHA256);
        is_the_record.then(|| Self {
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers: if is_omitted(letter, names::HEADERS) {
                original_headers(&headers)
            } else {
                letter.original_headers()
            },
        })
    }
}

/// Returns the record that a letter is about; what was left out of the letter is read from the topic the record failed in.
pub(super) async fn of(
    letter: &Letter<'_>,
    cluster: &Cluster,
    interrupt: &CancellationToken,
) -> anyhow::Result<Found> {
    let is_whole =
        ![names::KEY, names::VALUE, names::HEADERS].iter().any(|part| is_omitted(letter, part));
    if is_whole {
        return Ok(Found::Whole(Original::in_letter(letter)));
    }
    let origin = &letter.origin;
    let gone = |why: &str| Ok(Found::Gone(format!("it is incomplete, and {origin} {why}")));
    let Some(topic) = TopicLog::of(cluster, &origin.topic).await? else {
        return gone("is in no topic any more");
    };
    if topic.id != origin.topic_id {
        return gone("was in a topic that has been deleted and created again");
    }
    if topic.ranges.get(&origin.partition).is_none_or(|range| !range.contains(&origin.offset)) {
        return gone("is no longer in the log");
    }
    let part = topic.only(origin.partition, origin.offset..origin.offset + 1);
    let mut scan = Scan::new(cluster, part, interrupt);
    while let Some(chunk) = scan.next().await.context("fetch what was left out")? {
        if let Some(record) = chunk.records().next() {
            return match Original::completed(letter, &record) {
                Some(original) => Ok(Found::Whole(original)),
                None => gone("is not what it was"),
            };
        }
    }
    gone("cannot be read as a record")
}

fn is_omitted(letter: &Letter<'_>, part: &str) -> bool {
    letter.text(part) == Some(names::OMITTED)
}

#[cfg(test)]
mod tests {
    use dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure};
    use kafka_core::record_batch::{BatchBuilder, batches};
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::DlqContext;

    const HEADERS: &[RawHeader<'_>] = &[(b"z", Some(b"1")), (b"a", None)];

    fn letter() -> DeadLetter {
        let failed = FailedRecord {
            topic: "orders",
            topic_id: Uuid::nil(),
            partition: 0,
            offset: 7,
            timestamp_ms: 0,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: HEADERS,
        };
        let failure = Failure {
            error_type: ErrorType::Rejected,
            message: "no",
            attempts: 1,
            schema_id: None,
            failed_at_ms: 0,
            group: "group",
        };
        DeadLetter::build(&failed, &failure)
    }

    /// Completes a letter from a record with that key and value, and returns whether that was possible.
    fn completes(letter: &DeadLetter, key: &[u8], value: &[u8]) -> bool {
        let headers: Vec<RawHeader<'_>> =
            letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let (kept_key, kept_value) = (letter.key.as_deref(), letter.value.as_deref());
        let batch = BatchBuilder::new(0)
            .record(0, kept_key, kept_value, &headers)
            .record(0, Some(key), Some(value), HEADERS)
            .build()
            .unwrap();
        let opened = batches(batch).next().unwrap().open(1 << 20).unwrap();
        let records: Vec<_> = opened.records().map(Result::unwrap).collect();
        let dlq = DlqContext { topic: "dlq".into(), topic_id: Uuid::nil(), group: "group".into() };
        let letter = dlq.read(0, &records[0]);
        let completed = Original::completed(&letter, &records[1]);
        let headers =
            HEADERS.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
        let expected = Original {
            key: Some(Bytes::copy_from_slice(key)),
            value: Some(Bytes::copy_from_slice(value)),
            headers: headers.collect(),
        };
        completed.is_some_and(|completed| {
            assert_eq!(completed, expected);
            true
        })
    }

    #[test]
    fn a_letter_is_completed_from_its_own_record_and_from_no_other() {
        for letter in [letter(), letter().without_value(), letter().without_record()] {
            assert!(completes(&letter, b"key", b"value"), "{letter:?}");
            assert!(!completes(&letter, b"key", b"other"), "{letter:?}");
            assert!(!completes(&letter, b"other", b"value"), "{letter:?}");
        }
    }
}
