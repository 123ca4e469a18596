use control_topic::record::{Desired, Entry, InstanceReport, Role, RunState};
use fuzz::{Outcome, Target};

/// The longest value.
const VALUE_BYTES_MAX: usize = 4096;

#[test]
fn control_record() {
    let turn = fuzz::turn();
    let desired = Desired {
        id: Some("7f".into()),
        state: RunState::Paused,
        at_ms: Some(1_700_000_000_123),
        by: Some("kim \"the\" operator".into()),
    };
    let report = InstanceReport {
        state: RunState::Running,
        command: Some("7f".into()),
        since_ms: Some(0),
        member_id: Some("m-1".into()),
    };
    let instance =
        |report| Entry::Instance { role: Role::Processor, name: "host/1".into(), report };
    let entries = [
        Entry::Desired(Role::Generator, None),
        Entry::Desired(Role::Processor, Some(desired)),
        Entry::Desired(Role::Generator, Some(Desired::default())),
        instance(None),
        instance(Some(InstanceReport::default())),
        instance(Some(report)),
    ];
    let target = Target {
        name: "control_record",
        executions: 20_000,
        seeds: entries.iter().map(|entry| input(&entry.key(), entry.value())).collect(),
        memory: |input| 8 * input.len() + 1024,
        mend: None,
        decode: Box::new(parse),
        check: |_, entry| check(entry.as_ref()),
    };
    fuzz::run(&turn, target, crate::LEFT);
}

/// The key, and after a zero the value.
fn input(key: &str, value: Option<String>) -> Vec<u8> {
    let value = value.map(|value| format!("\0{value}")).unwrap_or_default();
    [key.as_bytes(), value.as_bytes()].concat()
}

fn parse(input: &[u8]) -> Option<Entry> {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    Entry::parse(parts.next().unwrap_or_default(), parts.next())
}

fn check(entry: Option<&Entry>) -> Outcome {
    let Some(entry) = entry else { return Outcome::refused("none") };
    let (key, value) = (entry.key(), entry.value());
    // With other escapes, the text may exceed the limit.
    if value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX) {
        let read = Entry::parse(key.as_bytes(), value.as_deref().map(str::as_bytes));
        assert_eq!(read.as_ref(), Some(entry), "{key} {value:?}");
    }
    Outcome::accepted(match entry {
        Entry::Desired(role, desired) => format!("{role} {}", desired.is_some()),
        Entry::Instance { role, report, .. } => format!("{role} instance {}", report.is_some()),
    })
}
