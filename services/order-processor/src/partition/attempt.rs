//! One attempt at a record: begun, answered at once or later, in time or not, or ended by a panic.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use dead_letter::{RawHeader, ReplayOf};
use order_avro::Order;
use order_ledger::checkpoint::Origin;
use service_runtime::trace_context::{TRACEPARENT, Trace, TraceContext};
use tokio::time::{Instant, sleep};
use tokio_util::sync::ReusableBoxFuture;

use super::incomplete::{IncompleteRecord, raw};
use super::pending::{Finished, InFlight};
use super::spans::Begun;
use super::worker::{Shared, Worker};
use crate::handler::{Attempt, AttemptResult, Handler, NoAnswer, Outcome, Source};

pub(super) struct Place {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    /// What most records do not have.
    pub(super) more: Option<Box<More>>,
}

/// Whether traces of records are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Traces {
    Used,
    Ignored,
}

/// What attempts at some records need besides.
pub(super) struct More {
    /// Where a replayed record failed first.
    first: Option<(Source, i64)>,
    /// The trace that the record is part of, with a span of the attempt's own.
    trace: Option<Trace>,
    /// The span that the record itself names.
    parent: Option<TraceContext>,
}

impl IncompleteRecord {
    /// Returns where the record is.
    pub(super) fn place(&self, traces: Traces) -> Place {
        let record = &self.record;
        let headers = || raw(&record.headers);
        Place {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            more: More::of(record.headers.len(), headers, self.work.origin, traces),
        }
    }
}

impl More {
    /// What the name of a trace's header begins with.
    const TRACE_INITIAL: Option<&u8> = TRACEPARENT.as_bytes().first();

    /// Reads a record's headers, of which there are `count`, if they can name a trace or a first failure.
    #[inline]
    pub(super) fn of<'a, I: Iterator<Item = RawHeader<'a>>>(
        count: usize,
        headers: impl Fn() -> I,
        origin: Origin,
        traces: Traces,
    ) -> Option<Box<Self>> {
        let says_nothing = (origin == Origin::Produced) && (traces == Traces::Ignored);
        if (count == 0) || says_nothing {
            return None;
        }
        // A look at the first letters of the names costs less than reading what they say.
        let mut names = headers().map(|(name, _)| name.first());
        if (origin == Origin::Produced) && !names.any(|first| first == Self::TRACE_INITIAL) {
            return None;
        }
        Self::read(headers, origin, traces)
    }

    fn read<'a, I: Iterator<Item = RawHeader<'a>>>(
        headers: impl Fn() -> I,
        origin: Origin,
        traces: Traces,
    ) -> Option<Box<Self>> {
        let first = match origin {
            Origin::Produced => None,
            Origin::Replayed => first_place(headers()),
        };
        let trace = match traces {
            Traces::Used => Trace::of(headers()),
            Traces::Ignored => None,
        };
        let parent = trace.as_ref().map(|trace| trace.context);
        let trace = trace.and_then(own_span);
        (first.is_some() || trace.is_some()).then(|| Box::new(Self { first, trace, parent }))
    }
}

/// Returns the same trace with a span of its own.
fn own_span(trace: Trace) -> Option<Trace> {
    Some(Trace { context: trace.context.with_span(rand::random())?, ..trace })
}

impl<H: Handler> Worker<'_, H> {
    #[inline]
    pub(super) fn traces(&self) -> Traces {
        if H::USES_TRACE || self.shared.spans.is_on() { Traces::Used } else { Traces::Ignored }
    }

    /// Starts an attempt, for which there is a permit; returns its outcome if it ended at once, and otherwise keeps it
    /// in flight with the permit.
    pub(super) fn start(
        &mut self,
        place: Place,
        order: Order,
        number: u32,
    ) -> Option<(Order, AttemptResult)> {
        let (shared, source) = (self.shared, self.source);
        let Place { offset, timestamp_ms, more } = place;
        let mut future = match more {
            None => {
                let attempt = Attempt { number, source, offset, timestamp_ms, trace: None };
                let attempt = make(shared, attempt, order, offset);
                match self.pending.spare.take() {
                    Some(mut spare) => {
                        spare.set(attempt);
                        spare
                    }
                    None => ReusableBoxFuture::new(attempt),
                }
            }
            Some(more) => ReusableBoxFuture::new(async move {
                let (first, named) = match &more.first {
                    Some((first, offset)) => (first, *offset),
                    None => (source, offset),
                };
                let trace = more.trace.as_ref();
                let span_id = trace.map(|trace| trace.context.span_id());
                let span =
                    more.parent.zip(span_id).and_then(|(parent, id)| Begun::of(shared, parent, id));
                let attempt = Attempt { number, source: first, offset: named, timestamp_ms, trace };
                let finished = make(shared, attempt, order, offset).await;
                if let (Some(span), Finished::Attempt { outcome, .. }) = (span, &finished) {
                    span.processed(shared, source, offset, outcome);
                }
                finished
            }),
        };
        // The waker does nothing: a future that is pending is polled again as soon as it is in flight.
        self.pending.heartbeat.beat();
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        self.pending.heartbeat.beat();
        match polled {
            Poll::Ready(Finished::Attempt { order, outcome, .. }) => {
                self.pending.spare = Some(future);
                Some((order, outcome))
            }
            Poll::Ready(Finished::Letter { .. }) => None,
            Poll::Pending => {
                let (permit, begun) = (self.pending.permits.take(), Instant::now());
                self.pending.in_flight.push(InFlight { work: future, permit, begun });
                None
            }
        }
    }
}

/// Makes an attempt at the record at `offset`.
///
/// All of this is copied for every record, so it is kept small.
#[expect(clippy::manual_async_fn, reason = "an async function would keep its arguments twice")]
fn make<'a, H: Handler>(
    shared: &'a Shared<H>,
    attempt: Attempt<'a>,
    order: Order,
    offset: i64,
) -> impl Future<Output = Finished> + Send + 'a {
    async move {
        let outcome = {
            let mut handled = pin!(async { shared.handler.handle(&order, attempt).await });
            // Most attempts end at once and need no clock.
            let mut limit = None;
            poll_fn(move |cx| match poll_caught(handled.as_mut(), cx) {
                Poll::Pending => {
                    let after = shared.settings.handler.timeout;
                    let (end, _call) = limit.get_or_insert_with(|| {
                        (Box::pin(sleep(after)), shared.watchdog.begin("a handler's call", after))
                    });
                    end.as_mut().poll(cx).map(|()| Err(NoAnswer::Timeout(after)))
                }
                answered @ Poll::Ready(_) => answered,
            })
            .await
        };
        Finished::Attempt { offset, order, outcome }
    }
}

/// Polls a handler; a panic is an answer, too.
#[inline]
fn poll_caught(
    handled: Pin<&mut impl Future<Output = Outcome>>,
    cx: &mut Context<'_>,
) -> Poll<AttemptResult> {
    match catch_unwind(AssertUnwindSafe(|| handled.poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(NoAnswer::Panic(panic_message(&*panic)))),
    }
}

/// Returns where a record with these headers failed first, if it is a replay.
fn first_place<'a>(headers: impl Iterator<Item = RawHeader<'a>>) -> Option<(Source, i64)> {
    let first = ReplayOf::of(&headers.collect::<Vec<_>>())?;
    let ReplayOf { topic, topic_id, partition, offset } = first;
    Some((Source { topic, topic_id, partition }, offset))
}

/// Reads what a panicking handler said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", said.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const STATE: &[u8] = b"vendor=1";

    fn read(headers: &[(&'static str, &'static [u8])], traces: Traces) -> Option<Box<More>> {
        let raw = || headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value)));
        More::of(headers.len(), raw, Origin::Produced, traces)
    }

    #[test]
    fn a_trace_is_found_among_however_few_headers() {
        let parent: (&str, &[u8]) = ("traceparent", PARENT);
        let state: (&str, &[u8]) = ("tracestate", STATE);
        let other: (&str, &[u8]) = ("a", b"b");
        for (headers, expected_state) in [
            (&[parent][..], None),
            (&[other, parent], None),
            (&[parent, state], Some("vendor=1")),
            (&[state, parent], Some("vendor=1")),
            (&[other, other, parent], None),
        ] {
            let more = read(headers, Traces::Used).unwrap();
            assert_eq!(more.parent, TraceContext::parse(PARENT), "{headers:?}");
            let trace = more.trace.unwrap();
            assert_eq!(trace.state.as_deref(), expected_state, "{headers:?}");
            assert!(read(headers, Traces::Ignored).is_none(), "{headers:?}");
        }
    }

    #[test]
    fn headers_that_name_no_trace_say_nothing() {
        let others: &[(&str, &[u8])] = &[("a", b"1"), ("b", b"2")];
        for headers in [&[], others, &[("traceparent", b"00-1-2-3")], &[("tracestate", STATE)]] {
            assert!(read(headers, Traces::Used).is_none(), "{headers:?}");
        }
    }
}
