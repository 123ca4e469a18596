//! A paused replica: what waits, and what goes on.

use super::*;

const LONG: Duration = Duration::from_hours(1);
/// Less than an attempt may take.
const WHILE: Duration = ATTEMPT_TIMEOUT.checked_div(2).unwrap();

impl Bench {
    /// Waits until the worker reports that it has no work in flight.
    async fn idle(&mut self) {
        let notice = timeout(PATIENCE, self.notices.recv()).await.expect("it becomes idle");
        assert!(matches!(notice, Some(Notice::Idle)), "{notice:?}");
        assert_eq!(
            Some(self.published.idle.load(Atomic::Acquire)),
            self.pause_switch.number_while_paused()
        );
    }

    fn is_idle(&self) -> bool {
        Some(self.published.idle.load(Atomic::Acquire)) == self.pause_switch.number_while_paused()
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_takes_nothing_in_and_everything_after_the_resume() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    bench.pause_switch.set(true);
    bench.idle().await;

    bench.offer(&[("b", None), ("c", None), ("d", Some(b"junk"))]).await;
    tokio::time::sleep(LONG).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (1, 1));
    assert_eq!(bench.attempts(), [(0, 1)]);
    assert!(bench.letters.try_recv().is_err());
    assert!(bench.is_idle());
    assert!(bench.fetched.try_send(Fetched::OutOfRange { position: 9 }).is_err(), "it is full");

    bench.pause_switch.set(false);
    bench.caught_up().await;
    bench.letter().await.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_paused_begins_nothing() {
    let on = |shared: &mut Shared<Arc<Script>>| shared.pause_switch.set(true);
    let empty = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let mut bench = Bench::start_with(script([]), Ordering::Key, empty, on);
    bench.idle().await;
    bench.offer(&[("a", None)]).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(bench.attempts(), []);

    let state = bench.drain(Duration::ZERO).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_in_flight_ends_and_counts_before_the_worker_is_idle() {
    let (outcome, later) = oneshot::channel();
    let mut bench = Bench::fresh(script([(0, vec![Answer::Later(later)])]), Ordering::Key);
    // The second waits behind its key.
    bench.read(&[("a", None), ("a", None)]).await;
    bench.pause_switch.set(true);
    tokio::time::sleep(WHILE).await;
    assert!(!bench.is_idle());

    outcome.send(Outcome::Done).unwrap();
    bench.idle().await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (1, 1));
    assert_eq!(bench.attempts(), [(0, 1)], "what waits behind it has not begun");

    bench.pause_switch.set(false);
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_middle_of_a_batch_leaves_its_other_records_alone() {
    let (outcomes, later): (Vec<_>, Vec<_>) = (0..CONCURRENCY).map(|_| oneshot::channel()).unzip();
    let answers = (0..).zip(later.into_iter().map(|later| vec![Answer::Later(later)]));
    let mut bench = Bench::fresh(script(answers), Ordering::Key);
    // As many as may run at once, one that waits for a permit, and one that needs none.
    let orders = ["a", "b", "c", "d", "e"].map(|key| (key, None));
    let junk: (&str, Option<&[u8]>) = ("f", Some(b"junk"));
    bench.offer(&[&orders[..], &[junk]].concat()).await;
    bench.checkpoint().await;
    bench.pause_switch.set(true);
    for outcome in outcomes {
        outcome.send(Outcome::Done).unwrap();
    }
    bench.idle().await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (4, 4));
    assert!(bench.letters.try_recv().is_err());
    assert!(bench.status.lock().waits.for_resume, "that it stands still is as it is wanted");

    bench.pause_switch.set(false);
    bench.caught_up().await;
    bench.letter().await.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (6, 5));
    assert!(!bench.status.lock().waits.for_resume);
}

#[tokio::test(start_paused = true)]
async fn a_letter_in_flight_is_written_before_the_worker_is_idle() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", Some(b"junk"))]).await;
    bench.pause_switch.set(true);
    let letter = bench.letter().await;
    tokio::time::sleep(LONG).await;
    assert!(!bench.is_idle());

    letter.answer.send(Ok(())).unwrap();
    bench.idle().await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn retries_wait_during_a_pause_and_its_time_does_not_count() {
    let answers = [(0, vec![Answer::Now(transient()), Answer::Now(transient())])];
    let elapsed =
        |shared: &mut Shared<Arc<Script>>| shared.settings.retry.elapsed_max = Some(BACKOFF * 3);
    let empty = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let mut bench = Bench::start_with(script(answers), Ordering::Key, empty, elapsed);
    bench.read(&[("a", None)]).await;
    bench.pause_switch.set(true);
    bench.idle().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(bench.attempts(), [(0, 1)]);

    bench.pause_switch.set(false);
    bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(0, 1), (0, 2)], "it is due");
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (1, 1));
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_left_during_a_pause_and_found_again_after_it() {
    let down = || Answer::Now(Outcome::dependency_down("nobody is there"));
    let (outcome, later) = oneshot::channel();
    let answers = [(0, vec![Answer::Later(later)]), (1, vec![down(), down()])];
    let mut bench = Bench::fresh(script(answers), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    assert!(bench.pause().is_some());
    bench.pause_switch.set(true);
    bench.checkpoint().await;
    assert!(bench.pause().is_some(), "what runs may tell");

    outcome.send(Outcome::dependency_down("nobody is there")).unwrap();
    bench.idle().await;
    assert_eq!(bench.pause(), None);
    tokio::time::sleep(LONG).await;
    assert_eq!((bench.attempts().len(), bench.pause()), (2, None));

    bench.pause_switch.set(false);
    bench.checkpoint().await;
    assert!(bench.pause().is_some());
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
    assert_eq!((bench.pause(), state.aggregate().retries()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_is_drained_at_once_and_keeps_attempts_in_its_checkpoint() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    bench.pause_switch.set(true);
    bench.idle().await;
    bench.offer(&[("c", None)]).await;

    let begun = Instant::now();
    let state = bench.drain(LONG).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 1));

    let mut next = Bench::start(script([]), Ordering::Key, state);
    next.read(&[("a", None), ("b", None), ("c", None)]).await;
    tokio::time::sleep(BACKOFF).await;
    let state = next.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(next.attempts(), [(2, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_pause_is_not_taken_for_the_present_one() {
    let (outcome, later) = oneshot::channel();
    let mut bench = Bench::fresh(script([(0, vec![Answer::Later(later)])]), Ordering::Key);
    bench.pause_switch.set(true);
    bench.idle().await;
    bench.pause_switch.set(false);
    bench.read(&[("a", None)]).await;
    bench.pause_switch.set(true);
    tokio::time::sleep(WHILE).await;
    assert!(!bench.is_idle());
    outcome.send(Outcome::Done).unwrap();
    bench.idle().await;
}
