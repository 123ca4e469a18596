//! Questions to a cluster that may not be able to answer yet.

use std::time::Duration;

use kafka_client::error::ClientError;
use tokio::time::{Instant, sleep};

/// How long a cluster that answers, but not yet with what is asked for, is asked again.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two such questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks again while the cluster answers that it cannot say yet. A cluster that cannot be reached fails at once: whoever
/// runs a command wants to know.
///
/// # Errors
/// The last answer.
pub(crate) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error @ (ClientError::Refused { .. } | ClientError::Partition { .. }))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}
