//! The file that a copy is written to until it is whole, beside its place, so that a rename can give it the name.
//!
//! Owns its name and its lock. Whoever writes it holds the lock; a file of the name that nobody holds was left by a process that was killed, and the
//! next export to the folder removes it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::NamedTempFile;

const PREFIX: &str = ".halite-export-";

/// A file in `folder` that this process holds. It is removed when dropped.
pub(super) fn create(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        match flock(made.as_file(), FlockOperation::NonBlockingLockExclusive) {
            // Before it was held, somebody who tidies up may have taken it for one that nobody holds.
            Ok(()) if !is_at(made.as_file(), made.path()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            // A file system without locks: nobody can hold a file there, so none is removed either.
            _ => return Ok(made),
        }
    }
}

/// Removes what killed exports have left in `folder`, and says what. What cannot be looked at stays.
pub(super) fn remove_left(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(named)
        .filter(|path| remove_unless_held(path).is_ok())
        .collect()
}

/// An error if somebody holds it, or it is no file of ours.
fn remove_unless_held(path: &Path) -> io::Result<()> {
    let nofollow = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nofollow)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // It may have got its final name since.
    if !is_at(&file, path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    fs::remove_file(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(found)) => (ours.dev(), ours.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed_and_what_somebody_holds_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let held = create(folder.path()).unwrap();
        let left = create(folder.path()).unwrap();
        // As a process that was killed leaves it.
        let (file, path) = left.into_parts();
        let left = path.keep().unwrap();
        drop(file);
        for other in ["app.db", ".halite", "x.halite-export-1"] {
            fs::write(at(other), other).unwrap();
        }
        fs::create_dir(at(".halite-export-folder")).unwrap();
        std::os::unix::fs::symlink(at("app.db"), at(".halite-export-link")).unwrap();
        let removed = remove_left(folder.path());
        assert_eq!(removed.iter().collect::<Vec<_>>(), [&left]);
        assert!(!left.exists() && held.path().exists());
        let kept = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(kept, 6);
        drop(held);
        assert_eq!(remove_left(folder.path()), [] as [PathBuf; 0]);
        assert!(remove_left(&at("nothing")).is_empty());
    }

    #[test]
    fn those_who_tidy_up_take_nothing_from_those_who_begin() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            let begin = || {
                for _ in 0..300 {
                    let mine = create(folder.path()).unwrap();
                    assert!(is_at(mine.as_file(), mine.path()));
                }
            };
            let tidy = || {
                for _ in 0..300 {
                    remove_left(folder.path());
                }
            };
            threads.spawn(begin);
            threads.spawn(begin);
            threads.spawn(tidy);
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
