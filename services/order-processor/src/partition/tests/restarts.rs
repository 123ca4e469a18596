//! What a drain leaves to the next owner of the partition, and what that one does again.

use order_ledger::checkpoint::Admission;

use super::*;

#[tokio::test(start_paused = true)]
async fn draining_waits_for_running_work_and_gives_up_waiting_records_with_their_attempts() {
    let (answer, later) = oneshot::channel();
    let mut bench = Bench::fresh(
        script([(0, vec![Answer::Later(later)]), (1, vec![Answer::Now(transient())])]),
        Ordering::Key,
    );
    bench.read(&[("a", None), ("b", None)]).await;
    answer.send(Outcome::Done).unwrap();
    let mut state = bench.drain(BACKOFF).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (1, 1));
    assert_eq!(state.admit(1), Admission::Process { attempts: 1 });
}

#[tokio::test(start_paused = true)]
async fn draining_gives_up_work_that_does_not_end_in_time() {
    let (_answer, never) = oneshot::channel();
    let mut bench = Bench::fresh(script([(0, vec![Answer::Later(never)])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let state = bench.drain(Duration::from_secs(1)).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_checkpoint_calls_complete_is_not_done_again() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let state = bench.drain(BACKOFF).await;
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None), ("c", None)]).await;
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(2, 1), (0, 2)]);
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 1, "attempts before the restart count");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_failed_waits_its_delay_anew_after_each_restart() {
    let fails = || script([(0, vec![Answer::Now(transient())])]);
    let mut bench = Bench::fresh(fails(), Ordering::Key);
    bench.read(&[("a", None), ("a", None), ("b", None)]).await;
    let mut state = bench.drain(BACKOFF).await;
    for _ in 0..3 {
        let mut bench = Bench::start(fails(), Ordering::Key, state);
        bench.read(&[("a", None), ("a", None), ("b", None)]).await;
        tokio::time::sleep(BACKOFF.mul_f64(0.9)).await;
        assert_eq!(bench.attempts(), [], "the last one was made before the restart");
        state = bench.drain(BACKOFF).await;
    }
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("a", None), ("b", None)]).await;
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(0, 2), (1, 1)], "its key waits behind it");
    assert_eq!((state.committable(), state.aggregate().retries()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_failed_takes_no_probe_while_it_waits_after_a_restart() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    let state = bench.drain(BACKOFF).await;
    let down = Answer::Now(Outcome::dependency_down("nobody is there"));
    let mut bench = Bench::start(script([(1, vec![down])]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None)]).await;
    assert_eq!(bench.attempts(), [(1, 1)]);
    tokio::time::sleep(BACKOFF * 2).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
}
