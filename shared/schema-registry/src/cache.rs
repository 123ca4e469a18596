//! The cache of schemas and denials, and the lookups in flight, which all callers of an id share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use order_avro::{SchemaId, WriterSchema};
use pacing::Backoff;
use tokio::time::Instant;

use crate::{RegistryConfig, RegistryError, SchemaStatus};

/// How long the registry denies an id before the id counts as unknown.
///
/// A producer may write the first record of a new schema before the schema has reached the replica of the registry that
/// answers.
const DENIAL_MIN: Duration = Duration::from_secs(10);

/// How long the cache keeps a denial after its `ask_at`. The next denial of a forgotten id counts as its first.
const DENIAL_AGE_MAX: Duration = Duration::from_secs(10);

/// The most denied ids in the cache; beyond that it forgets the oldest.
const DENIED_MAX: usize = 4_096;

/// The most schemas in the cache, and the most memory of them in bytes; beyond that it forgets the least recently used.
const SCHEMAS_MAX: usize = 4_096;
const SCHEMAS_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) type Lookup = Result<Arc<WriterSchema>, RegistryError>;

/// The outcome of a request to the registry.
pub(crate) enum Answer {
    Schema(Arc<WriterSchema>),
    /// The registry lacks the schema or a reference; the error that becomes final after ten seconds.
    Denied(RegistryError),
    /// The registry did not answer, or orders cannot be read with its schema.
    Failed(RegistryError),
}

#[derive(Default)]
pub(crate) struct Cache {
    schemas: RwLock<Schemas>,
    /// Counts all uses of schemas.
    uses: AtomicU64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Schemas {
    by_id: BTreeMap<SchemaId, Kept>,
    bytes: usize,
}

struct Kept {
    schema: Arc<WriterSchema>,
    /// The number of its last use.
    used: AtomicU64,
}

#[derive(Default)]
struct Pending {
    /// Lookups in flight.
    ///
    /// The references are weak because the callers drive a lookup: without a caller it stops, and the next caller begins
    /// another.
    lookups: BTreeMap<SchemaId, WeakShared<BoxFuture<'static, Lookup>>>,
    denied: BTreeMap<SchemaId, Denial>,
}

/// What a denial means for its id.
enum Verdict {
    Final(RegistryError),
    FinalIfItStays(RegistryError),
}

/// A series of denials of one id.
struct Denial {
    since: Instant,
    backoff: Backoff,
    /// The last denial is valid until this time.
    ask_at: Instant,
    error: RegistryError,
}

impl Cache {
    pub(crate) fn get(&self, id: SchemaId) -> Option<Arc<WriterSchema>> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let kept = schemas.by_id.get(&id)?;
        kept.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&kept.schema))
    }

    pub(crate) fn status(&self, id: SchemaId, now: Instant) -> SchemaStatus {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = self.get(id) {
            return SchemaStatus::Usable(schema);
        }
        match pending.denied.get(&id).filter(|denial| denial.is_remembered(now)) {
            Some(denial) if matches!(denial.error, RegistryError::NotYetKnown { .. }) => {
                SchemaStatus::Awaited
            }
            Some(denial) if now < denial.ask_at => SchemaStatus::Unusable(denial.error.clone()),
            Some(_) | None => SchemaStatus::NotAsked,
        }
    }

    /// Returns the cached schema or denial of an id, or its lookup in flight, which `begin` starts if necessary.
    pub(crate) fn lookup(
        &self,
        id: SchemaId,
        now: Instant,
        begin: impl FnOnce() -> BoxFuture<'static, Lookup>,
    ) -> Shared<BoxFuture<'static, Lookup>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a lookup inserts its schema before it removes itself from the lookups in flight.
        if let Some(schema) = self.get(id) {
            return std::future::ready(Ok(schema)).boxed().shared();
        }
        if let Some(denial) = pending.denied.get(&id)
            && now < denial.ask_at
        {
            return std::future::ready(Err(denial.error.clone())).boxed().shared();
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

    /// Caches the registry's answer, and returns its meaning.
    pub(crate) fn finish(
        &self,
        id: SchemaId,
        now: Instant,
        answer: Answer,
        config: &RegistryConfig,
    ) -> Lookup {
        if let Answer::Schema(schema) = &answer {
            let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
            let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
            schemas.insert(id, Kept { schema: Arc::clone(schema), used });
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.lookups.remove(&id);
        match answer {
            Answer::Schema(schema) => {
                pending.denied.remove(&id);
                Ok(schema)
            }
            // An outage says nothing about the id.
            Answer::Failed(error) if error.is_unavailable() => Err(error),
            Answer::Failed(error) => Err(pending.deny(id, now, Verdict::Final(error), config)),
            Answer::Denied(error) => {
                Err(pending.deny(id, now, Verdict::FinalIfItStays(error), config))
            }
        }
    }
}

impl Schemas {
    fn insert(&mut self, id: SchemaId, kept: Kept) {
        self.bytes += kept.bytes();
        let before = self.by_id.insert(id, kept);
        self.bytes -= before.as_ref().map_or(0, Kept::bytes);
        while (self.by_id.len() > SCHEMAS_MAX) || (self.bytes > SCHEMAS_BYTES_MAX) {
            let others = self.by_id.iter().filter(|(other, _)| **other != id);
            let oldest = others.min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
            let forgotten = self.by_id.remove(&oldest);
            self.bytes -= forgotten.as_ref().map_or(0, Kept::bytes);
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.schema.bytes() + size_of::<Self>() + size_of::<SchemaId>()
    }
}

impl Pending {
    /// Caches a denial, and returns its meaning.
    fn deny(
        &mut self,
        id: SchemaId,
        now: Instant,
        verdict: Verdict,
        config: &RegistryConfig,
    ) -> RegistryError {
        self.denied.retain(|_, denial| denial.is_remembered(now));
        let before = self.denied.remove(&id);
        if self.denied.len() >= DENIED_MAX {
            let oldest = self.denied.iter().min_by_key(|(_, denial)| denial.ask_at);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.denied.remove(&oldest);
            }
        }
        let (since, mut backoff) =
            before.map_or_else(|| (now, config.backoff()), |before| (before.since, before.backoff));
        let ask_at = now + backoff.advance();
        let error = match verdict {
            Verdict::FinalIfItStays(_) if now - since < DENIAL_MIN => {
                RegistryError::NotYetKnown { id, ask_at }
            }
            Verdict::Final(error) | Verdict::FinalIfItStays(error) => error,
        };
        self.denied.insert(id, Denial { since, backoff, ask_at, error: error.clone() });
        error
    }
}

impl Denial {
    fn is_remembered(&self, now: Instant) -> bool {
        now < self.ask_at + DENIAL_AGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use order_avro::ORDER_SCHEMA;

    use super::*;
    use crate::Outage;

    /// A cache with a simulated time.
    struct Bench {
        cache: Cache,
        config: RegistryConfig,
        started: Instant,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (config, now) = (RegistryConfig::new("http://a"), Instant::now());
            Self { cache: Cache::default(), config, started: now, now }
        }

        fn answer(&self, id: u32, answer: Answer) -> RegistryError {
            self.cache.finish(id.into(), self.now, answer, &self.config).expect_err("no schema")
        }

        fn answer_with(&self, id: u32, schema: &Arc<WriterSchema>) {
            let answer = Answer::Schema(Arc::clone(schema));
            self.cache.finish(id.into(), self.now, answer, &self.config).expect("a schema");
        }

        fn deny(&self, id: u32) -> RegistryError {
            self.answer(id, Answer::Denied(RegistryError::UnknownSchema { id: id.into() }))
        }

        /// Denies an id until the denial is final.
        fn deny_until_final(&mut self, id: u32) -> RegistryError {
            loop {
                let error = self.deny(id);
                let RegistryError::NotYetKnown { ask_at, .. } = error else { return error };
                self.now = ask_at;
            }
        }

        fn is_looked_up(&self, id: u32) -> bool {
            let mut begun = false;
            drop(self.cache.lookup(id.into(), self.now, || {
                begun = true;
                std::future::pending().boxed()
            }));
            begun
        }

        fn status(&self, id: u32) -> &'static str {
            match self.cache.status(id.into(), self.now) {
                SchemaStatus::Usable(_) => "usable",
                SchemaStatus::Unusable(_) => "unusable",
                SchemaStatus::Awaited => "awaited",
                SchemaStatus::NotAsked => "not asked",
            }
        }
    }

    fn outage() -> RegistryError {
        let (url, detail) = (String::new(), String::new());
        RegistryError::Unavailable { url, outage: Outage::Timeout, detail }
    }

    #[test]
    fn an_id_is_unknown_after_ten_seconds_of_denials() {
        let mut bench = Bench::new();
        assert_eq!(bench.status(1), "not asked");
        bench.deny(1);
        assert_eq!(bench.status(1), "awaited");
        assert_eq!(bench.deny_until_final(1), RegistryError::UnknownSchema { id: 1.into() });
        let denied_for = bench.now - bench.started;
        assert!((DENIAL_MIN..DENIAL_MIN * 2).contains(&denied_for), "{denied_for:?}");
        assert_eq!(bench.status(1), "unusable");
        assert_eq!(bench.status(2), "not asked");
    }

    #[test]
    fn the_requests_for_a_denied_id_become_rarer() {
        let mut bench = Bench::new();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let error = bench.deny(1);
            let RegistryError::NotYetKnown { ask_at, .. } = error else { panic!("{error}") };
            pauses.push((ask_at - bench.now).as_millis());
            assert!(!bench.is_looked_up(1), "not before the pause is over");
            bench.now = ask_at;
            assert!(bench.is_looked_up(1));
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn an_unknown_id_is_looked_up_again_after_a_pause() {
        let mut bench = Bench::new();
        bench.deny_until_final(1);
        assert!(!bench.is_looked_up(1));
        bench.now += bench.config.retry_backoff_max;
        assert_eq!(bench.status(1), "not asked", "what was heard is too old to be relied on");
        assert!(bench.is_looked_up(1));
        let schema = WriterSchema::parse(ORDER_SCHEMA).expect("a schema");
        let answer = Answer::Schema(Arc::new(schema));
        assert!(bench.cache.finish(1.into(), bench.now, answer, &bench.config).is_ok());
        assert_eq!(bench.status(1), "usable");
    }

    #[test]
    fn a_denial_without_callers_is_forgotten() {
        let mut bench = Bench::new();
        bench.deny_until_final(1);
        bench.now += bench.config.retry_backoff_max + DENIAL_AGE_MAX;
        assert!(matches!(bench.deny(1), RegistryError::NotYetKnown { .. }));
    }

    #[test]
    fn an_outage_is_retried_at_once_and_is_no_denial() {
        let mut bench = Bench::new();
        bench.answer(1, Answer::Failed(outage()));
        assert!(bench.is_looked_up(1));
        assert_eq!(bench.status(1), "not asked");
        bench.deny(1);
        bench.now += DENIAL_AGE_MAX * 2;
        bench.answer(1, Answer::Failed(outage()));
        let error = bench.deny(1);
        assert!(matches!(error, RegistryError::NotYetKnown { .. }), "the outage was no denial");
    }

    #[test]
    fn an_unusable_schema_is_final_at_once() {
        let bench = Bench::new();
        let invalid = RegistryError::InvalidSchema { id: 1.into(), reason: "not AVRO".into() };
        assert_eq!(bench.answer(1, Answer::Failed(invalid.clone())), invalid);
        assert_eq!(bench.status(1), "unusable");
    }

    #[test]
    fn a_schema_with_a_missing_reference_is_awaited_and_then_invalid() {
        let mut bench = Bench::new();
        let part = || RegistryError::InvalidSchema { id: 1.into(), reason: "a part".into() };
        let error = bench.answer(1, Answer::Denied(part()));
        assert!(matches!(error, RegistryError::NotYetKnown { .. }), "{error}");
        bench.now += DENIAL_MIN;
        assert_eq!(bench.answer(1, Answer::Denied(part())), part());
    }

    #[test]
    fn the_oldest_of_too_many_denied_ids_are_forgotten() {
        let mut bench = Bench::new();
        let ids = 0..u32::try_from(DENIED_MAX).expect("a number") + 1;
        for id in ids.clone() {
            bench.deny(id);
            bench.now += Duration::from_nanos(1);
        }
        let later = ids.clone().filter(|id| bench.is_looked_up(*id)).collect::<Vec<_>>();
        assert_eq!(later, [0]);
    }

    #[test]
    fn the_least_recently_used_schemas_are_forgotten() {
        let bench = Bench::new();
        let fields: Vec<_> = (0..10_000).map(|_| r#"{"name": "x", "type": "int"}"#).collect();
        let schema =
            ORDER_SCHEMA.replace("\"fields\": [", &format!("\"fields\": [{},", fields.join(",")));
        let schema = Arc::new(WriterSchema::parse(&schema).expect("a schema"));
        let room = u32::try_from(SCHEMAS_BYTES_MAX / schema.bytes()).expect("a number");
        assert!((10..1_000).contains(&room), "{room}");
        for id in 0..room * 2 {
            bench.answer_with(id, &schema);
            assert!(bench.cache.get(id.into()).is_some(), "the latest is there");
            assert!(bench.cache.get(0.into()).is_some(), "one that is used is kept");
        }
        let kept = (0..room * 2).filter(|id| bench.cache.get((*id).into()).is_some());
        assert_eq!(kept.collect::<Vec<_>>()[..2], [0, room + 1]);
        assert!(bench.is_looked_up(1), "what was forgotten is looked up again");

        let own = Arc::new(WriterSchema::parse(ORDER_SCHEMA).expect("a schema"));
        for id in 0..10_000 {
            bench.answer_with(id, &own);
        }
        assert_eq!(
            (0..10_000).filter(|id: &u32| bench.cache.get((*id).into()).is_some()).count(),
            SCHEMAS_MAX
        );
        let schemas = bench.cache.schemas.read().expect("a lock");
        assert_eq!(schemas.bytes, schemas.by_id.values().map(Kept::bytes).sum::<usize>());
    }
}
