//! What all requests share.

use std::net::IpAddr;

use http_server::Places;
use service_runtime::Context;
use tokio::sync::{Semaphore, mpsc};

use super::access::{Access, SessionKey};
use super::dead_letters::Job;
use crate::settings::ConsoleSettings;
use crate::view::View;

/// Streams of events at once: browser tabs.
const STREAMS_MAX: usize = 64;
/// Streams of one session, or of one client without a session.
const OWN_STREAMS_MAX: usize = 16;
/// Requests at once that read the dead-letter topic.
const READS_MAX: usize = 2;

pub(super) struct App {
    pub(super) settings: ConsoleSettings,
    pub(super) context: Context,
    pub(super) view: View,
    pub(super) access: Access,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) streams: Places<StreamOwner>,
    /// Limits requests that read the dead-letter topic.
    pub(super) reads: Semaphore,
}

/// The owner whose streams are limited together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamOwner {
    Session(SessionKey),
    Client(IpAddr),
}

impl App {
    pub(super) fn new(
        settings: ConsoleSettings,
        context: Context,
        view: View,
        jobs: mpsc::Sender<Job>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            access: Access::of(&settings.dashboard)?,
            settings,
            context,
            view,
            jobs,
            streams: Places::new(STREAMS_MAX, OWN_STREAMS_MAX),
            reads: Semaphore::new(READS_MAX),
        })
    }
}
