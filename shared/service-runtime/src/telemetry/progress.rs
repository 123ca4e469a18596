//! A progress bar, for a person who waits for a number of things.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::console::Console;

/// Shows how much of something is done; clones show the same.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows a bar of `total` things called `noun` when stderr is a terminal; a total of 0 is not known and has no bar.
    ///
    /// Log lines are written above the bar.
    pub fn start(total: u64, noun: &str, console: &Console) -> Self {
        if total == 0 || !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        // Done, the total, per second, and the time that is left.
        let template =
            format!("{{bar:30}} {{human_pos}}/{{human_len}} {noun}, {{per_sec}}, {{eta}} left");
        let style = ProgressStyle::with_template(&template);
        let bar = ProgressBar::new(total)
            .with_style(style.unwrap_or_else(|_invalid| ProgressStyle::default_bar()));
        let around = bar.clone();
        console.write_lines_inside(move |write| around.suspend(write));
        Self { bar }
    }

    /// Moves the bar to where it is.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Moves the bar on.
    pub fn add(&self, done: u64) {
        self.bar.inc(done);
    }

    /// Removes the bar; the last log line has the same numbers.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
