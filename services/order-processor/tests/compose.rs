//! The compose file hands every setting through to the containers.

use order_processor::settings::ProcessorSettings;
use service_runtime::settings::{RuntimeSettings, declarations};

/// Replicas of one configuration would share it, and thereby fence each other.
const LEFT_OUT: &str = "GROUP_INSTANCE_ID";

#[test]
fn the_compose_file_names_every_setting_of_the_processor() {
    let compose = include_str!("../../../deploy/compose.yaml");
    let (shared, services) = compose.split_once("\nservices:\n").unwrap();
    let service = |name: &str| {
        let (_, service) = services.split_once(&format!("\n  {name}:\n")).unwrap();
        let end = service.find("\n\n").unwrap_or(service.len());
        &service[..end]
    };
    let (processor, dashboard) = (service("processor"), service("dashboard"));
    for setting in declarations::<(ProcessorSettings, RuntimeSettings)>() {
        let key = format!("{}:", setting.name);
        let is_of_dashboard = setting.name.starts_with("DASHBOARD_");
        let own = if is_of_dashboard { dashboard } else { processor };
        let mut lines = shared.lines().chain(own.lines());
        let is_named = lines.any(|line| line.trim_start().starts_with(&key));
        assert_eq!(is_named, setting.name != LEFT_OUT, "{} in deploy/compose.yaml", setting.name);
    }
}

#[test]
fn every_container_is_bounded_and_every_port_of_the_host_is_on_loopback() {
    let compose = include_str!("../../../deploy/compose.yaml");
    let (shared, services) = compose.split_once("\nservices:\n").unwrap();
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
fn the_readme_lists_every_variable_of_the_compose_file_with_its_default() {
    let compose = include_str!("../../../deploy/compose.yaml");
    let readme = include_str!("../../../README.md");
    let variables = compose.split("${").skip(1);
    let variables: Vec<_> = variables.filter_map(|text| text.split_once('}')).collect();
    assert!(!variables.is_empty());
    for (variable, _) in variables {
        let (name, default) = variable.split_once(":-").unwrap();
        let row = format!("| `{name}` | `{default}` |");
        assert!(readme.contains(&row), "README.md should list {row}");
    }
}
