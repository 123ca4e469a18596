//! The client and its calls.

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

/// The most lookups at a time: each may take a few MiB.
const LOOKUPS_MAX: usize = 8;

/// A client of one schema registry; clones share connections and cache.
#[derive(Clone)]
pub struct SchemaRegistry {
    inner: Arc<Inner>,
}

/// The cache's knowledge of a schema id.
#[derive(Clone, Debug)]
pub enum SchemaStatus {
    /// Its schema.
    Usable(Arc<WriterSchema>),
    /// Orders cannot be read with the schema, or there is none, by a response of less than a second ago.
    Unusable(RegistryError),
    /// The registry denies the id, but may have its schema soon.
    Awaited,
    /// No recent response.
    NotAsked,
}

/// Answers lookups in a test, with the text of a schema or `None`.
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

impl SchemaRegistry {
    /// Builds a client without connecting it.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`] for an invalid URL, or for an `https` URL on a system without trusted certificates.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self { inner: Arc::new(Inner::new(Transport::new(config)?)) })
    }

    /// Builds a client whose lookups `script` answers; its other calls fail.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "test-util")]
    pub fn scripted(script: Script) -> Result<Self, RegistryError> {
        let mut inner = Inner::new(Transport::new(RegistryConfig::new("http://127.0.0.1:1"))?);
        inner.script = Some(script);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the number of requests by HTTP status; `None` is no response.
    pub fn requests(&self) -> BTreeMap<Option<u16>, u64> {
        self.inner.transport.requests()
    }

    /// Returns the URLs for which the environment names a proxy, each with its proxy, without credentials.
    pub fn proxies(&self) -> impl Iterator<Item = (String, &str)> {
        self.inner.transport.proxies()
    }

    /// Returns the schema with this id from the cache.
    pub fn cached(&self, id: impl Into<SchemaId>) -> Option<Arc<WriterSchema>> {
        self.inner.cache.get(id.into())
    }

    /// Returns the cache's knowledge of an id.
    pub fn status(&self, id: SchemaId) -> SchemaStatus {
        self.inner.cache.status(id, Instant::now())
    }

    /// Returns the schema with this id and all its references, from the cache or from the registry.
    ///
    /// Concurrent callers of an id share one lookup. The client asks for a denied id again only after a backoff, and forgets
    /// a denial after ten seconds without callers. It does not cache outages.
    ///
    /// # Errors
    /// [`RegistryError::UnknownSchema`], [`RegistryError::NoGuids`] and [`RegistryError::InvalidSchema`] if orders cannot be read
    /// with the schema or there is none; [`RegistryError::NotYetKnown`] for an id that the registry has denied for less than ten
    /// seconds; [`RegistryError::Unavailable`] in all other cases.
    ///
    /// # Cancel safety
    /// Cancel safe: other callers of the same id continue the lookup.
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

    /// Registers a schema under a subject and returns its id; a registered schema keeps its id.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] if the subject's compatibility level forbids the schema,
    /// [`RegistryError::Refused`] if the registry refuses the schema or the subject,
    /// [`RegistryError::Unavailable`] if it does not answer.
    ///
    /// # Cancel safety
    /// A cancelled call may have registered the schema; another call returns the same id.
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

    /// Returns the id of a schema under a subject, and registers the schema if the subject lacks it.
    ///
    /// The call waits for an unavailable registry without limit, and calls `on_retry` before each new round of attempts. It
    /// needs the right to write only for the registration.
    ///
    /// # Errors
    /// As [`Self::register`], but never [`RegistryError::Unavailable`]: a registry that answers the lookup of a user and denies
    /// him the registration has refused it.
    ///
    /// # Cancel safety
    /// As [`Self::register`].
    pub async fn ensure_registered(
        &self,
        subject: &str,
        schema: &str,
        mut on_retry: impl FnMut(&RegistryError) + Send,
    ) -> Result<u32, RegistryError> {
        let mut backoff = self.inner.transport.config().backoff();
        loop {
            let outcome = match self.id_under(subject, schema).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {
                    self.register(subject, schema).await.map_err(RegistryError::final_denial)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_unavailable() => on_retry(&error),
                outcome => return outcome,
            }
            backoff.wait().await;
        }
    }

    /// Returns the id of a schema under a subject, if registered.
    async fn id_under(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let path = ["subjects", subject];
        let call = Call { method: Method::POST, path: &path, query: None, schema: Some(schema) };
        let found = self.inner.transport.call(&call).await?;
        // Other errors follow from the registration.
        Ok(found.ok().map(|Registered { id }| id))
    }

    /// Checks whether the registry answers.
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
            // A response that denies the subject is a response as well.
            Ok(_) => Ok(()),
            Err(rejection) if rejection.is_not_found() => Ok(()),
            Err(rejection) => Err(rejection.into_unavailable()),
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
