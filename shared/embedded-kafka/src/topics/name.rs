//! The rules for names of topics.

use kafka_protocol::error::ResponseError;

use crate::refusal::Refusal;

/// The longest name of a topic.
const NAME_CHARS_MAX: usize = 249;

/// Checks a name against Kafka's rules.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION` for an empty name, `.`, `..`, a long name, or a character outside `[a-zA-Z0-9._-]`.
pub(crate) fn check(name: &str) -> Result<(), Refusal> {
    let is_legal = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if (name == ".") || (name == "..") {
        "'.' or '..' is not allowed".to_owned()
    } else if NAME_CHARS_MAX < name.chars().count() {
        format!("the length of '{name}' is longer than the max allowed length {NAME_CHARS_MAX}")
    } else if !name.chars().all(is_legal) {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(
        ResponseError::InvalidTopicException,
        format!("Topic name is invalid: {reason}"),
    ))
}

/// Returns whether two different names have the same metric names, in which `.` becomes `_`.
pub(crate) fn collide(one: &str, other: &str) -> bool {
    (one != other) && (one.len() == other.len()) && one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, is_allowed: bool) {
        assert_eq!(check(name).is_ok(), is_allowed, "{name:?}");
    }

    #[test]
    fn names_follow_kafkas_rules() {
        check_name("orders", true);
        check_name("orders.group_1.dlq-actions", true);
        check_name(&"x".repeat(249), true);
        check_name(&"x".repeat(250), false);
        check_name("", false);
        check_name(".", false);
        check_name("..", false);
        check_name("...", true);
        check_name("with space", false);
        check_name("größe", false);
        check_name("a/b", false);
    }

    #[test]
    fn names_that_differ_only_in_dot_and_underscore_collide() {
        assert!(collide("a.b", "a_b"));
        assert!(!collide("a.b", "a.b"));
        assert!(!collide("a.b", "a-b"));
    }
}
