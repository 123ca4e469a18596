//! Who may replay: one run at a time, told from the actions topic alone, without comparing clocks.
//!
//! A run writes a claim, and reads it back with everything before it. The claims' offsets are the queue: the lowest one
//! that has not ended has the lock. Whoever has it, or waits for it, writes a sign of life every few seconds. A run that
//! was killed gives none, and whoever comes next *watches* for one: times in the records are for people, what counts is
//! that nothing of that run arrived while somebody looked for [`SILENCE`].
//!
//! ```text
//! A claims (10)   B claims (11): A is ahead, B watches
//! A signs  (12)   B sees it: A is alive, B ends (13)
//!
//! A claims (10), is killed    B claims (11), watches, sees nothing, ends A (12), and reads up to (12):
//!                             a sign of A before (12) would mean that A lives: then B ends too
//! ```
//!
//! An ended run stays ended, also if it was only asleep: its next sign comes with reading the topic up to that sign, finds
//! its end there, and it stops. Its last request with letters has ended [`VALID`] after its last sign, before another run
//! counts it as dead; [`sign`] says how. What this cannot exclude: a request that the network, or a machine that is suspended in
//! the middle of it, holds up for longer than that. Letters of one batch could be sent twice then.

mod sign;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dead_letter::actions::Action;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::sign::{Moment, Sign, VALID};
use crate::dlq::journal::Journal;
use crate::dlq::reading::Stopped;
use crate::dlq::render::time;
use crate::dlq::talk;
use service_runtime::now_ms;

/// Somebody else replays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{by} is replaying: wait for the end of that run")]
pub(crate) struct Busy {
    by: String,
}

/// How long a run may be silent before it counts as dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Pause between two looks at a run that may be dead.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How many signs in a row may be too old once they were read back.
const SLOW_SIGNS_MAX: usize = 5;

/// What the actions topic says about runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockTable {
    runs: BTreeMap<Uuid, Run>,
    /// Runs that have ended, with the offset of their last sign.
    ended: BTreeMap<Uuid, i64>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The offset of its claim: its place in the queue.
    pub(crate) claim: i64,
    /// The offset of its last sign of life.
    pub(crate) sign: i64,
    /// When it wrote that, by its own clock.
    pub(crate) at_ms: i64,
    /// Who runs it.
    pub(crate) by: String,
}

impl LockTable {
    /// Takes in one record of the actions topic; they have to come in offset order.
    pub(crate) fn apply(&mut self, offset: i64, action: &Action) {
        match action {
            Action::Lock { run, claim, at_ms, by } if !self.ended.contains_key(run) => {
                let first = self.runs.get(run).map(|known| known.claim);
                let claim = first.or(*claim).unwrap_or(offset);
                let sign = Run { claim, sign: offset, at_ms: *at_ms, by: by.clone() };
                self.runs.insert(*run, sign);
            }
            Action::Unlocked { run } => {
                let last = self.runs.remove(run).map_or(-1, |known| known.sign);
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
    /// When `run` itself has ended: somebody took it for dead.
    pub(crate) fn ahead_of(&self, run: Uuid) -> Result<Option<(Uuid, &Run)>, Ended> {
        let own = self.runs.get(&run).ok_or(Ended)?;
        let ahead = self.runs.iter().filter(|(_, other)| other.claim < own.claim);
        Ok(ahead.min_by_key(|(_, other)| other.claim).map(|(id, other)| (*id, other)))
    }

    /// Returns the offset of a run's last sign of life before its end, if it has one.
    fn last_sign(&self, run: Uuid) -> Option<i64> {
        self.runs.get(&run).map(|run| run.sign).or_else(|| self.ended.get(&run).copied())
    }

    /// Returns all runs that have not ended.
    fn open(&self) -> BTreeSet<Uuid> {
        self.runs.keys().copied().collect()
    }
}

/// Another run has declared this one dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another run took this one for dead and has the lock: nothing more is sent")]
pub(crate) struct Ended;

/// What to do about a lock that somebody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// See whether they live.
    Respect,
    /// End them.
    Break,
}

/// The right to replay.
#[derive(Debug)]
pub(crate) struct RunLock {
    run: Uuid,
    claim: i64,
    by: String,
    /// The last one that was read back.
    sign: Sign,
}

impl RunLock {
    /// Waits for the right to replay.
    ///
    /// # Errors
    /// When another run has it and is alive, when told to stop, or when the actions topic cannot be used.
    pub(crate) async fn acquire(
        journal: &mut Journal,
        by: &str,
        others: Others,
    ) -> anyhow::Result<Self> {
        let run = Uuid::from_u128(rand::random());
        let sign = Sign::sent_at(Moment::now());
        let first = Action::Lock { run, claim: None, at_ms: now_ms(), by: by.to_owned() };
        let claim = journal.write(&[first]).await.context("claim the lock")?;
        let mut lock = Self { run, claim, by: by.to_owned(), sign };
        let waited = async {
            journal.catch_up().await?;
            if others == Others::Break {
                lock.break_others(journal).await?;
            }
            lock.wait(journal).await
        };
        match waited.await {
            Ok(()) => Ok(lock),
            Err(error) => {
                lock.release(journal).await;
                Err(error)
            }
        }
    }

    /// Gives a sign of life if one is due, and returns the deadline of a request that is sent at once. Nothing may be sent
    /// without one.
    ///
    /// # Errors
    /// When the lock is lost, or cannot be seen to be held.
    pub(crate) async fn keep(&mut self, journal: &mut Journal) -> anyhow::Result<Instant> {
        if self.sign.is_due(Moment::now()) {
            self.renew(journal).await?;
        }
        for _slow in 0..SLOW_SIGNS_MAX {
            if let Some(deadline) = self.sign.deadline(Moment::now()) {
                return Ok(deadline);
            }
            self.renew(journal).await?;
        }
        let age = self.sign.age(Moment::now());
        bail!("a sign of life takes {age:?}: that is too long to send letters after it")
    }

    /// Returns when the next sign of life is due.
    pub(crate) fn due(&self) -> Instant {
        self.sign.due()
    }

    /// Gives the lock back. What fails here only makes the next run wait.
    pub(crate) async fn release(self, journal: &mut Journal) {
        if let Err(error) = journal.write(&[Action::Unlocked { run: self.run }]).await {
            tracing::warn!(
                "the lock could not be given back, the next replay will wait: {error:#}"
            );
        }
    }

    /// Gives a sign of life, and sees that the lock is still held.
    async fn renew(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        self.sign(journal).await?;
        match journal.locks().ahead_of(self.run)? {
            None => Ok(()),
            Some(_) => Err(Ended.into()),
        }
    }

    /// Gives a sign of life, and reads the topic up to it.
    async fn sign(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        let sign = Sign::sent_at(Moment::now());
        let by = self.by.clone();
        let action = Action::Lock { run: self.run, claim: Some(self.claim), at_ms: now_ms(), by };
        journal.write(&[action]).await.context("keep the lock")?;
        journal.catch_up().await.context("keep the lock")?;
        self.sign = sign;
        Ok(())
    }

    async fn break_others(&self, journal: &mut Journal) -> anyhow::Result<()> {
        let others: Vec<Action> = journal
            .locks()
            .open()
            .into_iter()
            .filter(|run| *run != self.run)
            .map(|run| Action::Unlocked { run })
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        journal.write(&others).await.context("break the lock")?;
        talk(&format!(
            "broke the lock; waiting {VALID:?}, as long as a run that is alive may send"
        ));
        sleep(VALID).await;
        journal.catch_up().await
    }

    async fn wait(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        while let Some((rival, found)) = journal.locks().ahead_of(self.run)? {
            let (by, at, sign) = (found.by.clone(), time(found.at_ms), found.sign);
            talk(&format!(
                "{by} began to replay (last sign of life {at}); \
                 watching for {SILENCE:?} whether that run is alive (--break-lock ends it)"
            ));
            if !self.is_silent(journal, rival, sign).await? {
                return Err(Busy { by }.into());
            }
        }
        Ok(())
    }

    /// Watches a run that is ahead, ends it if it gives no sign, and returns whether it did not.
    async fn is_silent(
        &mut self,
        journal: &mut Journal,
        rival: Uuid,
        last: i64,
    ) -> anyhow::Result<bool> {
        let until = Instant::now() + SILENCE;
        while Instant::now() < until {
            tokio::select! {
                () = journal.stop().cancelled() => return Err(Stopped.into()),
                () = sleep(LOOK_INTERVAL) => {}
            }
            if self.sign.is_due(Moment::now()) {
                self.sign(journal).await?;
            } else {
                journal.catch_up().await?;
            }
            if journal.locks().last_sign(rival).is_some_and(|sign| last < sign) {
                return Ok(false);
            }
            if !journal.locks().open().contains(&rival) {
                return Ok(true);
            }
        }
        journal.write(&[Action::Unlocked { run: rival }]).await?;
        journal.catch_up().await?;
        Ok(journal.locks().last_sign(rival).is_none_or(|sign| sign <= last))
    }
}

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

    fn sign(run: Uuid, claim: i64) -> Action {
        Action::Lock { run, claim: Some(claim), at_ms: 0, by: run.to_string() }
    }

    fn ahead_of(table: &LockTable, run: Uuid) -> Result<Option<Uuid>, Ended> {
        table.ahead_of(run).map(|ahead| ahead.map(|(run, _)| run))
    }

    #[test]
    fn the_lowest_claim_has_the_lock_and_signs_do_not_change_that() {
        let table = table(&[(10, claim(A)), (11, claim(B)), (12, sign(A, 10))]);
        assert_eq!(ahead_of(&table, A), Ok(None));
        assert_eq!(ahead_of(&table, B), Ok(Some(A)));
        assert_eq!(table.last_sign(A), Some(12));
    }

    #[test]
    fn a_claim_that_was_compacted_away_is_known_from_the_sign() {
        let table = table(&[(11, claim(B)), (12, sign(A, 10))]);
        assert_eq!(ahead_of(&table, A), Ok(None));
        assert_eq!(ahead_of(&table, B), Ok(Some(A)));
    }

    #[test]
    fn the_next_in_the_queue_follows_a_run_that_ends() {
        let table = table(&[(10, claim(A)), (11, claim(B)), (12, Action::Unlocked { run: A })]);
        assert_eq!(ahead_of(&table, B), Ok(None));
    }

    #[test]
    fn a_run_that_was_taken_for_dead_stays_ended_when_it_wakes() {
        let table = table(&[
            (10, claim(A)),
            (11, claim(B)),
            (12, Action::Unlocked { run: A }),
            (13, sign(A, 10)),
        ]);
        assert_eq!(ahead_of(&table, A), Err(Ended));
        assert_eq!(ahead_of(&table, B), Ok(None));
        assert_eq!(table.last_sign(A), Some(10), "what came after its end is no sign of life");
    }

    #[test]
    fn a_sign_just_before_the_end_is_seen_by_whoever_ended_the_run() {
        let table = table(&[
            (10, claim(A)),
            (11, claim(B)),
            (12, sign(A, 10)),
            (13, Action::Unlocked { run: A }),
        ]);
        assert_eq!(table.last_sign(A), Some(12));
    }
}
