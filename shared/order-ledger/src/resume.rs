//! Where a partition resumes, by its committed offset, its checkpoint and its log.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use crate::checkpoint::{Capacity, CheckpointError, Discarded, PartitionState, Restored};

/// A partition's commit and log, as the cluster describes them.
#[derive(Debug)]
pub struct PartitionInfo<'a> {
    /// The id of the partition's topic.
    pub topic_id: Uuid,
    /// The group's commit, if there is one.
    pub committed: Option<Committed<'a>>,
    /// Topic ids of deleted topics of the same name, as far as they are known.
    pub deleted_ids: &'a BTreeSet<Uuid>,
    /// The log start offset: the first one that the log still has.
    pub log_start: i64,
    /// Where the log's history leaves that of the commit, if it was truncated.
    pub divergence: Option<Divergence>,
    /// The last stable offset, up to which a `read_committed` consumer reads.
    pub log_end: i64,
}

/// A group's commit for one partition.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// The offset of the next record to process.
    pub offset: i64,
    /// The leader epoch of the last record before it, if it was committed.
    pub leader_epoch: Option<i32>,
    /// The metadata of the commit: a checkpoint, or what another client committed; often empty.
    pub metadata: &'a str,
}

/// Where a log's history leaves the one that was read: a leader was elected that lacked records of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first offset whose record was lost or replaced.
    pub offset: i64,
    /// The leader epoch of the last record before it, if it is known.
    pub leader_epoch: Option<i32>,
}

/// Where a group without a committed offset begins (`AUTO_OFFSET_RESET`, as Kafka's `auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end of the log.
    Latest,
    /// Nowhere: without a committed offset resuming fails.
    None,
}

impl fmt::Display for OffsetReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::None => "none",
        })
    }
}

/// What to do about a checkpoint that cannot be read or belongs to another topic of that name
/// (`CHECKPOINT_ON_MISMATCH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMismatch {
    /// Do not process its partition until an operator has decided.
    Stop,
    /// Begin the partition's numbers at zero.
    Reset,
    /// End the process with an error.
    Fail,
}

impl fmt::Display for OnMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Reset => "reset",
            Self::Fail => "fail",
        })
    }
}

/// The settings that decide where a partition resumes.
#[derive(Clone, Copy, Debug)]
pub struct ResumePolicy {
    /// Where to begin without a committed offset.
    pub offset_reset: OffsetReset,
    /// What to do about an unusable checkpoint.
    pub on_mismatch: OnMismatch,
    /// The size limit of checkpoints.
    pub capacity: Capacity,
}

/// Where a partition resumes, and its state there.
#[derive(Debug)]
pub struct ResumePoint {
    /// The offset of the first record to read.
    pub position: i64,
    /// The restored or empty state.
    pub state: PartitionState,
    /// Whether the state differs from the group's commit, so that it should be committed at once.
    pub commit_at_once: bool,
    /// A warning for the operator.
    pub remark: Option<String>,
    /// Whether committed numbers were discarded.
    pub is_reset: bool,
    /// How many offsets were deleted from the log before they were processed.
    pub skipped: u64,
    /// How many offsets the log has lost after they were counted; `None` if it was not truncated.
    pub truncated: Option<u64>,
}

/// Why a partition cannot resume.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The group has no committed offset, and the settings name no offset to begin at.
    #[error("the group has no committed offset in the topic, and AUTO_OFFSET_RESET is none")]
    NoOffset,
    /// The checkpoint is damaged or of an unknown version.
    #[error(
        "the checkpoint of committed offset {offset} cannot be used; CHECKPOINT_ON_MISMATCH=reset discards its numbers"
    )]
    Checkpoint {
        /// The committed offset of the partition.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
    /// The log was truncated, and the settings end the process.
    #[error(
        "the log was truncated at offset {offset}, below the processed records: a leader was elected that lacked them. \
         Without CHECKPOINT_ON_MISMATCH=fail the numbers are kept, and stats marks them incomplete"
    )]
    Truncated {
        /// The first offset whose record was lost or replaced.
        offset: i64,
    },
    /// The commit belongs to another topic of that name.
    #[error(
        "committed offset {offset} belongs to another topic: the checkpoint names topic id {found}, and the topic has \
         {assigned}. It was mirrored, restored from a backup, or created again. CHECKPOINT_ON_MISMATCH=reset starts over \
         at its beginning; to go on at that offset with new numbers, stop the group and run kafka-consumer-groups with \
         --reset-offsets --to-current"
    )]
    OtherTopic {
        /// The committed offset of the partition.
        offset: i64,
        /// The topic id in the checkpoint.
        found: Uuid,
        /// The id of the current topic.
        assigned: Uuid,
    },
}

/// Returns the committed state of a partition, for readers that do not process it.
///
/// # Errors
/// When the checkpoint belongs to another topic or cannot be read.
pub fn read_committed(
    topic_id: Uuid,
    committed: Committed<'_>,
) -> Result<PartitionState, ResumeError> {
    let Committed { offset, metadata, .. } = committed;
    match PartitionState::restore(metadata, topic_id, offset, Capacity::DEFAULT) {
        Ok(Restored { discarded: Some(Discarded::OtherTopic { found, assigned }), .. }) => {
            Err(ResumeError::OtherTopic { offset, found, assigned })
        }
        Ok(restored) => Ok(restored.state),
        Err(source) => Err(ResumeError::Checkpoint { offset, source }),
    }
}

/// Returns the offset up to which a commit covers the log of a topic, and the leader epoch of the last record before
/// it; `None` if the epoch is unknown, or the commit is not of that topic.
pub fn covered(topic_id: Uuid, committed: Committed<'_>) -> Option<(i64, i32)> {
    let mut state = read_committed(topic_id, committed).ok()?;
    note_epoch(&mut state, committed);
    let (end, epoch) = state.end();
    Some((end, epoch?))
}

fn note_epoch(state: &mut PartitionState, committed: Committed<'_>) {
    if let Some(epoch) = committed.leader_epoch {
        state.note_leader_epoch(committed.offset.saturating_sub(1), epoch);
    }
}

/// Decides where a partition resumes. State and position belong together: numbers of another log or another position
/// are discarded with a remark.
///
/// # Errors
/// When the group has no committed offset and the settings give none, or when the settings do not allow to discard the
/// numbers of an unusable checkpoint.
pub fn resolve(
    found: &PartitionInfo<'_>,
    policy: &ResumePolicy,
) -> Result<ResumePoint, ResumeError> {
    let Some(committed) = found.committed else { return fresh(found, policy, None) };
    let restored = PartitionState::restore(
        committed.metadata,
        found.topic_id,
        committed.offset,
        policy.capacity,
    );
    let Restored { mut state, discarded } = match restored {
        Ok(restored) => restored,
        Err(source) if policy.on_mismatch != OnMismatch::Reset => {
            return Err(ResumeError::Checkpoint { offset: committed.offset, source });
        }
        Err(error) => {
            let remark =
                format!("{error}; its numbers are discarded (CHECKPOINT_ON_MISMATCH=reset)");
            return Ok(at_zero(found, policy, committed.offset, Some(remark)));
        }
    };
    if let Some(Discarded::OtherTopic { found: id, assigned }) = discarded {
        let is_known = found.deleted_ids.contains(&id) || policy.on_mismatch == OnMismatch::Reset;
        if !is_known {
            return Err(ResumeError::OtherTopic { offset: committed.offset, found: id, assigned });
        }
        return fresh(found, policy, discarded.map(|discarded| discarded.to_string()));
    }
    note_epoch(&mut state, committed);
    let mut truncated = None;
    if let Some(Divergence { offset, leader_epoch }) = found.divergence {
        if policy.on_mismatch == OnMismatch::Fail {
            return Err(ResumeError::Truncated { offset });
        }
        truncated = Some(state.truncate(offset, leader_epoch));
    }
    let mut remark = discarded.filter(|d| d.is_warning()).map(|discarded| discarded.to_string());
    let is_reset = remark.is_some();
    let mut skipped = 0;
    if state.committable() < found.log_start {
        skipped = found.log_start.abs_diff(state.committable());
        remark =
            Some(format!("{skipped} offsets were deleted from the log before they were processed"));
        state.advance_to(found.log_start);
    }
    let position = state.committable();
    let commit_at_once = skipped > 0 || truncated.is_some();
    Ok(ResumePoint { position, state, commit_at_once, remark, is_reset, skipped, truncated })
}

fn fresh(
    found: &PartitionInfo<'_>,
    policy: &ResumePolicy,
    remark: Option<String>,
) -> Result<ResumePoint, ResumeError> {
    let position = match policy.offset_reset {
        OffsetReset::Earliest => found.log_start,
        OffsetReset::Latest => found.log_end,
        OffsetReset::None => return Err(ResumeError::NoOffset),
    };
    Ok(at_zero(found, policy, position, remark))
}

/// Returns a resume point with all numbers at zero; a remark says which numbers were discarded.
fn at_zero(
    found: &PartitionInfo<'_>,
    policy: &ResumePolicy,
    position: i64,
    remark: Option<String>,
) -> ResumePoint {
    let state = PartitionState::empty(found.topic_id, position, policy.capacity);
    let is_reset = remark.is_some();
    ResumePoint {
        position,
        state,
        commit_at_once: true,
        remark,
        is_reset,
        skipped: 0,
        truncated: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Admission, Checkpoint, CompletedOrder, Origin};

    const TOPIC: Uuid = Uuid::from_u128(7);
    const POLICY: ResumePolicy = ResumePolicy {
        offset_reset: OffsetReset::Earliest,
        on_mismatch: OnMismatch::Stop,
        capacity: Capacity::DEFAULT,
    };

    /// A partition that began at offset 0 and has processed the records before `offset`.
    fn worked(topic_id: Uuid, offset: i64) -> PartitionState {
        let mut state = PartitionState::empty(topic_id, 0, Capacity::DEFAULT);
        for offset in 0..offset {
            assert!(matches!(state.admit(offset), Admission::Process { .. }));
            let order = CompletedOrder {
                timestamp_ms: 0,
                price: 1.0,
                attempts: 1,
                origin: Origin::Produced,
            };
            assert!(state.complete_order(offset, order));
        }
        state.advance_to(offset);
        state
    }

    fn committed_of(checkpoint: &Checkpoint) -> Committed<'_> {
        let Checkpoint { offset, leader_epoch, metadata } = checkpoint;
        Committed { offset: *offset, leader_epoch: *leader_epoch, metadata }
    }

    fn commit(state: &PartitionState) -> Checkpoint {
        state.checkpoint().unwrap()
    }

    fn found(committed: Option<&Checkpoint>, log_start: i64, log_end: i64) -> PartitionInfo<'_> {
        static NONE: BTreeSet<Uuid> = BTreeSet::new();
        let committed = committed.map(committed_of);
        let divergence = None;
        PartitionInfo {
            topic_id: TOPIC,
            committed,
            deleted_ids: &NONE,
            log_start,
            divergence,
            log_end,
        }
    }

    #[test]
    fn a_group_without_an_offset_begins_where_the_settings_say_and_commits_at_once() {
        for (offset_reset, position) in [(OffsetReset::Earliest, 10), (OffsetReset::Latest, 20)] {
            let start =
                resolve(&found(None, 10, 20), &ResumePolicy { offset_reset, ..POLICY }).unwrap();
            assert_eq!((start.position, start.state.since()), (position, position));
            assert!(start.commit_at_once);
        }
        let none = ResumePolicy { offset_reset: OffsetReset::None, ..POLICY };
        assert!(matches!(resolve(&found(None, 10, 20), &none), Err(ResumeError::NoOffset)));
    }

    #[test]
    fn a_partition_resumes_with_the_numbers_of_its_checkpoint() {
        let committed = commit(&worked(TOPIC, 15));
        let start = resolve(&found(Some(&committed), 0, 20), &POLICY).unwrap();
        assert_eq!((start.position, start.state.aggregate().orders()), (15, 15));
        assert!(!start.commit_at_once && start.remark.is_none());
    }

    #[test]
    fn an_offset_that_a_tool_or_another_client_committed_has_no_numbers() {
        for (metadata, is_remarked) in [("", false), ("someone else's", true)] {
            let committed =
                Checkpoint { offset: 12, leader_epoch: None, metadata: metadata.to_owned() };
            let start = resolve(&found(Some(&committed), 0, 20), &POLICY).unwrap();
            assert_eq!((start.position, start.state.since()), (12, 12));
            assert_eq!(start.state.aggregate().orders(), 0);
            assert_eq!(start.remark.is_some(), is_remarked, "{metadata:?}");
        }
    }

    #[test]
    fn numbers_are_kept_when_the_log_start_has_passed_the_committed_offset() {
        let committed = commit(&worked(TOPIC, 5));
        let start = resolve(&found(Some(&committed), 8, 20), &POLICY).unwrap();
        assert_eq!((start.position, start.state.aggregate().orders()), (8, 5));
        assert!(start.remark.unwrap().starts_with("3 offsets were deleted"));
    }

    #[test]
    fn numbers_are_kept_when_the_log_seems_to_end_below_the_processed_records() {
        let committed = commit(&worked(TOPIC, 15));
        for log_end in [0, 9, 14] {
            let start = resolve(&found(Some(&committed), 0, log_end), &POLICY).unwrap();
            assert_eq!((start.position, start.state.aggregate().orders()), (15, 15));
            assert_eq!((start.truncated, start.commit_at_once), (None, false));
        }
    }

    /// 0 to 4 under epoch 1, 5 to 19 under epoch 3; 10 and 17 are incomplete.
    fn with_epochs() -> PartitionState {
        let mut state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
        state.note_leader_epoch(0, 1);
        state.note_leader_epoch(5, 3);
        for offset in 0..20 {
            state.admit(offset);
            if ![10, 17].contains(&offset) {
                state.complete_dead_letter(offset, 1, Origin::Produced);
            }
        }
        state.record_attempts(17, 2);
        state
    }

    #[test]
    fn a_truncated_partition_goes_on_at_the_divergence_with_its_numbers() {
        let committed = commit(&with_epochs());
        assert_eq!((committed.offset, committed.leader_epoch), (10, Some(3)));
        assert_eq!(covered(TOPIC, committed_of(&committed)), Some((20, 3)));
        // The position, the offsets that were counted and are gone, and those that are incomplete.
        for (at, position, lost, incomplete) in
            [(19, 10, 1, 2), (15, 10, 4, 1), (10, 10, 8, 0), (7, 7, 11, 0), (0, 0, 18, 0)]
        {
            let divergence = Some(Divergence { offset: at, leader_epoch: Some(2) });
            let found = PartitionInfo { divergence, ..found(Some(&committed), 0, 30) };
            let start = resolve(&found, &POLICY).unwrap();
            let state = &start.state;
            assert_eq!((start.position, state.incomplete()), (position, incomplete), "{at}");
            assert_eq!((start.truncated, state.truncated()), (Some(lost), lost), "{at}");
            assert_eq!((state.aggregate().records(), start.commit_at_once), (18, true), "{at}");
            let again = commit(state);
            assert_eq!(state.end(), (at, Some(2)), "{at}");
            assert_eq!(read_committed(TOPIC, committed_of(&again)).unwrap().truncated(), lost);
            let fail = ResumePolicy { on_mismatch: OnMismatch::Fail, ..POLICY };
            let failed = resolve(&found, &fail).unwrap_err();
            assert!(matches!(failed, ResumeError::Truncated { offset } if offset == at));
        }
    }

    #[test]
    fn after_a_divergence_all_epochs_are_those_of_the_log() {
        let committed = commit(&with_epochs());
        let divergence = Some(Divergence { offset: 20, leader_epoch: Some(2) });
        let found = PartitionInfo { divergence, ..found(Some(&committed), 0, 30) };
        let start = resolve(&found, &POLICY).unwrap();
        assert_eq!((start.position, start.truncated, start.state.incomplete()), (10, Some(0), 2));
        assert_eq!((start.state.leader_epoch(), start.state.end()), (None, (20, Some(2))));
    }

    #[test]
    fn records_in_the_place_of_lost_ones_are_new() {
        let committed = commit(&with_epochs());
        let divergence = Some(Divergence { offset: 15, leader_epoch: Some(2) });
        let found = PartitionInfo { divergence, ..found(Some(&committed), 0, 30) };
        let mut state = resolve(&found, &POLICY).unwrap().state;
        let admitted: Vec<i64> =
            (10..20).filter(|offset| state.admit(*offset) != Admission::Skip).collect();
        assert_eq!(admitted, [10, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn the_commit_of_a_deleted_topic_is_not_used_for_its_successor() {
        let deleted_ids = BTreeSet::from([Uuid::from_u128(1)]);
        let committed = commit(&worked(Uuid::from_u128(1), 15));
        let found = PartitionInfo { deleted_ids: &deleted_ids, ..found(Some(&committed), 0, 20) };
        let start = resolve(&found, &POLICY).unwrap();
        assert_eq!((start.position, start.state.aggregate().orders()), (0, 0));
        assert!(start.remark.is_some() && start.commit_at_once);
    }

    #[test]
    fn an_offset_of_another_topic_is_an_error_unless_a_reset_is_configured() {
        let committed = commit(&worked(Uuid::from_u128(1), 15));
        let found = found(Some(&committed), 0, 20);
        for on_mismatch in [OnMismatch::Stop, OnMismatch::Fail] {
            let refused = resolve(&found, &ResumePolicy { on_mismatch, ..POLICY });
            assert!(
                matches!(refused, Err(ResumeError::OtherTopic { offset: 15, .. })),
                "{refused:?}"
            );
        }
        let reset = ResumePolicy { on_mismatch: OnMismatch::Reset, ..POLICY };
        let start = resolve(&found, &reset).unwrap();
        assert_eq!((start.position, start.state.aggregate().orders()), (0, 0));
        assert!(start.is_reset && start.remark.is_some() && start.commit_at_once);
    }

    #[test]
    fn a_damaged_checkpoint_is_an_error_unless_a_reset_is_configured() {
        let mut committed = commit(&worked(TOPIC, 15));
        let last = committed.metadata.pop().unwrap();
        committed.metadata.push(if last == 'A' { 'E' } else { 'A' });
        for on_mismatch in [OnMismatch::Stop, OnMismatch::Fail] {
            let policy = ResumePolicy { on_mismatch, ..POLICY };
            let refused = resolve(&found(Some(&committed), 0, 20), &policy);
            let is_refused = matches!(refused, Err(ResumeError::Checkpoint { offset: 15, .. }));
            assert!(is_refused, "{refused:?}");
        }
        let reset = ResumePolicy { on_mismatch: OnMismatch::Reset, ..POLICY };
        let start = resolve(&found(Some(&committed), 0, 20), &reset).unwrap();
        assert_eq!((start.position, start.state.aggregate().orders()), (15, 0));
        assert!(start.remark.is_some());
    }
}
