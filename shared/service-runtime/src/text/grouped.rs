//! Numbers for people.

use std::fmt::Display;

/// Returns a whole number with a comma between groups of three digits.
pub fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [7, 100, 1_000, 99_999, 123_456, 1_234_567].map(grouped);

        assert_eq!(texts, ["7", "100", "1,000", "99,999", "123,456", "1,234,567"]);
    }
}
