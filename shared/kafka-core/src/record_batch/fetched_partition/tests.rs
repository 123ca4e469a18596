use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::raw::{ATTRIBUTES_AT, CRC_AT};
use super::super::{AbortedTransactions, BatchBuilder, ControlMarker};
use super::*;

/// Batches of three records each, one after the other from offset 100 on.
fn log(batches: usize) -> Vec<Vec<u8>> {
    (0..batches).map(|index| batch(100 + 3 * i64::try_from(index).unwrap(), 3)).collect()
}

fn batch(base_offset: i64, records: u8) -> Vec<u8> {
    let mut batch = BatchBuilder::new(base_offset);
    for record in 0..records {
        batch = batch.record(0, None, Some(&[record; 20]), &[]);
    }
    batch.build().unwrap().to_vec()
}

fn answer(batches: &[Vec<u8>]) -> FetchedPartition<'static> {
    FetchedPartition {
        records: batches.concat().into(),
        asked: 100,
        position: 100,
        end: 100 + 3 * i64::try_from(batches.len()).unwrap(),
        is_full: false,
        may_be_cut_off: false,
        aborted: &[],
    }
}

/// Base offsets of the intact batches; first offset, last offset, length and fault of the damaged one; next offset.
type Summary = (Vec<i64>, Option<(i64, i64, usize, &'static str)>, i64);

fn summary(reading: &VerifiedBatches) -> Summary {
    let bases = reading.batches.iter().map(|batch| batch.header().base_offset).collect();
    let damaged = reading.damaged.as_ref().map(|damaged| {
        let fault = damaged.fault.as_str();
        (damaged.first_offset, damaged.last_offset, damaged.bytes.len(), fault)
    });
    (bases, damaged, reading.next_offset)
}

#[test]
fn intact_batches_are_read_and_a_tail_that_was_cut_off_is_left_for_the_next_fetch() {
    let batches = log(3);
    let whole = Bytes::from(batches.concat());
    // A broker's own limits can end a response below the request's limit.
    for is_full in [true, false] {
        let mut full = FetchedPartition { is_full, ..answer(&batches) };
        assert_eq!(summary(&full.read()), (vec![100, 103, 106], None, 109));
        for length in 2 * batches[0].len()..whole.len() {
            full.records = whole.slice(..length);
            assert_eq!(summary(&full.read()), (vec![100, 103], None, 106), "{length}");
            assert!(!full.read().is_unclear, "{length}");
        }
        full.records = whole.slice(..0);
        assert_eq!(summary(&full.read()), (vec![], None, 100));
    }
}

#[test]
fn a_batch_that_an_answer_cuts_short_is_never_damage() {
    let batches = log(3);
    let whole = Bytes::from(batches.concat());
    for is_full in [true, false] {
        for may_be_cut_off in [true, false] {
            for length in 1..batches[0].len() {
                let records = whole.slice(..length);
                let cut = FetchedPartition { records, is_full, may_be_cut_off, ..answer(&batches) };
                let reading = cut.read();
                assert_eq!(summary(&reading), (vec![], None, 100), "{length}");
                assert_eq!(reading.is_unclear, !may_be_cut_off, "{length}");
            }
        }
    }
}

#[test]
fn a_damaged_batch_has_its_offsets_and_the_batches_after_it_are_fetched_again() {
    let mut batches = log(4);
    let length = batches[1].len();
    batches[1][HEADER_BYTES + 5] ^= 1;
    assert_eq!(
        summary(&answer(&batches).read()),
        (vec![100], Some((103, 105, length, "crc")), 106)
    );
    let damaged = answer(&batches).read().damaged.unwrap();
    assert_eq!(damaged.bytes, batches[1]);
}

/// The fields that say where a batch ends, each with a false value.
fn false_fields() -> Vec<(&'static str, usize, Vec<u8>)> {
    vec![
        ("a longer batch", 8, 300_u32.to_be_bytes().to_vec()),
        ("a batch longer than all there is", 8, vec![1]),
        ("a shorter batch", 11, vec![62]),
        ("no batch", 8, vec![0; 4]),
        ("a negative length", 8, vec![0xff]),
        ("another format", MAGIC_AT, vec![0]),
        ("a later format", MAGIC_AT, vec![3]),
        ("more offsets", ATTRIBUTES_AT + 2, vec![0, 0, 0, 8]),
        ("offsets beyond the log", ATTRIBUTES_AT + 2, vec![1]),
        ("offsets before itself", ATTRIBUTES_AT + 2, vec![0x80]),
        ("a place beyond the log", 0, vec![0x10]),
        ("a place before itself", 0, 40_i64.to_be_bytes().to_vec()),
        ("a negative place", 0, vec![0x80]),
        ("zeros", 0, vec![0; 70]),
    ]
}

#[test]
fn no_field_of_a_damaged_batch_is_trusted_about_where_it_ends() {
    for (false_field, at, bytes) in false_fields() {
        let mut batches = log(5);
        let length = batches[2].len();
        batches[2][at..at + bytes.len()].copy_from_slice(&bytes);
        let mut reading = answer(&batches).read();
        let bases = summary(&reading).0;
        if reading.damaged.is_none() {
            // It may have been cut off until it is fetched by its own offset.
            assert_eq!((reading.next_offset, reading.is_unclear), (106, false), "{false_field}");
            let own = answer(&batches[2..]);
            reading = FetchedPartition { asked: 106, position: 106, end: 115, ..own }.read();
        }
        let (_, damaged, next) = summary(&reading);
        assert_eq!((bases, next), (vec![100, 103], 109), "{false_field}");
        let (first, last, found, _) = damaged.unwrap();
        assert_eq!((first, last, found), (106, 108, length), "{false_field}");
    }
}

#[test]
fn damage_at_the_end_is_measured_only_by_a_header_that_agrees_with_itself() {
    for (false_field, at, bytes) in false_fields() {
        let mut batches = log(2);
        let length = batches[1].len();
        batches[1][at..at + bytes.len()].copy_from_slice(&bytes);
        // The log goes on but the response does not, as at the end of a segment.
        let reading = FetchedPartition { end: 200, ..answer(&batches) }.read();
        // A length beyond the response may be true: the broker may have cut the batch off.
        let is_longer = false_field.contains("longer");
        if (8..MAGIC_AT).contains(&at) && !is_longer {
            let damaged =
                Some((103, 105, length, reading.damaged.as_ref().unwrap().fault.as_str()));
            assert_eq!(summary(&reading), (vec![100], damaged, 106), "{false_field}");
        } else {
            assert_eq!(summary(&reading), (vec![100], None, 103), "{false_field}");
            assert_eq!(reading.is_unclear, !is_longer, "{false_field}");
        }
        let full = FetchedPartition { end: 200, is_full: true, ..answer(&batches[1..]) }.read();
        assert!(full.is_unclear && full.batches.is_empty(), "{false_field}");
    }
}

#[test]
fn two_damaged_batches_in_a_row_stay_two() {
    let mut batches = log(4);
    let length = batches[1].len();
    batches[1][70] ^= 1;
    batches[2][70] ^= 1;
    assert_eq!(
        summary(&answer(&batches).read()),
        (vec![100], Some((103, 105, length, "crc")), 106)
    );
}

#[test]
fn damage_below_the_position_is_skipped() {
    let mut batches = log(5);
    batches[1][8] = 1;
    let mut asked_again = FetchedPartition { position: 106, ..answer(&batches) };
    assert_eq!(summary(&asked_again.read()), (vec![100, 106, 109, 112], None, 115));
    asked_again.position = 104;
    let length = batches[1].len();
    assert_eq!(
        summary(&asked_again.read()),
        (vec![100], Some((104, 105, length, "malformed")), 106),
        "of a damaged batch in whose middle the position is, the rest counts"
    );
    asked_again.position = 112;
    asked_again.records = batches[..2].concat().into();
    assert_eq!(summary(&asked_again.read()), (vec![100], None, 112));
    assert!(asked_again.read().is_unclear);
}

#[test]
fn a_position_in_the_middle_of_a_batch_and_a_gap_are_no_damage() {
    let batches = [batch(100, 3), batch(110, 3)];
    let middle = FetchedPartition { asked: 102, position: 102, end: 113, ..answer(&batches) };
    assert_eq!(summary(&middle.read()), (vec![100, 110], None, 113));
    let before = FetchedPartition { asked: 90, position: 90, end: 113, ..answer(&batches) };
    assert_eq!(summary(&before.read()), (vec![100, 110], None, 113));
}

#[test]
fn a_batch_below_the_fetch_offset_is_damaged() {
    let batches = [batch(40, 3), batch(103, 3)];
    let length = batches[0].len();
    let reading = FetchedPartition { end: 106, ..answer(&batches) }.read();
    assert_eq!(summary(&reading), (vec![], Some((100, 102, length, "offsets")), 103));
}

#[test]
fn a_message_of_an_old_format_is_intact_if_its_checksum_is_right() {
    for magic in [0_u8, 1] {
        let timestamp: &[u8] = if magic == 1 { &[0; 8] } else { &[] };
        let fields = [&[magic, 0][..], timestamp, &[255; 4], &[0, 0, 0, 1, b'v']].concat();
        let mut checksum = flate2::Crc::new();
        checksum.update(&fields);
        let size = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        let message =
            [&100_i64.to_be_bytes()[..], &size, &checksum.sum().to_be_bytes(), &fields].concat();
        let mut batches = vec![message, batch(101, 2)];
        let old = FetchedPartition { end: 103, ..answer(&batches) };
        assert_eq!(summary(&old.read()), (vec![100, 101], None, 103));
        let error = old.read().batches[0].open(1 << 20).unwrap_err();
        assert_eq!(error.kind.as_str(), "magic");

        let length = batches[0].len();
        *batches[0].last_mut().unwrap() ^= 1;
        let old = FetchedPartition { end: 103, ..answer(&batches) };
        assert_eq!(summary(&old.read()), (vec![], Some((100, 100, length, "crc")), 101));
    }
}

#[test]
fn records_are_not_read_if_damage_hides_whether_they_were_aborted() {
    let data = |base: i64, producer: i64| {
        let batch = BatchBuilder::new(base).transaction(producer, 0, 0);
        batch.record(0, None, Some(b"v"), &[]).build().unwrap().to_vec()
    };
    let marker = BatchBuilder::marker(101, 1, 0, ControlMarker::Abort).unwrap().to_vec();
    let mut batches = vec![data(100, 1), marker, data(102, 2), data(103, 1), data(104, 2)];
    batches[1][8] = 1;
    let again =
        FetchedPartition { position: 102, end: 105, aborted: &[(1, 90)], ..answer(&batches) };
    let reading = again.read();
    let length = batches[3].len();
    assert_eq!(summary(&reading), (vec![100, 102], Some((103, 103, length, "transaction")), 104));
    let mut aborted = AbortedTransactions::new([(1, 90)]);
    let delivered = reading.batches.iter().map(|raw| raw.open(1 << 20).unwrap());
    let delivered: Vec<_> = delivered.map(|batch| aborted.delivers(&batch)).collect();
    assert_eq!(delivered, [false, true]);

    let committed = FetchedPartition { aborted: &[(3, 90)], ..again };
    assert_eq!(summary(&committed.read()), (vec![100, 102, 103, 104], None, 105));
}

/// One batch of a log: its offsets, its bytes, and whether they are damaged.
#[derive(Clone, Debug)]
struct Stored {
    base: i64,
    next: i64,
    bytes: Vec<u8>,
    is_damaged: bool,
}

/// Where damage begins, its length, and the bytes in its place.
type Damage = (Index, u16, Option<u8>);

/// Generates a log with gaps and damage. It leaves out damage of a base offset alone, because such a batch can be valid
/// at another place.
fn damaged_log() -> impl Strategy<Value = Vec<Stored>> {
    let batches = vec((1_u8..4, 0_u32..3), 1..20);
    let damages = vec((any::<Index>(), 1_u16..200, proptest::option::of(any::<u8>())), 0..4);
    (batches, damages).prop_map(|(batches, damages): (_, Vec<Damage>)| {
        let mut log: Vec<Stored> = Vec::new();
        let mut base = 100;
        for (records, gap) in batches {
            base += i64::from(gap);
            let next = base + i64::from(records);
            log.push(Stored { base, next, bytes: batch(base, records), is_damaged: false });
            base = next;
        }
        let whole = log.clone();
        let length: usize = log.iter().map(|stored| stored.bytes.len()).sum();
        for (at, damage_length, to) in damages {
            let at = at.index(length);
            overwrite(&mut log, at..at + usize::from(damage_length), to);
        }
        for (stored, whole) in log.iter_mut().zip(whole) {
            let is_same = |from: usize, to: usize| stored.bytes[from..to] == whole.bytes[from..to];
            // Readers ignore leader epochs, and cannot detect damage of a base offset alone.
            if is_same(8, 12) && is_same(MAGIC_AT, stored.bytes.len()) {
                *stored = whole;
            } else {
                stored.is_damaged = true;
            }
        }
        log
    })
}

fn overwrite(log: &mut [Stored], range: std::ops::Range<usize>, to: Option<u8>) {
    let bytes = log.iter_mut().flat_map(|stored| &mut stored.bytes);
    for byte in bytes.skip(range.start).take(range.len()) {
        *byte = to.unwrap_or(*byte ^ 0x11);
    }
}

/// Answers as a broker that finds its batches and returns at most `room` bytes, and no more than its own `limit` except
/// for the first batch.
fn fetch(log: &[Stored], asked: i64, room: usize, limit: usize) -> (Bytes, bool) {
    let from = log.partition_point(|stored| stored.next <= asked);
    let bytes: Vec<u8> = log[from..].iter().flat_map(|stored| stored.bytes.clone()).collect();
    let first = log.get(from).map_or(0, |stored| stored.bytes.len());
    let length = bytes.len().min(room.min(limit).max(first));
    (Bytes::copy_from_slice(&bytes[..length]), room <= length)
}

proptest! {
    #[test]
    fn whatever_is_damaged_every_intact_batch_is_read_once_and_every_other_offset_is_accounted_for(
        log in damaged_log(),
        room in 100_usize..2_000,
        limit in prop_oneof![Just(usize::MAX), 60_usize..600],
    ) {
        let end = log.last().unwrap().next;
        let (mut position, mut room_now, mut unclear_from) = (100, room, end);
        let (mut taken, mut lost, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..200 {
            let (records, is_full) = fetch(&log, position, room_now, limit);
            let may_be_cut_off = false;
            let answer = FetchedPartition {
                records, asked: position, position, end, is_full, may_be_cut_off, aborted: &[],
            };
            let reading = answer.read();
            for raw in &reading.batches {
                prop_assert!(position <= raw.header().last_offset);
                taken.push((raw.header().base_offset, raw.bytes().to_vec()));
            }
            if let Some(damaged) = &reading.damaged {
                prop_assert!(position <= damaged.first_offset);
                lost.extend(damaged.first_offset..=damaged.last_offset);
                bytes.push(damaged.bytes.to_vec());
            }
            prop_assert!(position <= reading.next_offset);
            let has_progress = position < reading.next_offset;
            position = reading.next_offset;
            if end <= position {
                break;
            }
            if reading.is_unclear && !is_full {
                // Only damage that reaches the end of the response, with an unusable header.
                let mut rest = log.iter().filter(|stored| position < stored.next);
                let is_hidden = limit < usize::MAX;
                prop_assert!(rest.next().is_some_and(|stored| stored.is_damaged));
                prop_assert!(is_hidden || rest.all(|stored| stored.is_damaged));
                let hidden = log.iter().filter(|stored| position < stored.next && !stored.is_damaged);
                taken.extend(hidden.map(|stored| (stored.base, stored.bytes.clone())));
                unclear_from = position;
                let lost_now = log.iter().filter(|stored| position < stored.next && stored.is_damaged);
                lost.extend(lost_now.flat_map(|stored| stored.base.max(position)..stored.next));
                position = end;
                break;
            }
            prop_assert!(has_progress || reading.is_unclear);
            room_now = if has_progress { room } else { room_now * 2 };
        }
        prop_assert_eq!(position, end, "it ends");
        let whole: Vec<_> = log.iter().filter(|stored| !stored.is_damaged)
            .map(|stored| (stored.base, stored.bytes.clone())).collect();
        prop_assert_eq!(taken, whole);
        for stored in log.iter().filter(|stored| stored.is_damaged) {
            prop_assert!((stored.base..stored.next).all(|offset| lost.contains(&offset)), "{stored:?}");
        }
        for stored in log.iter().filter(|stored| !stored.is_damaged) {
            prop_assert!(!(stored.base..stored.next).any(|offset| lost.contains(&offset)), "{stored:?}");
        }
        for stored in log.iter().filter(|stored| stored.is_damaged && (stored.base < unclear_from)) {
            let is_whole = |damage: &Vec<u8>| damage.windows(stored.bytes.len()).any(|part| part == stored.bytes);
            prop_assert!(bytes.iter().any(is_whole), "all its bytes are in a damaged batch: {stored:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in vec(any::<u8>(), 0..400),
        asked in 0_i64..10,
        known in 0_i64..5,
        length in 0_i64..20,
        is_full: bool,
        may_be_cut_off: bool,
    ) {
        let position = asked + known;
        let end = asked + length;
        let answer = FetchedPartition {
            records: bytes.into(), asked, position, end, is_full, may_be_cut_off, aborted: &[],
        };
        let reading = answer.read();
        prop_assert!(position <= reading.next_offset);
        if let Some(damaged) = &reading.damaged {
            prop_assert!((position <= damaged.first_offset) && (damaged.first_offset <= damaged.last_offset));
            prop_assert!(damaged.last_offset < answer.end);
        }
    }
}

#[test]
fn a_search_among_many_false_batches_ends() {
    let mut decoy = batch(103, 1);
    decoy[CRC_AT] ^= 1;
    let mut damaged = batch(100, 3);
    damaged[8] = 1;
    let batches = [damaged, decoy.repeat(10 * CANDIDATES_MAX), batch(103, 3)];
    let reading = FetchedPartition { is_full: true, ..answer(&batches) }.read();
    assert!(reading.is_unclear && reading.batches.is_empty());
}
