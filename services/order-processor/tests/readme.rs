//! The README's table of settings, and the numbers of its guarantees, are what the code declares.

use order_ledger::checkpoint::Capacity;
use order_ledger::completion::SPAN_MAX;
use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, markdown_table};

#[test]
fn the_readme_lists_every_setting_as_declared() {
    let readme = include_str!("../../../README.md");
    for table in [markdown_table::<ProcessorSettings>(), markdown_table::<RuntimeSettings>()] {
        assert!(readme.contains(&table), "README.md should contain:\n{table}");
    }
}

#[test]
fn the_readme_says_how_much_may_be_incomplete() {
    let readme = include_str!("../../../README.md");
    let window = Capacity::DEFAULT.window();
    let (few, dense) = (window.incomplete_max(), window.dense_max());
    for limit in [
        format!("{few} incomplete records within {SPAN_MAX} offsets"),
        format!("offsets and incomplete records come to {dense} together"),
        format!("{} incomplete records in a row", dense / 2),
    ] {
        assert!(readme.contains(&limit), "README.md should contain: {limit}");
    }
}
