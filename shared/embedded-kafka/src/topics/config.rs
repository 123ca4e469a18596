//! Topic configurations: names, types and defaults.
//!
//! Names and defaults are those of Apache Kafka 4.3, <https://kafka.apache.org/documentation/#topicconfigs>. The broker
//! accepts and describes all of them; only `max.message.bytes`, `retention.bytes`, `cleanup.policy` and `min.insync.replicas` have an
//! effect.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use crate::log::limits::LogLimits;
use crate::refusal::Refusal;

/// The value type of a configuration, with its code in `DescribeConfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigType {
    /// `true` or `false`.
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

impl ConfigType {
    /// Returns the code `DescribeConfigs` uses.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Boolean => {
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
            }
            Self::String | Self::List => true,
            Self::Int => value.parse::<i32>().is_ok(),
            Self::Long => value.parse::<i64>().is_ok(),
            Self::Double => value.parse::<f64>().is_ok(),
        }
    }
}

/// A configuration of topics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownConfig {
    pub(crate) name: &'static str,
    pub(crate) kind: ConfigType,
    /// The value for topics that do not set it.
    pub(crate) default: &'static str,
}

const fn known(name: &'static str, kind: ConfigType, default: &'static str) -> KnownConfig {
    KnownConfig { name, kind, default }
}

const CLEANUP_POLICY: &str = "cleanup.policy";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const RETENTION_BYTES: &str = "retention.bytes";
/// The default of `max.message.bytes`.
pub(crate) const MAX_MESSAGE_BYTES_DEFAULT: &str = "1048588";
const LONGEST: &str = "9223372036854775807";

/// Every configuration of topics, by name.
pub(crate) const KNOWN_CONFIGS: &[KnownConfig] = &[
    known(CLEANUP_POLICY, ConfigType::List, "delete"),
    known("compression.gzip.level", ConfigType::Int, "-1"),
    known("compression.lz4.level", ConfigType::Int, "9"),
    known("compression.type", ConfigType::String, "producer"),
    known("compression.zstd.level", ConfigType::Int, "3"),
    known("delete.retention.ms", ConfigType::Long, "86400000"),
    known("file.delete.delay.ms", ConfigType::Long, "60000"),
    known("flush.messages", ConfigType::Long, LONGEST),
    known("flush.ms", ConfigType::Long, LONGEST),
    known("follower.replication.throttled.replicas", ConfigType::List, ""),
    known("index.interval.bytes", ConfigType::Int, "4096"),
    known("leader.replication.throttled.replicas", ConfigType::List, ""),
    known("local.retention.bytes", ConfigType::Long, "-2"),
    known("local.retention.ms", ConfigType::Long, "-2"),
    known("max.compaction.lag.ms", ConfigType::Long, LONGEST),
    known(MAX_MESSAGE_BYTES, ConfigType::Int, MAX_MESSAGE_BYTES_DEFAULT),
    known("message.timestamp.after.max.ms", ConfigType::Long, "3600000"),
    known("message.timestamp.before.max.ms", ConfigType::Long, LONGEST),
    known("message.timestamp.type", ConfigType::String, "CreateTime"),
    known("min.cleanable.dirty.ratio", ConfigType::Double, "0.5"),
    known("min.compaction.lag.ms", ConfigType::Long, "0"),
    known(MIN_INSYNC_REPLICAS, ConfigType::Int, "1"),
    known("preallocate", ConfigType::Boolean, "false"),
    known("remote.log.copy.disable", ConfigType::Boolean, "false"),
    known("remote.log.delete.on.disable", ConfigType::Boolean, "false"),
    known("remote.storage.enable", ConfigType::Boolean, "false"),
    known(RETENTION_BYTES, ConfigType::Long, "-1"),
    known("retention.ms", ConfigType::Long, "604800000"),
    known("segment.bytes", ConfigType::Int, "1073741824"),
    known("segment.index.bytes", ConfigType::Int, "10485760"),
    known("segment.jitter.ms", ConfigType::Long, "0"),
    known("segment.ms", ConfigType::Long, "604800000"),
    known("unclean.leader.election.enable", ConfigType::Boolean, "false"),
];

/// The configuration of a topic, over the broker's default of `retention.bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    overrides: BTreeMap<String, String>,
    retention_bytes_default: Option<usize>,
}

impl TopicConfig {
    /// Creates an empty configuration with a default of `retention.bytes`.
    pub(crate) fn with_retention_default(retention_bytes: Option<usize>) -> Self {
        Self { overrides: BTreeMap::new(), retention_bytes_default: retention_bytes }
    }

    /// Sets one configuration.
    ///
    /// # Errors
    /// `INVALID_CONFIG` for an unknown name, a missing value, or a value of another type.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Refusal> {
        let known = find(name)?;
        let Some(value) = value else {
            return Err(invalid(format!("Null value not supported for topic configs: {name}")));
        };
        if !known.kind.accepts(value) || !is_legal(name, value) {
            return Err(invalid(format!("Invalid value {value} for configuration {name}")));
        }
        self.overrides.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Returns the value that the topic sets.
    pub(crate) fn overridden(&self, name: &str) -> Option<&str> {
        self.overrides.get(name).map(String::as_str)
    }

    /// Returns the value for a topic that sets none.
    pub(crate) fn default_of(&self, known: &KnownConfig) -> String {
        match self.retention_bytes_default {
            Some(bytes) if known.name == RETENTION_BYTES => bytes.to_string(),
            Some(_) | None => known.default.to_owned(),
        }
    }

    /// Returns whether records may be deleted, rather than only compacted.
    pub(crate) fn allows_deletion(&self) -> bool {
        self.overridden(CLEANUP_POLICY).is_none_or(|policy| has_policy(policy, "delete"))
    }

    /// Returns `min.insync.replicas` if the topic sets it.
    pub(crate) fn min_insync_replicas(&self) -> Option<usize> {
        self.overridden(MIN_INSYNC_REPLICAS)?.parse().ok()
    }

    /// Returns the limits of the topic's logs.
    pub(crate) fn limits(&self) -> LogLimits {
        let batch_bytes = self.overridden(MAX_MESSAGE_BYTES).unwrap_or(MAX_MESSAGE_BYTES_DEFAULT);
        let retention_bytes = match self.overridden(RETENTION_BYTES) {
            // A negative size means unlimited.
            Some(bytes) => bytes.parse().ok(),
            None => self.retention_bytes_default,
        };
        LogLimits {
            batch_bytes_max: batch_bytes.parse().unwrap_or(0),
            retention_bytes: retention_bytes.filter(|_| self.allows_deletion()),
            compacted: self
                .overridden(CLEANUP_POLICY)
                .is_some_and(|policy| has_policy(policy, "compact")),
        }
    }
}

fn find(name: &str) -> Result<&'static KnownConfig, Refusal> {
    KNOWN_CONFIGS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| invalid(format!("Unknown topic config name: {name}")))
}

fn is_legal(name: &str, value: &str) -> bool {
    match name {
        CLEANUP_POLICY => {
            value.split(',').all(|policy| matches!(policy.trim(), "delete" | "compact"))
        }
        MAX_MESSAGE_BYTES => value.parse::<u32>().is_ok(),
        "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
        "compression.type" => {
            matches!(value, "uncompressed" | "zstd" | "lz4" | "snappy" | "gzip" | "producer")
        }
        _ => true,
    }
}

fn has_policy(policies: &str, wanted: &str) -> bool {
    policies.split(',').any(|policy| policy.trim() == wanted)
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ResponseError::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_has_kafkas_limits() {
        let limits = TopicConfig::default().limits();
        assert_eq!(
            limits,
            LogLimits { batch_bytes_max: 1_048_588, retention_bytes: None, compacted: false }
        );
    }

    #[test]
    fn set_values_change_the_limits() {
        let mut config = TopicConfig::with_retention_default(Some(1000));
        assert_eq!(config.limits().retention_bytes, Some(1000));
        for (name, value) in [
            ("retention.bytes", "-1"),
            ("max.message.bytes", "77"),
            ("cleanup.policy", "compact,delete"),
        ] {
            config.set(name, Some(value)).unwrap();
        }
        let expected = LogLimits { batch_bytes_max: 77, retention_bytes: None, compacted: true };
        assert_eq!(config.limits(), expected);
    }

    #[test]
    fn a_compacted_topic_is_never_truncated_by_size() {
        let mut config = TopicConfig::with_retention_default(Some(1000));
        config.set("cleanup.policy", Some("compact")).unwrap();
        assert_eq!(config.limits().retention_bytes, None);
        assert!(!config.allows_deletion());
    }

    #[test]
    fn unknown_names_and_ill_typed_values_are_refused() {
        for (name, value) in [
            ("max.messages", Some("1")),
            ("max.message.bytes", Some("many")),
            ("max.message.bytes", Some("-1")),
            ("max.message.bytes", None),
            ("cleanup.policy", Some("shred")),
            ("preallocate", Some("yes")),
        ] {
            let refusal = TopicConfig::default().set(name, value).unwrap_err();
            assert_eq!(refusal.error, ResponseError::InvalidConfig, "{name}={value:?}");
        }
    }
}
