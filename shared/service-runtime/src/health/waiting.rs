//! A wait for something that is away: shown as not ready, and mentioned in the log now and then.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::checks::Check;

/// How long it is waited in silence: a leader that moves or a topic that is new is no outage.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(10);

/// One wait, from when it is made until it is over.
#[derive(Debug)]
pub struct Waiting {
    what: &'static str,
    check: Check,
    begun: Instant,
    mentioned: Option<Instant>,
}

impl Waiting {
    /// Begins to wait for `what`, such as `the schema registry`; nothing is said yet.
    pub fn new(what: &'static str, check: &Check) -> Self {
        Self { what, check: check.clone(), begun: Instant::now(), mentioned: None }
    }

    /// Says that an attempt was in vain: the check is not ready, and a wait of more than a second is logged, again
    /// every ten seconds.
    pub fn goes_on(&mut self, cause: impl Display) {
        let Self { what, check, begun, mentioned } = self;
        check.not_ready(format!("waiting for {what}: {cause}"));
        let now = Instant::now();
        if now >= mentioned.map_or(*begun + PATIENCE, |mentioned| mentioned + REMINDER) {
            *mentioned = Some(now);
            let waiting_seconds = (now - *begun).as_secs();
            warn!(waiting_seconds, "waiting for {what}: {cause}");
        }
    }

    /// Says that it is there, if it was said that it is not. The check is left to the caller, who may have more to do
    /// before the service is ready.
    pub fn over(self) {
        if self.mentioned.is_some() {
            let waited_seconds = self.begun.elapsed().as_secs();
            info!(waited_seconds, "{} is there", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::health::Health;
    use crate::telemetry::captured::Captured;

    #[tokio::test(start_paused = true)]
    async fn a_short_wait_shows_in_the_check_and_not_in_the_log() {
        let (log, health) = (Captured::default(), Health::default());
        let _subscriber = log.subscribe();
        let mut waiting = Waiting::new("Kafka", &health.check("kafka"));

        advance(PATIENCE / 2).await;
        waiting.goes_on("nobody listens");

        let reason = health.report().remove("kafka").unwrap();
        assert_eq!(reason.as_deref(), Some("waiting for Kafka: nobody listens"));
        waiting.over();
        assert_eq!(log.text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_mentioned_now_and_then_and_when_it_is_over() {
        let log = Captured::default();
        let _subscriber = log.subscribe();
        let mut waiting = Waiting::new("Kafka", &Health::default().check("kafka"));

        for _ in 0..24 {
            advance(Duration::from_millis(500)).await;
            waiting.goes_on("nobody listens");
        }
        waiting.over();

        let lines = log.text();

        assert_eq!(lines.lines().count(), 3, "{lines}");
        assert!(lines.contains("waiting for Kafka: nobody listens waiting_seconds=1\n"), "{lines}");
        assert!(
            lines.contains("waiting for Kafka: nobody listens waiting_seconds=11\n"),
            "{lines}"
        );
        assert!(lines.contains("Kafka is there waited_seconds=12\n"), "{lines}");
    }
}
