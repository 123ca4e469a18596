//! Command lines that the documents show are accepted: `make` targets, and the three programs' own.

use std::collections::BTreeSet;
use std::process::Command;

use end_to_end::service::target_folder;

use crate::pages::{Page, root};

/// Targets that pass `ARGS` to the console, under the name of its command.
const CONSOLE_TARGETS: [&str; 4] = ["stats", "dlq", "top", "control"];
/// Exit code for bad usage and for invalid settings.
const BAD_USAGE: i32 = 64;

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut missing = Vec::new();
    for (page, line, _) in shown() {
        if let Some(target) = make_arguments(&line).and_then(|arguments| target(&arguments))
            && !makefile.contains(&format!("\n{target}:"))
        {
            missing.push(format!("{page}: make {target}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_package_that_cargo_is_to_build_exists() {
    let mut missing = Vec::new();
    for (page, line, _) in shown() {
        let words = words(&line);
        let packages = words.windows(2).filter(|pair| pair[0] == "-p").map(|pair| &pair[1]);
        let is_missing = |name: &&String| {
            !["services", "shared"].iter().any(|folder| root().join(folder).join(name).is_dir())
        };
        if words.iter().any(|word| word == "cargo") {
            missing.extend(packages.filter(is_missing).map(|name| format!("{page}: {name}")));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_command_line_that_is_shown_is_accepted() {
    let mut checked = BTreeSet::new();
    let mut refused = Vec::new();
    for (page, line, is_whole) in shown() {
        let Some((program, arguments)) = own_command(&line) else { continue };
        if checked.insert((program.clone(), arguments.clone(), is_whole))
            && let Err(words) = accepts(&program, &arguments, is_whole)
        {
            refused.push(format!("{page}: {line}: {words}"));
        }
    }
    assert!(checked.len() > 20, "{checked:#?}");
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Returns the command lines of all pages and alerts, with whether they are whole: those of the text may only name a
/// command.
fn shown() -> Vec<(String, String, bool)> {
    let of_page = |page: Page| {
        let whole = page.code("sh").into_iter().map(|line| (line, true));
        let named = page.spans().into_iter().map(|line| (line, false));
        let lines: Vec<_> = whole.chain(named).collect();
        lines.into_iter().map(move |(line, is_whole)| (page.name.clone(), line, is_whole))
    };
    let alerts = Page::of("deploy/observability/prometheus/alerts.yaml");
    let text = alerts.text.replace("PARTITION:OFFSET", "0:343");
    let text = text.replace("{{ $labels.error_type }}", "simulated");
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let alerts = Page { text, ..alerts };
    Page::all().into_iter().chain([alerts]).flat_map(of_page).collect()
}

/// Returns a program of ours and its arguments, also behind the target of the Makefile that runs it.
fn own_command(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = words(line).into_iter().skip_while(|word| is_assignment(word));
    let program = words.next()?;
    if ["order-console", "order-processor", "order-generator"].contains(&program.as_str()) {
        let arguments: Vec<_> = words.collect();
        let is_name_of_other = arguments.first().is_some_and(|word| word == "×");
        return (!arguments.is_empty() && !is_name_of_other).then_some((program, arguments));
    }
    let arguments = make_arguments(line)?;
    let command = target(&arguments).filter(|name| CONSOLE_TARGETS.contains(&name.as_str()))?;
    let given = arguments.iter().find_map(|word| word.strip_prefix("ARGS="))?;
    let given = given.split_whitespace().map(str::to_owned);
    Some(("order-console".to_owned(), [command].into_iter().chain(given).collect()))
}

/// Returns what follows `make`, where the line begins with it.
fn make_arguments(line: &str) -> Option<Vec<String>> {
    let mut words = words(line).into_iter().skip_while(|word| is_assignment(word));
    (words.next()? == "make").then(|| words.collect())
}

fn target(arguments: &[String]) -> Option<String> {
    arguments.iter().find(|word| !is_assignment(word)).cloned()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

/// Splits a line as a shell does: up to a comment or an operator, with quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('#' | '|' | '>' | ';' | '&', None) => break,
            (' ', None) => words.push(String::new()),
            (letter, _) => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Runs a program so that it does nothing: with a setting that no service takes, which it reads after its arguments, or
/// with `--help`.
fn accepts(program: &str, arguments: &[String], is_whole: bool) -> Result<(), String> {
    let needs_terminal = arguments[0] == "top";
    let mut command = Command::new(target_folder().unwrap().join(program));
    command.env_clear().env("ORDERS_TOPIC", "no topic").args(arguments);
    if !is_whole || needs_terminal {
        command.arg("--help");
    }
    let output = command.output().map_err(|error| format!("`cargo build --workspace`: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_setting = output.status.code() == Some(BAD_USAGE) && words.contains("ORDERS_TOPIC");
    (output.status.success() || is_setting).then_some(()).ok_or(words)
}
