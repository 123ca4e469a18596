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

/// A Kafka broker and schema registry in one process, in memory, for demonstrations and tests.
#[derive(Debug, clap::Parser)]
#[command(name = "embedded-kafka", version)]
pub(crate) struct Cli {
    /// What is logged, in the syntax of `RUST_LOG`, which belongs to the services.
    #[arg(long, env = "EMBEDDED_KAFKA_LOG", global = true)]
    log: Option<Targets>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a broker, a schema registry, one generator and several processors until SIGINT or SIGTERM.
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

/// Logs what is wrong, or what is asked for.
fn log_to_stderr(asked: Option<Targets>) {
    let targets = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .with(targets)
        .init();
}
