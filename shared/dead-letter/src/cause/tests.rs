use uuid::Uuid;

use super::*;
use crate::{DeadLetter, ErrorType, FailedRecord, Failure};

fn check(headers: &[RawHeader<'_>], expected: &Cause) {
    assert_eq!(&Cause::of(headers), expected);
}

#[expect(clippy::unnecessary_wraps, reason = "every text of a cause may be missing")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn letters_of_the_order_processor_have_all_fields() {
    let failed = FailedRecord {
        topic: "orders",
        topic_id: Uuid::from_u128(1),
        partition: 2,
        offset: 1_234,
        timestamp_ms: 1_700_000_000_123,
        key: None,
        value: None,
        headers: &[(b"kafka_dlt-original-topic", Some(b"an earlier life"))],
    };
    let failure = Failure {
        error_type: ErrorType::RetriesExhausted,
        message: "the bank does not answer",
        attempts: 4,
        schema_id: None,
        failed_at_ms: 1_700_000_060_000,
        group: "night",
    };
    let letter = DeadLetter::build(&failed, &failure);
    let headers: Vec<RawHeader<'_>> =
        letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
    let expected = Cause {
        author: Author::OrderProcessor,
        error_type: text("retries-exhausted"),
        class: text("transient"),
        stage: text("process"),
        message: text("the bank does not answer"),
        topic: text("orders"),
        partition: Some(2),
        offset: Some(1_234),
        group: text("night"),
        attempts: Some(4),
        produced_at_ms: Some(1_700_000_000_123),
        failed_at_ms: Some(1_700_000_060_000),
    };
    check(&headers, &expected);
}

#[test]
fn a_share_groups_letter_has_six_headers() {
    let headers: [RawHeader<'_>; 6] = [
        (b"__dlq.errors.topic", Some(b"orders")),
        (b"__dlq.errors.partition", Some(b"1")),
        (b"__dlq.errors.offset", Some(b"77")),
        (b"__dlq.errors.group", Some(b"couriers")),
        (b"__dlq.errors.delivery.count", Some(b"5")),
        (b"__dlq.errors.message", Some(b"Offset delivery count exceeded the threshold.")),
    ];
    let expected = Cause {
        error_type: text("Offset delivery count exceeded the threshold."),
        message: text("Offset delivery count exceeded the threshold."),
        topic: text("orders"),
        partition: Some(1),
        offset: Some(77),
        group: text("couriers"),
        attempts: Some(5),
        ..Cause::unknown(Author::ShareGroup)
    };
    check(&headers, &expected);
}

#[test]
fn springs_numbers_are_big_endian() {
    let headers: [RawHeader<'_>; 9] = [
        (b"kafka_dlt-original-topic", Some(b"orders")),
        (b"kafka_dlt-original-partition", Some(b"\x00\x00\x00\x02")),
        (b"kafka_dlt-original-offset", Some(b"\x00\x00\x00\x00\x00\x00\x04\xd2")),
        (b"kafka_dlt-original-timestamp", Some(b"\x00\x00\x01\x8b\xcf\xe5\x68\x7b")),
        (b"kafka_dlt-original-timestamp-type", Some(b"CreateTime")),
        (b"kafka_dlt-original-consumer-group", Some(b"billing")),
        (
            b"kafka_dlt-exception-fqcn",
            Some(b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ),
        (b"kafka_dlt-exception-cause-fqcn", Some(b"java.lang.IllegalStateException")),
        (b"kafka_dlt-exception-message", Some(b"Listener failed")),
    ];
    let expected = Cause {
        error_type: text("java.lang.IllegalStateException"),
        message: text("Listener failed"),
        topic: text("orders"),
        partition: Some(2),
        offset: Some(1_234),
        group: text("billing"),
        produced_at_ms: Some(1_700_000_000_123),
        ..Cause::unknown(Author::Spring)
    };
    check(&headers, &expected);
}

#[test]
fn a_key_that_spring_could_not_deserialize_is_a_cause() {
    let headers: [RawHeader<'_>; 2] = [
        (b"kafka_dlt-key-exception-fqcn", Some(b"o.s.k.DeserializationException")),
        (b"kafka_dlt-key-exception-message", Some(b"failed to deserialize")),
    ];
    let expected = Cause {
        error_type: text("o.s.k.DeserializationException"),
        message: text("failed to deserialize"),
        ..Cause::unknown(Author::Spring)
    };
    check(&headers, &expected);
}

#[test]
fn springs_retryable_topic_has_its_own_names_and_lengths() {
    let headers: [RawHeader<'_>; 10] = [
        (b"kafka_original-topic", Some(b"orders")),
        (b"kafka_original-partition", Some(b"\x00\x00\x00\x01")),
        (b"kafka_original-offset", Some(b"\x00\x00\x00\x00\x00\x00\x00\x09")),
        (b"kafka_original-timestamp", Some(b"\x00\x00\x01\x8b\xcf\xe5\x68\x7b")),
        (b"kafka_exception-fqcn", Some(b"com.example.BankAway")),
        (b"kafka_exception-message", None),
        (b"kafka_dlt-original-consumer-group", Some(b"billing")),
        (b"retry_topic-attempts", Some(b"\x00\x00\x00\x03")),
        (b"retry_topic-attempts", Some(b"\x00\x00\x00\x04")),
        (b"retry_topic-original-timestamp", Some(b"\x01\x8b\xcf\xe5\x68\x7c")),
    ];
    let expected = Cause {
        error_type: text("com.example.BankAway"),
        topic: text("orders"),
        partition: Some(1),
        offset: Some(9),
        group: text("billing"),
        attempts: Some(4),
        produced_at_ms: Some(1_700_000_000_124),
        ..Cause::unknown(Author::SpringRetryableTopic)
    };
    check(&headers, &expected);
}

#[test]
fn connects_numbers_are_texts_its_message_may_be_null_and_the_last_failure_counts() {
    let headers: [RawHeader<'_>; 9] = [
        (b"__connect.errors.topic", Some(b"orders")),
        (b"__connect.errors.partition", Some(b"0")),
        (b"__connect.errors.offset", Some(b"1234")),
        (b"__connect.errors.connector.name", Some(b"warehouse")),
        (b"__connect.errors.stage", Some(b"TRANSFORMATION")),
        (b"__connect.errors.exception.class.name", Some(b"java.lang.Exception")),
        (b"__connect.errors.exception.message", None),
        (b"__connect.errors.stage", Some(b"VALUE_CONVERTER")),
        (
            b"__connect.errors.exception.class.name",
            Some(b"org.apache.kafka.connect.errors.DataException"),
        ),
    ];
    let expected = Cause {
        error_type: text("org.apache.kafka.connect.errors.DataException"),
        stage: text("VALUE_CONVERTER"),
        topic: text("orders"),
        partition: Some(0),
        // Four digits are no big-endian number here.
        offset: Some(1_234),
        group: text("warehouse"),
        ..Cause::unknown(Author::Connect)
    };
    check(&headers, &expected);
}

#[test]
fn streams_names_the_exception() {
    let headers: [RawHeader<'_>; 5] = [
        (b"__streams.errors.exception", Some(b"org.apache.kafka.streams.errors.StreamsException")),
        (b"__streams.errors.message", Some(b"no such store")),
        (b"__streams.errors.topic", Some(b"orders")),
        (b"__streams.errors.partition", Some(b"3")),
        (b"__streams.errors.offset", Some(b"5")),
    ];
    let expected = Cause {
        error_type: text("org.apache.kafka.streams.errors.StreamsException"),
        message: text("no such store"),
        topic: text("orders"),
        partition: Some(3),
        offset: Some(5),
        ..Cause::unknown(Author::Streams)
    };
    check(&headers, &expected);
}

#[test]
fn five_plain_headers_are_enough() {
    let headers: [RawHeader<'_>; 5] = [
        (b"error_reason", Some(b"ValueError: not a price: 'x'")),
        (b"original_topic", Some(b"orders")),
        (b"original_partition", Some(b"1")),
        (b"original_offset", Some(b"42")),
        (b"timestamp", Some(b"2023-11-14T22:13:20.123Z")),
    ];
    let expected = Cause {
        error_type: text("ValueError"),
        message: text("ValueError: not a price: 'x'"),
        topic: text("orders"),
        partition: Some(1),
        offset: Some(42),
        failed_at_ms: Some(1_700_000_000_123),
        ..Cause::unknown(Author::Plain)
    };
    check(&headers, &expected);
    let milliseconds: [RawHeader<'_>; 2] =
        [(b"error_reason", Some(b"no")), (b"timestamp", Some(b"1700000000123"))];
    assert_eq!(Cause::of(&milliseconds).failed_at_ms, Some(1_700_000_000_123));
}

#[test]
fn a_record_without_such_headers_has_no_cause() {
    for headers in [&[][..], &[(&b"timestamp"[..], Some(&b"noon"[..])), (b"\xff", None)]] {
        let cause = Cause::of(headers);
        assert_eq!(cause, Cause::unknown(Author::Unknown));
        assert_eq!(cause.type_or_label(), "no cause in its headers");
    }
}

#[test]
fn malformed_headers_are_left_out_one_by_one() {
    let headers: [RawHeader<'_>; 5] = [
        (b"kafka_dlt-original-topic", Some(b"\xff\xfe")),
        (b"kafka_dlt-original-partition", Some(b"\x00\x00\x00\x01\x00\x00\x00\x00\x00")),
        (b"kafka_dlt-original-offset", Some(b"")),
        (b"kafka_dlt-original-timestamp", None),
        (b"kafka_dlt-exception-message", Some(b"still here")),
    ];
    let expected = Cause { message: text("still here"), ..Cause::unknown(Author::Spring) };
    check(&headers, &expected);
}

#[test]
fn springs_numbers_are_read_by_their_length() {
    for (bytes, number) in [
        (&b"\x05"[..], Some(5)),
        (b"\x00\x00\x00\x07", Some(7)),
        (b"\xff\xff\xff\xff", Some(-1)),
        (b"\x00\x00\x00\x00\x00\x00\x01\x00", Some(256)),
        (b"12345678", Some(12_345_678)),
        (b"42", Some(42)),
        (b"0", Some(0)),
        (b"", None),
        (b"123456789x", None),
    ] {
        assert_eq!(spring_number(bytes), number, "{bytes:?}");
    }
}

#[test]
fn an_authors_headers_are_distinguished_from_those_of_the_record() {
    assert!(Author::Spring.adds(b"kafka_dlt-exception-stacktrace"));
    assert!(Author::Connect.adds(b"__connect.errors.task.id"));
    assert!(Author::Plain.adds(b"error_reason"));
    assert!(!Author::Connect.adds(b"error_reason"));
    assert!(!Author::Spring.adds(b"kafka_receivedTopic"));
    assert!(!Author::Unknown.adds(b"__connect.errors.topic"));
}
