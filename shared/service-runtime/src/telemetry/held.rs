//! Log lines while something else has the terminal.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::{Console, Placing};

/// Lines that are kept; of more, the oldest are only counted.
const LINES_MAX: usize = 1_000;

/// The lines that were not written yet.
pub(super) struct Held {
    lines: VecDeque<Vec<u8>>,
    forgotten: u64,
    latest: watch::Sender<String>,
}

/// Keeps log lines from the terminal while it lives; when it is dropped, they are written.
#[derive(Debug)]
pub struct HeldLines {
    console: Console,
    latest: watch::Receiver<String>,
}

impl Console {
    /// Has every further line kept until the returned value is dropped. Where log lines go to a file or a pipe they are in
    /// nobody's way and written as ever.
    pub fn hold_lines(&self) -> HeldLines {
        let (sender, latest) = watch::channel(String::new());
        let held = Held { lines: VecDeque::new(), forgotten: 0, latest: sender };
        *self.placing() = Placing::Held(held);
        HeldLines { console: self.clone(), latest }
    }
}

impl Held {
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

impl HeldLines {
    /// Waits for a line and returns it without colours and without its end; of several the last.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> String {
        if self.latest.changed().await.is_err() {
            // Somebody else has the lines now.
            std::future::pending::<()>().await;
        }
        self.latest.borrow_and_update().trim_end().to_owned()
    }
}

impl Drop for HeldLines {
    fn drop(&mut self) {
        let placing = std::mem::replace(&mut *self.console.placing(), Placing::Stream);
        let Placing::Held(Held { lines, forgotten, latest: _ }) = placing else { return };
        let counted = (forgotten > 0).then(|| format!("… {forgotten} log lines before these\n"));
        for line in counted.into_iter().map(String::into_bytes).chain(lines) {
            // Nothing can be done about a closed stream.
            self.console.write_line(&line).unwrap_or_default();
        }
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
    use std::io::Write as _;

    use super::*;
    use crate::telemetry::Stream;

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

    #[tokio::test]
    async fn the_latest_line_is_told_and_the_oldest_ones_are_forgotten() {
        let console = Console::new(Stream::Stderr);
        let mut held = console.hold_lines();
        for number in 0..=LINES_MAX {
            match &mut *console.placing() {
                Placing::Held(held) => held.take(format!("line {number}\n").as_bytes(), true),
                Placing::Stream | Placing::Inside(_) => panic!("nothing is held"),
            }
        }
        assert_eq!(held.next().await, format!("line {LINES_MAX}"));
        let placing = std::mem::replace(&mut *console.placing(), Placing::Stream);
        let Placing::Held(Held { lines, forgotten, .. }) = placing else {
            panic!("nothing is held")
        };
        assert_eq!((lines.len(), forgotten, lines[0].as_slice()), (LINES_MAX, 1, &b"line 1\n"[..]));
    }

    #[tokio::test]
    async fn lines_that_are_in_nobodys_way_are_written_and_told() {
        // The standard error of a test is no terminal where tests are counted; where it is one, the line is kept.
        let console = Console::new(Stream::Stderr);
        let mut held = console.hold_lines();
        (&console).write_all(b"told\n").unwrap();
        assert_eq!(held.next().await, "told");
        drop(held);
        assert!(matches!(&*console.placing(), Placing::Stream));
    }
}
