//! A place in a log with damage, against a broker that finds its way as Kafka's does.

use bytes::Bytes;
use kafka_core::record_batch::{BatchBuilder, FetchedPartition, RawBatch, batches};

use super::*;

const START: i64 = 100;
const USUAL_ROOM: i32 = 500;
/// Requests until a log is read to its end, damage and all.
const REQUESTS_MAX: usize = 100;

/// One segment: its batches back to back, and an index that knows some of them.
struct Segment {
    bytes: Vec<u8>,
    index: Vec<(i64, usize)>,
    end: i64,
    /// The most bytes that the broker sends, except for a first batch that is larger.
    limit: usize,
}

/// Two records a batch, and an index entry every `spacing` batches.
fn segment(count: usize, spacing: usize) -> (Segment, Vec<RawBatch>) {
    let mut segment =
        Segment { bytes: Vec::new(), index: Vec::new(), end: START, limit: usize::MAX };
    for number in 0..count {
        if number % spacing == 0 {
            segment.index.push((segment.end, segment.bytes.len()));
        }
        let value = vec![7; 40 + number];
        let batch = BatchBuilder::new(segment.end).record(0, None, Some(&value), &[]);
        segment.bytes.extend(batch.record(0, None, None, &[]).build().unwrap());
        segment.end += 2;
    }
    let whole = batches(Bytes::from(segment.bytes.clone())).collect();
    (segment, whole)
}

impl Segment {
    /// Finds `asked` as `FileRecords.searchForOffsetFromPosition` of Kafka 4.3 does, and hands out what is stored from
    /// there on.
    fn fetch(&self, asked: i64, room: i32) -> Result<Bytes, ()> {
        let known = self.index.partition_point(|(base, _)| *base <= asked);
        let mut at = self.index[known.saturating_sub(1)].1;
        let mut before: Option<(usize, i64)> = None;
        let found = loop {
            let Some((base, last, length)) = self.header(at)? else {
                break before.filter(|(_, last)| asked <= *last).map(|(at, _)| at);
            };
            if base == asked {
                break Some(at);
            }
            if asked < base {
                break Some(before.filter(|(_, last)| asked <= *last).map_or(at, |(at, _)| at));
            }
            before = Some((at, last));
            at += length;
        };
        let Some(at) = found else { return Ok(Bytes::new()) };
        let first = self.header(at)?.map_or(0, |(_, _, length)| length);
        let room = usize::try_from(room).unwrap().min(self.limit);
        let length = room.max(first).min(self.bytes.len() - at);
        Ok(Bytes::copy_from_slice(&self.bytes[at..at + length]))
    }

    /// Returns base offset, last offset and length of what is at `at`; nothing where it reaches beyond the end.
    fn header(&self, at: usize) -> Result<Option<(i64, i64, usize)>, ()> {
        let rest = &self.bytes[at..];
        if rest.len() < 61 {
            return Ok(None);
        }
        let base = i64::from_be_bytes(*rest.first_chunk().unwrap());
        let length = i32::from_be_bytes(*rest[8..].first_chunk().unwrap());
        let delta = i32::from_be_bytes(*rest[23..].first_chunk().unwrap());
        let length = usize::try_from(length).ok().filter(|length| 14 <= *length).ok_or(())? + 12;
        if rest[16] < 2 {
            return Err(());
        }
        Ok((length <= rest.len()).then(|| (base, base.wrapping_add(i64::from(delta)), length)))
    }
}

/// What a reader took: base offsets of batches, and the offsets of damaged ones with their bytes.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    batches: Vec<i64>,
    damaged: Vec<(i64, i64, Vec<u8>)>,
}

/// Reads until the end, or until it is stuck.
fn read(segment: &Segment, mut position: i64) -> (Taken, Option<Next>) {
    let mut taken = Taken::default();
    let mut place = Place::new(position);
    place.log_start = START;
    for _ in 0..REQUESTS_MAX {
        if place.position == segment.end {
            return (taken, None);
        }
        let room = place.room(USUAL_ROOM);
        let next = match segment.fetch(place.asked(), room) {
            Err(()) => place.step_back(),
            Ok(records) => {
                let bytes = records.len();
                let is_full = usize::try_from(room).unwrap() <= bytes;
                let (asked, end) = (place.asked(), segment.end);
                let may_be_cut_off = place.is_findable() && asked != position;
                let answer = FetchedPartition {
                    records,
                    asked,
                    position,
                    end,
                    is_full,
                    may_be_cut_off,
                    aborted: &[],
                };
                let mut reading = answer.read();
                let wait = place.wait().unwrap_or_default();
                let found = AnswerContext { room, bytes, is_full, was_first: true, wait, end };
                let next = place.advance(&mut reading, found);
                let news = reading.batches.iter().map(RawBatch::header);
                let news = news.filter(|header| position <= header.last_offset);
                taken.batches.extend(news.map(|header| header.base_offset));
                taken.damaged.extend(reading.damaged.map(|damaged| {
                    (damaged.first_offset, damaged.last_offset, damaged.bytes.to_vec())
                }));
                next
            }
        };
        if let Next::Stuck(_) = next {
            return (taken, Some(next));
        }
        position = place.position;
    }
    panic!("no end after {REQUESTS_MAX} requests: {place:?}, {taken:?}");
}

/// Where a batch is damaged, and the bytes that are there instead.
const DAMAGES: [(usize, &[u8]); 14] = [
    (70, &[0xff]),       // a record
    (17, &[1, 2, 3]),    // the checksum
    (8, &[0, 0, 1]),     // longer
    (8, &[1]),           // longer than the segment
    (11, &[60]),         // shorter
    (8, &[0, 0, 0, 0]),  // shorter than anything
    (8, &[0xff]),        // a negative length
    (16, &[0]),          // another format
    (16, &[3]),          // a later format
    (23, &[0, 0, 0, 9]), // more offsets
    (23, &[0x80]),       // offsets below its own
    (0, &[0x10]),        // an offset beyond the log
    (0, &[0x80]),        // a negative offset
    (0, &[0; 61]),       // zeros
];

#[test]
fn whatever_is_damaged_is_handed_on_and_everything_else_is_read() {
    for spacing in [1, 3, 50] {
        for damaged in 1..11 {
            for (at, bytes) in DAMAGES {
                let (mut segment, whole) = segment(12, spacing);
                let start: usize = whole[..damaged].iter().map(|batch| batch.bytes().len()).sum();
                let length = whole[damaged].bytes().len();
                segment.bytes[start + at..start + at + bytes.len()].copy_from_slice(bytes);
                let base = whole[damaged].header().base_offset;
                // From before the damage, and from the damaged batch itself.
                for position in [START, base] {
                    let context = format!("{bytes:?} at {at} of batch {damaged}, every {spacing}");
                    let (taken, stuck) = read(&segment, position);
                    assert_eq!(stuck, None, "{context}: {taken:?}");
                    let bases = whole.iter().map(|batch| batch.header().base_offset);
                    let bases: Vec<i64> =
                        bases.filter(|other| position <= *other && *other != base).collect();
                    let bytes = segment.bytes[start..start + length].to_vec();
                    let damaged = vec![(base, base + 1, bytes)];
                    assert_eq!(taken, Taken { batches: bases, damaged }, "{context}");
                }
            }
        }
    }
}

#[test]
fn a_broker_with_limits_of_its_own_hides_no_batch_and_makes_none_damaged() {
    for limit in 1..700 {
        let (mut segment, whole) = segment(12, 3);
        segment.limit = limit;
        let (taken, stuck) = read(&segment, START);
        let batches = whole.iter().map(|batch| batch.header().base_offset).collect();
        assert_eq!((taken, stuck), (Taken { batches, damaged: vec![] }, None), "{limit}");
    }
}

#[test]
fn a_gap_is_passed_where_a_limit_hides_what_lies_before_it() {
    for limit in 1..700 {
        let (mut segment, whole) = segment(12, 3);
        segment.limit = limit;
        let start: usize = whole[..5].iter().map(|batch| batch.bytes().len()).sum();
        segment.bytes.drain(start..start + whole[5].bytes().len());
        segment.index.retain(|(base, _)| *base < whole[5].header().base_offset);
        let (taken, stuck) = read(&segment, START);
        let mut batches: Vec<_> = whole.iter().map(|batch| batch.header().base_offset).collect();
        batches.remove(5);
        assert_eq!((taken, stuck), (Taken { batches, damaged: vec![] }, None), "{limit}");
    }
}

#[test]
fn where_a_limit_hides_what_follows_damage_the_partition_waits_and_loses_nothing() {
    for limit in [1, 150, 250, 400] {
        // A batch without its base offset looks like a gap where nothing shows what lies between its neighbours.
        for (at, bytes) in DAMAGES.into_iter().filter(|(at, _)| *at > 0) {
            let (mut segment, whole) = segment(12, 3);
            segment.limit = limit;
            let start: usize = whole[..5].iter().map(|batch| batch.bytes().len()).sum();
            let length = whole[5].bytes().len();
            segment.bytes[start + at..start + at + bytes.len()].copy_from_slice(bytes);
            let base = whole[5].header().base_offset;
            let (taken, stuck) = read(&segment, START);
            let others = whole.iter().map(|batch| batch.header().base_offset);
            let mut others: Vec<i64> = others.filter(|other| *other != base).collect();
            if stuck.is_some() {
                others.retain(|other| *other < base);
            }
            let context = format!("{bytes:?} at {at}, {limit} bytes");
            assert_eq!(taken.batches, others, "{context}");
            let damaged = taken.damaged.iter().map(|(first, last, _)| (*first, *last));
            let expected = if stuck.is_some() { vec![] } else { vec![(base, base + 1)] };
            assert_eq!(damaged.collect::<Vec<_>>(), expected, "{context}");
            // Without a whole batch behind it, the bytes end where the answer ends.
            let stored = &segment.bytes[start..start + length];
            let is_it = |(_, _, bytes): &(i64, i64, Vec<u8>)| {
                stored.starts_with(bytes) || bytes.starts_with(stored)
            };
            assert!(taken.damaged.iter().all(is_it), "{context}");
        }
    }
}

#[test]
fn a_batch_that_is_cut_off_beside_other_partitions_is_asked_for_first_in_the_next_request() {
    let (segment, whole) = segment(3, 1);
    let records = Bytes::from(segment.bytes.clone()).slice(..whole[0].bytes().len() - 1);
    let (asked, position, end) = (START, START, segment.end);
    let found = AnswerContext {
        room: USUAL_ROOM,
        bytes: records.len(),
        is_full: false,
        was_first: false,
        wait: Duration::ZERO,
        end,
    };
    let answer = FetchedPartition {
        records,
        asked,
        position,
        end,
        is_full: false,
        may_be_cut_off: true,
        aborted: &[],
    };
    let mut place = Place::new(START);
    assert_eq!(place.advance(&mut answer.read(), found), Next::GoOn);
    assert!(place.is_searching(), "it is first in the next request");
    assert_eq!((place.asked(), place.room(USUAL_ROOM)), (START, USUAL_ROOM));
}

#[test]
fn damage_is_believed_only_when_the_same_bytes_come_twice() {
    let (segment, whole) = segment(3, 1);
    let damaged_at = |at: usize| {
        let mut bytes = segment.bytes.clone();
        bytes[whole[0].bytes().len() + at] ^= 1;
        let answer = FetchedPartition {
            records: bytes.into(),
            asked: START,
            position: START,
            end: segment.end,
            is_full: false,
            may_be_cut_off: false,
            aborted: &[],
        };
        answer.read()
    };
    let found = AnswerContext {
        room: USUAL_ROOM,
        bytes: segment.bytes.len(),
        is_full: false,
        was_first: true,
        wait: Duration::ZERO,
        end: segment.end,
    };
    let mut place = Place::new(START);
    for at in [70, 71] {
        let mut reading = damaged_at(at);
        let next = place.advance(&mut reading, found);
        assert!(matches!(next, Next::Again { reason: "crc", .. }), "{next:?}");
        assert!(reading.damaged.is_none());
        assert_eq!((place.position, place.asked()), (START + 2, START));
    }
    let mut reading = damaged_at(71);
    assert_eq!(place.advance(&mut reading, found), Next::GoOn);
    assert_eq!((reading.damaged.map(|d| d.first_offset), place.position), (Some(102), 104));
    assert!(!place.is_searching());
}

#[test]
fn a_log_whose_very_beginning_cannot_be_found_waits_for_a_person() {
    let (mut segment, _) = segment(4, 50);
    segment.bytes[8..12].copy_from_slice(&[0; 4]);
    let (taken, stuck) = read(&segment, START);
    assert_eq!((taken, stuck), (Taken::default(), Some(Next::Stuck(STUCK_PAUSE))));
}

#[test]
fn an_empty_answer_means_nothing_unless_the_broker_had_room_and_time() {
    let mut place = Place::new(START);
    let empty = |was_first| {
        let reading = VerifiedBatches {
            batches: vec![],
            damaged: None,
            next_offset: START,
            is_unclear: false,
        };
        let (room, wait, end) = (USUAL_ROOM, Duration::from_millis(500), START + 5);
        (reading, AnswerContext { room, bytes: 0, is_full: false, was_first, wait, end })
    };
    for was_first in [true, false, false] {
        let (mut reading, found) = empty(was_first);
        assert_eq!(place.advance(&mut reading, found), Next::GoOn, "it may have been too large");
        assert!(place.is_searching(), "it will be the first");
        assert_eq!(place.asked(), START);
    }
    let (mut reading, mut found) = empty(true);
    for seconds in [1, 2, 4] {
        let next = place.advance(&mut reading, found);
        assert!(matches!(next, Next::Again { pause: Duration::ZERO, .. }), "{next:?}");
        found.wait = place.wait().unwrap();
        assert_eq!((place.asked(), found.wait), (START, Duration::from_secs(seconds)));
    }
    let next = place.advance(&mut reading, found);
    assert!(matches!(next, Next::Again { .. }), "{next:?}");
    assert_eq!((place.asked(), place.wait()), (START - 1, None));
    let at_end = AnswerContext { end: START, ..found };
    assert_eq!(place.advance(&mut reading, at_end), Next::GoOn);
    assert!(!place.is_searching());
}
