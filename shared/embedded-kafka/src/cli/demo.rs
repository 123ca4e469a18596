//! `embedded-kafka demo`: the whole product in one terminal.
//!
//! ```text
//!            all children run      signal, a failed generator, or no processor left
//!   start ─────────▶ watching ───────────────────────▶ draining the generator ──▶ draining the processors ──▶ end
//!                                                              └── second signal, or deadline: kill ─────────┘
//! ```
//!
//! A supervisor that is killed (SIGKILL) leaves its children running: only unsafe code could tie their lives to its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use embedded_kafka::registry::EmbeddedRegistry;
use embedded_kafka::{BrokerOptions, EmbeddedKafka};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cli::child::{self, Remote};
use crate::cli::output::{Prefix, prefixes};
use crate::cli::signals::StopSignals;

/// The default port of clients.
const BROKER_PORT: u16 = 9092;
/// The default port of clients of a schema registry.
const REGISTRY_PORT: u16 = 8081;
/// `retention.bytes` of the broker: a generator without a rate must not fill the memory.
const RETENTION_BYTES: usize = 256 << 20;
/// How long the children may drain before the supervisor kills them.
const DRAIN_DEADLINE: Duration = Duration::from_mins(1);
/// How long the supervisor waits for the exit of killed children.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// The rate of simulated errors, unless the environment sets one.
const ERROR_SIMULATION_RATE: (&str, &str) = ("ERROR_SIMULATION_RATE", "0.1");

const GENERATOR: &str = "generator";
const DASHBOARD: &str = "dashboard";
/// The dashboard's address, unless the environment sets one or the port is in use.
const DASHBOARD_ADDR: (&str, SocketAddr) =
    ("DASHBOARD_ADDR", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000));

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// The path of order-generator.
    #[arg(long, value_name = "PATH")]
    generator: PathBuf,
    /// The path of order-processor.
    #[arg(long, value_name = "PATH")]
    processor: PathBuf,
    /// The number of processors in the consumer group.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "COUNT")]
    processors: u8,
    /// The path of order-console, to serve its dashboard.
    #[arg(long, value_name = "PATH")]
    console: Option<PathBuf>,
}

/// Runs everything until a signal, until the generator fails, or until no processor is left.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let processors: Vec<String> =
        (1..=args.processors).map(|number| format!("processor-{number}")).collect();
    let names: Vec<&str> = ["demo", GENERATOR]
        .into_iter()
        .chain(processors.iter().map(String::as_str))
        .chain(args.console.is_some().then_some(DASHBOARD))
        .collect();
    let mut prefixes = prefixes(names.iter().copied()).into_iter();
    let supervisor = prefixes.next().context("give the supervisor a prefix")?;
    let (broker, registry) = start_platform(&supervisor).await?;
    let mut demo = Demo::new(supervisor);
    for (name, prefix) in names.into_iter().skip(1).zip(prefixes) {
        let (program, arguments): (_, &[&str]) = match (name, &args.console) {
            (GENERATOR, _) => (&args.generator, &[]),
            (DASHBOARD, Some(console)) => (console, &["dashboard"]),
            _ => (&args.processor, &[]),
        };
        let environment = environment(name, &broker, &registry);
        let environment: Vec<(&str, &OsStr)> =
            environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        demo.start(name, program, arguments, &environment, prefix)?;
    }
    demo.print("Ctrl-C stops everything: first the generator, then the processors")?;
    demo.watch(&mut signals).await?;
    demo.drain(&mut signals).await?;
    drop((broker, registry));
    Ok(if demo.has_failures { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn start_platform(prefix: &Prefix) -> anyhow::Result<(EmbeddedKafka, EmbeddedRegistry)> {
    let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, BROKER_PORT));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = |listen| BrokerOptions {
        listen,
        default_partitions: 3,
        retention_bytes: Some(RETENTION_BYTES),
        ..BrokerOptions::default()
    };
    let broker = match EmbeddedKafka::start(options(preferred)).await {
        Ok(broker) => broker,
        Err(error) => {
            prefix.print(format!("{error}: the broker takes another port"))?;
            EmbeddedKafka::start(options(any)).await.context("start the broker")?
        }
    };
    let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, REGISTRY_PORT));
    let registry = match EmbeddedRegistry::start(preferred).await {
        Ok(registry) => registry,
        Err(error) => {
            prefix.print(format!("{error}: the schema registry takes another port"))?;
            EmbeddedRegistry::start(any).await.context("start the schema registry")?
        }
    };
    prefix.print(format!("BOOTSTRAP_SERVERS={}", broker.bootstrap_servers()))?;
    prefix.print(format!("SCHEMA_REGISTRY_URL={}", registry.url()))?;
    Ok((broker, registry))
}

/// Returns the variables of a child, on top of the environment of this process.
fn environment(
    name: &str,
    broker: &EmbeddedKafka,
    registry: &EmbeddedRegistry,
) -> Vec<(&'static str, OsString)> {
    let mut environment = vec![
        ("BOOTSTRAP_SERVERS", broker.bootstrap_servers().into()),
        ("SCHEMA_REGISTRY_URL", registry.url().into()),
    ];
    let (variable, rate) = ERROR_SIMULATION_RATE;
    if std::env::var_os(variable).is_none_or(|value| value.is_empty()) {
        environment.push((variable, rate.into()));
    }
    // Other processes would listen on the same port.
    if name != "processor-1" {
        environment.push(("HTTP_ADDR", "off".into()));
    }
    let (variable, address) = DASHBOARD_ADDR;
    let is_chosen = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if name == DASHBOARD && !is_chosen && TcpListener::bind(address).is_err() {
        environment.push((variable, SocketAddr::new(address.ip(), 0).to_string().into()));
    }
    environment
}

/// The children and their states.
struct Demo {
    prefix: Prefix,
    running: BTreeMap<String, Remote>,
    endings: JoinSet<(String, std::io::Result<ExitStatus>)>,
    is_draining: bool,
    has_failures: bool,
}

impl Demo {
    fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            running: BTreeMap::new(),
            endings: JoinSet::new(),
            is_draining: false,
            has_failures: false,
        }
    }

    fn print(&self, line: &str) -> std::io::Result<()> {
        self.prefix.print(line)
    }

    fn start(
        &mut self,
        name: &str,
        program: &std::path::Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
        prefix: Prefix,
    ) -> anyhow::Result<()> {
        let (child, remote) = child::start(program, arguments, environment, prefix)?;
        let name = name.to_owned();
        self.running.insert(name.clone(), remote);
        self.endings.spawn(async move { (name, child.run().await) });
        Ok(())
    }

    /// Waits for a signal, for a failed generator, or until no processor is left.
    async fn watch(&mut self, signals: &mut StopSignals) -> anyhow::Result<()> {
        while self.running.keys().any(|name| name != GENERATOR && name != DASHBOARD) {
            tokio::select! {
                () = signals.next() => {
                    self.print("stopping; once more to stop at once")?;
                    return Ok(());
                }
                ended = self.next_ending() => {
                    let (name, has_failed) = ended?;
                    if has_failed && (name == GENERATOR) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Drains the generator, then the processors.
    async fn drain(&mut self, signals: &mut StopSignals) -> anyhow::Result<()> {
        self.is_draining = true;
        let deadline = Instant::now() + DRAIN_DEADLINE;
        let generators: fn(&str) -> bool = |name| name == GENERATOR;
        let all: fn(&str) -> bool = |_| true;
        for is_meant in [generators, all] {
            self.remotes(is_meant).for_each(Remote::terminate);
            while self.remotes(is_meant).next().is_some() {
                tokio::select! {
                    ended = self.next_ending() => { ended?; }
                    () = signals.next() => return self.kill("as asked").await,
                    () = sleep_until(deadline) => return self.kill("because they do not drain").await,
                }
            }
        }
        Ok(())
    }

    async fn kill(&mut self, reason: &str) -> anyhow::Result<()> {
        self.has_failures = true;
        let names: Vec<&str> = self.running.keys().map(String::as_str).collect();
        self.print(&format!("killing {} {reason}", names.join(", ")))?;
        self.running.values().for_each(Remote::kill);
        let deadline = Instant::now() + KILL_DEADLINE;
        while !self.running.is_empty() {
            tokio::select! {
                ended = self.next_ending() => { ended?; }
                () = sleep_until(deadline) => break,
            }
        }
        Ok(())
    }

    fn remotes(&self, is_meant: fn(&str) -> bool) -> impl Iterator<Item = &Remote> {
        self.running.iter().filter(move |(name, _)| is_meant(name)).map(|(_, remote)| remote)
    }

    /// Waits for the next child to exit, prints its status, and returns its name and whether it failed.
    async fn next_ending(&mut self) -> anyhow::Result<(String, bool)> {
        let ending = self.endings.join_next().await.context("wait for a child that runs")?;
        let (name, status) = ending.context("run a child")?;
        let status = status.with_context(|| format!("wait for {name}"))?;
        self.running.remove(&name);
        let has_failed = !status.success();
        self.has_failures |= has_failed;
        // A program that hears the signal before it runs exits as a shell reports it.
        let terminate = Signal::TERM.as_raw();
        let heard_early =
            status.signal() == Some(terminate) || status.code() == Some(128 + terminate);
        if self.is_draining && heard_early {
            self.print(&format!("{name} was stopped before it had started"))?;
        } else if has_failed {
            self.print(&format!("{name} died: {status}"))?;
        } else if self.is_draining {
            self.print(&format!("{name} has drained"))?;
        } else if name == GENERATOR {
            self.print("generator has finished; the processors go on until Ctrl-C")?;
        } else {
            self.print(&format!("{name} has ended"))?;
        }
        Ok((name, has_failed))
    }
}
