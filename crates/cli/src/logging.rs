//! Log lines of this process: to the standard error, for people or for programs.
//!
//! Never configured below `main`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{Global, LogFormat};
use crate::failure::Failure;

/// Begins logging. Called once.
pub(crate) fn init(global: &Global) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log_filter).map_err(|error| {
        Failure::usage(
            format!("the log filter {:?} cannot be read: {error}", global.log_filter),
            "Write a level (error, warn, info, debug, trace) or parts such as greenroom_control=debug,info.",
        )
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match global.log {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
