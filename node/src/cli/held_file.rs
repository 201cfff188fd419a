//! Files that a program holds as its database are not replaced: whoever has one open would go on with the old file, which has no name any more, and
//! a node would find another one at its next start.
//!
//! SQLite keeps a lock on a database in WAL mode as long as it is open, and so does a node on its log; both show whoever holds them.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::error::CliError;

/// Refuses a path whose file is held. One that is not there is held by nobody.
///
/// # Errors
/// Somebody holds it, or it cannot be looked at.
pub(crate) fn refuse_held(path: &Path) -> Result<(), CliError> {
    // A symbolic link to nothing is refused elsewhere.
    let Ok(file) = path.canonicalize() else {
        return Ok(());
    };
    if !file.is_file() {
        return Ok(());
    }
    let cannot_look =
        |error: io::Error| CliError::io(format!("cannot look at {}", path.display()), &error);
    if let Some(data_dir) = data_dir_of(&file)
        && let Some(pid) = holder(&data_dir.join("log/rocksdb/LOCK")).map_err(cannot_look)?
    {
        return Err(CliError::new(format!(
            "{} is in the data directory of a node that runs (process {pid}), and is not replaced",
            path.display()
        ))
        .help("write it to another place; `halite import FILE --db NAME --overwrite` brings its content into a database"));
    }
    match holder(&file).map_err(cannot_look)? {
        Some(pid) => Err(CliError::new(format!(
            "{} is open as a database in process {pid}, and is not replaced",
            path.display()
        ))
        .help("stop that program first, or write to another place")),
        None => Ok(()),
    }
}

/// The data directory of a node whose database the file is, if it is one.
fn data_dir_of(file: &Path) -> Option<&Path> {
    let databases = file.parent()?;
    let data_dir = databases.parent()?;
    let is_its = crate::cluster::opener::databases_dir(data_dir) == databases;
    is_its.then_some(data_dir)
}

/// The process that has a lock on any part of the file; nobody has one on a file that is not there.
fn holder(path: &Path) -> io::Result<Option<i32>> {
    // Nobody of this process has it open: closing it lets go of no lock.
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let whole = Flock::from(FlockType::WriteLock);
    let held = fcntl_getlk(&file, &whole)?;
    Ok(held.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_a_data_directory_are_told_by_their_place() {
        let of = |path| data_dir_of(Path::new(path));
        assert_eq!(of("/data/db/app.db"), Some(Path::new("/data")));
        assert_eq!(of("/data/app.db"), None);
        assert_eq!(of("/app.db"), None);
    }

    #[test]
    fn a_file_that_nobody_holds_may_be_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("app.db");
        assert!(refuse_held(&file).is_ok());
        std::fs::write(&file, "x").expect("written");
        assert!(refuse_held(&file).is_ok());
        assert!(refuse_held(dir.path()).is_ok());
    }
}
