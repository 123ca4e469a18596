//! The compose file hands every setting through to the containers.

use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, declarations};

/// Replicas of one configuration would share it, and thereby fence each other.
const LEFT_OUT: &str = "GROUP_INSTANCE_ID";

#[test]
fn the_compose_file_names_every_setting_of_the_processor() {
    let compose = include_str!("../../../deploy/compose.yaml");
    let (shared, services) = compose.split_once("\nservices:\n").unwrap();
    let (_, processor) = services.split_once("\n  processor:\n").unwrap();
    for setting in declarations::<(ProcessorSettings, RuntimeSettings)>() {
        let key = format!("{}:", setting.name);
        let mut lines = shared.lines().chain(processor.lines());
        let is_named = lines.any(|line| line.trim_start().starts_with(&key));
        assert_eq!(is_named, setting.name != LEFT_OUT, "{} in deploy/compose.yaml", setting.name);
    }
}
