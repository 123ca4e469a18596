//! What a command prints.

use std::io::{self, BufWriter, Stdout, Write as _};

use anyhow::Context as _;
use serde::Serialize;

#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
}

/// The reader of the output has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the output has gone")]
pub(crate) struct Closed;

impl Output {
    pub(crate) fn new() -> Self {
        Self { stdout: BufWriter::new(io::stdout()) }
    }

    /// Prints a text as it is.
    ///
    /// # Errors
    /// [`Closed`] where the reader has gone; other errors of standard output.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.stdout.write_all(text.as_bytes()).map_err(failed)
    }

    pub(crate) fn line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.stdout, "{line}").map_err(failed)
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.stdout.flush().map_err(failed)
    }
}

/// Prints a text that is all the output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = Output::new();
    output.text(text)?;
    output.flush()
}

/// Prints one JSON object that is all the output.
pub(crate) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string(object).context("write JSON")? + "\n"))
}

fn failed(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Closed.into()
    } else {
        anyhow::Error::new(error).context("print")
    }
}
