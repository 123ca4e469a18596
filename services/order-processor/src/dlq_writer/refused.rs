//! Changes a letter that the dead-letter topic refuses, until the topic takes it.
//!
//! A topic that became compacted after the start takes no record without a key, so the letter's identity becomes its key. The
//! start refuses such a topic only if it may read the topic's configuration. A topic with `message.timestamp.before.max.ms`
//! or `.after.max.ms` refuses letters that have waited for too long, or that were written by a wrong clock. They get the
//! present time, and if the topic refuses that as well, no time at all. A header has the time of the failure anyway. A
//! refusal may have other causes, so all changes are tried.

use bytes::Bytes;
use dead_letter::{Identity, NO_TIMESTAMP, RawHeader, names};
use kafka_client::producer::ProduceError;
use kafka_client::producer::ProducerRecord;
use kafka_protocol::ResponseError;

use service_runtime::now_ms;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Key,
    Time,
    NoTime,
}

/// A refused letter with the changes that are left to try. They add up.
#[derive(Debug)]
pub(super) struct Refused {
    record: ProducerRecord,
    left: Vec<Change>,
}

impl Refused {
    pub(super) fn new(record: ProducerRecord) -> Self {
        let mut left = vec![Change::Time, Change::NoTime];
        if record.key.is_none() {
            left.insert(0, Change::Key);
        }
        Self { record, left }
    }

    /// Returns the letter with one more change, chosen by the topic's last refusal, and what that change is; `None` when all
    /// have been tried.
    pub(super) fn next(
        &mut self,
        refusal: &ProduceError,
    ) -> Option<(ProducerRecord, &'static str)> {
        let is_about_time =
            matches!(refusal, ProduceError::Refused { error: ResponseError::InvalidTimestamp, .. });
        let helps = |change: &Change| !is_about_time || *change != Change::Key;
        let index = self.left.iter().position(helps).unwrap_or(0);
        let change = (!self.left.is_empty()).then(|| self.left.remove(index))?;
        let next = match change {
            Change::Time => {
                self.record.timestamp_ms = now_ms();
                "sends it with a fresh timestamp"
            }
            Change::NoTime => {
                self.record.timestamp_ms = NO_TIMESTAMP;
                "sends it without a timestamp"
            }
            Change::Key => {
                make_up_key(&mut self.record);
                "sends it with its identity as a made-up key"
            }
        };
        Some((self.record.clone(), next))
    }
}

fn make_up_key(record: &mut ProducerRecord) {
    let headers: Vec<RawHeader<'_>> =
        record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
    // Every letter of ours has an identity.
    let identity = Identity::of(&headers).map(|identity| identity.to_string());
    record.key = Some(identity.unwrap_or_default().into());
    let (name, value) = (names::KEY.as_bytes(), names::NO_KEY.as_bytes());
    record.headers.push((Bytes::from_static(name), Some(Bytes::from_static(value))));
}

#[cfg(test)]
mod tests {
    use dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure, has_generated_key};
    use kafka_core::TopicPartition;
    use uuid::Uuid;

    use super::*;
    use crate::dlq_writer::outgoing;

    fn letter(key: Option<&[u8]>, offset: i64) -> ProducerRecord {
        let failed = FailedRecord {
            topic: "orders",
            topic_id: Uuid::from_u128(7),
            partition: 2,
            offset,
            timestamp_ms: 0,
            key,
            value: Some(b"value"),
            headers: &[],
        };
        let failure = Failure {
            error_type: ErrorType::Rejected,
            message: "no",
            attempts: 1,
            schema_id: None,
            failed_at_ms: 5,
            group: "group",
        };
        outgoing(&DeadLetter::build(&failed, &failure), 5)
    }

    fn refusal(error: ResponseError) -> ProduceError {
        let target = TopicPartition::new("orders-dlq", 0);
        ProduceError::Refused { target, error, message: String::new() }
    }

    /// Returns what is tried of a letter that is refused again and again: its key, and its time.
    fn forms(record: ProducerRecord, error: ResponseError) -> Vec<(Option<String>, &'static str)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut refused = Refused::new(record);
        let refusal = refusal(error);
        std::iter::from_fn(|| refused.next(&refusal))
            .map(|(form, _)| {
                let time = match form.timestamp_ms {
                    NO_TIMESTAMP => "none",
                    5 => "its own",
                    _ => "now",
                };
                (form.key.as_ref().map(text), time)
            })
            .collect()
    }

    #[test]
    fn a_letter_without_a_key_gets_its_identity_for_one() {
        let key = || Some("00000000-0000-0000-0000-000000000007/2/41/0/group".to_owned());
        assert_eq!(
            forms(letter(None, 41), ResponseError::InvalidRecord),
            [(key(), "its own"), (key(), "now"), (key(), "none")]
        );
        assert_eq!(
            forms(letter(None, 41), ResponseError::InvalidTimestamp),
            [(None, "now"), (None, "none"), (key(), "none")]
        );
    }

    #[test]
    fn a_key_that_is_there_is_kept() {
        let key = || Some("k".to_owned());
        for error in [ResponseError::InvalidRecord, ResponseError::InvalidTimestamp] {
            let forms = forms(letter(Some(b"k"), 41), error);
            assert_eq!(forms, [(key(), "now"), (key(), "none")]);
        }
    }

    #[test]
    fn a_key_that_was_made_up_is_told_from_one_that_was_there() {
        let is_made_up = |record: &ProducerRecord| {
            let headers: Vec<RawHeader<'_>> =
                record.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
            has_generated_key(&headers)
        };
        assert!(!is_made_up(&letter(None, 1)) && !is_made_up(&letter(Some(b"k"), 1)));
        let refusal = refusal(ResponseError::InvalidRecord);
        let (changed, _) = Refused::new(letter(None, 1)).next(&refusal).unwrap();
        assert!(is_made_up(&changed));
    }
}
