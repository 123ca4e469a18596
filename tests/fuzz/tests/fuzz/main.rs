//! One test for each decoder of bytes from outside.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where its premises do"
)]

mod avro;
mod batches;
mod checkpoint;
mod compression;
mod consumer_protocol;
mod control;
mod kafka_answers;
mod letters;
mod registry;

/// Where inputs are left that failed.
const LEFT: &str = env!("CARGO_TARGET_TMPDIR");

/// Reads pieces off an input, as long as there are bytes.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns the bytes behind their number; `None` for the number 255.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.byte().filter(|length| *length < u8::MAX)?;
        let (piece, rest) = self.0.split_at(usize::from(length).min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// Returns pieces as [`Pieces::sized`] reads them.
fn sized<'a>(pieces: impl IntoIterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let length = piece.map_or(u8::MAX, |piece| u8::try_from(piece.len()).unwrap());
        bytes.push(length);
        bytes.extend_from_slice(piece.unwrap_or_default());
    }
    bytes
}

/// Returns the word that an error's debug text begins with.
fn kind(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Returns a text's words up to the first thing in it that differs from one input to the next.
fn words(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphabetic() || " ',-".contains(*c)).collect()
}
