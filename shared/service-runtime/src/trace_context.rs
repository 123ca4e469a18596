//! W3C trace context: what `traceparent` and `tracestate` say.
//!
//! Read strictly, as <https://www.w3.org/TR/trace-context/> has it: what is not valid is as good as not there.

use std::fmt;

/// The header that names a span.
pub const TRACEPARENT: &str = "traceparent";
/// The header that carries what tracing systems add.
pub const TRACESTATE: &str = "tracestate";

/// How long a `traceparent` of version 00 is.
pub const TRACEPARENT_BYTES: usize = 55;
/// The longest `tracestate` that is carried on.
const TRACESTATE_BYTES_MAX: usize = 512;
/// The version that is not one.
const VERSION_INVALID: u8 = 0xff;
const SAMPLED: u8 = 1;

/// A span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// A span of a trace, and what tracing systems have added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The span.
    pub context: TraceContext,
    /// The value of `tracestate`.
    pub state: Option<String>,
}

impl TraceContext {
    /// Returns a sampled span; `None` where an id is zero, which names nothing.
    pub fn sampled(trace_id: u128, span_id: u64) -> Option<Self> {
        let is_valid = (trace_id != 0) && (span_id != 0);
        is_valid.then_some(Self { trace_id, span_id, flags: SAMPLED })
    }

    /// Reads a `traceparent`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
        let [version, trace_id, span_id, flags] = fields(known)?;
        let version = u8::try_from(hex(version)?).ok()?;
        // Later versions may have more fields after another hyphen.
        let is_whole = rest.is_empty() || ((version > 0) && (rest[0] == b'-'));
        if (version == VERSION_INVALID) || !is_whole {
            return None;
        }
        let flags = u8::try_from(hex(flags)?).ok()?;
        let context = Self::sampled(hex(trace_id)?, u64::try_from(hex(span_id)?).ok()?)?;
        // Of the flags only this one is known.
        Some(Self { flags: flags & SAMPLED, ..context })
    }

    /// Returns another span of the same trace; `None` where the id is zero.
    #[must_use]
    pub fn with_span(self, span_id: u64) -> Option<Self> {
        (span_id != 0).then_some(Self { span_id, ..self })
    }

    /// Returns whether the trace is sampled.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the trace's id.
    pub fn trace_id(self) -> TraceId {
        TraceId(self.trace_id)
    }

    /// Returns the span's id.
    pub fn span_id(self) -> u64 {
        self.span_id
    }
}

impl TraceId {
    /// Returns the id as a number.
    pub fn get(self) -> u128 {
        self.0
    }
}

impl Trace {
    /// Reads the trace that a record with these headers is part of. Of a name that is there more than once the last header
    /// counts, as is Kafka's convention.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Option<Self> {
        let (mut parent, mut state) = (None, None);
        for (name, value) in headers {
            if name == TRACEPARENT.as_bytes() {
                parent = value;
            } else if name == TRACESTATE.as_bytes() {
                state = value;
            }
        }
        let context = TraceContext::parse(parent?)?;
        Some(Self { context, state: state.and_then(tracestate) })
    }
}

/// Returns the fields of a `traceparent`, which has hyphens in fixed places.
fn fields(known: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = known.split(|byte| *byte == b'-');
    let fields = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    (fields.map(<[u8]>::len) == [2, 32, 16, 2]).then_some(fields)
}

/// Reads lower-case digits; upper-case ones are not valid.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Returns a `tracestate` that can be a header again.
fn tracestate(text: &[u8]) -> Option<String> {
    let is_usable = (1..=TRACESTATE_BYTES_MAX).contains(&text.len())
        && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && text.contains(&b'=');
    is_usable.then(|| String::from_utf8_lossy(text).into_owned())
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn a_valid_traceparent_is_read_and_written_as_it_was() {
        let context = parse(VALID).unwrap();
        assert_eq!(context.to_string(), VALID);
        assert_eq!(context.to_string().len(), TRACEPARENT_BYTES);
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert!(!parse(&VALID.replace("-01", "-00")).unwrap().is_sampled());
        let child = context.with_span(1).unwrap().to_string();
        assert_eq!(child, "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01");
        assert_eq!((context.with_span(0), TraceContext::sampled(1, 0)), (None, None));
    }

    #[test]
    fn what_is_not_valid_is_not_there() {
        for invalid in [
            "",
            "00",
            &VALID.replace("00-", "ff-"),
            &VALID.replace("00-", "0g-"),
            &VALID.to_uppercase(),
            &VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            &VALID.replace("-01", "-0"),
            &VALID.replace("-01", "-0G"),
            &VALID.replace("-01", "_01"),
            &VALID.replace("9c-b7", "9cb-7"),
            &format!("{VALID}-"),
            &format!("{VALID}-what-comes-later"),
            &format!(" {VALID}"),
            &format!("{VALID}\n"),
            &VALID.replace("00-", "01-").replace("-01", "-01x"),
        ] {
            assert_eq!(parse(invalid), None, "{invalid:?}");
        }
        assert_eq!(TraceContext::parse(&[0xff; 55]), None);
        assert_eq!(TraceContext::parse(&[b'-'; 55]), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in ["-01", "-03", "-01-", "-01-what-comes-later"] {
            let text = VALID.replace("00-", "cc-").replace("-01", later);
            assert_eq!(parse(&text).map(|context| context.to_string()).as_deref(), Some(VALID));
        }
    }

    #[test]
    fn a_records_trace_is_that_of_its_last_header_with_what_can_be_carried_on() {
        let of = |headers: &[(&str, Option<&str>)]| {
            let headers =
                headers.iter().map(|(name, value)| (name.as_bytes(), value.map(str::as_bytes)));
            Trace::of(headers).map(|trace| (trace.context.to_string(), trace.state))
        };
        let valid = VALID.to_owned();
        let unsampled = VALID.replace("-01", "-00");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("traceparent", None)]), None);
        assert_eq!(of(&[("Traceparent", Some(VALID))]), None);
        assert_eq!(of(&[("tracestate", Some("a=b"))]), None);
        let twice = [("traceparent", Some(VALID)), ("traceparent", Some(&unsampled))];
        assert_eq!(of(&twice), Some((unsampled.clone(), None)));
        for (state, carried) in
            [("a=1,b@c=2", true), ("", false), ("a", false), ("a=\r\nx: y", false), ("a=ü", false)]
        {
            let trace = of(&[("tracestate", Some(state)), ("traceparent", Some(VALID))]);
            assert_eq!(trace, Some((valid.clone(), carried.then(|| state.to_owned()))), "{state}");
        }
        let long = format!("a={}", "x".repeat(TRACESTATE_BYTES_MAX));
        let trace = of(&[("traceparent", Some(VALID)), ("tracestate", Some(&long))]);
        assert_eq!(trace, Some((valid, None)));
    }
}
