//! Keeps an exact running average of orders; retries what can heal, dead-letters what cannot.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use order_processor::control::{self, ControlCommand};
use order_processor::dlq::{self, DlqCommand};
use order_processor::settings::ProcessorSettings;
use order_processor::stats::{Format, Times};
use order_processor::top::{self, TopArguments};
use order_processor::{dashboard, service, stats};
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
    /// Works on the group's dead letters.
    Dlq {
        #[command(subcommand)]
        command: Box<DlqCommand>,
    },
    /// Serves a page that shows the group and steers it.
    Dashboard,
    /// Stops and starts generators and processors, and shows which of them run.
    Control {
        /// One JSON object instead of tables.
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: Option<ControlCommand>,
    },
    /// Shows the group in this terminal, live, and steers it by keys; ? lists them.
    Top(TopArguments),
    /// Asks the replica that runs with the same settings whether it is ready; the exit code is the answer.
    Healthcheck,
}

fn main() -> ExitCode {
    const NAME: &str = "order-processor";
    service_runtime::hear_signals();
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => service_runtime::run(NAME, service::run),
        Command::Stats { json, watch } => {
            let format = if json { Format::Json } else { Format::Text };
            let times = if watch { Times::Watch } else { Times::Once };
            service_runtime::run_tool(NAME, move |settings, context| {
                stats::run(settings, context, format, times)
            })
        }
        Command::Dlq { command } => service_runtime::run_tool(NAME, move |settings, context| {
            dlq::run(settings, context, *command)
        }),
        Command::Dashboard => service_runtime::run(NAME, dashboard::run),
        Command::Control { json, command } => {
            service_runtime::run_tool(NAME, move |settings, context| {
                control::run(settings, context, command, json)
            })
        }
        Command::Top(arguments) => service_runtime::run_tool(NAME, move |settings, context| {
            top::run(settings, context, arguments)
        }),
        Command::Healthcheck => service_runtime::healthcheck::<ProcessorSettings>(NAME),
    }
}

fn arguments() -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse()?;
    let refuse = |kind: ErrorKind| move |words| Arguments::command().error(kind, words);
    match &arguments.command {
        Some(Command::Dlq { command }) => {
            command.check().map_err(refuse(ErrorKind::MissingRequiredArgument))?;
        }
        Some(Command::Top(arguments)) => arguments.check().map_err(refuse(ErrorKind::Io))?,
        Some(
            Command::Run
            | Command::Stats { .. }
            | Command::Dashboard
            | Command::Control { .. }
            | Command::Healthcheck,
        )
        | None => {}
    }
    Ok(arguments)
}

/// Prints what is wrong with the arguments, or the help that was asked for.
fn explain(error: &clap::Error) -> ExitCode {
    /// `EX_USAGE` of sysexits.h, as for bad settings.
    const BAD_USAGE: u8 = 64;
    // Nothing can be done about a closed terminal; the exit code says the same.
    error.print().unwrap_or_default();
    if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS }
}
