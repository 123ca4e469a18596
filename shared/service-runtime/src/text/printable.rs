//! Text from records, brokers and operators as a terminal may show it.
//!
//! A terminal acts on control characters, and a line break or a change of the writing direction makes a text pass for
//! another line or another text. Only this module decides which characters these are.

use std::fmt::{self, Write as _};

/// Returns whether a terminal shows `character` in its place and does nothing else.
///
/// Control characters (C0, C1), line and paragraph separators, and the marks that change the writing direction are not
/// printable: <https://www.unicode.org/reports/tr9/>.
pub fn is_printable(character: char) -> bool {
    let changes_direction = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let breaks_line = matches!(character, '\u{2028}' | '\u{2029}');
    !character.is_control() && !changes_direction && !breaks_line
}

/// Returns `text` with U+FFFD in place of every character that is not printable: for tables, where width matters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { '\u{fffd}' }).collect()
}

/// Returns `text` with every character that is not printable escaped as in Rust: `\n`, `\u{1b}`.
pub fn escaped(text: &str) -> String {
    Escaped(text).to_string()
}

/// Shows a value with every character that is not printable escaped.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{:?}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| !is_printable(c)) {
            let (plain, from) = rest.split_at(at);
            let mut characters = from.chars();
            self.0.write_str(plain)?;
            if let Some(character) = characters.next() {
                write!(self.0, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped_or_replaced_and_all_else_stays() {
        for (text, as_escaped, as_replaced) in [
            ("Kaffee, größer: 12 € \\n", "Kaffee, größer: 12 € \\n", "Kaffee, größer: 12 € \\n"),
            ("a\nb\r\tc", "a\\nb\\r\\tc", "a\u{fffd}b\u{fffd}\u{fffd}c"),
            ("\u{1b}[2J\u{0}", "\\u{1b}[2J\\u{0}", "\u{fffd}[2J\u{fffd}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}", "\u{fffd}31m\u{fffd}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}", "a\u{fffd}b\u{fffd}"),
            ("one\u{2028}two", "one\\u{2028}two", "one\u{fffd}two"),
        ] {
            assert_eq!((escaped(text), printable(text)), (as_escaped.into(), as_replaced.into()));
        }
    }

    #[test]
    fn every_character_of_unicode_is_shown_or_escaped() {
        for character in '\0'..=char::MAX {
            let shown = escaped(&character.to_string());
            assert!(shown.chars().all(is_printable), "{character:?}: {shown:?}");
            assert_eq!(is_printable(character), shown == character.to_string());
        }
    }
}
