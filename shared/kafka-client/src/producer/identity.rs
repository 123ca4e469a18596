//! The producer id of a process.

use std::time::Duration;

use kafka_core::producer::ProducerIdentity;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::InitProducerIdRequest;
use pacing::Backoff;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::error::{ClientError, chain};

/// Pauses between requests for a producer id.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// Of no meaning without a transactional id; the broker checks that it is positive.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

/// Requests a new producer id until a broker gives one; `on_failure` gets each failure.
pub(super) async fn new_producer_id(
    cluster: Cluster,
    on_failure: impl Fn(String) + Send,
) -> ProducerIdentity {
    let mut backoff = BACKOFF;
    loop {
        match request(&cluster).await {
            Ok(identity) => return identity,
            Err(error) => on_failure(chain(&error)),
        }
        sleep(backoff.advance()).await;
    }
}

async fn request(cluster: &Cluster) -> Result<ProducerIdentity, ClientError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
    let response = cluster.call_any(&request).await?;
    match ResponseError::try_from_code(response.error_code) {
        None => Ok(ProducerIdentity { id: response.producer_id.0, epoch: response.producer_epoch }),
        Some(error) => Err(ClientError::refused("give a producer id", error)),
    }
}
