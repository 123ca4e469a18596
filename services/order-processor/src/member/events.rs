//! The session's loop: events of the membership, the workers, loads and commits, one at a time.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::error::chain;
use kafka_core::member::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::session::{FINAL_COMMIT, Session};
use crate::handler::Handler;
use crate::telemetry::partitions::list;

impl<H: Handler> Session<H> {
    /// Works until `stop`, then drains, commits and leaves the group, all of it by one deadline.
    ///
    /// # Errors
    /// When the membership ended for good, a checkpoint cannot be read, a worker failed, or `stuck` names stuck work. The
    /// member leaves the group, so that other members take over at once.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        stuck: mpsc::Receiver<String>,
    ) -> anyhow::Result<()> {
        self.checks.kafka.not_ready("joining the group");
        let grace = self.shared.settings.member.drain_timeout + FINAL_COMMIT;
        let ending = stop.child_token();
        // A stop counts from its signal, also while the loop is busy with a rebalance.
        let since = OnceLock::new();
        let is_over = async {
            ending.cancelled().await;
            sleep_until(*since.get_or_init(Instant::now) + grace).await;
        };
        let mut outcome = Ok(());
        let live = async {
            outcome = self.work(&stop, stuck).await;
            ending.cancel();
            let drained = self.end(*since.get_or_init(Instant::now)).await;
            if outcome.is_ok() {
                outcome = drained;
            }
        };
        tokio::select! {
            () = live => {}
            () = is_over => tracing::warn!(
                ?grace,
                "Kafka did not answer in time: uncommitted work is done again, and the session times out"
            ),
        }
        outcome
    }

    async fn work(
        &mut self,
        stop: &CancellationToken,
        mut stuck: mpsc::Receiver<String>,
    ) -> anyhow::Result<()> {
        let mut tick = interval(self.shared.settings.commit.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut view = Box::pin(sleep(Duration::ZERO));
        let mut each_second = interval(Duration::from_secs(1));
        loop {
            let soon = self.commits.last_begun + self.commits.pause;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(what) = stuck.recv() => anyhow::bail!("stuck: {what}"),
                event = self.membership.next_event() => match event {
                    Some(event) => self.on_event(event).await?,
                    None => anyhow::bail!("the membership ended without a reason"),
                },
                Some(loaded) = self.loads.running.join_next() => {
                    self.on_loaded(loaded.context("load checkpoints")??);
                }
                Some(ended) = self.workers.join_next() => ended.context("work on a partition")??,
                Some(notice) = self.notices.1.recv() => self.on_notice(notice).await?,
                Ok(()) = self.report.applied.changed() => self.commits.is_due |= self.is_dirty(),
                _ = tick.tick() => self.commits.is_due |= self.is_dirty(),
                () = sleep_until(soon), if self.commits.is_due && self.may_commit() => {
                    self.commit();
                    tick.reset();
                }
                Some(committed) = self.commits.rounds.join_next() => {
                    self.on_committed(committed.context("commit")?).await?;
                }
                () = &mut view, if self.viewing.is_empty() => self.start_viewing(),
                Some(viewed) = self.viewing.join_next() => {
                    let pause = self.on_viewed(viewed.context("read the group's numbers")?);
                    view.as_mut().reset(Instant::now() + pause);
                }
                _ = each_second.tick() => {
                    self.shared.reporter.tick();
                    self.shared.instruments.assigned(self.assigned.len());
                    self.judge_health();
                    self.commits.is_due |= self.is_awaited();
                }
            }
            self.report_instance();
        }
    }

    async fn on_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Joined { generation, is_leader, owned } => {
                self.shared.instruments.rebalances.inc();
                // The coordinator takes no commit of an earlier generation any more.
                self.commits.settles_at = None;
                tracing::info!(
                    generation,
                    leader = is_leader,
                    partitions = owned,
                    "joined the group"
                );
                self.judge_health();
            }
            Event::Assigned(partitions) => {
                tracing::info!(partitions = %list(&partitions), "partitions assigned");
                self.load(partitions, Duration::ZERO);
            }
            Event::Revoked(partitions) => {
                tracing::info!(partitions = %list(&partitions), "partitions revoked, draining");
                self.revoke(&partitions, Instant::now()).await?;
                self.membership.drained(partitions).await;
            }
            Event::Lost(partitions) => {
                tracing::warn!(
                    partitions = %list(&partitions),
                    "partitions lost: another member may have them, uncommitted work is done again"
                );
                self.judge_health();
                for tp in &partitions {
                    self.forget(tp);
                }
            }
            Event::OtherClients(members) => tracing::warn!(
                members = %members.join(", "),
                "members of another kind are in the group: the numbers of the partitions they hold start over"
            ),
            Event::UnreadableSubscription { member_id, error } => tracing::warn!(
                member = member_id,
                error = %chain(&error),
                "this member's subscription cannot be read: it is assigned no partition"
            ),
            Event::Fatal(error) => {
                return Err(anyhow::Error::new(error).context("stay in the group"));
            }
        }
        Ok(())
    }
}
