//! The handler that posts every order to a URL, one request an order.
//!
//! ```text
//! POST <HANDLER_URL>
//! content-type: application/json
//! idempotency-key: <topic id>-<partition>-<offset>
//! traceparent: 00-<the record's trace>-<a span of the attempt's own>-<flags>, where the record is part of a trace
//! tracestate: as the record has it
//!
//! {"orderId":"1001","product":"Item1","price":12.5,"topic":"orders","partition":0,"offset":42,
//!  "timestamp":"2026-01-31T12:00:00.000Z","attempt":1}
//! ```
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx | done |
//! | 408, 425, 429, 5xx | transient, after `Retry-After` if it is there |
//! | 3xx but 307 and 308 to the same scheme, host and port, which are followed; 401, 403–407, 415, 421, 426 | the same |
//! | other 4xx, anything else | permanent |
//! | no connection: refused, no such host, no TLS | the dependency is down |
//! | a connection that breaks after the request was sent | transient |
//!
//! A transient answer may be about this order or about all orders; the circuit breaker decides by the other orders. The third
//! row is such an answer: a wrong token, a path that moved and a wrong media type fail every order alike, but a receiver may
//! also answer 404 for one order. A permanent answer is about the order alone.
//!
//! A request that was never sent says nothing about its order. A request that was sent may have broken the receiver, so it
//! counts as an attempt.
//!
//! The status decides as soon as it arrives. The body is read for a second at most, to reuse the connection and for the
//! reason.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use dead_letter::rfc3339;
use kafka_client::error::chain;
use order_avro::Order;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use service_runtime::trace_context::{TRACEPARENT, TRACESTATE};
use tokio::time::{Instant, timeout};

use super::{Attempt, Handler, Outcome};

/// The header that identifies an order for all its attempts.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How much of an answer is read, so that its connection can be reused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// For how long an answer's body is read.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
/// How much of an answer a reason quotes.
const REASON_BYTES_MAX: usize = 256;
/// The longest time that connecting may take; a shorter deadline of the attempts leaves it half of theirs.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// How long a connection without requests is kept: less than the 5 s after which common servers close theirs.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The handler that posts orders to a URL.
#[derive(Clone, Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    /// How long an attempt may take.
    deadline: Duration,
    /// The proxy that the environment names for the URL.
    proxy: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    order_id: &'a str,
    product: &'a str,
    price: f32,
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: String,
    attempt: u32,
}

impl Webhook {
    /// Posts to `url`, over at most `connections` that are kept; nothing is connected yet. `deadline` is that of an
    /// attempt.
    ///
    /// # Errors
    /// A URL that cannot be used, or an encrypted one where the system has no certificates to trust.
    pub fn new(url: &str, connections: usize, deadline: Duration) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("read HANDLER_URL")?;
        let client = http_client::builder(std::slice::from_ref(&url))
            .context("set up TLS for HANDLER_URL")?
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT_MAX.min(deadline / 2))
            .pool_max_idle_per_host(connections)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .context("set up the client for HANDLER_URL")?;
        let proxy = http_client::proxy(&url);
        Ok(Self { client, url, deadline, proxy })
    }

    /// Returns the proxy through which the URL is reached, without its secrets, if the environment names one.
    pub fn proxy(&self) -> Option<&str> {
        self.proxy.as_deref()
    }
}

impl Handler for Webhook {
    async fn handle(&self, order: &Order, attempt: Attempt<'_>) -> Outcome {
        let body = Body {
            order_id: &order.order_id,
            product: &order.product,
            price: order.price,
            topic: &attempt.source.topic,
            partition: attempt.source.partition,
            offset: attempt.offset,
            timestamp: rfc3339(attempt.timestamp_ms),
            attempt: attempt.number,
        };
        let body = match serde_json::to_vec(&body) {
            Ok(body) => body,
            Err(error) => return Outcome::permanent(format!("cannot be written as JSON: {error}")),
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, attempt.idempotency_key())
            .body(body);
        if let Some(trace) = attempt.trace {
            request = request.header(TRACEPARENT, trace.context.to_string());
            if let Some(state) = &trace.state {
                request = request.header(TRACESTATE, state);
            }
        }
        let begun = Instant::now();
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return unanswered(error, self.proxy()),
        };
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        // A path may be a secret, so the reason names only the origin.
        let target = http_client::redirect_target(&response);
        let target = target.map(|url| url.origin().ascii_serialization());
        // Half of the remaining time: an attempt that reached its deadline would be made again, although it was answered.
        let left = self.deadline.saturating_sub(begun.elapsed()) / 2;
        let body = read_body(response, left.min(BODY_TIME_MAX)).await;
        judge(status, target.as_deref(), retry_after, &body)
    }
}

/// Returns the beginning of an answer's body; nothing of one that breaks off or does not end in time.
async fn read_body(response: Response, time_max: Duration) -> Vec<u8> {
    let read = timeout(time_max, http_client::read(response, ANSWER_BYTES_MAX)).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}

/// Returns the outcome of an answer.
fn judge(
    status: StatusCode,
    redirect_target: Option<&str>,
    retry_after: Option<Duration>,
    answer: &[u8],
) -> Outcome {
    if status.is_success() {
        return Outcome::Done;
    }
    let mut reason = format!("the webhook answers {}", status.as_u16());
    if let Some(target) = redirect_target {
        reason.push_str(", a redirect to ");
        reason.push_str(target);
        reason.push_str(": only 307 and 308 to the same scheme, host and port are followed");
    }
    if !answer.is_empty() {
        reason.push_str(": ");
        reason.push_str(&shown(answer));
    }
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 | 300..=399 | 401 | 403..=407 | 415 | 421 | 426 => {
            Outcome::Transient { reason: reason.into(), retry_after }
        }
        _ => Outcome::permanent(reason),
    }
}

/// Returns the outcome of a request without an answer.
fn unanswered(error: reqwest::Error, proxy: Option<&str>) -> Outcome {
    let was_sent = !error.is_connect();
    // A URL may hold a password.
    let reason = chain(&error.without_url());
    let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    if was_sent {
        Outcome::transient(format!("the webhook did not answer{through}: {reason}"))
    } else {
        Outcome::dependency_down(format!("the webhook cannot be reached{through}: {reason}"))
    }
}

/// Returns the pause that a header asks for, in seconds or by a date.
///
/// A date is one of the receiver's clock, so it is compared with the time at which the receiver says it answered; with `now`
/// only where the answer has no such time.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text| httpdate::parse_http_date(text).ok();
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let answered = text(DATE).and_then(date).unwrap_or(now);
    Some(date(after)?.duration_since(answered).unwrap_or_default())
}

/// Returns the beginning of an answer as a text on one line.
fn shown(answer: &[u8]) -> String {
    let whole = String::from_utf8_lossy(answer);
    let whole = whole.trim();
    let beginning = &whole[..whole.floor_char_boundary(REASON_BYTES_MAX)];
    let mut text = service_runtime::escaped(beginning);
    if beginning.len() < whole.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn kind(status: u16) -> &'static str {
        match judge(StatusCode::from_u16(status).unwrap(), None, None, b"") {
            Outcome::Done => "done",
            Outcome::Transient { .. } => "transient",
            Outcome::Permanent { .. } => "permanent",
            Outcome::DependencyDown { .. } => "dependency down",
            Outcome::Simulated(_) => "simulated",
        }
    }

    #[test]
    fn a_status_says_whether_another_attempt_can_help() {
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], "done"),
            (&[408, 425, 429, 500, 502, 503, 504, 599], "transient"),
            (&[301, 302, 304, 307, 308, 401, 403, 404, 405, 406, 407, 415, 421, 426], "transient"),
            (&[400, 402, 409, 410, 413, 422, 499, 600, 999], "permanent"),
        ] {
            for status in statuses {
                assert_eq!(kind(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn the_reason_has_the_status_and_the_beginning_of_the_answer_on_one_line() {
        let reason = |status, answer: &[u8]| match judge(status, None, None, answer) {
            Outcome::Permanent { reason } | Outcome::Transient { reason, .. } => {
                reason.into_owned()
            }
            Outcome::Done | Outcome::DependencyDown { .. } | Outcome::Simulated(_) => {
                panic!("it is no failure of the order")
            }
        };
        assert_eq!(reason(StatusCode::NOT_FOUND, b""), "the webhook answers 404");
        assert_eq!(
            reason(StatusCode::UNPROCESSABLE_ENTITY, b"no\r\nsuch\x1b[31m \xffproduct\n"),
            "the webhook answers 422: no\\r\\nsuch\\u{1b}[31m \u{fffd}product"
        );
        let long = reason(StatusCode::BAD_REQUEST, "é".repeat(1_000).as_bytes());
        assert!(long.ends_with("é…") && long.len() < 300, "{long}");
        let redirect = judge(StatusCode::FOUND, Some("https://elsewhere"), None, b"");
        let Outcome::Transient { reason, .. } = redirect else { panic!("it is no outage") };
        assert_eq!(
            reason,
            "the webhook answers 302, a redirect to https://elsewhere: only 307 and 308 to the same scheme, host and port \
             are followed"
        );
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            let seconds = retry_after(&headers, now).map(|pause| pause.as_secs());
            assert_eq!(seconds, expected, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_date_in_retry_after_is_one_of_the_receivers_clock() {
        let ours = httpdate::parse_http_date("Sun, 06 Nov 1994 12:00:00 GMT").unwrap();
        let pause = |after: &'static str, answered: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            headers.insert(DATE, HeaderValue::from_static(answered));
            retry_after(&headers, ours).map(|pause| pause.as_secs())
        };
        let theirs = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(pause("Sun, 06 Nov 1994 08:50:07 GMT", theirs), Some(30));
        assert_eq!(pause("Sun, 06 Nov 1994 08:00:00 GMT", theirs), Some(0));
        assert_eq!(pause("Sun, 06 Nov 1994 12:00:30 GMT", "a while ago"), Some(30));
        assert_eq!(pause("5", theirs), Some(5));
    }
}
