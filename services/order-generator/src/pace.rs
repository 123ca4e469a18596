//! The schedule of orders.

use std::time::Duration;

use tokio::time::Instant;

/// How far a schedule may fall behind before it starts anew: no burst of orders follows an outage.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// An even schedule at a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Orders per second, over 0; `None` is unlimited.
    rate: Option<f64>,
    start: Instant,
    /// The orders scheduled since `start`.
    passed: f64,
}

impl Pace {
    /// Returns a schedule of `rate` orders per second from `now` on; a rate of 0 is unlimited.
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        let rate = (rate > 0.0).then_some(rate);
        Self { rate, start: now, passed: 0.0 }
    }

    /// Returns when the next order is due, `None` if it is due already, and schedules the order after it.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let due = self.start + Duration::from_secs_f64(self.passed / rate);
        if now > due + BEHIND_MAX {
            (self.start, self.passed) = (now, 1.0);
            return None;
        }
        self.passed += 1.0;
        (due > now).then_some(due)
    }

    /// Postpones all later orders.
    pub(crate) fn postpone(&mut self, pause: Duration) {
        self.start += pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_are_due_at_even_intervals() {
        let start = Instant::now();
        let mut pace = Pace::new(4.0, start);

        let due: Vec<_> = (0..4).map(|_| pace.next(start)).collect();

        let at = |millis| Some(start + Duration::from_millis(millis));
        assert_eq!(due, [None, at(250), at(500), at(750)]);
    }

    #[tokio::test]
    async fn a_rate_below_one_spreads_orders_over_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(0.1, start);

        pace.next(start);
        assert_eq!(pace.next(start), Some(start + Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn without_a_rate_every_order_is_due() {
        let start = Instant::now();
        let mut pace = Pace::new(0.0, start);

        assert_eq!([pace.next(start), pace.next(start)], [None, None]);
    }

    #[tokio::test]
    async fn postponed_orders_keep_their_intervals() {
        let start = Instant::now();
        let mut pace = Pace::new(10.0, start);
        pace.next(start);

        let pause = Duration::from_millis(900);
        pace.postpone(pause);

        let due = [pace.next(start + pause), pace.next(start + pause)];
        let at = |millis| Some(start + pause + Duration::from_millis(millis));
        assert_eq!(due, [at(100), at(200)]);
    }

    #[tokio::test]
    async fn the_schedule_catches_up_after_a_short_delay_but_not_after_an_outage() {
        let start = Instant::now();
        let mut pace = Pace::new(10.0, start);
        pace.next(start);

        let late = start + Duration::from_millis(250);
        assert_eq!([pace.next(late), pace.next(late)], [None, None]);
        assert_eq!(pace.next(late), Some(start + Duration::from_millis(300)));

        let outage_over = start + Duration::from_mins(1);
        assert_eq!(pace.next(outage_over), None);
        assert_eq!(pace.next(outage_over), Some(outage_over + Duration::from_millis(100)));
    }
}
