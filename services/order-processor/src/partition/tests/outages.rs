//! What pauses a partition for a while, and what lets it go on.

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

fn script_first(outcomes: impl IntoIterator<Item = Outcome>) -> Arc<Script> {
    Arc::new(Script { first: Mutex::new(outcomes.into_iter().collect()), ..Script::default() })
}

fn fails_for_ever(offset: i64) -> (i64, Vec<Answer>) {
    (offset, (0..100).map(|_| Answer::Now(transient())).collect())
}

fn empty() -> PartitionState {
    PartitionState::empty(TOPIC, 0, Capacity::DEFAULT)
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_the_handler_names_stops_everything_but_probes_and_counts_for_nothing() {
    let down = || Outcome::dependency_down("nobody is there");
    let mut bench = Bench::fresh(script_first([down(), down(), down()]), Ordering::Key);
    bench.offer(&[("a", None), ("b", None), ("c", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 0));
    assert_eq!(bench.attempts(), [(0, 1)], "there is no attempt before a probe is due");
    assert!(bench.pause().unwrap().contains("nobody is there"));

    bench.caught_up().await;
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 0);
    assert!(bench.attempts().iter().all(|(_, number)| *number == 1), "{:?}", bench.attempts());
    assert_eq!(bench.attempts().len(), 6);
    assert_eq!(bench.pause(), None);
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn retries_are_not_used_up_while_everything_fails() {
    let mut bench = Bench::fresh(script_first((0..40).map(|_| transient())), Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("c", None), ("d", None), ("e", None)]).await;
    tokio::time::sleep(BACKOFF * 20).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (5, 5));
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_few_orders_in_an_outage_are_not_dead_lettered_either() {
    // Fewer than take the dependency down by failing in a row.
    let mut bench = Bench::fresh(script_first((0..12).map(|_| transient())), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    tokio::time::sleep(BACKOFF * 20).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn one_order_that_always_fails_is_dead_lettered_though_nothing_else_happens() {
    let mut bench = Bench::fresh(script([fails_for_ever(0)]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    let letter = bench.letter().await;
    letter.answer.send(Ok(())).unwrap();
    assert_eq!(bench.checkpoint().await.aggregate().dead_letters(), 1);
    assert_eq!(bench.attempts(), [(0, 1), (0, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn orders_that_alone_fail_do_not_keep_the_others_waiting() {
    let bad = (0..5).map(fails_for_ever);
    let mut bench = Bench::fresh(script(bad), Ordering::Key);
    let keys = ["a", "b", "c", "d", "e", "f"];
    bench.read(&keys.map(|key| (key, None))).await;
    assert_eq!(bench.checkpoint().await.aggregate().orders(), 1, "a probe found the good one");
    assert_eq!(bench.pause(), None);
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_drains_at_once_and_keeps_what_it_has() {
    let down = (0..100).map(|_| Outcome::dependency_down("nobody is there"));
    let mut bench = Bench::fresh(script_first(down), Ordering::Key);
    bench.offer(&[("a", None), ("b", None)]).await;
    bench.checkpoint().await;
    let health = bench.health.clone();
    let state = bench.drain(Duration::ZERO).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 0));
    assert_eq!(health.report()["work"], None, "there is no order here that waits for the outage");
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_with_the_last_order_even_if_that_says_nothing_about_it() {
    let answers = vec![Answer::Now(Outcome::dependency_down("nobody is there")), Answer::Panic];
    let mut bench = Bench::fresh(script([(0, answers)]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    assert!(bench.pause().is_some());
    bench.letter().await.answer.send(Ok(())).unwrap();
    assert_eq!(bench.checkpoint().await.aggregate().dead_letters(), 1);
    assert_eq!(bench.pause(), None);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_attempts_run_at_once() {
    let (senders, answers): (Vec<_>, Vec<_>) = (0..6).map(|_| oneshot::channel()).unzip();
    let scripted = answers.into_iter().zip(0..).map(|(later, at)| (at, vec![Answer::Later(later)]));
    let mut bench = Bench::fresh(script(scripted), Ordering::Key);
    let keys = ["a", "b", "c", "d", "e", "f"];
    bench.offer(&keys.map(|key| (key, None))).await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(bench.attempts().len(), CONCURRENCY);
    let mut senders = senders.into_iter();
    for started in [CONCURRENCY + 1, CONCURRENCY + 2, CONCURRENCY + 2] {
        senders.next().unwrap().send(Outcome::Done).unwrap();
        tokio::time::sleep(MOMENT).await;
        assert_eq!(bench.attempts().len(), started);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_time_is_over_is_made_again() {
    let (_answer, never) = oneshot::channel();
    let mut bench = Bench::fresh(script([(0, vec![Answer::Later(never)])]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    tokio::time::sleep(ATTEMPT_TIMEOUT + BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().retries()), (1, 1));
    assert_eq!(bench.attempts(), [(0, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_after_the_longest_time_in_which_an_order_may_fail() {
    let mut bench =
        Bench::start_with(script([fails_for_ever(0)]), Ordering::Key, empty(), |shared| {
            shared.settings.retry.elapsed_max = Some(BACKOFF + BACKOFF / 2);
        });
    bench.read(&[("a", None)]).await;
    bench.letter().await;
    assert_eq!(bench.attempts(), [(0, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn too_many_dead_letters_pause_the_partition_until_it_is_released() {
    let poison: Option<&[u8]> = Some(b"\xff\xff\xff");
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.offer(&[("a", poison); 12]).await;
    let limit = usize::try_from(DLQ_GUARD).unwrap();
    for round in 1..=2 {
        tokio::time::sleep(BACKOFF * 100).await;
        for _ in 0..limit {
            bench.letters.try_recv().unwrap().answer.send(Ok(())).unwrap();
        }
        assert!(bench.letters.try_recv().is_err(), "it is paused");
        let state = bench.checkpoint().await;
        assert_eq!(state.committable(), i64::from(DLQ_GUARD) * round, "what is done is committed");
        assert!(bench.pause().unwrap().starts_with("orders-0 paused after 5 dead letters"));
        bench.release();
    }
    bench.caught_up().await;
    assert_eq!(bench.pause(), None);
    for _ in 0..2 {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    assert_eq!(bench.checkpoint().await.committable(), 12);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_counted_on_by_the_next_owner() {
    let poison: Option<&[u8]> = Some(b"\xff\xff\xff");
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", poison); 3]).await;
    for _ in 0..3 {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    let state = bench.drain(BACKOFF).await;
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.offer(&[("a", poison); 5]).await;
    for _ in 0..2 {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    tokio::time::sleep(BACKOFF).await;
    assert!(bench.letters.try_recv().is_err(), "it is paused");

    // An order begins a new count for every owner.
    bench.release();
    for _ in 0..3 {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    bench.caught_up().await;
    bench.read(&[("b", None)]).await;
    let state = bench.drain(BACKOFF).await;
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", poison); 4]).await;
    assert_eq!(bench.pause(), None);
}

#[tokio::test(start_paused = true)]
async fn a_partition_stays_paused_for_the_next_owner_until_a_release_after_the_pause() {
    let poison: Option<&[u8]> = Some(b"\xff\xff\xff");
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.offer(&[("a", poison); 6]).await;
    for _ in 0..DLQ_GUARD {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    // The actions topic ends at offset 7 when it is first looked at.
    bench.releases.ends_at(7);
    tokio::time::sleep(MOMENT).await;
    let state = bench.drain(BACKOFF).await;

    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.offer(&[("a", poison)]).await;
    tokio::time::sleep(MOMENT).await;
    assert!(bench.pause().unwrap().starts_with("orders-0 paused after 5 dead letters"));
    bench.releases.ends_at(9);
    bench.releases.released(6, "early");
    tokio::time::sleep(MOMENT).await;
    assert!(bench.pause().is_some() && bench.letters.try_recv().is_err());
    bench.releases.released(7, "while nobody had the partition");
    bench.letter().await.answer.send(Ok(())).unwrap();
    bench.caught_up().await;
    assert_eq!(bench.pause(), None);

    let state = bench.drain(BACKOFF).await;
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("b", None)]).await;
    assert_eq!(bench.attempts().len(), 1, "a release holds for the next owner, too");
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_a_paused_partition_go_on() {
    let poison: Option<&[u8]> = Some(b"\xff\xff\xff");
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.offer(&[("a", poison); 6]).await;
    for _ in 0..DLQ_GUARD {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    let state = bench.drain(BACKOFF).await;
    for limit in [0, DLQ_GUARD + 1] {
        let change = |shared: &mut Shared<_>| shared.settings.dlq.guard = limit;
        let mut bench = Bench::start_with(script([]), Ordering::Key, state.clone(), change);
        bench.read(&[("b", None)]).await;
        assert_eq!(bench.attempts().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_at_its_limit_makes_no_attempts_at_what_waits() {
    let poison: Option<&[u8]> = Some(b"\xff\xff\xff");
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    let mut records = vec![("a", None)];
    records.extend([("b", poison); 5]);
    bench.read(&records).await;
    tokio::time::sleep(BACKOFF * 2).await;
    assert_eq!(bench.attempts(), [(0, 1)]);
    bench.release();
    tokio::time::sleep(MOMENT).await;
    assert_eq!(bench.attempts(), [(0, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn draining_gives_up_a_letter_that_cannot_be_written() {
    let rejected = Outcome::permanent("no such product");
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(rejected)])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let state = bench.drain(Duration::from_secs(1)).await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (0, 0));
    assert_eq!(state.aggregate().orders(), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_on_purpose_are_no_outage() {
    use crate::handler::SimulatedFailure;
    let failing = (0..20).map(|offset| {
        let failure = Outcome::Simulated(SimulatedFailure::Transient("on purpose"));
        (offset, vec![Answer::Now(failure)])
    });
    let mut bench = Bench::fresh(script(failing), Ordering::None);
    bench.read(&[("a", None); 20]).await;
    assert_eq!((bench.attempts().len(), bench.pause()), (20, None));
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.aggregate().orders(), state.aggregate().retries()), (20, 20));
}
