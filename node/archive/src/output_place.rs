//! [`OutputPlace`]: where a database file is going to lie, and what it replaces there.
//!
//! Looked at before anything is written, by restores and exports alike: what is not a regular file is never replaced, no folder is made, and what
//! takes the place of a file keeps its owner and mode. All calls block.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::tmp_file::suffixed;

/// What SQLite keeps beside a database; left over from another one, it would corrupt this one.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// See the module.
#[derive(Debug)]
pub struct OutputPlace {
    /// The file itself, where a symbolic link leads to it.
    path: PathBuf,
    replaced: Option<Metadata>,
    force: bool,
}

/// Why no file may be written there. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputPlaceError {
    /// Something is there already. (With `force` it is replaced.)
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// What is there is nothing to be replaced.
    #[error("{} is {kind} and is not replaced", path.display())]
    NotAFile {
        /// What was looked at.
        path: PathBuf,
        /// What it is, in words.
        kind: &'static str,
    },
    /// Its folder is not there.
    #[error("folder {} is not there", .0.display())]
    NoFolder(PathBuf),
    /// The file system refuses.
    #[error("cannot look at {}: {source}", path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl OutputPlace {
    /// Looks at `path`. What is there is in the way unless `force`.
    ///
    /// # Errors
    /// [`OutputPlaceError`]
    pub fn look(path: &Path, force: bool) -> Result<Self, OutputPlaceError> {
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => path,
        };
        if !folder.is_dir() {
            return Err(OutputPlaceError::NoFolder(folder.to_owned()));
        }
        let mut place = OutputPlace {
            path: path.to_owned(),
            replaced: None,
            force,
        };
        let there = [path.to_owned()].into_iter().chain(place.companions());
        for there in there {
            if look_at(&there)?.is_some() && !force {
                return Err(OutputPlaceError::Exists(there));
            }
        }
        let Some(found) = look_at(path)? else {
            return Ok(place);
        };
        let io = |source| OutputPlaceError::Io {
            path: path.to_owned(),
            source,
        };
        let found = if found.is_symlink() {
            place.path = fs::canonicalize(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => not_a_file(path, "a symbolic link to nothing"),
                _ => io(error),
            })?;
            fs::metadata(path).map_err(io)?
        } else {
            found
        };
        let kind = found.file_type();
        let other = if kind.is_dir() {
            "a folder"
        } else if kind.is_fifo() {
            "a FIFO"
        } else if kind.is_socket() {
            "a socket"
        } else if kind.is_file() {
            place.replaced = Some(found);
            return Ok(place);
        } else {
            "a device"
        };
        Err(not_a_file(path, other))
    }

    /// Where the file has to get: never a symbolic link to a file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there is to be replaced.
    pub fn force(&self) -> bool {
        self.force
    }

    /// Files of another database that would be taken for those of the new one.
    pub fn companions(&self) -> [PathBuf; 3] {
        companions(&self.path)
    }

    /// Removes the companions. To be called before the new file gets its name: an old WAL beside it would be taken for its own after a crash in
    /// between.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove_companions(&self) -> io::Result<()> {
        self.companions().iter().try_for_each(|path| remove(path))
    }

    /// Gives the new file the owner and the mode of the one that it replaces.
    ///
    /// # Errors
    /// The file system's: only root may give a file to somebody else.
    pub fn dress(&self, file: &File) -> io::Result<()> {
        let Some(old) = &self.replaced else {
            return Ok(());
        };
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "it belongs to user {} and group {}, and the new one cannot be given to them: {error}",
                        old.uid(),
                        old.gid()
                    ),
                )
            })?;
        }
        // After the owner: changing that takes bits of the mode away.
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
    }
}

pub(crate) fn companions(path: &Path) -> [PathBuf; 3] {
    COMPANIONS.map(|suffix| suffixed(path, suffix))
}

fn not_a_file(path: &Path, kind: &'static str) -> OutputPlaceError {
    OutputPlaceError::NotAFile {
        path: path.to_owned(),
        kind,
    }
}

fn look_at(path: &Path) -> Result<Option<Metadata>, OutputPlaceError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OutputPlaceError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn words(path: &Path, force: bool) -> String {
        OutputPlace::look(path, force).unwrap_err().to_string()
    }

    #[test]
    fn only_regular_files_are_replaced_and_no_folder_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(OutputPlace::look(&path("new"), false).is_ok());
        assert!(words(&path("nowhere/new"), true).ends_with("nowhere is not there"));
        assert!(!path("nowhere").exists());
        assert!(words(dir.path(), true).contains("is a folder"));
        assert!(words(Path::new("/dev/null"), true).contains("is a device"));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(words(&path("socket"), true).contains("is a socket"));
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        fifo.unwrap();
        assert!(words(&path("fifo"), true).contains("is a FIFO"));
        symlink(path("nothing"), path("dangling")).unwrap();
        assert!(words(&path("dangling"), false).contains("is there already"));
        assert!(words(&path("dangling"), true).contains("a symbolic link to nothing"));
        symlink("/dev/null", path("to-null")).unwrap();
        assert!(words(&path("to-null"), true).contains("is a device"));
        fs::write(path("old-wal"), "").unwrap();
        assert!(words(&path("old"), false).ends_with("old-wal is there already"));
    }

    #[test]
    fn links_are_followed_and_owner_and_mode_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/old"), "old").unwrap();
        fs::set_permissions(path("real/old"), Permissions::from_mode(0o640)).unwrap();
        symlink(path("real/old"), path("link")).unwrap();
        let place = OutputPlace::look(&path("link"), true).unwrap();
        let real = fs::canonicalize(path("real/old")).unwrap();
        assert_eq!(place.path(), real);
        assert_eq!(place.companions()[0], suffixed(&real, "-wal"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&real, Some(12), Some(34)).unwrap();
        }
        let place = OutputPlace::look(&path("link"), true).unwrap();
        let old = fs::metadata(&real).unwrap();
        let new = File::create(path("real/new")).unwrap();
        place.dress(&new).unwrap();
        let new = new.metadata().unwrap();
        assert_eq!(
            (new.uid(), new.gid(), new.mode()),
            (old.uid(), old.gid(), old.mode())
        );
    }
}
