//! The manual: what is declared, as a text for `--help` and as a table for a README.

use std::fmt::Write;

use super::{FromSettings, declarations};

/// One setting as it is declared in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The variable's name; a raw number's unit is its last word.
    pub name: &'static str,
    /// The default as one would write it; empty when unset by default.
    pub default: String,
    /// What is allowed, such as `a whole number from 1 to 10`.
    pub allowed: String,
    /// One sentence of meaning.
    pub meaning: &'static str,
}

/// Returns the settings of `T` as paragraphs for `--help`.
pub fn manual<T: FromSettings>() -> String {
    let mut text = String::from(
        "Settings (environment, or the TOML file that CONFIG_FILE names; an empty variable counts as unset):\n",
    );
    for declared in declarations::<T>() {
        let Declaration { name, default, allowed, meaning } = declared;
        write_infallible(
            &mut text,
            format_args!("\n  {name}={default}\n      {meaning}\n      Allowed: {allowed}.\n"),
        );
    }
    text
}

/// Returns the settings of `T` as the rows of a Markdown table: name, default, allowed, meaning.
pub fn markdown_table<T: FromSettings>() -> String {
    let mut table = String::from("| setting | default | allowed | meaning |\n|---|---|---|---|\n");
    for declared in declarations::<T>() {
        let default = match declared.default.as_str() {
            "" => "unset".to_owned(),
            default => format!("`{default}`"),
        };
        let Declaration { name, allowed, meaning, .. } = declared;
        write_infallible(
            &mut table,
            format_args!("| `{name}` | {default} | {allowed} | {meaning} |\n"),
        );
    }
    table
}

fn write_infallible(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(arguments).unwrap_or_default();
}
