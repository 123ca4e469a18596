use proptest::prelude::*;

use super::*;
use crate::checkpoint::METADATA_CHARS_MIN;

const TOPIC_ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// [`known_contents`] in the format of version 3.
const KNOWN_V3: &str = "\
    oc3:AwEjRWeJq83vASNFZ4mrze_tBwUGBiMBAQP43--HBZjVmEEBjJ1BI4DQlf-8MQIDyB5A8geR5A8geQPI8jz5A8gAzR\
    icQYf0mEGqhppBvDecQZmlmkF2E5lBiMSaQatWnEFlMplBd-OaQVRRmUGadZxBZgKbQYmUnEEyj5lBeLOcQVUhm0Fn0pxB\
    Ia6ZQURAm0FW8ZxBEM2ZQTNfm0FFEJ1BIn6bQRGdm0E0L51BALybQe_am0HMSJpBEm2dQbtnmkGY1ZhBAYydQd75m0EOAy\
    ojBAJj9AIAgAIDhAMCEH_Ul2E";

/// Contents with something in each section.
fn known_contents() -> Contents {
    let mut contents = Contents::empty(TOPIC_ID, 1_000);
    for offset in 1_000..1_040 {
        contents.tracker.begin(offset);
        if [1_005, 1_009, 1_010, 1_037].contains(&offset) {
            continue;
        }
        contents.tracker.complete(offset);
        if offset == 1_011 {
            contents.aggregate.add_dead_letter();
        } else {
            let price = f32::from_bits(0x4120_0000 + 7_919 * u32::try_from(offset).unwrap());
            contents.aggregate.add_order(1_700_000_000_000 + 17 * (offset % 13), price);
        }
    }
    contents.aggregate.add_retries(3);
    contents.aggregate.add_replayed();
    contents.truncated = 6;
    contents.leader_epochs.note(1_000, 4);
    contents.leader_epochs.note(1_020, 5);
    contents.attempts = BTreeMap::from([(1_005, 2), (1_010, 1)]);
    contents.tracker.mark(1_009);
    contents.tracker.mark(1_010);
    contents.reasons = BTreeMap::from([(1_009, ErrorType::Truncated), (1_010, ErrorType::Panic)]);
    (0..3).for_each(|_| contents.dlq_limit.count(ErrorType::Panic));
    contents.dlq_limit.set_release_from(41);
    contents
}

fn written(contents: &Contents) -> Checkpoint {
    contents.write(&Capacity::DEFAULT).unwrap()
}

/// Returns a checkpoint's text with changed bytes and a right checksum.
fn altered(metadata: &str, alter: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut body = URL_SAFE_NO_PAD.decode(metadata.strip_prefix(PREFIX).unwrap()).unwrap();
    body.truncate(body.len() - CHECKSUM_BYTES);
    alter(&mut body);
    let checksum = crc32c::crc32c(&body).to_le_bytes();
    body.extend_from_slice(&checksum);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body))
}

/// Fails when the format changes. A new format needs a new version.
#[test]
fn version_3_is_read_and_written_in_its_format() {
    let known = known_contents();
    let checkpoint =
        Checkpoint { offset: 1_005, leader_epoch: Some(4), metadata: KNOWN_V3.to_owned() };
    assert_eq!(written(&known), checkpoint);
    let Ok(Found::Checkpoint(read, 1_005)) = read(KNOWN_V3) else { panic!("it is not read") };
    assert_eq!((read.topic_id, read.since, read.truncated), (TOPIC_ID, 1_000, 6));
    assert_eq!(read.leader_epochs.before(1_040), Some(5));
    assert_eq!(read.aggregate, known.aggregate);
    assert_eq!(read.dlq_limit, known.dlq_limit);
    assert_eq!(read.tracker.incomplete_offsets(), [1_005, 1_009, 1_010, 1_037]);
    assert_eq!(read.tracker.frontier(), 1_040);
    assert_eq!(read.attempts, known.attempts);
    assert_eq!(read.tracker.marked_offsets(), known.tracker.marked_offsets());
    let panic = BTreeMap::from([(1_010, ErrorType::Panic)]);
    assert_eq!(read.reasons, panic, "the other one is found again by reading the record");
    assert_eq!(written(&read).metadata, KNOWN_V3);
}

#[test]
fn metadata_of_other_clients_is_recognised() {
    assert_eq!(read(""), Ok(Found::Nothing));
    for foreign in
        ["AAAAAA==", "oc", "oc:", "ocean:1", "oc3", "oc-3:", "OC3:", " oc3:", "o\u{f6}c3:"]
    {
        assert_eq!(read(foreign), Ok(Found::Foreign), "{foreign}");
    }
}

#[test]
fn another_version_is_refused_naming_both() {
    let known = written(&known_contents()).metadata;
    let earlier_container = known.replace("oc3:", "oc2:");
    let later_container = known.replace("oc3:", "oc4:");
    let later_contents = altered(&known, |body| body[0] = 9);
    for (metadata, found) in [(earlier_container, 2), (later_container, 4), (later_contents, 9)] {
        let error = read(&metadata).unwrap_err();
        assert_eq!(error, CheckpointError::UnknownVersion { found, known: 3 });
        let text = format!("the checkpoint has version {found}, and this release knows version 3");
        assert_eq!(error.to_string(), text);
    }
    let far = CheckpointError::UnknownVersion { found: u64::MAX, known: 3 };
    assert_eq!(read("oc99999999999999999999999:"), Err(far));
}

#[test]
fn damage_is_refused_wherever_it_is() {
    let known = written(&known_contents()).metadata;
    for place in PREFIX.len()..known.len() {
        let mut damaged = known.clone().into_bytes();
        damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();
        assert!(read(&damaged).is_err(), "at {place}");
        assert!(read(&known[..place]).is_err(), "cut off at {place}");
    }
    assert!(matches!(read("oc3:@"), Err(CheckpointError::Malformed(_))));
    assert!(matches!(read("oc3:"), Err(CheckpointError::Malformed(_))));
    assert_eq!(read("oc3:AAAAAAA"), Err(CheckpointError::Checksum));
}

#[test]
fn a_malformed_section_is_refused() {
    let known = written(&known_contents()).metadata;
    let too_long = altered(&known, |body| body.push(0));
    let too_short = altered(&known, |body| {
        body.pop();
    });
    let bare = altered(&known, |body| body.truncate(1));
    let covers_too_much = altered(&known, |body| {
        body.splice(19..20, [[0xff; 9].as_slice(), &[0x01]].concat());
    });
    for metadata in [too_long, too_short, bare, covers_too_much] {
        assert!(matches!(read(&metadata), Err(CheckpointError::Malformed(_))), "{metadata}");
    }
}

#[test]
fn the_attempts_of_the_lowest_offsets_are_kept_when_not_all_fit() {
    let mut contents = full_contents(Capacity::DEFAULT, Spread::Wide);
    let offsets = contents.tracker.incomplete_offsets();
    contents.attempts = offsets.iter().map(|offset| (*offset, 1_000)).collect();
    let Ok(Found::Checkpoint(read, _)) = read(&written(&contents).metadata) else { panic!() };
    let kept: Vec<_> = read.attempts.into_iter().collect();
    let expected: Vec<_> = offsets.iter().map(|offset| (*offset, 255)).collect();
    assert!(kept.len() >= 60 && kept.len() < offsets.len(), "{} of {}", kept.len(), offsets.len());
    assert_eq!(kept, expected[..kept.len()]);
}

#[test]
fn the_reasons_of_the_lowest_doomed_offsets_are_kept_when_not_all_fit() {
    let mut contents = full_contents(Capacity::DEFAULT, Spread::Wide);
    contents.attempts.clear();
    let offsets = contents.tracker.incomplete_offsets();
    contents.reasons = offsets.iter().map(|offset| (*offset, ErrorType::Panic)).collect();
    let Ok(Found::Checkpoint(read, _)) = read(&written(&contents).metadata) else { panic!() };
    let kept: Vec<_> = read.reasons.into_keys().collect();
    assert!(kept.len() >= 60 && kept.len() < offsets.len(), "{} of {}", kept.len(), offsets.len());
    assert_eq!(kept, offsets[..kept.len()]);
    assert_eq!(read.tracker.marked_offsets().len(), offsets.len(), "all of them stay doomed");
}

#[test]
fn a_partition_without_incomplete_records_has_a_short_checkpoint() {
    let mut contents = Contents::empty(TOPIC_ID, 0);
    for offset in 0..1_000 {
        contents.tracker.begin(offset);
        contents.tracker.complete(offset);
        contents.aggregate.add_order(1_700_000_000_000 + 10 * offset, 99.5);
    }
    let metadata = written(&contents).metadata;
    assert!(metadata.len() < 800, "{} characters", metadata.len());
}

#[test]
fn less_metadata_narrows_the_window_until_nothing_fits() {
    let window = Capacity::DEFAULT.window();
    assert!(window.incomplete_max() > 1_100, "{window:?}");
    assert!(window.dense_max() > 15_900, "{window:?}");
    let narrow = Capacity::for_metadata(METADATA_CHARS_MIN).unwrap().window();
    assert!(narrow.incomplete_max() < 100 && narrow.dense_max() < 1_100, "{narrow:?}");
    let error = Capacity::for_metadata(METADATA_CHARS_MIN - 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "a checkpoint does not fit in {} characters of offset metadata; it needs {METADATA_CHARS_MIN}",
            METADATA_CHARS_MIN - 1
        )
    );
    assert!(Capacity::for_metadata(0).is_err());
    const { assert!(METADATA_CHARS_MIN < 1_610) };
}

#[test]
fn a_checkpoint_above_its_size_limit_is_not_written() {
    let contents = full_contents(Capacity::DEFAULT, Spread::Dense);
    let smaller = Capacity::for_metadata(METADATA_CHARS_MIN).unwrap();
    assert!(contents.write(&smaller).is_err());
    assert!(contents.write(&Capacity::DEFAULT).is_ok());
}

/// Returns a tracker as it is after a restart.
fn restored(tracker: &CompletionTracker) -> CompletionTracker {
    let mut map = Vec::new();
    tracker.write_map(&mut map);
    CompletionTracker::read_map(tracker.committable(), &mut Unpacker::new(&map)).unwrap()
}

/// Returns the dead-letter limit that takes the most room.
fn full_dlq_limit() -> DlqLimit {
    let mut bytes = vec![1];
    write_varint(u32::MAX, &mut bytes);
    write_varint(i64::MAX.cast_unsigned(), &mut bytes);
    assert_eq!(bytes.len(), DlqLimit::BYTES_MAX);
    DlqLimit::read(&mut Unpacker::new(&bytes)).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Spread {
    Dense,
    Wide,
}

/// Returns the largest contents: the largest numbers, the widest gaps between timestamps, and as many incomplete
/// records as the window admits, all of them doomed.
fn full_contents(capacity: Capacity, spread: Spread) -> Contents {
    let start = i64::MAX - (1 << 40);
    let mut contents = Contents::empty(Uuid::max(), start);
    for index in 0..100 {
        contents.aggregate.add_order(index * ((1 << 42) / 100), 1e12);
    }
    contents.since = 0;
    contents.dlq_limit = full_dlq_limit();
    let step = match spread {
        Spread::Dense => 1,
        Spread::Wide => i64::try_from((1 << 21) / capacity.window().incomplete_max()).unwrap(),
    };
    let mut offset = start;
    while contents.tracker.has_room_for(offset, capacity.window()) {
        contents.tracker.begin(offset);
        offset += step;
    }
    for offset in contents.tracker.incomplete_offsets() {
        contents.attempts.insert(offset, 255);
        contents.tracker.mark(offset);
        contents.reasons.insert(offset, ErrorType::Panic);
        // Complete and incomplete in turn is what a dense map has no short form for.
        if matches!(spread, Spread::Dense) && offset % 2 == 0 && offset != start {
            contents.tracker.complete(offset);
            contents.attempts.remove(&offset);
            contents.reasons.remove(&offset);
        }
    }
    contents
}

#[test]
fn the_largest_contents_fit_whatever_the_limit_is() {
    for chars in (METADATA_CHARS_MIN..METADATA_CHARS_MIN + 5).chain([2_560, 4_095, 4_096, 8_192]) {
        for spread in [Spread::Dense, Spread::Wide] {
            let capacity = Capacity::for_metadata(chars).unwrap();
            let contents = full_contents(capacity, spread);
            let metadata = contents.write(&capacity).unwrap().metadata;
            assert!(metadata.len() <= chars, "{} of {chars}, {spread:?}", metadata.len());
            let Ok(Found::Checkpoint(read, _)) = read(&metadata) else { panic!("{metadata}") };
            assert_eq!(read.tracker, restored(&contents.tracker));
            assert_eq!(read.aggregate, contents.aggregate);
            assert_eq!(read.dlq_limit, contents.dlq_limit);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_checkpoint_within_the_window_fits_and_is_read_back(
        chars in METADATA_CHARS_MIN..5_000,
        steps in proptest::collection::vec(
            // The gap to the next record, whether it completes at once, its timestamp, its price, its attempts.
            (1_i64..4_000, 0_u8..4, any::<i64>(), 0.0_f32..=1e12, 0_u32..300),
            0..700,
        ),
        (dense, dooms) in (any::<bool>(), 0_u8..4),
    ) {
        let capacity = Capacity::for_metadata(chars).unwrap();
        let mut contents = Contents::empty(TOPIC_ID, 5);
        let mut offset = 5;
        for (gap, completes, timestamp_ms, price, attempts) in steps {
            if !contents.tracker.has_room_for(offset, capacity.window()) {
                break;
            }
            contents.tracker.begin(offset);
            if completes == 0 {
                contents.tracker.complete(offset);
            } else if attempts > 0 {
                contents.attempts.insert(offset, attempts.min(255));
            }
            if completes > dooms {
                contents.tracker.mark(offset);
                contents.reasons.insert(offset, ErrorType::ALL[usize::from(completes) + 10]);
            }
            contents.aggregate.add_order(timestamp_ms, price);
            contents.aggregate.add_retries(attempts);
            offset += if dense { gap % 3 + 1 } else { gap };
        }
        let checkpoint = contents.write(&capacity).unwrap();
        prop_assert!(checkpoint.metadata.len() <= chars);
        let Ok(Found::Checkpoint(read, offset)) = read(&checkpoint.metadata) else { panic!() };
        prop_assert_eq!(offset, checkpoint.offset);
        prop_assert_eq!(read.tracker.committable(), checkpoint.offset);
        prop_assert_eq!(&read.tracker, &restored(&contents.tracker));
        prop_assert_eq!(&read.aggregate, &contents.aggregate);
        prop_assert!(read.attempts.iter().all(|(offset, n)| contents.attempts.get(offset) == Some(n)));
        prop_assert!(read.reasons.iter().all(|(offset, why)| contents.reasons.get(offset) == Some(why)));
        // What was read is written the same again.
        let (attempts, reasons) = (contents.attempts, contents.reasons);
        prop_assert_eq!(Contents { attempts, reasons, ..*read }.write(&capacity), Ok(checkpoint));
    }

    #[test]
    fn any_text_is_read_or_refused(text: String, bytes: Vec<u8>) {
        prop_assert!(matches!(read(&text), Ok(Found::Nothing | Found::Foreign)));
        let mut body = bytes;
        body.insert(0, VERSION);
        let checksum = crc32c::crc32c(&body).to_le_bytes();
        body.extend_from_slice(&checksum);
        let metadata = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body));
        let refused = matches!(read(&metadata), Err(CheckpointError::Malformed(_)));
        prop_assert!(refused, "random bytes are no contents");
    }
}
