//! Where a value comes from: the defaults, the file, the environment, merged by the `config` crate.

use std::collections::BTreeMap;
use std::fs;

use config::{Config, ConfigError, File, FileFormat, Source, Value, ValueKind};

use super::declaration::Declaration;
use super::given::{Environment, Given};
use super::names::is_host_and_port;
use super::secret_url::{HIDDEN, SecretUrl, Shown};
use super::violation::Violation;

const CONFIG_FILE: &str = "CONFIG_FILE";

/// The origin that `config` gives to values of the environment.
const ENVIRONMENT_ORIGIN: &str = "the environment";

/// The values that the file and the environment give, by the settings' names.
#[derive(Debug, Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, Given>,
}

impl Layers {
    /// Merges the layers; what cannot be used of the file is a violation, and the rest is read all the same.
    pub(super) fn read(
        declared: &[Declaration],
        environment: &Environment,
    ) -> (Self, Vec<Violation>) {
        let path = environment.get(CONFIG_FILE).map_or("", |path| path.trim());
        let mut violations = Vec::new();
        let file = match path {
            "" => FileLayer::default(),
            path => read_file(path, declared, &mut violations),
        };
        let given = merge(declared, file, environment).unwrap_or_else(|error| {
            violations.push(Violation::of_file(path, &error.to_string()));
            BTreeMap::new()
        });
        (Self { given }, violations)
    }

    /// Returns the value in the environment or the file; `None` means the default.
    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// Keeps a value from being printed.
    pub(super) fn hide(&mut self, name: &str) {
        if let Some(given) = self.given.get_mut(name) {
            HIDDEN.clone_into(&mut given.shown);
        }
    }

    /// Keeps the secrets of a URL from being printed. A value that is no URL is hidden whole, because a password may be
    /// anywhere in it, unless only the scheme is missing: `host:8081`.
    pub(super) fn hide_url(&mut self, name: &str, shown: Shown) {
        if let Some(given) = self.given.get_mut(name) {
            match SecretUrl::parse(&given.text, shown) {
                Some(url) => given.shown = url.to_string(),
                None if is_host_and_port(&given.text) => {}
                None => HIDDEN.clone_into(&mut given.shown),
            }
        }
    }
}

/// Returns the file's values, and notes what is wrong with it.
fn read_file(path: &str, declared: &[Declaration], violations: &mut Vec<Violation>) -> FileLayer {
    let mut layer = FileLayer { path: path.to_owned(), values: BTreeMap::new() };
    let mut violate = |what: &str| violations.push(Violation::of_file(path, what));
    // Sorted, so that the order of the violations does not depend on that of a hash map.
    // `config` itself takes nothing but regular files: no pipe.
    let read = fs::read_to_string(path).map_err(|error| error.to_string());
    let parse = |text: String| File::from_str(&text, FileFormat::Toml).collect();
    let table = read.and_then(|text| parse(text).map_err(|error| error.to_string()));
    let table: BTreeMap<String, Value> = match table {
        Ok(table) => table.into_iter().collect(),
        Err(error) => {
            // The lines below the first show the file, which may hold passwords.
            violate(error.lines().next().unwrap_or_default());
            return layer;
        }
    };
    for (name, value) in table {
        let is_known = declared.iter().any(|d| d.name.eq_ignore_ascii_case(&name));
        if !is_known {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            let name = if name.chars().all(is_name) { name.as_str() } else { HIDDEN };
            violate(&format!("the key {name} is not a setting of this service"));
        } else if let Some(text) = plain_text(value.kind) {
            let earlier = layer.values.insert(key(&name), text.trim().to_owned());
            if earlier.is_some() {
                violate(&format!("the key {name} appears in upper and in lower case"));
            }
        } else {
            violate(&format!("the key {name} must be a text, a number, true, false or a list"));
        }
    }
    layer
}

/// Returns a TOML value as one would write it into the environment; `None` for tables and nested lists.
fn plain_text(kind: ValueKind) -> Option<String> {
    match kind {
        ValueKind::Nil => Some(String::new()),
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::I128(value) => Some(value.to_string()),
        ValueKind::U64(value) => Some(value.to_string()),
        ValueKind::U128(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
        ValueKind::String(value) => Some(value),
        ValueKind::Array(values) => {
            let is_list = |value: &Value| matches!(value.kind, ValueKind::Array(_));
            if values.iter().any(is_list) {
                return None;
            }
            let texts: Option<Vec<_>> = values.into_iter().map(|v| plain_text(v.kind)).collect();
            texts.map(|texts| texts.join(","))
        }
        ValueKind::Table(_) => None,
    }
}

/// Lays the environment over the file and the file over the defaults, and returns what is not a default.
fn merge(
    declared: &[Declaration],
    file: FileLayer,
    environment: &Environment,
) -> Result<BTreeMap<&'static str, Given>, ConfigError> {
    // Only declared variables reach `config`, which would read a dot in another name as a path.
    let variables = declared.iter().filter_map(|declared| {
        let value = environment.get(declared.name)?;
        Some((declared.name.to_owned(), value.trim().to_owned()))
    });
    let environment =
        config::Environment::default().ignore_empty(true).source(Some(variables.collect()));

    let mut builder = Config::builder();
    for declared in declared {
        builder = builder.set_default(key(declared.name), declared.default.as_str())?;
    }
    let merged = builder.add_source(file).add_source(environment).build()?;

    let mut table = merged.cache.into_table()?;
    let given = declared.iter().filter_map(|declared| {
        let value = table.remove(&key(declared.name))?;
        // A default is the only value without an origin.
        let origin = value.origin()?.to_owned();
        let file = (origin != ENVIRONMENT_ORIGIN).then_some(origin);
        let text = value.into_string().ok()?;
        Some((declared.name, Given::new(text, file)))
    });
    Ok(given.collect())
}

/// Returns a setting's name in lower case, as `config` stores it.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The values of the TOML file as texts.
#[derive(Debug, Clone, Default)]
struct FileLayer {
    path: String,
    values: BTreeMap<String, String>,
}

impl Source for FileLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, ConfigError> {
        let given = self.values.iter();
        let given = given.filter(|(_, text)| !text.is_empty());
        Ok(given
            .map(|(key, text)| (key.clone(), Value::new(Some(&self.path), text.as_str())))
            .collect())
    }
}
