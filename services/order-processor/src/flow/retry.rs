//! When a failed attempt is made again.

use std::time::Duration;

use crate::settings::RetrySettings;

/// The longest delay that a handler can ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

impl RetrySettings {
    /// Returns the delay before the next attempt when `attempts` were made, of which the last one failed transiently and the
    /// first one failed `elapsed` ago.
    ///
    /// `None` means that the retries are used up, or that the next one would be too late. The handler's `retry_after`
    /// counts even where it is longer than any backoff, up to [`RETRY_AFTER_MAX`]. `random` returns a number from 0 up to 1,
    /// and is called only with jitter, which spreads orders that failed together and delays none of them less than
    /// configured.
    pub(crate) fn delay_after(
        &self,
        attempts: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: impl FnOnce() -> f64,
    ) -> Option<Duration> {
        if attempts > self.retries_max {
            return None;
        }
        let computed = self.backoff_before_retry(attempts);
        let delay = if self.jitter {
            let first = self.backoff.min(computed);
            first + computed.saturating_sub(first).mul_f64(random().clamp(0.0, 1.0))
        } else {
            computed
        };
        let delay = delay.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        let is_too_late = self.elapsed_max.is_some_and(|max| elapsed.saturating_add(delay) > max);
        (!is_too_late).then_some(delay)
    }

    /// Returns backoff × multiplier<sup>retry − 1</sup>, at most the longest one.
    fn backoff_before_retry(&self, retry: u32) -> Duration {
        // With growth, so many steps exceed every maximum; without growth, the steps do not matter.
        let steps = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.backoff.as_secs_f64() * self.multiplier.powi(steps);
        // 0 × infinity is not a number.
        if self.backoff.is_zero() {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(seconds)
            .map_or(self.backoff_max, |delay| delay.min(self.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Ordering;

    fn policy() -> RetrySettings {
        RetrySettings {
            retries_max: 3,
            backoff: Duration::from_secs(1),
            multiplier: 2.0,
            backoff_max: Duration::from_mins(1),
            jitter: false,
            elapsed_max: None,
            ordering: Ordering::Key,
            in_flight_bytes_max: 0,
        }
    }

    fn delays(policy: &RetrySettings) -> Vec<Duration> {
        (1..)
            .map_while(|attempts| policy.delay_after(attempts, Duration::ZERO, None, || 0.5))
            .collect()
    }

    fn seconds(seconds: &[f64]) -> Vec<Duration> {
        seconds.iter().map(|seconds| Duration::from_secs_f64(*seconds)).collect()
    }

    #[test]
    fn delays_grow_by_the_multiplier_until_the_retries_are_used_up() {
        assert_eq!(delays(&policy()), seconds(&[1.0, 2.0, 4.0]));
        assert_eq!(
            delays(&RetrySettings { multiplier: 1.0, ..policy() }),
            seconds(&[1.0, 1.0, 1.0])
        );
        assert_eq!(
            delays(&RetrySettings { multiplier: 1.5, ..policy() }),
            seconds(&[1.0, 1.5, 2.25])
        );
        assert_eq!(delays(&RetrySettings { retries_max: 0, ..policy() }), []);
        let fast = RetrySettings { backoff: Duration::from_millis(250), ..policy() };
        assert_eq!(delays(&fast), seconds(&[0.25, 0.5, 1.0]));
    }

    #[test]
    fn no_computed_delay_exceeds_the_longest() {
        let capped = RetrySettings { backoff_max: Duration::from_secs(3), ..policy() };
        assert_eq!(delays(&capped), seconds(&[1.0, 2.0, 3.0]));
        let many = RetrySettings { retries_max: u32::MAX, multiplier: 100.0, ..policy() };
        assert_eq!(
            many.delay_after(u32::MAX, Duration::ZERO, None, || 0.0),
            Some(Duration::from_mins(1))
        );
        let none = RetrySettings { backoff: Duration::ZERO, ..many };
        assert_eq!(none.delay_after(u32::MAX, Duration::ZERO, None, || 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn what_the_other_side_asks_for_is_the_least_delay() {
        let after = |seconds| {
            policy().delay_after(2, Duration::ZERO, Some(Duration::from_secs(seconds)), || 0.0)
        };
        assert_eq!(after(1), Some(Duration::from_secs(2)));
        assert_eq!(after(5), Some(Duration::from_secs(5)));
        assert_eq!(after(100), Some(Duration::from_secs(100)), "even over the longest backoff");
        assert_eq!(after(u64::MAX), Some(RETRY_AFTER_MAX));
        assert_eq!(
            policy().delay_after(4, Duration::ZERO, Some(Duration::from_secs(1)), || 0.0),
            None
        );
    }

    #[test]
    fn no_retry_is_made_later_than_the_settings_allow() {
        let limited = RetrySettings { elapsed_max: Some(Duration::from_secs(5)), ..policy() };
        let after = |attempts, elapsed, retry_after| {
            limited.delay_after(
                attempts,
                Duration::from_secs(elapsed),
                Some(Duration::from_secs(retry_after)),
                || 0.0,
            )
        };
        assert_eq!(after(2, 3, 0), Some(Duration::from_secs(2)));
        assert_eq!(after(2, 4, 0), None);
        assert_eq!(after(1, 0, 5), Some(Duration::from_secs(5)));
        assert_eq!(after(1, 0, 6), None, "also where the other side asks for more");
        assert_eq!(after(1, u64::MAX, 0), None);
    }

    #[test]
    fn jitter_draws_between_the_first_delay_and_the_computed_one() {
        let jittered = RetrySettings { jitter: true, ..policy() };
        let third = |random| jittered.delay_after(3, Duration::ZERO, None, || random);
        assert_eq!(third(0.0), Some(Duration::from_secs(1)));
        assert_eq!(third(0.5), Some(Duration::from_millis(2_500)));
        assert_eq!(third(1.0), Some(Duration::from_secs(4)));
        policy().delay_after(1, Duration::ZERO, None, || panic!("nothing is drawn without jitter"));
    }

    proptest! {
        #[test]
        fn any_settings_give_a_delay_between_the_first_and_the_longest(
            attempts: u32,
            backoff_ms in 0_u64..100_000,
            longer_ms in 0_u64..100_000_000,
            multiplier in 1.0_f64..=100.0,
            random: f64,
            jittered: bool,
        ) {
            let policy = RetrySettings {
                retries_max: u32::MAX,
                backoff: Duration::from_millis(backoff_ms),
                multiplier,
                backoff_max: Duration::from_millis(backoff_ms + longer_ms),
                jitter: jittered,
                ..policy()
            };
            let random = if random.is_nan() { 0.5 } else { random };
            let delay = policy.delay_after(attempts, Duration::ZERO, None, || random).unwrap();
            prop_assert!((policy.backoff..=policy.backoff_max).contains(&delay), "{delay:?}");
        }
    }
}
