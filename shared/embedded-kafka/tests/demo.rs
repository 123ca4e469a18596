//! The supervisor of `embedded-kafka demo`, with shell scripts for children.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A child that prints its environment and drains on SIGTERM.
const DRAINS: &str = r#"
trap 'echo "drained"; exit 0' TERM
echo "servers=$BOOTSTRAP_SERVERS registry=$SCHEMA_REGISTRY_URL"
echo "rate=$ERROR_SIMULATION_RATE http=$HTTP_ADDR own=$OWN_VARIABLE"
[ $(ps -o pgid= -p $$) = $$ ] && echo "leads a process group"
echo "ready" >&2
while :; do sleep 2 >/dev/null 2>&1 & wait; done
"#;
/// A child that succeeds.
const FINISHES: &str = "echo ready\nexit 0\n";
/// A child that fails.
const DIES: &str = "echo ready\nexit 64\n";
/// A child that ignores SIGTERM.
const STAYS: &str = "trap '' TERM\necho ready\nexec sleep 1000\n";

/// A running demo.
struct Demo {
    process: Child,
    output: BufReader<ChildStdout>,
    seen: Vec<String>,
}

impl Demo {
    fn start(test: &str, generator: &str, processor: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_embedded-kafka"))
            .arg("demo")
            .arg("--generator")
            .arg(script(test, "generator", generator))
            .arg("--processor")
            .arg(script(test, "processor", processor))
            .env("OWN_VARIABLE", "kept")
            .env_remove("ERROR_SIMULATION_RATE")
            .env_remove("HTTP_ADDR")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output, seen: Vec::new() }
    }

    /// Reads until the demo has printed lines with each of `wanted`.
    fn wait_for(&mut self, wanted: &[&str]) {
        let is_missing = |seen: &[String]| {
            wanted.iter().any(|wanted| !seen.iter().any(|line| line.contains(wanted)))
        };
        while is_missing(&self.seen) {
            let mut line = String::new();
            let bytes = self.output.read_line(&mut line).unwrap();
            assert_ne!(bytes, 0, "{wanted:?} did not all come: {:#?}", self.seen);
            self.seen.push(line.trim_end().to_owned());
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads to the end and returns all lines and the exit status.
    fn finish(mut self) -> (Vec<String>, ExitStatus) {
        for line in self.output.lines() {
            self.seen.push(line.unwrap());
        }
        (self.seen, self.process.wait().unwrap())
    }
}

fn script(test: &str, name: &str, body: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn position(lines: &[String], wanted: &str) -> usize {
    let found = lines.iter().position(|line| line.contains(wanted));
    found.unwrap_or_else(|| panic!("no line has {wanted:?}: {lines:#?}"))
}

#[test]
fn the_generator_drains_before_the_processors() {
    let mut demo = Demo::start("drains", DRAINS, DRAINS);
    demo.wait_for(&["generator   | ready", "processor-1 | ready", "processor-2 | ready"]);
    demo.signal(Signal::INT);
    let (lines, status) = demo.finish();
    assert!(status.success(), "{lines:#?}");
    let generator = position(&lines, "demo        | generator has drained");
    for processor in ["processor-1 | drained", "processor-2 | drained"] {
        assert!(generator < position(&lines, processor), "{lines:#?}");
    }
}

#[test]
fn children_get_addresses_the_error_rate_the_environment_and_no_terminal_signals() {
    let mut demo = Demo::start("environment", DRAINS, DRAINS);
    demo.wait_for(&["generator   | ready", "processor-1 | ready", "processor-2 | ready"]);
    demo.signal(Signal::TERM);
    let (lines, _) = demo.finish();
    let said = |variable: &str| {
        let line = &lines[position(&lines, &format!("demo        | {variable}="))];
        line.split_once('=').unwrap().1.to_owned()
    };
    let servers = said("BOOTSTRAP_SERVERS");
    let registry = said("SCHEMA_REGISTRY_URL");
    for (name, http) in [("generator  ", "off"), ("processor-1", ""), ("processor-2", "off")] {
        position(&lines, &format!("{name} | servers={servers} registry={registry}"));
        position(&lines, &format!("{name} | rate=0.1 http={http} own=kept"));
        position(&lines, &format!("{name} | leads a process group"));
    }
}

#[test]
fn a_generator_that_has_finished_leaves_the_processors_running() {
    let mut demo = Demo::start("finishes", FINISHES, DRAINS);
    demo.wait_for(&["generator has finished", "processor-1 | ready", "processor-2 | ready"]);
    demo.signal(Signal::TERM);
    let (lines, status) = demo.finish();
    assert!(status.success(), "{lines:#?}");
    position(&lines, "processor-1 has drained");
}

#[test]
fn a_generator_that_fails_is_named_and_ends_the_demo() {
    let (lines, status) = Demo::start("generator-dies", DIES, DRAINS).finish();
    assert_eq!(status.code(), Some(1));
    position(&lines, "demo        | generator died: exit status: 64");
    position(&lines, "demo        | processor-2 ");
}

#[test]
fn processors_that_all_fail_are_named_and_end_the_demo() {
    let (lines, status) = Demo::start("processors-die", DRAINS, DIES).finish();
    assert_eq!(status.code(), Some(1));
    position(&lines, "processor-1 died: exit status: 64");
    position(&lines, "processor-2 died: exit status: 64");
}

#[test]
fn a_second_signal_kills_children_that_do_not_drain() {
    let mut demo = Demo::start("stays", DRAINS, STAYS);
    demo.wait_for(&["generator   | ready", "processor-1 | ready", "processor-2 | ready"]);
    demo.signal(Signal::INT);
    demo.wait_for(&["generator has drained"]);
    demo.signal(Signal::INT);
    let (lines, status) = demo.finish();
    assert_eq!(status.code(), Some(1));
    position(&lines, "killing processor-1, processor-2 as asked");
    position(&lines, "processor-1 died: signal: 9 (SIGKILL)");
}
