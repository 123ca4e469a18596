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
mod fetch_answers;
mod kafka_answers;
mod letters;
mod registry;

/// The folder for failed inputs.
const LEFT: &str = env!("CARGO_TARGET_TMPDIR");

/// Reads the parts of an input.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns bytes after their length; `None` for the length 255.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.byte().filter(|length| *length < u8::MAX)?;
        let (piece, rest) = self.0.split_at(usize::from(length).min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// Returns parts in the form that [`Pieces::sized`] reads.
fn sized<'a>(pieces: impl IntoIterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let length = piece.map_or(u8::MAX, |piece| u8::try_from(piece.len()).unwrap());
        bytes.push(length);
        bytes.extend_from_slice(piece.unwrap_or_default());
    }
    bytes
}

/// Returns the first word of an error's debug text.
fn kind(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Returns the words of a text up to the first part that depends on the input.
fn words(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphabetic() || " ',-".contains(*c)).collect()
}
