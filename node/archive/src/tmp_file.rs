//! [`TmpFile`]: a file that gets its final name only when it is whole.
//!
//! Owns the order that makes a publication survive a power loss: content, fsync, rename, fsync of the directory. Used for uploads to
//! file destinations and for restored databases; all calls block.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

/// Behind the name of a file of the archive: Litestream's, which takes none of them for a file.
pub(crate) const OF_ARCHIVE: &str = ".tmp";
/// Behind the name of a file that a user has named: nobody else calls one of his own like that.
pub(crate) const OF_OUTPUT: &str = ".halite-tmp";

/// A file under construction beside its place, locked against a second writer; removed on drop unless published.
#[derive(Debug)]
pub(crate) struct TmpFile {
    file: File,
    tmp: PathBuf,
    path: PathBuf,
    published: bool,
}

impl TmpFile {
    /// Creates `<path><ending>`, or empties the one that a killed process left behind.
    ///
    /// # Errors
    /// `WouldBlock` if another process writes it at this moment; else what the file system says.
    pub(crate) fn create(path: &Path, ending: &str) -> io::Result<Self> {
        let tmp = suffixed(path, ending);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&tmp)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            // Between open and lock another writer may have published this very file: then it is no longer ours to write.
            let (ours, metadata) = (file.metadata()?, fs::metadata(&tmp));
            match metadata {
                Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => {
                    file.set_len(0)?;
                    return Ok(TmpFile {
                        file,
                        tmp,
                        path: path.to_owned(),
                        published: false,
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the file lies until it is published.
    pub(crate) fn tmp_path(&self) -> &Path {
        &self.tmp
    }

    /// Puts the content on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name unless that name is taken. Call [`sync`](Self::sync) before.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken: nothing has changed then.
    pub(crate) fn publish_new(&mut self) -> io::Result<()> {
        match renameat_with(CWD, &self.tmp, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // Not every file system has it; a hard link refuses an existing name just as well.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(&self.tmp, &self.path)?;
                fs::remove_file(&self.tmp)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.published = true;
        sync_parent(&self.path)
    }

    /// Gives the file its name, in the place of whatever has it. Call [`sync`](Self::sync) before.
    pub(crate) fn publish_over(&mut self) -> io::Result<()> {
        fs::rename(&self.tmp, &self.path)?;
        self.published = true;
        sync_parent(&self.path)
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.tmp)
        {
            tracing::warn!(path = %self.tmp.display(), %error, "cannot remove temporary file");
        }
    }
}

/// `path` with `suffix` at its end (`Path::with_extension` would replace what is there).
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a new, changed or removed name in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// Creates `dir` and what is missing above it, each new name durable.
pub(crate) fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    create_dirs(parent(dir))?;
    match fs::create_dir(dir) {
        Ok(()) => sync_parent(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
