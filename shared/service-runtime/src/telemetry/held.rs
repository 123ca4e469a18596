//! Log lines that wait while something else is drawn on the terminal.

use std::collections::VecDeque;

use tokio::sync::watch;

/// Lines that are kept; of more, the oldest are only counted.
pub(super) const LINES_MAX: usize = 1_000;

/// The lines that were not written yet.
pub(super) struct Held {
    lines: VecDeque<Vec<u8>>,
    forgotten: u64,
    latest: watch::Sender<String>,
}

impl Held {
    /// Returns a buffer without lines, and the latest line that it was given, without colours.
    pub(super) fn new() -> (Self, watch::Receiver<String>) {
        let (sender, latest) = watch::channel(String::new());
        (Self { lines: VecDeque::new(), forgotten: 0, latest: sender }, latest)
    }

    /// Returns the lines to write, after one that counts those that were forgotten.
    pub(super) fn into_lines(self) -> impl Iterator<Item = Vec<u8>> {
        let forgotten = self.forgotten;
        let counted = (forgotten > 0).then(|| format!("… {forgotten} log lines before these\n"));
        counted.into_iter().map(String::into_bytes).chain(self.lines)
    }

    /// Takes note of a line, and keeps it if it `is_in_the_way`.
    pub(super) fn take(&mut self, line: &[u8], is_in_the_way: bool) {
        self.latest.send_replace(without_colours(&String::from_utf8_lossy(line)));
        if !is_in_the_way {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(line.to_vec());
    }
}

/// Takes the escape sequences of colours out of a line.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !matches!(c, '0'..='9' | ';'));
        let is_colour = end.is_some_and(|end| part[end..].starts_with('m'));
        text.push_str(if is_colour {
            part.split_once('m').map_or("", |(_, rest)| rest)
        } else {
            part
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out_and_nothing_else() {
        for (line, text) in [
            ("plain", "plain"),
            ("\x1b[2m12:00\x1b[0m \x1b[33m WARN\x1b[0m away", "12:00  WARN away"),
            ("\x1b[1;31mred", "red"),
            ("\x1b[2Jgone", "2Jgone"),
            ("\x1b[", ""),
        ] {
            assert_eq!(without_colours(line), text);
        }
    }
}
