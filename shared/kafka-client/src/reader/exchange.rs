//! One Fetch request and its answer over the connection of a lane.

use std::time::Duration;

use kafka_core::NodeId;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;

use super::lanes::Asked;
use super::{OnFetch, ReaderConfig, request};
use crate::api::StreamedCall as _;
use crate::cluster::Cluster;
use crate::connection::{Connection, ConnectionError};
use crate::error::ClientError;
use crate::fetch::{FetchAnswer, TOPIC_IDS_SINCE};

/// A connection that broke earlier than this after a request was not idle.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// A request on its way.
pub(super) struct Exchange {
    pub(super) cluster: Cluster,
    pub(super) config: ReaderConfig,
    pub(super) node: NodeId,
    pub(super) asked: Asked,
    pub(super) wait: Duration,
}

/// What came back.
pub(super) struct Answered {
    pub(super) asked: Asked,
    /// The connection, if it is usable.
    pub(super) connection: Option<Connection>,
    pub(super) answer: Result<FetchAnswer, ClientError>,
    /// Whether the broker has closed a connection that was idle or waiting, as it may at any time
    /// (`connections.max.idle.ms`).
    pub(super) was_idle: bool,
}

impl Exchange {
    /// Sends the request over `kept`, or over a new connection.
    pub(super) async fn run(self, kept: Option<Connection>) -> Answered {
        let begun = Instant::now();
        let kept = kept.and_then(Connection::if_open);
        let is_kept = kept.is_some();
        let (connection, answer) = self.ask(kept).await;
        if let Some(OnFetch(observe)) = &self.config.on_fetch {
            observe(begun.elapsed(), answer.as_ref().err());
        }
        let is_broken =
            matches!(answer, Err(ClientError::Unreachable(ConnectionError::Broken { .. })));
        let was_idle = is_broken && (is_kept || begun.elapsed() >= IDLE_MIN);
        Answered { asked: self.asked, connection, answer, was_idle }
    }

    async fn ask(
        &self,
        kept: Option<Connection>,
    ) -> (Option<Connection>, Result<FetchAnswer, ClientError>) {
        let connection = match kept {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => return (None, Err(error)),
        };
        match self.send(&mut connection).await {
            Ok(answer) => (Some(connection), Ok(answer)),
            Err(error) => (None, Err(error.into())),
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let address = self.cluster.known().address(self.node).cloned().ok_or_else(|| {
            ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
        })?;
        Ok(self.cluster.connect(&address).await?)
    }

    async fn send(&self, connection: &mut Connection) -> Result<FetchAnswer, ConnectionError> {
        let newest = connection.newest(FetchRequest::KEY, FetchRequest::VERSIONS)?;
        let version =
            if request::has_ids(&self.asked) { newest } else { newest.min(TOPIC_IDS_SINCE - 1) };
        let request = request::request(&self.asked, &self.config, self.wait, version);
        let deadline = self.wait + self.cluster.config().request_timeout;
        connection.call_streamed(&request, version, deadline).await
    }
}
