//! The coordinator of a consumer group: finding it, and noticing that it has moved.
//!
//! The member, its commits and look-ups of offsets have connections of their own. One look-up of the coordinator serves all of
//! them, and requests that still wait at the former coordinator are cancelled once a new one is found.
//!
//! FindCoordinator: <https://kafka.apache.org/protocol#The_Messages_FindCoordinator>.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::watch;

use crate::api::Call;
use crate::cluster::Cluster;
use crate::connection::{Connection, ConnectionError};
use crate::error::ClientError;

/// FindCoordinator's key type of consumer groups.
const GROUP_KEY_TYPE: i8 = 0;

/// A handle to the coordinator of one consumer group. Clones and other handles of the same [`Cluster`] share what they know.
#[derive(Clone, Debug)]
pub struct Coordinator {
    cluster: Cluster,
    group_id: String,
    state: Arc<State>,
}

/// What is known of one group's coordinator.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The `host:port` of the broker that is the coordinator, unless that is in doubt.
    address: watch::Sender<Option<Arc<str>>>,
    /// Held while the coordinator is looked up.
    finding: tokio::sync::Mutex<()>,
}

/// The state of each group's coordinator.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    states: Mutex<BTreeMap<String, Arc<State>>>,
}

impl Coordinators {
    pub(crate) fn of(&self, group_id: &str) -> Arc<State> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(states.entry(group_id.to_owned()).or_default())
    }
}

impl Coordinator {
    pub(crate) fn new(cluster: Cluster, group_id: String, state: Arc<State>) -> Self {
        Self { cluster, group_id, state }
    }

    /// Returns the group's id.
    pub fn group_id(&self) -> &str {
        &self.group_id
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the coordinator's `host:port`: the known one, or the one that the cluster names. Concurrent calls share one look-up.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `CoordinatorNotAvailable` while a new cluster has none yet, or
    /// [`ClientError::Unreachable`] while no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn find(&self) -> Result<Arc<str>, ClientError> {
        let _only_one = self.state.finding.lock().await;
        let known = self.state.address.borrow().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let request = messages::FindCoordinatorRequest::default()
            .with_key_type(GROUP_KEY_TYPE)
            .with_coordinator_keys(vec![StrBytes::from_string(self.group_id.clone())]);
        let response = self.cluster.call_any(&request).await?;
        let what = || format!("find the coordinator of group {}", self.group_id);
        let coordinator = response
            .coordinators
            .first()
            .ok_or_else(|| ClientError::refused(what(), ResponseError::CoordinatorNotAvailable))?;
        if let Some(error) = ResponseError::try_from_code(coordinator.error_code) {
            return Err(ClientError::refused(what(), error));
        }
        let found: Arc<str> = format!("{}:{}", coordinator.host.as_str(), coordinator.port).into();
        self.state.address.send_replace(Some(Arc::clone(&found)));
        Ok(found)
    }

    /// Notes that the broker at `address` did not serve a request as the coordinator: the next [`Coordinator::find`] asks the
    /// cluster.
    pub fn doubt(&self, address: &str) {
        self.state.address.send_if_modified(|known| {
            let is_known = known.as_deref() == Some(address);
            if is_known {
                *known = None;
            }
            is_known
        });
    }

    /// Waits until another broker than the one at `address` is known to be the coordinator.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn moved_from(&self, address: &str) {
        let mut known = self.state.address.subscribe();
        let is_another =
            |known: &Option<Arc<str>>| known.as_deref().is_some_and(|known| known != address);
        // The sender lives in this handle, so it outlives the wait.
        if known.wait_for(is_another).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Opens a connection to the coordinator.
    ///
    /// # Errors
    /// As [`Coordinator::find`], or [`ClientError::Unreachable`] if the coordinator cannot be reached.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let address = self.find().await?;
        let connected = self.cluster.connect(&address).await;
        connected.map_err(|error| {
            self.doubt(&address);
            error.into()
        })
    }

    /// Sends one request over the connection that everything in the process shares for single requests to this broker; returns the
    /// coordinator's `host:port` with the answer.
    ///
    /// # Errors
    /// As [`Coordinator::connect`].
    ///
    /// # Cancel safety
    /// As [`Cluster::call_any`].
    pub async fn call_once<R: Call>(
        &self,
        request: &R,
    ) -> Result<(Arc<str>, R::Response), ClientError> {
        let address = self.find().await?;
        match self.cluster.call(&address, request).await {
            Ok(response) => Ok((address, response)),
            Err(error) => {
                self.doubt(&address);
                Err(error.into())
            }
        }
    }

    /// Sends one request over `connection`, or over a new one if that cannot take a request or leads to another broker. The
    /// connection is kept if the coordinator answers.
    ///
    /// # Errors
    /// As [`Coordinator::connect`], or [`ClientError::Unreachable`] if the coordinator does not answer, or has moved meanwhile.
    ///
    /// # Cancel safety
    /// Cancel safe for the connection; the coordinator may still act on the request.
    pub async fn call<R: Call>(
        &self,
        connection: &mut Option<Connection>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let known = self.state.address.borrow().clone();
        let is_known = |open: &Connection| known.as_deref() == Some(open.address());
        let open = connection.take().and_then(Connection::if_open).filter(is_known);
        let mut open = match open {
            Some(open) => open,
            None => self.connect().await?,
        };
        let address = open.address().to_owned();
        let deadline = self.cluster.config().request_timeout;
        let response = tokio::select! {
            response = open.call(request, deadline) => response,
            () = self.moved_from(&address) => {
                let source = io::Error::other("the group has another coordinator");
                Err(ConnectionError::Broken { address: address.clone(), api: R::KEY, source })
            }
        };
        match response {
            Ok(response) => {
                *connection = Some(open);
                Ok(response)
            }
            Err(error) => {
                self.doubt(&address);
                Err(error.into())
            }
        }
    }

    /// Notes an error that the broker at `address` has answered: it may not be the coordinator.
    pub fn note_error(&self, address: &str, error: ResponseError) {
        if matches!(error, ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable) {
            self.doubt(address);
        }
    }
}
