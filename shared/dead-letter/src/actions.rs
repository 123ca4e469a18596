//! The actions topic: what operators decided about a group's dead letters, and what replays did.
//!
//! The topic is compacted and has one partition. The last record of a key is valid; a record with a null value revokes
//! it. Keys are texts and values JSON.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `dismissed/<identity>` | `{"reason":"…","at_ms":…,"by":"…"}` | the letter needs no more work |
//! | `release` | `{"at_ms":…,"by":"…"}` | partitions that the dead-letter limit paused before this record resume |
//! | `lock/<run>` | `{"claim":…,"at_ms":…,"by":"…"}` | the run replays, or waits to replay |
//! | `replayed/<identity>` | `{"at_ms":…}` | the letter was replayed to the orders' own topic |
//! | `to-source/<topic id>/<partition>` | `{"from":…}` | letters with replays at this offset or above may be replayed as well |
//!
//! Unknown keys are skipped, so that later releases can add some.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Identity;

const DISMISSED: &str = "dismissed/";
const RELEASE: &str = "release";
const LOCK: &str = "lock/";
const REPLAYED: &str = "replayed/";
const TO_SOURCE: &str = "to-source/";

/// One record of the actions topic. Serialized, it is the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Action {
    /// An operator dismissed a dead letter.
    Dismissed {
        /// The identity of the letter.
        #[serde(skip)]
        identity: Identity,
        /// Why, as the operator wrote it.
        reason: String,
        /// When, in milliseconds since 1970, by the operator's clock.
        at_ms: i64,
        /// The operator, as `name@host`.
        by: String,
    },
    /// An operator revoked a dismissal.
    Reopened {
        /// The identity of the letter.
        #[serde(skip)]
        identity: Identity,
    },
    /// An operator released the partitions that the dead-letter limit paused.
    Released {
        /// When, in milliseconds since 1970, by the operator's clock.
        at_ms: i64,
        /// The operator, as `name@host`.
        by: String,
    },
    /// A run claims the replay lock, or shows that it is alive.
    Lock {
        /// The id of the run, random for each.
        #[serde(skip)]
        run: Uuid,
        /// The offset of the run's first such record; absent in that one.
        claim: Option<i64>,
        /// When, in milliseconds since 1970, by the operator's clock. It is only displayed.
        at_ms: i64,
        /// The operator, as `name@host`.
        by: String,
    },
    /// A run ended, or another run declared it dead.
    Unlocked {
        /// The id of the run, random for each.
        #[serde(skip)]
        run: Uuid,
    },
    /// A dead letter was replayed to the topic that it came from, whose retention may be shorter than this topic's.
    ReplayedToSource {
        /// The identity of the letter.
        #[serde(skip)]
        identity: Identity,
        /// When, in milliseconds since 1970, by the operator's clock.
        at_ms: i64,
    },
    /// Dead letters are about to be replayed to the topic that they came from, or were.
    ToSource {
        /// The id of the topic that the letters came from.
        #[serde(skip)]
        topic_id: Uuid,
        /// The partition that replays are written to.
        #[serde(skip)]
        partition: i32,
        /// Every letter with a replay below this offset has a [`Self::ReplayedToSource`].
        from: i64,
    },
}

/// The fields of all values.
#[derive(Deserialize)]
struct Fields {
    reason: Option<String>,
    claim: Option<i64>,
    at_ms: Option<i64>,
    by: Option<String>,
    from: Option<i64>,
}

impl Action {
    /// Returns the key of the record in the actions topic.
    pub fn key(&self) -> String {
        match self {
            Self::Dismissed { identity, .. } | Self::Reopened { identity } => {
                format!("{DISMISSED}{identity}")
            }
            Self::Released { .. } => RELEASE.to_owned(),
            Self::Lock { run, .. } | Self::Unlocked { run } => format!("{LOCK}{run}"),
            Self::ReplayedToSource { identity, .. } => format!("{REPLAYED}{identity}"),
            Self::ToSource { topic_id, partition, .. } => {
                format!("{TO_SOURCE}{topic_id}/{partition}")
            }
        }
    }

    /// Returns the record's value; `None` revokes the key's action.
    pub fn value(&self) -> Option<String> {
        match self {
            Self::Reopened { .. } | Self::Unlocked { .. } => None,
            Self::Dismissed { .. }
            | Self::Released { .. }
            | Self::Lock { .. }
            | Self::ReplayedToSource { .. }
            | Self::ToSource { .. } => serde_json::to_string(self).ok(),
        }
    }

    /// Reads a record; `None` if it is not a known action.
    pub fn parse(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let key = str::from_utf8(key).ok()?;
        let fields = |value| serde_json::from_slice::<Fields>(value).ok();
        if let Some(identity) = key.strip_prefix(DISMISSED) {
            let identity = identity.parse().ok()?;
            let Some(value) = value else { return Some(Self::Reopened { identity }) };
            let Fields { reason, at_ms, by, .. } = fields(value)?;
            Some(Self::Dismissed { identity, reason: reason?, at_ms: at_ms?, by: by? })
        } else if let Some(run) = key.strip_prefix(LOCK) {
            let run = run.parse().ok()?;
            let Some(value) = value else { return Some(Self::Unlocked { run }) };
            let Fields { claim, at_ms, by, .. } = fields(value)?;
            Some(Self::Lock { run, claim, at_ms: at_ms?, by: by? })
        } else if let Some(identity) = key.strip_prefix(REPLAYED) {
            let at_ms = fields(value?)?.at_ms?;
            Some(Self::ReplayedToSource { identity: identity.parse().ok()?, at_ms })
        } else if let Some(source) = key.strip_prefix(TO_SOURCE) {
            let (topic_id, partition) = source.split_once('/')?;
            let (topic_id, partition) = (topic_id.parse().ok()?, partition.parse().ok()?);
            Some(Self::ToSource { topic_id, partition, from: fields(value?)?.from? })
        } else if key == RELEASE {
            let Fields { at_ms, by, .. } = fields(value?)?;
            Some(Self::Released { at_ms: at_ms?, by: by? })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Uuid = Uuid::from_u128(0xabc);

    fn identity() -> Identity {
        Identity {
            topic_id: Uuid::from_u128(7),
            partition: 2,
            offset: 41,
            group: "our/group".into(),
            replay_count: 1,
        }
    }

    fn check(action: &Action, key: &str, value: Option<&str>) {
        assert_eq!((action.key().as_str(), action.value().as_deref()), (key, value));
        assert_eq!(Action::parse(key.as_bytes(), value.map(str::as_bytes)).as_ref(), Some(action));
    }

    #[test]
    fn every_action_has_its_key_and_value_and_is_read_back() {
        let by = || "kim@night".to_owned();
        check(
            &Action::Dismissed {
                identity: identity(),
                reason: "a \"test\"".into(),
                at_ms: 5,
                by: by(),
            },
            "dismissed/00000000-0000-0000-0000-000000000007/2/41/1/our/group",
            Some(r#"{"reason":"a \"test\"","at_ms":5,"by":"kim@night"}"#),
        );
        check(
            &Action::Reopened { identity: identity() },
            "dismissed/00000000-0000-0000-0000-000000000007/2/41/1/our/group",
            None,
        );
        check(
            &Action::Released { at_ms: 6, by: by() },
            "release",
            Some(r#"{"at_ms":6,"by":"kim@night"}"#),
        );
        check(
            &Action::Lock { run: RUN, claim: None, at_ms: 7, by: by() },
            "lock/00000000-0000-0000-0000-000000000abc",
            Some(r#"{"claim":null,"at_ms":7,"by":"kim@night"}"#),
        );
        check(
            &Action::Lock { run: RUN, claim: Some(12), at_ms: 8, by: by() },
            "lock/00000000-0000-0000-0000-000000000abc",
            Some(r#"{"claim":12,"at_ms":8,"by":"kim@night"}"#),
        );
        check(&Action::Unlocked { run: RUN }, "lock/00000000-0000-0000-0000-000000000abc", None);
        check(
            &Action::ReplayedToSource { identity: identity(), at_ms: 9 },
            "replayed/00000000-0000-0000-0000-000000000007/2/41/1/our/group",
            Some(r#"{"at_ms":9}"#),
        );
        check(
            &Action::ToSource { topic_id: RUN, partition: 3, from: 900 },
            "to-source/00000000-0000-0000-0000-000000000abc/3",
            Some(r#"{"from":900}"#),
        );
    }

    #[test]
    fn unknown_records_are_not_actions() {
        for (key, value) in [
            ("release", None),
            ("release", Some("now")),
            ("release/2", Some("{}")),
            ("lock/1", None),
            ("dismissed/1/2/3", None),
            ("to-source/x/1", Some(r#"{"from":1}"#)),
            ("to-source/00000000-0000-0000-0000-000000000abc/3", None),
            ("", None),
        ] {
            assert_eq!(Action::parse(key.as_bytes(), value.map(str::as_bytes)), None, "{key}");
        }
        assert_eq!(Action::parse(b"\xff", None), None);
        let later = br#"{"at_ms":1,"by":"x","why":"a field of a later version"}"#;
        assert_eq!(
            Action::parse(b"release", Some(later)),
            Some(Action::Released { at_ms: 1, by: "x".into() })
        );
    }
}
