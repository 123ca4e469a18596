//! A relay of Kafka's requests and answers that loses or delays some of them.
//!
//! Every request is taken to have an answer: producers with acks=0 cannot be relayed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{self, ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Requests of one connection whose answers are outstanding: far more than any client sends ahead.
const PIPELINED_MAX: usize = 64;

/// Where a batch has its checksum, which covers all that follows it.
const CHECKSUM_AT: usize = 17;

/// What happens to the requests of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the broker gets the request.
    LoseRequest,
    /// The broker applies the request; the connection is cut in place of its answer.
    LoseAnswer,
    /// The answer is held back for a time, and with it all later ones of its connection.
    DelayAnswer(Duration),
    /// The answer ends where its correlation id ends.
    TruncateAnswer,
    /// The broker gets the request only when the test says so, by [`Proxy::deliver_held`]; its connection stands still.
    Hold,
}

/// A byte that is changed whenever the batch it is in passes by.
#[derive(Debug)]
struct Damage {
    partition: i32,
    base_offset: i64,
    /// Which byte of the batch.
    at: usize,
    kind: DamageKind,
    remaining: u32,
    hits: u32,
}

/// Whether a batch shows that it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Its checksum is wrong.
    Plain,
    /// Its checksum is made right again, as if a client had written it like that.
    Forged,
}

/// Relays one broker's connections, with faults.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    _relay: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    upstream: String,
    is_open: watch::Sender<bool>,
    refused: watch::Sender<u32>,
    /// How many requests of each API, by its number in the protocol, have come.
    requests: watch::Sender<BTreeMap<i16, u64>>,
    rules: Mutex<Vec<Rule>>,
    /// Changes with every fault that happens.
    happened: watch::Sender<u32>,
    held: Mutex<Vec<Bytes>>,
    damages: Mutex<Vec<Damage>>,
}

/// A fault that waits for its requests.
#[derive(Debug)]
struct Rule {
    api: ApiKey,
    fault: Fault,
    /// How many requests pass before it.
    skipped: u32,
    /// How many requests it is to hit after those.
    remaining: u32,
    hits: u32,
}

impl Proxy {
    /// Starts a proxy of the broker at `upstream` (`host:port`).
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a proxy's port")?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            upstream: upstream.to_owned(),
            is_open: watch::Sender::new(true),
            refused: watch::Sender::new(0),
            requests: watch::Sender::default(),
            rules: Mutex::default(),
            happened: watch::Sender::new(0),
            held: Mutex::default(),
            damages: Mutex::default(),
        });
        let mut relay = JoinSet::new();
        relay.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, _relay: relay })
    }

    /// Returns the proxy's `host:port`: the bootstrap server of its clients.
    pub fn address(&self) -> String {
        self.shared.address.to_string()
    }

    /// Lets `fault` happen to `count` requests of `api`, after `skipped` more of them have passed.
    pub fn inject(&self, api: ApiKey, fault: Fault, skipped: u32, count: u32) {
        self.shared.rules().push(Rule { api, fault, skipped, remaining: count, hits: 0 });
    }

    /// Lets no fault happen that has not happened yet.
    pub fn heal(&self) {
        for rule in self.shared.rules().iter_mut() {
            rule.remaining = 0;
        }
    }

    /// Changes the byte `at` of the batch of a partition, of whatever topic, that begins at `base_offset`, the next
    /// `times` times that a fetch brings it. `u32::MAX` times is what damage on the broker's disk looks like.
    pub fn damage(
        &self,
        (partition, base_offset): (i32, i64),
        at: usize,
        kind: DamageKind,
        times: u32,
    ) {
        let damage = Damage { partition, base_offset, at, kind, remaining: times, hits: 0 };
        self.shared.damages().push(damage);
    }

    /// Returns how often a batch was damaged.
    pub fn damaged(&self) -> u32 {
        self.shared.damages().iter().map(|damage| damage.hits).sum()
    }

    /// Returns how often a fault has happened to requests of `api`.
    pub fn hits(&self, api: ApiKey) -> u32 {
        self.shared.rules().iter().filter(|rule| rule.api == api).map(|rule| rule.hits).sum()
    }

    /// Waits until faults have happened to `count` requests of `api` since the proxy was started.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn hit(&self, api: ApiKey, count: u32) {
        let mut happened = self.shared.happened.subscribe();
        // The sender lives as long as this borrow of it, so the wait cannot fail.
        drop(happened.wait_for(|_| self.hits(api) >= count).await);
    }

    /// Gives the broker every request that is held, whatever has become of its client, and returns how many those were.
    ///
    /// # Errors
    /// When the broker does not answer one.
    pub async fn deliver_held(&self) -> Result<usize> {
        let held = std::mem::take(&mut *self.shared.held());
        for frame in &held {
            let mut broker = TcpStream::connect(&self.shared.upstream).await?;
            write_frame(&mut broker, frame).await?;
            read_frame(&mut broker).await.context("wait for the answer to a held request")?;
        }
        Ok(held.len())
    }

    /// Returns how many requests of `api` have come so far.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.shared.requests.borrow().get(&code(api)).copied().unwrap_or(0)
    }

    /// Waits until `count` more requests of `api` have come.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn more_requests(&self, api: ApiKey, count: u64) {
        let reached = self.requests(api) + count;
        let mut requests = self.shared.requests.subscribe();
        // The sender lives as long as this borrow of it, so the wait cannot fail.
        drop(
            requests
                .wait_for(|requests| requests.get(&code(api)).is_some_and(|seen| *seen >= reached))
                .await,
        );
    }

    /// Cuts all connections and refuses new ones, as a broker that is down.
    pub fn close(&self) {
        self.shared.is_open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// Waits until `count` connections have been refused since the proxy was started.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refused(&self, count: u32) {
        let mut refused = self.shared.refused.subscribe();
        // The sender lives as long as this borrow of it, so the wait cannot fail.
        drop(refused.wait_for(|refused| *refused >= count).await);
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damages(&self) -> MutexGuard<'_, Vec<Damage>> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes bytes of the batches in `records`, as the damages say.
    fn damage(&self, partition: i32, records: &mut BytesMut) {
        let mut damages = self.damages();
        let mut start = 0;
        while let Some((base_offset, length)) = batch_at(&records[start..]) {
            let end = records.len().min(start + length);
            let (batch, there) = (&mut records[start..end], end - start);
            let here = damages.iter_mut().filter(|damage| {
                (damage.partition, damage.base_offset) == (partition, base_offset)
            });
            for damage in here.filter(|damage| damage.remaining > 0 && damage.at < there) {
                batch[damage.at] ^= 1;
                if damage.kind == DamageKind::Forged {
                    let checksum = crc32c::crc32c(&batch[CHECKSUM_AT + 4..]);
                    batch[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
                }
                damage.remaining -= 1;
                damage.hits += 1;
            }
            start = end;
        }
    }

    /// Returns the fault that the next request of `api` has to suffer.
    fn fault(&self, api: ApiKey) -> Option<Fault> {
        let mut rules = self.rules();
        let rule = rules.iter_mut().find(|rule| (rule.api == api) && (rule.remaining > 0))?;
        if rule.skipped > 0 {
            rule.skipped -= 1;
            return None;
        }
        rule.remaining -= 1;
        rule.hits += 1;
        Some(rule.fault)
    }
}

/// A request that the broker has and that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    api: ApiKey,
    version: i16,
    fault: Option<Fault>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while relays.try_join_next().is_some() {}
        if *shared.is_open.borrow() {
            relays.spawn(relay(client, Arc::clone(&shared)));
        } else {
            shared.refused.send_modify(|refused| *refused += 1);
        }
    }
}

/// Relays one connection until either side, a fault or a closed proxy ends it.
async fn relay(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.upstream).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (outstanding_tx, outstanding_rx) = mpsc::channel(PIPELINED_MAX);
    let mut is_open = shared.is_open.subscribe();
    tokio::select! {
        _ended = relay_requests(from_client, to_server, outstanding_tx, &shared) => {}
        _ended = relay_answers(from_server, to_client, outstanding_rx, &shared) => {}
        _closed = is_open.wait_for(|is_open| !is_open) => {}
    }
}

async fn relay_requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    outstanding: mpsc::Sender<Outstanding>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut client).await?;
        let mut header = frame.clone();
        let api =
            ApiKey::try_from(header.try_get_i16()?).map_err(|()| io::ErrorKind::InvalidData)?;
        let version = header.try_get_i16()?;
        shared.requests.send_modify(|requests| *requests.entry(code(api)).or_default() += 1);
        let fault = shared.fault(api);
        if fault == Some(Fault::Hold) {
            shared.held().push(frame.clone());
        }
        if fault.is_some() {
            shared.happened.send_modify(|happened| *happened += 1);
        }
        match fault {
            Some(Fault::LoseRequest) => return Ok(()),
            Some(Fault::Hold) => std::future::pending().await,
            Some(Fault::LoseAnswer | Fault::DelayAnswer(_) | Fault::TruncateAnswer) | None => {}
        }
        // In the queue before the broker has the request: its answer cannot come before.
        outstanding.send(Outstanding { api, version, fault }).await.map_err(io::Error::other)?;
        write_frame(&mut server, &frame).await?;
    }
}

async fn relay_answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut outstanding: mpsc::Receiver<Outstanding>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut server).await?;
        let request = outstanding.try_recv().map_err(io::Error::other)?;
        match request.fault {
            Some(Fault::LoseAnswer) => return Ok(()),
            Some(Fault::DelayAnswer(delay)) => sleep(delay).await,
            Some(Fault::TruncateAnswer) => {
                write_frame(&mut client, frame.get(..4).unwrap_or_default()).await?;
                continue;
            }
            Some(Fault::LoseRequest | Fault::Hold) | None => {}
        }
        let frame = with_damage(frame, request, shared)?;
        write_frame(&mut client, &with_proxy_address(frame, request, shared.address)?).await?;
    }
}

#[expect(clippy::as_conversions, reason = "the numbers of the APIs are the enum's discriminants")]
fn code(api: ApiKey) -> i16 {
    api as i16
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let size = usize::try_from(stream.read_i32().await?).map_err(io::Error::other)?;
    let mut frame = BytesMut::zeroed(size);
    stream.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let mut sized = BytesMut::with_capacity(4 + frame.len());
    sized.put_u32(u32::try_from(frame.len()).map_err(io::Error::other)?);
    sized.put_slice(frame);
    stream.write_all(&sized).await
}

/// Returns base offset and length of the batch at the start of `bytes`, with what the length does not count.
fn batch_at(bytes: &[u8]) -> Option<(i64, usize)> {
    let (base_offset, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    Some((i64::from_be_bytes(*base_offset), 12 + length))
}

/// Returns an answer with the batches damaged that are to be.
fn with_damage(frame: Bytes, request: Outstanding, shared: &Shared) -> io::Result<Bytes> {
    if (request.api != ApiKey::Fetch) || shared.damages().is_empty() {
        return Ok(frame);
    }
    rewrite::<messages::FetchResponse>(frame, request.version, |response| {
        let topics = response.responses.iter_mut();
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            if let Some(records) = &mut partition.records {
                let mut changed = BytesMut::from(records.as_ref());
                shared.damage(partition.partition_index, &mut changed);
                *records = changed.freeze();
            }
        }
    })
}

/// Returns an answer with the proxy in place of every broker that it names.
fn with_proxy_address(frame: Bytes, request: Outstanding, proxy: SocketAddr) -> io::Result<Bytes> {
    let host = StrBytes::from_string(proxy.ip().to_string());
    let port = i32::from(proxy.port());
    if request.api == ApiKey::Metadata {
        return rewrite::<messages::MetadataResponse>(frame, request.version, |response| {
            for broker in &mut response.brokers {
                broker.host = host.clone();
                broker.port = port;
            }
        });
    }
    if request.api == ApiKey::FindCoordinator {
        return rewrite::<messages::FindCoordinatorResponse>(frame, request.version, |response| {
            // Versions up to 3 name one coordinator outside the list, and refuse to be written with it in later ones.
            if request.version < 4 {
                response.host = host.clone();
                response.port = port;
            }
            for coordinator in &mut response.coordinators {
                coordinator.host = host.clone();
                coordinator.port = port;
            }
        });
    }
    Ok(frame)
}

fn rewrite<T: Decodable + Encodable + HeaderVersion>(
    mut frame: Bytes,
    version: i16,
    change: impl FnOnce(&mut T),
) -> io::Result<Bytes> {
    let header_version = T::header_version(version);
    let header = ResponseHeader::decode(&mut frame, header_version).map_err(io::Error::other)?;
    let mut response = T::decode(&mut frame, version).map_err(io::Error::other)?;
    change(&mut response);
    let mut rewritten = BytesMut::new();
    header.encode(&mut rewritten, header_version).map_err(io::Error::other)?;
    response.encode(&mut rewritten, version).map_err(io::Error::other)?;
    Ok(rewritten.freeze())
}
