//! Log lines at a bounded rate: the first lines of a second, then a count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::grouped;

const WINDOW: Duration = Duration::from_secs(1);

/// Limits how many lines of one kind are written in a second; the others are counted and reported in one line.
///
/// ```
/// # use service_runtime::LineLimit;
/// let limit = LineLimit::new("deliveries", 10);
/// let orders = ["a", "b", "c"];
/// for order in orders.iter().take(limit.admit(orders.len())) {
///     tracing::info!(order, "delivered");
/// }
/// ```
#[derive(Debug)]
pub struct LineLimit {
    what: &'static str,
    lines_per_second: usize,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    written: usize,
    withheld: usize,
}

impl LineLimit {
    /// Returns a limit for lines about `what`, a plural such as `deliveries`.
    pub fn new(what: &'static str, lines_per_second: usize) -> Self {
        Self { what, lines_per_second, window: Mutex::default() }
    }

    /// Returns how many of `lines` may be written; the others are counted.
    ///
    /// A count that an earlier second has left is reported first.
    pub fn admit(&self, lines: usize) -> usize {
        let admitted = self.reserve(lines);
        self.withhold(lines - admitted);
        admitted
    }

    /// Returns how many of `lines` may be written, for a caller that counts the others by [`Self::withhold`].
    ///
    /// For lines whose number is known only afterwards.
    pub fn reserve(&self, lines: usize) -> usize {
        self.tick();
        self.with_window(|window| {
            let reserved = lines.min(self.lines_per_second.saturating_sub(window.written));
            window.written += reserved;
            reserved
        })
    }

    /// Counts lines that were not written.
    pub fn withhold(&self, lines: usize) {
        self.with_window(|window| window.withheld += lines);
    }

    /// Reports the count of a second that is over; to be called about once a second, for when no more lines come.
    pub fn tick(&self) {
        let now = Instant::now();
        let withheld = self.with_window(|window| window.turn(now));
        self.report(withheld);
    }

    /// Reports what has been counted, also within the second; to be called at the end.
    pub fn flush(&self) {
        let withheld = self.with_window(|window| std::mem::take(&mut window.withheld));
        self.report(withheld);
    }

    fn with_window<T>(&self, f: impl FnOnce(&mut Window) -> T) -> T {
        f(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, withheld: usize) {
        if withheld > 0 {
            info!("… and {} more {} in this second", grouped(withheld), self.what);
        }
    }
}

impl Window {
    /// Begins a new window when the current one is over, and returns what that one has withheld.
    fn turn(&mut self, now: Instant) -> usize {
        let is_open = self.start.is_some_and(|start| now < start + WINDOW);
        if is_open {
            return 0;
        }
        let begun = Self { start: Some(now), ..Self::default() };
        std::mem::replace(self, begun).withheld
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::telemetry::captured::Captured;

    #[tokio::test(start_paused = true)]
    async fn the_first_lines_of_a_second_are_admitted_and_the_others_counted() {
        let log = Captured::default();
        let _subscriber = log.subscribe();
        let limit = LineLimit::new("deliveries", 10);

        assert_eq!(limit.admit(7), 7);
        advance(Duration::from_millis(999)).await;
        assert_eq!(limit.admit(4_214), 3);
        assert_eq!(limit.admit(1), 0);
        assert_eq!(log.text(), "");

        advance(Duration::from_millis(1)).await;
        assert_eq!(limit.admit(11), 10);
        assert!(log.text().ends_with("… and 4,212 more deliveries in this second\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_is_reported_once_when_nothing_follows() {
        let log = Captured::default();
        let _subscriber = log.subscribe();
        let limit = LineLimit::new("deliveries", 1);
        limit.admit(3);

        limit.tick();
        assert_eq!(log.text(), "");
        advance(Duration::from_secs(1)).await;
        limit.tick();
        limit.tick();
        limit.flush();

        assert_eq!(log.text().matches("… and 2 more").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_to_nothing_are_not_counted() {
        let log = Captured::default();
        let _subscriber = log.subscribe();
        let limit = LineLimit::new("deliveries", 10);
        assert_eq!(limit.reserve(100), 10);
        limit.withhold(3);
        limit.flush();

        assert!(log.text().contains("… and 3 more deliveries"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_reports_within_the_second() {
        let log = Captured::default();
        let _subscriber = log.subscribe();
        let limit = LineLimit::new("deliveries", 1);
        limit.admit(3);

        limit.flush();

        assert!(log.text().contains("… and 2 more deliveries"));
    }
}
