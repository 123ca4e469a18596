//! A wait for a dependency: its check is not ready, and the log mentions it now and then.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::checks::Check;

/// How long a wait is not logged: a new leader or a new topic is no outage.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a wait is logged.
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
    /// Begins a wait for `what`, such as `the schema registry`. Logs nothing yet.
    pub fn new(what: &'static str, check: &Check) -> Self {
        Self { what, check: check.clone(), begun: Instant::now(), mentioned: None }
    }

    /// Notes a failed attempt: sets the check to not ready, and logs a wait of more than a second, every ten seconds.
    pub fn goes_on(&mut self, cause: impl Display) {
        let Self { what, check, begun, mentioned } = self;
        check.not_ready(format!("waiting for {what}: {cause}"));
        let now = Instant::now();
        if now >= mentioned.map_or(*begun + SILENCE, |mentioned| mentioned + REMINDER) {
            *mentioned = Some(now);
            let waiting_seconds = (now - *begun).as_secs();
            warn!(waiting_seconds, "waiting for {what}: {cause}");
        }
    }

    /// Ends the wait and logs that, if the wait was logged. The caller sets the check to ready: the service may have more to
    /// prepare.
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

        advance(SILENCE / 2).await;
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
