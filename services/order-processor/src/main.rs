//! Keeps an exact running average of orders; retries what can heal, dead-letters what cannot.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use order_processor::service;
use order_processor::settings::ProcessorSettings;
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
    /// Asks the replica that runs with the same settings whether it is ready; the exit code is the answer.
    Healthcheck,
}

fn main() -> ExitCode {
    const NAME: &str = "order-processor";
    service_runtime::hear_signals();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return service_runtime::explain(&error),
    };
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => service_runtime::run(NAME, service::run),
        Command::Healthcheck => service_runtime::healthcheck::<ProcessorSettings>(NAME),
    }
}
