//! `embedded-kafka serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use embedded_kafka::registry::EmbeddedRegistry;
use embedded_kafka::{BrokerOptions, EmbeddedKafka};

use crate::cli::signals::StopSignals;

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where the broker listens; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The host and port clients are told to connect to, when they differ from --listen.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    advertised: Option<(String, u16)>,
    /// Where the schema registry listens; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    registry: SocketAddr,
    /// How many partitions a topic gets when its creator leaves that to the broker.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..), value_name = "COUNT")]
    partitions: i32,
    /// Do not create topics that clients ask about.
    #[arg(long)]
    no_auto_create_topics: bool,
    /// retention.bytes of topics that do not set it, per partition.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    retention_bytes: usize,
    /// The shortest session timeout a group member may ask for.
    #[arg(long, default_value_t = 6000, value_name = "MILLISECONDS")]
    min_session_timeout_ms: u64,
}

/// Runs the broker and the registry until a signal.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let broker = EmbeddedKafka::start(BrokerOptions {
        listen: args.listen,
        advertised: args.advertised,
        auto_create_topics: !args.no_auto_create_topics,
        default_partitions: args.partitions,
        retention_bytes: Some(args.retention_bytes),
        min_session_timeout: Duration::from_millis(args.min_session_timeout_ms),
        ..BrokerOptions::default()
    })
    .await
    .context("start the broker")?;
    let registry =
        EmbeddedRegistry::start(args.registry).await.context("start the schema registry")?;
    say(&broker, &registry).context("say where they listen")?;
    signals.next().await;
    broker.stop().await;
    registry.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints where both listen, in a form that a shell can evaluate.
fn say(broker: &EmbeddedKafka, registry: &EmbeddedRegistry) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "BOOTSTRAP_SERVERS={}", broker.bootstrap_servers())?;
    writeln!(stdout, "SCHEMA_REGISTRY_URL={}", registry.url())?;
    stdout.flush()
}

fn host_and_port(value: &str) -> Result<(String, u16), String> {
    let (host, port) = value.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let port = port.parse().map_err(|error| format!("port {port}: {error}"))?;
    Ok((host.to_owned(), port))
}
