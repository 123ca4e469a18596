//! One record of the control topic.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of values that name none.
const VERSION: u32 = 1;
/// Longest key and longest value that are read, in bytes.
const BYTES_MAX: usize = 4096;

/// A kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The services that produce orders.
    Generator,
    /// The services that process them.
    Processor,
}

impl Role {
    /// Returns the Kafka client id of services of this role.
    pub const fn client_id(self) -> &'static str {
        match self {
            Self::Generator => "order-generator",
            Self::Processor => "order-processor",
        }
    }
}

/// Whether a service works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The service works; without a command all services do.
    #[default]
    Running,
    /// The service begins nothing.
    Paused,
}

/// The desired state of all services of a role. The default is to run, without a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The desired state.
    pub state: RunState,
    /// The id of the command; reports name it. Absent where there was no command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Since when, in milliseconds since 1970, by the operator's clock.
    #[serde(rename = "at", with = "time_text", default)]
    pub at_ms: Option<i64>,
    /// The operator.
    pub by: Option<String>,
}

/// The state of one instance, as it reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Its state. An instance that is paused has no work in flight, and everything is committed.
    pub state: RunState,
    /// The id of the command that it follows; absent before it has read one, and where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Since when, in milliseconds since 1970, by its own clock.
    #[serde(rename = "since", with = "time_text", default)]
    pub since_ms: Option<i64>,
    /// Its id as a member of the consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A command to a role; `None` deletes the command, and stands for one that cannot be read.
    Desired(Role, Option<Desired>),
    /// A report of an instance; `None` where the instance has ended.
    Instance {
        /// The kind of service that reports.
        role: Role,
        /// Its name, unique within the role.
        name: String,
        /// The state; `None` deletes the earlier report.
        report: Option<InstanceReport>,
    },
}

/// A field that every value may have.
#[derive(Deserialize)]
struct Versioned {
    #[serde(default = "this_version")]
    version: u32,
}

impl Role {
    /// Both roles.
    pub const ALL: [Self; 2] = [Self::Generator, Self::Processor];

    /// Returns the name with which keys begin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Processor => "processor",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RunState {
    /// Returns the name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Entry {
    /// Returns the record's key.
    pub fn key(&self) -> String {
        match self {
            Self::Desired(role, _) => role.as_str().to_owned(),
            Self::Instance { role, name, .. } => format!("{role}/{name}"),
        }
    }

    /// Returns the record's value; `None` deletes the key.
    pub fn value(&self) -> Option<String> {
        match self {
            Self::Desired(_, desired) => json(desired.as_ref()?),
            Self::Instance { report, .. } => json(report.as_ref()?),
        }
    }

    /// Reads a record; `None` where this version does not know it.
    ///
    /// A command that cannot be read deletes the one before it, as compaction does: every service has to find the same
    /// command, whenever it reads the topic.
    pub fn parse(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let key = Some(key).filter(|key| key.len() <= BYTES_MAX)?;
        let key = str::from_utf8(key).ok()?;
        match key.split_once('/') {
            None => Some(Self::Desired(Role::named(key)?, value.and_then(from_json))),
            Some((role, name)) => {
                let (role, name) = (Role::named(role)?, name.to_owned());
                let report = match value {
                    Some(value) => Some(from_json(value)?),
                    None => None,
                };
                Some(Self::Instance { role, name, report })
            }
        }
    }
}

fn this_version() -> u32 {
    VERSION
}

fn json(value: &impl Serialize) -> Option<String> {
    // Texts and numbers can always be written.
    serde_json::to_string(value).ok()
}

fn from_json<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    let value = Some(value).filter(|value| value.len() <= BYTES_MAX)?;
    let Versioned { version } = serde_json::from_slice(value).ok()?;
    if version != VERSION {
        return None;
    }
    serde_json::from_slice(value).ok()
}

/// Times in RFC 3339, UTC, with milliseconds; null where there is none, or it is beyond the calendar.
mod time_text {
    use chrono::{DateTime, SecondsFormat};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde's interface")]
    pub(super) fn serialize<S: Serializer>(ms: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
        let time = ms.and_then(DateTime::from_timestamp_millis);
        time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)).serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<i64>, D::Error> {
        let time = Option::<String>::deserialize(from)?;
        let time = time.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
        Ok(time.map(|time| time.timestamp_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_its_key_and_value_and_is_read_back() {
        let desired = |state| Desired {
            id: Some("0a".to_owned()),
            state,
            at_ms: Some(1_795_267_881_310),
            by: Some("kim@night".to_owned()),
        };
        check(
            &Entry::Desired(Role::Processor, Some(desired(RunState::Paused))),
            "processor",
            Some(
                r#"{"state":"paused","id":"0a","at":"2026-11-21T13:31:21.310Z","by":"kim@night"}"#,
            ),
        );
        check(
            &Entry::Desired(Role::Generator, Some(desired(RunState::Running))),
            "generator",
            Some(
                r#"{"state":"running","id":"0a","at":"2026-11-21T13:31:21.310Z","by":"kim@night"}"#,
            ),
        );
        check(&Entry::Desired(Role::Generator, None), "generator", None);
        let name = || "night/7-0a".to_owned();
        let report = |command: Option<&str>, member_id| InstanceReport {
            state: RunState::Running,
            command: command.map(str::to_owned),
            since_ms: Some(1_795_267_881_310),
            member_id,
        };
        let instance = |report| Entry::Instance { role: Role::Processor, name: name(), report };
        check(
            &instance(Some(report(Some("0a"), Some("order-processor-1".to_owned())))),
            "processor/night/7-0a",
            Some(
                r#"{"state":"running","command":"0a","since":"2026-11-21T13:31:21.310Z","member_id":"order-processor-1"}"#,
            ),
        );
        check(
            &instance(Some(report(None, None))),
            "processor/night/7-0a",
            Some(r#"{"state":"running","since":"2026-11-21T13:31:21.310Z"}"#),
        );
        check(&instance(None), "processor/night/7-0a", None);
    }

    #[test]
    fn a_command_written_by_hand_needs_only_the_state() {
        let paused = Desired { state: RunState::Paused, ..Desired::default() };
        for value in [
            r#"{"state":"paused"}"#,
            r#"{"state":"paused","at":"soon","by":null,"why":"a field of a later version"}"#,
            r#"{"version":1,"state":"paused"}"#,
        ] {
            let entry = Entry::parse(b"processor", Some(value.as_bytes()));
            assert_eq!(entry, Some(Entry::Desired(Role::Processor, Some(paused.clone()))));
        }
    }

    #[test]
    fn a_command_that_cannot_be_read_deletes_the_one_before_it() {
        for value in [
            "paused",
            "",
            r#"{"state":"resting"}"#,
            r#"{"by":"kim"}"#,
            r#"{"version":2,"state":"paused"}"#,
            &long(),
        ] {
            let entry = Entry::parse(b"processor", Some(value.as_bytes()));
            assert_eq!(entry, Some(Entry::Desired(Role::Processor, None)), "{value}");
        }
    }

    #[test]
    fn unknown_records_are_skipped() {
        let long = long();
        for (key, value) in [
            ("processor/1", r#"{"version":"two","state":"paused"}"#),
            ("processor/1", r#"{"state":"resting"}"#),
            ("processor/1", long.as_str()),
            ("Processor", r#"{"state":"paused"}"#),
            ("dashboard", r#"{"state":"paused"}"#),
            ("dashboard/1", r#"{"state":"paused"}"#),
            ("", "{}"),
        ] {
            assert_eq!(Entry::parse(key.as_bytes(), Some(value.as_bytes())), None, "{key} {value}");
        }
        assert_eq!(Entry::parse(b"processor\xff", None), None);
        assert_eq!(Entry::parse(long.as_bytes(), None), None);
    }

    /// Returns a value that is too long to be read.
    fn long() -> String {
        format!(r#"{{"state":"paused","by":"{}"}}"#, "x".repeat(BYTES_MAX))
    }

    fn check(entry: &Entry, key: &str, value: Option<&str>) {
        assert_eq!((entry.key().as_str(), entry.value().as_deref()), (key, value));
        assert_eq!(Entry::parse(key.as_bytes(), value.map(str::as_bytes)).as_ref(), Some(entry));
    }
}
