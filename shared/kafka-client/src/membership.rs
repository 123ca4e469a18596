//! Drives a [`Member`] over a connection to its group's coordinator.
//!
//! One task owns the state machine and its connection. Heartbeats run on their own timer there, so that no record,
//! handler or commit can delay them. The application reads [`Membership::next_event`] and answers a revocation with
//! [`Membership::drained`].

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_core::member::{CommitPermission, Event, Member, MemberConfig, PartitionCounts, Request};
use kafka_protocol::ResponseError;
use pacing::{Backoff, ReportLimit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::answer::{Answer, call};
use crate::cluster::{Cluster, TopicMetadata};
use crate::connection::{Connection, ConnectionError};
use crate::error::{ClientError, chain};

/// Events that wait for the application; the member goes on heartbeating when it is full.
const EVENTS_MAX: usize = 64;
/// Commands that wait for the member's task.
const COMMANDS_MAX: usize = 64;
/// How much longer than the rebalance timeout a JoinGroup may take to be answered.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How often the leader looks whether subscribed topics have appeared or grown.
const METADATA_INTERVAL: Duration = Duration::from_secs(15);
/// Pause before the leader asks again for metadata that it could not get, or cannot assign with.
const METADATA_RETRY: Duration = Duration::from_millis(200);
/// Pause before the coordinator is looked up again, at first and at most.
const COORDINATOR_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// How often a coordinator that does not serve, or metadata that cannot be had, are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How a member stands with its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipStatus {
    /// Whether offsets may be committed, and as whom.
    pub permission: CommitPermission,
    /// Whether the member is in the current generation with nothing left to drain.
    pub stable: bool,
    /// When the coordinator last answered.
    pub last_contact: Option<Instant>,
}

#[derive(Debug)]
enum Command {
    Drained(BTreeSet<TopicPartition>),
    CommitError { error: ResponseError, generation: i32 },
    Leave(oneshot::Sender<()>),
}

/// A running membership. Dropping it ends its task without leaving the group: the session times out.
#[derive(Debug)]
pub struct Membership {
    events: mpsc::Receiver<Event>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<MembershipStatus>,
    /// Owns the task.
    tasks: JoinSet<()>,
}

impl Membership {
    /// Starts to join the group; must be called within a tokio runtime.
    pub fn start(cluster: Cluster, config: MemberConfig) -> Self {
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
        let member = Member::new(config, Instant::now().into_std());
        let (status_tx, status) = watch::channel(MembershipStatus {
            permission: member.commit_permission(),
            stable: false,
            last_contact: None,
        });
        let driver = Driver {
            cluster,
            member,
            events: events_tx,
            status: status_tx,
            metadata: JoinSet::new(),
            metadata_due: Instant::now(),
            metadata_reported: None,
            undescribed: BTreeMap::new(),
            last_contact: None,
            setbacks: 0,
            setback_reports: ReportLimit::every(REPORT_INTERVAL),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(commands_rx));
        Self { events, commands, status, tasks }
    }

    /// Returns the next event, or `None` after the membership has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Tells the group that revoked partitions are drained and committed.
    ///
    /// # Cancel safety
    /// A dropped future may not have told it.
    pub async fn drained(&self, partitions: BTreeSet<TopicPartition>) {
        self.send(Command::Drained(partitions)).await;
    }

    /// Reports an error that the coordinator answered to a commit made in `generation`.
    ///
    /// # Cancel safety
    /// A dropped future may not have reported it.
    pub async fn commit_failed(&self, error: ResponseError, generation: i32) {
        self.send(Command::CommitError { error, generation }).await;
    }

    /// Returns how the member stands with its group; the receiver sees every change.
    pub fn status(&self) -> watch::Receiver<MembershipStatus> {
        self.status.clone()
    }

    /// Leaves the group and ends the membership. Commit first.
    ///
    /// # Cancel safety
    /// A dropped future may not have left; the session then times out.
    pub async fn leave(mut self) {
        let (done, left) = oneshot::channel();
        self.send(Command::Leave(done)).await;
        if left.await.is_err() {
            tracing::debug!("the membership had ended before it could leave");
        }
        self.tasks.shutdown().await;
    }

    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the membership has ended");
        }
    }
}

/// What the cluster says of each of the group's topics.
type Described = BTreeMap<String, Result<TopicMetadata, ResponseError>>;

/// Whether the driver goes on after a command.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

struct Driver {
    cluster: Cluster,
    member: Member,
    events: mpsc::Sender<Event>,
    status: watch::Sender<MembershipStatus>,
    /// The one metadata request under way, if any.
    metadata: JoinSet<Result<Described, ClientError>>,
    /// When the leader looks at its topics again.
    metadata_due: Instant,
    /// When it was last reported that metadata cannot be had.
    metadata_reported: Option<Instant>,
    /// The topics that the cluster did not describe when it was last asked.
    undescribed: BTreeMap<String, ResponseError>,
    last_contact: Option<Instant>,
    /// How often in a row the coordinator broke off or refused a request, for no reason that a rebalance has.
    setbacks: u32,
    setback_reports: ReportLimit,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut connection = None;
        loop {
            self.publish();
            self.start_metadata();
            if self.member.needs_coordinator() {
                connection = self.connect(&mut commands).await;
                if connection.is_none() {
                    return;
                }
                self.member.on_coordinator_found();
                continue;
            }
            connection = connection.and_then(Connection::if_open);
            let request = self.member.poll_request(now());
            let flow = match (request, connection.as_mut()) {
                (Some(request), Some(connection)) => {
                    self.exchange(connection, request, &mut commands).await
                }
                (Some(_), None) => {
                    self.member.on_disconnected(now());
                    Flow::Continue
                }
                (None, _) => self.wait(&mut commands).await,
            };
            if flow == Flow::Stop {
                return;
            }
        }
    }

    /// Sends one request and waits for its answer, serving commands and metadata meanwhile.
    async fn exchange(
        &mut self,
        connection: &mut Connection,
        request: Request,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Flow {
        let config = self.member.config();
        let patient = config.rebalance_timeout + JOIN_GRACE;
        let prompt = self.cluster.config().request_timeout.min(config.session_timeout);
        let answer = call(connection, request, patient, prompt);
        tokio::pin!(answer);
        loop {
            self.publish();
            tokio::select! {
                answer = &mut answer => {
                    self.on_answer(answer);
                    return Flow::Continue;
                }
                command = commands.recv() => if self.on_command(command).await == Flow::Stop {
                    return Flow::Stop;
                },
                permit = self.events.clone().reserve_owned(), if self.member.has_events() => {
                    self.forward(permit.ok());
                }
                Some(counts) = self.metadata.join_next() => self.on_metadata(counts),
            }
        }
    }

    /// Waits for whatever comes first: a command, a timer, metadata.
    async fn wait(&mut self, commands: &mut mpsc::Receiver<Command>) -> Flow {
        let asks = self.metadata.is_empty() && self.member.watched_topics().is_some();
        let metadata_due = asks.then_some(self.metadata_due);
        let due = [self.member.poll_timeout().map(Instant::from_std), metadata_due];
        let due = due.into_iter().flatten().min();
        tokio::select! {
            command = commands.recv() => self.on_command(command).await,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Flow::Continue,
            permit = self.events.clone().reserve_owned(), if self.member.has_events() => {
                self.forward(permit.ok());
                Flow::Continue
            }
            Some(counts) = self.metadata.join_next() => {
                self.on_metadata(counts);
                Flow::Continue
            }
        }
    }

    /// Looks the coordinator up and connects to it, until it works; `None` when told to stop meanwhile.
    async fn connect(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Connection> {
        let mut backoff = COORDINATOR_BACKOFF;
        let mut reports = ReportLimit::every(REPORT_INTERVAL);
        loop {
            self.publish();
            let cluster = self.cluster.clone();
            let group_id = self.member.config().group_id.clone();
            let attempt = async move {
                let address = cluster.find_coordinator(&group_id).await?;
                Ok::<_, ClientError>(cluster.connect(&address).await?)
            };
            tokio::pin!(attempt);
            let failure = loop {
                tokio::select! {
                    outcome = &mut attempt => match outcome {
                        Ok(connection) => return Some(connection),
                        Err(error) => break error,
                    },
                    command = commands.recv() => if self.on_command(command).await == Flow::Stop {
                        return None;
                    },
                }
            };
            if let Some(unreported) = reports.report(()) {
                // A cluster that has just started answers CoordinatorNotAvailable for a moment.
                if unreported > 0 || !matches!(failure, ClientError::Refused { .. }) {
                    tracing::warn!(error = %chain(&failure), "waiting for the group coordinator");
                }
            }
            tokio::select! {
                () = backoff.wait() => {}
                command = commands.recv() => if self.on_command(command).await == Flow::Stop {
                    return None;
                },
            }
        }
    }

    fn on_answer(&mut self, answer: Result<Answer, ConnectionError>) {
        match answer {
            Ok(answer) => {
                self.last_contact = Some(Instant::now());
                match answer.setback() {
                    Some(error) => self.set_back(&format!("{error:?}")),
                    None => self.setbacks = 0,
                }
                match answer {
                    Answer::Join(response) => {
                        self.member.on_join(&response, now());
                        self.metadata_due = Instant::now();
                    }
                    Answer::Sync(response) => {
                        self.member.on_sync(&response, now());
                        self.metadata_due = Instant::now() + METADATA_INTERVAL;
                    }
                    Answer::Heartbeat(response) => self.member.on_heartbeat(&response, now()),
                    Answer::Left => {}
                }
            }
            Err(error) => {
                self.set_back(&chain(&error));
                self.member.on_disconnected(now());
            }
        }
    }

    /// Notes that the coordinator did not serve a request. Once is what a restart costs.
    fn set_back(&mut self, error: &str) {
        self.setbacks += 1;
        if self.setbacks > 1 && self.setback_reports.is_due() {
            tracing::warn!(error, "the group coordinator does not serve this member, trying again");
        } else {
            tracing::debug!(error, "the group coordinator did not serve a request");
        }
    }

    async fn on_command(&mut self, command: Option<Command>) -> Flow {
        match command {
            Some(Command::Drained(partitions)) => self.member.drained(&partitions),
            Some(Command::CommitError { error, generation }) => {
                self.member.on_commit_error(error, generation, now());
            }
            Some(Command::Leave(done)) => {
                self.leave().await;
                self.publish();
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the member to have left");
                }
                return Flow::Stop;
            }
            None => return Flow::Stop,
        }
        Flow::Continue
    }

    /// Leaves over another connection: the member's own may be waiting for a JoinGroup.
    async fn leave(&mut self) {
        let Some(Request::Leave(request)) = self.member.leave() else { return };
        let group_id = self.member.config().group_id.clone();
        let outcome = async {
            let address = self.cluster.find_coordinator(&group_id).await?;
            Ok::<_, ClientError>(self.cluster.call(&address, &request).await?)
        };
        match outcome.await {
            Ok(_) => tracing::info!(group = group_id, "left the group"),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not leave the group, its session will time out");
            }
        }
    }

    /// Starts a metadata request where the member leads its group and it is time to look at its topics.
    fn start_metadata(&mut self) {
        if !self.metadata.is_empty() || Instant::now() < self.metadata_due {
            return;
        }
        let Some(topics) = self.member.watched_topics() else { return };
        let cluster = self.cluster.clone();
        self.metadata.spawn(async move {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let mut described = cluster.describe(&names).await?;
            // A topic that the answer leaves out is as unknown as one that it calls unknown.
            for topic in topics {
                described.entry(topic).or_insert(Err(ResponseError::UnknownTopicOrPartition));
            }
            Ok(described)
        });
    }

    fn on_metadata(&mut self, described: Result<Result<Described, ClientError>, JoinError>) {
        match described {
            Ok(Ok(described)) => {
                self.metadata_reported = None;
                self.on_described(described);
            }
            Ok(Err(error)) => {
                if self.metadata_reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                    tracing::warn!(error = %chain(&error), "could not describe the group's topics, trying again");
                    self.metadata_reported = Some(Instant::now());
                }
                self.metadata_due = Instant::now() + METADATA_RETRY;
                return;
            }
            Err(error) => tracing::error!(%error, "the task that describes topics failed"),
        }
        let pause = if self.member.is_assigning() { METADATA_RETRY } else { METADATA_INTERVAL };
        self.metadata_due = Instant::now() + pause;
    }

    fn on_described(&mut self, described: Described) {
        let mut undescribed = BTreeMap::new();
        let mut counts = PartitionCounts::new();
        for (name, topic) in described {
            let count = match topic.map(|topic| topic.partition_count()) {
                Ok(0) => Err(ResponseError::LeaderNotAvailable),
                count => count,
            };
            if let Err(error) = count {
                undescribed.insert(name.clone(), error);
            }
            counts.insert(name, count.ok());
        }
        if !undescribed.is_empty() && undescribed != self.undescribed {
            tracing::warn!(
                topics = ?undescribed,
                "the cluster does not describe topics of the group: their last assignment is kept"
            );
        }
        self.undescribed = undescribed;
        self.member.on_partition_counts(counts, now());
    }

    fn forward(&mut self, permit: Option<mpsc::OwnedPermit<Event>>) {
        if let (Some(permit), Some(event)) = (permit, self.member.poll_event()) {
            permit.send(event);
        }
    }

    fn publish(&mut self) {
        while self.member.has_events() {
            let Ok(permit) = self.events.clone().try_reserve_owned() else { break };
            self.forward(Some(permit));
        }
        let status = MembershipStatus {
            permission: self.member.commit_permission(),
            stable: self.member.is_stable(),
            last_contact: self.last_contact,
        };
        self.status.send_if_modified(|present| {
            let changed = *present != status;
            *present = status;
            changed
        });
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
