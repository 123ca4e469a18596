//! How an attempt at an order ends.

use std::borrow::Cow;
use std::time::Duration;

/// What became of one attempt at one order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The order is processed.
    Done,
    /// It may succeed later: it is tried again after a delay, at most `MAX_RETRIES` times, and then dead-lettered.
    ///
    /// So is an attempt that takes longer than `HANDLER_TIMEOUT_MS`. When nothing but such failures comes back, the
    /// dependency counts as down (see `flow::circuit_breaker`).
    Transient {
        /// What went wrong, for people.
        reason: Cow<'static, str>,
        /// The least delay before the next attempt, if the other side named one.
        retry_after: Option<Duration>,
    },
    /// It can never succeed: the order goes to the dead-letter topic.
    Permanent {
        /// What went wrong, for people.
        reason: Cow<'static, str>,
    },
    /// Something the work needs is not there, whatever the order: all attempts pause but a probe now and then, and the
    /// order is tried again. It is never dead-lettered for that, and the attempt does not count.
    DependencyDown {
        /// What is not there, for people.
        reason: Cow<'static, str>,
        /// The least pause before the first probe, if the other side named one.
        retry_after: Option<Duration>,
    },
    /// A failure on purpose.
    Simulated(SimulatedFailure),
}

impl Outcome {
    /// Returns a failure that may heal.
    pub fn transient(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// Returns a failure that cannot heal.
    pub fn permanent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// Returns an outage of something that all orders need.
    pub fn dependency_down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::DependencyDown { reason: reason.into(), retry_after: None }
    }
}

/// How an attempt fails on purpose, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFailure {
    /// A later attempt may succeed.
    Transient(&'static str),
    /// No attempt will.
    Permanent(&'static str),
}

/// A handler's answer, or the reason why there is none.
pub(crate) type AttemptResult = Result<Outcome, NoAnswer>;

/// Why a handler gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It panicked with this message.
    Panic(String),
    /// It exceeded this `HANDLER_TIMEOUT_MS`.
    Timeout(Duration),
}
