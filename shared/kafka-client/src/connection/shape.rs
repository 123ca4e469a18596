//! Checks the counts of an answer in a version before KIP-482, so that no decoder learns of more elements than there are bytes.
//!
//! There, counts are numbers like any other, so [`Bounded`](super::bounded::Bounded) cannot recognise them. The shape of each such
//! answer is written out here: a digit is a field of so many bytes, `s` a string, `b` bytes, `[…]` an array.
//!
//! The versions: <https://kafka.apache.org/protocol#protocol_messages>.

use kafka_protocol::messages::ApiKey;

/// Returns the shape of an answer, if its version has counts that must be checked.
fn shape(key: ApiKey, version: i16) -> Option<&'static str> {
    Some(match (key, version) {
        (ApiKey::Metadata, 7) => "4[4s4s]s4[2s1[2444[4][4][4]]]",
        (ApiKey::Metadata, 8) => "4[4s4s]s4[2s1[2444[4][4][4]]4]4",
        (ApiKey::CreateTopics, 2..=4) => "4[s2s]",
        (ApiKey::Produce, 5..=7) => "[s[42888]]4",
        (ApiKey::Produce, 8) => "[s[42888[4s]s]]4",
        (ApiKey::ListOffsets, 4..=5) => "4[s[42884]]",
        (ApiKey::DescribeGroups, 4) => "4[2ssss[ssssbb]4]",
        (ApiKey::JoinGroup, 5) => "424sss[ssb]",
        (ApiKey::LeaveGroup, 3) => "42[ss2]",
        (ApiKey::OffsetCommit, 7) => "4[s[42]]",
        (ApiKey::OffsetFetch, 5) => "4[s[484s2]]2",
        _ => return None,
    })
}

/// Returns whether every array and length of an answer lies within its bytes. The version is one before KIP-482.
pub(super) fn fits(key: ApiKey, version: i16, answer: &[u8]) -> bool {
    shape(key, version).is_none_or(|shape| {
        let mut answer = Answer { rest: answer };
        answer.skip(shape.as_bytes()).is_some()
    })
}

struct Answer<'a> {
    rest: &'a [u8],
}

impl Answer<'_> {
    /// Skips fields of this shape; `None` if the bytes end before.
    fn skip(&mut self, mut shape: &[u8]) -> Option<()> {
        while let Some((field, after)) = shape.split_first() {
            shape = after;
            match field {
                b's' => {
                    let length = i16::from_be_bytes(self.take()?);
                    self.skip_bytes(usize::try_from(length).unwrap_or(0))?;
                }
                b'b' => {
                    let length = i32::from_be_bytes(self.take()?);
                    self.skip_bytes(usize::try_from(length).unwrap_or(0))?;
                }
                b'[' => {
                    let element;
                    (element, shape) = split_array(shape)?;
                    let count = i32::from_be_bytes(self.take()?);
                    // Each element takes at least a byte, so a count beyond the bytes ends this early.
                    for _ in 0..count {
                        self.skip(element)?;
                    }
                }
                digit => self.skip_bytes(usize::from(digit - b'0'))?,
            }
        }
        Some(())
    }

    fn skip_bytes(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

/// Splits a shape after `[` into the shape of an element, and what follows the array.
fn split_array(shape: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 1;
    let end = shape.iter().position(|field| {
        depth += match field {
            b'[' => 1,
            b']' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some((&shape[..end], &shape[end + 1..]))
}

#[cfg(test)]
mod tests;
