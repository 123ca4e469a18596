//! Which of a broker's lanes fetches which partition, and when.
//!
//! A lane is a connection with a fetch session. It has one request in flight, because a broker handles one request of a
//! connection at a time. Several lanes let a response arrive while another one is delivered, and let the broker wait
//! for news of some partitions while it sends the backlog of others. A partition is in one lane at most.
//!
//! Partitions that have caught up gather in the quiet lane, whose requests wait at the broker for new records. Those
//! that lag share the other lanes. One that catches up stays in its lane while another partition there lags, and moves
//! to the quiet lane when that has no request in flight. Until then its own lane waits for its records, and the quiet
//! lane makes short requests, so that both come together within [`GATHER_POLL`].
//!
//! The cost of an answer depends on the partitions in it, not on those that a lane has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::session::{Key, Params, Session, SessionRequest};

/// The number of lanes.
pub(super) const LANES: usize = 3;
/// The lane of partitions that have caught up.
const QUIET: usize = 0;
/// The lanes of partitions that lag.
const BUSY: [usize; 2] = [1, 2];
/// How long a request waits whose partitions are to move to another lane, or to get company from there.
const GATHER_POLL: Duration = Duration::from_millis(20);
/// How long a quiet request waits for a partition of the last answer whose channel is full: its worker may be about to
/// take the batches.
const GATHER_WAIT: Duration = Duration::from_millis(2);
/// How long the broker may wait for records of a partition whose log's end is unknown: there may be none.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// How far a partition was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The log's end is not known.
    Unknown,
    /// There are records to read.
    Lags,
    /// There is nothing to read.
    CaughtUp,
}

/// A request for one partition alone, without a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Solo {
    pub(super) key: Key,
    pub(super) params: Params,
    pub(super) wait: Duration,
}

/// The partitions of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Those of the lane's session.
    Session(SessionRequest),
    /// One.
    Solo(Solo),
}

/// A request to send.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) lane: usize,
    pub(super) asked: Asked,
    /// How long the broker may wait for records.
    pub(super) wait: Duration,
}

/// A request in flight.
#[derive(Debug)]
struct Flight {
    /// When the broker answers at the latest, if it has nothing.
    until: Instant,
    is_quiet: bool,
    solo: Option<Key>,
}

#[derive(Debug, Default)]
struct Lane {
    session: Session,
    /// Members that do not stand at the end of their logs.
    behind: BTreeMap<Key, Standing>,
    flight: Option<Flight>,
}

/// The lanes of one broker.
#[derive(Debug)]
pub(super) struct Lanes {
    wait_max: Duration,
    all: [Lane; LANES],
    /// Partitions that can be fetched and are in no lane.
    ready: BTreeMap<Key, (Params, Standing)>,
    /// Partitions to fetch alone.
    solo: VecDeque<Solo>,
    /// Partitions whose channels may have room in a moment, and until when to wait for them.
    gathering: BTreeSet<Key>,
    gather_until: Option<Instant>,
}

impl Lanes {
    pub(super) fn new(wait_max: Duration) -> Self {
        Self {
            wait_max,
            all: Default::default(),
            ready: BTreeMap::new(),
            solo: VecDeque::new(),
            gathering: BTreeSet::new(),
            gather_until: None,
        }
    }

    /// Fetches a partition from now on, or changes how.
    pub(super) fn fetch(&mut self, key: Key, params: Params, standing: Standing) {
        self.gathering.remove(&key);
        self.solo.retain(|solo| solo.key != key);
        match self.lane_of(&key) {
            Some(lane) => self.join(lane, key, params, standing),
            None => drop(self.ready.insert(key, (params, standing))),
        }
    }

    /// Fetches a partition once, alone.
    pub(super) fn fetch_alone(&mut self, solo: Solo) {
        self.leave(&solo.key);
        self.solo.push_back(solo);
    }

    /// Fetches a partition no longer.
    pub(super) fn leave(&mut self, key: &Key) {
        self.gathering.remove(key);
        self.ready.remove(key);
        self.solo.retain(|solo| solo.key != *key);
        if let Some(lane) = self.lane_of(key) {
            self.all[lane].session.unwant(key);
            self.all[lane].behind.remove(key);
        }
        for lane in &mut self.all {
            if let Some(flight) =
                lane.flight.as_mut().filter(|flight| flight.solo.as_ref() == Some(key))
            {
                flight.solo = None;
            }
        }
    }

    /// Fetches a partition no longer, because its channel is full.
    pub(super) fn leave_for_a_moment(&mut self, key: &Key, now: Instant) {
        self.leave(key);
        self.gathering.insert(key.clone());
        self.gather_until = Some(now + GATHER_WAIT);
    }

    /// Returns how a lane's answer has to be read for a partition; `None` if the lane was not to fetch it.
    pub(super) fn asked(&self, lane: usize, key: &Key) -> Option<Params> {
        let session = &self.all[lane].session;
        session.asked(key).filter(|_| session.wants(key))
    }

    /// Returns the partition that the request in flight is for alone.
    pub(super) fn asked_alone(&self, lane: usize) -> Option<&Key> {
        self.all[lane].flight.as_ref()?.solo.as_ref()
    }

    /// Returns the members of a lane that lag.
    pub(super) fn lagging(&self, lane: usize) -> Vec<Key> {
        let behind = self.all[lane].behind.iter();
        behind
            .filter(|(_, standing)| **standing == Standing::Lags)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Ends the request in flight of a lane.
    pub(super) fn end(&mut self, lane: usize) -> &mut Session {
        self.all[lane].flight = None;
        &mut self.all[lane].session
    }

    /// Returns when [`Lanes::next`] may return more without any other change.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.gather_until.filter(|_| !self.gathering.is_empty())
    }

    /// Returns the next request to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<Send> {
        if self.gather_until.is_some_and(|until| until <= now) {
            self.gathering.clear();
            self.gather_until = None;
        }
        self.next_alone(now).or_else(|| {
            self.assign();
            self.next_busy(now).or_else(|| self.next_quiet(now))
        })
    }

    /// Returns a request for one partition. One such request is in flight at a time: it may take long.
    fn next_alone(&mut self, now: Instant) -> Option<Send> {
        if self
            .all
            .iter()
            .any(|lane| lane.flight.as_ref().is_some_and(|flight| flight.solo.is_some()))
        {
            return None;
        }
        let lane = BUSY.into_iter().rev().chain([QUIET]).find(|lane| self.is_free(*lane))?;
        let solo = self.solo.pop_front()?;
        let wait = solo.wait;
        self.all[lane].flight =
            Some(Flight { until: now + wait, is_quiet: false, solo: Some(solo.key.clone()) });
        Some(Send { lane, asked: Asked::Solo(solo), wait })
    }

    /// Gives partitions without a lane to free lanes, and moves partitions between them.
    fn assign(&mut self) {
        let free_busy: Vec<usize> = BUSY.into_iter().filter(|lane| self.is_free(*lane)).collect();
        let is_quiet_free = self.is_free(QUIET);
        if is_quiet_free {
            for lane in &free_busy {
                if self.all[*lane].behind.is_empty() {
                    self.move_all(*lane);
                }
            }
            if !free_busy.is_empty() {
                for (key, standing) in std::mem::take(&mut self.all[QUIET].behind) {
                    if let Some(params) = self.all[QUIET].session.wanted().get(&key).copied() {
                        self.all[QUIET].session.unwant(&key);
                        self.ready.insert(key, (params, standing));
                    }
                }
            }
        }
        if free_busy.is_empty() && !is_quiet_free {
            return;
        }
        let least = |lanes: &[Lane; LANES], count: fn(&Lane) -> usize| {
            free_busy.iter().copied().min_by_key(|lane| count(&lanes[*lane]))
        };
        for (key, (params, standing)) in std::mem::take(&mut self.ready) {
            let busy = least(&self.all, |lane| lane.behind.len());
            let lane = match standing {
                Standing::CaughtUp if is_quiet_free => Some(QUIET),
                Standing::CaughtUp => {
                    // With one that lags there is an answer at once.
                    least(&self.all, |lane| usize::from(lane.behind.is_empty()))
                }
                Standing::Unknown | Standing::Lags => busy.or(is_quiet_free.then_some(QUIET)),
            };
            match lane {
                Some(lane) => self.join(lane, key, params, standing),
                None => drop(self.ready.insert(key, (params, standing))),
            }
        }
    }

    /// Moves all members of a lane to the quiet one.
    fn move_all(&mut self, lane: usize) {
        let members: Vec<(Key, Params)> = self.all[lane]
            .session
            .wanted()
            .iter()
            .map(|(key, params)| (key.clone(), *params))
            .collect();
        for (key, params) in members {
            self.all[lane].session.unwant(&key);
            self.all[QUIET].session.want(key, params);
        }
    }

    /// Returns a request of a lane with partitions that lag.
    fn next_busy(&mut self, now: Instant) -> Option<Send> {
        let is_due = |lane: &usize| self.is_free(*lane) && !self.all[*lane].behind.is_empty();
        let lane = BUSY.into_iter().chain([QUIET]).find(is_due)?;
        let has_unknown =
            self.all[lane].behind.values().any(|standing| *standing == Standing::Unknown);
        let wait = if has_unknown { FIRST_WAIT.min(self.wait_max) } else { self.wait_max };
        Some(self.send(lane, wait, now, false))
    }

    /// Returns a request of a lane whose partitions have all caught up.
    fn next_quiet(&mut self, now: Instant) -> Option<Send> {
        let has_members = |lane: usize| !self.all[lane].session.wanted().is_empty();
        let others_wait =
            BUSY.into_iter().filter(|lane| has_members(*lane) && self.all[*lane].behind.is_empty());
        let others_wait = others_wait.count();
        if self.is_free(QUIET) {
            if !has_members(QUIET) || !self.gathering.is_empty() {
                return None;
            }
            let wait = if others_wait > 0 { GATHER_POLL.min(self.wait_max) } else { self.wait_max };
            return Some(self.send(QUIET, wait, now, true));
        }
        let quiet_until = self.all[QUIET].flight.as_ref().map_or(now, |flight| flight.until);
        let rest = quiet_until.saturating_duration_since(now);
        // Soon the quiet lane is free for them.
        if rest <= GATHER_POLL {
            return None;
        }
        let lane = BUSY.into_iter().find(|lane| self.is_free(*lane) && has_members(*lane))?;
        let is_other_waiting = self
            .all
            .iter()
            .skip(1)
            .any(|lane| lane.flight.as_ref().is_some_and(|flight| flight.is_quiet));
        let wait = if is_other_waiting { GATHER_POLL } else { rest };
        Some(self.send(lane, wait.min(self.wait_max), now, true))
    }

    fn send(&mut self, lane: usize, wait: Duration, now: Instant, is_quiet: bool) -> Send {
        let sender = &mut self.all[lane];
        sender.flight = Some(Flight { until: now + wait, is_quiet, solo: None });
        Send { lane, asked: Asked::Session(sender.session.request()), wait }
    }

    fn join(&mut self, lane: usize, key: Key, params: Params, standing: Standing) {
        let lane = &mut self.all[lane];
        match standing {
            Standing::CaughtUp => drop(lane.behind.remove(&key)),
            Standing::Unknown | Standing::Lags => drop(lane.behind.insert(key.clone(), standing)),
        }
        if standing == Standing::Unknown && !lane.session.wants(&key) {
            lane.session.renew(&key);
        }
        lane.session.want(key, params);
    }

    fn is_free(&self, lane: usize) -> bool {
        self.all[lane].flight.is_none()
    }

    fn lane_of(&self, key: &Key) -> Option<usize> {
        self.all.iter().position(|lane| lane.session.wants(key))
    }
}

#[cfg(test)]
mod tests;
