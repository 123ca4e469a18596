//! Repeats calls to a cluster that cannot answer yet.

use std::time::Duration;

use pacing::Backoff;
use tokio::time::{Instant, sleep};

use crate::error::ClientError;

/// Pause before the cluster is tried again, at first and at most.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// How long [`while_retriable`] repeats a call.
const RETRIES_MAX_TIME: Duration = Duration::from_secs(15);
/// Pause between two such calls.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Repeats `call` until it succeeds, however long that takes; `on_retry` gets each retriable error.
///
/// # Errors
/// The first [`ClientError`] that is not retriable.
///
/// # Cancel safety
/// As that of `call`.
pub async fn until_ok<T, F>(
    mut call: impl FnMut() -> F + Send,
    mut on_retry: impl FnMut(&ClientError) + Send,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>> + Send,
{
    let mut backoff = BACKOFF;
    loop {
        match call().await {
            Err(error) if error.is_retriable() => on_retry(&error),
            outcome => return outcome,
        }
        backoff.wait().await;
    }
}

/// Repeats `call` for 15 s while the cluster answers it with a retriable error. A cluster that cannot be reached is an
/// error at once: operators wait for the result.
///
/// # Errors
/// The error of the last call.
///
/// # Cancel safety
/// As that of `call`.
pub async fn while_retriable<T, F>(mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let deadline = Instant::now() + RETRIES_MAX_TIME;
    loop {
        match call().await {
            Err(error @ (ClientError::Refused { .. } | ClientError::Partition { .. }))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                sleep(RETRY_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use kafka_protocol::ResponseError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_time_heals_is_tried_again_and_errors_each_time() {
        let mut answers = vec![
            Ok(7),
            Err(refused(ResponseError::NotController)),
            Err(refused(ResponseError::LeaderNotAvailable)),
        ];
        let mut errors = Vec::new();

        let reached =
            until_ok(|| ready(answers.pop().unwrap()), |error| errors.push(error.to_string()))
                .await;

        assert_eq!(reached.unwrap(), 7);
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_does_not_heal_is_returned_at_once() {
        let mut calls = 0;
        let call = || {
            calls += 1;
            ready(Err::<(), _>(refused(ResponseError::TopicAuthorizationFailed)))
        };

        let reached = until_ok(call, |error| panic!("{error}")).await;

        assert!(matches!(reached, Err(ClientError::Refused { .. })), "{reached:?}");
        assert_eq!(calls, 1);
    }

    fn refused(error: ResponseError) -> ClientError {
        ClientError::refused("do it", error)
    }
}
