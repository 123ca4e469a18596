//! A worker that waits in the middle of a batch: the session hears of what was done before.

use order_ledger::checkpoint::METADATA_CHARS_MIN;

use super::*;

/// The narrowest window that the settings allow.
fn narrow() -> Capacity {
    Capacity::for_metadata(METADATA_CHARS_MIN).unwrap()
}

fn start(script: Arc<Script>, ordering: Ordering) -> Bench {
    Bench::start(script, ordering, PartitionState::empty(TOPIC, 0, narrow()))
}

/// Asserts that the session knows, without asking, that something is to be committed: `orders`.
async fn commits(bench: &mut Bench, orders: u64) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let published = bench.published.revision.load(Atomic::Relaxed);
    let snapshot = snapshot(&bench.requests).await.expect("the worker answers");
    assert_eq!(published, snapshot.revision, "the revision that the session sees");
    assert_eq!(restored(snapshot).aggregate().orders(), orders);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_the_window_was_full_is_committed() {
    let waits = script([(0, vec![Answer::Now(transient())])]);
    let mut bench = start(waits, Ordering::Key);
    let window = narrow().window();
    let records = [("a", None), ("b", None)].into_iter().chain([("a", None); 8]);
    let records: Vec<_> = records.cycle().take(window.dense_max()).collect();
    bench.offer(&records).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let frontier = bench.status.lock().frontier;
    assert!(frontier < bench.next_offset, "the window is full");
    // One in ten.
    commits(&mut bench, u64::try_from(frontier + 8).unwrap() / 10).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_a_record_that_keeps_the_partition_in_order_is_committed() {
    let waits = script([(1, vec![Answer::Now(transient())])]);
    let mut bench = start(waits, Ordering::Partition);
    bench.offer(&[("a", None), ("b", None), ("c", None)]).await;
    commits(&mut bench, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_permits_ran_out_is_committed() {
    let (_outcomes, later): (Vec<_>, Vec<_>) = (0..CONCURRENCY).map(|_| oneshot::channel()).unzip();
    let answers = (2..).zip(later.into_iter().map(|later| vec![Answer::Later(later)]));
    let mut bench = start(script(answers), Ordering::None);
    bench.offer(&[("a", None); 2 + CONCURRENCY + 1]).await;
    commits(&mut bench, 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_a_schema_has_to_be_looked_up_is_committed() {
    const NAMES_A_SCHEMA: &[u8] = &[0, 0, 0, 0, 7, 2, b'1'];
    // Its registry does not answer.
    let mut bench = start(script([]), Ordering::Key);
    bench.offer(&[("a", None), ("b", None), ("c", Some(NAMES_A_SCHEMA))]).await;
    commits(&mut bench, 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_dead_letters_paused_the_partition_is_committed() {
    let mut bench = start(script([]), Ordering::Key);
    bench.commits.send_replace(Commits::Asked);
    let junk: &[u8] = b"junk";
    let letters = std::iter::repeat_n(("a", Some(junk)), usize::try_from(DLQ_GUARD).unwrap());
    let records: Vec<_> =
        [("a", None), ("b", None)].into_iter().chain(letters).chain([("c", None)]).collect();
    bench.offer(&records).await;
    commits(&mut bench, 2).await;
}
