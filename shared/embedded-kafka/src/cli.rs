//! The command line.

mod child;
mod demo;
mod output;
mod signals;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The whole product on a Kafka broker and a schema registry in memory, for demonstrations.
#[derive(Debug, clap::Parser)]
#[command(name = "embedded-kafka", version)]
pub(crate) struct Cli {
    /// The log filter, in the syntax of `RUST_LOG`. `RUST_LOG` itself is the services'.
    #[arg(long, env = "EMBEDDED_KAFKA_LOG", global = true)]
    log: Option<Targets>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Runs a broker, a schema registry, one generator and several processors until SIGINT or SIGTERM.
    Demo(demo::DemoArgs),
}

/// Runs the command and returns the exit code of the process: 0 when all went well, else 1.
pub(crate) async fn run(cli: Cli) -> ExitCode {
    log_to_stderr(cli.log);
    let Command::Demo(args) = cli.command;
    demo::run(args).await.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Logs warnings, unless the command line sets a filter.
fn log_to_stderr(filter: Option<Targets>) {
    let targets = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .with(targets)
        .init();
}
