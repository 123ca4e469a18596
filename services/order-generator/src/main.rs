//! The command line of the order generator.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use order_generator::GeneratorSettings;
use service_runtime::settings::{RuntimeSettings, manual};

const NAME: &str = "order-generator";

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Publishes random orders to Kafka.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_long_help = manual::<(GeneratorSettings, RuntimeSettings)>())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Publishes orders; this is the default.
    Run,
    /// Checks the readiness of the generator with the same settings: exit code 0 or 1.
    Healthcheck,
}

fn main() -> ExitCode {
    service_runtime::hear_signals();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return service_runtime::explain(&error),
    };
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => service_runtime::run(NAME, order_generator::run),
        Command::Healthcheck => service_runtime::healthcheck::<GeneratorSettings>(NAME),
    }
}
