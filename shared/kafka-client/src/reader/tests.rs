//! A reader and a broker with a few batches, on real sockets.

mod fake;

use self::fake::FakeBroker;
use super::*;
use crate::fetch::EpochEnd;
use tokio::time::{Instant, timeout_at};

const TOPIC: &str = "orders";
const TOPIC_ID: Uuid = Uuid::from_u128(7);
const PARTITIONS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_answer_takes_long_holds_back_no_other_and_each_comes_in_order() {
    const BATCHES: i64 = 200;
    let all: Vec<i64> = (0..BATCHES).collect();
    let broker = FakeBroker::start().await;
    for partition in 0..PARTITIONS {
        broker.append(partition, BATCHES);
    }
    broker.state.send_modify(|state| state.held = Some(2));
    let (_reader, mut channels) = broker.reader(Duration::from_millis(200));
    let [zero, one, two] = &mut channels[..] else { panic!("three partitions") };
    // Nobody receives from the others, so the next request is for this one alone, and that is held.
    let Some(Fetched::Batches(first)) = two.recv().await else { panic!("no batches") };
    let mut state = broker.state.subscribe();
    drop(state.wait_for(|state| state.under_way == [2]).await.unwrap());

    let (zero, one) = tokio::join!(read_to(zero, BATCHES), read_to(one, BATCHES));
    assert_eq!((&zero, &one), (&all, &all));
    assert_eq!(
        broker.state.borrow().under_way.iter().filter(|under_way| **under_way == 2).count(),
        1
    );
    broker.state.send_modify(|state| state.held = None);
    let rest = read_to(two, BATCHES).await;
    assert_eq!([bases(&first), rest].concat(), all);
    assert_eq!(broker.state.borrow().asked_twice, 0, "a partition is in one request at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_described_holds_back_no_partition_of_another() {
    let broker = FakeBroker::start().await;
    broker.append(0, 5);
    let mut reader = broker.reader_of_nothing(Duration::from_millis(200));
    let _hidden = add(&mut reader, "hidden", 0);
    let mut channel = add(&mut reader, TOPIC, 0);
    let read = timeout_at(Instant::now() + Duration::from_secs(10), read_to(&mut channel, 5)).await;
    assert_eq!(read.expect("the topic is read"), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_have_caught_up_wait_at_the_broker_for_news() {
    let broker = FakeBroker::start().await;
    for partition in 0..PARTITIONS {
        broker.append(partition, 50);
    }
    let (_reader, mut channels) = broker.reader(Duration::from_hours(1));
    for channel in &mut channels {
        read_to(channel, 50).await;
    }
    for (partition, channel) in channels.iter_mut().enumerate() {
        let mut state = broker.state.subscribe();
        drop(state.wait_for(|state| state.under_way == [0, 1, 2]).await.unwrap());
        broker.append(partition, 1);
        assert_eq!(read_to(channel, 51).await, [50]);
    }
    assert!(broker.state.borrow().fetches < 100, "{}", broker.state.borrow().fetches);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_while_it_was_idle_is_replaced_without_further_ado() {
    let broker = FakeBroker::start().await;
    let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
    for round in 0..20 {
        for (partition, channel) in channels.iter_mut().enumerate() {
            broker.append(partition, 1);
            assert_eq!(read_to(channel, round + 1).await, [round]);
        }
        broker.state.send_modify(|state| state.closes += 1);
    }
    assert_eq!(broker.state.borrow().metadata_requests, 1, "no leader was looked up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_the_broker_reads_slowly_are_waited_for_and_hold_back_no_other_partition() {
    const BATCHES: i64 = 20;
    let broker = FakeBroker::start().await;
    broker.append(0, BATCHES);
    broker.append(1, BATCHES);
    // Longer than a usual request waits, as tiered storage may be.
    broker.state.send_modify(|state| state.slow = Some((1, 3_000)));
    let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
    let all: Vec<i64> = (0..BATCHES).collect();
    assert_eq!(read_to(&mut channels[0], BATCHES).await, all);
    assert_eq!(read_to(&mut channels[1], BATCHES).await, all);
    assert!(!broker.state.borrow().asked_below, "nothing is taken for damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_denies_its_leadership_is_asked_less_and_less_often() {
    let broker = FakeBroker::start().await;
    broker.append(0, 5);
    broker.append(1, 5);
    broker.state.send_modify(|state| state.denied = Some(0));
    let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
    let mut state = broker.state.subscribe();
    let begun = Instant::now();
    // The pauses are 50, 100, 200, 400, 800 ms.
    drop(state.wait_for(|state| state.denials >= 6).await.unwrap());
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "{:?}", begun.elapsed());
    assert_eq!(read_to(&mut channels[1], 5).await, [0, 1, 2, 3, 4], "others go on");
    assert!(broker.state.borrow().metadata_requests < 12);
    broker.state.send_modify(|state| state.denied = None);
    assert_eq!(read_to(&mut channels[0], 5).await, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_told_once_its_channel_has_room() {
    let broker = FakeBroker::start().await;
    let mut reader = broker.reader_of_nothing(Duration::from_millis(20));
    let mut channel = add(&mut reader, TOPIC, 0);
    let mut state = broker.state.subscribe();
    drop(state.wait_for(|state| state.fetches > 0).await.unwrap());
    // The channel is full of the log's ends.
    let other = Uuid::from_u128(8);
    broker.state.send_modify(|state| state.topic_id = other);
    loop {
        match channel.recv().await {
            Some(Fetched::Recreated { topic_id }) => break assert_eq!(topic_id, other),
            Some(Fetched::Batches(fetched)) => assert!(fetched.batches.is_empty()),
            event => panic!("{event:?}"),
        }
    }
    broker.append(0, 1);
    let (sender, mut channel) = mpsc::channel(1);
    reader.add(TopicPartition::new(TOPIC, 0), other, 0, None, sender);
    assert_eq!(read_to(&mut channel, 1).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_an_id_is_fetched_by_its_name() {
    for fetch_version in [4, 7, 11, 12, 13] {
        let broker = FakeBroker::start().await;
        broker.state.send_modify(|state| {
            state.topic_id = Uuid::nil();
            state.fetch_version = fetch_version;
            state.has_sessions = true;
        });
        for partition in 0..PARTITIONS {
            broker.append(partition, 30);
        }
        let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
        for channel in &mut channels {
            assert_eq!(read_to(channel, 30).await, (0..30).collect::<Vec<_>>());
        }
        assert!(broker.state.borrow().fetches < 200, "{}", broker.state.borrow().fetches);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_session_name_only_partitions_that_have_changed() {
    let broker = FakeBroker::start().await;
    broker.state.send_modify(|state| state.has_sessions = true);
    for partition in 0..PARTITIONS {
        broker.append(partition, 5);
    }
    let (_reader, mut channels) = broker.reader(Duration::from_hours(1));
    for channel in &mut channels {
        read_to(channel, 5).await;
    }
    let mut state = broker.state.subscribe();
    drop(state.wait_for(|state| state.under_way == [0, 1, 2]).await.unwrap());
    let named = broker.state.borrow().named;
    for offset in 5..25 {
        broker.append(1, 1);
        assert_eq!(read_to(&mut channels[1], offset + 1).await, [offset]);
    }
    drop(state.wait_for(|state| state.under_way == [0, 1, 2]).await.unwrap());
    // Once for each new position; where the channel was full for too long, the partition was forgotten and added.
    let named = broker.state.borrow().named - named;
    assert!((20..=60).contains(&named), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_broker_has_lost_is_begun_anew_and_nothing_is_lost_or_repeated() {
    let broker = FakeBroker::start().await;
    broker.state.send_modify(|state| state.has_sessions = true);
    let (_reader, mut channels) = broker.reader(Duration::from_millis(50));
    for round in 0..30 {
        broker.append(0, 1);
        broker.append(2, 1);
        match round % 3 {
            0 => broker.state.send_modify(|state| state.sessions.clear()),
            1 => broker.state.send_modify(|state| {
                state.sessions.values_mut().for_each(|session| session.epoch += 1);
            }),
            _ => broker.state.send_modify(|state| state.closes += 1),
        }
        assert_eq!(read_to(&mut channels[0], round + 1).await, [round]);
        assert_eq!(read_to(&mut channels[2], round + 1).await, [round]);
    }
    assert_eq!(broker.state.borrow().metadata_requests, 1, "no leader was looked up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_again_learns_where_its_log_ends() {
    let broker = FakeBroker::start().await;
    broker.state.send_modify(|state| state.has_sessions = true);
    broker.append(0, 3);
    let mut reader = broker.reader_of_nothing(Duration::from_hours(1));
    let mut channel = add(&mut reader, TOPIC, 0);
    read_to(&mut channel, 3).await;
    for _ in 0..5 {
        let (sender, mut channel) = mpsc::channel(1);
        reader.add(TopicPartition::new(TOPIC, 0), TOPIC_ID, 3, None, sender);
        let Some(Fetched::Batches(fetched)) = channel.recv().await else { panic!("no batches") };
        assert_eq!((fetched.next_offset, fetched.high_watermark), (3, 3));
        broker.state.send_modify(|state| state.closes += 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_fetched_only_under_an_epoch_for_which_it_is_valid() {
    let broker = FakeBroker::start().await;
    broker.append(0, 10);
    let mut reader = broker.reader_of_nothing(Duration::from_millis(20));
    let mut channel = add(&mut reader, TOPIC, 0);
    assert_eq!(read_to(&mut channel, 10).await, (0..10).collect::<Vec<_>>());
    // An election without loss.
    broker.state.send_modify(|state| state.epoch = 1);
    broker.append(0, 5);
    assert_eq!(read_to(&mut channel, 15).await, (10..15).collect::<Vec<_>>());
    assert!(broker.state.borrow().validations > 0, "the position was compared");
    assert_eq!(broker.state.borrow().without_epoch, 0);
    // One of a replica that lacks six records; the log grows beyond the position before anybody asks.
    broker.truncate(0, 9, 2, 20);
    loop {
        match channel.recv().await {
            Some(Fetched::Truncated { position, diverging }) => {
                assert_eq!(position, 15);
                assert_eq!(diverging, EpochEnd { epoch: 0, end_offset: 9 });
                break;
            }
            Some(Fetched::Batches(fetched)) => assert!(fetched.batches.is_empty(), "{fetched:?}"),
            event => panic!("{event:?}"),
        }
    }
    // The same at a start with the epoch of the last record.
    for (position, epoch, is_valid) in
        [(9, 0, true), (10, 0, false), (15, 1, false), (15, 2, true), (29, 2, true)]
    {
        let (sender, mut channel) = mpsc::channel(1);
        reader.add(TopicPartition::new(TOPIC, 0), TOPIC_ID, position, Some(epoch), sender);
        match channel.recv().await {
            Some(Fetched::Batches(fetched)) => {
                assert!(is_valid, "{position} {epoch}");
                assert_eq!(fetched.leader_epoch, (position < 29).then_some(2));
            }
            Some(Fetched::Truncated { .. }) => assert!(!is_valid, "{position} {epoch}"),
            event => panic!("{event:?}"),
        }
    }
}

/// Receives until the partition has been read up to `end`, and returns the base offsets of the batches.
async fn read_to(channel: &mut mpsc::Receiver<Fetched>, end: i64) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let Some(Fetched::Batches(fetched)) = channel.recv().await else { panic!("no batches") };
        found.extend(bases(&fetched));
        if fetched.next_offset == end {
            return found;
        }
    }
}

fn bases(fetched: &FetchedBatches) -> Vec<i64> {
    fetched.batches.iter().map(|batch| batch.header().base_offset).collect()
}

fn add(reader: &mut Reader, topic: &str, partition: i32) -> mpsc::Receiver<Fetched> {
    let (sender, channel) = mpsc::channel(1);
    reader.add(TopicPartition::new(topic, partition), TOPIC_ID, 0, None, sender);
    channel
}
