//! Times as programs read them.

use dead_letter::rfc3339;
use serde::Serialize;
use utoipa::ToSchema;

/// A time in RFC 3339, in UTC, with milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(format = DateTime, pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
pub(crate) struct Time(String);

impl Time {
    pub(crate) fn of(ms: i64) -> Self {
        Self(rfc3339(ms))
    }

    pub(crate) fn to_the_second(&self) -> String {
        format!("{}Z", self.0.get(..19).unwrap_or(&self.0))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
impl From<&str> for Time {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
