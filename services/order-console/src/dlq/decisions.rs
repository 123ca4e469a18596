//! What operators decided, as far as the actions topic was read.

use std::collections::BTreeMap;

use dead_letter::Identity;
use dead_letter::actions::Action;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::identities::IdentityMap;
use super::lock_table::LockTable;
use crate::text::{TEXT_BYTES_MAX, cut};
use crate::time::Time;

/// Why, when and by whom a letter was dismissed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Dismissal {
    pub(crate) reason: String,
    pub(crate) at: Time,
    pub(crate) by: String,
}

/// What operators decided about letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperatorDecisions {
    dismissed: IdentityMap<usize>,
    /// Letters that were dismissed together share one.
    dismissals: Vec<Dismissal>,
    /// Letters that were replayed to the orders' own topic.
    replayed: IdentityMap<()>,
    /// By topic id and partition: the offset of the orders' own topic from which on it may hold unknown replays.
    to_source: BTreeMap<(Uuid, i32), i64>,
    /// The runs that replay, or wait to.
    pub(crate) locks: LockTable,
}

impl OperatorDecisions {
    /// Takes in one record of the actions topic; they have to come in offset order.
    pub(crate) fn apply(&mut self, offset: i64, action: Action) {
        self.locks.apply(offset, &action);
        match action {
            Action::Dismissed { identity, reason, at_ms, by } => {
                let [reason, by] = [reason, by].map(|text| cut(&text, TEXT_BYTES_MAX));
                let dismissal = Dismissal { reason, at: Time::of(at_ms), by };
                if self.dismissals.last() != Some(&dismissal) {
                    self.dismissals.push(dismissal);
                }
                self.dismissed.insert(&identity, self.dismissals.len() - 1);
            }
            Action::Reopened { identity } => self.dismissed.remove(&identity),
            Action::ReplayedToSource { identity, .. } => {
                self.replayed.insert(&identity, ());
            }
            Action::ToSource { topic_id, partition, from } => {
                self.to_source.insert((topic_id, partition), from);
            }
            Action::Released { .. } | Action::Lock { .. } | Action::Unlocked { .. } => {}
        }
    }

    /// Returns why a letter was dismissed, if it was.
    pub(crate) fn dismissal(&self, identity: &Identity) -> Option<&Dismissal> {
        self.dismissals.get(*self.dismissed.get(identity)?)
    }

    /// Returns whether a letter was replayed to the orders' own topic.
    pub(crate) fn is_replayed_to_source(&self, identity: &Identity) -> bool {
        self.replayed.contains(identity)
    }

    /// Returns the offset from which on a partition of the orders' own topic may hold unknown replays.
    pub(crate) fn to_source_from(&self, topic_id: Uuid, partition: i32) -> Option<i64> {
        self.to_source.get(&(topic_id, partition)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(offset: i64) -> Identity {
        Identity {
            topic_id: Uuid::nil(),
            partition: 0,
            offset,
            group: "night".into(),
            replay_count: 0,
        }
    }

    fn dismissed(offset: i64, reason: &str) -> Action {
        Action::Dismissed {
            identity: identity(offset),
            reason: reason.into(),
            at_ms: 1,
            by: "kim".into(),
        }
    }

    fn decisions(actions: impl IntoIterator<Item = Action>) -> OperatorDecisions {
        let mut decisions = OperatorDecisions::default();
        for (offset, action) in (0..).zip(actions) {
            decisions.apply(offset, action);
        }
        decisions
    }

    #[test]
    fn the_last_decision_about_a_letter_holds() {
        let decisions = decisions([
            dismissed(1, "first"),
            dismissed(2, "first"),
            dismissed(3, "second"),
            dismissed(1, "changed"),
            Action::Reopened { identity: identity(2) },
        ]);
        let reason = |offset| decisions.dismissal(&identity(offset)).map(|d| d.reason.as_str());
        assert_eq!([reason(1), reason(2), reason(3)], [Some("changed"), None, Some("second")]);
    }

    #[test]
    fn the_size_of_a_decision_does_not_grow_with_its_reason() {
        let decisions = decisions([dismissed(1, &"x".repeat(100_000))]);
        let kept = &decisions.dismissal(&identity(1)).unwrap().reason;
        assert!(kept.len() <= TEXT_BYTES_MAX + "…".len(), "{} bytes", kept.len());
    }

    #[test]
    fn replays_to_the_source_are_known_and_others_are_searched_from_the_last_offset() {
        let to_source = |from| Action::ToSource { topic_id: Uuid::nil(), partition: 1, from };
        let decisions = decisions([
            to_source(100),
            Action::ReplayedToSource { identity: identity(7), at_ms: 0 },
            to_source(200),
        ]);
        assert!(decisions.is_replayed_to_source(&identity(7)));
        assert!(!decisions.is_replayed_to_source(&identity(8)));
        assert_eq!(decisions.to_source_from(Uuid::nil(), 1), Some(200));
        assert_eq!(decisions.to_source_from(Uuid::nil(), 0), None);
    }
}
