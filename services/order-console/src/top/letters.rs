//! The dead letters as they are shown: by cause, and the newest of one.

use serde::Deserialize;
use serde_json::Value;

/// What [`crate::dlq::board::list`] answers, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Board {
    pub(super) topic: String,
    pub(super) letters: u64,
    pub(super) unresolved: u64,
    pub(super) replayed: u64,
    pub(super) dismissed: u64,
    pub(super) causes: Vec<Cause>,
    pub(super) newest: Vec<Letter>,
}

/// Letters of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Cause {
    #[serde(rename = "type")]
    pub(super) error_type: String,
    pub(super) topic: Option<String>,
    pub(super) letters: u64,
    pub(super) unresolved: u64,
    pub(super) replayed: u64,
    pub(super) dismissed: u64,
    pub(super) last: String,
    pub(super) message: Option<String>,
}

/// One letter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Letter {
    pub(super) place: String,
    pub(super) state: String,
    pub(super) message: Option<String>,
    pub(super) failed_at: String,
    pub(super) attempts: Option<u64>,
    pub(super) replay_count: u64,
    pub(super) order_id: Option<String>,
    pub(super) product: Option<String>,
    pub(super) price: Option<f64>,
}

impl Board {
    /// Reads the answer.
    ///
    /// # Errors
    /// When it is another one.
    pub(super) fn read(answer: Value) -> serde_json::Result<Self> {
        serde_json::from_value(answer)
    }
}
