//! The command line of the order generator.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;
use order_generator::GeneratorSettings;
use service_runtime::settings::{RuntimeSettings, manual};

const NAME: &str = "order-generator";

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Publishes random orders to Kafka.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Publishes orders (the default).
    Run,
    /// Asks the generator that runs with the same settings whether it is ready: exit code 0 or 1.
    Healthcheck,
}

fn main() -> ExitCode {
    service_runtime::hear_signals();
    let manual = manual::<(GeneratorSettings, RuntimeSettings)>();
    let mut command = Arguments::command().after_help(manual);
    let matches = command.get_matches_mut();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => service_runtime::run(NAME, order_generator::run),
        Command::Healthcheck => service_runtime::healthcheck::<GeneratorSettings>(NAME),
    }
}
