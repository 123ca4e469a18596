//! The record that a replay sends: the one that failed, with headers that mark it as a replay.

use bytes::Bytes;
use dead_letter::{REPLAY_COUNT_HEADER, REPLAY_OF_HEADER, names, rfc3339};
use kafka_client::producer::ProducerRecord;

use super::original::Original;
use crate::dlq::letter::Letter;

/// Returns the record to send for a letter: key, value and headers as they were when the record failed, its trace among
/// them, but for the headers named in `dropped`.
pub(super) fn replay(
    letter: &Letter<'_>,
    original: Original,
    dropped: &[String],
    now_ms: i64,
) -> ProducerRecord {
    let is_dropped = |name: &[u8]| dropped.iter().any(|dropped| dropped.as_bytes() == name);
    let Original { key, value, headers } = original;
    let mut headers: Vec<(Bytes, Option<Bytes>)> = headers
        .into_iter()
        .filter(|(name, _)| !is_dropped(name))
        .map(|(name, value)| (Bytes::from(name), value.map(Bytes::from)))
        .collect();
    let produced_at = letter.text(names::ORIGINAL_TIMESTAMP).map(str::to_owned);
    let produced_at = produced_at.or_else(|| letter.cause.produced_at_ms.map(rfc3339));
    headers.extend(produced_at.map(|time| header(names::ORIGINAL_TIMESTAMP, time)));
    headers.push(header(REPLAY_OF_HEADER, letter.origin.to_string()));
    let count = u64::from(letter.identity.replay_count) + 1;
    headers.push(header(REPLAY_COUNT_HEADER, count.to_string()));

    ProducerRecord { timestamp_ms: now_ms, key, value, headers }
}

fn header(name: &'static str, value: impl Into<Vec<u8>>) -> (Bytes, Option<Bytes>) {
    (Bytes::from_static(name.as_bytes()), Some(Bytes::from(value.into())))
}

#[cfg(test)]
mod tests {
    use dead_letter::cause::Cause;
    use dead_letter::{
        DeadLetter, ErrorType, FailedRecord, Failure, Identity, OwnedHeader, RawHeader, replay_of,
    };
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::Place;

    const TOPIC_ID: Uuid = Uuid::from_u128(0xfeed);

    fn fail(topic: &str, offset: i64, headers: &[RawHeader<'_>]) -> DeadLetter {
        let failed = FailedRecord {
            topic,
            topic_id: TOPIC_ID,
            partition: 2,
            offset,
            timestamp_ms: 1_700_000_000_123,
            key: Some(b"key"),
            value: Some(b"\x00value"),
            headers,
        };
        let failure = Failure {
            error_type: ErrorType::Simulated,
            message: "on purpose",
            attempts: 1,
            schema_id: None,
            failed_at_ms: 0,
            group: "group",
        };
        DeadLetter::build(&failed, &failure)
    }

    fn send(letter: &DeadLetter, dropped: &[&str]) -> ProducerRecord {
        let headers: Vec<RawHeader<'_>> =
            letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let identity = Identity::of(&headers).unwrap();
        let cause = Cause::of(&headers);
        let letter = Letter {
            place: Place { partition: 0, offset: 0 },
            timestamp_ms: 0,
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            origin: dead_letter::ReplayOf {
                topic: cause.topic.clone().unwrap(),
                topic_id: identity.topic_id,
                partition: identity.partition,
                offset: identity.offset,
            },
            headers,
            cause,
            identity,
        };
        let dropped: Vec<String> = dropped.iter().map(|name| (*name).to_owned()).collect();
        let original = Original::in_letter(&letter);
        replay(&letter, original, &dropped, 5)
    }

    fn raw(record: &ProducerRecord) -> Vec<RawHeader<'_>> {
        record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect()
    }

    fn owned(headers: &[RawHeader<'_>]) -> Vec<OwnedHeader> {
        headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
    }

    const ADDED: [RawHeader<'_>; 3] = [
        (b"dlq.original.timestamp", Some(b"2023-11-14T22:13:20.123Z")),
        (b"dlq.replay.of", Some(b"orders/00000000-0000-0000-0000-00000000feed/2/41")),
        (b"dlq.replay.count", Some(b"1")),
    ];

    #[test]
    fn a_replay_is_the_record_that_failed_and_says_what_it_is() {
        let odd: [RawHeader<'_>; 5] = [
            (b"z", Some(b"1")),
            (b"a", None),
            (b"z", Some(b"")),
            (b"\xff", Some(b"2")),
            (b"timestamp", Some(b"noon")),
        ];
        let record = send(&fail("orders", 41, &odd), &[]);
        assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"\x00value"[..]));
        assert_eq!(record.timestamp_ms, 5);
        assert_eq!(raw(&record), [&odd[..], &ADDED].concat());
    }

    #[test]
    fn named_headers_are_dropped_and_a_trace_goes_on() {
        let headers: [RawHeader<'_>; 4] = [
            (b"keep", Some(b"1")),
            (b"traceparent", Some(b"00-1")),
            (b"tracestate", Some(b"x")),
            (b"secret", Some(b"2")),
        ];
        let record = send(&fail("orders", 41, &headers), &["secret"]);
        assert_eq!(raw(&record), [&headers[..3], &ADDED].concat());
    }

    #[test]
    fn a_replay_that_fails_again_has_the_headers_of_the_first_failure() {
        let headers: [RawHeader<'_>; 3] =
            [(b"note", Some(b"x")), (b"producer-id", Some(b"abc")), (b"note", None)];
        let record = send(&fail("orders", 41, &headers), &[]);
        let again = send(&fail("orders.group.replay", 3, &raw(&record)), &[]);
        assert_eq!(dead_letter::original_headers(&raw(&again)), owned(&headers));
        let (of, count) = replay_of(&raw(&again)).unwrap();
        assert_eq!((of.topic.as_str(), of.offset, count), ("orders", 41, 2));
    }
}
