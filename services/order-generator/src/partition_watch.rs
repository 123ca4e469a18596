//! The watch for new partitions of the topic.

use std::num::NonZeroU32;
use std::time::Duration;

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::chain;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info};

/// Reads the topic's metadata every `interval`, and updates `partitions` when the topic has more. It never returns.
///
/// It ignores failed reads, because the senders report outages. A topic with fewer partitions is a new topic of the same
/// name: orders for its missing partitions wait.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn watch(
    cluster: Cluster,
    topic: String,
    interval: Duration,
    partitions: watch::Sender<NonZeroU32>,
) {
    loop {
        sleep(interval).await;
        let described = match cluster.metadata(&[&topic]).await {
            Ok(described) => described,
            Err(error) => {
                debug!(topic, "cannot read the topic's metadata: {}", chain(&error));
                continue;
            }
        };
        let found = described.get(&topic).map_or(0, TopicMetadata::partition_count);
        let Some(found) = u32::try_from(found).ok().and_then(NonZeroU32::new) else { continue };
        let has_grown = partitions.send_if_modified(|known| {
            let has_grown = *known < found;
            *known = found.max(*known);
            has_grown
        });
        if has_grown {
            info!(topic, partitions = found, "the topic has more partitions");
        }
    }
}
