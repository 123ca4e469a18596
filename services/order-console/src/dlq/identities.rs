//! A compact map of the identities of very many letters.

use std::collections::BTreeMap;

use uuid::Uuid;

use dead_letter::Identity;

/// A map from letters to values. An entry takes about 40 bytes besides its value: the few topics and groups are kept
/// once.
#[derive(Clone, Debug)]
pub(crate) struct IdentityMap<V> {
    spaces: BTreeMap<(Uuid, String), u32>,
    entries: BTreeMap<Compact, V>,
}

/// The number of a letter's topic and group, and its partition, offset and replay count.
type Compact = (u32, i32, i64, u32);

impl<V> Default for IdentityMap<V> {
    fn default() -> Self {
        Self { spaces: BTreeMap::new(), entries: BTreeMap::new() }
    }
}

impl<V> IdentityMap<V> {
    /// Sets the value of a letter, and returns the one before.
    pub(crate) fn insert(&mut self, identity: &Identity, value: V) -> Option<V> {
        let space = (identity.topic_id, identity.group.clone());
        let next = u32::try_from(self.spaces.len()).unwrap_or(u32::MAX);
        let space = *self.spaces.entry(space).or_insert(next);
        self.entries.insert(compact(space, identity), value)
    }

    pub(crate) fn get(&self, identity: &Identity) -> Option<&V> {
        self.entries.get(&self.compact(identity)?)
    }

    pub(crate) fn contains(&self, identity: &Identity) -> bool {
        self.get(identity).is_some()
    }

    pub(crate) fn remove(&mut self, identity: &Identity) {
        if let Some(compact) = self.compact(identity) {
            self.entries.remove(&compact);
        }
    }

    fn compact(&self, identity: &Identity) -> Option<Compact> {
        let space = self.spaces.get(&(identity.topic_id, identity.group.clone()))?;
        Some(compact(*space, identity))
    }
}

fn compact(space: u32, identity: &Identity) -> Compact {
    (space, identity.partition, identity.offset, identity.replay_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_in_anything_are_different_ones() {
        let first = Identity {
            topic_id: Uuid::from_u128(1),
            partition: 2,
            offset: 3,
            group: "a".into(),
            replay_count: 4,
        };
        let others = [
            Identity { topic_id: Uuid::from_u128(2), ..first.clone() },
            Identity { partition: 3, ..first.clone() },
            Identity { offset: 4, ..first.clone() },
            Identity { group: "b".into(), ..first.clone() },
            Identity { replay_count: 5, ..first.clone() },
        ];
        let mut map = IdentityMap::default();
        assert_eq!(map.insert(&first, "first"), None);
        for other in &others {
            assert!(!map.contains(other), "{other}");
            assert_eq!(map.insert(other, "other"), None);
        }
        assert_eq!(map.insert(&first, "again"), Some("first"));
        map.remove(&others[0]);
        assert_eq!((map.get(&first), map.get(&others[0])), (Some(&"again"), None));
    }
}
