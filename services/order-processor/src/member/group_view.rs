//! What a session reads of the cluster while it works.

use kafka_client::cluster::Cluster;
use kafka_client::error::ClientError;
use kafka_client::offsets::{Found, OffsetAt, list_offsets};
use kafka_core::TopicPartition;

use crate::settings::ProcessorSettings;
use crate::telemetry::group_snapshot::GroupSnapshot;

/// The group's committed numbers, and the ends of the member's own logs.
pub(super) struct Viewed {
    pub(super) group: Result<GroupSnapshot, ClientError>,
    pub(super) log_ends: Result<Found<i64>, ClientError>,
}

impl Viewed {
    pub(super) async fn read(
        cluster: &Cluster,
        settings: &ProcessorSettings,
        own: &[TopicPartition],
    ) -> Self {
        let (group, log_ends) = tokio::join!(
            GroupSnapshot::read(cluster, settings),
            list_offsets(cluster, own, OffsetAt::LastStable),
        );
        Self { group, log_ends }
    }
}
