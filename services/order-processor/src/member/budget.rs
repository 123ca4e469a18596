//! The longest checkpoint that the coordinator stores: by the settings, by its configuration, or by its refusals.

use kafka_client::cluster::Cluster;
use kafka_client::configs::coordinator_config;
use kafka_client::error::{ClientError, chain};
use kafka_client::retry::until_ok;
use order_ledger::checkpoint::{
    Capacity, CapacityError, METADATA_CHARS_DEFAULT, METADATA_CHARS_MAX, METADATA_CHARS_MIN,
};
use service_runtime::{Check, Waiting};

use crate::settings::ProcessorSettings;

/// The broker's name of the limit.
const CONFIG: &str = "offset.metadata.max.bytes";

/// The longest checkpoint that may be, and the longest that the coordinator has taken.
#[derive(Debug)]
pub(super) struct Budget {
    capacity: Capacity,
    accepted_chars: usize,
}

/// The coordinator stores fewer characters beside an offset than a checkpoint needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the coordinator stores fewer than {chars} characters beside an offset, and a checkpoint needs {METADATA_CHARS_MIN}: \
     raise the brokers' {CONFIG}"
)]
pub(super) struct TooNarrow {
    chars: usize,
}

/// Asks the coordinator how much it stores beside a committed offset, unless the settings say it.
///
/// # Errors
/// When a checkpoint does not fit in it.
pub(crate) async fn ask(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    check: &Check,
) -> Result<Capacity, CapacityError> {
    if let Some(chars) = settings.commit.metadata_chars {
        return Capacity::for_metadata(chars);
    }
    let mut waiting = Waiting::new("the group's coordinator", check);
    let group_id = settings.group.group_id.as_str();
    let value = until_ok(
        || coordinator_config(cluster, group_id, CONFIG),
        |error| waiting.goes_on(chain(error)),
    );
    let value = value.await;
    waiting.over();
    Capacity::for_metadata(chars(value))
}

/// Returns the length of checkpoints for a limit of the coordinator; the brokers' default if it is unknown.
fn chars(value: Result<Option<String>, ClientError>) -> usize {
    let (value, error) = match value {
        Ok(value) => (value.and_then(|text| text.parse().ok()), None),
        Err(error) => (None, Some(chain(&error))),
    };
    let Some(chars) = value else {
        tracing::info!(
            assumed = METADATA_CHARS_DEFAULT,
            error,
            "the coordinator does not report its {CONFIG}; OFFSET_METADATA_MAX_BYTES can set it"
        );
        return METADATA_CHARS_DEFAULT;
    };
    if chars != METADATA_CHARS_DEFAULT {
        tracing::info!(chars, "the coordinator stores so many characters beside an offset");
    }
    METADATA_CHARS_MAX.min(chars)
}

impl Budget {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, accepted_chars: 0 }
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Notes the length of a checkpoint that the coordinator has taken.
    pub(super) fn accepted(&mut self, chars: usize) {
        self.accepted_chars = self.accepted_chars.max(chars);
    }

    /// Notes the length of a checkpoint that was too long for the coordinator: later ones are at most as long as the longest
    /// that it took.
    ///
    /// # Errors
    /// When a checkpoint cannot be that short.
    pub(super) fn refused(&mut self, chars: usize) -> Result<(), TooNarrow> {
        if chars <= self.accepted_chars {
            // It is another coordinator.
            self.accepted_chars = 0;
        }
        let narrower = self.accepted_chars.max(METADATA_CHARS_MIN);
        if narrower >= chars {
            return Err(TooNarrow { chars });
        }
        if let Ok(capacity) = Capacity::for_metadata(narrower.min(self.capacity.chars())) {
            self.capacity = capacity;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn what_the_coordinator_tells_is_used_and_the_default_where_it_does_not() {
        for (value, expected) in [
            (Ok(Some("2048")), 2_048),
            (Ok(Some("4096")), METADATA_CHARS_DEFAULT),
            (Ok(Some("1048576")), METADATA_CHARS_MAX),
            (Ok(Some("many")), METADATA_CHARS_DEFAULT),
            (Ok(None), METADATA_CHARS_DEFAULT),
            (Err(ResponseError::ClusterAuthorizationFailed), METADATA_CHARS_DEFAULT),
        ] {
            let value = value
                .map(|text| text.map(str::to_owned))
                .map_err(|error| ClientError::Refused { what: "tell".to_owned(), error });
            assert_eq!(chars(value), expected);
        }
    }

    #[test]
    fn a_refusal_shortens_checkpoints_to_what_was_taken() {
        let mut budget = Budget::new(Capacity::DEFAULT);
        budget.accepted(2_500);
        budget.accepted(800);
        budget.refused(3_000).unwrap();
        assert_eq!(budget.capacity().chars(), 2_500);
        // One that was begun before.
        budget.refused(3_500).unwrap();
        assert_eq!(budget.capacity().chars(), 2_500);
        // Another broker coordinates the group.
        budget.refused(2_400).unwrap();
        assert_eq!(budget.capacity().chars(), METADATA_CHARS_MIN);
    }

    #[test]
    fn a_coordinator_that_stores_too_little_for_any_checkpoint_is_named() {
        let mut budget = Budget::new(Capacity::DEFAULT);
        let error = budget.refused(700).unwrap_err().to_string();
        assert!(error.contains("fewer than 700") && error.contains(CONFIG), "{error}");
    }
}
