//! The compose file hands every setting through to the container.

use order_generator::GeneratorSettings;
use service_runtime::settings::{RuntimeSettings, declarations};

#[test]
fn the_compose_file_names_every_setting_of_the_generator() {
    let compose = include_str!("../../../deploy/compose.yaml");
    let (generator, _) = compose.split_once("\n  processor:\n").unwrap();
    for setting in declarations::<(GeneratorSettings, RuntimeSettings)>() {
        let key = format!("{}:", setting.name);
        let is_named = generator.lines().any(|line| line.trim_start().starts_with(&key));
        assert!(is_named, "deploy/compose.yaml should name {}", setting.name);
    }
}
