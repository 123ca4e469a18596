//! The tables of docs/log-lines.md quote what the services log as WARN and ERROR: all of it, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use crate::names::visit;
use crate::pages::{Page, root};

/// Stands for what varies in a message.
const VARIES: &str = "…";
/// The broker of the demo and the tests is none of the services.
const LEFT_OUT: &str = "embedded-kafka";

#[test]
fn every_warning_and_error_of_the_services_is_explained() {
    let (lines, quoted) = (logged(), quoted());
    let missing: Vec<_> = lines.difference(&quoted).collect();
    assert!(lines.len() > 60, "{lines:#?}");
    assert!(missing.is_empty(), "docs/log-lines.md should explain {missing:#?}");
}

#[test]
fn every_log_line_that_is_explained_is_logged() {
    let logged = logged();
    // Some lines are a text that was made elsewhere.
    let texts: BTreeSet<String> = code().iter().flat_map(|code| literals(code)).collect();
    let is_logged = |line: &&String| {
        let text = line.split_once(' ').unwrap().1;
        logged.contains(*line)
            || (texts.contains(text) && !logged.iter().any(|logged| logged.ends_with(text)))
    };
    let quoted = quoted();
    let unknown: Vec<_> = quoted.iter().filter(|line| !is_logged(line)).collect();
    assert!(unknown.is_empty(), "no service writes {unknown:#?}");
}

/// Returns the lines of the page's tables.
fn quoted() -> BTreeSet<String> {
    let page = Page::of("docs/log-lines.md");
    let rows = page.prose().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').unwrap().0.to_owned()).collect()
}

/// Returns every line that the services log as WARN or ERROR; those without constant words are left out.
fn logged() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for code in code() {
        for (call, level) in [("warn!(", "WARN"), ("error!(", "ERROR")] {
            for (_, arguments) in
                code.match_indices(call).map(|(at, _)| code.split_at(at + call.len()))
            {
                let message = message(arguments);
                if message.chars().any(char::is_alphabetic) {
                    lines.insert(format!("{level} {message}"));
                }
            }
        }
    }
    lines
}

/// Returns the message of a call: the first literal that no inner call has.
fn message(arguments: &str) -> String {
    let mut depth = 0;
    let mut rest = arguments;
    while let Some(letter) = rest.chars().next() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => break,
            ')' => depth -= 1,
            '"' => {
                let (text, after) = literal(rest);
                if depth == 0 {
                    return text;
                }
                rest = after;
                continue;
            }
            _ => {}
        }
        rest = &rest[letter.len_utf8()..];
    }
    panic!("no message: {}", arguments.lines().next().unwrap_or_default())
}

/// Returns every literal of a source.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find('"') {
        let (text, after) = literal(&rest[at..]);
        found.push(text);
        rest = after;
    }
    found
}

/// Returns the literal that a text begins with, and what follows it. Whatever varies, and names of commands, are cut.
fn literal(text: &str) -> (String, &str) {
    let mut escaped = false;
    let is_end = |c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    let (literal, after) = text[1..].split_once(is_end).unwrap_or((&text[1..], ""));
    let lines: Vec<&str> = literal.split("\\\n").map(str::trim_start).collect();
    let mut message = lines.concat();
    for (open, close) in [('{', '}'), ('`', '`')] {
        while let Some(start) = message.find(open)
            && let Some(length) = message[start + 1..].find(close)
        {
            message.replace_range(start..=start + 1 + length, VARIES);
        }
    }
    (message, after)
}

/// Returns the sources that the services consist of, without their tests.
fn code() -> Vec<String> {
    let mut code = Vec::new();
    for folder in ["services", "shared"] {
        visit(&root().join(folder), &mut |path, text| {
            if !is_test(path) {
                code.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
            }
        });
    }
    code
}

fn is_test(path: &Path) -> bool {
    let is = |part: &str| path.components().any(|found| found.as_os_str() == part);
    is("tests") || is("examples") || is(LEFT_OUT) || path.ends_with("tests.rs")
}
