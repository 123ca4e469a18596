//! The manual: what is declared, as a text for `--help` and as a table for the documents.

use std::fmt::Write;

use super::declaration::Declaration;
use super::reading::{FromSettings, declarations};

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
