//! The compose file takes every setting, bounds every container, and its variables are documented.

use order_console::settings::ConsoleSettings;
use order_generator::GeneratorSettings;
use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{Declaration, RuntimeSettings, declarations};

use crate::pages::Page;

const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
/// Replicas of one configuration would share it, and thereby fence each other.
const LEFT_OUT: &str = "GROUP_INSTANCE_ID";

/// Returns the variables that the compose file reads, with their defaults.
pub(crate) fn variables() -> Vec<(&'static str, &'static str)> {
    let variables = COMPOSE.split("${").skip(1).filter_map(|text| text.split_once('}'));
    variables.map(|(variable, _)| variable.split_once(":-").unwrap()).collect()
}

#[test]
fn the_compose_file_names_every_setting() {
    let (shared, services) = COMPOSE.split_once("\nservices:").unwrap();
    let missing = |name: &str, declared: Vec<Declaration>| -> Vec<&'static str> {
        let (_, service) = services.split_once(&format!("\n  {name}:\n")).unwrap();
        let end = service.find("\n\n").unwrap_or(service.len());
        let lines: Vec<&str> = shared.lines().chain(service[..end].lines()).collect();
        let is_named =
            |setting: &str| lines.iter().any(|line| line.trim_start().starts_with(setting));
        let names = declared.into_iter().map(|setting| setting.name);
        names.filter(|name| !is_named(&format!("{name}:"))).collect()
    };
    let generator = declarations::<(GeneratorSettings, RuntimeSettings)>();
    assert_eq!(missing("generator", generator), [""; 0]);
    let processor = declarations::<(ProcessorSettings, RuntimeSettings)>();
    assert_eq!(missing("processor", processor), [LEFT_OUT]);
    let console = declarations::<(ConsoleSettings, RuntimeSettings)>();
    assert_eq!(missing("dashboard", console), [""; 0]);
}

#[test]
fn every_container_is_bounded_and_every_port_of_the_host_is_on_loopback() {
    let (shared, services) = COMPOSE.split_once("\nservices:\n").unwrap();
    let (services, _volumes) = services.split_once("\nvolumes:\n").unwrap();
    let limits = ["pids_limit: ", "mem_limit: ", "cap_drop: [ALL]", "no-new-privileges:true"];
    assert!(limits.iter().all(|limit| shared.contains(limit)), "of generator and processor");
    let mut names = Vec::new();
    for service in services.split("\n\n") {
        let mut lines = service.lines().skip_while(|line| line.trim_start().starts_with('#'));
        let name = lines.next().unwrap().trim().trim_end_matches(':');
        let is_shared = service.contains("<<: *service");
        for limit in limits {
            assert!(is_shared || service.contains(limit), "{name} has no {limit}");
        }
        for ports in service.lines().filter(|line| line.trim_start().starts_with("ports:")) {
            assert!(ports.contains("[\"127.0.0.1:"), "{name}: {ports}");
        }
        names.push(name);
    }
    assert!(names.contains(&"dashboard") && names.contains(&"grafana"), "{names:?}");
}

#[test]
fn the_configuration_page_lists_every_variable_of_the_compose_file_with_its_default() {
    let variables = variables();
    assert!(!variables.is_empty());
    let text = Page::of("docs/configuration.md").text;
    for (name, default) in variables {
        let row = format!("| `{name}` | `{default}` |");
        assert!(text.contains(&row), "docs/configuration.md should list {row}");
    }
}
