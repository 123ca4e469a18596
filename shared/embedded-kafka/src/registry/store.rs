//! What a registry keeps, and what it does when it is asked.

use std::{collections::BTreeMap, str::FromStr};

use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use serde_json::Value;

use crate::registry::canonical::canonical;

/// How long a parser's complaint may be, in characters, before it is cut.
const DETAILS_CHARS_MAX: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Store {
    schemas: BTreeMap<u32, String>,
    last_id: u32,
    /// Each subject's versions, in their order; none is empty.
    subjects: BTreeMap<String, Vec<Version>>,
    global_level: Level,
    levels: BTreeMap<String, Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) id: u32,
    /// Whether it is deleted in the soft way: out of sight, but not gone.
    deleted: bool,
}

/// A version as it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    Latest,
    Number(u32),
}

/// Which versions a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Live,
    /// Those deleted in the soft way as well.
    WithDeleted,
}

/// How to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// Out of sight.
    Soft,
    /// For good; only what is out of sight.
    Hard,
}

/// What a subject's next schema has to be able to do with its earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Level {
    None,
    #[default]
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

/// An answer that is an error, with the registry's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) message: String,
}

/// A schema that can be registered.
struct Candidate {
    text: String,
    parsed: Schema,
}

impl Store {
    pub(super) fn schema(&self, id: u32) -> Result<(&str, &Version, &str), Refusal> {
        let used = self.subjects.iter().find_map(|(subject, versions)| {
            versions.iter().find(|version| version.id == id).map(|version| (subject, version))
        });
        match (used, self.schemas.get(&id)) {
            (Some((subject, version)), Some(text)) => Ok((subject, version, text)),
            (None, _) | (_, None) => Err(refusal(40403, format!("Schema {id} not found"))),
        }
    }

    pub(super) fn text(&self, version: &Version) -> &str {
        self.schemas.get(&version.id).map_or("", String::as_str)
    }

    pub(super) fn subjects(&self, scope: Scope) -> impl Iterator<Item = &str> {
        let seen = move |versions: &[Version]| versions.iter().any(|version| version.is_in(scope));
        let subjects = self.subjects.iter().filter(move |(_, versions)| seen(versions));
        subjects.map(|(subject, _)| subject.as_str())
    }

    /// Returns a subject's versions, at least one.
    pub(super) fn versions(&self, subject: &str, scope: Scope) -> Result<Vec<&Version>, Refusal> {
        let versions = self.subjects.get(subject).into_iter().flatten();
        let versions: Vec<_> = versions.filter(|version| version.is_in(scope)).collect();
        if versions.is_empty() { Err(no_subject(subject)) } else { Ok(versions) }
    }

    pub(super) fn version(
        &self,
        subject: &str,
        wanted: Wanted,
        scope: Scope,
    ) -> Result<&Version, Refusal> {
        let versions = self.versions(subject, scope)?;
        find(&versions, wanted)
    }

    /// Registers a schema under a subject, or finds it there.
    pub(super) fn register(&mut self, subject: &str, schema: &str) -> Result<&Version, Refusal> {
        if schema.is_empty() {
            return Err(refusal(42201, "Empty schema"));
        }
        let new = Candidate::parse(schema)?;
        let versions = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let known = self.schemas.iter().find(|(_, text)| **text == new.text).map(|(id, _)| *id);
        let same = |version: &Version| (Some(version.id) == known) && !version.deleted;
        if versions.iter().any(same) {
            return self.lookup(subject, schema, Scope::Live);
        }
        let problems = self.problems(subject, &new, versions.iter().filter(|v| !v.deleted))?;
        if !problems.is_empty() {
            let details = problems.join(", ");
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", \
                 details: [{details}]"
            );
            return Err(refusal(40901, message));
        }
        let id = known.unwrap_or(self.last_id + 1);
        self.last_id = self.last_id.max(id);
        self.schemas.insert(id, new.text);
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        let number = versions.last().map_or(1, |version| version.number + 1);
        // A schema that comes back takes the place of its deleted version.
        versions.retain(|version| version.id != id);
        versions.push(Version { number, id, deleted: false });
        versions.last().ok_or_else(|| no_subject(subject))
    }

    /// Finds a schema under a subject.
    pub(super) fn lookup(
        &self,
        subject: &str,
        schema: &str,
        scope: Scope,
    ) -> Result<&Version, Refusal> {
        let not_found = || refusal(40403, "Schema not found");
        let versions = self.versions(subject, scope)?;
        if schema.is_empty() {
            return Err(not_found());
        }
        let text = Candidate::parse(schema)?.text;
        let found = versions.into_iter().rev().find(|version| self.text(version) == text);
        found.ok_or_else(not_found)
    }

    /// Returns what speaks against a schema, by the subject's level: against one version, or as registering it would.
    pub(super) fn check(
        &self,
        subject: &str,
        schema: &str,
        against: Option<Wanted>,
    ) -> Result<Vec<String>, Refusal> {
        let new = Candidate::parse(schema)?;
        let live: Vec<_> = self.versions(subject, Scope::Live).unwrap_or_default();
        match against {
            None => self.problems(subject, &new, live.into_iter()),
            Some(Wanted::Latest) if live.is_empty() => Ok(Vec::new()),
            Some(wanted) => self.problems(subject, &new, [find(&live, wanted)?].into_iter()),
        }
    }

    pub(super) fn delete_version(
        &mut self,
        subject: &str,
        wanted: Wanted,
        deletion: Deletion,
    ) -> Result<u32, Refusal> {
        let scope = match wanted {
            Wanted::Latest => Scope::Live,
            Wanted::Number(_) => Scope::WithDeleted,
        };
        let Version { number, deleted, .. } = *self.version(subject, wanted, scope)?;
        let what = format!("Subject '{subject}' Version {number}");
        match (deletion, deleted) {
            (Deletion::Soft, true) => Err(already_deleted(40406, &what)),
            (Deletion::Hard, false) => Err(not_deleted_first(40407, &what)),
            (Deletion::Soft, false) | (Deletion::Hard, true) => {
                self.remove(subject, &[number], deletion);
                Ok(number)
            }
        }
    }

    pub(super) fn delete_subject(
        &mut self,
        subject: &str,
        deletion: Deletion,
    ) -> Result<Vec<u32>, Refusal> {
        let all = self.versions(subject, Scope::WithDeleted)?;
        let live = all.iter().filter(|version| !version.deleted).count();
        let what = format!("Subject '{subject}'");
        let numbers: Vec<u32> = match deletion {
            Deletion::Soft if live == 0 => return Err(already_deleted(40404, &what)),
            Deletion::Hard if live > 0 => return Err(not_deleted_first(40405, &what)),
            Deletion::Soft => all.iter().filter(|v| !v.deleted).map(|v| v.number).collect(),
            Deletion::Hard => all.iter().map(|version| version.number).collect(),
        };
        self.remove(subject, &numbers, deletion);
        Ok(numbers)
    }

    /// Returns the level of a subject, if it has one of its own, or the global one.
    pub(super) fn level(&self, subject: Option<&str>) -> Option<Level> {
        match subject {
            None => Some(self.global_level),
            Some(subject) => self.levels.get(subject).copied(),
        }
    }

    /// Sets the level of a subject, or the global one, or takes it away; returns what it was.
    pub(super) fn set_level(
        &mut self,
        subject: Option<&str>,
        level: Option<Level>,
    ) -> Option<Level> {
        let before = self.level(subject);
        match (subject, level) {
            (None, level) => self.global_level = level.unwrap_or_default(),
            (Some(subject), Some(level)) => {
                self.levels.insert(subject.to_owned(), level);
            }
            (Some(subject), None) => {
                self.levels.remove(subject);
            }
        }
        before
    }

    fn remove(&mut self, subject: &str, numbers: &[u32], deletion: Deletion) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        match deletion {
            Deletion::Soft => {
                let chosen =
                    versions.iter_mut().filter(|version| numbers.contains(&version.number));
                chosen.for_each(|version| version.deleted = true);
            }
            Deletion::Hard => versions.retain(|version| !numbers.contains(&version.number)),
        }
        if versions.is_empty() {
            self.subjects.remove(subject);
            self.levels.remove(subject);
        }
        let used = |id: &u32| self.subjects.values().flatten().any(|version| version.id == *id);
        self.schemas.retain(|id, _| used(id));
    }

    /// Checks a schema against live versions, the latest of them only unless the level is a transitive one.
    fn problems<'a>(
        &self,
        subject: &str,
        new: &Candidate,
        versions: impl DoubleEndedIterator<Item = &'a Version>,
    ) -> Result<Vec<String>, Refusal> {
        let level = self.level(Some(subject)).unwrap_or(self.global_level);
        let checked = if level.is_transitive() { usize::MAX } else { 1 };
        let mut problems = Vec::new();
        for version in versions.rev().take(checked) {
            let old = Candidate::parse(self.text(version))?.parsed;
            problems.extend(level.problem(&old, &new.parsed));
        }
        Ok(problems)
    }
}

impl Candidate {
    fn parse(schema: &str) -> Result<Self, Refusal> {
        let invalid = |error: String| {
            let details: String = error.chars().take(DETAILS_CHARS_MAX).collect();
            refusal(42201, format!("Invalid schema of type AVRO, details: {details}"))
        };
        let json: Value =
            serde_json::from_str(schema).map_err(|error| invalid(error.to_string()))?;
        let parsed = Schema::parse(&json).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { text: canonical(&json), parsed })
    }
}

impl Version {
    fn is_in(&self, scope: Scope) -> bool {
        (scope == Scope::WithDeleted) || !self.deleted
    }
}

impl FromStr for Wanted {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.parse() {
            _ if matches!(text, "latest" | "-1") => Ok(Self::Latest),
            Ok(number) if (1..=i32::MAX.unsigned_abs()).contains(&number) => {
                Ok(Self::Number(number))
            }
            Ok(_) | Err(_) => Err(refusal(
                42202,
                format!(
                    "The specified version '{text}' is not a valid version id. Allowed values are between \
                     [1, 2^31-1] and the string \"latest\""
                ),
            )),
        }
    }
}

impl Level {
    const ALL: [(Self, &str); 7] = [
        (Self::None, "NONE"),
        (Self::Backward, "BACKWARD"),
        (Self::BackwardTransitive, "BACKWARD_TRANSITIVE"),
        (Self::Forward, "FORWARD"),
        (Self::ForwardTransitive, "FORWARD_TRANSITIVE"),
        (Self::Full, "FULL"),
        (Self::FullTransitive, "FULL_TRANSITIVE"),
    ];

    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(level, _)| *level == self).map_or("", |(_, name)| name)
    }

    fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    /// Returns why a new schema must not follow an old one.
    pub(super) fn problem(self, old: &Schema, new: &Schema) -> Option<String> {
        let (backward, forward) = match self {
            Self::None => (false, false),
            Self::Backward | Self::BackwardTransitive => (true, false),
            Self::Forward | Self::ForwardTransitive => (false, true),
            Self::Full | Self::FullTransitive => (true, true),
        };
        let backward = backward.then(|| unreadable(old, new)).flatten();
        let forward = || forward.then(|| unreadable(new, old)).flatten();
        let backward =
            backward.map(|why| format!("the new schema cannot read the old one's data: {why}"));
        backward.or_else(|| {
            forward().map(|why| format!("the old schema cannot read the new one's data: {why}"))
        })
    }
}

impl FromStr for Level {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(level, _)| level).ok_or_else(|| {
            refusal(
                42203,
                "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, \
                 forward_transitive, and full_transitive",
            )
        })
    }
}

fn unreadable(writer: &Schema, reader: &Schema) -> Option<String> {
    match SchemaCompatibility::can_read(writer, reader) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => Some("some values have no counterpart".to_owned()),
        Err(error) => Some(error.to_string().chars().take(DETAILS_CHARS_MAX).collect()),
    }
}

fn find<'a>(versions: &[&'a Version], wanted: Wanted) -> Result<&'a Version, Refusal> {
    let (found, number) = match wanted {
        Wanted::Latest => (versions.last(), 0),
        Wanted::Number(number) => {
            (versions.iter().find(|version| version.number == number), number)
        }
    };
    found.copied().ok_or_else(|| refusal(40402, format!("Version {number} not found.")))
}

pub(super) fn refusal(code: u32, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

pub(super) fn no_subject(subject: &str) -> Refusal {
    refusal(40401, format!("Subject '{subject}' not found."))
}

fn already_deleted(code: u32, what: &str) -> Refusal {
    refusal(code, format!("{what} was soft deleted.Set permanent=true to delete permanently"))
}

fn not_deleted_first(code: u32, what: &str) -> Refusal {
    refusal(code, format!("{what} was not deleted first before being permanently deleted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_live_version_counts_unless_the_level_is_transitive() {
        let mut store = Store::default();
        store.set_level(Some("s"), Some(Level::None));
        for schema in [r#""string""#, r#""int""#, r#""long""#, r#""boolean""#] {
            register(&mut store, schema);
        }
        store.delete_version("s", Wanted::Latest, Deletion::Soft).expect("a version");
        store.set_level(Some("s"), Some(Level::Backward));
        assert_eq!(problems(&store, r#""double""#), 0);
        store.set_level(Some("s"), Some(Level::BackwardTransitive));
        assert_eq!(problems(&store, r#""double""#), 1);
        store.set_level(Some("s"), Some(Level::Backward));
        register(&mut store, r#""double""#);
    }

    #[test]
    fn a_subject_that_is_deleted_for_good_leaves_no_level() {
        let mut store = Store::default();
        register(&mut store, r#""int""#);
        store.set_level(Some("s"), Some(Level::Full));
        store.delete_subject("s", Deletion::Soft).expect("a subject");
        assert_eq!(store.level(Some("s")), Some(Level::Full));
        store.delete_subject("s", Deletion::Hard).expect("a subject");
        assert_eq!(store.level(Some("s")), None);
    }

    fn register(store: &mut Store, schema: &str) {
        store.register("s", schema).expect("a version");
    }

    fn problems(store: &Store, schema: &str) -> usize {
        store.check("s", schema, None).expect("a verdict").len()
    }
}
