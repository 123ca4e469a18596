//! How an attempt at an order ends.

use std::borrow::Cow;
use std::time::Duration;

/// How an attempt at an order ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The handler has processed the order.
    Done,
    /// A later attempt may succeed: the order is tried again after a delay, at most `MAX_RETRIES` times, and then
    /// dead-lettered.
    ///
    /// So is an attempt that exceeds `HANDLER_TIMEOUT_MS`. When all attempts fail like this, the dependency counts as down.
    Transient {
        /// What went wrong, as a text for operators.
        reason: Cow<'static, str>,
        /// The least delay before the next attempt, if the receiver named one.
        retry_after: Option<Duration>,
    },
    /// No attempt can succeed: the order goes to the dead-letter topic.
    Permanent {
        /// What went wrong, as a text for operators.
        reason: Cow<'static, str>,
    },
    /// The handler's dependency does not work for any order: all attempts pause except for probes, and the order is tried
    /// again. It is never dead-lettered for this, and the attempt does not count.
    DependencyDown {
        /// What does not work, as a text for operators.
        reason: Cow<'static, str>,
        /// The least pause before the first probe, if the receiver named one.
        retry_after: Option<Duration>,
    },
    /// The simulation failed the order on purpose.
    Simulated(SimulatedFailure),
}

impl Outcome {
    /// Returns a failure after which a later attempt may succeed.
    pub fn transient(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// Returns a failure after which no attempt can succeed.
    pub fn permanent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// Returns an outage of the handler's dependency.
    pub fn dependency_down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::DependencyDown { reason: reason.into(), retry_after: None }
    }
}

/// A simulated failure with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFailure {
    /// A later attempt may succeed.
    Transient(&'static str),
    /// No later attempt succeeds.
    Permanent(&'static str),
}

/// A handler's answer, or the reason why there is none.
pub(crate) type AttemptResult = Result<Outcome, NoAnswer>;

/// Why a handler gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It panicked with this message.
    Panic(String),
    Timeout(Duration),
}
