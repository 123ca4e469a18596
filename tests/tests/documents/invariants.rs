//! Each invariant stands in the documentation of the crate that it binds, and names tests that exist.

use std::fs;

use crate::names::visit;
use crate::pages::{Page, root};

/// A row of docs/invariants.md.
struct Rule {
    krate: String,
    text: String,
    /// Suites by their paths, and modules of the crate by their names.
    tests: Vec<String>,
}

#[test]
fn every_invariant_stands_in_the_documentation_of_its_crate() {
    for krate in crates() {
        let source = fs::read_to_string(folder(&krate).unwrap().join("src/lib.rs")).unwrap();
        let lines = source.lines().filter_map(|line| line.strip_prefix("//!"));
        let section = lines.skip_while(|line| line.trim() != "# Invariants").skip(1);
        let words: Vec<&str> = section.flat_map(str::split_whitespace).collect();
        let found = words.join(" ");
        let expected: Vec<_> = rules().into_iter().filter(|rule| rule.krate == krate).collect();
        let expected: Vec<_> = expected.iter().map(|rule| format!("- {}", rule.text)).collect();
        assert_eq!(found, expected.join(" "), "`# Invariants` of {krate} and docs/invariants.md");
    }
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let mut missing = Vec::new();
    for Rule { krate, text, tests } in rules() {
        assert!(!tests.is_empty(), "no test guards: {text}");
        for test in tests.iter().filter(|test| !test.contains('/')) {
            let mut exists = false;
            visit(&folder(&krate).unwrap().join("src"), &mut |path, _| {
                let parts = path.with_extension("");
                exists |= parts.components().any(|part| part.as_os_str() == test.as_str());
            });
            if !exists {
                missing.push(format!("{krate}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns the crates that rules bind.
fn crates() -> Vec<String> {
    let mut crates: Vec<String> = rules().into_iter().map(|rule| rule.krate).collect();
    crates.dedup();
    crates.retain(|krate| folder(krate).is_some());
    crates
}

fn folder(krate: &str) -> Option<std::path::PathBuf> {
    let folders = ["shared", "services"].map(|folder| root().join(folder).join(krate));
    folders.into_iter().find(|folder| folder.is_dir())
}

fn rules() -> Vec<Rule> {
    let page = Page::of("docs/invariants.md");
    let mut rules = Vec::new();
    let mut krate = String::new();
    for line in page.prose() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut krate);
        }
        let row = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |"));
        let Some((text, tests)) = row.and_then(|row| row.split_once(" | ")) else { continue };
        if text == "invariant" {
            continue;
        }
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rules.push(Rule { krate: krate.clone(), text: text.to_owned(), tests });
    }
    assert!(rules.len() > 60, "{} rules", rules.len());
    rules
}
