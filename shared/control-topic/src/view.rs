//! What the records of the control topic come to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::record::{Desired, Entry, Role, Standing};
use crate::{SIGN_INTERVAL, SILENCE_MAX};

/// Instances that are known at once.
const INSTANCES_MAX: usize = 100_000;
/// After so long without a sign the report of an instance can be taken out of the topic.
const FORGOTTEN_AFTER: Duration = SIGN_INTERVAL.saturating_mul(60);
/// How old the topic is once every instance that lives has reported to it, even if it was deleted and created again.
const COMPLETE_AFTER: Duration = SIGN_INTERVAL.saturating_add(Duration::from_secs(2));

/// The control topic's contents, as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlView {
    reading: Reading,
    /// By partition that is read: the offset that reading goes on with, and the end that has to be reached.
    positions: BTreeMap<i32, Range<i64>>,
    /// The partition that instances write their reports to, once the topic was described.
    reports: Option<i32>,
    generator: Desired,
    processor: Desired,
    instances: BTreeMap<(Role, String), Instance>,
    is_overfull: bool,
    /// The latest time of a record, and when that one was seen: what time it is for the broker.
    clock: Option<(i64, Instant)>,
    /// The earliest time of a record.
    oldest_ms: Option<i64>,
}

/// How far the topic was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// Not to the end that it had.
    #[default]
    Unread,
    /// To its end at least once.
    Read,
    /// It may not be read, for this reason.
    Refused(String),
}

/// A service that has said what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, unique within its role.
    pub name: String,
    /// What it last said.
    pub standing: Standing,
    /// When it last said so, in milliseconds since 1970, by the broker's clock.
    pub sign_ms: i64,
    /// The partition that holds its report.
    pub(crate) partition: i32,
}

impl ControlView {
    /// Returns whether the topic was read to its end: until then nothing is known about what is wanted.
    pub fn is_read(&self) -> bool {
        self.reading == Reading::Read
    }

    /// Returns why the topic may not be read, if that is so.
    pub fn refusal(&self) -> Option<&str> {
        match &self.reading {
            Reading::Refused(why) => Some(why),
            Reading::Unread | Reading::Read => None,
        }
    }

    /// Returns whether each of these partitions was read up to its offset.
    pub fn has_reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let has_reached = |(partition, end): (&i32, &i64)| {
            self.positions.get(partition).is_some_and(|position| *end <= position.start)
        };
        self.is_read() && ends.iter().all(has_reached)
    }

    /// Returns the offset of the next record to come in a partition that is read.
    pub(crate) fn next_offset(&self, partition: i32) -> i64 {
        self.positions.get(&partition).map_or(0, |position| position.start)
    }

    /// Returns the partitions that are read, and how far.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, Range<i64>> {
        &self.positions
    }

    /// Returns the partition that instances write their reports to; `None` while there is no topic.
    pub(crate) fn reports(&self) -> Option<i32> {
        self.reports
    }

    /// Returns what all services of a role are to do.
    pub fn desired(&self, role: Role) -> &Desired {
        match role {
            Role::Generator => &self.generator,
            Role::Processor => &self.processor,
        }
    }

    /// Returns the services of a role that have not said that they ended, by name.
    pub fn instances(&self, role: Role) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |((of, _), _)| *of == role).map(|(_, instance)| instance)
    }

    /// Returns whether the topic holds more instances than are known at once.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Returns whether the topic is so young that instances may live which have not reported to it yet.
    pub fn is_young(&self, now: Instant) -> bool {
        let age =
            self.oldest_ms.map_or(Duration::ZERO, |oldest_ms| self.time_since(oldest_ms, now));
        age < COMPLETE_AFTER
    }

    /// Returns whether an instance follows the latest command to its role. What it said while it followed an earlier one may
    /// not be so any more.
    pub fn is_current(&self, role: Role, instance: &Instance) -> bool {
        instance.standing.command == self.desired(role).id
    }

    /// Returns for how long an instance has given no sign of life, by the broker's clock.
    pub fn silence(&self, instance: &Instance, now: Instant) -> Duration {
        self.time_since(instance.sign_ms, now)
    }

    fn time_since(&self, time_ms: i64, now: Instant) -> Duration {
        let Some((newest_ms, seen)) = self.clock else { return Duration::ZERO };
        let before = u64::try_from(newest_ms.saturating_sub(time_ms)).unwrap_or(0);
        Duration::from_millis(before) + now.saturating_duration_since(seen)
    }

    /// Returns whether an instance gave a sign of life lately.
    pub fn is_alive(&self, instance: &Instance, now: Instant) -> bool {
        self.silence(instance, now) <= SILENCE_MAX
    }

    /// Returns whether an instance has been silent for so long that its report can be taken out of the topic.
    pub fn is_forgotten(&self, instance: &Instance, now: Instant) -> bool {
        FORGOTTEN_AFTER < self.silence(instance, now)
    }

    /// Returns a view of partitions that are to be read from an offset on and have an end, of a topic whose instances write
    /// their reports to partition `reports`.
    pub(crate) fn of_topic(positions: BTreeMap<i32, Range<i64>>, reports: i32) -> Self {
        let mut view = Self { positions, reports: Some(reports), ..Self::default() };
        view.note_end();
        view
    }

    /// Takes note of the partition that instances write their reports to, and returns whether that is news.
    pub(crate) fn place_reports(&mut self, partition: i32) -> bool {
        self.reports.replace(partition) != Some(partition)
    }

    /// Returns the view of a topic that is not there: nobody is to pause.
    pub(crate) fn of_nothing() -> Self {
        Self { reading: Reading::Read, ..Self::default() }
    }

    /// Takes note that everything below `offset` was read in a partition.
    pub(crate) fn advance(&mut self, partition: i32, offset: i64) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.start = offset;
        }
        self.note_end();
    }

    fn note_end(&mut self) {
        if self.positions.values().all(|position| position.end <= position.start) {
            self.reading = Reading::Read;
        }
    }

    /// Takes note that the topic may not be read; what is known holds.
    pub(crate) fn refuse(&mut self, why: String) {
        if !self.is_read() {
            self.reading = Reading::Refused(why);
        }
    }

    /// Takes in one record of a partition, which has its timestamp since `seen` by the own clock.
    pub fn apply(&mut self, partition: i32, entry: Entry, timestamp_ms: i64, seen: Instant) {
        if self.clock.is_none_or(|(newest_ms, _)| newest_ms <= timestamp_ms) {
            self.clock = Some((timestamp_ms, seen));
        }
        self.oldest_ms =
            Some(self.oldest_ms.map_or(timestamp_ms, |oldest| oldest.min(timestamp_ms)));
        match entry {
            Entry::Desired(Role::Generator, desired) => {
                self.generator = desired.unwrap_or_default();
            }
            Entry::Desired(Role::Processor, desired) => {
                self.processor = desired.unwrap_or_default();
            }
            Entry::Instance { role, name, standing } => {
                self.report(partition, (role, name), standing, timestamp_ms);
            }
        }
    }

    fn report(
        &mut self,
        partition: i32,
        instance: (Role, String),
        standing: Option<Standing>,
        sign_ms: i64,
    ) {
        let present = self.instances.get(&instance);
        // An earlier report, in the partition where it was before the topic got its second one.
        if present.is_some_and(|known| known.partition != partition && sign_ms < known.sign_ms) {
            return;
        }
        let Some(standing) = standing else {
            self.instances.remove(&instance);
            return;
        };
        if present.is_none() && INSTANCES_MAX <= self.instances.len() {
            self.is_overfull = true;
            return;
        }
        let name = instance.1.clone();
        self.instances.insert(instance, Instance { name, standing, sign_ms, partition });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RunState;
    use crate::{COMMANDS, REPORTS};

    #[test]
    fn the_last_word_holds_and_without_one_everybody_runs() {
        let mut view = ControlView::default();
        assert_eq!(view.desired(Role::Processor).state, RunState::Running);

        apply(&mut view, word(Role::Processor, RunState::Paused), 1);
        apply(&mut view, word(Role::Generator, RunState::Paused), 2);
        apply(&mut view, word(Role::Generator, RunState::Running), 3);
        assert_eq!(view.desired(Role::Processor).state, RunState::Paused);
        assert_eq!(view.desired(Role::Generator).state, RunState::Running);

        apply(&mut view, Entry::Desired(Role::Processor, None), 4);
        assert_eq!(*view.desired(Role::Processor), Desired::default());
    }

    #[test]
    fn what_an_instance_said_about_an_earlier_command_is_not_current_wherever_it_is_read() {
        let word = |id: &str| {
            let desired = Desired { id: Some(id.to_owned()), ..Desired::default() };
            (COMMANDS, Entry::Desired(Role::Processor, Some(desired)))
        };
        let said = |id: Option<&str>| {
            let command = id.map(str::to_owned);
            let standing = Some(Standing { command, ..Standing::default() });
            (REPORTS, Entry::Instance { role: Role::Processor, name: "a".to_owned(), standing })
        };
        let is_current = |records: &[(i32, Entry)]| {
            let mut view = ControlView::default();
            for (time, (partition, entry)) in (1..).zip(records) {
                view.apply(*partition, entry.clone(), time, now());
            }
            view.is_current(Role::Processor, view.instances(Role::Processor).next().unwrap())
        };
        assert!(is_current(&[said(None)]), "there is no command that it could follow");
        assert!(!is_current(&[said(None), word("1")]));
        assert!(!is_current(&[word("1"), said(None)]));
        assert!(is_current(&[word("1"), said(Some("1"))]));
        assert!(is_current(&[said(Some("1")), word("1")]), "partitions are read in any order");
        assert!(!is_current(&[word("1"), said(Some("1")), word("2")]));
        assert!(!is_current(&[word("2"), said(Some("1"))]));
        assert!(!is_current(&[word("1"), said(Some("1")), (COMMANDS, taken_back())]));
    }

    #[test]
    fn it_is_read_once_every_end_is_reached_and_refused_only_before() {
        let ends = |commands, reports| BTreeMap::from([(COMMANDS, commands), (REPORTS, reports)]);
        let mut view =
            ControlView::of_topic(BTreeMap::from([(COMMANDS, 3..7), (REPORTS, 0..2)]), REPORTS);
        view.refuse("not allowed".to_owned());
        assert_eq!(view.refusal(), Some("not allowed"));
        view.advance(COMMANDS, 7);
        assert!(!view.is_read() && !view.has_reached(&ends(7, 0)));
        view.advance(REPORTS, 2);
        assert!(view.is_read() && view.has_reached(&ends(7, 2)));
        assert!(!view.has_reached(&ends(7, 3)) && !view.has_reached(&ends(8, 2)));
        view.refuse("not allowed".to_owned());
        assert_eq!((view.is_read(), view.refusal()), (true, None));

        let commands = ControlView::of_topic(BTreeMap::from([(COMMANDS, 7..7)]), REPORTS);
        assert!(commands.is_read() && !commands.has_reached(&ends(7, 0)));
    }

    #[test]
    fn an_instance_lives_while_its_signs_come_by_the_brokers_clock() {
        let start = now();
        let mut view = ControlView::default();
        view.apply(REPORTS, sign("a"), 1_000, start);
        view.apply(REPORTS, sign("b"), 1_000 + ms(SILENCE_MAX), start);
        let alive = |view: &ControlView, now| -> Vec<String> {
            let instances = view.instances(Role::Processor);
            instances.filter(|i| view.is_alive(i, now)).map(|i| i.name.clone()).collect()
        };
        assert_eq!(alive(&view, start), ["a", "b"]);
        assert_eq!(alive(&view, start + Duration::from_millis(1)), ["b"]);

        view.apply(REPORTS, ended("b"), 1_000 + ms(SILENCE_MAX), start);
        assert_eq!(view.instances(Role::Processor).count(), 1);
    }

    #[test]
    fn a_topic_is_young_until_every_instance_that_lives_has_reported() {
        let start = now();
        let mut view = ControlView::default();
        assert!(view.is_young(start));
        view.apply(COMMANDS, word(Role::Processor, RunState::Paused), 1_000, start);
        assert!(view.is_young(start + SIGN_INTERVAL));
        assert!(!view.is_young(start + COMPLETE_AFTER));
        view.apply(REPORTS, sign("a"), 1_000 - ms(COMPLETE_AFTER), start);
        assert!(!view.is_young(start));
    }

    #[test]
    fn who_is_silent_for_long_is_forgotten() {
        let start = now();
        let mut view = ControlView::default();
        view.apply(REPORTS, sign("dead"), 1_000, start);
        view.apply(REPORTS, sign("gone"), 1_001, start);
        view.apply(REPORTS, sign("alive"), 1_001 + ms(FORGOTTEN_AFTER), start);
        let forgotten = view.instances(Role::Processor).filter(|i| view.is_forgotten(i, start));
        assert_eq!(forgotten.map(|i| i.name.as_str()).collect::<Vec<_>>(), ["dead"]);
    }

    #[test]
    fn a_report_that_was_left_in_the_partition_of_commands_is_not_taken_for_the_latest() {
        for later_first in [false, true] {
            let mut records = [(COMMANDS, sign("a"), 1), (REPORTS, paused("a"), 2)];
            if later_first {
                records.reverse();
            }
            let mut view = ControlView::default();
            for (partition, entry, time) in records {
                view.apply(partition, entry, time, now());
            }
            let found = view.instances(Role::Processor).next().unwrap();
            assert_eq!((found.standing.state, found.partition), (RunState::Paused, REPORTS));
        }
        // In one partition the order of the records counts, whatever their clocks say.
        let mut view = ControlView::default();
        view.apply(REPORTS, sign("a"), 2, now());
        view.apply(REPORTS, paused("a"), 1, now());
        let found = view.instances(Role::Processor).next().unwrap();
        assert_eq!(found.standing.state, RunState::Paused);
    }

    #[test]
    fn none_of_more_instances_than_fit_is_forgotten_without_a_word() {
        let mut view = ControlView::default();
        for number in 0..INSTANCES_MAX {
            view.apply(REPORTS, sign(&number.to_string()), 1, now());
        }
        assert!(!view.is_overfull());
        view.apply(REPORTS, sign("0"), 2, now());
        assert!(!view.is_overfull());
        view.apply(REPORTS, sign("one more"), 3, now());
        assert_eq!((view.instances.len(), view.is_overfull()), (INSTANCES_MAX, true));
    }

    fn apply(view: &mut ControlView, entry: Entry, timestamp_ms: i64) {
        view.apply(COMMANDS, entry, timestamp_ms, now());
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn ms(duration: Duration) -> i64 {
        i64::try_from(duration.as_millis()).unwrap()
    }

    fn word(role: Role, state: RunState) -> Entry {
        Entry::Desired(role, Some(Desired { state, ..Desired::default() }))
    }

    fn taken_back() -> Entry {
        Entry::Desired(Role::Processor, None)
    }

    fn sign(name: &str) -> Entry {
        said(name, RunState::Running)
    }

    fn paused(name: &str) -> Entry {
        said(name, RunState::Paused)
    }

    fn said(name: &str, state: RunState) -> Entry {
        let standing = Some(Standing { state, ..Standing::default() });
        Entry::Instance { role: Role::Processor, name: name.to_owned(), standing }
    }

    fn ended(name: &str) -> Entry {
        Entry::Instance { role: Role::Processor, name: name.to_owned(), standing: None }
    }
}
