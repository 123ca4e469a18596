//! The lock of replays: one run at a time, decided by the actions topic alone, without comparing clocks.
//!
//! A run writes a claim, and reads it back with everything before it. The claims' offsets are the queue: the run with the
//! lowest claim that has not ended has the lock. The run that has it, and each that waits for it, writes a heartbeat every
//! few seconds. The next run in the queue waits for a heartbeat of the run ahead. Times in the records are for people. What
//! counts is that no record of the run ahead arrived within [`SILENCE`].
//!
//! ```text
//! A claims (10)   B claims (11): A is ahead, B waits
//! A beats  (12)   B reads it: A is alive, B ends (13)
//!
//! A claims (10), is killed    B claims (11), waits, reads nothing, ends A (12), and reads up to (12):
//!                             a heartbeat of A before (12) would mean that A is alive: then B ends too
//! ```
//!
//! An ended run stays ended, also if it was only asleep: after its next heartbeat it reads the topic up to that, finds its
//! end there, and stops sending. Its last request with letters has ended [`VALID`] after its last heartbeat, before another
//! run counts it as dead; [`heartbeat`] says how. A run that does not know the outcome of its last request leaves the lock
//! without giving it back, so the next run waits as if it had been killed. What this cannot exclude: a request that the
//! network, or a machine that is suspended in the middle of it, delays for longer than that. Letters of one batch could be
//! sent twice then.

mod heartbeat;

use std::time::Duration;

use anyhow::{Context as _, bail};
use dead_letter::actions::Action;
use service_runtime::now_ms;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub(super) use self::heartbeat::SILENCE;
use self::heartbeat::{Heartbeat, Moment, VALID};
use super::request::Request;
use crate::dlq::action_log::ActionLog;
use crate::dlq::lock_table::Ended;
use crate::dlq::reading::Interrupted;
use crate::time::Time;

/// Pause between two looks at a run that may be dead.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How many heartbeats in a row may be too old once they were read back.
const SLOW_HEARTBEATS_MAX: usize = 5;

/// Another run has the lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{by} is replaying: wait for the end of that run")]
pub(crate) struct Busy {
    by: String,
}

/// Receives, as a sentence, why a run has to wait for the lock.
pub(crate) type Notify<'a> = &'a (dyn Fn(&str) + Send + Sync);

#[derive(Debug)]
pub(crate) struct RunLock {
    run: Uuid,
    claim: i64,
    by: String,
    /// The last one that was read back.
    heartbeat: Heartbeat,
    /// Whether a request of this run may still arrive.
    is_left: bool,
}

impl RunLock {
    /// Waits until no other run is ahead, or ends the others if the request says so.
    pub(crate) async fn acquire(
        actions: &mut ActionLog,
        request: &Request,
        notify: Notify<'_>,
    ) -> anyhow::Result<Self> {
        let by = request.operator.by.clone();
        let run = Uuid::from_u128(rand::random());
        let heartbeat = Heartbeat::sent_at(Moment::now());
        let first = Action::Lock { run, claim: None, at_ms: now_ms(), by: by.clone() };
        let claim = actions.write(&[first]).await.context("claim the lock")?;
        let mut lock = Self { run, claim, by, heartbeat, is_left: false };
        let waited = async {
            actions.catch_up().await?;
            if request.break_lock {
                lock.break_others(actions, notify).await?;
            }
            lock.wait(actions, notify).await
        };
        match waited.await {
            Ok(()) => Ok(lock),
            Err(error) => {
                lock.release(actions).await;
                Err(error)
            }
        }
    }

    /// Sends a heartbeat if one is due, and returns the deadline of a request that is sent at once. Nothing may be sent
    /// without one.
    pub(crate) async fn keep(&mut self, actions: &mut ActionLog) -> anyhow::Result<Instant> {
        if self.heartbeat.is_due(Moment::now()) {
            self.renew(actions).await?;
        }
        for _slow in 0..SLOW_HEARTBEATS_MAX {
            if let Some(deadline) = self.heartbeat.deadline(Moment::now()) {
                return Ok(deadline);
            }
            self.renew(actions).await?;
        }
        let age = self.heartbeat.age(Moment::now());
        bail!("a heartbeat takes {age:?}: that is too long to send letters after it")
    }

    pub(crate) fn due(&self) -> Instant {
        self.heartbeat.due()
    }

    /// Makes the next run wait, because a request of this one may still arrive.
    pub(crate) fn leave(&mut self) {
        self.is_left = true;
    }

    /// Gives the lock back, unless it was left. A failure here only makes the next run wait.
    pub(crate) async fn release(self, actions: &mut ActionLog) {
        if self.is_left {
            return;
        }
        if let Err(error) = actions.write(&[Action::Unlocked { run: self.run }]).await {
            tracing::warn!(
                "the lock could not be given back, the next replay will wait: {error:#}"
            );
        }
    }

    /// Sends a heartbeat, and checks that this run still has the lock.
    async fn renew(&mut self, actions: &mut ActionLog) -> anyhow::Result<()> {
        self.beat(actions).await?;
        match actions.locks().ahead_of(self.run)? {
            None => Ok(()),
            Some(_) => Err(Ended.into()),
        }
    }

    /// Sends a heartbeat, and reads the topic up to it.
    async fn beat(&mut self, actions: &mut ActionLog) -> anyhow::Result<()> {
        let heartbeat = Heartbeat::sent_at(Moment::now());
        let by = self.by.clone();
        let action = Action::Lock { run: self.run, claim: Some(self.claim), at_ms: now_ms(), by };
        actions.write(&[action]).await.context("keep the lock")?;
        actions.catch_up().await.context("keep the lock")?;
        self.heartbeat = heartbeat;
        Ok(())
    }

    async fn break_others(
        &self,
        actions: &mut ActionLog,
        notify: Notify<'_>,
    ) -> anyhow::Result<()> {
        let others: Vec<Action> = actions
            .locks()
            .open()
            .into_iter()
            .filter(|run| *run != self.run)
            .map(|run| Action::Unlocked { run })
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        actions.write(&others).await.context("break the lock")?;
        notify(&format!(
            "broke the lock; waiting {VALID:?}, as long as a run that is alive may send"
        ));
        sleep(VALID).await;
        actions.catch_up().await
    }

    async fn wait(&mut self, actions: &mut ActionLog, notify: Notify<'_>) -> anyhow::Result<()> {
        while let Some((rival, found)) = actions.locks().ahead_of(self.run)? {
            let (by, last) = (found.by.clone(), found.heartbeat);
            notify(&format!(
                "{by} began to replay (last heartbeat {}); waiting {SILENCE:?} for another one \
                 (--break-lock ends that run)",
                Time::of(found.at_ms).to_the_second()
            ));
            if !self.is_silent(actions, rival, last).await? {
                return Err(Busy { by }.into());
            }
        }
        Ok(())
    }

    /// Waits for a heartbeat of a run that is ahead, ends that run if none comes, and returns whether none came.
    async fn is_silent(
        &mut self,
        actions: &mut ActionLog,
        rival: Uuid,
        last: i64,
    ) -> anyhow::Result<bool> {
        let until = Instant::now() + SILENCE;
        while Instant::now() < until {
            tokio::select! {
                () = actions.interrupt().cancelled() => return Err(Interrupted.into()),
                () = sleep(LOOK_INTERVAL) => {}
            }
            if self.heartbeat.is_due(Moment::now()) {
                self.beat(actions).await?;
            } else {
                actions.catch_up().await?;
            }
            if actions.locks().last_heartbeat(rival).is_some_and(|heartbeat| last < heartbeat) {
                return Ok(false);
            }
            if !actions.locks().open().contains(&rival) {
                return Ok(true);
            }
        }
        actions.write(&[Action::Unlocked { run: rival }]).await?;
        actions.catch_up().await?;
        Ok(actions.locks().last_heartbeat(rival).is_none_or(|heartbeat| heartbeat <= last))
    }
}
