//! Bytes of the log that are no records.

use super::*;
use crate::settings::OnCorruptBatch;

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_one_letter_with_its_bytes_and_counts_as_one_record() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    bench.fetch(vec![], Some(damaged(1, 9))).await;
    bench.offer(&[("b", None)]).await;

    let letter = bench.letter().await;
    let record = &letter.record;
    assert_eq!((&record.key, record.value.as_deref()), (&None, Some(&b"what is left of it"[..])));
    for (name, value) in [
        ("dlq.error.type", "corrupt-batch"),
        ("dlq.error.class", "poison"),
        ("__dlq.errors.offset", "1"),
        ("dlq.batch.base-offset", "1"),
        ("dlq.batch.last-offset", "9"),
        ("error_reason", "the batch of offsets 1 to 9 cannot be read: wrong checksum"),
    ] {
        assert_eq!(header(&letter, name).as_deref(), Some(value), "{name}");
    }
    let state = bench.checkpoint().await;
    assert_eq!(
        (state.committable(), state.aggregate().records()),
        (1, 1),
        "what is behind it waits"
    );

    letter.answer.send(Ok(())).unwrap();
    bench.caught_up().await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().records()), (11, 3));
    assert_eq!(state.aggregate().dead_letters(), 1);
    assert!(bench.letters.try_recv().is_err(), "one letter");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_dead_lettered_again_after_a_restart_only_if_its_letter_was_not_written()
{
    for is_written in [false, true] {
        let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
        bench.read(&[("a", None)]).await;
        bench.fetch(vec![], Some(damaged(1, 9))).await;
        let letter = bench.letter().await;
        if is_written {
            letter.answer.send(Ok(())).unwrap();
        }
        let state = bench.checkpoint().await;
        assert_eq!(state.committable(), 0, "the first record waits");

        let mut bench = Bench::start(script([]), Ordering::Key, state);
        bench.read(&[("a", None)]).await;
        bench.fetch(vec![], Some(damaged(1, 9))).await;
        if !is_written {
            let letter = bench.letter().await;
            assert_eq!(header(&letter, "__dlq.errors.offset").as_deref(), Some("1"));
            letter.answer.send(Ok(())).unwrap();
        }
        bench.caught_up().await;
        tokio::time::sleep(BACKOFF).await;
        let state = bench.checkpoint().await;
        assert!(bench.letters.try_recv().is_err());
        assert_eq!((state.committable(), state.aggregate().dead_letters()), (10, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_that_can_be_read_after_a_restart_counts_with_all_its_records() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.fetch(vec![], Some(damaged(0, 2))).await;
    let _unwritten = bench.letter().await;
    let behind = BatchBuilder::new(3).record(0, Some(b"d"), Some(&order("d")), &[]);
    bench.fetch(vec![behind.build().unwrap()], None).await;
    let state = bench.checkpoint().await;

    // The broker that leads by now has it whole.
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None), ("c", None), ("d", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (4, 4));
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_whole_batch_that_cannot_be_unpacked_is_a_damaged_one_unless_it_was_aborted() {
    let packed = |base: i64| {
        let batch = BatchBuilder::new(base).transaction(7, 0, 0);
        let mut bytes = batch.record(0, None, Some(b"v"), &[]).build().unwrap().to_vec();
        bytes[22] |= 6;
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        Bytes::from(bytes)
    };
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.fetch(vec![packed(0)], None).await;
    bench.caught_up().await;
    let letter = bench.letter().await;
    assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("corrupt-batch"));
    let reason = header(&letter, "error_reason").unwrap();
    assert!(reason.ends_with("unknown compression 6"), "{reason}");
    assert_eq!(letter.record.value, Some(packed(0)));
    letter.answer.send(Ok(())).unwrap();

    let fetched = FetchedBatches {
        batches: batches(packed(1)).collect(),
        damaged: None,
        aborted: vec![(7, 1)],
        next_offset: 2,
        leader_epoch: None,
        last_stable_offset: 2,
        high_watermark: 2,
        log_start_offset: 0,
    };
    bench.fetched.send(Fetched::Batches(fetched)).await.unwrap();
    bench.caught_up().await;
    assert!(bench.letters.try_recv().is_err(), "nobody was to read it");
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().records()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn damage_ends_the_worker_where_the_settings_say_so() {
    let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let fail = |shared: &mut Shared<_>| shared.settings.corrupt_batch = OnCorruptBatch::Fail;
    let mut bench = Bench::start_with(script([]), Ordering::Key, state, fail);
    bench.fetch(vec![], Some(damaged(0, 3))).await;
    let error = bench.workers.join_next().await.unwrap().unwrap().unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("CORRUPT_BATCH=fail") && error.contains("offsets 0 to 3"), "{error}");
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_read_are_letters_and_the_others_of_their_batch_go_on() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    let batch = BatchBuilder::new(0)
        .record(0, None, Some(&order("a")), &[])
        .raw_record(b"no record")
        .record(0, None, Some(&order("b")), &[])
        .raw_bytes(b"\xfe\xff")
        .skip_offsets(2)
        // More than there are, and more together than a counter of 32 bits holds.
        .declare_records(i32::MAX);
    let more = BatchBuilder::new(5).record(0, None, Some(&order("c")), &[]);
    bench.fetch(vec![batch.build().unwrap(), more.build().unwrap()], None).await;
    let mut letters = Vec::new();
    for _ in 0..2 {
        let letter = bench.letter().await;
        assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("undecodable-record"));
        let offset = header(&letter, "__dlq.errors.offset").unwrap();
        letters.push((offset, header(&letter, "dlq.batch.last-offset")));
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(letters, [("1".to_owned(), None), ("3".to_owned(), Some("4".to_owned()))]);
    bench.caught_up().await;
    let state = bench.checkpoint().await;
    let numbers = (state.aggregate().orders(), state.aggregate().dead_letters());
    assert_eq!((state.committable(), numbers), (6, (3, 2)));
}
