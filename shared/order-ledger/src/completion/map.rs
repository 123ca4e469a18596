//! The format of a completion map.
//!
//! A map covers the offsets from the committed one, which is always incomplete, to the dispatch frontier:
//!
//! ```text
//! span      varint   offsets from committed to frontier; 0 = no record is incomplete, and the map ends here
//! count     varint   of incomplete offsets, from 1
//! gaps      Rice     of the incomplete offsets after the first: complete offsets between one and the next
//! marks     varint   how many of the incomplete offsets are marked
//! places    Rice     of the marked ones among the incomplete ones: unmarked ones before the first, and between one and the
//!                    next
//! ```
//!
//! With the parameter 0 the Rice codes are a bitset of the span, one bit per offset. With a larger parameter they are
//! short if few offsets are incomplete. The places of the marks work alike among the incomplete offsets.

use std::collections::BTreeSet;

use super::CompletionTracker;
use crate::packing::{Unpacker, write_rice, write_varint};

/// Appends the map of the `incomplete` offsets, which are ascending and less than `span` above the first one, and of
/// the `marked` ones among them.
pub(super) fn write(span: usize, incomplete: &[i64], marked: &BTreeSet<i64>, into: &mut Vec<u8>) {
    write_length(span, into);
    if incomplete.is_empty() {
        return;
    }
    write_length(incomplete.len(), into);
    let gaps: Vec<_> =
        incomplete.windows(2).map(|pair| pair[0].abs_diff(pair[1]).saturating_sub(1)).collect();
    write_rice(&gaps, into);
    write_length(marked.len(), into);
    let mut places = Vec::with_capacity(marked.len());
    let mut unmarked = 0;
    for offset in incomplete {
        if marked.contains(offset) {
            places.push(std::mem::take(&mut unmarked));
        } else {
            unmarked += 1;
        }
    }
    write_rice(&places, into);
}

fn write_length(length: usize, into: &mut Vec<u8>) {
    // A `usize` has at most 64 bits.
    write_varint(u64::try_from(length).unwrap_or(u64::MAX), into);
}

/// Reads the map that was written with `committed` as the lowest incomplete offset.
pub(super) fn read(committed: i64, from: &mut Unpacker<'_>) -> Option<CompletionTracker> {
    let span: u64 = from.varint()?;
    let mut tracker = CompletionTracker::new(committed.checked_add_unsigned(span)?);
    if span == 0 {
        return Some(tracker);
    }
    let count: usize = from.varint()?;
    let mut last = committed;
    tracker.restored.insert(last);
    for gap in from.rice(count.checked_sub(1)?)? {
        last = last.checked_add_unsigned(gap)?.checked_add(1)?;
        tracker.restored.insert(last);
    }
    let mut unread = tracker.restored.iter();
    let marks = from.varint()?;
    for place in from.rice(marks)? {
        tracker.marked.insert(*unread.nth(usize::try_from(place).ok()?)?);
    }
    (last < tracker.frontier).then_some(tracker)
}
