//! Texts for people: bytes, tables, without control characters.

use dead_letter::cause::{is_spring_number, spring_number};
use dead_letter::hex;
use service_runtime::{grouped, printable};

/// The most characters of a key, a message or a value that are shown in one line.
const LINE_CHARS_MAX: usize = 60;
/// Bytes in a line of a hex dump.
const DUMP_BYTES: usize = 16;
/// The most bytes that are kept of a text of a letter, where many are listed.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;
/// The most bytes that are dumped.
const DUMP_BYTES_MAX: usize = 4 * 1024;

/// Returns bytes for people: as a text if they are one, else in hexadecimal.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => printable(text),
        Ok(_) | Err(_) => format!("0x{}", hex(bytes)),
    }
}

pub(crate) fn nullable(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "null".to_owned(), bytes)
}

/// Returns a header's value for people; numbers that Spring wrote are read.
pub(crate) fn header_value(name: &[u8], value: Option<&[u8]>) -> String {
    match value {
        Some(value) if is_spring_number(name) => spring_number(value)
            .map_or_else(|| format!("0x{}", hex(value)), |number| number.to_string()),
        value => nullable(value),
    }
}

pub(crate) fn short(text: &str) -> String {
    let mut line: String = printable(text).chars().take(LINE_CHARS_MAX + 1).collect();
    if line.chars().count() > LINE_CHARS_MAX {
        line.pop();
        line.pop();
        line.push('…');
    }
    line
}

/// Cuts a text that is kept or shown with many others: the author of a letter chose its length.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)])
}

/// Returns bytes as lines of offset, hexadecimal digits and characters.
pub(crate) fn dump(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = bytes[..bytes.len().min(DUMP_BYTES_MAX)]
        .chunks(DUMP_BYTES)
        .enumerate()
        .map(|(line, chunk)| {
            let digits: Vec<String> = chunk.iter().map(|byte| hex(&[*byte])).collect();
            let characters: String = chunk
                .iter()
                .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
                .collect();
            format!("{:06x}  {:<47}  {characters}", line * DUMP_BYTES, digits.join(" "))
        })
        .collect();
    if bytes.len() > DUMP_BYTES_MAX {
        lines.push(format!("… {} bytes more", bytes.len() - DUMP_BYTES_MAX));
    }
    lines
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Returns rows in columns that are as wide as they need to be; the first row is the heading.
pub(crate) fn table(columns: &[Align], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(columns).zip(&widths) {
            let padding = " ".repeat(width - cell.chars().count());
            match align {
                Align::Left => line.extend([cell.as_str(), &padding]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn dead_letters(count: u64) -> String {
    format!("{} dead letter{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_bytes_are_shown_in_hexadecimal_and_control_characters_are_replaced() {
        for (value, shown) in [
            (None, "null"),
            (Some(&b""[..]), ""),
            (Some(b"plain"), "plain"),
            (Some(b"\xff\x00"), "0xff00"),
            (Some(b"\0\0\0\x02"), "0x00000002"),
            (Some(b"\x1b[2Jgone\n"), "\u{fffd}[2Jgone\u{fffd}"),
            (Some("a\u{202e}b".as_bytes()), "a\u{fffd}b"),
        ] {
            assert_eq!(nullable(value), shown);
        }
    }

    #[test]
    fn springs_numbers_are_shown_as_numbers() {
        let offset = b"kafka_dlt-original-offset";
        assert_eq!(header_value(offset, Some(b"\0\0\0\0\0\0\x04\xd2")), "1234");
        assert_eq!(header_value(offset, Some(b"")), "0x");
        assert_eq!(header_value(offset, None), "null");
        assert_eq!(header_value(b"kafka_dlt-original-topic", Some(b"orders")), "orders");
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        assert_eq!(short(&"é".repeat(60)), "é".repeat(60));
        assert_eq!(short(&"é".repeat(61)), format!("{}…", "é".repeat(59)));
    }

    #[test]
    fn a_dump_has_offsets_digits_and_characters() {
        let bytes: Vec<u8> = (0x40..0x52).collect();
        assert_eq!(
            dump(&bytes),
            [
                "000000  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO",
                "000010  50 51                                            PQ",
            ]
        );
        let long = vec![0; DUMP_BYTES_MAX + 3];
        assert_eq!(dump(&long).last().unwrap(), "… 3 bytes more");
        assert!(dump(b"").is_empty());
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows =
            [row(["TYPE", "COUNT", "WORDS"]), row(["grün", "1,000", ""]), row(["x", "7", "y"])];
        assert_eq!(
            table(&[Align::Left, Align::Right, Align::Left], &rows),
            "TYPE  COUNT  WORDS\ngrün  1,000\nx         7  y\n"
        );
    }
}
