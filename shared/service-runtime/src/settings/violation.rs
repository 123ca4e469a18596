//! What is wrong with the settings, worded for the person who has to correct them.

use std::error::Error;
use std::fmt::{self, Display};

use super::given::Given;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The setting's name, or several as `NAME=value` when a rule between them is broken.
    pub name: String,
    message: String,
}

impl Violation {
    pub(super) fn of_value(name: &str, given: &Given, allowed: &str) -> Self {
        Self { name: name.to_owned(), message: format!("{name}={given}: must be {allowed}") }
    }

    pub(super) fn of_rule(given: String, rule: &str) -> Self {
        let message = format!("{given}: {rule}");
        Self { name: given, message }
    }

    pub(super) fn of_file(file: &str, what: &str) -> Self {
        Self { name: "CONFIG_FILE".to_owned(), message: format!("CONFIG_FILE={file}: {what}") }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with the settings, at least one violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub(super) Vec<Violation>);

impl Violations {
    /// Returns the violations in the order of the declarations, those of the file first.
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }
}

impl Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is not usable:")?,
            several => write!(f, "{several} settings are not usable:")?,
        }
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl Error for Violations {}
