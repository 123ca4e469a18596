//! `order-console top`: the view of the group in this terminal.

use clap::Args;
use clap::builder::FalseyValueParser;
use service_runtime::Context;

use crate::operator::Operator;
use crate::settings::ConsoleSettings;
use crate::top::{self, Look};

/// Options of `top`.
#[derive(Clone, Debug, Args)]
pub struct TopArguments {
    /// Use no colours; also with the environment variable `NO_COLOR`.
    #[arg(long, env = "NO_COLOR", hide_env = true, value_parser = FalseyValueParser::new())]
    no_color: bool,
    #[command(flatten)]
    operator: Operator,
}

impl TopArguments {
    /// Checks that there is a terminal.
    ///
    /// # Errors
    /// With what the operator can do without one.
    pub fn check(&self) -> Result<(), &'static str> {
        if top::has_terminal() {
            return Ok(());
        }
        Err(
            "top draws on a terminal, and there is none: `order-console stats --watch` prints the numbers anywhere",
        )
    }
}

/// Shows the group until the operator quits.
///
/// # Errors
/// When the terminal or the registry's URL cannot be used.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    arguments: TopArguments,
) -> anyhow::Result<()> {
    let look = if arguments.no_color { Look::Plain } else { Look::Colours };
    top::run(settings, context, look, arguments.operator.by).await
}
