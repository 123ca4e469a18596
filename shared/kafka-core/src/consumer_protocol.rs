//! The consumer protocol: the subscriptions and assignments that members exchange through the group coordinator.
//!
//! The broker forwards both without reading them, so their bytes are a contract between clients. Each begins with a
//! version of two bytes. Later versions only append fields, so a reader ignores what follows the fields that it knows.
//! Subscriptions are written in version 3 and assignments in version 0, which every client reads.
//!
//! A subscription's user data belongs to the assignor. Members of this implementation write their generation in four
//! bytes and a marker by which they recognise one another. Java's cooperative-sticky leader reads the first four bytes
//! as the generation if the generation field is −1, and ignores the rest. librdkafka's leader does not read the user
//! data. Both read the owned partitions (since version 1) and the generation (since version 2) from their own fields.
//!
//! The user data of an assignment for a member of this implementation is the marker and the partition counts that the
//! leader assigned with. A static leader that restarts gets its last assignment back and does not assign. By the counts
//! it knows whether a topic has grown since.
//!
//! The bytes come from other processes, so no count in them decides how much is allocated.
//!
//! Schemas: `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json` in
//! <https://github.com/apache/kafka/tree/trunk/clients/src/main/resources/common/message>;
//! [KIP-429](https://cwiki.apache.org/confluence/display/KAFKA/KIP-429%3A+Kafka+Consumer+Incremental+Rebalance+Protocol),
//! [KIP-792](https://cwiki.apache.org/confluence/display/KAFKA/KIP-792%3A+Add+%22generation%22+field+into+consumer+protocol).

mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::wire::{Reader, Writer};

pub use self::wire::{ConsumerProtocolError, TopicPartitions};

const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 0;
/// Stands for "no generation" in the generation field and in Java's user data.
const NO_GENERATION: i32 = -1;
/// Marks the user data of this implementation: after the generation in subscriptions, first in assignments.
const MARKER: &[u8] = b"kafka-group/1";

/// A member's metadata in `JoinGroup`: what it subscribes to and what it owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics that the member subscribes to.
    pub topics: Vec<String>,
    /// The partitions that the member owns while it joins; empty with an eager assignor.
    pub owned: TopicPartitions,
    /// The generation in which the member got them; `None` if it has not been in one.
    pub generation: Option<i32>,
    /// The member's rack, for rack-aware assignors.
    pub rack_id: Option<String>,
    /// Which client wrote the subscription. [`Subscription::encode`] always marks it as this implementation's.
    pub implementation: Implementation,
}

/// A member and its subscription, as the coordinator passes them to the group's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSubscription {
    /// The id that the coordinator gave the member.
    pub member_id: String,
    /// The `group.instance.id` of a static member (KIP-345); `None` for a dynamic one.
    pub group_instance_id: Option<String>,
    /// What the member subscribes to and owns.
    pub subscription: Subscription,
}

/// Which client a member runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Implementation {
    /// This one: it writes a checkpoint as the metadata of its commits.
    This,
    /// Any other: its commits have no checkpoint.
    #[default]
    Other,
}

/// What the leader assigns to one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions that the member is to read.
    pub partitions: TopicPartitions,
    /// How many partitions each topic of the group had when the leader assigned. Only leaders of this implementation
    /// write it, and only for members of this implementation.
    pub partition_counts: BTreeMap<String, i32>,
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

    /// Reads a member's metadata from a `JoinGroup` response.
    ///
    /// # Errors
    /// When the bytes are not a subscription.
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
            // librdkafka writes an empty rack id for none.
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

    /// Reads a member's assignment from a `SyncGroup` response.
    ///
    /// No bytes are an empty assignment: the coordinator answers so to a member that the leader left out.
    ///
    /// # Errors
    /// When the bytes are not an assignment.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConsumerProtocolError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let partitions = reader.topic_partitions()?;
        let user_data = reader.nullable_bytes().ok().flatten().unwrap_or_default();
        let counts = user_data.strip_prefix(MARKER).map(|counts| Reader::new(counts).counts());
        // Other leaders' user data has no counts.
        let partition_counts = counts.and_then(Result::ok).unwrap_or_default();
        Ok(Self { partitions, partition_counts })
    }
}

/// What the user data of a subscription holds.
#[derive(Default)]
struct UserData {
    owned: TopicPartitions,
    generation: Option<i32>,
    implementation: Implementation,
}

impl UserData {
    /// Reads any of the known layouts; others count as empty.
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

    /// Reads the layout of librdkafka and of Java's eager sticky assignor: the partitions, then the generation.
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
