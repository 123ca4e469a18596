//! The consumer protocol's primitive types, as in Kafka's [protocol
//! guide](https://kafka.apache.org/protocol#protocol_types).

use std::collections::BTreeMap;

use bytes::Bytes;

/// Partition indexes by topic, ascending, each once.
pub type TopicPartitions = BTreeMap<String, Vec<i32>>;

/// Why bytes of the consumer protocol could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerProtocolError {
    /// The bytes end in the middle of a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// A field has an invalid value.
    #[error("a field is malformed")]
    Malformed,
    /// The version is negative, which no client writes.
    #[error("version {0} of the consumer protocol")]
    Version(i16),
    /// A name or list is longer than its length field can express.
    #[error("a name or list is too long for the consumer protocol")]
    TooLong,
}

/// Reads big-endian fields off the front of a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ConsumerProtocolError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(ConsumerProtocolError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], ConsumerProtocolError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(ConsumerProtocolError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn version(&mut self) -> Result<i16, ConsumerProtocolError> {
        let version = i16::from_be_bytes(self.array()?);
        if version < 0 { Err(ConsumerProtocolError::Version(version)) } else { Ok(version) }
    }

    pub(super) fn i32(&mut self) -> Result<i32, ConsumerProtocolError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Reads how many elements follow. Callers only count it down and allocate nothing by it. Each element takes bytes,
    /// so a false count ends with the bytes.
    pub(super) fn count(&mut self) -> Result<usize, ConsumerProtocolError> {
        usize::try_from(self.i32()?).map_err(|_negative| ConsumerProtocolError::Malformed)
    }

    pub(super) fn string(&mut self) -> Result<String, ConsumerProtocolError> {
        self.nullable_string()?.ok_or(ConsumerProtocolError::Malformed)
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, ConsumerProtocolError> {
        let Ok(length) = usize::try_from(i16::from_be_bytes(self.array()?)) else {
            return Ok(None);
        };
        let text = str::from_utf8(self.slice(length)?);
        text.map(|text| Some(text.to_owned())).map_err(|_| ConsumerProtocolError::Malformed)
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, ConsumerProtocolError> {
        match usize::try_from(self.i32()?) {
            Ok(length) => self.slice(length).map(Some),
            Err(_negative) => Ok(None),
        }
    }

    /// Reads a count for each name.
    pub(super) fn counts(&mut self) -> Result<BTreeMap<String, i32>, ConsumerProtocolError> {
        (0..self.count()?).map(|_| Ok((self.string()?, self.i32()?))).collect()
    }

    /// Reads partitions by topic; a topic may occur more than once.
    pub(super) fn topic_partitions(&mut self) -> Result<TopicPartitions, ConsumerProtocolError> {
        let mut all = TopicPartitions::new();
        for _ in 0..self.count()? {
            let partitions = all.entry(self.string()?).or_default();
            for _ in 0..self.count()? {
                partitions.push(self.i32()?);
            }
        }
        for partitions in all.values_mut() {
            partitions.sort_unstable();
            partitions.dedup();
        }
        Ok(all)
    }
}

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(version: i16) -> Self {
        Self { bytes: version.to_be_bytes().to_vec() }
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn count(&mut self, count: usize) -> Result<(), ConsumerProtocolError> {
        self.i32(i32::try_from(count).map_err(|_| ConsumerProtocolError::TooLong)?);
        Ok(())
    }

    pub(super) fn string(&mut self, text: &str) -> Result<(), ConsumerProtocolError> {
        let length = i16::try_from(text.len()).map_err(|_| ConsumerProtocolError::TooLong)?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(super) fn nullable_string(
        &mut self,
        text: Option<&str>,
    ) -> Result<(), ConsumerProtocolError> {
        let Some(text) = text else {
            self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
            return Ok(());
        };
        self.string(text)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), ConsumerProtocolError> {
        self.count(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn counts(
        &mut self,
        all: &BTreeMap<String, i32>,
    ) -> Result<(), ConsumerProtocolError> {
        self.count(all.len())?;
        for (name, &count) in all {
            self.string(name)?;
            self.i32(count);
        }
        Ok(())
    }

    pub(super) fn topic_partitions(
        &mut self,
        all: &TopicPartitions,
    ) -> Result<(), ConsumerProtocolError> {
        self.count(all.len())?;
        for (topic, partitions) in all {
            self.string(topic)?;
            self.count(partitions.len())?;
            for &partition in partitions {
                self.i32(partition);
            }
        }
        Ok(())
    }
}
