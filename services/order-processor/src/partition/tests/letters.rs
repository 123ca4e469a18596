//! Records that become dead letters: why, and when they are complete.

use super::*;
use crate::dlq_writer::LetterError;

#[tokio::test(start_paused = true)]
async fn a_record_is_complete_only_when_its_dead_letter_is_written() {
    let rejected = Outcome::Permanent { reason: "no such product".into() };
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(rejected)])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let letter = bench.letter().await;
    assert_eq!(letter.record.key, Some(Bytes::from_static(b"a")));
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (0, 0));

    letter.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_ends_in_a_letter_that_names_it() {
    let exhausted =
        vec![Answer::Now(transient()), Answer::Now(transient()), Answer::Now(transient())];
    let mut bench = Bench::fresh(script([(1, exhausted), (2, vec![Answer::Panic])]), Ordering::Key);
    let poison: &[u8] = b"\xff\xff\xff";
    bench.read(&[("a", Some(poison)), ("b", None), ("c", None)]).await;
    let mut types = BTreeMap::new();
    for _ in 0..3 {
        let letter = bench.letter().await;
        let header = |name| header(&letter, name).expect("the header is there");
        types.insert(header("original_offset"), header("dlq.error.type"));
        letter.answer.send(Ok(())).unwrap();
    }
    let state = bench.checkpoint().await;
    assert_eq!(types["1"], "retries-exhausted");
    assert_eq!(types["2"], "panic");
    assert!(types.contains_key("0"), "{types:?}");
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (3, 3));
    assert_eq!(state.aggregate().retries(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_over_the_bound_is_oversize_whatever_it_is() {
    const AT_THE_BOUND: &[u8] = &[0xff; VALUE_BYTES_MAX];
    const OVER_THE_BOUND: &[u8] = &[0xff; VALUE_BYTES_MAX + 1];
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", Some(AT_THE_BOUND)), ("b", Some(OVER_THE_BOUND))]).await;

    for (expected, value) in [("unknown-format", AT_THE_BOUND), ("oversize", OVER_THE_BOUND)] {
        let letter = bench.letter().await;
        assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some(expected));
        assert_eq!(letter.record.value.as_deref(), Some(value));
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(bench.checkpoint().await.committable(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_made_smaller_until_the_topic_takes_it() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("key", Some(b"\xff\xff\xff"))]).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let letter = bench.letter().await;
        let has = |name: &str| header(&letter, name).is_some();
        seen.push((letter.record.value.is_some(), letter.record.key.is_some(), has("dlq.value")));
        assert_eq!(header(&letter, "original_offset").as_deref(), Some("0"));
        let is_last = seen.len() == 4;
        letter.answer.send(if is_last { Ok(()) } else { Err(LetterError::TooLarge) }).unwrap();
    }
    let smallest = (false, false, true);
    assert_eq!(seen, [(true, true, false), (false, true, true), smallest, smallest]);
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (1, 1));
}
