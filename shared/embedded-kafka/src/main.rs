//! `embedded-kafka demo` runs the whole product on the broker and the schema registry.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
