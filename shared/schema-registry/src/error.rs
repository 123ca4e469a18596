//! Errors, by the reaction of the caller.

use std::fmt;

use order_avro::SchemaId;
use tokio::time::Instant;

/// The error of a call to the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The configuration is invalid: correct it.
    #[error("{url:?} is no usable URL of a schema registry: {reason}")]
    Configuration {
        /// The URL, without its credentials.
        url: String,
        /// Why the URL is invalid.
        reason: String,
    },
    /// The registry did not answer: wait, and try again.
    #[error("the schema registry at {url} is unavailable: {outage}: {detail}")]
    Unavailable {
        /// The URL of the last attempt, without its credentials, with the proxy in front of it.
        url: String,
        /// The kind of failure.
        outage: Outage,
        /// The message of the network stack or of the registry.
        detail: String,
    },
    /// The registry has denied this id for less than ten seconds: ask again at `ask_at`.
    ///
    /// A new schema may not have reached the replica of the registry that answered.
    #[error("the schema registry knows no schema with the {} {id} yet", id.kind())]
    NotYetKnown {
        /// The id asked for.
        id: SchemaId,
        /// The client does not ask the registry before this time.
        ask_at: Instant,
    },
    /// The registry has denied this id for ten seconds: records with this id are bad.
    #[error("the schema registry knows no schema with the {} {id}", id.kind())]
    UnknownSchema {
        /// The id asked for.
        id: SchemaId,
    },
    /// For ten seconds the registry has answered like a registry without GUIDs: records with GUIDs cannot be read.
    #[error(
        "the schema registry looks up no GUIDs, such as {id}: that takes Confluent's from version 8.0 on, or producers that \
         put the schema's id in front of the value"
    )]
    NoGuids {
        /// The GUID asked for.
        id: SchemaId,
    },
    /// Orders cannot be read with the schema with this id: records with this id are bad.
    #[error("the schema with the {} {id} cannot be used: {reason}", id.kind())]
    InvalidSchema {
        /// The id asked for.
        id: SchemaId,
        /// The reason.
        reason: String,
    },
    /// The schema is incompatible with earlier versions of the subject: stop, and correct the schema.
    #[error("the schema is incompatible with the subject {subject:?}: {message}")]
    Incompatible {
        /// The subject of the registration.
        subject: String,
        /// The registry's message.
        message: String,
    },
    /// The registry refuses the call: stop, and correct it.
    #[error("the schema registry refuses: {message} (HTTP {status}, error code {error_code})")]
    Refused {
        /// The HTTP status of the response.
        status: u16,
        /// The registry's error code, or the HTTP status for a response without one.
        error_code: u32,
        /// The registry's message.
        message: String,
    },
}

/// The kind of an outage of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// No connection, or a broken one.
    Network,
    /// No response within the request's timeout.
    Timeout,
    /// The registry or the proxy refuses the credentials with this HTTP status: 401, 403 or 407.
    Denied(u16),
    /// A redirect with this HTTP status that the client does not follow.
    Redirect(u16),
    /// A temporary HTTP status (5xx, 408, 425, 429), or a status that no registry has for this call.
    Status(u16),
    /// A successful response with a body that is not a registry's.
    Garbled,
}

impl RegistryError {
    /// Makes a denied access a final refusal.
    pub(crate) fn final_denial(self) -> Self {
        if let Self::Unavailable { outage: Outage::Denied(status @ (401 | 403)), detail, .. } = self
        {
            return Self::Refused { status, error_code: status.into(), message: detail };
        }
        self
    }

    /// Returns whether a later attempt may succeed.
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
