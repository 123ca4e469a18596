//! What the metrics are told of a partition.

use super::*;
use crate::telemetry::partition_status::Next;
use crate::telemetry::partition_status::PartitionStatus;

/// Returns how the partition stands once the worker has nothing left to do.
async fn shown(bench: &Bench) -> PartitionStatus {
    tokio::time::sleep(Duration::from_millis(1)).await;
    bench.status.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn a_partition_shows_what_waits_until_all_of_it_is_complete() {
    let script = Arc::new(Script::default());
    script.first.lock().unwrap().push_back(transient());
    let mut bench = Bench::fresh(script, Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("a", None)]).await;
    let status = shown(&bench).await;
    assert_eq!((status.committable, status.frontier, status.log_end), (0, 3, 3));
    assert_eq!((status.incomplete, status.waiting, status.delivered), (2, 1, 3));
    assert_eq!(status.next, Next::At(0), "that of the record that waits");
    assert!(status.oldest.is_some() && !status.is_caught_up());

    tokio::time::sleep(BACKOFF).await;
    let status = shown(&bench).await;
    assert_eq!((status.committable, status.incomplete, status.waiting), (3, 0, 0));
    assert!(status.oldest.is_none() && status.caught_up_at_ms.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_partition_shows_its_letters_while_they_are_on_their_way_and_its_guard() {
    let mut bench = Bench::fresh(Arc::default(), Ordering::Key);
    let poison: Option<&'static [u8]> = Some(b"no order");
    bench.offer(&[("a", poison); 6]).await;
    let mut letters = Vec::new();
    for _ in 0..DLQ_GUARD {
        letters.push(bench.letter().await);
    }
    let status = shown(&bench).await;
    assert_eq!((status.letters, status.waits.for_release), (5, true));
    for letter in letters {
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(shown(&bench).await.letters, 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_shows_attempts_that_run_and_that_the_next_one_has_to_wait_for_them() {
    let (outcomes, later): (Vec<_>, Vec<_>) = (0..=CONCURRENCY).map(|_| oneshot::channel()).unzip();
    let answers = (0..).zip(later.into_iter().map(|later| vec![Answer::Later(later)]));
    let mut bench = Bench::fresh(script(answers), Ordering::None);
    bench.offer(&[("a", None); CONCURRENCY + 1]).await;
    assert!(shown(&bench).await.waits.for_permit);
    let mut outcomes = outcomes.into_iter();
    outcomes.next().unwrap().send(Outcome::Done).unwrap();
    bench.caught_up().await;
    let status = shown(&bench).await;
    assert_eq!((status.running, status.waits.for_permit), (CONCURRENCY, false));
    for outcome in outcomes {
        outcome.send(Outcome::Done).unwrap();
    }
    assert_eq!(shown(&bench).await.running, 0);
}
