//! The identity of a dead letter, and the link from a replay to its first failure.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::RawHeader;
use super::names::{self, REPLAY_COUNT_HEADER, REPLAY_OF_HEADER};

/// The identity of a letter. Two letters with the same identity are one: a crash between writing a letter and
/// committing its record writes the letter again.
///
/// Text form: `<topic id>/<partition>/<offset>/<replay count>/<group>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The id of the topic of the order's first failure.
    pub topic_id: Uuid,
    /// The partition of the first failure.
    pub partition: i32,
    /// The offset of the first failure.
    pub offset: i64,
    /// The consumer group that failed to process it.
    pub group: String,
    /// How often the order had been replayed before this failure.
    pub replay_count: u32,
}

/// The coordinates of an order's first failure, in the header `dlq.replay.of` of its replays.
///
/// Text form: `<topic>/<topic id>/<partition>/<offset>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplayOf {
    /// The name of the topic that the order failed in.
    pub topic: String,
    /// The id of that topic.
    pub topic_id: Uuid,
    /// The partition that the order failed in.
    pub partition: i32,
    /// The offset of the record that failed.
    pub offset: i64,
}

/// The text is not an [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not of the form <topic id>/<partition>/<offset>/<replay count>/<group>")]
pub struct ParseIdentityError;

/// The text is not a [`ReplayOf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not of the form <topic>/<topic id>/<partition>/<offset>")]
pub struct ParseReplayOfError;

impl Identity {
    /// Reads a letter's identity from its headers; `None` if another program wrote it.
    pub fn of(headers: &[RawHeader<'_>]) -> Option<Self> {
        let text = |name| text_of(headers, name);
        Some(Self {
            topic_id: text(names::TOPIC_ID)?.parse().ok()?,
            partition: text(names::PARTITION)?.parse().ok()?,
            offset: text(names::OFFSET)?.parse().ok()?,
            group: text(names::GROUP)?.to_owned(),
            replay_count: text(REPLAY_COUNT_HEADER)?.parse().ok()?,
        })
    }
}

impl ReplayOf {
    /// Reads the coordinates of the first failure from a record's headers; `None` if the record is not a replay.
    pub fn of(headers: &[RawHeader<'_>]) -> Option<Self> {
        text_of(headers, REPLAY_OF_HEADER)?.parse().ok()
    }
}

/// Returns the value of the last header called `name`; `None` if there is none or it is not UTF-8.
pub fn text_of<'a>(headers: &[RawHeader<'a>], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().rfind(|(header, _)| *header == name.as_bytes())?;
    str::from_utf8((*value)?).ok()
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic_id, partition, offset, group, replay_count } = self;
        write!(f, "{topic_id}/{partition}/{offset}/{replay_count}/{group}")
    }
}

impl FromStr for Identity {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The group is last because it may contain slashes.
        let mut parts = text.splitn(5, '/');
        let mut next = || parts.next().ok_or(ParseIdentityError);
        let (topic_id, partition, offset, replay_count) = (next()?, next()?, next()?, next()?);
        Ok(Self {
            topic_id: topic_id.parse().map_err(|_no_id| ParseIdentityError)?,
            partition: partition.parse().map_err(|_no_number| ParseIdentityError)?,
            offset: offset.parse().map_err(|_no_number| ParseIdentityError)?,
            replay_count: replay_count.parse().map_err(|_no_number| ParseIdentityError)?,
            group: next()?.to_owned(),
        })
    }
}

impl fmt::Display for ReplayOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, topic_id, partition, offset } = self;
        write!(f, "{topic}/{topic_id}/{partition}/{offset}")
    }
}

impl FromStr for ReplayOf {
    type Err = ParseReplayOfError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A topic's name contains no slash.
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(ParseReplayOfError);
        let (topic, topic_id, partition, offset) = (next()?, next()?, next()?, next()?);
        if topic.is_empty() || parts.next().is_some() {
            return Err(ParseReplayOfError);
        }
        Ok(Self {
            topic: topic.to_owned(),
            topic_id: topic_id.parse().map_err(|_no_id| ParseReplayOfError)?,
            partition: partition.parse().map_err(|_no_number| ParseReplayOfError)?,
            offset: offset.parse().map_err(|_no_number| ParseReplayOfError)?,
        })
    }
}
