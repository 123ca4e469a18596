//! The form in which incomplete offsets are written.
//!
//! A map covers the span from the committed offset, which is always incomplete itself, to the dispatch frontier:
//!
//! ```text
//! span      varint   offsets from committed to frontier; 0 = nothing is incomplete, and the map ends here
//! count     varint   of incomplete offsets; 0 = a bitset follows
//! gaps      Rice     of the incomplete offsets after the first: complete offsets between one and the next
//!    or
//! bitset    bytes    a bit for each offset of the span, lowest first and highest bit first: 1 = incomplete
//! ```
//!
//! Whichever is smaller is written.

use std::collections::BTreeSet;

use crate::packing::{Unpacker, write_fixed, write_rice, write_varint};

/// A map that was read.
#[derive(Debug)]
pub(super) struct CompletionMap {
    pub(super) frontier: i64,
    pub(super) incomplete: BTreeSet<i64>,
}

/// Appends the map of `incomplete`, which are rising offsets within `span` of the first of them.
pub(super) fn write(span: usize, incomplete: &[i64], into: &mut Vec<u8>) {
    write_length(span, into);
    if incomplete.is_empty() {
        return;
    }
    let gaps: Vec<_> =
        incomplete.windows(2).map(|pair| pair[0].abs_diff(pair[1]).saturating_sub(1)).collect();
    let mut packed_gaps = Vec::new();
    write_length(incomplete.len(), &mut packed_gaps);
    write_rice(&gaps, &mut packed_gaps);
    if packed_gaps.len() <= 1 + span.div_ceil(8) {
        into.append(&mut packed_gaps);
    } else {
        write_length(0, into);
        write_fixed(&bits(span, &gaps), 1, into);
    }
}

/// Reads the map that was written with `committed` as the lowest incomplete offset.
pub(super) fn read(committed: i64, from: &mut Unpacker<'_>) -> Option<CompletionMap> {
    let span: usize = from.varint()?;
    let frontier = committed.checked_add_unsigned(u64::try_from(span).ok()?)?;
    if span == 0 {
        return Some(CompletionMap { frontier, incomplete: BTreeSet::new() });
    }
    let count: usize = from.varint()?;
    let incomplete = if count == 0 {
        let bits = from.fixed(span, 1)?;
        let offsets = (committed..frontier).zip(bits).filter(|(_, bit)| *bit == 1);
        offsets.map(|(offset, _)| offset).collect()
    } else {
        let mut last = committed;
        let mut incomplete = BTreeSet::from([committed]);
        for gap in from.rice(count - 1)? {
            last = last.checked_add_unsigned(gap)?.checked_add(1)?;
            incomplete.insert(last);
        }
        incomplete
    };
    let is_consistent =
        incomplete.first() == Some(&committed) && incomplete.last() < Some(&frontier);
    is_consistent.then_some(CompletionMap { frontier, incomplete })
}

fn write_length(length: usize, into: &mut Vec<u8>) {
    // No length of this platform is over 64 bits.
    write_varint(u64::try_from(length).unwrap_or(u64::MAX), into);
}

fn bits(span: usize, gaps: &[u64]) -> Vec<u64> {
    let mut bits = vec![1];
    for gap in gaps {
        bits.resize(bits.len() + usize::try_from(*gap).unwrap_or_default(), 0);
        bits.push(1);
    }
    bits.resize(span, 0);
    bits
}
