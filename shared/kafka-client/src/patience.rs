//! Waiting for a cluster that is not there yet.

use std::time::Duration;

use tokio::time::sleep;

use crate::error::ClientError;

/// Pause before the cluster is tried again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Repeats `call` until the cluster answers it, however long that takes; `in_vain` is told of every attempt before that.
///
/// # Errors
/// A [`ClientError`] that no later attempt could heal.
///
/// # Cancel safety
/// As that of `call`.
pub async fn until_reached<T, F>(
    mut call: impl FnMut() -> F + Send,
    mut in_vain: impl FnMut(&ClientError) + Send,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>> + Send,
{
    let mut backoff = BACKOFF.0;
    loop {
        match call().await {
            Err(error) if error.is_retriable() => in_vain(&error),
            outcome => return outcome,
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use kafka_protocol::ResponseError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_time_heals_is_tried_again_and_told_each_time() {
        let mut answers = vec![
            Ok(7),
            Err(refused(ResponseError::NotController)),
            Err(refused(ResponseError::LeaderNotAvailable)),
        ];
        let mut told = Vec::new();

        let reached =
            until_reached(|| ready(answers.pop().unwrap()), |error| told.push(error.to_string()))
                .await;

        assert_eq!(reached.unwrap(), 7);
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_does_not_heal_is_returned_at_once() {
        let mut calls = 0;
        let call = || {
            calls += 1;
            ready(Err::<(), _>(refused(ResponseError::TopicAuthorizationFailed)))
        };

        let reached = until_reached(call, |error| panic!("{error}")).await;

        assert!(matches!(reached, Err(ClientError::Refused { .. })), "{reached:?}");
        assert_eq!(calls, 1);
    }

    fn refused(error: ResponseError) -> ClientError {
        ClientError::refused("do it", error)
    }
}
