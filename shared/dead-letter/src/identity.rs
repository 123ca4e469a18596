//! Which failure a letter is about, and which letter a replay is of.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::RawHeader;
use super::names::{self, REPLAY_COUNT_HEADER, REPLAY_OF_HEADER};

/// What makes two letters the same one: a crash between writing a letter and committing its record writes it again.
///
/// As a text it is `<topic id>/<partition>/<offset>/<replay count>/<group>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The id of the topic in which the order failed first.
    pub topic_id: Uuid,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// The consumer group for which it failed.
    pub group: String,
    /// How often it had been sent again.
    pub replay_count: u32,
}

/// Where an order failed first, which a replay of it carries in its header `dlq.replay.of`.
///
/// As a text it is `<topic>/<topic id>/<partition>/<offset>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplayOf {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A text that is no [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not of the form <topic id>/<partition>/<offset>/<replay count>/<group>")]
pub struct ParseIdentityError;

/// A text that is no [`ReplayOf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not of the form <topic>/<topic id>/<partition>/<offset>")]
pub struct ParseReplayOfError;

impl Identity {
    /// Reads a letter's identity from its headers; `None` if it is no letter of ours.
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
    /// Reads where a record failed first from its headers; `None` if it is no replay.
    pub fn of(headers: &[RawHeader<'_>]) -> Option<Self> {
        text_of(headers, REPLAY_OF_HEADER)?.parse().ok()
    }
}

/// Returns the value of the last header of that name, if it is a text.
pub(super) fn text_of<'a>(headers: &[RawHeader<'a>], name: &str) -> Option<&'a str> {
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
        // The group is last because it may have slashes in it.
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
        // A topic's name has no slash in it.
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
