//! Schemas by id: kept for ever once known, and fetched by one caller for all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use order_avro::WriterSchema;
use tokio::time::Instant;

use crate::RegistryError;

/// How long an id stays bad without being asked for again.
///
/// Long enough that a flood of records that name it does not become a flood of requests, short enough that
/// nobody waits for an id that has come into being.
const BAD_ID_LIFETIME: Duration = Duration::from_secs(5);

/// How many bad ids are remembered.
const BAD_IDS_MAX: usize = 1000;

pub(crate) type Lookup = Result<Arc<WriterSchema>, RegistryError>;

#[derive(Default)]
pub(crate) struct Cache {
    schemas: RwLock<BTreeMap<u32, Arc<WriterSchema>>>,
    /// Lookups that are under way, as long as somebody waits for them, and ids found bad.
    ///
    /// Weak, because a lookup is driven by those who wait for it: when the last of them has gone it stands
    /// still, and the next caller begins anew.
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    lookups: BTreeMap<u32, WeakShared<BoxFuture<'static, Lookup>>>,
    bad_ids: BTreeMap<u32, (Instant, RegistryError)>,
}

impl Cache {
    pub(crate) fn get(&self, id: u32) -> Option<Arc<WriterSchema>> {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Returns the schema or the error known for an id, or the one lookup under way for it.
    ///
    /// `begin` makes the lookup if there is none.
    pub(crate) fn lookup(
        &self,
        id: u32,
        now: Instant,
        begin: impl FnOnce() -> BoxFuture<'static, Lookup>,
    ) -> Shared<BoxFuture<'static, Lookup>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked for under the lock: a lookup puts its schema here before it removes itself there.
        if let Some(schema) = self.get(id) {
            return std::future::ready(Ok(schema)).boxed().shared();
        }
        if let Some((until, error)) = pending.bad_ids.get(&id)
            && now < *until
        {
            return std::future::ready(Err(error.clone())).boxed().shared();
        }
        if let Some(lookup) = pending.lookups.get(&id).and_then(WeakShared::upgrade) {
            return lookup;
        }
        pending.lookups.retain(|_, lookup| lookup.upgrade().is_some());
        let lookup = begin().shared();
        if let Some(weak) = lookup.downgrade() {
            pending.lookups.insert(id, weak);
        }
        lookup
    }

    /// Keeps what a lookup found.
    pub(crate) fn finish(&self, id: u32, now: Instant, found: &Lookup) {
        if let Ok(schema) = found {
            let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
            schemas.insert(id, Arc::clone(schema));
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.lookups.remove(&id);
        match found {
            Err(error) if !error.is_unavailable() => {
                pending.bad_ids.retain(|_, (until, _)| now < *until);
                if pending.bad_ids.len() < BAD_IDS_MAX {
                    pending.bad_ids.insert(id, (now + BAD_ID_LIFETIME, error.clone()));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outage;

    #[test]
    fn a_bad_id_is_looked_up_again_after_a_while() {
        let (cache, now) = (Cache::default(), Instant::now());
        finish(&cache, 1, now, RegistryError::UnknownSchema { id: 1 });
        assert!(!looks_up(&cache, 1, now + BAD_ID_LIFETIME / 2));
        assert!(looks_up(&cache, 1, now + BAD_ID_LIFETIME));
    }

    #[test]
    fn an_outage_is_looked_up_again_at_once() {
        let (cache, now) = (Cache::default(), Instant::now());
        let (url, detail) = (String::new(), String::new());
        finish(&cache, 1, now, RegistryError::Unavailable { url, outage: Outage::Timeout, detail });
        assert!(looks_up(&cache, 1, now));
    }

    #[test]
    fn bad_ids_beyond_a_number_are_not_remembered() {
        let (cache, now) = (Cache::default(), Instant::now());
        let ids = 0..u32::try_from(BAD_IDS_MAX).expect("a number") + 1;
        for id in ids.clone() {
            finish(&cache, id, now, RegistryError::UnknownSchema { id });
        }
        let later = ids.clone().filter(|id| looks_up(&cache, *id, now)).collect::<Vec<_>>();
        assert_eq!(later, [ids.end - 1]);
    }

    fn finish(cache: &Cache, id: u32, now: Instant, error: RegistryError) {
        cache.finish(id, now, &Err(error));
    }

    fn looks_up(cache: &Cache, id: u32, now: Instant) -> bool {
        let mut begun = false;
        drop(cache.lookup(id, now, || {
            begun = true;
            std::future::pending().boxed()
        }));
        begun
    }
}
