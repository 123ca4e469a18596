//! The operator, for the record of what was done.

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser as _};
use service_runtime::host_name;

/// The operator.
#[derive(Clone, Debug, Args)]
pub struct Operator {
    /// Your name, for those who read what was done.
    #[arg(
        long,
        env = "USER",
        default_value = "unknown",
        hide_env = true,
        value_parser = StringValueParser::new().map(|name| format!("{name}@{}", host_name()))
    )]
    pub(crate) by: String,
}
