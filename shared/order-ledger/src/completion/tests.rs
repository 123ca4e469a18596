use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MAP_BYTES: usize = 1_700;

fn window() -> Window {
    Window::for_map_bytes(MAP_BYTES).unwrap()
}

fn map(tracker: &CompletionTracker) -> Vec<u8> {
    let mut bytes = Vec::new();
    tracker.write_map(&mut bytes);
    bytes
}

fn restart(tracker: &CompletionTracker) -> CompletionTracker {
    let bytes = map(tracker);
    let mut unpacker = Unpacker::new(&bytes);
    let restored = CompletionTracker::read_map(tracker.committable(), &mut unpacker).unwrap();
    assert!(unpacker.is_empty());
    restored
}

#[test]
fn records_that_complete_at_once_only_move_the_frontier() {
    let mut tracker = CompletionTracker::new(10);
    for offset in 10..20 {
        assert_eq!(tracker.observe(offset), Observed::New);
        assert_eq!(tracker.committable(), offset);
        tracker.begin(offset);
        assert_eq!(tracker.observe(offset), Observed::Dispatched);
        assert_eq!(tracker.committable(), offset);
        assert!(tracker.complete(offset));
        assert_eq!(tracker.observe(offset), Observed::Complete);
    }
    assert_eq!((tracker.committable(), tracker.incomplete()), (20, 0));
    assert_eq!(map(&tracker), [0]);
}

#[test]
fn the_committed_offset_waits_for_the_lowest_incomplete_record() {
    let mut tracker = CompletionTracker::new(0);
    for offset in 0..5 {
        tracker.begin(offset);
    }
    for (offset, committable) in [(1, 0), (0, 2), (4, 2), (3, 2), (2, 5)] {
        assert!(tracker.complete(offset));
        assert_eq!(tracker.committable(), committable);
    }
}

#[test]
fn a_record_completes_only_once() {
    let mut tracker = CompletionTracker::new(0);
    assert!(!tracker.complete(0), "it was not dispatched");
    tracker.begin(0);
    tracker.begin(1);
    for offset in [0, 1] {
        assert!(tracker.complete(offset));
        assert!(!tracker.complete(offset));
    }
}

#[test]
fn a_restart_repeats_exactly_the_incomplete_records() {
    let mut tracker = CompletionTracker::new(100);
    for offset in 100..110 {
        tracker.begin(offset);
        if ![102, 105, 106].contains(&offset) {
            tracker.complete(offset);
        }
    }
    let mut restored = restart(&tracker);
    assert_eq!(restored.committable(), 102);
    assert_eq!(restored.incomplete_offsets(), [102, 105, 106]);
    for offset in 102..112 {
        let expected = match offset {
            102 | 105 | 106 => Observed::Incomplete,
            110.. => Observed::New,
            _ => Observed::Complete,
        };
        assert_eq!(restored.observe(offset), expected, "{offset}");
    }
    restored.begin(102);
    assert_eq!(restored.observe(102), Observed::Dispatched);
    assert_eq!(restored.committable(), 102);
    restored.complete(102);
    assert_eq!(restored.committable(), 105);
}

#[test]
fn a_mark_stays_through_restarts_until_its_record_is_complete_or_lost() {
    let mut tracker = CompletionTracker::new(0);
    (0..6).for_each(|offset| tracker.begin(offset));
    tracker.complete(2);
    for offset in [1, 2, 4, 5, 9] {
        tracker.mark(offset);
    }
    assert_eq!(tracker.marked_offsets(), &BTreeSet::from([1, 4, 5]), "2 is complete, 9 is new");
    let mut restored = restart(&tracker);
    assert_eq!(restored.marked_offsets(), tracker.marked_offsets());
    assert!(!restored.complete(1) && restored.is_marked(1), "it is not dispatched again yet");
    restored.begin(1);
    assert!(restored.is_marked(1));
    assert!(restored.complete(1));
    assert!(!restored.is_marked(1));
    restored.advance_to(5);
    assert_eq!(restored.marked_offsets(), &BTreeSet::from([5]));
}

#[test]
fn offsets_without_a_record_count_as_complete() {
    let mut tracker = CompletionTracker::new(0);
    tracker.begin(0);
    tracker.begin(7);
    tracker.complete(7);
    assert_eq!(tracker.advance_to(50), 0);
    assert_eq!(tracker.committable(), 0);
    assert_eq!(tracker.frontier(), 8, "the gap does not widen what the map has to span");
    tracker.complete(0);
    assert_eq!(tracker.committable(), 50);
    assert_eq!(tracker.observe(49), Observed::Complete);
    assert_eq!(restart(&tracker).committable(), 50);
}

#[test]
fn incomplete_offsets_that_the_log_has_lost_are_dropped_and_counted() {
    let mut tracker = CompletionTracker::new(0);
    (0..6).for_each(|offset| tracker.begin(offset));
    let mut restored = restart(&tracker);
    restored.begin(3);
    assert_eq!(restored.advance_to(5), 4, "0, 1, 2 and 4; 3 is being worked on");
    assert_eq!(restored.incomplete_offsets(), [3, 5]);
    assert_eq!(restored.committable(), 3);
}

#[test]
fn skipped_offsets_are_not_read_again_after_a_restart() {
    let mut tracker = CompletionTracker::new(0);
    tracker.begin(0);
    assert_eq!(tracker.first_not_dispatched(0..=0), None, "it is dispatched");
    assert_eq!(tracker.first_not_dispatched(1..=9), Some(1));
    tracker.begin(1);
    assert!(tracker.is_dispatched_within(1..=9) && !tracker.is_dispatched_within(2..=9));
    let restored = restart(&tracker);
    assert_eq!(restored.incomplete_offsets(), [0, 1]);
    assert_eq!(restored.first_not_dispatched(1..=9), Some(1), "it is done again as a whole");
    assert_eq!(restored.observe(2), Observed::New);
    assert!(!restored.is_dispatched_within(1..=9));

    tracker.complete(1);
    tracker.skip_to(10);
    let mut restored = restart(&tracker);
    assert_eq!((restored.committable(), restored.first_not_dispatched(1..=9)), (0, None));
    restored.begin(0);
    restored.complete(0);
    assert_eq!(restored.committable(), 10);
}

#[test]
fn dispatching_stops_where_a_map_could_exceed_its_limit() {
    let window = window();
    let dense = i64::try_from(window.dense_max() / 2).unwrap();
    let mut tracker = CompletionTracker::new(0);
    assert!(tracker.has_room_for(i64::MAX - 1, window), "nothing is incomplete");
    tracker.begin(0);
    assert!(tracker.has_room_for(4 * dense, window), "few may be far apart");
    let span_max = i64::try_from(SPAN_MAX).unwrap();
    assert!(tracker.has_room_for(span_max - 1, window));
    assert!(!tracker.has_room_for(span_max, window));
    let mut offset = 0;
    while offset < 2 * dense && tracker.has_room_for(offset + 1, window) {
        offset += 1;
        tracker.begin(offset);
    }
    assert_eq!(offset + 1, dense, "any number may be close together");
    for offset in 100..=offset {
        tracker.complete(offset);
    }
    assert!(tracker.has_room_for(offset + 1, window));
    let mut restored = restart(&tracker);
    assert_eq!(restored.observe(50), Observed::Incomplete);
    assert!(restored.has_room_for(50, Window { incomplete_max: 0, dense_max: 0 }));
    restored.begin(50);
}

#[test]
fn a_larger_map_allows_a_wider_window() {
    assert_eq!(Window::for_map_bytes(Window::MAP_BYTES_MIN - 1), None);
    let smallest = Window::for_map_bytes(Window::MAP_BYTES_MIN).unwrap();
    assert!(smallest.incomplete_max() >= 45 && smallest.dense_max() >= 900, "{smallest:?}");
    for bytes in Window::MAP_BYTES_MIN..3_000 {
        let (window, wider) = (Window::for_map_bytes(bytes), Window::for_map_bytes(bytes + 1));
        assert!(window.unwrap().incomplete_max() <= wider.unwrap().incomplete_max());
        assert!(window.unwrap().dense_max() < wider.unwrap().dense_max());
    }
}

#[test]
fn malformed_maps_are_refused() {
    let no_maps: [&[u8]; 8] = [
        &[],
        &[5],
        &[5, 2],
        &[5, 0], // The committed offset is not incomplete.
        &[5, 0, 0x70],
        &[2, 2, 0, 0b1000_0000], // The second offset lies beyond the span.
        &[5, 6, 0, 0],           // There are more incomplete offsets than the span has.
        &[5, 1, 2, 0, 0],        // There are more marks than incomplete offsets.
    ];
    for bytes in no_maps {
        assert_eq!(CompletionTracker::read_map(3, &mut Unpacker::new(bytes)), None, "{bytes:?}");
    }
    let mut far = Vec::new();
    crate::packing::write_varint(u64::MAX, &mut far);
    far.push(1);
    assert_eq!(CompletionTracker::read_map(3, &mut Unpacker::new(&far)), None);
}

/// The state of every offset in a plain list: the model of the tracker.
#[derive(Clone, Debug, Default)]
struct Model {
    complete: BTreeMap<i64, bool>,
    marked: BTreeSet<i64>,
    position: i64,
}

impl Model {
    fn committable(&self) -> i64 {
        let lowest = self.complete.iter().find(|(_, complete)| !**complete);
        lowest.map_or(self.position, |(offset, _)| *offset)
    }

    fn expected(&self, offset: i64, since_restart: &BTreeSet<i64>) -> Observed {
        match self.complete.get(&offset) {
            None if offset < self.position => Observed::Complete,
            None => Observed::New,
            Some(true) => Observed::Complete,
            Some(false) if since_restart.contains(&offset) => Observed::Dispatched,
            Some(false) => Observed::Incomplete,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Reads this many records of the log.
    Read(usize),
    /// Completes one of the dispatched records.
    Complete(prop::sample::Index),
    /// Marks one of the dispatched records.
    Mark(prop::sample::Index),
    Commit,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..20).prop_map(Step::Read),
        8 => any::<prop::sample::Index>().prop_map(Step::Complete),
        4 => any::<prop::sample::Index>().prop_map(Step::Mark),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ]
}

/// Generates a log with gaps, some of them wide.
fn log() -> impl Strategy<Value = Vec<i64>> {
    let gap = prop_oneof![8 => Just(1_i64), 2 => 2_i64..5, 1 => 1_000_i64..900_000];
    proptest::collection::vec(gap, 1..200).prop_map(|gaps| {
        gaps.iter().scan(40, |offset, gap| Some(std::mem::replace(offset, *offset + gap))).collect()
    })
}

proptest! {
    #[test]
    fn any_completion_order_with_any_crashes_agrees_with_a_plain_list_of_offsets(
        log in log(),
        steps in proptest::collection::vec(step(), 1..200),
        (map_bytes, complete_at_once) in (Window::MAP_BYTES_MIN..400, 0_u8..3),
    ) {
        let window = Window::for_map_bytes(map_bytes).unwrap();
        let mut model = Model { position: 40, ..Model::default() };
        let mut tracker = CompletionTracker::new(40);
        let mut since_restart = BTreeSet::new();
        let mut stored = (model.clone(), map(&tracker));
        let mut next_read = 0;
        for step in steps {
            match step {
                Step::Read(records) => {
                    for &offset in log.iter().skip(next_read).take(records) {
                        let observed = tracker.observe(offset);
                        prop_assert_eq!(observed, model.expected(offset, &since_restart));
                        let is_new = observed == Observed::New;
                        if is_new && !tracker.has_room_for(offset, window) {
                            break;
                        }
                        next_read += 1;
                        if is_new || observed == Observed::Incomplete {
                            tracker.begin(offset);
                            since_restart.insert(offset);
                            let at_once = complete_at_once > 0 && offset % 3 >= i64::from(complete_at_once);
                            if at_once {
                                prop_assert!(tracker.complete(offset));
                            }
                            model.complete.insert(offset, at_once);
                            model.position = model.position.max(offset + 1);
                        }
                    }
                    // The batch ends where the next record of the log begins.
                    if let Some(&next) = log.get(next_read) {
                        prop_assert_eq!(tracker.advance_to(next), 0);
                        model.position = model.position.max(next);
                    }
                }
                Step::Complete(index) | Step::Mark(index) => {
                    let running = since_restart.iter().filter(|&offset| !model.complete[offset]);
                    let running: Vec<_> = running.copied().collect();
                    if running.is_empty() {
                        continue;
                    }
                    let offset = *index.get(&running);
                    if matches!(step, Step::Mark(_)) {
                        tracker.mark(offset);
                        model.marked.insert(offset);
                        continue;
                    }
                    prop_assert!(tracker.complete(offset));
                    prop_assert!(!tracker.complete(offset));
                    model.complete.insert(offset, true);
                    model.marked.remove(&offset);
                }
                Step::Commit => {
                    let bytes = map(&tracker);
                    prop_assert!(bytes.len() <= map_bytes, "{} bytes", bytes.len());
                    stored = (model.clone(), bytes);
                }
                Step::Crash => {
                    model = stored.0.clone();
                    let committed = model.committable();
                    tracker = CompletionTracker::read_map(committed, &mut Unpacker::new(&stored.1)).unwrap();
                    since_restart.clear();
                    next_read = log.partition_point(|offset| *offset < committed);
                    // The map ends at the frontier; beyond it the log is read again.
                    let highest = model.complete.last_key_value().map_or(committed, |(offset, _)| offset + 1);
                    model.position = if committed == model.position { committed } else { highest };
                }
            }
            prop_assert_eq!(tracker.committable(), model.committable());
            let incomplete = model.complete.iter().filter(|(_, complete)| !**complete);
            let incomplete: Vec<_> = incomplete.map(|(offset, _)| *offset).collect();
            prop_assert_eq!(tracker.incomplete(), incomplete.len());
            prop_assert_eq!(tracker.incomplete_offsets(), incomplete);
            prop_assert_eq!(tracker.marked_offsets(), &model.marked);
        }
    }

    #[test]
    fn maps_fit_for_the_worst_distribution_of_incomplete_records(
        map_bytes in Window::MAP_BYTES_MIN..500,
        seed in proptest::collection::vec(any::<prop::sample::Index>(), 1..500),
        lengths in proptest::collection::vec(1_i64..60, 1..200),
        dense: bool,
        marked_of_8 in 0_i64..=8,
    ) {
        let window = Window::for_map_bytes(map_bytes).unwrap();
        let mut tracker = CompletionTracker::new(0);
        let mut offset = 0;
        let mut index = 0;
        let spread = if dense { 4 } else { SPAN_MAX / window.incomplete_max() };
        while tracker.has_room_for(offset, window) && index < seed.len() {
            for _ in 0..lengths[index % lengths.len()] {
                if tracker.has_room_for(offset, window) {
                    tracker.begin(offset);
                    if offset % 8 < marked_of_8 {
                        tracker.mark(offset);
                    }
                    offset += 1;
                }
            }
            offset += i64::try_from(seed[index].index(2 * spread) + 1).unwrap();
            index += 1;
        }
        let bytes = map(&tracker);
        prop_assert!(bytes.len() <= map_bytes, "{} of {map_bytes} bytes", bytes.len());
        let restored = restart(&tracker);
        prop_assert_eq!(restored.incomplete_offsets(), tracker.incomplete_offsets());
        prop_assert_eq!(restored.marked_offsets(), tracker.marked_offsets());
        prop_assert_eq!(restored.frontier(), tracker.frontier());
    }
}
