//! [`FileDestination`]: an archive in a directory.
//!
//! Owns the layout `<path>/ltx/<level>/<min>-<max>.ltx`, with the LTX timestamp as the file's modification time, as Litestream has
//! it. All file calls go through [`Blocking`].

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use halite_ltx::{HEADER_LEN, Header, Txid, parse_file_name};
use jiff::Timestamp;

use super::header_timestamp;
use crate::tmp_file::{OF_ARCHIVE, TmpFile, create_dirs, sync_parent};
use crate::{
    Blocking, Content, Destination, DestinationError, FileInfo, FileKey, FileReader, Level, Upload,
    run_blocking,
};

const WRITE_BUFFER_BYTES: usize = 1024 * 1024;

/// An archive in a directory of a local or mounted file system.
#[derive(Clone, Debug)]
pub struct FileDestination {
    url: String,
    root: PathBuf,
    blocking: Arc<dyn Blocking>,
}

impl FileDestination {
    /// The archive below `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>, blocking: Arc<dyn Blocking>) -> Self {
        let path: PathBuf = path.into();
        let root = path.join("ltx");
        let url = format!("file://{}", path.display());
        FileDestination {
            url,
            root,
            blocking,
        }
    }

    fn level_dir(&self, level: Level) -> PathBuf {
        self.root.join(level.to_string())
    }

    fn path(&self, key: FileKey) -> PathBuf {
        self.level_dir(key.level).join(key.file_name())
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(FileDestination) -> Result<T, DestinationError> + Send + 'static,
    ) -> Result<T, DestinationError> {
        let this = self.clone();
        run_blocking(&*self.blocking, move || job(this)).await?
    }

    fn list_now(&self, level: Level, seek: Txid) -> Result<Vec<FileInfo>, DestinationError> {
        let dir = self.level_dir(level);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list directory", &dir, error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list directory", &dir, error))?;
            let name = entry.file_name();
            let Some((min, max)) = name.to_str().and_then(|name| parse_file_name(name).ok()) else {
                continue;
            };
            if min < seek {
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                // Deleted since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("read metadata of", &entry.path(), error)),
            };
            let timestamp = metadata
                .modified()
                .and_then(|time| Timestamp::try_from(time).map_err(io::Error::other))
                .map_err(|error| failed("read modification time of", &entry.path(), error))?;
            let key = FileKey::new(level, min, max);
            files.push(FileInfo {
                key,
                bytes: metadata.len(),
                timestamp,
            });
        }
        files.sort_unstable_by_key(|file| file.key);
        Ok(files)
    }

    fn time_in(&self, key: FileKey) -> Option<Timestamp> {
        let mut header = [0; HEADER_LEN];
        File::open(self.path(key))
            .ok()?
            .read_exact(&mut header)
            .ok()?;
        Header::decode(&header).ok().as_ref().map(header_timestamp)
    }

    fn open_now(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> Result<FileReader, DestinationError> {
        let path = self.path(key);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DestinationError::NotFound {
                url: self.url.clone(),
                key,
            },
            _ => failed("open file", &path, error),
        })?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))
                .map_err(|error| failed("seek in file", &path, error))?;
        }
        Ok(match len {
            Some(len) => Box::new(file.take(len)),
            None => Box::new(file),
        })
    }

    fn put_now(&self, upload: Upload) -> Result<FileInfo, DestinationError> {
        let Upload {
            key,
            timestamp,
            content,
        } = upload;
        let path = self.path(key);
        let dir = self.level_dir(key.level);
        create_dirs(&dir).map_err(|error| failed("create directory", &dir, error))?;
        let mut tmp = TmpFile::create(&path, OF_ARCHIVE).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DestinationError::Busy { path: path.clone() },
            _ => failed("create temporary file for", &path, error),
        })?;
        let bytes = write_content(tmp.file(), key, &path, content)?;
        tmp.file()
            .set_modified(SystemTime::from(timestamp))
            .and_then(|()| tmp.sync())
            .map_err(|error| failed("sync file", &path, error))?;
        match tmp.publish_new() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let same = same_content(tmp.tmp_path(), &path)
                    .map_err(|error| failed("compare file", &path, error))?;
                if !same {
                    return Err(DestinationError::Conflict {
                        url: self.url.clone(),
                        key,
                    });
                }
                // The attempt that wrote it may have been killed before its name was durable.
                sync_parent(&path).map_err(|error| failed("sync directory of", &path, error))?;
            }
            Err(error) => return Err(failed("publish file", &path, error)),
        }
        Ok(FileInfo {
            key,
            bytes,
            timestamp,
        })
    }

    fn delete_now(&self, keys: &[FileKey]) -> Result<(), DestinationError> {
        let mut removed: Option<PathBuf> = None;
        for &key in keys {
            let path = self.path(key);
            match fs::remove_file(&path) {
                Ok(()) => removed = Some(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove file", &path, error)),
            }
        }
        // A removal that a power loss undoes is harmless; the sync is only for the order of what follows.
        removed.map_or(Ok(()), |path| {
            sync_parent(&path).map_err(|error| failed("sync directory of", &path, error))
        })
    }
}

impl Destination for FileDestination {
    fn url(&self) -> &str {
        &self.url
    }

    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(self.run(move |this| this.list_now(level, seek)))
    }

    fn dated(
        &self,
        files: Vec<FileInfo>,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(self.run(move |this| {
            let dated = files.into_iter().map(|file| FileInfo {
                timestamp: this.time_in(file.key).unwrap_or(file.timestamp),
                ..file
            });
            Ok(dated.collect())
        }))
    }

    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>> {
        Box::pin(self.run(move |this| this.open_now(key, offset, len)))
    }

    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>> {
        Box::pin(self.run(move |this| this.put_now(upload)))
    }

    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>> {
        Box::pin(self.run(move |this| this.delete_now(&keys)))
    }
}

/// Writes the content and returns its length. Tells a failing disk from a failing producer, which sees the disk's errors first.
fn write_content(
    file: &File,
    key: FileKey,
    path: &Path,
    content: Content,
) -> Result<u64, DestinationError> {
    let mut writer = BufWriter::with_capacity(
        WRITE_BUFFER_BYTES,
        CountingWriter {
            file,
            bytes: 0,
            error: None,
        },
    );
    let produced = match content {
        Content::Bytes(bytes) => writer.write_all(&bytes).map_err(Into::into),
        Content::Writer(write) => write(&mut writer),
    };
    let flushed = if produced.is_ok() {
        writer.flush()
    } else {
        Ok(())
    };
    let (counting, _) = writer.into_parts();
    if let Some(error) = counting.error {
        return Err(failed("write file", path, error));
    }
    produced.map_err(|source| DestinationError::Content { key, source })?;
    flushed.map_err(|error| failed("write file", path, error))?;
    Ok(counting.bytes)
}

/// Counts what reaches the file and keeps the first error of the file system.
struct CountingWriter<'a> {
    file: &'a File,
    bytes: u64,
    error: Option<io::Error>,
}

impl Write for CountingWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.file.write(buf) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.error.get_or_insert(error);
                Err(copy)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    let (mut left, mut right) = ([0; 8192], [0; 8192]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(b.read(&mut right[..1])? == 0);
        }
        match b.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> DestinationError {
    DestinationError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
