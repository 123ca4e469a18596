//! What to do about a log that cannot be read on from where the reader is.
//!
//! Damage that came on the way is gone with the next fetch, damage on the broker's disk is not. So nothing is called
//! damaged before it was fetched twice with the same bytes.
//!
//! A broker finds an offset by walking over its batches, from the last place that its index knows. Where the damaged
//! batch has lost its length it cannot get past it, and answers with an error or, for ever, with nothing (seen with
//! Kafka 4.3). But it hands out whatever lies behind an earlier offset that it does find. So the way past is to step
//! back, further each time, and to read over the damage ([`Answer`](kafka_core::record_batch::Answer) tells where it
//! ends).
//!
//! An answer without a whole batch is no sign of damage while the request leaves the broker another reason. It may have
//! had no room left beside other partitions, so the partition is first in the next request. It may need longer than the
//! request let it wait, as with tiered storage, so the next request waits longer.
//!
//! ```text
//!        read, nothing damaged
//!   ┌──────────────────────────────┐
//!   ▼                              │
//! fine ── damage ─► seen once ─────┤
//!   │                   │ the same bytes again: handed on as damaged
//!   │                   └──────────────────────────────────────────► fine, behind it
//!   ├── error, or nothing although the log goes on ─► stepping back ─► damage, or read
//!   └── damage without an end in sight ─► more room ─► damage
//! ```

use std::time::Duration;

use kafka_core::record_batch::{DamagedBatch, Reading};

/// Pause before damage is looked at again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the broker may look for a batch that it has not sent: first, and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Pause where there is no way on at the moment.
const STUCK_PAUSE: Duration = Duration::from_secs(5);
/// How many offsets before a gap are looked at to see whether it is one.
const LOOK_BACK_MAX: i64 = 1024;
/// The most bytes of a partition that are asked for to find the end of damage.
const ROOM_MAX: i32 = 64 * 1024 * 1024;

/// Where one partition's reading stands, and what is known about damage there.
#[derive(Debug)]
pub(super) struct Place {
    /// The offset that is wanted next.
    pub(super) position: i64,
    /// The log's first offset, as far as it is known.
    pub(super) log_start: i64,
    /// The base offset of the last batch before the position: the one way to it that a broker always finds.
    before: Option<i64>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    /// The offset that is asked for, at most the position.
    asked: i64,
    /// The lowest offset that the broker could not find.
    not_found: i64,
    /// How many bytes are asked for, if not as many as usual.
    room: Option<i32>,
    /// How long the broker may look for the batch, if longer than usual.
    wait: Option<Duration>,
    /// The position for which an answer began above it, so that the gap was looked at from further back.
    looked_over: Option<i64>,
    /// The damage that was seen last.
    seen: Option<DamagedBatch>,
    pause: Duration,
}

/// What a broker's answer was, besides what could be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// How many bytes were asked for.
    pub(super) room: i32,
    /// How many came.
    pub(super) bytes: usize,
    /// Whether there may have been more than there was room for.
    pub(super) is_full: bool,
    /// Whether the partition was the first of the request: only that one gets a batch whatever its size.
    pub(super) was_first: bool,
    /// How long the broker was allowed to look for data.
    pub(super) wait: Duration,
    /// The last stable offset.
    pub(super) end: i64,
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At the next offset.
    GoOn,
    /// There again, or from further back, after a pause.
    Again {
        /// How long to wait.
        pause: Duration,
        /// Why, for people.
        reason: &'static str,
    },
    /// Nothing that can be asked helps: a person has to know. Tried again after a pause.
    Stuck(Duration),
}

impl Place {
    /// Begins at `position`.
    pub(super) fn new(position: i64) -> Self {
        Self { position, log_start: 0, before: None, trouble: None }
    }

    /// Returns the offset to ask for.
    pub(super) fn asked(&self) -> i64 {
        self.trouble.as_ref().map_or(self.position, |trouble| trouble.asked)
    }

    /// Returns how many bytes to ask for, where it is usually `usual`.
    pub(super) fn room(&self, usual: i32) -> i32 {
        self.trouble.as_ref().and_then(|trouble| trouble.room).unwrap_or(usual)
    }

    /// Returns how long the broker may look for the next batch, where the usual time was not enough.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.trouble.as_ref().and_then(|trouble| trouble.wait)
    }

    /// Returns whether the broker is able to find the position, as far as it is known.
    pub(super) fn is_findable(&self) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| self.position < trouble.not_found)
    }

    /// Returns whether the partition has to be the first of the next request.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Moves on to what can be handed on of `reading`, and takes out of it what is not certain yet.
    pub(super) fn advance(&mut self, reading: &mut Reading, found: Circumstances) -> Next {
        if self.looks_over(reading) {
            return Next::GoOn;
        }
        let last = reading.batches.last().map(|batch| batch.header().base_offset);
        self.before = last.or(self.before);
        let known = self.trouble.as_ref().and_then(|trouble| trouble.seen.as_ref());
        let is_new = |damaged: &mut DamagedBatch| known.is_none_or(|seen| !is_same(seen, damaged));
        if let Some(damaged) = reading.damaged.take_if(is_new) {
            reading.next_offset = damaged.first_offset;
            return self.doubt(damaged);
        }
        let has_news = self.position < reading.next_offset;
        self.position = reading.next_offset;
        if reading.is_unclear {
            return self.look_further(found);
        }
        if has_news || found.end <= self.position {
            self.trouble = None;
            return Next::GoOn;
        }
        if found.bytes > 0 {
            return self.look_further(found);
        }
        let was_asked_again = self.is_in_trouble();
        let position = self.position;
        let trouble = self.trouble();
        if !found.was_first || !was_asked_again {
            return Next::GoOn;
        }
        if (trouble.asked == position) && (found.wait < WAIT.1) {
            trouble.wait = Some((found.wait * 2).clamp(WAIT.0, WAIT.1));
            return Next::Again { pause: Duration::ZERO, reason: "the broker sent nothing" };
        }
        self.step_back()
    }

    /// Makes sure that an answer which begins above the position has left out nothing but a gap: asked for a batch that
    /// has lost its base offset, a broker answers with the next one. Seen from a batch before, it shows.
    fn looks_over(&mut self, reading: &mut Reading) -> bool {
        let first = reading.batches.first().map(|batch| batch.header().base_offset);
        if first.is_none_or(|first| first <= self.position) {
            return false;
        }
        let (position, asked) = (self.position, self.further_back());
        // Back at the position after a look from before, a limit of the broker has hidden what lies in between.
        let is_hidden = |t: &Trouble| t.asked == position && t.looked_over == Some(position);
        if self.trouble.as_ref().is_some_and(is_hidden)
            || (self.asked() <= asked)
            || (asked < position - LOOK_BACK_MAX)
        {
            return false;
        }
        let trouble = self.trouble();
        trouble.asked = asked;
        trouble.looked_over = Some(position);
        reading.batches.clear();
        reading.damaged = None;
        reading.next_offset = self.position;
        true
    }

    /// Looks at damage once more, from the last batch before it: by its own offset it may not be found.
    fn doubt(&mut self, damaged: DamagedBatch) -> Next {
        let asked = self.asked();
        self.position = damaged.first_offset;
        let before = self.before.unwrap_or(asked);
        let reason = damaged.fault.as_str();
        let trouble = self.trouble();
        trouble.asked = before;
        trouble.seen = Some(damaged);
        trouble.again(reason)
    }

    /// Asks from further back, because the broker cannot find the offset that it was asked for.
    pub(super) fn step_back(&mut self) -> Next {
        let asked = self.further_back();
        if self.asked() <= asked {
            return self.stuck();
        }
        let trouble = self.trouble();
        trouble.not_found = trouble.not_found.min(trouble.asked);
        trouble.asked = asked;
        trouble.wait = None;
        trouble.again("not found by the broker")
    }

    /// Returns an offset below the one that is asked for, unless there is none: that of the batch before, or one twice
    /// as far back.
    fn further_back(&self) -> i64 {
        let asked = self.asked();
        let distance = self.position.saturating_sub(asked).saturating_mul(2).max(1);
        let before = self.before.filter(|before| *before < asked);
        before.unwrap_or(self.position.saturating_sub(distance)).max(self.log_start)
    }

    /// Notes that what was asked for is outside the log; returns whether that goes for the position too.
    pub(super) fn out_of_range(&mut self) -> bool {
        self.trouble.take().is_none_or(|trouble| trouble.asked == self.position)
    }

    /// Asks for more, after an answer that does not reach to the end of a batch or of damage, or not even to the position.
    fn look_further(&mut self, found: Circumstances) -> Next {
        // What begins nearest to the position leaves it the most room.
        let candidates = [Some(self.position), self.before];
        let trouble = self.trouble();
        let nearer = trouble.asked.saturating_add(1)..trouble.not_found;
        if let Some(nearest) = candidates.into_iter().flatten().find(|at| nearer.contains(at)) {
            trouble.asked = nearest;
            return Next::GoOn;
        }
        if !found.was_first {
            return Next::GoOn;
        }
        if found.is_full && found.room < ROOM_MAX {
            trouble.room = Some(found.room.saturating_mul(2).min(ROOM_MAX));
        } else {
            return self.stuck();
        }
        trouble.again("no end of the damage in sight")
    }

    /// Gives up for a while; the log may have grown by then, or somebody may have repaired it.
    fn stuck(&mut self) -> Next {
        self.trouble = None;
        Next::Stuck(STUCK_PAUSE)
    }

    fn trouble(&mut self) -> &mut Trouble {
        let asked = self.position;
        self.trouble.get_or_insert(Trouble {
            asked,
            not_found: i64::MAX,
            room: None,
            wait: None,
            looked_over: None,
            seen: None,
            pause: PAUSE.0,
        })
    }
}

impl Trouble {
    fn again(&mut self, reason: &'static str) -> Next {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        Next::Again { pause, reason }
    }
}

fn is_same(one: &DamagedBatch, other: &DamagedBatch) -> bool {
    (one.first_offset, &one.bytes) == (other.first_offset, &other.bytes)
}

#[cfg(test)]
mod tests;
