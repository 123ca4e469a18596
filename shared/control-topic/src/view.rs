//! The state of the control topic, from its records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::record::{Desired, Entry, InstanceReport, Role};
use crate::topic::{REPORT_INTERVAL, SILENCE_MAX};

/// The most instances of a view.
const INSTANCES_MAX: usize = 100_000;
/// The report of an instance that has been silent for so long can be deleted.
const FORGOTTEN_AFTER: Duration = REPORT_INTERVAL.saturating_mul(60);
/// The age of the topic at which every instance that is alive has reported to it, even if it was deleted and created
/// again.
const COMPLETE_AFTER: Duration = REPORT_INTERVAL.saturating_add(Duration::from_secs(2));

/// The state of the control topic, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlView {
    reading: Reading,
    /// By partition: the offset to read next, and the end that has to be reached.
    positions: BTreeMap<i32, Range<i64>>,
    /// The partition of reports, once the topic was described.
    reports: Option<i32>,
    generator: Desired,
    processor: Desired,
    instances: BTreeMap<(Role, String), Instance>,
    is_overfull: bool,
    /// The latest timestamp of a record, and when that record was read: the broker's clock.
    clock: Option<(i64, Instant)>,
    /// The earliest timestamp of a record.
    oldest_ms: Option<i64>,
}

/// How far the topic was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Unread,
    /// To its end at least once.
    Read,
    /// This client may not read it, for this reason.
    Refused(String),
}

/// A service that has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, unique within its role.
    pub name: String,
    /// Its last report.
    pub report: InstanceReport,
    /// The timestamp of that report, in milliseconds since 1970, by the broker's clock.
    pub reported_ms: i64,
    /// The partition that holds its report.
    pub(crate) partition: i32,
}

impl ControlView {
    /// Returns whether the topic was read to its end. Until then the desired states are unknown.
    pub fn is_read(&self) -> bool {
        self.reading == Reading::Read
    }

    /// Returns why this client may not read the topic, if that is so.
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

    /// Returns the offset to read next in a partition.
    pub(crate) fn next_offset(&self, partition: i32) -> i64 {
        self.positions.get(&partition).map_or(0, |position| position.start)
    }

    /// Returns the partitions, each with the offset to read next and its end.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, Range<i64>> {
        &self.positions
    }

    /// Returns the partition of reports; `None` while there is no topic.
    pub(crate) fn reports(&self) -> Option<i32> {
        self.reports
    }

    /// Returns the desired state of a role.
    pub fn desired(&self, role: Role) -> &Desired {
        match role {
            Role::Generator => &self.generator,
            Role::Processor => &self.processor,
        }
    }

    /// Returns the instances of a role that have not reported their end, by name.
    pub fn instances(&self, role: Role) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |((of, _), _)| *of == role).map(|(_, instance)| instance)
    }

    /// Returns whether the topic holds more instances than the view.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Returns whether the topic is so young that live instances may not have reported to it yet.
    pub fn is_young(&self, now: Instant) -> bool {
        let age =
            self.oldest_ms.map_or(Duration::ZERO, |oldest_ms| self.time_since(oldest_ms, now));
        age < COMPLETE_AFTER
    }

    /// Returns whether the report of an instance names the latest command to its role. A report that names an earlier one
    /// may be outdated.
    pub fn is_current(&self, role: Role, instance: &Instance) -> bool {
        instance.report.command == self.desired(role).id
    }

    /// Returns the time since the last report of an instance, by the broker's clock.
    pub fn silence(&self, instance: &Instance, now: Instant) -> Duration {
        self.time_since(instance.reported_ms, now)
    }

    fn time_since(&self, time_ms: i64, now: Instant) -> Duration {
        let Some((newest_ms, seen)) = self.clock else { return Duration::ZERO };
        let before = u64::try_from(newest_ms.saturating_sub(time_ms)).unwrap_or(0);
        Duration::from_millis(before) + now.saturating_duration_since(seen)
    }

    /// Returns whether an instance has reported lately.
    pub fn is_alive(&self, instance: &Instance, now: Instant) -> bool {
        self.silence(instance, now) <= SILENCE_MAX
    }

    /// Returns whether an instance has been silent for so long that its report can be deleted.
    pub fn is_forgotten(&self, instance: &Instance, now: Instant) -> bool {
        FORGOTTEN_AFTER < self.silence(instance, now)
    }

    /// Returns the view of an unread topic: `positions` are the first offset and the end of each partition, `reports` is the
    /// partition of reports.
    pub(crate) fn of_topic(positions: BTreeMap<i32, Range<i64>>, reports: i32) -> Self {
        let mut view = Self { positions, reports: Some(reports), ..Self::default() };
        view.note_end();
        view
    }

    /// Sets the partition of reports, and returns whether it has changed.
    pub(crate) fn set_reports(&mut self, partition: i32) -> bool {
        self.reports.replace(partition) != Some(partition)
    }

    /// Returns the view of a topic that does not exist: all services are to run.
    pub(crate) fn of_no_topic() -> Self {
        Self { reading: Reading::Read, ..Self::default() }
    }

    /// Notes that everything below `offset` was read in a partition.
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

    /// Notes that this client may not read the topic. A view that was read holds.
    pub(crate) fn refuse(&mut self, why: String) {
        if !self.is_read() {
            self.reading = Reading::Refused(why);
        }
    }

    /// Applies one record of a partition. Its timestamp is the time `seen` of this process's clock.
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
            Entry::Instance { role, name, report } => {
                self.apply_report(partition, (role, name), report, timestamp_ms);
            }
        }
    }

    fn apply_report(
        &mut self,
        partition: i32,
        instance: (Role, String),
        report: Option<InstanceReport>,
        reported_ms: i64,
    ) {
        let present = self.instances.get(&instance);
        // An earlier report, in the partition of reports before the topic got its second one.
        if present
            .is_some_and(|known| known.partition != partition && reported_ms < known.reported_ms)
        {
            return;
        }
        let Some(report) = report else {
            self.instances.remove(&instance);
            return;
        };
        if present.is_none() && INSTANCES_MAX <= self.instances.len() {
            self.is_overfull = true;
            return;
        }
        let name = instance.1.clone();
        self.instances.insert(instance, Instance { name, report, reported_ms, partition });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RunState;
    use crate::topic::{COMMANDS, REPORTS};

    #[test]
    fn the_last_command_holds_and_without_one_all_services_run() {
        let mut view = ControlView::default();
        assert_eq!(view.desired(Role::Processor).state, RunState::Running);

        apply(&mut view, command(Role::Processor, RunState::Paused), 1);
        apply(&mut view, command(Role::Generator, RunState::Paused), 2);
        apply(&mut view, command(Role::Generator, RunState::Running), 3);
        assert_eq!(view.desired(Role::Processor).state, RunState::Paused);
        assert_eq!(view.desired(Role::Generator).state, RunState::Running);

        apply(&mut view, Entry::Desired(Role::Processor, None), 4);
        assert_eq!(*view.desired(Role::Processor), Desired::default());
    }

    #[test]
    fn a_report_that_names_an_earlier_command_is_not_current() {
        let command = |id: &str| {
            let desired = Desired { id: Some(id.to_owned()), ..Desired::default() };
            (COMMANDS, Entry::Desired(Role::Processor, Some(desired)))
        };
        let report = |id: Option<&str>| {
            let command = id.map(str::to_owned);
            let report = Some(InstanceReport { command, ..InstanceReport::default() });
            (REPORTS, Entry::Instance { role: Role::Processor, name: "a".to_owned(), report })
        };
        let is_current = |records: &[(i32, Entry)]| {
            let mut view = ControlView::default();
            for (time, (partition, entry)) in (1..).zip(records) {
                view.apply(*partition, entry.clone(), time, now());
            }
            view.is_current(Role::Processor, view.instances(Role::Processor).next().unwrap())
        };
        assert!(is_current(&[report(None)]), "there is no command that it could follow");
        assert!(!is_current(&[report(None), command("1")]));
        assert!(!is_current(&[command("1"), report(None)]));
        assert!(is_current(&[command("1"), report(Some("1"))]));
        assert!(is_current(&[report(Some("1")), command("1")]), "partitions are read in any order");
        assert!(!is_current(&[command("1"), report(Some("1")), command("2")]));
        assert!(!is_current(&[command("2"), report(Some("1"))]));
        assert!(!is_current(&[command("1"), report(Some("1")), (COMMANDS, deleted())]));
    }

    #[test]
    fn a_view_is_read_once_every_end_is_reached_and_refused_only_before() {
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
    fn an_instance_is_alive_while_it_reports_by_the_brokers_clock() {
        let start = now();
        let mut view = ControlView::default();
        view.apply(REPORTS, running("a"), 1_000, start);
        view.apply(REPORTS, running("b"), 1_000 + ms(SILENCE_MAX), start);
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
    fn a_topic_is_young_until_every_live_instance_has_reported() {
        let start = now();
        let mut view = ControlView::default();
        assert!(view.is_young(start));
        view.apply(COMMANDS, command(Role::Processor, RunState::Paused), 1_000, start);
        assert!(view.is_young(start + REPORT_INTERVAL));
        assert!(!view.is_young(start + COMPLETE_AFTER));
        view.apply(REPORTS, running("a"), 1_000 - ms(COMPLETE_AFTER), start);
        assert!(!view.is_young(start));
    }

    #[test]
    fn an_instance_that_is_silent_for_long_is_forgotten() {
        let start = now();
        let mut view = ControlView::default();
        view.apply(REPORTS, running("dead"), 1_000, start);
        view.apply(REPORTS, running("gone"), 1_001, start);
        view.apply(REPORTS, running("alive"), 1_001 + ms(FORGOTTEN_AFTER), start);
        let forgotten = view.instances(Role::Processor).filter(|i| view.is_forgotten(i, start));
        assert_eq!(forgotten.map(|i| i.name.as_str()).collect::<Vec<_>>(), ["dead"]);
    }

    #[test]
    fn a_report_that_was_left_in_the_partition_of_commands_is_not_taken_for_the_latest() {
        for later_first in [false, true] {
            let mut records = [(COMMANDS, running("a"), 1), (REPORTS, paused("a"), 2)];
            if later_first {
                records.reverse();
            }
            let mut view = ControlView::default();
            for (partition, entry, time) in records {
                view.apply(partition, entry, time, now());
            }
            let found = view.instances(Role::Processor).next().unwrap();
            assert_eq!((found.report.state, found.partition), (RunState::Paused, REPORTS));
        }
        // In one partition the order of the records counts, whatever their clocks say.
        let mut view = ControlView::default();
        view.apply(REPORTS, running("a"), 2, now());
        view.apply(REPORTS, paused("a"), 1, now());
        let found = view.instances(Role::Processor).next().unwrap();
        assert_eq!(found.report.state, RunState::Paused);
    }

    #[test]
    fn a_view_says_that_it_holds_fewer_instances_than_the_topic() {
        let mut view = ControlView::default();
        for number in 0..INSTANCES_MAX {
            view.apply(REPORTS, running(&number.to_string()), 1, now());
        }
        assert!(!view.is_overfull());
        view.apply(REPORTS, running("0"), 2, now());
        assert!(!view.is_overfull());
        view.apply(REPORTS, running("one more"), 3, now());
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

    fn command(role: Role, state: RunState) -> Entry {
        Entry::Desired(role, Some(Desired { state, ..Desired::default() }))
    }

    fn deleted() -> Entry {
        Entry::Desired(Role::Processor, None)
    }

    fn running(name: &str) -> Entry {
        report(name, RunState::Running)
    }

    fn paused(name: &str) -> Entry {
        report(name, RunState::Paused)
    }

    fn report(name: &str, state: RunState) -> Entry {
        let report = Some(InstanceReport { state, ..InstanceReport::default() });
        Entry::Instance { role: Role::Processor, name: name.to_owned(), report }
    }

    fn ended(name: &str) -> Entry {
        Entry::Instance { role: Role::Processor, name: name.to_owned(), report: None }
    }
}
