use dead_letter::actions::Action;
use dead_letter::cause::Cause;
use dead_letter::{
    DeadLetter, ErrorType, FailedRecord, Failure, Identity, OwnedHeader, RawHeader, ReplayOf,
    has_generated_key, original_headers, replay_of,
};
use fuzz::{Outcome, Target};
use uuid::Uuid;

use crate::{Pieces, sized};

const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// The decoded headers of a dead letter.
#[derive(Debug)]
struct Letter {
    identity: Option<Identity>,
    replay: Option<(ReplayOf, u32)>,
    cause: Cause,
    originals: Vec<OwnedHeader>,
    has_generated_key: bool,
    action: Option<Action>,
    texts: (Option<Identity>, Option<ReplayOf>),
}

#[test]
fn dead_letter() {
    let turn = fuzz::turn();
    let target = Target {
        name: "dead_letter",
        executions: 5_000,
        seeds: foreign().into_iter().chain(ours()).chain(actions()).collect(),
        memory: |input| 96 * input.len() + (8 << 10),
        mend: None,
        decode: Box::new(read),
        check,
    };
    fuzz::run(&turn, target, crate::LEFT);
}

fn headers(input: &[u8]) -> Vec<RawHeader<'_>> {
    let mut pieces = Pieces(input);
    let mut headers = Vec::new();
    while !pieces.0.is_empty() {
        headers.push((pieces.sized().unwrap_or_default(), pieces.sized()));
    }
    headers
}

fn input(headers: &[RawHeader<'_>]) -> Vec<u8> {
    sized(headers.iter().flat_map(|(name, value)| [Some(*name), *value]))
}

fn failure(message: &str) -> Failure<'_> {
    Failure {
        error_type: ErrorType::Rejected,
        message,
        attempts: 3,
        schema_id: None,
        failed_at_ms: 1_700_000_000_000,
        group: "our/group",
    }
}

fn letter(headers: &[RawHeader<'_>]) -> DeadLetter {
    let (key, value) = (Some(&b"k"[..]), Some(&b"v"[..]));
    let record = FailedRecord {
        topic: "orders",
        topic_id: TOPIC_ID,
        partition: 3,
        offset: 41,
        timestamp_ms: 5,
        key,
        value,
        headers,
    };
    DeadLetter::build(&record, &failure("webhook: 422"))
}

fn raw(letter: &DeadLetter) -> Vec<RawHeader<'_>> {
    letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect()
}

fn ours() -> Vec<Vec<u8>> {
    let replay = format!("orders/{TOPIC_ID}/3/41");
    let sets: [&[RawHeader<'_>]; 4] = [
        &[],
        &[(b"a", Some(b"1")), (b"b", Some(b"34359738367"))],
        &[(b"a", Some(b"1")), (b"a", None), (b"\xff", Some(b"="))],
        &[
            (b"dlq.replay.of", Some(replay.as_bytes())),
            (b"dlq.replay.count", Some(b"4")),
            (b"trace", Some(b"x")),
        ],
    ];
    let letters = sets.map(letter);
    let mut inputs: Vec<_> = letters.iter().map(|letter| input(&raw(letter))).collect();
    inputs.extend(letters.map(|letter| input(&raw(&letter.for_offsets(3, 9).without_record()))));
    inputs.extend(sets.map(input));
    inputs
}

fn foreign() -> [Vec<u8>; 5] {
    [
        input(&[
            (b"kafka_dlt-original-topic", Some(b"orders")),
            (b"kafka_dlt-original-partition", Some(&[0, 0, 0, 1])),
            (b"kafka_dlt-original-offset", Some(&[0, 0, 0, 0, 0, 0, 0, 9])),
            (b"kafka_dlt-exception-fqcn", Some(b"java.lang.IllegalStateException")),
        ]),
        input(&[
            (b"kafka_original-topic", Some(b"orders")),
            (b"kafka_original-timestamp", Some(&[1, 2, 3, 4])),
            (b"retry_topic-attempts", Some(&[0, 0, 0, 3])),
        ]),
        input(&[
            (b"__connect.errors.topic", Some(b"orders")),
            (b"__connect.errors.partition", Some(b"1")),
            (b"__connect.errors.offset", Some(b"7")),
        ]),
        input(&[
            (b"__streams.errors.exception", Some(b"E")),
            (b"__streams.errors.offset", Some(b"7")),
        ]),
        input(&[
            (b"error_reason", Some(b"bad price: -1")),
            (b"original_topic", Some(b"orders")),
            (b"timestamp", Some(b"2026-01-01T00:00:00Z")),
        ]),
    ]
}

fn actions() -> Vec<Vec<u8>> {
    let identity = || Identity {
        topic_id: TOPIC_ID,
        partition: 2,
        offset: 41,
        group: "our/group".into(),
        replay_count: 1,
    };
    let by = || "kim".to_owned();
    let actions = [
        Action::Dismissed { identity: identity(), reason: "a \"test\"".into(), at_ms: 5, by: by() },
        Action::Reopened { identity: identity() },
        Action::Released { at_ms: 6, by: by() },
        Action::Lock { run: TOPIC_ID, claim: Some(12), at_ms: 8, by: by() },
        Action::Unlocked { run: TOPIC_ID },
        Action::ReplayedToSource { identity: identity(), at_ms: 9 },
        Action::ToSource { topic_id: TOPIC_ID, partition: 3, from: 900 },
    ];
    let texts = [identity().to_string(), format!("orders/{TOPIC_ID}/3/41")];
    let actions = actions.map(|action| {
        let (key, value) = (action.key(), action.value());
        input(&[(key.as_bytes(), value.as_deref().map(str::as_bytes))])
    });
    let texts = texts.map(|text| input(&[(text.as_bytes(), None)]));
    actions.into_iter().chain(texts).collect()
}

fn read(input: &[u8]) -> Letter {
    let headers = headers(input);
    let (key, value) = headers.first().copied().unwrap_or_default();
    let text = str::from_utf8(key).unwrap_or_default();
    Letter {
        identity: Identity::of(&headers),
        replay: replay_of(&headers),
        cause: Cause::of(&headers),
        originals: original_headers(&headers),
        has_generated_key: has_generated_key(&headers),
        action: Action::parse(key, value),
        texts: (text.parse().ok(), text.parse().ok()),
    }
}

fn check(input: &[u8], read: &Letter) -> Outcome {
    if let Some(action) = &read.action {
        let (key, value) = (action.key(), action.value());
        let again = Action::parse(key.as_bytes(), value.as_deref().map(str::as_bytes));
        assert_eq!(again.as_ref(), Some(action));
    }
    let (identity, replay) = &read.texts;
    for identity in read.identity.iter().chain(identity) {
        assert_eq!(identity.to_string().parse().as_ref(), Ok(identity));
    }
    for replay in read.replay.iter().map(|(of, _)| of).chain(replay) {
        assert_eq!(replay.to_string().parse().as_ref(), Ok(replay));
    }
    check_letter_about(&headers(input), read);
    let cause = &read.cause;
    let is_accepted = read.identity.is_some() || read.action.is_some() || cause.topic.is_some();
    let kind = format!(
        "{:?} {} {} {} {} {} {}",
        cause.author,
        read.identity.is_some(),
        read.replay.is_some(),
        read.has_generated_key,
        cause.offset.is_some(),
        cause.failed_at_ms.is_some(),
        read.action.as_ref().map(crate::kind).unwrap_or_default()
    );
    Outcome { is_accepted, kind }
}

/// Makes a dead letter of a record with these headers, and reads it.
fn check_letter_about(headers: &[RawHeader<'_>], read: &Letter) {
    let letter = letter(headers);
    let about = raw(&letter);
    let identity = Identity::of(&about).expect("a letter has an identity");
    let of = match &read.replay {
        Some((of, count)) => {
            assert_eq!(identity.replay_count, *count);
            of.clone()
        }
        None => ReplayOf { topic: "orders".into(), topic_id: TOPIC_ID, partition: 3, offset: 41 },
    };
    assert_eq!(
        (identity.topic_id, identity.partition, identity.offset),
        (of.topic_id, of.partition, of.offset)
    );
    let cause = Cause::of(&about);
    assert_eq!((cause.topic, cause.offset), (Some(of.topic), Some(of.offset)));
    assert!(cause.failed_at_ms.is_some() && cause.produced_at_ms.is_some());
    assert_eq!(original_headers(&about), read.originals);
    let short = letter.without_record();
    assert_eq!(Identity::of(&raw(&short)), Some(identity));
}
