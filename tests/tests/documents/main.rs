//! The documents and the compose file say what the code declares, and name only what exists.
//!
//! `UPDATE_DOCUMENTS=1` (`make documents`) writes the generated tables of docs/configuration.md.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a page that cannot be read fails its test, and file names here are in lower case"
)]

mod commands;
mod compose;
mod invariants;
mod log_lines;
mod names;
mod pages;

use std::fs;

use order_console::settings::ConsoleSettings;
use order_generator::GeneratorSettings;
use order_ledger::checkpoint::Capacity;
use order_ledger::completion::SPAN_MAX;
use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, markdown_table};

use pages::{Page, root};

/// Longest README and ARCHITECTURE: a reader gets through them at once.
const LINES_MAX: usize = 150;

#[test]
fn the_configuration_page_lists_every_setting_as_declared() {
    let path = root().join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut expected = text.clone();
    for (name, table) in [
        ("order-generator", markdown_table::<GeneratorSettings>()),
        ("order-processor", markdown_table::<ProcessorSettings>()),
        ("order-console", markdown_table::<ConsoleSettings>()),
        ("all", markdown_table::<RuntimeSettings>()),
    ] {
        let marker = format!("<!-- settings: {name} -->\n");
        let (before, rest) = expected.split_once(&marker).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        expected = format!("{before}{marker}{table}<!-- end -->{after}");
    }
    if std::env::vars().any(|(name, value)| name == "UPDATE_DOCUMENTS" && value == "1") {
        fs::write(&path, &expected).unwrap();
        return;
    }
    let differs = text.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(text == expected, "`make documents` updates docs/configuration.md: {differs:#?}");
}

#[test]
fn the_guarantees_name_the_limits_of_incomplete_records() {
    let window = Capacity::DEFAULT.window();
    let (few, dense) = (window.incomplete_max(), window.dense_max());
    let text = Page::of("docs/guarantees.md").text;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for limit in [
        format!("{few} incomplete records within {SPAN_MAX} offsets"),
        format!("offsets and incomplete records come to {dense} together"),
        format!("{} incomplete records in a row", dense / 2),
    ] {
        assert!(text.contains(&limit), "docs/guarantees.md should contain: {limit}");
    }
}

#[test]
fn readme_and_architecture_are_short() {
    for name in ["README.md", "ARCHITECTURE.md"] {
        let lines = Page::of(name).text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines");
    }
}
