//! `order-console top` with a task that panics at SIGUSR1.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use order_console::cli::top::{self, TopArguments};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    top: TopArguments,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    service_runtime::run_tool("odd-top", |settings, context| async move {
        let mut tasks = JoinSet::new();
        let signals = signal(SignalKind::user_defined1()).context("handle SIGUSR1")?;
        tasks.spawn(panic_at(signals));
        top::run(settings, context, arguments.top).await
    })
}

#[expect(clippy::panic, reason = "behaving badly is what it is for")]
async fn panic_at(mut signals: Signal) {
    signals.recv().await;
    panic!("this task panics");
}
