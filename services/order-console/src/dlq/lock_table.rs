//! The runs that replay, or wait to, as the actions topic has them.

use std::collections::{BTreeMap, BTreeSet};

use dead_letter::actions::Action;
use uuid::Uuid;

/// The runs of the actions topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockTable {
    runs: BTreeMap<Uuid, Run>,
    /// Runs that have ended, with the offset of their last heartbeat.
    ended: BTreeMap<Uuid, i64>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The offset of its claim: its place in the queue.
    pub(crate) claim: i64,
    /// The offset of its last heartbeat.
    pub(crate) heartbeat: i64,
    /// When it wrote that, in milliseconds since 1970, by its own clock.
    pub(crate) at_ms: i64,
    /// The operator who runs it.
    pub(crate) by: String,
}

impl LockTable {
    /// Takes in one record of the actions topic; they have to come in offset order.
    pub(crate) fn apply(&mut self, offset: i64, action: &Action) {
        match action {
            Action::Lock { run, claim, at_ms, by } if !self.ended.contains_key(run) => {
                let first = self.runs.get(run).map(|known| known.claim);
                let claim = first.or(*claim).unwrap_or(offset);
                let found = Run { claim, heartbeat: offset, at_ms: *at_ms, by: by.clone() };
                self.runs.insert(*run, found);
            }
            Action::Unlocked { run } => {
                let last = self.runs.remove(run).map_or(-1, |known| known.heartbeat);
                self.ended.entry(*run).or_insert(last);
            }
            Action::Lock { .. }
            | Action::Dismissed { .. }
            | Action::Reopened { .. }
            | Action::Released { .. }
            | Action::ReplayedToSource { .. }
            | Action::ToSource { .. } => {}
        }
    }

    /// Returns the run that is first in the queue, if it is before `run`.
    ///
    /// # Errors
    /// When `run` itself has ended: another run counted it as dead.
    pub(crate) fn ahead_of(&self, run: Uuid) -> Result<Option<(Uuid, &Run)>, Ended> {
        let own = self.runs.get(&run).ok_or(Ended)?;
        let ahead = self.runs.iter().filter(|(_, other)| other.claim < own.claim);
        Ok(ahead.min_by_key(|(_, other)| other.claim).map(|(id, other)| (*id, other)))
    }

    /// Returns the offset of a run's last heartbeat before its end, if it has one.
    pub(crate) fn last_heartbeat(&self, run: Uuid) -> Option<i64> {
        self.runs.get(&run).map(|run| run.heartbeat).or_else(|| self.ended.get(&run).copied())
    }

    pub(crate) fn open(&self) -> BTreeSet<Uuid> {
        self.runs.keys().copied().collect()
    }
}

/// Another run has declared this one dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another run took this one for dead and has the lock: nothing more is sent")]
pub(crate) struct Ended;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn table(actions: &[(i64, Action)]) -> LockTable {
        let mut table = LockTable::default();
        for (offset, action) in actions {
            table.apply(*offset, action);
        }
        table
    }

    fn claim(run: Uuid) -> Action {
        Action::Lock { run, claim: None, at_ms: 0, by: run.to_string() }
    }

    fn heartbeat(run: Uuid, claim: i64) -> Action {
        Action::Lock { run, claim: Some(claim), at_ms: 0, by: run.to_string() }
    }

    fn ahead_of(table: &LockTable, run: Uuid) -> Result<Option<Uuid>, Ended> {
        table.ahead_of(run).map(|ahead| ahead.map(|(run, _)| run))
    }

    #[test]
    fn the_lowest_claim_has_the_lock_and_heartbeats_do_not_change_that() {
        let table = table(&[(10, claim(A)), (11, claim(B)), (12, heartbeat(A, 10))]);
        assert_eq!(ahead_of(&table, A), Ok(None));
        assert_eq!(ahead_of(&table, B), Ok(Some(A)));
        assert_eq!(table.last_heartbeat(A), Some(12));
    }

    #[test]
    fn a_claim_that_was_compacted_away_is_known_from_the_heartbeat() {
        let table = table(&[(11, claim(B)), (12, heartbeat(A, 10))]);
        assert_eq!(ahead_of(&table, A), Ok(None));
        assert_eq!(ahead_of(&table, B), Ok(Some(A)));
    }

    #[test]
    fn the_next_in_the_queue_follows_a_run_that_ends() {
        let table = table(&[(10, claim(A)), (11, claim(B)), (12, Action::Unlocked { run: A })]);
        assert_eq!(ahead_of(&table, B), Ok(None));
    }

    #[test]
    fn a_run_that_was_counted_as_dead_stays_ended_when_it_wakes() {
        let table = table(&[
            (10, claim(A)),
            (11, claim(B)),
            (12, Action::Unlocked { run: A }),
            (13, heartbeat(A, 10)),
        ]);
        assert_eq!(ahead_of(&table, A), Err(Ended));
        assert_eq!(ahead_of(&table, B), Ok(None));
        assert_eq!(table.last_heartbeat(A), Some(10), "what came after its end is no heartbeat");
    }

    #[test]
    fn a_heartbeat_just_before_the_end_is_seen_by_the_run_that_ended_it() {
        let table = table(&[
            (10, claim(A)),
            (11, claim(B)),
            (12, heartbeat(A, 10)),
            (13, Action::Unlocked { run: A }),
        ]);
        assert_eq!(table.last_heartbeat(A), Some(12));
    }
}
