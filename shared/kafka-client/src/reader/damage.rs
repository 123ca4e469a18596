//! The search for the next readable batch after a damaged one.
//!
//! A transfer error is gone with the next fetch; damage on the broker's disk is not. So the reader calls a batch damaged
//! only after two fetches have returned the same bytes.
//!
//! A broker finds an offset by walking over its batches from the nearest entry of its index. It cannot pass a batch
//! whose length field is damaged, and answers with an error or, always, with nothing (observed with Kafka 4.3). But it
//! returns all bytes after an earlier offset that it does find. So the reader steps back, further each time, and reads
//! over the damage; [`FetchedPartition`](kafka_core::record_batch::FetchedPartition) finds where the damage ends.
//!
//! An answer without a whole batch is no sign of damage while there is another explanation. The response may have had no
//! room left after other partitions, so the partition is the first of the next request. The broker may need longer than
//! the request allowed, as with tiered storage, so the next request waits longer.
//!
//! ```text
//!        read, nothing damaged
//!   ┌──────────────────────────────┐
//!   ▼                              │
//! fine ── damage ─► seen once ─────┤
//!   │                   │ the same bytes again: delivered as damaged
//!   │                   └──────────────────────────────────────────► fine, behind it
//!   ├── error, or nothing although the log goes on ─► stepping back ─► damage, or read
//!   └── damage without an end in sight ─► more room ─► damage
//! ```

use std::time::Duration;

use kafka_core::record_batch::{DamagedBatch, VerifiedBatches};

/// Pause before damage is fetched again: first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long the broker may look for a batch that it has not returned: first, and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// How long the broker may look for a partition that is fetched alone, at first and at most.
pub(super) const SOLO_WAIT: Duration = Duration::from_millis(500);
/// Pause while no request can make progress.
const STUCK_PAUSE: Duration = Duration::from_secs(5);
/// How many offsets before a gap are fetched to verify it.
const LOOK_BACK_MAX: i64 = 1024;
/// Most bytes of a partition that one request asks for to find the end of damage.
const ROOM_MAX: i32 = 64 * 1024 * 1024;

/// The position in one partition, and the search for the end of damage there.
#[derive(Debug)]
pub(super) struct Place {
    /// The offset of the next record to deliver.
    pub(super) position: i64,
    /// The log's first offset in the last response.
    pub(super) log_start: i64,
    /// The base offset of the last batch before the position. A broker always finds it.
    before: Option<i64>,
    search: Option<Search>,
}

#[derive(Debug)]
struct Search {
    /// The offset to fetch from, at most the position.
    asked: i64,
    /// The lowest offset that the broker could not find.
    not_found: i64,
    /// How many bytes to ask for, if not as many as usual.
    room: Option<i32>,
    /// How long the broker may look for the batch, if longer than usual.
    wait: Option<Duration>,
    /// The position of a gap that was fetched again from further back.
    gap_checked: Option<i64>,
    /// The damage in the last response.
    seen: Option<DamagedBatch>,
    pause: Duration,
}

/// What the response and its request say beside the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerContext {
    /// Requested bytes.
    pub(super) room: i32,
    /// Returned bytes.
    pub(super) bytes: usize,
    /// Whether the response may have had no room for more.
    pub(super) is_full: bool,
    /// Whether the partition was the first of the request: only the first gets a batch of any size.
    pub(super) was_first: bool,
    /// How long the broker was allowed to look for data.
    pub(super) wait: Duration,
    /// The last stable offset.
    pub(super) end: i64,
}

/// The next fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// From the position.
    GoOn,
    /// The same offset, or one further back, after a pause.
    Again {
        /// How long to wait.
        pause: Duration,
        /// Why, for people.
        reason: &'static str,
    },
    /// No request can make progress: an operator has to know. The reader tries again after a pause.
    Stuck(Duration),
}

impl Place {
    pub(super) fn new(position: i64) -> Self {
        Self { position, log_start: 0, before: None, search: None }
    }

    pub(super) fn asked(&self) -> i64 {
        self.search.as_ref().map_or(self.position, |search| search.asked)
    }

    /// Returns how many bytes to ask for; `usual` without a search.
    pub(super) fn room(&self, usual: i32) -> i32 {
        self.search.as_ref().and_then(|search| search.room).unwrap_or(usual)
    }

    /// Returns how long the broker may look for the next batch, if the usual time was too short.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.search.as_ref().and_then(|search| search.wait)
    }

    /// Returns whether the broker can find the position, as far as earlier responses show.
    pub(super) fn is_findable(&self) -> bool {
        self.search.as_ref().is_none_or(|search| self.position < search.not_found)
    }

    /// Returns whether the partition must be the first of the next request.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Advances over what can be delivered of `reading`, and removes damage from it that one fetch has shown only once.
    pub(super) fn advance(&mut self, reading: &mut VerifiedBatches, found: AnswerContext) -> Next {
        if self.must_check_gap(reading) {
            return Next::GoOn;
        }
        let last = reading.batches.last().map(|batch| batch.header().base_offset);
        self.before = last.or(self.before);
        let known = self.search.as_ref().and_then(|search| search.seen.as_ref());
        let is_new = |damaged: &mut DamagedBatch| known.is_none_or(|seen| !is_same(seen, damaged));
        if let Some(damaged) = reading.damaged.take_if(is_new) {
            reading.next_offset = damaged.first_offset;
            return self.fetch_again(damaged);
        }
        let has_news = self.position < reading.next_offset;
        self.position = reading.next_offset;
        if reading.is_unclear {
            return self.search_further(found);
        }
        if has_news || found.end <= self.position {
            self.search = None;
            return Next::GoOn;
        }
        if found.bytes > 0 {
            return self.search_further(found);
        }
        let was_asked_again = self.is_searching();
        let position = self.position;
        let search = self.search();
        if !found.was_first || !was_asked_again {
            return Next::GoOn;
        }
        if (search.asked == position) && (found.wait < WAIT.1) {
            search.wait = Some((found.wait * 2).clamp(WAIT.0, WAIT.1));
            return Next::Again { pause: Duration::ZERO, reason: "the broker sent nothing" };
        }
        self.step_back()
    }

    /// Returns whether a gap at the position has to be fetched again from further back. A broker that is asked for a batch
    /// with a damaged base offset answers with the next one; the damage shows in a fetch from an earlier batch.
    fn must_check_gap(&mut self, reading: &mut VerifiedBatches) -> bool {
        let first = reading.batches.first().map(|batch| batch.header().base_offset);
        if first.is_none_or(|first| first <= self.position) {
            return false;
        }
        let (position, asked) = (self.position, self.further_back());
        // The fetch from further back did not reach the gap because of a limit of the broker.
        let is_hidden = |t: &Search| t.asked == position && t.gap_checked == Some(position);
        if self.search.as_ref().is_some_and(is_hidden)
            || (self.asked() <= asked)
            || (asked < position - LOOK_BACK_MAX)
        {
            return false;
        }
        let search = self.search();
        search.asked = asked;
        search.gap_checked = Some(position);
        reading.batches.clear();
        reading.damaged = None;
        reading.next_offset = self.position;
        true
    }

    /// Fetches damage once more, from the last batch before it: the broker may not find it by its own offset.
    fn fetch_again(&mut self, damaged: DamagedBatch) -> Next {
        let asked = self.asked();
        self.position = damaged.first_offset;
        let before = self.before.unwrap_or(asked);
        let reason = damaged.fault.as_str();
        let search = self.search();
        search.asked = before;
        search.seen = Some(damaged);
        search.again(reason)
    }

    /// Notes that a response had nothing of a log that goes on. The next request is for this partition alone.
    pub(super) fn on_nothing(&mut self) {
        self.search();
    }

    /// Fetches from further back, because the broker cannot find the requested offset.
    pub(super) fn step_back(&mut self) -> Next {
        let asked = self.further_back();
        if self.asked() <= asked {
            return self.stuck();
        }
        let search = self.search();
        search.not_found = search.not_found.min(search.asked);
        search.asked = asked;
        search.wait = None;
        search.again("not found by the broker")
    }

    /// Returns an offset below the requested one, if there is any: that of the batch before, or one twice as far back.
    fn further_back(&self) -> i64 {
        let asked = self.asked();
        let distance = self.position.saturating_sub(asked).saturating_mul(2).max(1);
        let before = self.before.filter(|before| *before < asked);
        before.unwrap_or(self.position.saturating_sub(distance)).max(self.log_start)
    }

    /// Notes that the requested offset is outside the log; returns whether the position is, too.
    pub(super) fn out_of_range(&mut self) -> bool {
        self.search.take().is_none_or(|search| search.asked == self.position)
    }

    /// Fetches more, after a response that does not reach the end of a batch or of damage, or not even the position.
    fn search_further(&mut self, found: AnswerContext) -> Next {
        // The offset nearest to the position leaves the most room for it.
        let candidates = [Some(self.position), self.before];
        let search = self.search();
        let nearer = search.asked.saturating_add(1)..search.not_found;
        if let Some(nearest) = candidates.into_iter().flatten().find(|at| nearer.contains(at)) {
            search.asked = nearest;
            return Next::GoOn;
        }
        if !found.was_first {
            return Next::GoOn;
        }
        if found.is_full && found.room < ROOM_MAX {
            search.room = Some(found.room.saturating_mul(2).min(ROOM_MAX));
        } else {
            return self.stuck();
        }
        search.again("no end of the damage in sight")
    }

    /// Ends the search for a while; by then the log may have grown, or an operator may have repaired it.
    fn stuck(&mut self) -> Next {
        self.search = None;
        Next::Stuck(STUCK_PAUSE)
    }

    fn search(&mut self) -> &mut Search {
        let asked = self.position;
        self.search.get_or_insert(Search {
            asked,
            not_found: i64::MAX,
            room: None,
            wait: None,
            gap_checked: None,
            seen: None,
            pause: PAUSE.0,
        })
    }
}

impl Search {
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
