//! The dead-letter topic of a group, with what is known about its letters.

use kafka_client::cluster::Cluster;
use service_runtime::{Console, Context};
use tokio_util::sync::CancellationToken;

use super::action_log::ActionLog;
use super::letter::{DlqContext, Letter};
use super::letter_state::{LetterState, SentLetters};
use super::topic_log::TopicLog;
use crate::settings::ConsoleSettings;

/// The dead-letter topic of a group, what operators decided, and which letters were sent again.
pub(crate) struct DeadLetterQueue {
    pub(crate) cluster: Cluster,
    pub(crate) settings: ConsoleSettings,
    pub(crate) interrupt: CancellationToken,
    pub(crate) console: Console,
    pub(crate) log: TopicLog,
    pub(crate) dlq: DlqContext,
    pub(crate) actions: ActionLog,
    pub(crate) sent: SentLetters,
}

impl DeadLetterQueue {
    /// Opens the dead-letter topic and reads what operators decided.
    pub(crate) async fn open(settings: ConsoleSettings, context: Context) -> anyhow::Result<Self> {
        let cluster = settings.cluster();
        let interrupt = context.stop;
        let hint = "is ORDERS_DLQ_TOPIC right?";
        let log = TopicLog::expect(&cluster, &settings.group.dlq_topic, hint).await?;
        let actions = ActionLog::open(&cluster, &settings, &interrupt).await?;
        let group = settings.group.group_id.clone();
        let dlq = DlqContext { topic: log.name.clone(), topic_id: log.id, group };
        let (console, sent) = (context.console, SentLetters::default());
        Ok(Self { cluster, settings, interrupt, console, log, dlq, actions, sent })
    }

    /// Opens the dead-letter topic, and reads all that decides the state of its letters.
    pub(crate) async fn read(settings: ConsoleSettings, context: Context) -> anyhow::Result<Self> {
        let mut queue = Self::open(settings, context).await?;
        queue.read_sent().await?;
        Ok(queue)
    }

    pub(crate) async fn read_sent(&mut self) -> anyhow::Result<()> {
        self.sent = SentLetters::read(self).await?;
        if self.sent.lost_before_ms.is_some() {
            tracing::warn!(
                topic = self.settings.group_topics.replay,
                "the oldest records of the replay topic were deleted: letters replayed before that look unresolved"
            );
        }
        Ok(())
    }

    pub(crate) fn state(&self, letter: &Letter<'_>) -> LetterState {
        self.sent.state(letter, self.actions.decisions())
    }
}
