//! The operator, for the record of what was done.

use clap::Args;

/// The operator.
#[derive(Clone, Debug, Args)]
pub struct OperatorArguments {
    /// Your name, for those who read what was done.
    #[arg(long, env = "USER", default_value = "unknown", hide_env = true)]
    by: String,
}

impl OperatorArguments {
    /// Returns the operator's name and host.
    pub fn name(&self) -> String {
        format!("{}@{}", self.by, service_runtime::host_name())
    }
}
