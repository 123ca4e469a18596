use proptest::prelude::*;

use super::*;

const TOPIC_ID: Uuid = Uuid::from_u128(0xfeed);

fn record<'a>(headers: &'a [RawHeader<'a>]) -> FailedRecord<'a> {
    FailedRecord {
        topic: "orders",
        topic_id: TOPIC_ID,
        partition: 2,
        offset: 1_234,
        timestamp_ms: 1_700_000_000_123,
        key: Some(b"key"),
        value: Some(b"\x00\xffvalue"),
        headers,
    }
}

fn failure() -> Failure<'static> {
    Failure {
        error_type: ErrorType::RetriesExhausted,
        message: "the bank does not answer",
        attempts: 4,
        schema_id: Some(7.into()),
        failed_at_ms: 1_700_000_060_000,
        group: "order-processor-group",
    }
}

fn raw(letter: &DeadLetter) -> Vec<RawHeader<'_>> {
    letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn value_of<'a>(letter: &'a DeadLetter, name: &str) -> Option<&'a str> {
    let headers: Vec<RawHeader<'a>> = raw(letter);
    text_of(&headers, name)
}

fn build(headers: &[RawHeader<'_>]) -> DeadLetter {
    DeadLetter::build(&record(headers), &failure())
}

#[test]
fn a_letter_says_where_why_and_when_the_record_failed() {
    let letter = build(&[]);
    assert_eq!(letter.key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(letter.value.as_deref(), Some(b"\x00\xffvalue".as_slice()));
    let headers = raw(&letter);
    let texts: Vec<_> =
        headers.iter().map(|(name, value)| (text(name), text(value.unwrap()))).collect();
    assert_eq!(
        texts,
        [
            ("dlq.error.type", "retries-exhausted"),
            ("dlq.error.class", "transient"),
            ("dlq.error.stage", "process"),
            ("__dlq.errors.topic", "orders"),
            ("__dlq.errors.partition", "2"),
            ("__dlq.errors.offset", "1234"),
            ("__dlq.errors.group", "order-processor-group"),
            ("__dlq.errors.delivery.count", "4"),
            ("__dlq.errors.message", "the bank does not answer"),
            ("dlq.topic-id", "00000000-0000-0000-0000-00000000feed"),
            ("dlq.original.timestamp", "2023-11-14T22:13:20.123Z"),
            ("dlq.failed-at", "2023-11-14T22:14:20.000Z"),
            ("dlq.attempts", "4"),
            ("dlq.schema-id", "7"),
            ("dlq.replay.count", "0"),
            ("error_reason", "the bank does not answer"),
            ("original_topic", "orders"),
            ("original_partition", "2"),
            ("original_offset", "1234"),
            ("timestamp", "2023-11-14T22:14:20.000Z"),
        ]
    );
}

#[test]
fn a_record_without_key_value_or_schema_has_a_letter_without_them() {
    let bare = FailedRecord { key: None, value: None, ..record(&[]) };
    let poison =
        Failure { attempts: 0, schema_id: None, error_type: ErrorType::Tombstone, ..failure() };
    let letter = DeadLetter::build(&bare, &poison);
    assert_eq!((&letter.key, &letter.value), (&None, &None));
    assert_eq!(value_of(&letter, "dlq.schema-id"), None);
    assert_eq!(value_of(&letter, "dlq.attempts"), Some("0"));
    assert_eq!(
        value_of(&letter, "__dlq.errors.delivery.count"),
        Some("1"),
        "it was delivered once"
    );
    assert_eq!(letter.clone().without_value(), letter, "there is nothing to leave out");
}

#[test]
fn an_omitted_value_is_recognised_by_size_and_hash() {
    let abc = FailedRecord { value: Some(b"abc"), ..record(&[]) };
    let letter = DeadLetter::build(&abc, &failure()).without_value();
    assert_eq!(letter.value, None);
    assert_eq!(value_of(&letter, "dlq.value"), Some("omitted"));
    assert_eq!(value_of(&letter, "dlq.value.bytes"), Some("3"));
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(value_of(&letter, "dlq.value.sha256"), Some(digest));
    assert_eq!(letter.key.as_deref(), Some(b"key".as_slice()));
}

#[test]
fn a_letter_whose_key_or_headers_are_too_large_keeps_only_its_own_headers() {
    let large = vec![b'x'; 100_000];
    let headers: [RawHeader<'_>; 3] =
        [(b"big", Some(&large)), (b"timestamp", Some(b"noon")), (b"null", None)];
    let abc = FailedRecord { key: Some(b"abc"), value: Some(b"abc"), ..record(&headers) };
    let full = DeadLetter::build(&abc, &failure());
    let letter = full.clone().without_record();
    assert_eq!((&letter.key, &letter.value), (&None, &None));
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (name, value) in [
        ("dlq.value", "omitted"),
        ("dlq.value.bytes", "3"),
        ("dlq.value.sha256", digest),
        ("dlq.key", "omitted"),
        ("dlq.key.bytes", "3"),
        ("dlq.key.sha256", digest),
        ("dlq.headers", "omitted"),
        ("timestamp", "2023-11-14T22:14:20.000Z"),
        ("dlq.error.type", "retries-exhausted"),
    ] {
        assert_eq!(value_of(&letter, name), Some(value), "{name}");
    }
    assert_eq!(value_of(&letter, "big"), None);
    assert_eq!(Identity::of(&raw(&letter)), Identity::of(&raw(&full)));
    assert_eq!(original_headers(&raw(&letter)), []);
    let keyless = FailedRecord { key: None, ..abc };
    let keyless = DeadLetter::build(&keyless, &failure()).without_record();
    assert_eq!(value_of(&keyless, "dlq.key"), None, "there was none to leave out");
}

#[test]
fn a_letter_about_a_damaged_batch_names_its_offsets() {
    let batch = FailedRecord { key: None, timestamp_ms: NO_TIMESTAMP, ..record(&[]) };
    let letter = DeadLetter::build(&batch, &failure()).for_offsets(1_234, 1_240);
    assert_eq!(value_of(&letter, "dlq.batch.base-offset"), Some("1234"));
    assert_eq!(value_of(&letter, "dlq.batch.last-offset"), Some("1240"));
    assert_eq!(value_of(&letter, "__dlq.errors.offset"), Some("1234"));
    assert_eq!(value_of(&letter, "dlq.original.timestamp"), None, "it is unknown");
    assert_eq!(original_headers(&raw(&letter)), owned(&[]));
}

#[test]
fn a_letter_begins_with_the_headers_of_its_record() {
    let headers: [RawHeader<'_>; 7] = [
        (b"z", Some(b"1")),
        (b"a", Some(b"50% & more=\xff")),
        (b"z", Some(b"")),
        (b"null", None),
        (b"timestamp", Some(b"noon")),
        (b"\xfe", Some(b"x")),
        (b"z", Some(b"1")),
    ];
    let letter = build(&headers);
    assert_eq!(raw(&letter)[..7], headers);
    assert_eq!(value_of(&letter, "timestamp"), Some("2023-11-14T22:14:20.000Z"));
    assert_eq!(original_headers(&raw(&letter)), owned(&headers));
}

#[test]
fn headers_that_were_added_to_a_letter_are_those_of_its_next_record() {
    let mut letter = build(&[(b"timestamp", Some(b"noon"))]);
    letter.headers.push((b"note".to_vec(), None));
    let expected: [RawHeader<'_>; 2] = [(b"timestamp", Some(b"noon")), (b"note", None)];
    assert_eq!(original_headers(&raw(&letter)), owned(&expected));
    assert_eq!(original_headers(&raw(&build(&raw(&letter)))), owned(&expected));
}

fn owned(headers: &[RawHeader<'_>]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

#[test]
fn a_letter_about_a_letter_is_no_larger() {
    let headers: [RawHeader<'_>; 3] =
        [(b"b", None), (b"a", Some(b"1")), (b"timestamp", Some(b"noon"))];
    let first = build(&headers);
    let first_headers = raw(&first);
    let second = build(&first_headers);
    assert_eq!(second, first);
    let without_value = build(&headers).without_value();
    let again = build(&raw(&without_value));
    assert_eq!(value_of(&again, "dlq.value"), None, "this one has a value");
    assert_eq!(again, first);
}

#[test]
fn a_replay_that_fails_keeps_its_first_coordinates() {
    let of = ReplayOf {
        topic: "orders.eu".into(),
        topic_id: Uuid::from_u128(5),
        partition: 9,
        offset: 77,
    };
    let text = of.to_string();
    assert_eq!(text, "orders.eu/00000000-0000-0000-0000-000000000005/9/77");
    let headers: [RawHeader<'_>; 4] = [
        (b"a", Some(b"1")),
        (b"dlq.original.timestamp", Some(b"2020-02-02T02:02:02.002Z")),
        (b"dlq.replay.count", Some(b"2")),
        (b"dlq.replay.of", Some(text.as_bytes())),
    ];
    let letter = build(&headers);
    for (name, value) in [
        ("__dlq.errors.topic", "orders.eu"),
        ("__dlq.errors.partition", "9"),
        ("__dlq.errors.offset", "77"),
        ("original_topic", "orders.eu"),
        ("dlq.topic-id", "00000000-0000-0000-0000-000000000005"),
        ("dlq.original.timestamp", "2020-02-02T02:02:02.002Z"),
        ("dlq.replay.count", "2"),
    ] {
        assert_eq!(value_of(&letter, name), Some(value), "{name}");
    }
    assert_eq!(value_of(&letter, "dlq.replay.of"), None);
    assert_eq!(original_headers(&raw(&letter)), owned(&headers[..1]));
    let identity = Identity::of(&raw(&letter)).unwrap();
    assert_eq!((identity.offset, identity.replay_count), (77, 2));
}

#[test]
fn a_malformed_replay_header_is_ignored() {
    let id = TOPIC_ID.to_string();
    for of in [
        String::new(),
        "orders".into(),
        format!("orders/{id}/1"),
        format!("orders/{id}/1/2/3"),
        format!("/{id}/1/2"),
        "orders/x/1/2".into(),
        format!("orders/{id}/x/2"),
        format!("orders/{id}/1/99999999999999999999"),
    ] {
        assert_eq!(of.parse::<ReplayOf>(), Err(ParseReplayOfError), "{of}");
        let headers: [RawHeader<'_>; 2] =
            [(b"dlq.replay.of", Some(of.as_bytes())), (b"dlq.replay.count", Some(b"9"))];
        let letter = build(&headers);
        assert_eq!(value_of(&letter, "__dlq.errors.offset"), Some("1234"));
        assert_eq!(value_of(&letter, "dlq.replay.count"), Some("0"));
    }
}

#[test]
fn a_letter_written_twice_has_one_identity() {
    let letter = build(&[]);
    let later =
        DeadLetter::build(&record(&[]), &Failure { failed_at_ms: 0, attempts: 1, ..failure() });
    let identity = Identity::of(&raw(&letter)).unwrap();
    assert_eq!(Identity::of(&raw(&later)), Some(identity.clone()));
    assert_eq!(
        identity,
        Identity {
            topic_id: TOPIC_ID,
            partition: 2,
            offset: 1_234,
            group: "order-processor-group".into(),
            replay_count: 0,
        }
    );
    let elsewhere = DeadLetter::build(&FailedRecord { partition: 3, ..record(&[]) }, &failure());
    assert_ne!(Identity::of(&raw(&elsewhere)), Some(identity));
    let no_letter: [RawHeader<'_>; 1] = [(b"__dlq.errors.topic", Some(b"orders"))];
    assert_eq!(Identity::of(&no_letter), None);
    for missing in
        ["dlq.topic-id", "__dlq.errors.partition", "__dlq.errors.offset", "__dlq.errors.group"]
    {
        let mut letter = letter.clone();
        letter.headers.retain(|(name, _)| name != missing.as_bytes());
        assert_eq!(Identity::of(&raw(&letter)), None, "{missing}");
    }
}

#[test]
fn long_messages_are_cut_after_a_whole_character() {
    for (message, bytes) in [
        ("x".repeat(1_024), 1_024),
        ("x".repeat(1_025), 1_024),
        ("é".repeat(600), 1_023), // 510 of two bytes each, and the mark of three.
        ("🦀".repeat(300), 1_023),
    ] {
        let letter = DeadLetter::build(&record(&[]), &Failure { message: &message, ..failure() });
        let kept = value_of(&letter, "__dlq.errors.message").unwrap();
        assert_eq!(kept.len(), bytes, "{kept}");
        assert_eq!(kept.ends_with('…'), message.len() > 1_024);
        assert_eq!(value_of(&letter, "error_reason"), Some(kept));
    }
}

#[test]
fn any_time_has_a_text() {
    for (timestamp_ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (i64::MAX, "9999-12-31T23:59:59.999Z"),
        (i64::MIN, "0000-01-01T00:00:00.000Z"),
    ] {
        assert_eq!(rfc3339(timestamp_ms), text);
    }
}

/// Generates names that collide with one another and with a letter's own, and names that are not UTF-8.
fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let name = prop_oneof![
        "[a-e]".prop_map(String::into_bytes),
        Just(b"timestamp".to_vec()),
        Just(b"error_reason".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    let value = proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..20));
    prop_oneof![
        proptest::collection::vec((name, value), 0..8),
        proptest::collection::btree_map("[f-z]{1,3}", any::<[u8; 2]>(), 0..5).prop_map(|map| {
            map.into_iter().map(|(name, value)| (name.into_bytes(), Some(value.to_vec()))).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn the_original_headers_are_read_back_unchanged(
        originals in headers(),
        message: String,
        attempts: u32,
        offset: i64,
    ) {
        let headers: Vec<RawHeader<'_>> =
            originals.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        let record = FailedRecord { offset, ..record(&headers) };
        let failure = Failure { message: &message, attempts, ..failure() };
        let letter = DeadLetter::build(&record, &failure);
        prop_assert_eq!(original_headers(&raw(&letter)), originals.clone());
        prop_assert_eq!(&letter.headers[..originals.len()], originals.as_slice());
        prop_assert_eq!(DeadLetter::build(&FailedRecord { headers: &raw(&letter), ..record }, &failure), letter.clone());
        prop_assert_eq!(original_headers(&raw(&letter.without_value())), originals);
    }

    #[test]
    fn a_letter_is_never_much_larger_than_its_record(
        originals in proptest::collection::vec(("[a-c]", proptest::option::of(20_000_usize..30_000)), 0..4),
        message in "\\PC{0,3000}",
        group in "[a-z]{249}",
    ) {
        let blob = vec![0xff; 30_000];
        let headers: Vec<RawHeader<'_>> = originals
            .iter()
            .map(|(name, bytes)| (name.as_bytes(), bytes.map(|bytes| &blob[..bytes])))
            .collect();
        let failure = Failure { message: &message, group: &group, ..failure() };
        let failed = FailedRecord { topic: &group, ..record(&headers) };
        let letter = DeadLetter::build(&failed, &failure).without_value();
        let bytes = |(name, value): &RawHeader<'_>| name.len() + value.map_or(0, <[u8]>::len) + 8;
        let before: usize = headers.iter().map(bytes).sum();
        let after: usize = raw(&letter).iter().map(bytes).sum();
        prop_assert!(after <= before + ADDED_BYTES_MAX, "{before} to {after}");
    }
}
