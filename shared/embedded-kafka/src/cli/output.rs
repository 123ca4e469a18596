//! Lines on standard output, with the name of who says them in front.

use std::io::{IsTerminal, Write};

/// One colour for each voice, over and over.
const COLOURS: [&str; 5] = ["\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[35m", "\x1b[34m"];
const PLAIN: &str = "\x1b[0m";

/// Somebody who prints lines.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    prefix: String,
}

/// Returns a voice for each name, with prefixes of the same width, in colours on a terminal unless `NO_COLOR` is set.
pub(crate) fn voices<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Voice> {
    let width = names.clone().map(str::len).max().unwrap_or(0);
    let has_colours = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let voice = |(name, colour): (&str, &&str)| Voice {
        prefix: if has_colours {
            format!("{colour}{name:width$} |{PLAIN} ")
        } else {
            format!("{name:width$} | ")
        },
    };
    names.zip(COLOURS.iter().cycle()).map(voice).collect()
}

impl Voice {
    /// Prints a line.
    ///
    /// # Errors
    /// When standard output is gone.
    pub(crate) fn say(&self, line: impl AsRef<[u8]>) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(self.prefix.as_bytes())?;
        stdout.write_all(line.as_ref())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }
}
