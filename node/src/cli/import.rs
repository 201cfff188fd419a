//! `halite import`: an ordinary SQLite file becomes a database of the cluster.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::json;
use tokio::io::{AsyncRead, ReadBuf};

use super::GlobalArgs;
use super::database::txid_text;
use super::error::{CliError, Outcome};
use super::output::{ProgressLine, human_bytes, print, print_json};
use crate::config::database_name_fault;

/// Import a SQLite file as a new or empty database.
///
/// The file is left as it is, and nobody can write to it while it is read.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The SQLite file
    file: PathBuf,
    /// Name of the database [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// Replace what the database holds
    #[arg(long)]
    overwrite: bool,
}

/// SQLite's own words at the beginning of every database file (https://www.sqlite.org/fileformat.html, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long another writer of the file is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// A writer may slip in between the checkpoint and the lock; a busy one can be outlasted only by chance.
const FREEZE_TRIES: u32 = 3;

pub(crate) async fn run(args: ImportArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let name = database_name(&args)?;
    let path = args.file.clone();
    let frozen = tokio::task::spawn_blocking(move || FrozenFile::open(&path)).await;
    let frozen =
        frozen.map_err(|error| CliError::new(format!("cannot read the file: {error}")))??;
    let client = global.connect().await?;
    let file = File::open(&args.file).map_err(|error| CliError::io(args.file.display(), &error))?;
    let source = Counted {
        inner: tokio::fs::File::from_std(file),
        read_bytes: 0,
        total_bytes: frozen.size_bytes,
        line: ProgressLine::new(),
    };
    let done = client
        .admin()
        .import(&name, frozen.size_bytes, args.overwrite, source)
        .await
        .map_err(|error| {
            let exists = *error.kind() == halite_client::ErrorKind::AlreadyExists;
            let failed = CliError::from(error);
            if exists {
                failed.help("--overwrite replaces what the database holds, --db gives another name")
            } else {
                failed
            }
        })?;
    let size = human_bytes(frozen.size_bytes);
    drop(frozen);
    if global.json {
        print_json(&json!({
            "database": name,
            "txid": txid_text(done.txid),
            "pages": done.page_count,
            "page_size": done.page_size,
        }))?;
    } else {
        print(&format!(
            "imported {} as {name} ({size}, {} pages)\n",
            args.file.display(),
            done.page_count
        ))?;
    }
    Ok(Outcome::Good)
}

fn database_name(args: &ImportArgs) -> Result<String, CliError> {
    let stem = args
        .file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = args.db.clone().or(stem).unwrap_or_default();
    match database_name_fault(&name) {
        Some(fault) if args.db.is_none() => {
            Err(CliError::new(fault).help("--db gives the database a name"))
        }
        Some(fault) => Err(CliError::new(fault)),
        None => Ok(name),
    }
}

/// A SQLite file that nobody writes to while this lives, and whose content is all in the file itself.
#[derive(Debug)]
struct FrozenFile {
    size_bytes: u64,
    /// Holds the write lock. `None` for files that this process may not write to.
    _lock: Option<Connection>,
}

impl FrozenFile {
    /// Refuses what is no SQLite file, brings a write-ahead log back into the file, and locks out writers.
    ///
    /// Every descriptor that this opens for looking is closed before the lock is taken: closing one later would drop the lock.
    fn open(path: &Path) -> Result<Self, CliError> {
        check_header(path)?;
        let lock = lock_out_writers(path)?;
        let size_bytes = std::fs::metadata(path)
            .map_err(|error| CliError::io(path.display(), &error))?
            .len();
        Ok(Self {
            size_bytes,
            _lock: lock,
        })
    }
}

fn check_header(path: &Path) -> Result<(), CliError> {
    let io = |error: io::Error| CliError::io(path.display(), &error);
    let meta = std::fs::metadata(path).map_err(io)?;
    if !meta.is_file() {
        return Err(CliError::new(format!("{} is not a file", path.display())));
    }
    let mut header = Vec::with_capacity(MAGIC.len());
    File::open(path)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut header))
        .map_err(io)?;
    if header.is_empty() {
        let empty = CliError::new(format!(
            "{} is empty: there is nothing to import",
            path.display()
        ));
        return Err(empty.help("`halite db create NAME` makes an empty database"));
    }
    if header != MAGIC {
        let other = CliError::new(format!("{} is not a SQLite database", path.display()));
        return Err(other.help("SQL text is run with `halite sql --db NAME < FILE`; encrypted databases have to be decrypted first"));
    }
    Ok(())
}

fn lock_out_writers(path: &Path) -> Result<Option<Connection>, CliError> {
    let failed = |error: rusqlite::Error| explained(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(path, flags) {
        Ok(connection) if connection.is_readonly("main").map_err(failed)? => return unlocked(path),
        Ok(connection) => connection,
        Err(_) => return unlocked(path),
    };
    connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
    for _ in 0..FREEZE_TRIES {
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(failed)?;
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(failed)?;
        if beside(path, "-wal").is_none() {
            return Ok(Some(connection));
        }
        connection.execute_batch("ROLLBACK").map_err(failed)?;
    }
    Err(in_use(path))
}

/// A file that may not be written to cannot be locked, and is taken as it is if it is whole.
fn unlocked(path: &Path) -> Result<Option<Connection>, CliError> {
    match beside(path, "-wal").or_else(|| beside(path, "-journal")) {
        Some(beside) => {
            let message = format!(
                "{} is not whole: changes are in {}, and it cannot be written to",
                path.display(),
                beside.display()
            );
            Err(CliError::new(message)
                .help("copy both to a place where you may write, and import from there"))
        }
        None => Ok(None),
    }
}

/// The file with `ending` beside `path`, if it is there and holds something.
fn beside(path: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    let beside = PathBuf::from(name);
    std::fs::metadata(&beside)
        .is_ok_and(|meta| meta.len() > 0)
        .then_some(beside)
}

fn in_use(path: &Path) -> CliError {
    CliError::new(format!(
        "{} is in use: another program has a transaction open on it",
        path.display()
    ))
    .help("let that program finish, or stop it, and try again")
}

fn explained(path: &Path, error: &rusqlite::Error) -> CliError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => in_use(path),
        Some(ErrorCode::NotADatabase) => {
            CliError::new(format!("{} is not a SQLite database", path.display()))
        }
        _ => CliError::new(format!("{}: {error}", path.display())),
    }
}

/// Counts what is read, and shows it.
struct Counted {
    inner: tokio::fs::File,
    read_bytes: u64,
    total_bytes: u64,
    line: ProgressLine,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if polled.is_ready() {
            self.read_bytes += (buffer.filled().len() - before) as u64;
            let [read, total] = [self.read_bytes, self.total_bytes].map(human_bytes);
            self.line.show(&format!("importing: {read} of {total}"));
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn words(error: CliError) -> String {
        error.to_string()
    }

    fn sqlite_file(folder: &TempDir, journal_mode: &str) -> (PathBuf, Connection) {
        let path = folder.path().join("app.db");
        let connection = Connection::open(&path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        connection
            .query_row(&format!("PRAGMA journal_mode = {journal_mode}"), [], |_| {
                Ok(())
            })
            .unwrap();
        connection
            .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1);")
            .unwrap();
        (path, connection)
    }

    #[test]
    fn what_is_no_sqlite_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(
            words(FrozenFile::open(&path("none")).unwrap_err())
                .ends_with("none: No such file or directory")
        );
        assert!(words(FrozenFile::open(folder.path()).unwrap_err()).ends_with("is not a file"));
        std::fs::write(path("empty"), "").unwrap();
        assert!(words(FrozenFile::open(&path("empty")).unwrap_err()).contains("is empty"));
        std::fs::write(path("text"), "CREATE TABLE t(a);").unwrap();
        assert!(
            words(FrozenFile::open(&path("text")).unwrap_err())
                .ends_with("is not a SQLite database")
        );
        std::fs::write(path("short"), "SQLite").unwrap();
        assert!(
            words(FrozenFile::open(&path("short")).unwrap_err())
                .ends_with("is not a SQLite database")
        );
    }

    #[test]
    fn a_frozen_file_holds_its_log_and_locks_out_writers() {
        for mode in ["wal", "delete"] {
            let folder = tempfile::tempdir().unwrap();
            let (path, writer) = sqlite_file(&folder, mode);
            let frozen = FrozenFile::open(&path).unwrap();
            assert_eq!(beside(&path, "-wal"), None, "{mode}");
            assert_eq!(frozen.size_bytes, 2 * 4096, "{mode}");
            let refused = writer.execute("INSERT INTO t VALUES (2)", []).unwrap_err();
            assert_eq!(
                refused.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy),
                "{mode}"
            );
            drop(frozen);
            writer.execute("INSERT INTO t VALUES (2)", []).unwrap();
        }
    }

    #[test]
    fn the_name_comes_from_the_file_unless_it_is_given() {
        let args = |file: &str, db: Option<&str>| ImportArgs {
            file: PathBuf::from(file),
            db: db.map(str::to_owned),
            overwrite: false,
        };
        assert_eq!(database_name(&args("/x/app.db", None)).unwrap(), "app");
        assert_eq!(database_name(&args("/x/app.db", Some("b"))).unwrap(), "b");
        let error = database_name(&args("/x/my app.db", None)).unwrap_err();
        assert!(
            matches!(&error, CliError::Failed { message, help: Some(_) } if message.contains("`my app`")),
            "{error:?}"
        );
    }
}
