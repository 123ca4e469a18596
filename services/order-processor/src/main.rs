//! Keeps an exact running average of orders; retries what can heal, dead-letters what cannot.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use order_processor::settings::ProcessorSettings;
use order_processor::stats::{Format, Times};
use order_processor::{service, stats};
use service_runtime::settings::{RuntimeSettings, manual};

/// Static binaries would otherwise get musl's allocator, which is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Processes Avro orders from Kafka in a consumer group and keeps their exact running average.
#[derive(Parser)]
#[command(version, after_long_help = manual::<(ProcessorSettings, RuntimeSettings)>())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Joins the group and processes orders until stopped (the default).
    Run,
    /// Prints the group's numbers, also while no replica runs.
    Stats {
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
        /// Again every second until stopped.
        #[arg(long)]
        watch: bool,
    },
    /// Asks the replica that runs with the same settings whether it is ready; the exit code is the answer.
    Healthcheck,
}

fn main() -> ExitCode {
    const NAME: &str = "order-processor";
    match Arguments::parse().command.unwrap_or(Command::Run) {
        Command::Run => service_runtime::run(NAME, service::run),
        Command::Stats { json, watch } => {
            let format = if json { Format::Json } else { Format::Text };
            let times = if watch { Times::Watch } else { Times::Once };
            service_runtime::run_tool(NAME, move |settings, context| {
                stats::run(settings, context, format, times)
            })
        }
        Command::Healthcheck => service_runtime::healthcheck::<ProcessorSettings>(NAME),
    }
}
