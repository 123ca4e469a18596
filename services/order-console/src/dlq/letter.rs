//! A record of the dead-letter topic, with what its headers say.

use std::fmt;
use std::str::FromStr;

use dead_letter::cause::{Author, Cause};
use dead_letter::{
    Identity, OwnedHeader, RawHeader, ReplayOf, has_generated_key, original_headers, text_of,
};
use kafka_core::record_batch::Record;
use order_avro::SCHEMA_ID_HEADER;
use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// Where a letter is in the dead-letter topic: `<partition>:<offset>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// The text is not a [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place in the dead-letter topic is <partition>:<offset>, for example 0:17")]
pub struct ParsePlaceError;

/// The topic and group whose letters are read.
#[derive(Clone, Debug)]
pub(crate) struct DlqContext {
    pub(crate) topic: String,
    pub(crate) topic_id: Uuid,
    pub(crate) group: String,
}

/// One record of the dead-letter topic, borrowed from its batch.
#[derive(Clone, Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) place: Place,
    /// When it was written, in milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
    /// The key of the failed record.
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<RawHeader<'a>>,
    pub(crate) cause: Cause,
    /// Its identity among letters. A letter that no order-processor wrote is identified by its own place, and counts
    /// as the reader's.
    pub(crate) identity: Identity,
    /// The coordinates that a replay of it carries.
    pub(crate) origin: ReplayOf,
}

impl DlqContext {
    pub(crate) fn read<'a>(&self, partition: i32, record: &Record<'a>) -> Letter<'a> {
        let headers: Vec<RawHeader<'a>> =
            record.headers.iter().map(|header| (header.name, header.value)).collect();
        let cause = Cause::of(&headers);
        let place = Place { partition, offset: record.offset };
        let ours = Identity::of(&headers).filter(|_| cause.author == Author::OrderProcessor);
        let (identity, topic) = match (ours, &cause.topic) {
            (Some(identity), Some(topic)) => (identity, topic.clone()),
            (_, _) => (self.identity_of(place), self.topic.clone()),
        };
        let origin = ReplayOf {
            topic,
            topic_id: identity.topic_id,
            partition: identity.partition,
            offset: identity.offset,
        };
        Letter {
            place,
            timestamp_ms: record.timestamp_ms,
            key: record.key.filter(|_| !has_generated_key(&headers)),
            value: record.value,
            headers,
            cause,
            identity,
            origin,
        }
    }

    fn identity_of(&self, place: Place) -> Identity {
        Identity {
            topic_id: self.topic_id,
            partition: place.partition,
            offset: place.offset,
            group: self.group.clone(),
            replay_count: 0,
        }
    }
}

impl Letter<'_> {
    /// Returns when the record failed, as far as it is known, in milliseconds since 1970.
    pub(crate) fn failed_at_ms(&self) -> i64 {
        self.cause.failed_at_ms.unwrap_or(self.timestamp_ms)
    }

    pub(crate) fn original_headers(&self) -> Vec<OwnedHeader> {
        let mut headers = original_headers(&self.headers);
        headers.retain(|(name, _)| !self.cause.author.adds(name));
        headers
    }

    /// Returns the header that names the schema of the value.
    pub(crate) fn schema_header(&self) -> Option<Vec<u8>> {
        let headers = self.original_headers();
        headers.into_iter().rfind(|(name, _)| name == SCHEMA_ID_HEADER.as_bytes())?.1
    }

    /// Returns the last header of that name, where it is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        text_of(&self.headers, name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for Place {
    fn schema() -> RefOr<Schema> {
        let place = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^\d+:\d+$"));
        let place = place.description(Some("A place in the dead-letter topic: partition:offset."));
        place.into()
    }
}

impl ToSchema for Place {}

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(ParsePlaceError)?;
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(ParsePlaceError);
        };
        if partition < 0 || offset < 0 {
            return Err(ParsePlaceError);
        }
        Ok(Self { partition, offset })
    }
}

#[cfg(test)]
mod tests {
    use dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure};
    use kafka_core::record_batch::{BatchBuilder, batches};

    use super::*;

    const DLQ_ID: Uuid = Uuid::from_u128(0xd1);
    const ORDERS_ID: Uuid = Uuid::from_u128(0x0d);

    fn dlq() -> DlqContext {
        DlqContext { topic: "orders-dlq".into(), topic_id: DLQ_ID, group: "night".into() }
    }

    /// Reads a record with these headers, at offset 17 of partition 1.
    fn read(headers: &[RawHeader<'_>]) -> (Identity, ReplayOf, Vec<OwnedHeader>) {
        let batch = BatchBuilder::new(17).record(0, None, Some(b"value"), headers).build().unwrap();
        let opened = batches(batch).next().unwrap().open(1 << 20).unwrap();
        let record = opened.records().next().unwrap().unwrap();
        let letter = dlq().read(1, &record);
        (letter.identity.clone(), letter.origin.clone(), letter.original_headers())
    }

    #[test]
    fn a_letter_of_a_processor_is_identified_by_where_its_order_failed() {
        let failed = FailedRecord {
            topic: "orders",
            topic_id: ORDERS_ID,
            partition: 2,
            offset: 41,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: &[(b"kafka_dlt-original-topic", Some(b"kept"))],
        };
        let failure = Failure {
            error_type: ErrorType::Tombstone,
            message: "",
            attempts: 0,
            schema_id: None,
            failed_at_ms: 0,
            group: "day",
        };
        let letter = DeadLetter::build(&failed, &failure);
        let headers: Vec<RawHeader<'_>> =
            letter.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let (identity, origin, originals) = read(&headers);
        assert_eq!(identity.to_string(), format!("{ORDERS_ID}/2/41/0/day"));
        assert_eq!(origin.to_string(), format!("orders/{ORDERS_ID}/2/41"));
        assert_eq!(originals, [(b"kafka_dlt-original-topic".to_vec(), Some(b"kept".to_vec()))]);
    }

    #[test]
    fn any_other_letter_is_identified_by_its_own_place_and_counts_as_the_readers() {
        let spring: &[RawHeader<'_>] = &[
            (b"kafka_dlt-original-topic", Some(b"orders")),
            (b"kafka_dlt-original-offset", Some(b"\0\0\0\0\0\0\0\x09")),
            (b"note", None),
        ];
        // Looks like a processor's letter, but lacks its identity.
        let incomplete: &[RawHeader<'_>] = &[(b"dlq.error.type", Some(b"simulated"))];
        for (headers, originals) in
            [(spring, vec![(b"note".to_vec(), None)]), (incomplete, Vec::new()), (&[], Vec::new())]
        {
            let (identity, origin, found) = read(headers);
            assert_eq!(identity.to_string(), format!("{DLQ_ID}/1/17/0/night"));
            assert_eq!(origin.to_string(), format!("orders-dlq/{DLQ_ID}/1/17"));
            assert_eq!(found, originals);
        }
    }
}
