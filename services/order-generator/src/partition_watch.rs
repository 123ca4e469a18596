//! Partitions that are added to the topic while orders are made.

use std::num::NonZeroU32;
use std::time::Duration;

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::chain;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info};

/// Looks at the topic every `interval`, and tells `partitions` when it has more of them. It never ends by itself.
///
/// A topic that cannot be looked at is no news: that no orders can be sent is told by those who send them. A topic with
/// fewer partitions is another one of the same name; what was meant for this one has to wait for it.
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
                debug!(topic, "cannot look at the topic: {}", chain(&error));
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
            info!(topic, partitions = found, "the topic has grown");
        }
    }
}
