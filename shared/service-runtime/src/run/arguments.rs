//! The end of a process whose command line cannot be used.

use std::process::ExitCode;

/// `EX_USAGE` of sysexits.h, as for bad settings.
const BAD_USAGE: u8 = 64;

/// Prints what is wrong with the arguments, or the help that they ask for, and returns the exit code: 64 or 0.
pub fn explain(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed terminal; the exit code says the same.
    error.print().unwrap_or_default();
    if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS }
}
