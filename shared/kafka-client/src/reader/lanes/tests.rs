use kafka_core::TopicPartition;
use uuid::Uuid;

use super::*;

const WAIT_MAX: Duration = Duration::from_millis(500);
const AT: Params = Params { offset: 0, leader_epoch: 0, room: 100 };

fn key(partition: i32) -> Key {
    Key { topic_id: Uuid::from_u128(7), tp: TopicPartition::new("orders", partition) }
}

/// Sends all that can be sent, and returns the lane, the named partitions and the wait of each request.
fn sent(lanes: &mut Lanes, now: Instant) -> Vec<(usize, Vec<i32>, u128)> {
    let mut all = Vec::new();
    while let Some(Send { lane, asked, wait }) = lanes.next(now) {
        let partitions = match asked {
            Asked::Session(request) => {
                request.fetch.iter().map(|(key, _)| key.tp.partition).collect()
            }
            Asked::Solo(solo) => vec![solo.key.tp.partition],
        };
        all.push((lane, partitions, wait.as_millis()));
    }
    all
}

fn answer(lanes: &mut Lanes, lane: usize) {
    lanes.end(lane).on_answer(9);
}

#[test]
fn partitions_that_have_caught_up_wait_together_and_those_that_lag_share_the_other_lanes() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    for partition in 0..3 {
        lanes.fetch(key(partition), AT, Standing::CaughtUp);
    }
    for partition in 3..6 {
        lanes.fetch(key(partition), AT, Standing::Lags);
    }
    let expected = [(1, vec![3, 5], 500), (2, vec![4], 500), (0, vec![0, 1, 2], 500)];
    assert_eq!(sent(&mut lanes, now), expected);
    assert_eq!(sent(&mut lanes, now), [], "one request a lane");
    // One of them catches up, and stays while another lags.
    answer(&mut lanes, 1);
    lanes.fetch(key(3), AT, Standing::CaughtUp);
    lanes.fetch(key(5), Params { offset: 7, ..AT }, Standing::Lags);
    assert_eq!(sent(&mut lanes, now), [(1, vec![5], 500)]);
}

#[test]
fn a_partition_of_an_unknown_log_does_not_make_the_broker_wait() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    lanes.fetch(key(0), AT, Standing::Unknown);
    assert_eq!(sent(&mut lanes, now), [(1, vec![0], 5)]);
    answer(&mut lanes, 1);
    lanes.fetch(key(0), AT, Standing::CaughtUp);
    assert_eq!(sent(&mut lanes, now), [(0, vec![0], 500)]);
}

#[test]
fn a_latecomer_is_waited_for_at_once_and_joins_the_quiet_lane_soon() {
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let mut lanes = Lanes::new(WAIT_MAX);
    lanes.fetch(key(0), AT, Standing::CaughtUp);
    assert_eq!(sent(&mut lanes, now), [(0, vec![0], 500)]);
    lanes.fetch(key(1), AT, Standing::CaughtUp);
    assert_eq!(sent(&mut lanes, at(100)), [(1, vec![1], 400)], "as long as the quiet lane");
    // The quiet lane has an answer meanwhile: it waits a little only, until the other lane is free.
    answer(&mut lanes, 0);
    assert_eq!(sent(&mut lanes, at(150)), [(0, vec![], 20)]);
    answer(&mut lanes, 1);
    assert_eq!(sent(&mut lanes, at(160)), [], "the quiet lane is free in a moment");
    answer(&mut lanes, 0);
    assert_eq!(sent(&mut lanes, at(170)), [(0, vec![1], 500)]);
}

#[test]
fn a_partition_that_lags_always_finds_a_lane() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    for (partition, wait) in [(0, 500), (1, 500), (2, 20)] {
        lanes.fetch(key(partition), AT, Standing::CaughtUp);
        let requests = sent(&mut lanes, now);
        assert_eq!(requests.iter().map(|(.., wait)| *wait).collect::<Vec<_>>(), [wait]);
    }
    // The last lane is free soon, and in no other does it have to wait either.
    lanes.fetch(key(9), AT, Standing::Lags);
    assert_eq!(sent(&mut lanes, now), []);
    answer(&mut lanes, 2);
    assert_eq!(sent(&mut lanes, now), [(2, vec![9], 500)]);
}

#[test]
fn a_full_channel_is_waited_for_a_moment() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    lanes.fetch(key(0), AT, Standing::CaughtUp);
    lanes.fetch(key(1), AT, Standing::CaughtUp);
    sent(&mut lanes, now);
    answer(&mut lanes, 0);
    lanes.leave_for_a_moment(&key(1), now);
    assert_eq!(sent(&mut lanes, now), []);
    let wake_at = lanes.wake_at().unwrap();
    lanes.fetch(key(1), Params { offset: 5, ..AT }, Standing::CaughtUp);
    assert_eq!(sent(&mut lanes, now), [(0, vec![1], 500)], "it is changed, not added");
    answer(&mut lanes, 0);
    lanes.leave_for_a_moment(&key(1), now);
    assert_eq!(sent(&mut lanes, wake_at), [(0, vec![], 500)]);
}

#[test]
fn one_partition_is_fetched_alone_at_a_time() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    lanes.fetch(key(2), AT, Standing::Lags);
    for partition in 0..2 {
        let wait = Duration::from_secs(4);
        lanes.fetch_alone(Solo { key: key(partition), params: AT, wait });
    }
    assert_eq!(sent(&mut lanes, now), [(2, vec![0], 4_000), (1, vec![2], 500)]);
    assert_eq!(lanes.asked_alone(2), Some(&key(0)));
    lanes.leave(&key(0));
    assert_eq!(lanes.asked_alone(2), None, "its answer is dropped");
    lanes.end(2);
    assert_eq!(sent(&mut lanes, now), [(2, vec![1], 4_000)]);
}

#[test]
fn a_partition_that_was_removed_during_its_request_has_no_answer() {
    let now = Instant::now();
    let mut lanes = Lanes::new(WAIT_MAX);
    lanes.fetch(key(0), AT, Standing::Lags);
    sent(&mut lanes, now);
    assert_eq!(lanes.asked(1, &key(0)), Some(AT));
    lanes.leave(&key(0));
    assert_eq!(lanes.asked(1, &key(0)), None);
    // Added again from another place, it is in another lane.
    lanes.fetch(key(0), Params { offset: 7, ..AT }, Standing::Lags);
    assert_eq!(sent(&mut lanes, now), [(2, vec![0], 500)]);
    assert_eq!(lanes.asked(1, &key(0)), None);
    assert_eq!(lanes.asked(2, &key(0)).unwrap().offset, 7);
}
