//! A progress bar, for a person who waits for a number of orders.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use service_runtime::Console;

/// The bar: done, left, orders per second, and the time that is left.
const TEMPLATE: &str = "{bar:30} {human_pos}/{human_len} orders, {per_sec}, {eta} left";

/// Shows how many orders are acknowledged; clones show the same.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows a bar when stderr is a terminal and it is known how many orders will come; `order_count` 0 is not.
    ///
    /// Log lines are written above the bar.
    pub(crate) fn start(order_count: u64, console: &Console) -> Self {
        if order_count == 0 || !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let style = ProgressStyle::with_template(TEMPLATE);
        let bar = ProgressBar::new(order_count)
            .with_style(style.unwrap_or_else(|_invalid| ProgressStyle::default_bar()));
        let around = bar.clone();
        console.write_lines_inside(move |write| around.suspend(write));
        Self { bar }
    }

    /// Moves the bar.
    pub(crate) fn set(&self, acknowledged: u64) {
        self.bar.set_position(acknowledged);
    }

    /// Removes the bar: the final statistics say the same.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
