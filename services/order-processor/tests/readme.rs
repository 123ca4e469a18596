//! The README's table of settings is what the code declares.

use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, markdown_table};

#[test]
fn the_readme_lists_every_setting_as_declared() {
    let readme = include_str!("../../../README.md");
    for table in [markdown_table::<ProcessorSettings>(), markdown_table::<RuntimeSettings>()] {
        assert!(readme.contains(&table), "README.md should contain:\n{table}");
    }
}
