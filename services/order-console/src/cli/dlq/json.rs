//! Dead letters for programs, without loss.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dead_letter::cause::Cause;
use dead_letter::rfc3339;
use serde_json::{Value, json};

use crate::dlq::letter::Letter;
use crate::dlq::letter_state::LetterState;

/// Returns bytes for programs: a string if they are UTF-8, else `{"base64": "…"}`.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_not_utf8) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// Returns a letter for programs, with all that it has; the state is null where it was not looked up.
pub(crate) fn json_letter(topic: &str, letter: &Letter<'_>, state: Option<LetterState>) -> Value {
    let headers: Vec<Value> = letter
        .headers
        .iter()
        .map(|(name, value)| json!([json_bytes(name), value.map(json_bytes)]))
        .collect();
    json!({
        "topic": topic,
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "timestamp_ms": letter.timestamp_ms,
        "state": state.map(LetterState::as_str),
        "cause": json_cause(&letter.cause),
        "identity": letter.identity.to_string(),
        "replay_count": letter.identity.replay_count,
        "key": letter.key.map(json_bytes),
        "value": letter.value.map(json_bytes),
        "headers": headers,
    })
}

fn json_cause(cause: &Cause) -> Value {
    json!({
        "author": cause.author.as_str(),
        "type": cause.error_type,
        "class": cause.class,
        "stage": cause.stage,
        "message": cause.message,
        "topic": cause.topic,
        "partition": cause.partition,
        "offset": cause.offset,
        "group": cause.group,
        "attempts": cause.attempts,
        "produced_at": cause.produced_at_ms.map(rfc3339),
        "failed_at": cause.failed_at_ms.map(rfc3339),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_programs_are_a_text_or_say_that_they_are_none() {
        assert_eq!(json_bytes(b"a\0\"").to_string(), r#""a\u0000\"""#);
        assert_eq!(json_bytes(b"\xff").to_string(), r#"{"base64":"/w=="}"#);
    }
}
