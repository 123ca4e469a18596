//! Links, files, settings, tests and metrics that the documents name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use order_console::settings::ConsoleSettings;
use order_generator::GeneratorSettings;
use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, declarations};

use crate::compose;
use crate::pages::{Page, root};

/// Variables of the documents that no setting declares: of other programs, of the Makefile and of tests.
const OTHER_VARIABLES: [&str; 18] = [
    "ALL_PROXY",
    "CACHE_DIR",
    "CARGO_TARGET_DIR",
    "CONFIG_FILE",
    "FUZZ_SECONDS",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KAFKA_BROKERS",
    "KAFKA_PROPERTIES",
    "NO_COLOR",
    "NO_PROXY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "RANDOM_FAILURES_KILLS",
    "RANDOM_FAILURES_ORDERS",
    "RUSTDOCFLAGS",
    "TEST_PLATFORM",
    "TEST_PYTHON",
    "UPDATE_DOCUMENTS",
];

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in Page::all() {
        for link in page.links() {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&page.name),
                path => page.folder().join(path),
            };
            if !target.exists() {
                broken.push(format!("{}: {link}: no such file", page.name));
            } else if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let anchors = Page { name: String::new(), text }.anchors();
                if !anchors.iter().any(|found| found == anchor) {
                    broken.push(format!("{}: {link}: the page has {anchors:?}", page.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_that_is_named_exists() {
    let mut missing = Vec::new();
    for page in Page::all() {
        let folders = [root().to_owned(), page.folder()];
        for span in page.spans() {
            let path = span.split("::").next().unwrap();
            let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let first = path.split('/').next().unwrap();
            let is_built = first.is_empty() || first == "target";
            let is_ours = folders.iter().any(|folder| folder.join(first).is_dir());
            let exists = folders.iter().any(|folder| folder.join(path).exists());
            if path.contains('/') && is_path && is_ours && !is_built && !exists {
                missing.push(format!("{}: {span}", page.name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_architecture_maps_every_crate() {
    let map = Page::of("ARCHITECTURE.md").text;
    for folder in ["shared", "services"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let row = format!("| `{folder}/{name}` |");
            assert!(map.contains(&row), "ARCHITECTURE.md should map {row}");
        }
    }
}

#[test]
fn every_setting_that_is_named_exists() {
    let declared = [
        declarations::<GeneratorSettings>(),
        declarations::<ProcessorSettings>(),
        declarations::<ConsoleSettings>(),
        declarations::<RuntimeSettings>(),
    ];
    let declared = declared.iter().flatten().map(|setting| setting.name);
    let of_compose = compose::variables().into_iter().map(|(name, _)| name);
    let known: BTreeSet<&str> = declared.chain(of_compose).chain(OTHER_VARIABLES).collect();
    let mut unknown = Vec::new();
    for page in Page::all() {
        for span in page.spans() {
            let name = span.split('=').next().unwrap();
            let is_variable = name.contains('_')
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if is_variable && !known.contains(name) {
                unknown.push(format!("{}: {span}", page.name));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_test_that_is_named_exists() {
    let sources = sources(root());
    let mut missing = Vec::new();
    for page in Page::all() {
        for span in page.spans() {
            let name = span.rsplit("::").next().unwrap().to_owned();
            let is_sentence = name.matches('_').count() > 2
                && !name.starts_with('_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_metric = METRIC_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let test = format!("fn {name}(");
            if is_sentence && !is_metric && !sources.iter().any(|text| text.contains(&test)) {
                missing.push(format!("{}: {span}", page.name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_log_lines_that_are_shown_or_awaited_exist() {
    let mut lines = Vec::new();
    for line in Page::of("README.md").code("text") {
        let level = [" INFO ", " WARN "].into_iter().find_map(|level| line.split_once(level));
        let Some((_, text)) = level.filter(|(_, text)| !text.starts_with('…')) else { continue };
        let before_fields = text.split('=').next().unwrap();
        lines.push(before_fields.rsplit_once(' ').unwrap().0.to_owned());
    }
    for script in ["bench/bench.py", "bench/failures.py"] {
        let text = fs::read_to_string(root().join(script)).unwrap();
        let calls = text.split("log_line(").chain(text.split("wait_for_line("));
        let arguments = calls.filter_map(|call| call.split(')').next().unwrap().split_once('"'));
        lines.extend(
            arguments.filter_map(|(_, text)| text.split_once('"')).map(|(line, _)| line.to_owned()),
        );
    }
    let sources = sources(&root().join("services"));
    let is_missing = |line: &&String| {
        let literal = format!("\"{line}\"");
        !sources.iter().any(|text| text.contains(&literal))
    };
    let missing: Vec<_> = lines.iter().filter(is_missing).collect();
    assert!(lines.len() > 8 && missing.is_empty(), "no service writes {missing:#?} of {lines:#?}");
}

/// What the metrics' names begin with.
const METRIC_PREFIXES: [&str; 5] =
    ["orders_", "kafka_consumer", "messaging_", "schema_registry_", "build_info"];

#[test]
fn the_observability_page_lists_the_metrics_that_the_code_declares() {
    let is_metric = |name: &&str| {
        METRIC_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let page = Page::of("docs/observability.md");
    let rows = page.prose().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names = spans.map(|span| span.split('{').next().unwrap()).filter(is_metric);
    // The text format adds these endings to the names that the code declares.
    let declared_name =
        |name: &str| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let documented: BTreeSet<String> = names.map(declared_name).collect();

    let sources =
        ["services", "shared"].into_iter().flat_map(|folder| sources(&root().join(folder)));
    let literals: BTreeSet<String> =
        sources.flat_map(|text| text.split('"').map(str::to_owned).collect::<Vec<_>>()).collect();
    // The generator's report puts `orders_` in front of its own names.
    let is_missing = |name: &&String| {
        let own = name.strip_prefix("orders_").unwrap_or(name);
        !literals.contains(*name) && !literals.contains(own)
    };
    let missing: Vec<_> = documented.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "no source declares {missing:?}");

    let declared = metric_files().into_iter().flat_map(|text| declared_metrics(&text));
    let undocumented: Vec<_> = declared.filter(|name| !documented.contains(name)).collect();
    assert!(undocumented.is_empty(), "docs/observability.md should list {undocumented:?}");
}

/// Returns the literals of a source without its tests that look like a metric's name.
fn declared_metrics(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let literals = code.split('"').skip(1).step_by(2);
    let is_name = |text: &&str| {
        METRIC_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    literals.filter(is_name).map(str::to_owned).collect()
}

/// Returns the sources that declare metrics.
fn metric_files() -> Vec<String> {
    let mut files = Vec::new();
    visit(&root().join("services"), &mut |path, text| {
        let is_test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        if text.contains("families.") && !is_test {
            files.push(text);
        }
    });
    assert!(!files.is_empty(), "no source declares metrics");
    files
}

/// Returns the text of every Rust source below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    visit(folder, &mut |_, text| texts.push(text));
    texts
}

/// Hands every Rust source below a folder to `found`, with its path.
pub(crate) fn visit(folder: &Path, found: &mut impl FnMut(&Path, String)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                visit(&path, found);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            found(&path, text);
        }
    }
}
