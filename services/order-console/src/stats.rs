//! The numbers of a group, from what it has committed.

use order_ledger::aggregate::{Aggregate, Micros};
use order_ledger::checkpoint::PartitionState;
use serde::Serialize;
use utoipa::ToSchema;

use crate::group_snapshot::GroupSnapshot;

/// The group's numbers at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GroupStats {
    #[serde(flatten)]
    pub(crate) numbers: Numbers,
    /// The exact sum of the prices, a decimal number with at most six places.
    pub(crate) sum: String,
    /// Records between the committed offsets and the ends of the logs; `None` while that of one partition is unknown.
    pub(crate) lag: Option<i64>,
    /// Whether the numbers cover everything below the committed offsets that the logs still hold, and nothing else.
    pub(crate) complete: bool,
    pub(crate) partitions: Vec<PartitionStats>,
    /// Orders and dead letters.
    #[serde(skip)]
    pub(crate) records: u64,
}

/// The numbers of one partition.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartitionStats {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    #[serde(flatten)]
    pub(crate) numbers: Numbers,
    pub(crate) sum: String,
    /// `None` while it is unknown.
    pub(crate) lag: Option<i64>,
    pub(crate) complete: bool,
    /// The first offset that the numbers cover; `None` before the first commit.
    pub(crate) since: Option<i64>,
    /// How many offsets the log has lost after they were counted.
    pub(crate) truncated: u64,
    pub(crate) committed_offset: Option<i64>,
    /// `None` while it is unknown.
    pub(crate) log_end: Option<i64>,
    /// Records that wait for a retry, or behind one.
    #[serde(skip)]
    pub(crate) waiting: u64,
}

/// The numbers of an aggregate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Numbers {
    /// Orders that were processed.
    pub(crate) orders: u64,
    pub(crate) average: Option<f64>,
    /// Of the latest 100 orders.
    pub(crate) recent_average: Option<f64>,
    pub(crate) min: Option<f32>,
    pub(crate) max: Option<f32>,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) replayed: u64,
}

impl Numbers {
    pub(crate) fn of(aggregate: &Aggregate) -> Self {
        Self {
            orders: aggregate.orders(),
            average: aggregate.average().map(Micros::as_f64),
            recent_average: aggregate.recent_average().map(Micros::as_f64),
            min: aggregate.min(),
            max: aggregate.max(),
            retries: aggregate.retries(),
            dead_letters: aggregate.dead_letters(),
            replayed: aggregate.replayed(),
        }
    }
}

impl GroupStats {
    pub(crate) fn of(snapshot: &GroupSnapshot) -> Self {
        let mut group = Aggregate::default();
        let mut partitions = Vec::new();
        for tp in snapshot.partitions() {
            let state = snapshot.states.get(&tp);
            let aggregate = state.map(|state| state.aggregate().clone()).unwrap_or_default();
            group.merge(&aggregate);
            let waiting = state.map_or(0, PartitionState::incomplete);
            partitions.push(PartitionStats {
                topic: tp.topic.to_string(),
                partition: tp.partition,
                numbers: Numbers::of(&aggregate),
                sum: aggregate.sum().to_string(),
                lag: snapshot.lag(&tp),
                complete: snapshot.is_complete(&tp, state),
                since: state.map(PartitionState::since),
                truncated: state.map_or(0, PartitionState::truncated),
                committed_offset: snapshot.committed_offset(&tp),
                log_end: snapshot.log_ends.get(&tp).copied(),
                waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            });
        }
        Self {
            numbers: Numbers::of(&group),
            sum: group.sum().to_string(),
            lag: snapshot.total_lag(),
            complete: partitions.iter().all(|partition| partition.complete),
            partitions,
            records: group.records(),
        }
    }
}
