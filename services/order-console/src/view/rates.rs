//! The rates of counts, and the history of the numbers.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Flow, History, Point, Stats};

/// Rates are means over this time.
const WINDOW: Duration = Duration::from_secs(5);
/// The least time between two points of the history.
const INTERVAL: Duration = Duration::from_secs(1);
/// Points that are kept: ten minutes.
const POINTS_MAX: usize = 600;

/// The counts of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Rates {
    /// Adds both counts, and returns them with their rates.
    pub(super) fn add(&mut self, now: Instant, produced: u64, consumed: u64) -> (Flow, Flow) {
        // One sample that is older stays, so that the window is covered.
        while self.samples.get(1).is_some_and(|(at, ..)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let (at, produced_then, consumed_then) =
            self.samples.front().copied().unwrap_or((now, produced, consumed));
        let seconds = now.duration_since(at).as_secs_f64();
        let flow = |total: u64, then: u64| Flow {
            total,
            per_second: if seconds > 0.0 { difference(total, then) / seconds } else { 0.0 },
        };
        self.samples.push_back((now, produced, consumed));
        (flow(produced, produced_then), flow(consumed, consumed_then))
    }
}

/// Returns by how much a count has grown; 0 where it began again.
fn difference(now: u64, then: u64) -> f64 {
    u32::try_from(now.saturating_sub(then)).map_or(f64::from(u32::MAX), f64::from)
}

/// Points at even distances, the latest ones.
#[derive(Debug, Default)]
pub(super) struct Track {
    points: VecDeque<Point>,
    last: Option<Instant>,
}

impl Track {
    pub(super) fn add(&mut self, now: Instant, stats: &Stats) {
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return;
        }
        self.last = Some(now);
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at: stats.at.unwrap_or_default(),
            average: stats.numbers.average,
            recent_average: stats.numbers.recent_average,
            orders: stats.numbers.orders,
            produced_per_second: stats.produced.per_second,
            consumed_per_second: stats.consumed.per_second,
            lag: stats.lag,
        });
    }

    pub(super) fn history(&self) -> History {
        History {
            interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX),
            points: self.points.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_over_the_window_and_never_negative() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let mut add = |seconds: u64, produced, consumed| {
            let (one, other) = rates.add(start + Duration::from_secs(seconds), produced, consumed);
            (one.per_second, other.per_second)
        };
        assert_eq!(add(0, 1_000, 500), (0.0, 0.0), "nothing is known yet");
        assert_eq!(add(1, 1_100, 700), (100.0, 200.0));
        assert_eq!(add(5, 1_500, 700), (100.0, 40.0));
        assert_eq!(add(10, 1_500, 0), (0.0, 0.0), "the group was reset");
    }

    #[test]
    fn the_history_keeps_a_point_a_second_and_forgets_the_oldest() {
        let mut track = Track::default();
        let start = Instant::now();
        for half_seconds in 0..2 * 700_u32 {
            let stats = Stats { lag: Some(i64::from(half_seconds)), ..Stats::default() };
            track.add(start + Duration::from_millis(500) * half_seconds, &stats);
        }
        let lags: Vec<i64> = track.history().points.iter().filter_map(|point| point.lag).collect();
        assert_eq!((lags.len(), lags[0], lags[599]), (600, 200, 1_398));
    }
}
