//! The settings as an operator meets them.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Strategy, proptest};
use proptest::sample::select;

use super::secret_url::Shown;
use super::*;
use crate::telemetry::LogFormat;

/// A small service's settings, of every kind.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    rate: f64,
    count: u64,
    interval: Duration,
    backoff: Duration,
    flag: bool,
    seed: Option<u64>,
    prices: Option<Range<f64>>,
    servers: Vec<String>,
    address: Option<String>,
    registry: SecretUrl,
    hook: Option<SecretUrl>,
    topic: String,
    colour: &'static str,
}

impl FromSettings for Sample {
    fn read(settings: &mut Settings) -> Self {
        let sample = Self {
            name: settings.text("NAME", "sample", "A name."),
            rate: settings.float("RATE", 1.0, 0.0..=1000.0, "A rate."),
            count: settings.integer("COUNT", 7, 1..=100, "A count."),
            interval: settings.milliseconds("INTERVAL_MS", 500, 5..=60_000, "An interval."),
            backoff: settings.seconds("BACKOFF_SECONDS", 1.0, 0.0..=60.0, "A backoff."),
            flag: settings.flag("FLAG", true, "A flag."),
            seed: settings.optional("SEED", "a whole number", "A seed."),
            prices: settings.optional_range("PRICES", "Some prices."),
            servers: settings.servers("SERVERS", "localhost:9092", "Some servers."),
            address: settings.listen_address("ADDRESS", "127.0.0.1:8080", "An address."),
            registry: settings.url("REGISTRY", "http://localhost:8081", "A registry."),
            hook: settings.optional_url("HOOK", "A hook."),
            topic: settings.topic("TOPIC", "orders", "A topic."),
            colour: settings.choice("COLOUR", "red", &["red", "blue"], "A colour."),
        };
        settings.rule(
            &["COUNT", "INTERVAL_MS"],
            u128::from(sample.count) <= sample.interval.as_millis(),
            "COUNT must be at most INTERVAL_MS",
        );
        sample
    }
}

#[test]
fn without_anything_given_the_defaults_hold() {
    let sample = read(&[]).unwrap();

    assert_eq!(sample.name, "sample");
    assert_eq!((sample.rate, sample.count), (1.0, 7));
    assert_eq!(sample.interval, Duration::from_millis(500));
    assert_eq!(sample.backoff, Duration::from_secs(1));
    assert!(sample.flag);
    assert_eq!(sample.seed, None);
    assert_eq!(sample.prices, None);
    assert_eq!(sample.servers, ["localhost:9092"]);
    assert_eq!(sample.address.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(sample.registry.reveal(), "http://localhost:8081");
    assert_eq!(sample.topic, "orders");
    assert_eq!(sample.colour, "red");
}

#[test]
fn every_kind_of_setting_is_read_from_the_environment() {
    let sample = read(&[
        ("NAME", " other "),
        ("RATE", "0.5"),
        ("COUNT", "100"),
        ("INTERVAL_MS", "1500"),
        ("BACKOFF_SECONDS", "0.25"),
        ("FLAG", "off"),
        ("SEED", "42"),
        ("PRICES", "5.0..50.0"),
        ("SERVERS", "one:9092, [::1]:9093,"),
        ("ADDRESS", "off"),
        ("REGISTRY", "https://user:pass@registry/path"),
        ("TOPIC", "orders.v2"),
        ("COLOUR", "Blue"),
    ]);

    let expected = Sample {
        name: "other".to_owned(),
        rate: 0.5,
        count: 100,
        interval: Duration::from_millis(1500),
        backoff: Duration::from_millis(250),
        flag: false,
        seed: Some(42),
        prices: Some(5.0..50.0),
        servers: vec!["one:9092".to_owned(), "[::1]:9093".to_owned()],
        address: None,
        registry: SecretUrl::parse("https://user:pass@registry/path", Shown::Path).unwrap(),
        hook: None,
        topic: "orders.v2".to_owned(),
        colour: "blue",
    };
    assert_eq!(sample, Ok(expected));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let sample = read(&[("RATE", ""), ("SEED", "  "), ("CONFIG_FILE", "")]).unwrap();

    assert_eq!((sample.rate, sample.seed), (1.0, None));
}

#[test]
fn a_variable_that_is_not_a_setting_is_left_alone() {
    let sample = read(&[("BASH_FUNC_x.y%%", "() {"), ("rate", "17"), ("PATH", "/bin")]);

    assert_eq!(sample, read(&[]));
}

#[test]
fn all_violations_are_reported_at_once_with_name_value_and_what_is_allowed() {
    let violations = read(&[
        ("RATE", "NaN"),
        ("COUNT", "0"),
        ("INTERVAL_MS", "5ms"),
        ("BACKOFF_SECONDS", "-1"),
        ("FLAG", "maybe"),
        ("SEED", "0x2a"),
        ("PRICES", "50..5"),
        ("SERVERS", "localhost,other:1"),
        ("ADDRESS", "8080"),
        ("REGISTRY", "registry:8081"),
        ("TOPIC", "orders/v2"),
        ("COLOUR", "green"),
    ])
    .unwrap_err();

    let expected = "\
12 settings are not usable:
  RATE=NaN: must be a number from 0 to 1000
  COUNT=0: must be a whole number from 1 to 100
  INTERVAL_MS=5ms: must be a whole number from 5 to 60000
  BACKOFF_SECONDS=-1: must be a number from 0 to 60
  FLAG=maybe: must be true or false
  SEED=0x2a: must be a whole number
  PRICES=50..5: must be a range such as 5.0..50.0, its start below its end
  SERVERS=localhost,other:1: must be host:port, several separated by commas
  ADDRESS=8080: must be host:port, or off
  REGISTRY=registry:8081: must be a URL such as http://host:8081, https and user:password@ possible
  TOPIC=orders/v2: must be 1 to 249 letters, digits, dots, underscores and hyphens
  COLOUR=green: must be one of red, blue";
    assert_eq!(violations.to_string(), expected);
}

#[test]
fn a_broken_rule_names_every_setting_it_is_about() {
    let violations = read(&[("COUNT", "20"), ("INTERVAL_MS", "10")]).unwrap_err();

    assert_eq!(
        violations.to_string(),
        "1 setting is not usable:\n  COUNT=20 INTERVAL_MS=10: COUNT must be at most INTERVAL_MS"
    );
}

#[test]
fn a_rule_is_not_judged_over_a_setting_that_is_wrong_anyway() {
    let violations = read(&[("COUNT", "many"), ("INTERVAL_MS", "5")]).unwrap_err();

    assert_eq!(violations.as_slice().len(), 1);
}

#[test]
fn the_file_lies_over_the_defaults_and_under_the_environment() {
    let file = TomlFile::new("rate = 5\nCOUNT = 9\nflag = false\nservers = [\"a:1\", \"b:2\"]\n");

    let sample = file.read(&[("COUNT", "11")]).unwrap();

    assert_eq!((sample.rate, sample.count, sample.flag), (5.0, 11, false));
    assert_eq!(sample.servers, ["a:1", "b:2"]);
}

#[test]
fn an_empty_variable_does_not_hide_the_file() {
    let file = TomlFile::new("count = 9\nseed = \"\"\n");

    let sample = file.read(&[("COUNT", "")]).unwrap();

    assert_eq!((sample.count, sample.seed), (9, None));
}

#[test]
fn unknown_keys_and_bad_values_of_the_file_are_violations_that_name_the_file() {
    let file = TomlFile::new("ratio = 5\ncount = 0\n[kafka]\nservers = 1\n");

    let violations = file.read(&[("RATE", "x")]).unwrap_err();

    let path = file.path.display();
    let expected = format!(
        "4 settings are not usable:
  CONFIG_FILE={path}: the key kafka is not a setting of this service
  CONFIG_FILE={path}: the key ratio is not a setting of this service
  RATE=x: must be a number from 0 to 1000
  COUNT=0 (in {path}): must be a whole number from 1 to 100"
    );
    assert_eq!(violations.to_string(), expected);
}

#[test]
fn a_key_given_in_both_cases_or_as_a_table_is_a_violation() {
    let file = TomlFile::new("RATE = 1\nrate = 2\n[count]\nmost = 1\n");

    let violations = file.read(&[]).unwrap_err().to_string();

    assert!(violations.contains("the key rate appears in upper and in lower case"));
    assert!(violations.contains("the key count must be a text"));
}

#[test]
fn a_file_that_cannot_be_read_is_reported_beside_the_other_violations() {
    let missing = read(&[("CONFIG_FILE", "/does/not/exist.toml"), ("RATE", "x")]).unwrap_err();
    let broken = TomlFile::new("rate = = 5\n").read(&[]).unwrap_err();

    let names = |violations: &Violations| -> Vec<String> {
        violations.as_slice().iter().map(|v| v.name.clone()).collect()
    };
    assert_eq!(names(&missing), ["CONFIG_FILE", "RATE"]);
    assert_eq!(names(&broken), ["CONFIG_FILE"]);
}

#[test]
fn a_password_is_never_printed() {
    let url = "http://me:hunter2@:x@registry:8081".to_owned();
    let wrong = "http://me:hunter2/@registry:8081 ".repeat(2);

    let (sample, changes) =
        load_with_changes::<Sample>(&environment(&[("REGISTRY", &url)])).unwrap();
    let violations = read(&[("REGISTRY", &wrong)]).unwrap_err();

    assert_eq!(sample.registry.reveal(), url);
    assert_eq!(changes, "REGISTRY=http://me:***@registry:8081");
    for printed in
        [format!("{sample:?}"), sample.registry.to_string(), changes, violations.to_string()]
    {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

/// Pieces of URLs, some with a secret where URLs have theirs, in any order: what people paste and mistype.
fn pasted() -> impl Strategy<Value = String> {
    let pieces = [
        "http://",
        "https://",
        "ftp://",
        "http:/",
        "//",
        "host",
        ":8081",
        "[::1]",
        "/",
        "path",
        ",",
        " ",
        "%",
        "\\",
        "me:hunter2@",
        "hunter2@",
        "me:/hunter2@",
        "me:hunter2/@",
        "me:,hunter2@",
        "?key=hunter2",
        "#hunter2",
        "@",
    ];
    vec(select(pieces.to_vec()), 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_form_of_a_url_shows_its_secret(text in pasted()) {
        for name in ["REGISTRY", "HOOK", "SERVERS", "RATE", "TOPIC", "ADDRESS", "NAME"] {
            // Without a scheme and a user, a text is no URL.
            if name == "REGISTRY" || name == "HOOK" || text.contains('@') {
                check_hidden(&text, load_with_changes(&environment(&[(name, &text)])));
            }
        }
    }

    #[test]
    fn no_form_of_a_file_shows_its_secret(
        text in pasted(),
        line in select(vec!["KEY = TEXT", "KEY = 'TEXT'", "'TEXT' = 1", "KEY = \"TEXT", "TEXT", "[TEXT]", "KEY = ['TEXT', "]),
        key in select(vec!["registry", "hook", "unknown", "rate"]),
    ) {
        let text = if text.contains('@') { text } else { format!("{text}@") };
        let file = TomlFile::new(&line.replace("KEY", key).replace("TEXT", &text));
        check_hidden(&text, load_with_changes(&file.environment(&[])));
    }
}

fn check_hidden(given: &str, loaded: Result<(Sample, String), Violations>) {
    let printed = match loaded {
        Ok((sample, changes)) => format!("{:?} {:?} {changes}", sample.registry, sample.hook),
        Err(violations) => format!("{violations} {violations:?}"),
    };
    assert!(!printed.contains("hunter2"), "{given}: {printed}");
}

#[test]
fn changes_name_only_what_differs_from_its_default() {
    let given = environment(&[("RATE", "1"), ("COUNT", "8"), ("SEED", "3")]);

    let (_, changes) = load_with_changes::<Sample>(&given).unwrap();

    assert_eq!(changes, "COUNT=8 SEED=3");
}

#[test]
fn the_manual_and_the_table_name_every_setting_with_default_and_meaning() {
    let manual = manual::<Sample>();
    let table = markdown_table::<Sample>();

    assert!(manual.contains("\n  INTERVAL_MS=500\n      An interval.\n"));
    assert!(manual.contains("Allowed: a whole number from 5 to 60000."));
    assert!(table.contains("| `SEED` | unset | a whole number | A seed. |\n"));
    assert_eq!(table.lines().count(), 2 + declarations::<Sample>().len());
}

#[test]
fn the_shared_settings_have_usable_defaults() {
    type Shared = (RuntimeSettings, (ConnectionSettings, TopicSettings));

    let (runtime, (connection, topics)) = load::<Shared>(&environment(&[])).unwrap();
    let violations = load::<Shared>(&environment(&[
        ("RUST_LOG", "info,[["),
        ("LOG_FORMAT", "xml"),
        ("REPLICATION_FACTOR", "0"),
    ]));

    assert_eq!(runtime.log_format, LogFormat::Text);
    assert_eq!(connection.bootstrap_servers, ["localhost:9092"]);
    assert_eq!(topics.replication_factor, -1);
    assert_eq!(violations.unwrap_err().as_slice().len(), 3);
}

fn environment(given: &[(&str, &str)]) -> Environment {
    let owned = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    owned.collect()
}

fn read(given: &[(&str, &str)]) -> Result<Sample, Violations> {
    load(&environment(given))
}

/// A TOML file that lives as long as the test.
struct TomlFile {
    path: PathBuf,
}

impl TomlFile {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("settings-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self { path }
    }

    fn read(&self, given: &[(&str, &str)]) -> Result<Sample, Violations> {
        load(&self.environment(given))
    }

    fn environment(&self, given: &[(&str, &str)]) -> Environment {
        let path = self.path.display().to_string();
        let mut all = environment(given);
        all.insert("CONFIG_FILE".to_owned(), path);
        all
    }
}

impl Drop for TomlFile {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}
