//! The calls a service makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use order_avro::{SchemaId, WriterSchema};
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::{
    RegistryConfig, RegistryError,
    cache::{Answer, Cache, Lookup},
    lookup,
    transport::{Call, Transport},
};

/// How many schemas are looked up at a time, because each may take a few MiB while it is read.
const LOOKUPS_MAX: usize = 8;

/// A client of one schema registry; clones share connections and cache.
#[derive(Clone)]
pub struct SchemaRegistry {
    inner: Arc<Inner>,
}

/// What the registry says about a schema that is not registered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// It could be registered, by the subject's compatibility level.
    Compatible,
    /// It could not.
    Incompatible {
        /// The registry's reasons, as far as it gives any.
        messages: Vec<String>,
    },
}

/// What is known of a schema id without asking the registry.
#[derive(Clone, Debug)]
pub enum SchemaStatus {
    /// Its schema.
    Usable(Arc<WriterSchema>),
    /// It names no schema that could be read with, by an answer of less than a second ago.
    Unusable(RegistryError),
    /// The registry denies it, but may have its schema soon.
    Awaited,
    /// Nothing that can be relied on.
    NotAsked,
}

/// Answers lookups in a test, in place of a registry: with a schema's text, or `None` where there is no such schema.
#[cfg(feature = "test-util")]
pub type Script = Box<dyn Fn(SchemaId) -> Result<Option<String>, RegistryError> + Send + Sync>;

struct Inner {
    transport: Transport,
    cache: Cache,
    lookups: Semaphore,
    #[cfg(feature = "test-util")]
    script: Option<Script>,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl SchemaRegistry {
    /// Builds a client; nothing is connected yet.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`] if a URL cannot be used, or is encrypted and the system has no
    /// certificates to trust.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self { inner: Arc::new(Inner::new(Transport::new(config)?)) })
    }

    /// Builds a client whose lookups `script` answers; other calls find no registry.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "test-util")]
    pub fn scripted(script: Script) -> Result<Self, RegistryError> {
        let mut inner = Inner::new(Transport::new(RegistryConfig::new("http://127.0.0.1:1"))?);
        inner.script = Some(script);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns how many requests were answered with each HTTP status so far; `None` is no answer.
    pub fn requests(&self) -> BTreeMap<Option<u16>, u64> {
        self.inner.transport.requests()
    }

    /// Returns the URLs that are reached through a proxy which the environment names, each with it, without secrets.
    pub fn proxies(&self) -> impl Iterator<Item = (String, &str)> {
        self.inner.transport.proxies()
    }

    /// Returns the schema with this id if it has been looked up before.
    pub fn cached(&self, id: impl Into<SchemaId>) -> Option<Arc<WriterSchema>> {
        self.inner.cache.get(id.into())
    }

    /// Returns what is known of an id by now.
    pub fn status(&self, id: SchemaId) -> SchemaStatus {
        self.inner.cache.status(id, Instant::now())
    }

    /// Returns the schema with this id, with all that it refers to, from the registry if it is not known yet.
    ///
    /// However many callers ask for an id, it is asked for once. A schema that was found is kept while there is room for
    /// it. An id that the registry denies is not asked for again before a back-off is over; a denial that no caller asks about is
    /// forgotten after ten seconds. An outage is not remembered at all.
    ///
    /// # Errors
    /// [`RegistryError::UnknownSchema`], [`RegistryError::NoGuids`] and [`RegistryError::InvalidSchema`] if the id names no
    /// schema that could be read with; [`RegistryError::NotYetKnown`] if the registry has not denied it for long enough to say so;
    /// [`RegistryError::Unavailable`] in all other cases.
    ///
    /// # Cancel safety
    /// The other callers who wait for the same id go on; nothing is lost but the place in the queue.
    pub async fn schema_by_id(&self, id: impl Into<SchemaId>) -> Lookup {
        let id = id.into();
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let begin = || {
            let inner = Arc::clone(&self.inner);
            async move {
                let answer = inner.fetch(id).await;
                inner.cache.finish(id, Instant::now(), answer, inner.transport.config())
            }
            .boxed()
        };
        self.inner.cache.lookup(id, Instant::now(), begin).await
    }

    /// Registers a schema under a subject and returns its id; a schema already there keeps its own.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] if the subject's compatibility level forbids it,
    /// [`RegistryError::Refused`] if the registry takes no such schema or subject,
    /// [`RegistryError::Unavailable`] if it does not answer.
    ///
    /// # Cancel safety
    /// The schema may or may not be registered; registering again gives the same id.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let call = Call {
            method: Method::POST,
            path: &["subjects", subject, "versions"],
            query: None,
            schema: Some(schema),
        };
        match self.inner.transport.call(&call).await? {
            Ok(Registered { id }) => Ok(id),
            Err(rejection) if rejection.status == 409 => Err(RegistryError::Incompatible {
                subject: subject.to_owned(),
                message: rejection.message,
            }),
            Err(rejection) => Err(rejection.into_refused()),
        }
    }

    /// Returns the id of a schema under a subject, registering it where it is not there, and waiting for the registry as long as
    /// it takes; `in_vain` is told of every round of attempts before that.
    ///
    /// Where the schema is there, the right to write is not needed.
    ///
    /// # Errors
    /// As [`Self::register`], but never [`RegistryError::Unavailable`]: a registry that answers the lookup and denies the
    /// registration to the same user has refused it.
    ///
    /// # Cancel safety
    /// As [`Self::register`].
    pub async fn ensure_registered(
        &self,
        subject: &str,
        schema: &str,
        mut in_vain: impl FnMut(&RegistryError) + Send,
    ) -> Result<u32, RegistryError> {
        let mut rounds = 0;
        loop {
            let outcome = match self.id_under(subject, schema).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {
                    self.register(subject, schema).await.map_err(RegistryError::final_denial)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_unavailable() => in_vain(&error),
                outcome => return outcome,
            }
            rounds += 1;
            tokio::time::sleep(self.inner.transport.config().backoff(rounds)).await;
        }
    }

    /// Returns the id of a schema under a subject, if it is there.
    async fn id_under(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let path = ["subjects", subject];
        let call = Call { method: Method::POST, path: &path, query: None, schema: Some(schema) };
        let found = self.inner.transport.call(&call).await?;
        // What else speaks against the schema, registering it tells.
        Ok(found.ok().map(|Registered { id }| id))
    }

    /// Asks the registry for anything, to see whether it answers.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] if it does not.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn probe(&self, subject: &str) -> Result<(), RegistryError> {
        let path = ["subjects", subject, "versions"];
        let call = Call { method: Method::GET, path: &path, query: None, schema: None };
        match self.inner.transport.call::<serde::de::IgnoredAny>(&call).await? {
            // A subject that is not there is an answer too.
            Ok(_) => Ok(()),
            Err(rejection) if rejection.is_not_found() => Ok(()),
            Err(rejection) => Err(rejection.into_unavailable()),
        }
    }

    /// Asks whether a schema could be registered under a subject, without doing it.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] if the registry takes no such schema or subject,
    /// [`RegistryError::Unavailable`] if it does not answer.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn is_compatible(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<Compatibility, RegistryError> {
        let call = Call {
            method: Method::POST,
            path: &["compatibility", "subjects", subject, "versions", "latest"],
            query: Some("verbose=true"),
            schema: Some(schema),
        };
        match self.inner.transport.call(&call).await? {
            Ok(Verdict { is_compatible: true, .. }) => Ok(Compatibility::Compatible),
            Ok(Verdict { messages, .. }) => Ok(Compatibility::Incompatible { messages }),
            // Some registries do not know a subject without versions; there is nothing to be compatible with.
            Err(rejection) if rejection.is_not_found() => Ok(Compatibility::Compatible),
            Err(rejection) => Err(rejection.into_refused()),
        }
    }
}

impl Inner {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            cache: Cache::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            #[cfg(feature = "test-util")]
            script: None,
        }
    }

    async fn fetch(&self, id: SchemaId) -> Answer {
        let _permit = self.lookups.acquire().await;
        #[cfg(feature = "test-util")]
        if let Some(script) = &self.script {
            return match script(id) {
                Ok(Some(schema)) => {
                    lookup::parsed(&self.transport, id, lookup::Found::of(schema)).await
                }
                Ok(None) => Answer::Denied(RegistryError::UnknownSchema { id }),
                Err(error) => Answer::Failed(error),
            };
        }
        lookup::schema(&self.transport, id).await
    }
}
