//! What can go wrong, by what the caller does about it.

use std::fmt;

use tokio::time::Instant;

/// Why a call to the registry has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The client cannot be built from its configuration: correct it.
    #[error("{url:?} is no usable URL of a schema registry: {reason}")]
    Configuration {
        /// The URL, without its credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry did not give an answer: wait, and try again.
    #[error("the schema registry at {url} is unavailable: {outage}: {detail}")]
    Unavailable {
        /// The URL that was tried last, without its credentials.
        url: String,
        /// What kind of failure it was.
        outage: Outage,
        /// What the network, or the registry itself, says about it.
        detail: String,
    },
    /// The registry has no schema with this id, and has said so for less than ten seconds: ask again at `ask_at`.
    ///
    /// A schema that was registered a moment ago may not have reached the registry's replica that answered.
    #[error("the schema registry knows no schema with the id {id} yet")]
    NotYetKnown {
        /// The id asked for.
        id: u32,
        /// Before that the registry is not asked again.
        ask_at: Instant,
    },
    /// The registry has denied for ten seconds that it has a schema with this id: what names it is bad.
    #[error("the schema registry knows no schema with the id {id}")]
    UnknownSchema {
        /// The id asked for.
        id: u32,
    },
    /// The schema with this id is none that orders could be read with: what names it is bad.
    #[error("the schema with the id {id} cannot be used: {reason}")]
    InvalidSchema {
        /// The id asked for.
        id: u32,
        /// Why not.
        reason: String,
    },
    /// The schema is incompatible with the subject's earlier ones: stop, and correct the schema.
    #[error("the schema is incompatible with the subject {subject:?}: {message}")]
    Incompatible {
        /// The subject it was to be registered under.
        subject: String,
        /// The registry's own words.
        message: String,
    },
    /// The registry understood the call and refuses it: stop, and correct the call.
    #[error("the schema registry refuses: {message} (HTTP {status}, error code {error_code})")]
    Refused {
        /// The answer's HTTP status.
        status: u16,
        /// The registry's error code, or the HTTP status if the answer has none.
        error_code: u32,
        /// The registry's own words.
        message: String,
    },
}

/// The ways in which a registry can be unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// No connection, or one that broke.
    Network,
    /// No answer within the request's timeout.
    Timeout,
    /// It wants other credentials than the URL has, with this HTTP status: 401 or 403.
    Denied(u16),
    /// An HTTP status that stands for a passing trouble (5xx, 408, 425, 429), or one that a registry does not
    /// answer this call with.
    Status(u16),
    /// A success whose body is not what a registry answers.
    Garbled,
}

impl RegistryError {
    /// Returns whether the registry may answer another time.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("no connection"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Denied(status) => write!(f, "access denied with HTTP {status}"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Garbled => f.write_str("no registry's answer"),
        }
    }
}
