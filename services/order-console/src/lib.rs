//! What operators look and steer with.
//!
//! Reading order: [`stats`] reads a group's checkpoints, and [`control`] pauses and resumes its replicas and the
//! generators. [`dlq`] works on dead letters. `group_snapshot` is what the cluster says of the group at one moment, and
//! `view` what people look at: it is shown by [`dashboard`] and [`top`].

pub mod control;
pub mod dashboard;
pub mod dlq;
pub mod settings;
pub mod stats;
pub mod top;

mod group_snapshot;
mod output;
mod replay;
mod view;
