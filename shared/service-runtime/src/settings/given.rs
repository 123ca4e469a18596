//! A value that the file or the environment gives.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use super::secret_url::HIDDEN;

/// Variables by name, as the process environment has them.
pub type Environment = BTreeMap<String, String>;

/// A value that some layer gave, with where it was given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// The text as given, without white space around it.
    pub(crate) text: String,
    /// The file's name; `None` for the environment.
    pub(crate) file: Option<String>,
    /// What is printed in place of the text.
    pub(crate) shown: String,
}

impl Given {
    /// Takes a text as given, which is printed unless it looks as if it carried a password: `user:password@host`.
    pub(crate) fn new(text: String, file: Option<String>) -> Self {
        let is_plain = !text.contains('@') && !text.contains("://");
        let shown = if is_plain { text.clone() } else { HIDDEN.to_owned() };
        Self { text, file, shown }
    }
}

impl Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)?;
        match &self.file {
            Some(file) => write!(f, " (in {file})"),
            None => Ok(()),
        }
    }
}
