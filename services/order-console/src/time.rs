//! Times as programs read them.

use std::fmt;

use dead_letter::rfc3339;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A time in RFC 3339, in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
pub(crate) struct Time(i64);

impl Time {
    pub(crate) fn of(ms: i64) -> Self {
        Self(ms)
    }

    /// Returns the time in seconds since 1970.
    pub(crate) fn seconds(self) -> i64 {
        self.0 / 1_000
    }

    pub(crate) fn to_the_second(self) -> String {
        let text = self.to_string();
        format!("{}Z", text.get(..19).unwrap_or(&text))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
impl From<&str> for Time {
    fn from(text: &str) -> Self {
        Self(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
    }
}
