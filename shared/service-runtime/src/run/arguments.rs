//! The end of a process whose command line cannot be used.

use std::process::ExitCode;

/// `EX_USAGE` of sysexits.h, as for bad settings.
const BAD_USAGE: u8 = 64;

/// Prints the error of the arguments, or the requested help, and returns the exit code: 64 or 0.
pub fn explain(error: &clap::Error) -> ExitCode {
    // A closed terminal is no further error; the exit code reports the failure.
    error.print().unwrap_or_default();
    if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS }
}
