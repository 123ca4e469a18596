//! When letters are written, and what becomes of a record that is killed between its doom and its letter.

use order_ledger::checkpoint::RecordState;

use order_avro::PayloadFormat;

use super::*;

const JUNK: Option<&[u8]> = Some(b"\xff\xff\xff");

fn rejects() -> Vec<Answer> {
    vec![Answer::Now(Outcome::permanent("no such product"))]
}

impl Bench {
    fn manual(script: Arc<Script>, ordering: Ordering, state: PartitionState) -> Self {
        let bench = Self::start(script, ordering, state);
        bench.commits.send_replace(Commits::Asked);
        bench
    }

    /// Checks that no letter is written, however long that is waited for.
    async fn has_no_letter(&mut self) {
        tokio::time::sleep(PATIENCE).await;
        assert!(self.letters.try_recv().is_err(), "a letter was written before its commit");
    }
}

fn empty() -> PartitionState {
    PartitionState::empty(TOPIC, 0, Capacity::DEFAULT)
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_written_only_after_a_commit_that_dooms_its_record() {
    for (value, answers) in [(None, rejects()), (JUNK, vec![])] {
        let mut bench = Bench::manual(script([(0, answers)]), Ordering::Key, empty());
        bench.read(&[("a", value), ("b", None)]).await;
        bench.has_no_letter().await;
        let state = bench.checkpoint().await;
        assert!(
            matches!(state.record_state(0), RecordState::Doomed { .. }),
            "{:?}",
            state.record_state(0)
        );
        assert_eq!(state.aggregate().orders(), 1, "nothing else waits");
        bench.has_no_letter().await;

        bench.commit().await;
        bench.letter().await.answer.send(Ok(())).unwrap();
        let state = bench.checkpoint().await;
        assert_eq!((state.committable(), state.aggregate().dead_letters()), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_commit_lets_no_later_letter_go() {
    let script = script([(0, rejects()), (1, rejects())]);
    let mut bench = Bench::manual(script, Ordering::Key, empty());
    bench.read(&[("a", None)]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let earlier = snapshot(&bench.requests).await.unwrap();
    bench.read(&[("b", None)]).await;
    bench.durable.send_replace(Some(earlier.revision));
    assert_eq!(header(&bench.letter().await, "original_offset").as_deref(), Some("0"));
    bench.has_no_letter().await;
    bench.commit().await;
    assert_eq!(header(&bench.letter().await, "original_offset").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn one_commit_serves_all_letters_that_wait() {
    let mut bench = Bench::manual(script([]), Ordering::Key, empty());
    bench.read(&[("a", JUNK); 4]).await;
    bench.commit().await;
    for offset in ["0", "1", "2", "3"] {
        let letter = bench.letter().await;
        assert_eq!(header(&letter, "original_offset").as_deref(), Some(offset));
    }
}

#[tokio::test(start_paused = true)]
async fn a_doomed_record_gets_its_letter_again_after_a_restart_and_no_attempt() {
    let exhausted = || (0..3).map(|_| Answer::Now(transient())).collect::<Vec<_>>();
    let answers = [(0, rejects()), (1, vec![Answer::Panic]), (2, exhausted())];
    let mut bench = Bench::manual(script(answers), Ordering::Key, empty());
    let records = [("a", None), ("b", None), ("c", None), ("d", JUNK), ("a", None)];
    bench.read(&records).await;
    tokio::time::sleep(BACKOFF * 3).await;
    // Killed between the commit and the letters.
    let state = bench.commit().await;
    let first: Vec<Letter> = [bench.letter().await, bench.letter().await].into();
    drop(bench);

    // Everything would be done by now.
    let mut bench = Bench::manual(script([]), Ordering::Key, state);
    bench.read(&records).await;
    let mut types = BTreeMap::new();
    for _ in 0..4 {
        let letter = bench.letter().await;
        let identity = |letter: &Letter| {
            ["__dlq.errors.topic.id", "__dlq.errors.partition", "__dlq.errors.offset"]
                .map(|name| header(letter, name))
        };
        let earlier = first.iter().find(|earlier| identity(earlier) == identity(&letter));
        for name in ["dlq.error.type", "dlq.attempts", "dlq.replay.count"] {
            if let Some(earlier) = earlier {
                assert_eq!(header(earlier, name), header(&letter, name), "{name}");
            }
        }
        let of = |name| header(&letter, name).unwrap();
        types.insert(of("original_offset"), (of("dlq.error.type"), of("dlq.attempts")));
        letter.answer.send(Ok(())).unwrap();
    }
    let expected = [("rejected", "1"), ("panic", "1"), ("retries-exhausted", "3")];
    for (offset, (error_type, attempts)) in ["0", "1", "2"].into_iter().zip(expected) {
        assert_eq!(types[offset], (error_type.to_owned(), attempts.to_owned()), "{offset}");
    }
    assert_eq!(types["3"].0, "unknown-format");
    assert_eq!(bench.attempts(), [(4, 1)], "it was parked behind a record that has its letter");
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (5, 4));
    assert_eq!((state.aggregate().orders(), state.aggregate().retries()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_was_no_order_and_would_be_one_after_a_restart_stays_a_dead_letter() {
    let confluent =
        |shared: &mut Shared<_>| shared.settings.payload_format = PayloadFormat::Confluent;
    let mut bench = Bench::start_with(script([]), Ordering::Key, empty(), confluent);
    bench.read(&[("a", None)]).await;
    assert_eq!(header(&bench.letter().await, "dlq.error.type").as_deref(), Some("bad-magic"));
    let state = bench.checkpoint().await;

    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None)]).await;
    let letter = bench.letter().await;
    assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("given-up"));
    letter.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (1, 1));
    assert_eq!(bench.attempts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_commit_has_no_letter_and_is_tried_again() {
    let mut bench = Bench::manual(script([(0, rejects())]), Ordering::Key, empty());
    let before = bench.checkpoint().await;
    bench.read(&[("a", None), ("a", None)]).await;
    bench.has_no_letter().await;
    drop(bench);

    let mut bench = Bench::manual(script([]), Ordering::Key, before);
    bench.read(&[("a", None), ("a", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_letters_that_wait_to_the_next_worker() {
    let mut bench = Bench::manual(script([(0, rejects())]), Ordering::Key, empty());
    bench.read(&[("a", None), ("a", None)]).await;
    let begun = Instant::now();
    let state = bench.drain(BACKOFF).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nothing runs");

    let mut bench = Bench::manual(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("a", None)]).await;
    bench.letter().await.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (2, 1));
    assert_eq!(bench.attempts(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_does_not_rest_while_letters_wait() {
    let mut bench = Bench::manual(script([(0, rejects())]), Ordering::Key, empty());
    bench.read(&[("a", None)]).await;
    bench.pause_switch.set(true);
    tokio::time::sleep(BACKOFF).await;
    let rests = |bench: &Bench| {
        Some(bench.published.idle.load(Atomic::Acquire)) == bench.pause_switch.number_while_paused()
    };
    assert!(!rests(&bench));
    bench.commit().await;
    bench.letter().await.answer.send(Ok(())).unwrap();
    bench.checkpoint().await;
    assert!(rests(&bench));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_record_wait_for_no_commit() {
    let mut bench = Bench::manual(script([]), Ordering::Key, empty());
    bench.fetch(vec![], Some(damaged(0, 9))).await;
    bench.letter().await.answer.send(Ok(())).unwrap();
    assert_eq!(bench.checkpoint().await.committable(), 10);
}
