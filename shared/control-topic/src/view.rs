//! What the records of the control topic come to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::record::{Desired, Entry, Role, Standing};
use crate::{SIGN_INTERVAL, SILENCE_MAX};

/// Instances that are known at once; beyond, the one that has been silent for longest is forgotten.
const INSTANCES_MAX: usize = 1000;
/// After so long without a sign an instance is taken out of the topic by one that lives.
const FORGOTTEN_AFTER: Duration = SIGN_INTERVAL.saturating_mul(60);

/// The control topic's contents, as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlView {
    reading: Reading,
    /// The offset that reading goes on with.
    next_offset: i64,
    generator: Desired,
    processor: Desired,
    instances: BTreeMap<(Role, String), Instance>,
    /// The latest time of a record, and when that one was seen: what time it is for the broker.
    clock: Option<(i64, Instant)>,
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
    /// Whether it has said so since what its role is to do changed last. What it said before may not be so any more.
    pub is_current: bool,
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

    /// Returns the offset of the next record to come.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
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

    /// Returns for how long an instance has given no sign of life, by the broker's clock.
    pub fn silence(&self, instance: &Instance, now: Instant) -> Duration {
        let Some((newest_ms, seen)) = self.clock else { return Duration::ZERO };
        let before = u64::try_from(newest_ms.saturating_sub(instance.sign_ms)).unwrap_or(0);
        Duration::from_millis(before) + now.saturating_duration_since(seen)
    }

    /// Returns whether an instance gave a sign of life lately.
    pub fn is_alive(&self, instance: &Instance, now: Instant) -> bool {
        self.silence(instance, now) <= SILENCE_MAX
    }

    /// Returns which instances of a role have been silent for so long that their records can go, if it is for the
    /// instance `name` to do it: the first one that lives does.
    pub(crate) fn forgotten(&self, role: Role, name: &str, now: Instant) -> Vec<String> {
        let first = self.instances(role).find(|instance| self.is_alive(instance, now));
        if !self.is_read() || first.is_none_or(|first| first.name != name) {
            return Vec::new();
        }
        let is_forgotten = |instance: &&Instance| FORGOTTEN_AFTER < self.silence(instance, now);
        self.instances(role).filter(is_forgotten).map(|instance| instance.name.clone()).collect()
    }

    /// Returns a view that is to be read from `offset` on.
    pub fn from_offset(offset: i64) -> Self {
        Self { next_offset: offset, ..Self::default() }
    }

    /// Returns the view of a topic that is not there: nobody is to pause.
    pub(crate) fn of_nothing() -> Self {
        Self { reading: Reading::Read, ..Self::default() }
    }

    /// Takes note that everything below `offset` was read, and that the topic ended at `end`.
    pub fn advance(&mut self, offset: i64, end: i64) {
        self.next_offset = offset;
        if end <= offset {
            self.reading = Reading::Read;
        }
    }

    /// Takes note that the topic may not be read; what is known holds.
    pub(crate) fn refuse(&mut self, why: String) {
        if !self.is_read() {
            self.reading = Reading::Refused(why);
        }
    }

    /// Takes in one record, which has its timestamp since `seen` by the own clock.
    pub fn apply(&mut self, entry: Entry, timestamp_ms: i64, seen: Instant) {
        if self.clock.is_none_or(|(newest_ms, _)| newest_ms <= timestamp_ms) {
            self.clock = Some((timestamp_ms, seen));
        }
        match entry {
            Entry::Desired(role, desired) => self.desire(role, desired.unwrap_or_default()),
            Entry::Instance { role, name, standing: None } => {
                self.instances.remove(&(role, name));
            }
            Entry::Instance { role, name, standing: Some(standing) } => {
                let instance = Instance {
                    name: name.clone(),
                    standing,
                    sign_ms: timestamp_ms,
                    is_current: true,
                };
                self.instances.insert((role, name), instance);
                self.bound();
            }
        }
    }

    fn desire(&mut self, role: Role, desired: Desired) {
        let present = match role {
            Role::Generator => &mut self.generator,
            Role::Processor => &mut self.processor,
        };
        if present.state != desired.state {
            let instances = self.instances.iter_mut().filter(|((of, _), _)| *of == role);
            instances.for_each(|(_, instance)| instance.is_current = false);
        }
        *present = desired;
    }

    fn bound(&mut self) {
        if INSTANCES_MAX < self.instances.len() {
            let oldest = self.instances.iter().min_by_key(|(_, instance)| instance.sign_ms);
            let oldest = oldest.map(|(key, _)| key.clone());
            self.instances.retain(|key, _| Some(key) != oldest.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RunState;

    #[test]
    fn the_last_word_holds_and_without_one_everybody_runs() {
        let now = now();
        let mut view = ControlView::default();
        assert_eq!(view.desired(Role::Processor).state, RunState::Running);

        view.apply(word(Role::Processor, RunState::Paused), 1, now);
        view.apply(word(Role::Generator, RunState::Paused), 2, now);
        view.apply(word(Role::Generator, RunState::Running), 3, now);
        assert_eq!(view.desired(Role::Processor).state, RunState::Paused);
        assert_eq!(view.desired(Role::Generator).state, RunState::Running);

        view.apply(Entry::Desired(Role::Processor, None), 4, now);
        assert_eq!(*view.desired(Role::Processor), Desired::default());
    }

    #[test]
    fn what_an_instance_said_before_another_word_came_is_not_current() {
        let now = now();
        let mut view = ControlView::default();
        let is_current =
            |view: &ControlView| view.instances(Role::Processor).next().unwrap().is_current;
        view.apply(sign("a"), 1, now);
        assert!(is_current(&view));
        view.apply(word(Role::Generator, RunState::Paused), 2, now);
        view.apply(word(Role::Processor, RunState::Running), 3, now);
        assert!(is_current(&view), "nothing else is wanted of it");

        view.apply(word(Role::Processor, RunState::Paused), 4, now);
        view.apply(sign("a"), 5, now);
        view.apply(word(Role::Processor, RunState::Paused), 6, now);
        assert!(is_current(&view), "the same word again");
        view.apply(Entry::Desired(Role::Processor, None), 7, now);
        assert!(!is_current(&view));
        view.apply(word(Role::Processor, RunState::Paused), 8, now);
        assert!(!is_current(&view));
    }

    #[test]
    fn it_is_read_once_the_end_is_reached_and_refused_only_before() {
        let mut view = ControlView::from_offset(3);
        view.refuse("not allowed".to_owned());
        assert_eq!(view.refusal(), Some("not allowed"));
        view.advance(5, 7);
        assert!(!view.is_read());
        view.advance(7, 7);
        assert!(view.is_read());
        view.refuse("not allowed".to_owned());
        assert_eq!((view.is_read(), view.refusal()), (true, None));
    }

    #[test]
    fn an_instance_lives_while_its_signs_come_by_the_brokers_clock() {
        let start = now();
        let mut view = ControlView::default();
        view.apply(sign("a"), 1_000, start);
        view.apply(sign("b"), 1_000 + ms(SILENCE_MAX), start);
        let alive = |view: &ControlView, now| -> Vec<String> {
            let instances = view.instances(Role::Processor);
            instances.filter(|i| view.is_alive(i, now)).map(|i| i.name.clone()).collect()
        };
        assert_eq!(alive(&view, start), ["a", "b"]);
        assert_eq!(alive(&view, start + Duration::from_millis(1)), ["b"]);

        view.apply(ended("b"), 1_000 + ms(SILENCE_MAX), start);
        assert_eq!(view.instances(Role::Processor).count(), 1);
    }

    #[test]
    fn who_is_silent_for_long_is_forgotten_by_the_first_that_lives() {
        let start = now();
        let mut view = ControlView::of_nothing();
        let late = 1_000 + ms(FORGOTTEN_AFTER) + 1;
        view.apply(sign("dead"), 1_000, start);
        view.apply(sign("first"), late, start);
        view.apply(sign("second"), late, start);
        assert_eq!(view.forgotten(Role::Processor, "first", start), ["dead"]);
        assert!(view.forgotten(Role::Processor, "second", start).is_empty());
        assert!(view.forgotten(Role::Generator, "first", start).is_empty());
    }

    #[test]
    fn there_is_a_bound_on_instances() {
        let start = now();
        let mut view = ControlView::default();
        for number in 0..=i64::try_from(INSTANCES_MAX).unwrap() {
            view.apply(sign(&format!("{number:05}")), number, start);
        }
        let first = view.instances(Role::Processor).next().unwrap();
        assert_eq!((view.instances.len(), first.name.as_str()), (INSTANCES_MAX, "00001"));
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

    fn sign(name: &str) -> Entry {
        let standing = Standing { state: RunState::Running, since_ms: None, member_id: None };
        let (role, name) = (Role::Processor, name.to_owned());
        Entry::Instance { role, name, standing: Some(standing) }
    }

    fn ended(name: &str) -> Entry {
        Entry::Instance { role: Role::Processor, name: name.to_owned(), standing: None }
    }
}
