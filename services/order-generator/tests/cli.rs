//! The generator's command line, as a process of its own; no broker and no registry is needed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// Port 1 has no listener, and connections to it fail at once.
const UNUSED_ADDRESS: &str = "127.0.0.1:1";

#[test]
fn bad_settings_exit_with_64_and_are_all_named_on_stderr() {
    let output = run(&[], &[("ORDER_RATE", "fast"), ("PRICE_MIN", "7"), ("PRICE_MAX", "3")]);

    assert_eq!(output.status.code(), Some(64));
    let expected = "order-generator: 2 settings are not usable:
  ORDER_RATE=fast: must be a number from 0 to 10000000
  PRICE_MIN=7 PRICE_MAX=3: PRICE_MIN must be at most PRICE_MAX
";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    assert!(output.stdout.is_empty());
}

#[test]
fn help_lists_every_setting() {
    let output = run(&["--help"], &[]);

    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["ORDER_RATE=1", "SEED=", "DELIVERY_TIMEOUT_MS=120000", "HTTP_ADDR=127.0.0.1:8080"]
    {
        assert!(text.contains(&format!("\n  {line}\n")), "{line} is not in\n{text}");
    }
}

#[test]
fn a_healthcheck_without_a_generator_exits_with_1() {
    let output = run(&["healthcheck"], &[("HTTP_ADDR", UNUSED_ADDRESS)]);

    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("order-generator at 127.0.0.1:1 does not answer"), "{text}");
}

#[test]
fn sigterm_ends_a_generator_that_waits_for_the_registry_with_0() {
    let mut generator = Generator::start(&[("HTTP_ADDR", "off")]);
    generator.wait_for_line("waiting for the schema registry");

    assert_eq!(generator.terminate(), Some(0));
}

#[test]
fn a_waiting_generator_is_alive_and_reports_why_it_is_not_ready() {
    let mut generator = Generator::start(&[("HTTP_ADDR", "127.0.0.1:0")]);
    let line = generator.wait_for_line("serving /healthz");
    let address = line.split("http_addr=").nth(1).unwrap().to_owned();
    generator.wait_for_line("waiting for the schema registry");

    let output = run(&["healthcheck"], &[("HTTP_ADDR", &address)]);

    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("waiting for the schema registry"), "{text}");
    assert_eq!(generator.terminate(), Some(0));
}

#[test]
fn a_health_address_in_use_is_only_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut generator = Generator::start(&[("HTTP_ADDR", &address)]);

    generator.wait_for_line("no health and metrics: cannot listen");
    generator.wait_for_line("waiting for the schema registry");

    assert_eq!(generator.terminate(), Some(0));
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-generator"));
    command
        .env_clear()
        .env("BOOTSTRAP_SERVERS", UNUSED_ADDRESS)
        .env("SCHEMA_REGISTRY_URL", format!("http://{UNUSED_ADDRESS}"))
        .envs(variables.iter().copied());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(variables).args(arguments).output().unwrap()
}

/// A generator that runs; it is killed at the latest when the test ends.
struct Generator {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Generator {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = command(variables).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for_line(&mut self, text: &str) -> String {
        let line = self.lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
        line.unwrap_or_else(|| panic!("the log ends without {text}")).unwrap()
    }

    fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It fails when the process has ended, which is what is wanted.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}
