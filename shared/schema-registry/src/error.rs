//! What can go wrong, by what the caller does about it.

use std::fmt;

use order_avro::SchemaId;
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
        /// The URL that was tried last, without its credentials, and the proxy in front of it.
        url: String,
        /// What kind of failure it was.
        outage: Outage,
        /// What the network, or the registry itself, says about it.
        detail: String,
    },
    /// The registry has no schema with this id, and has said so for less than ten seconds: ask again at `ask_at`.
    ///
    /// A schema that was registered a moment ago may not have reached the registry's replica that answered.
    #[error("the schema registry knows no schema with the {} {id} yet", id.kind())]
    NotYetKnown {
        /// The id asked for.
        id: SchemaId,
        /// Before that the registry is not asked again.
        ask_at: Instant,
    },
    /// The registry has denied for ten seconds that it has a schema with this id: what names it is bad.
    #[error("the schema registry knows no schema with the {} {id}", id.kind())]
    UnknownSchema {
        /// The id asked for.
        id: SchemaId,
    },
    /// The registry has answered for ten seconds as one that looks up ids, and no GUIDs: what names one cannot be read.
    #[error(
        "the schema registry looks up no GUIDs, such as {id}: that takes Confluent's from version 8.0 on, or producers that \
         put the schema's id in front of the value"
    )]
    NoGuids {
        /// The GUID asked for.
        id: SchemaId,
    },
    /// The schema with this id is none that orders could be read with: what names it is bad.
    #[error("the schema with the {} {id} cannot be used: {reason}", id.kind())]
    InvalidSchema {
        /// The id asked for.
        id: SchemaId,
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
    /// It, or the proxy in front of it, wants other credentials than there are, with this HTTP status: 401, 403 or 407.
    Denied(u16),
    /// It redirects with this HTTP status to where a request must not go, or not as it is.
    Redirect(u16),
    /// An HTTP status that stands for a passing trouble (5xx, 408, 425, 429), or one that a registry does not
    /// answer this call with.
    Status(u16),
    /// A success whose body is not what a registry answers.
    Garbled,
}

impl RegistryError {
    /// Takes a denial of the access for the registry's last word.
    pub(crate) fn final_denial(self) -> Self {
        if let Self::Unavailable { outage: Outage::Denied(status @ (401 | 403)), detail, .. } = self
        {
            return Self::Refused { status, error_code: status.into(), message: detail };
        }
        self
    }

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
            Self::Redirect(status) => write!(f, "HTTP {status}, a redirect"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Garbled => f.write_str("no registry's answer"),
        }
    }
}
