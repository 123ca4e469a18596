//! The operators' console of a group of order-processors.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use order_console::cli::control::{self, ControlCommand};
use order_console::cli::dlq::{self, DlqCommand};
use order_console::cli::stats::{self, StatsArguments};
use order_console::cli::top::{self, TopArguments};
use order_console::dashboard;
use order_console::settings::ConsoleSettings;
use service_runtime::settings::{RuntimeSettings, manual};

/// Static binaries would otherwise get musl's allocator, which is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shows the numbers of a group of order-processors, works on its dead letters, and pauses and resumes services.
#[derive(Parser)]
#[command(version, after_long_help = manual::<(ConsoleSettings, RuntimeSettings)>())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the group's numbers, also while no replica runs.
    Stats(StatsArguments),
    /// Works on the group's dead letters.
    Dlq {
        #[command(subcommand)]
        command: Box<DlqCommand>,
    },
    /// Serves a web page that shows the group, pauses and resumes it, and works on its dead letters.
    Dashboard,
    /// Pauses and resumes generators and processors, and shows the state of each.
    Control {
        /// One JSON object instead of tables.
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: Option<ControlCommand>,
    },
    /// Shows the group live in this terminal; keys pause and resume it (? lists them).
    Top(TopArguments),
    /// Asks the dashboard that runs with the same settings whether it is ready; the exit code is the answer.
    Healthcheck,
}

fn main() -> ExitCode {
    const NAME: &str = "order-console";
    service_runtime::hear_signals();
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => return service_runtime::explain(&error),
    };
    match arguments.command {
        Command::Stats(arguments) => service_runtime::run_tool(NAME, move |settings, context| {
            stats::run(settings, context, arguments)
        }),
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
        Command::Healthcheck => service_runtime::healthcheck::<ConsoleSettings>(NAME),
    }
}

fn arguments() -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse()?;
    let refuse = |kind: ErrorKind| move |text| Arguments::command().error(kind, text);
    match &arguments.command {
        Command::Dlq { command } => {
            command.check().map_err(refuse(ErrorKind::MissingRequiredArgument))?;
        }
        Command::Top(arguments) => arguments.check().map_err(refuse(ErrorKind::Io))?,
        Command::Stats(_) | Command::Dashboard | Command::Control { .. } | Command::Healthcheck => {
        }
    }
    Ok(arguments)
}
