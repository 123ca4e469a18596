//! Delays that double from one attempt to the next.

use std::time::Duration;

use tokio::time::sleep;

/// The delay before the next attempt: `first` at first, then twice as long each time, at most `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with a delay of `first`, which must not be longer than `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// Returns the delay before the next attempt, without using it up.
    pub const fn peek(&self) -> Duration {
        self.next
    }

    /// Returns the delay before the next attempt and doubles the one after it.
    pub fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.max);
        delay
    }

    /// Waits for the delay before the next attempt and doubles the one after it.
    ///
    /// # Cancel safety
    /// Cancel safe; a wait that is dropped counts as used up.
    pub async fn wait(&mut self) {
        sleep(self.advance()).await;
    }

    /// Starts again with the first delay, because an attempt has succeeded.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let delays = [(); 4].map(|()| backoff.advance().as_millis());
        assert_eq!(delays, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.peek().as_millis(), 100);
    }
}
