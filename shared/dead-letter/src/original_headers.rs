//! The headers of a failed record in its dead letter.
//!
//! A letter begins with the headers of its record, unchanged and in order. Its own follow, from the last
//! [`names::ERROR_TYPE`] on. Some of its own have names that other programs use, too: what has such a name belongs to the
//! record if it comes before that header, and to the letter if it comes after.

use super::RawHeader;
use super::names::{self, is_plain, is_reserved};

/// A header's name and value in memory of their own.
pub type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

/// Returns the headers of a letter's record, from the letter's headers.
///
/// For a replay these are the headers of the order that failed. Any other record is returned with its own headers.
pub fn original_headers(headers: &[RawHeader<'_>]) -> Vec<OwnedHeader> {
    let letters_own = headers.iter().rposition(|(name, _)| *name == names::ERROR_TYPE.as_bytes());
    headers
        .iter()
        .enumerate()
        .filter(|(index, (name, _))| {
            let may_be_letters = letters_own.is_some_and(|first| first < *index);
            let is_letters = is_reserved(name) || (may_be_letters && is_plain(name));
            !is_letters
        })
        .map(|(_, (name, value))| (name.to_vec(), value.map(<[u8]>::to_vec)))
        .collect()
}
