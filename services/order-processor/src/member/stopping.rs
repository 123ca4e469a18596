//! Giving partitions up: those that go to another member, and all of them at the end.

use std::collections::BTreeSet;

use anyhow::Context as _;
use kafka_core::TopicPartition;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::commit_round::ANSWER_MAX;
use super::session::{FINAL_COMMIT, Session};
use crate::handler::Handler;
use crate::partition::{Drain, Request};
use crate::telemetry::partitions::list;

impl<H: Handler> Session<H> {
    /// Drains, commits and leaves the group.
    pub(super) async fn end(mut self, since: Instant) -> anyhow::Result<()> {
        self.checks.kafka.not_ready("stopping");
        let partitions: BTreeSet<TopicPartition> = self.assigned.keys().cloned().collect();
        if !partitions.is_empty() {
            tracing::info!(partitions = %list(&partitions), "stopping: draining");
        }
        let drained = self.revoke(&partitions, since).await;
        let keeps_membership = self.shared.settings.member.instance_id.is_some()
            && !self.shared.settings.member.leave_on_stop;
        if keeps_membership {
            tracing::info!("a static member keeps its membership until the session times out");
        } else {
            self.membership.leave().await;
        }
        self.report.participant.end().await;
        drained
    }

    /// Drains `partitions` and commits them, by deadlines that count from `since`.
    pub(super) async fn revoke(
        &mut self,
        partitions: &BTreeSet<TopicPartition>,
        since: Instant,
    ) -> anyhow::Result<()> {
        let deadline = since + self.shared.settings.member.drain_timeout;
        let mut answers = Vec::new();
        for tp in partitions {
            self.assigned.remove(tp);
            self.reader.remove(tp);
            if let Some(working) = self.working.get(tp) {
                let (answer, answered) = oneshot::channel();
                if working.requests.send(Request::Drain(Drain { deadline, answer })).await.is_ok() {
                    answers.push((tp.clone(), answered));
                }
            }
        }
        let mut commits = Vec::new();
        for (tp, answered) in answers {
            // A worker that does not answer has a thread that the handler blocks.
            let Ok(Ok(snapshot)) = timeout_at(deadline + ANSWER_MAX, answered).await else {
                tracing::warn!(partition = %tp, "the worker of this partition does not answer");
                continue;
            };
            let is_news =
                self.working.get(&tp).is_some_and(|w| w.committed < Some(snapshot.revision));
            commits.extend(snapshot.commit.filter(|_| is_news));
        }
        let until = deadline + FINAL_COMMIT;
        self.finish_committing(until).await;
        self.commit_finally(commits, until).await;
        for tp in partitions {
            self.stop_showing(tp);
        }
        while let Some(ended) = self.workers.try_join_next() {
            ended.context("work on a partition")??;
        }
        Ok(())
    }
}
