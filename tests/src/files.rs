//! Copies of data directories, as a backup program would make them of a node that does not run.

use std::path::Path;

use anyhow::{Context, Result};

/// Copies a directory with everything in it.
///
/// # Errors
/// The operating system's.
pub fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
