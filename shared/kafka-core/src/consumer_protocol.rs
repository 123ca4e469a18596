//! What members of a consumer group tell each other through the coordinator: subscriptions and assignments.
//!
//! The broker passes both on without looking at them, so their bytes are a contract between clients. A version of two
//! bytes stands before each; later versions only append fields, so that a reader takes what it knows. Subscriptions are
//! written in version 3 and assignments in version 0, as every client reads them.
//!
//! A subscription's user data belongs to the assignor. Ours is the generation, four bytes, and a marker by which members
//! of this implementation know each other. Java's cooperative-sticky leader reads four bytes as the generation (if the
//! generation's own field is −1) and ignores what follows; librdkafka's does not read user data. Both take the owned
//! partitions and the generation from their own fields since versions 1 and 2.
//!
//! An assignment's user data, for members of this implementation, are the marker and the partition counts that the leader
//! assigned with. A static leader that restarts is given its last assignment and assigns nothing; it knows by the counts
//! whether a topic has grown since.
//!
//! The bytes come from other processes, whoever they are: nothing is allocated by a count that they claim.
//!
//! Schemas: `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json` in
//! <https://github.com/apache/kafka/tree/trunk/clients/src/main/resources/common/message>;
//! [KIP-429](https://cwiki.apache.org/confluence/display/KAFKA/KIP-429%3A+Kafka+Consumer+Incremental+Rebalance+Protocol),
//! [KIP-792](https://cwiki.apache.org/confluence/display/KAFKA/KIP-792%3A+Add+%22generation%22+field+into+consumer+protocol).

mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::wire::{Reader, Writer};

/// Partitions of topics, ascending and each once.
pub type TopicPartitions = BTreeMap<String, Vec<i32>>;

const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 0;
/// What stands for "no generation" in the field of version 2 and in Java's user data.
const NO_GENERATION: i32 = -1;
/// Marks the user data of this implementation: behind the generation in subscriptions, first in assignments.
const MARKER: &[u8] = b"kafka-group/1";

/// What a member wants and has, as it tells the group's leader when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics that the member reads.
    pub topics: Vec<String>,
    /// The partitions that it holds while it joins; none for an eager assignor.
    pub owned: TopicPartitions,
    /// The generation in which it got them; `None` for a member that was in none.
    pub generation: Option<i32>,
    /// The rack of the member, for assignors that place by rack.
    pub rack_id: Option<String>,
    /// Whose member it is. Written subscriptions are always this implementation's.
    pub implementation: Implementation,
}

/// Which client a member runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Implementation {
    /// This one: it commits offsets as this one does.
    This,
    /// Any other: its commits carry no metadata of ours.
    #[default]
    Other,
}

/// What the leader gives to one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions that the member is to read.
    pub partitions: TopicPartitions,
    /// How many partitions each topic of the group had when it was assigned; known only from leaders of this
    /// implementation, and meant only for its members.
    pub partition_counts: BTreeMap<String, i32>,
}

/// Why bytes of the consumer protocol could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerProtocolError {
    /// The bytes end in the middle of a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// A field has a value that it cannot have.
    #[error("a field is malformed")]
    Malformed,
    /// The version is negative.
    #[error("version {0} of the consumer protocol")]
    Version(i16),
    /// A name or list is longer than the protocol can say.
    #[error("a name or list is too long for the consumer protocol")]
    TooLong,
}

impl Subscription {
    /// Returns the bytes for a `JoinGroup` request, with this implementation's marker.
    ///
    /// # Errors
    /// When a name is longer than 32,767 bytes.
    pub fn encode(&self) -> Result<Bytes, ConsumerProtocolError> {
        let generation = self.generation.unwrap_or(NO_GENERATION);
        let mut topics: Vec<&String> = self.topics.iter().collect();
        topics.sort_unstable();
        topics.dedup();

        let mut writer = Writer::new(SUBSCRIPTION_VERSION);
        writer.count(topics.len())?;
        for topic in topics {
            writer.string(topic)?;
        }
        writer.bytes(&[&generation.to_be_bytes(), MARKER].concat())?;
        writer.topic_partitions(&self.owned)?;
        writer.i32(generation);
        writer.nullable_string(self.rack_id.as_deref())?;
        Ok(writer.finish())
    }

    /// Reads the metadata of a member from a `JoinGroup` response.
    ///
    /// # Errors
    /// When it is no subscription.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConsumerProtocolError> {
        let mut reader = Reader::new(bytes);
        let version = reader.version()?;
        let count = reader.count()?;
        let topics = (0..count).map(|_| reader.string()).collect::<Result<Vec<_>, _>>()?;
        let user_data = UserData::read(reader.nullable_bytes()?.unwrap_or_default());

        let owned = if version < 1 { user_data.owned } else { reader.topic_partitions()? };
        let field = if version < 2 { NO_GENERATION } else { reader.i32()? };
        let rack_id = if version < 3 { None } else { reader.nullable_string()? };
        Ok(Self {
            topics,
            owned,
            generation: known_generation(field).or(user_data.generation),
            // librdkafka writes an empty name where it has none.
            rack_id: rack_id.filter(|rack| !rack.is_empty()),
            implementation: user_data.implementation,
        })
    }
}

impl Assignment {
    /// Returns the bytes for a `SyncGroup` request.
    ///
    /// # Errors
    /// When a name is longer than 32,767 bytes.
    pub fn encode(&self) -> Result<Bytes, ConsumerProtocolError> {
        let mut writer = Writer::new(ASSIGNMENT_VERSION);
        writer.topic_partitions(&self.partitions)?;
        if self.partition_counts.is_empty() {
            writer.bytes(&[])?;
        } else {
            let mut user_data = Writer::default();
            user_data.counts(&self.partition_counts)?;
            writer.bytes(&[MARKER, &user_data.finish()].concat())?;
        }
        Ok(writer.finish())
    }

    /// Reads a member's assignment from a `SyncGroup` response. No bytes at all are an empty assignment: that is what a
    /// coordinator answers to a member whom the leader left out.
    ///
    /// # Errors
    /// When it is no assignment.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConsumerProtocolError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let partitions = reader.topic_partitions()?;
        let user_data = reader.nullable_bytes().ok().flatten().unwrap_or_default();
        let counts = user_data.strip_prefix(MARKER).map(|counts| Reader::new(counts).counts());
        // The user data of other leaders say nothing about counts.
        let partition_counts = counts.and_then(Result::ok).unwrap_or_default();
        Ok(Self { partitions, partition_counts })
    }
}

/// What the user data of a sticky assignor say.
#[derive(Default)]
struct UserData {
    owned: TopicPartitions,
    generation: Option<i32>,
    implementation: Implementation,
}

impl UserData {
    /// Reads any of the layouts in use; what is none of them says nothing.
    fn read(bytes: &[u8]) -> Self {
        if let Some((generation, rest)) = bytes.split_first_chunk::<4>()
            && (rest.is_empty() || (rest == MARKER))
        {
            return Self {
                owned: TopicPartitions::new(),
                generation: known_generation(i32::from_be_bytes(*generation)),
                implementation: if rest.is_empty() {
                    Implementation::Other
                } else {
                    Implementation::This
                },
            };
        }
        Self::read_sticky(bytes).unwrap_or_default()
    }

    /// Reads what librdkafka and Java's eager sticky assignor write: the partitions, then the generation.
    fn read_sticky(bytes: &[u8]) -> Result<Self, ConsumerProtocolError> {
        let mut reader = Reader::new(bytes);
        let owned = reader.topic_partitions()?;
        let generation = if reader.is_empty() { NO_GENERATION } else { reader.i32()? };
        let generation = known_generation(generation);
        Ok(Self { owned, generation, implementation: Implementation::Other })
    }
}

fn known_generation(field: i32) -> Option<i32> {
    Some(field).filter(|&generation| 0 <= generation)
}

#[cfg(test)]
mod tests;
