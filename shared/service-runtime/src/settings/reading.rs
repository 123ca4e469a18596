//! The kinds of settings, and how all settings of a service are read.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use super::declaration::Declaration;
use super::given::Environment;
use super::layers::Layers;
use super::names::{is_host_and_port, is_part_of_topic};
use super::secret::Secret;
use super::secret_url::{SecretUrl, Shown};
use super::violation::{Violation, Violations};

/// Settings that can be read from the layers.
pub trait FromSettings: Sized {
    /// Declares and reads every setting of this type.
    ///
    /// It must make the same calls each time: it also runs without any value given, to learn what is declared.
    fn read(settings: &mut Settings) -> Self;
}

/// Two groups of settings are read one after the other.
impl<A: FromSettings, B: FromSettings> FromSettings for (A, B) {
    fn read(settings: &mut Settings) -> Self {
        (A::read(settings), B::read(settings))
    }
}

/// Reads settings from the defaults, the file that `CONFIG_FILE` names, and the environment.
///
/// # Errors
///
/// Every violation found in any layer: a value that is not allowed, a broken rule between settings, an unknown key
/// in the file, a file that cannot be read.
pub fn load<T: FromSettings>(environment: &Environment) -> Result<T, Violations> {
    load_with_changes(environment).map(|(value, _)| value)
}

/// Like [`load`], with the settings that differ from their defaults as a line for the log, secrets left out.
pub(crate) fn load_with_changes<T: FromSettings>(
    environment: &Environment,
) -> Result<(T, String), Violations> {
    let (layers, violations) = Layers::read(&declarations::<T>(), environment);
    let mut settings = Settings { layers, declared: Vec::new(), violations };
    let value = T::read(&mut settings);
    if settings.violations.is_empty() {
        let changes = settings.changes();
        return Ok((value, changes));
    }
    Err(Violations(settings.violations))
}

/// Returns what `T` declares, in its order.
pub fn declarations<T: FromSettings>() -> Vec<Declaration> {
    let mut settings =
        Settings { layers: Layers::default(), declared: Vec::new(), violations: Vec::new() };
    T::read(&mut settings);
    settings.declared
}

/// Hands out settings by name and notes what is wrong with them.
#[derive(Debug)]
pub struct Settings {
    layers: Layers,
    declared: Vec<Declaration>,
    violations: Vec<Violation>,
}

impl Settings {
    /// Returns a text of at least one character.
    pub fn text(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> String {
        self.parsed(name, default.to_owned(), "a text", meaning, |text| Some(text.to_owned()))
    }

    /// Returns a whole number within `range`.
    pub fn integer<T>(
        &mut self,
        name: &'static str,
        default: T,
        range: RangeInclusive<T>,
        meaning: &'static str,
    ) -> T
    where
        T: FromStr + Display + PartialOrd,
    {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, default, &allowed, meaning, |text| {
            text.parse().ok().filter(|value| range.contains(value))
        })
    }

    /// Returns a number within `range`, fractions allowed.
    pub fn float(
        &mut self,
        name: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
        meaning: &'static str,
    ) -> f64 {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        self.parsed(name, default, &allowed, meaning, |text| {
            text.parse().ok().filter(|value| range.contains(value))
        })
    }

    /// Returns `true` or `false`.
    pub fn flag(&mut self, name: &'static str, default: bool, meaning: &'static str) -> bool {
        self.parsed(name, default, "true or false", meaning, |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            }
        })
    }

    /// Returns a duration given in whole milliseconds within `range`; the name ends in `_MS`.
    pub fn milliseconds(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        meaning: &'static str,
    ) -> Duration {
        Duration::from_millis(self.integer(name, default, range, meaning))
    }

    /// Returns a duration given in seconds within `range`, fractions allowed; the name ends in `_SECONDS`.
    ///
    /// A range that is negative or passes [`Duration::MAX`] is cut to what a duration can hold.
    pub fn seconds(
        &mut self,
        name: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
        meaning: &'static str,
    ) -> Duration {
        let seconds = self.float(name, default, range, meaning);
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }

    /// Returns one of `choices`, which are recognised by how they are displayed, in any case of letters.
    pub fn choice<T: Display + Copy>(
        &mut self,
        name: &'static str,
        default: T,
        choices: &[T],
        meaning: &'static str,
    ) -> T {
        let words: Vec<String> = choices.iter().map(ToString::to_string).collect();
        let allowed = format!("one of {}", words.join(", "));
        self.parsed(name, default, &allowed, meaning, |text| {
            let chosen = |word: &String| word.eq_ignore_ascii_case(text);
            choices.get(words.iter().position(chosen)?).copied()
        })
    }

    /// Returns a value of any type that can be parsed, or `None` while it is not set.
    pub fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        allowed: &'static str,
        meaning: &'static str,
    ) -> Option<T> {
        self.optional_parsed(name, allowed, meaning, |text| text.parse().ok())
    }

    /// Returns a half-open range of numbers such as `5.0..50.0`, or `None` while it is not set.
    pub fn optional_range(
        &mut self,
        name: &'static str,
        meaning: &'static str,
    ) -> Option<Range<f64>> {
        let allowed = "a range such as 5.0..50.0, its start below its end";
        self.optional_parsed(name, allowed, meaning, |text| {
            let (start, end) = text.split_once("..")?;
            let start: f64 = start.trim().parse().ok()?;
            let end: f64 = end.trim().parse().ok()?;
            (start.is_finite() && end.is_finite() && start < end).then_some(start..end)
        })
    }

    /// Returns the name of a topic: up to 249 letters, digits, dots, underscores and hyphens.
    pub fn topic(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> String {
        let allowed = "1 to 249 letters, digits, dots, underscores and hyphens";
        self.parsed(name, default.to_owned(), allowed, meaning, |text| {
            let usable = is_part_of_topic(text, 249) && text != "." && text != "..";
            usable.then(|| text.to_owned())
        })
    }

    /// Returns a comma-separated list of `host:port`; empty items are left out.
    pub fn servers(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Vec<String> {
        let allowed = "host:port, several separated by commas";
        let split = |text: &str| -> Vec<String> {
            let servers = text.split(',').map(str::trim).filter(|server| !server.is_empty());
            servers.map(str::to_owned).collect()
        };
        let servers = self.parsed(name, default.to_owned(), allowed, meaning, |text| {
            let servers = split(text);
            let are_usable =
                !servers.is_empty() && servers.iter().all(|server| is_host_and_port(server));
            are_usable.then(|| text.to_owned())
        });
        split(&servers)
    }

    /// Returns `host:port` to listen on, or `None` for `off`.
    pub fn listen_address(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Option<String> {
        let address = self.parsed(name, default.to_owned(), "host:port, or off", meaning, |text| {
            let usable = text.eq_ignore_ascii_case("off") || is_host_and_port(text);
            usable.then(|| text.to_owned())
        });
        (!address.eq_ignore_ascii_case("off")).then_some(address)
    }

    /// Returns an `http` or `https` URL, or several separated by commas. Wherever the setting is printed, passwords and
    /// queries are left out.
    ///
    /// # Panics
    /// When the default is no such URL.
    pub fn url(
        &mut self,
        name: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> SecretUrl {
        self.layers.hide_url(name, Shown::Path);
        let allowed = "a URL such as http://host:8081, https and user:password@ possible";
        let parse = |text: &str| SecretUrl::parse(text, Shown::Path);
        self.declare(name, default.to_owned(), allowed, meaning);
        let given = self.given(name, allowed, parse);
        #[expect(clippy::expect_used, reason = "defaults are constants, which every start reads")]
        given.unwrap_or_else(|| parse(default).expect("the default is a URL"))
    }

    /// Returns an `http` or `https` URL, or `None` while it is not set. Only its origin is ever printed.
    pub fn optional_url(&mut self, name: &'static str, meaning: &'static str) -> Option<SecretUrl> {
        self.layers.hide_url(name, Shown::Origin);
        let allowed = "a URL such as http://host:8080/orders, https and user:password@ possible";
        self.optional_parsed(name, allowed, meaning, |text| SecretUrl::parse(text, Shown::Origin))
    }

    /// Returns a text of at least `chars_min` characters that is never printed, or `None` while it is not set.
    pub fn secret(
        &mut self,
        name: &'static str,
        chars_min: usize,
        meaning: &'static str,
    ) -> Option<Secret> {
        self.layers.hide(name);
        let allowed = format!("a text of at least {chars_min} characters");
        self.optional_parsed(name, &allowed, meaning, |text| {
            (text.chars().count() >= chars_min).then(|| Secret::new(text))
        })
    }

    /// Notes a violation when a rule between several settings does not hold.
    ///
    /// A rule over a setting that is already known to be wrong is not judged: it would only repeat that one.
    pub fn rule(&mut self, names: &[&'static str], holds: bool, rule: &str) {
        let judged = |name: &&str| self.violations.iter().any(|v| v.name == **name);
        if holds || names.iter().any(judged) {
            return;
        }
        let given: Vec<String> =
            names.iter().map(|name| format!("{name}={}", self.effective(name))).collect();
        self.violations.push(Violation::of_rule(given.join(" "), rule));
    }

    /// Declares a setting and returns its parsed value; `parse` returns `None` for what is not allowed.
    pub fn parsed<T: Display>(
        &mut self,
        name: &'static str,
        default: T,
        allowed: &str,
        meaning: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.declare(name, default.to_string(), allowed, meaning);
        self.given(name, allowed, parse).unwrap_or(default)
    }

    /// Declares a setting that is unset by default and returns its parsed value.
    pub fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        meaning: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.declare(name, String::new(), allowed, meaning);
        self.given(name, allowed, parse)
    }

    fn declare(
        &mut self,
        name: &'static str,
        default: String,
        allowed: &str,
        meaning: &'static str,
    ) {
        self.declared.push(Declaration { name, default, allowed: allowed.to_owned(), meaning });
    }

    /// Returns the parsed value of the layers, noting a violation when it is not allowed.
    fn given<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let given = self.layers.get(name)?;
        let value = parse(&given.text);
        if value.is_none() {
            self.violations.push(Violation::of_value(name, given, allowed));
        }
        value
    }

    /// Returns a setting as it is in force, for messages.
    fn effective(&self, name: &str) -> String {
        if let Some(given) = self.layers.get(name) {
            return given.shown.clone();
        }
        let declared = self.declared.iter().find(|d| d.name == name);
        declared.map_or_else(String::new, |d| d.default.clone())
    }

    /// Returns the settings that differ from their defaults as `NAME=value` separated by spaces.
    fn changes(&self) -> String {
        let changed = self.declared.iter().filter(|declared| {
            let given = self.layers.get(declared.name);
            given.is_some_and(|given| given.text != declared.default)
        });
        let lines = changed.map(|d| format!("{}={}", d.name, self.effective(d.name)));
        lines.collect::<Vec<_>>().join(" ")
    }
}
