//! This very program, for commands that start nodes or run other commands of it: `dev`, `demo`, `bench`.

use std::path::PathBuf;

use super::error::CliError;

/// Where it is.
///
/// # Errors
/// The system does not tell.
pub(super) fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| CliError::io("cannot find the halite program", &error))
}
