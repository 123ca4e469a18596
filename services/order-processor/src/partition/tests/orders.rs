//! Orders that are done, at once or after a retry: what they count as, and what waits behind them.

use service_runtime::now_ms;

use super::*;

#[tokio::test(start_paused = true)]
async fn orders_that_are_done_at_once_are_counted_and_committable() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("a", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().sum().to_string(), "7.5");
    assert_eq!(bench.attempts(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_record_holds_back_the_commit_and_its_key_but_nothing_else() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("a", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 1));
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);

    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 1);
    assert_eq!(bench.attempts(), [(0, 1), (1, 1), (0, 2), (2, 1)], "the key stays in order");
}

#[tokio::test(start_paused = true)]
async fn the_partition_is_kept_in_order_when_the_settings_say_so() {
    let mut bench =
        Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Partition);
    bench.read(&[("a", None), ("b", None)]).await;
    assert_eq!(bench.attempts(), [(0, 1), (0, 2), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_another_record_when_order_does_not_matter() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::None);
    bench.read(&[("a", None), ("a", None)]).await;
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn orders_stamped_far_ahead_count_as_of_their_arrival() {
    // In the year 2100, by its producer's clock or by the broker's.
    const AHEAD_MS: i64 = 4_102_444_800_000;
    let waits = script([(0, vec![Answer::Now(transient())])]);
    let mut bench = Bench::fresh(waits, Ordering::None);
    let batch = |base, timestamp_ms, price| {
        let mut value = Vec::new();
        let order = Order { order_id: "1".to_owned(), product: "tea".to_owned(), price };
        encode_bare(&order, &mut value);
        let records = std::iter::repeat_n(value, 100);
        records.fold(BatchBuilder::new(base), |batch, value| {
            batch.record(timestamp_ms, None, Some(&value), &[])
        })
    };
    bench.fetch(vec![batch(0, AHEAD_MS, 1.0).build().unwrap()], None).await;
    bench.caught_up().await;
    let soon = now_ms() + 60_000;
    bench.fetch(vec![batch(100, soon, 2.0).build().unwrap()], None).await;
    bench.caught_up().await;
    let recent = |state: &PartitionState| state.aggregate().recent_average().unwrap().to_string();
    assert_eq!(recent(&bench.checkpoint().await), "2", "a minute ahead is no trouble");
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(
        (recent(&state), state.aggregate().orders()),
        ("2".to_owned(), 200),
        "nor is a retry"
    );

    let appended = batch(200, soon, 3.0).log_append_time(AHEAD_MS);
    bench.fetch(vec![appended.build().unwrap()], None).await;
    bench.caught_up().await;
    assert_eq!(recent(&bench.checkpoint().await), "3", "the broker's clock is believed");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_session_is_gone_ends() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    drop(bench.requests);
    bench.workers.join_next().await.unwrap().unwrap().unwrap();
}
