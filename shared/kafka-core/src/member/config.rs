//! What a member is configured with.

use std::sync::Arc;
use std::time::Duration;

use crate::assignor::Assignor;

/// The configuration of a member and its group.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// The id of the consumer group (`group.id`).
    pub group_id: String,
    /// The topics that this member subscribes to.
    pub topics: Vec<Arc<str>>,
    /// The one assignor that this member offers.
    pub assignor: Assignor,
    /// The `group.instance.id` of a static member (KIP-345); `None` for a dynamic one.
    pub instance_id: Option<String>,
    /// How long the coordinator waits for a heartbeat before it removes the member.
    pub session_timeout: Duration,
    /// How long the coordinator waits in a rebalance for this member to join; longer than any drain.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats; at most a third of the session timeout.
    pub heartbeat_interval: Duration,
}
