//! For how long a run may send after a heartbeat, by its own clocks.
//!
//! ```text
//!  sent ────────── due ────────────── no send begins ──────────── valid until ─────────── counts as dead
//!   0 s       INTERVAL: 3 s         VALID − SEND_MAX: 6 s          VALID: 11 s             SILENCE: 15 s
//! ```
//!
//! The moment before the heartbeat is sent counts, not that of its acknowledgement: another run may begin to wait as soon
//! as the heartbeat is in the topic. A send begins only while the heartbeat stays valid for the whole deadline of that send.

use std::time::Duration;

use tokio::time::Instant;

use service_runtime::now_ms;

/// How often a run that has the lock, or waits for it, sends a heartbeat.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long a run may send after a heartbeat.
pub(super) const VALID: Duration = Duration::from_secs(11);
/// How long a run may be without a heartbeat before it counts as dead.
pub(in crate::replay) const SILENCE: Duration = Duration::from_secs(15);
/// How long one request with letters may take.
const SEND_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(
    INTERVAL.as_millis() + SEND_MAX.as_millis() < VALID.as_millis()
        && VALID.as_millis() < SILENCE.as_millis(),
    "a run must have stopped sending before another counts it as dead"
);

/// A heartbeat that was read back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// The moment before it was sent.
    sent: Moment,
}

/// A moment by two clocks: one that never jumps, and one that goes on while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    monotonic: Instant,
    wall_ms: i64,
}

impl Heartbeat {
    pub(super) fn sent_at(sent: Moment) -> Self {
        Self { sent }
    }

    pub(super) fn due(self) -> Instant {
        self.sent.monotonic + INTERVAL
    }

    pub(super) fn is_due(self, now: Moment) -> bool {
        INTERVAL <= self.age(now)
    }

    /// Returns the deadline of a send that begins at once; `None` where the heartbeat is too old for any.
    pub(super) fn deadline(self, now: Moment) -> Option<Instant> {
        (self.age(now) + SEND_MAX <= VALID).then(|| now.monotonic + SEND_MAX)
    }

    /// Returns the longer of the times by the two clocks: a wall clock that was set back makes no heartbeat younger.
    pub(super) fn age(self, now: Moment) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.sent.monotonic);
        let wall_ms = u64::try_from(now.wall_ms.saturating_sub(self.sent.wall_ms)).unwrap_or(0);
        monotonic.max(Duration::from_millis(wall_ms))
    }
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall_ms: now_ms() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LAST: Duration = VALID.saturating_sub(SEND_MAX);

    #[test]
    fn a_send_ends_before_its_heartbeat_is_too_old() {
        let sent = Moment::now();
        for tenths in 0..200 {
            let now = later(sent, SECOND / 10 * tenths);
            let deadline = Heartbeat::sent_at(sent).deadline(now);
            assert_eq!(deadline.is_some(), SECOND / 10 * tenths <= LAST, "after {tenths}/10 s");
            assert!(deadline.is_none_or(|deadline| deadline <= sent.monotonic + VALID));
        }
    }

    #[test]
    fn a_slow_acknowledgement_makes_a_heartbeat_older() {
        let before = Moment::now();
        let heartbeat = Heartbeat::sent_at(before);
        let acknowledged = later(before, LAST + SECOND);
        assert_eq!(heartbeat.deadline(acknowledged), None);
        assert!(heartbeat.is_due(acknowledged));
    }

    #[test]
    fn a_process_that_slept_may_not_send_on_an_earlier_sign() {
        let sent = Moment::now();
        let heartbeat = Heartbeat::sent_at(sent);
        let granted = heartbeat.deadline(later(sent, SECOND));
        let awake = later(sent, SILENCE);
        assert!(granted.is_some_and(|deadline| deadline < awake.monotonic), "it is over");
        assert_eq!(heartbeat.deadline(awake), None);

        // While the machine is suspended, the monotonic clock stands still.
        let suspended = Moment { wall_ms: awake.wall_ms, ..later(sent, SECOND) };
        assert_eq!(heartbeat.deadline(suspended), None);
    }

    #[test]
    fn a_wall_clock_that_jumps_makes_no_sign_younger() {
        let sent = Moment::now();
        let heartbeat = Heartbeat::sent_at(sent);
        for (jump_ms, may_send) in [(-3_600_000, true), (0, true), (3_600_000, false)] {
            let young = later(sent, SECOND);
            let old = later(sent, LAST + SECOND);
            let jumped = |moment: Moment| Moment { wall_ms: moment.wall_ms + jump_ms, ..moment };
            assert_eq!(heartbeat.deadline(jumped(young)).is_some(), may_send, "{jump_ms} ms");
            assert_eq!(heartbeat.deadline(jumped(old)), None, "{jump_ms} ms");
        }
    }

    fn later(moment: Moment, by: Duration) -> Moment {
        let by_ms = i64::try_from(by.as_millis()).unwrap();
        Moment { monotonic: moment.monotonic + by, wall_ms: moment.wall_ms + by_ms }
    }
}
