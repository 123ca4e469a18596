//! The APIs of the broker, one file per group of them, each a translation between messages and [`crate::state::State`].
//!
//! Message schemas: <https://kafka.apache.org/protocol>. `versions` says which versions are served.

pub(crate) mod configs;
pub(crate) mod create_topics;
pub(crate) mod describe_groups;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod group_membership;
pub(crate) mod group_offsets;
pub(crate) mod leader_epochs;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod request;
pub(crate) mod versions;
