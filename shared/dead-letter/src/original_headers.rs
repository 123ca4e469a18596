//! The headers of a failed record in its dead letter.
//!
//! A letter's headers are sorted by name, and each name is a text that occurs once. The record's headers are copied
//! among them. A header whose name repeats, is not UTF-8 or is a letter's own, or whose value is null, cannot be
//! copied. Then, or if the record's headers are in another order, one more header keeps all of them exactly:
//! `name=value` joined by `&`, in order, with bytes escaped as `%` and two hexadecimal digits. A null value has no `=`.

use std::collections::BTreeMap;

use super::names::{self, is_plain, is_reserved};
use super::{EXACT_HEADERS_BYTES_MAX, RawHeader};

/// A header's name and value in memory of their own.
pub type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

/// Adds the headers of a failed record to those of its letter.
pub(super) fn keep(headers: &[RawHeader<'_>], letter: &mut BTreeMap<String, Vec<u8>>) {
    let originals = original_headers(headers);
    for (name, value) in originals.iter().filter(|header| fits(header, &originals)) {
        if let (Ok(name), Some(value)) = (String::from_utf8(name.clone()), value) {
            letter.insert(name, value.clone());
        }
    }
    let are_copied = originals.is_sorted_by(|(name, _), (next, _)| name < next)
        && originals.iter().all(|header| fits(header, &originals));
    if are_copied {
        return;
    }
    let (name, value) = exact_header(&originals);
    letter.insert(name.to_owned(), value);
}

/// Returns the letter's header that keeps these headers exactly, or the one that says that they are too large: 48 KiB
/// at most are kept.
pub fn exact_header(originals: &[OwnedHeader]) -> (&'static str, Vec<u8>) {
    let exact = encode(originals);
    if exact.len() <= EXACT_HEADERS_BYTES_MAX {
        (names::ORIGINAL_HEADERS, exact.into_bytes())
    } else {
        (names::HEADERS, names::OMITTED.into())
    }
}

/// Returns whether a letter can have this header as it is.
fn fits((name, value): &OwnedHeader, among: &[OwnedHeader]) -> bool {
    value.is_some()
        && str::from_utf8(name).is_ok()
        && !is_plain(name)
        && among.iter().filter(|(other, _)| other == name).count() == 1
}

/// Returns the headers of a letter's record, from the letter's headers.
///
/// For a replay these are the headers of the order that failed. Any other record is returned with its own headers. If
/// the headers were too large to be kept exactly, the result has only those that a letter can have as they are.
pub fn original_headers(headers: &[RawHeader<'_>]) -> Vec<OwnedHeader> {
    let exact = headers.iter().rfind(|(name, _)| *name == names::ORIGINAL_HEADERS.as_bytes());
    if let Some((_, Some(exact))) = exact
        && let Some(originals) = decode(exact)
    {
        return originals;
    }
    let has = |wanted: &str| headers.iter().any(|(name, _)| *name == wanted.as_bytes());
    let is_letter = has(names::ERROR_TYPE);
    headers
        .iter()
        .filter(|(name, _)| !is_reserved(name))
        .filter(|(name, _)| !(is_letter && is_plain(name)))
        .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
        .collect()
}

fn encode(headers: &[OwnedHeader]) -> String {
    let encoded: Vec<_> = headers
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{}={}", escape(name), escape(value)),
            None => escape(name),
        })
        .collect();
    encoded.join("&")
}

fn decode(text: &[u8]) -> Option<Vec<OwnedHeader>> {
    let decode_one = |header: &[u8]| -> Option<OwnedHeader> {
        match header.iter().position(|byte| *byte == b'=') {
            Some(end) => Some((unescape(&header[..end])?, Some(unescape(&header[end + 1..])?))),
            None => Some((unescape(header)?, None)),
        }
    };
    text.split(|byte| *byte == b'&').map(decode_one).collect()
}

fn escape(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'/' => {
                text.push(char::from(*byte));
            }
            _ => text.extend(['%', digit(byte >> 4), digit(byte & 0xf)]),
        }
    }
    text
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let (high, low) = (rest.next()?, rest.next()?);
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            bytes.push(digit(*high)? << 4 | digit(*low)?);
        } else {
            bytes.push(*byte);
        }
    }
    Some(bytes)
}
