//! A relay of Kafka's requests and responses with faults.
//!
//! It expects a response to every request, so it cannot relay producers with acks=0.

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

/// The most unanswered requests of a connection: far more than clients have in flight.
const PIPELINED_MAX: usize = 64;

/// The place of a batch's checksum, which covers all following bytes.
const CHECKSUM_AT: usize = 17;

/// A fault of the requests of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The proxy cuts the connection before the broker gets the request.
    LoseRequest,
    /// The broker applies the request, and the proxy cuts the connection instead of forwarding the response.
    LoseAnswer,
    /// The proxy delays the response and all later responses of the connection.
    DelayAnswer(Duration),
    /// The response ends after its correlation id.
    TruncateAnswer,
    /// The broker gets the request only at [`Proxy::deliver_held`]; until then its connection is blocked.
    Hold,
}

/// A byte that the proxy changes whenever a fetch returns its batch.
#[derive(Debug)]
struct Damage {
    partition: i32,
    base_offset: i64,
    /// The index of the byte in the batch.
    at: usize,
    kind: DamageKind,
    remaining: u32,
    hits: u32,
}

/// Whether the checksum reveals the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The batch has a wrong checksum.
    Plain,
    /// The batch gets a correct checksum, as if a client had written the changed bytes.
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
    /// The number of requests by API key.
    requests: watch::Sender<BTreeMap<i16, u64>>,
    rules: Mutex<Vec<Rule>>,
    /// Changes with every fault.
    happened: watch::Sender<u32>,
    held: Mutex<Vec<Bytes>>,
    damages: Mutex<Vec<Damage>>,
}

/// An injected fault.
#[derive(Debug)]
struct Rule {
    api: ApiKey,
    fault: Fault,
    /// The requests before the fault.
    skipped: u32,
    /// The requests that the fault hits after those.
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

    /// Returns the proxy's `host:port`, for `BOOTSTRAP_SERVERS`.
    pub fn address(&self) -> String {
        self.shared.address.to_string()
    }

    /// Injects `fault` into `count` requests of `api`, after `skipped` further requests.
    pub fn inject(&self, api: ApiKey, fault: Fault, skipped: u32, count: u32) {
        self.shared.rules().push(Rule { api, fault, skipped, remaining: count, hits: 0 });
    }

    /// Removes all injected faults.
    pub fn heal(&self) {
        for rule in self.shared.rules().iter_mut() {
            rule.remaining = 0;
        }
    }

    /// Changes the byte `at` of the batch at `base_offset` of a partition, in any topic, the next `times` times that a fetch
    /// returns it. `u32::MAX` is like damage on the broker's disk.
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

    /// Returns how often the proxy has damaged a batch.
    pub fn damaged(&self) -> u32 {
        self.shared.damages().iter().map(|damage| damage.hits).sum()
    }

    /// Returns the number of faults of requests of `api`.
    pub fn hits(&self, api: ApiKey) -> u32 {
        self.shared.rules().iter().filter(|rule| rule.api == api).map(|rule| rule.hits).sum()
    }

    /// Waits for faults of `count` requests of `api` since the start of the proxy.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn hit(&self, api: ApiKey, count: u32) {
        let mut happened = self.shared.happened.subscribe();
        // The sender outlives this borrow, so the wait cannot fail.
        drop(happened.wait_for(|_| self.hits(api) >= count).await);
    }

    /// Delivers all held requests to the broker, even those of closed connections, and returns their number.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn deliver_held(&self) -> Result<usize> {
        let held = std::mem::take(&mut *self.shared.held());
        for frame in &held {
            let mut broker = TcpStream::connect(&self.shared.upstream).await?;
            write_frame(&mut broker, frame).await?;
            read_frame(&mut broker).await.context("wait for the answer to a held request")?;
        }
        Ok(held.len())
    }

    /// Returns the number of requests of `api` so far.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.shared.requests.borrow().get(&code(api)).copied().unwrap_or(0)
    }

    /// Waits for `count` further requests of `api`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn more_requests(&self, api: ApiKey, count: u64) {
        let reached = self.requests(api) + count;
        let mut requests = self.shared.requests.subscribe();
        // The sender outlives this borrow, so the wait cannot fail.
        drop(
            requests
                .wait_for(|requests| requests.get(&code(api)).is_some_and(|seen| *seen >= reached))
                .await,
        );
    }

    /// Cuts all connections and refuses new ones, like a broker that is down.
    pub fn close(&self) {
        self.shared.is_open.send_replace(false);
    }

    /// Forwards connections again.
    pub fn open(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// Waits for `count` refused connections since the start of the proxy.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refused(&self, count: u32) {
        let mut refused = self.shared.refused.subscribe();
        // The sender outlives this borrow, so the wait cannot fail.
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

    /// Applies the damages to the batches in `records`.
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

    /// Returns the fault of the next request of `api`.
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

/// A forwarded request without a response.
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

/// Relays one connection until a side, a fault or a closed proxy ends it.
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
        // Queued before the broker gets the request, and so before its response.
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

/// Returns the base offset and the whole length of the batch at the start of `bytes`.
fn batch_at(bytes: &[u8]) -> Option<(i64, usize)> {
    let (base_offset, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    Some((i64::from_be_bytes(*base_offset), 12 + length))
}

/// Returns a response with damaged batches.
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

/// Returns a response with the proxy's address for every broker.
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
            // Versions up to 3 have one coordinator outside the list; later versions cannot be encoded with it.
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
