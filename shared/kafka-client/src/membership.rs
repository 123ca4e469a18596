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
use crate::coordinator::Coordinator;
use crate::error::{ClientError, chain};

/// Events that wait for the application. The member sends heartbeats even if the queue is full.
const EVENTS_MAX: usize = 64;
/// Commands that wait for the task of the member.
const COMMANDS_MAX: usize = 64;
/// How much longer than the rebalance timeout a JoinGroup may take.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How often the group's leader checks for new topics and partitions.
const METADATA_INTERVAL: Duration = Duration::from_secs(15);
/// Pause before the leader requests metadata again that it could not get, or cannot assign with.
const METADATA_RETRY: Duration = Duration::from_millis(200);
/// Pauses between lookups of the coordinator.
const COORDINATOR_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// How often a failing coordinator and unavailable metadata are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The state of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipStatus {
    /// Whether the member may commit offsets, and with which identity.
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
    pub fn start(cluster: &Cluster, config: MemberConfig) -> Self {
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
        let member = Member::new(config, Instant::now().into_std());
        let (status_tx, status) = watch::channel(MembershipStatus {
            permission: member.commit_permission(),
            stable: false,
            last_contact: None,
        });
        let driver = Driver {
            coordinator: cluster.coordinator(member.config().group_id.clone()),
            connected_to: None,
            member,
            events: events_tx,
            status: status_tx,
            metadata: JoinSet::new(),
            metadata_due: Instant::now(),
            metadata_reports: ReportLimit::every(REPORT_INTERVAL),
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

    /// Notes that revoked partitions are drained and committed; the member may join again.
    ///
    /// # Cancel safety
    /// A dropped future may not have noted it.
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

    /// Returns the state of the membership; the receiver sees every change.
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

/// The metadata of each of the group's topics.
type Described = BTreeMap<String, Result<TopicMetadata, ResponseError>>;

/// Whether the driver continues after a command.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

struct Driver {
    coordinator: Coordinator,
    /// The broker of the member's connection.
    connected_to: Option<String>,
    member: Member,
    events: mpsc::Sender<Event>,
    status: watch::Sender<MembershipStatus>,
    /// The metadata request in flight, if any.
    metadata: JoinSet<Result<Described, ClientError>>,
    /// When the leader requests metadata again.
    metadata_due: Instant,
    metadata_reports: ReportLimit,
    /// The topics without metadata in the last response.
    undescribed: BTreeMap<String, ResponseError>,
    last_contact: Option<Instant>,
    /// Requests in a row that the coordinator did not serve, other than for a rebalance.
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
        let prompt = self.coordinator.cluster().config().request_timeout;
        // A second coordinator must hear of the member before its session ends.
        let prompt = prompt.min(config.session_timeout / 3);
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

    /// Waits for the next command, timer or metadata.
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

    /// Looks up the coordinator and connects to it, again until it succeeds; `None` after a command to stop.
    async fn connect(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Connection> {
        let mut backoff = COORDINATOR_BACKOFF;
        let mut reports = ReportLimit::every(REPORT_INTERVAL);
        let coordinator = self.coordinator.clone();
        // The member has no coordinator, or the one it had does not serve it.
        if let Some(former) = self.connected_to.take() {
            coordinator.doubt(&former);
        }
        loop {
            self.publish();
            let attempt = coordinator.connect();
            tokio::pin!(attempt);
            let failure = loop {
                tokio::select! {
                    outcome = &mut attempt => match outcome {
                        Ok(connection) => {
                            self.connected_to = Some(connection.address().to_owned());
                            return Some(connection);
                        }
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

    /// Notes that the coordinator did not serve a request. A single one is usual when a broker restarts.
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
                    tracing::debug!("the caller did not wait for the member to leave");
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
        match self.coordinator.call_once(&request).await {
            Ok(_) => tracing::info!(group = self.coordinator.group_id(), "left the group"),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not leave the group, its session will time out");
            }
        }
    }

    /// Starts a metadata request if the member leads its group and the request is due.
    fn start_metadata(&mut self) {
        if !self.metadata.is_empty() || Instant::now() < self.metadata_due {
            return;
        }
        let Some(topics) = self.member.watched_topics() else { return };
        let cluster = self.coordinator.cluster().clone();
        self.metadata.spawn(async move {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let mut described = cluster.describe(&names).await?;
            // A topic that the response leaves out counts as unknown.
            for topic in topics {
                described.entry(topic).or_insert(Err(ResponseError::UnknownTopicOrPartition));
            }
            Ok(described)
        });
    }

    fn on_metadata(&mut self, described: Result<Result<Described, ClientError>, JoinError>) {
        match described {
            Ok(Ok(described)) => {
                self.metadata_reports.reset();
                self.on_described(described);
            }
            Ok(Err(error)) => {
                if self.metadata_reports.is_due() {
                    tracing::warn!(error = %chain(&error), "could not describe the group's topics, trying again");
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
