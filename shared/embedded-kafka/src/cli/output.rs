//! Lines on standard output, each with the name of its process in front.

use std::io::{IsTerminal, Write};

/// The colours of the names, in turn.
const COLOURS: [&str; 5] = ["\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[35m", "\x1b[34m"];
const PLAIN: &str = "\x1b[0m";

/// The name in front of the lines of a process.
#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    prefix: String,
}

/// Returns a prefix of the same width for each name, in colours on a terminal unless `NO_COLOR` is set.
pub(crate) fn prefixes<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Prefix> {
    let width = names.clone().map(str::len).max().unwrap_or(0);
    let has_colours = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let prefix = |(name, colour): (&str, &&str)| Prefix {
        prefix: if has_colours {
            format!("{colour}{name:width$} |{PLAIN} ")
        } else {
            format!("{name:width$} | ")
        },
    };
    names.zip(COLOURS.iter().cycle()).map(prefix).collect()
}

impl Prefix {
    /// Prints a line.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn print(&self, line: impl AsRef<[u8]>) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(self.prefix.as_bytes())?;
        stdout.write_all(line.as_ref())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }
}
