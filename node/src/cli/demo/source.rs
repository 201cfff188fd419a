//! The SQLite file that the cluster gets: a copy of the user's, or one that is made up.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use halite_pager::beside;
use rusqlite::{Connection, OpenFlags, params};

use super::copies;
use crate::cli::error::CliError;

const BUSY_WAIT: Duration = Duration::from_secs(5);
const MADE_UP_ROWS: i64 = 3000;
/// Place of "file format read version" in the header; 2 means write-ahead log
/// (https://www.sqlite.org/fileformat.html, section 1.3.3).
const READ_VERSION_AT: usize = 19;
const WAL_VERSION: u8 = 2;

/// A sound SQLite file of our own, all in one file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    /// Names of everything in its schema.
    pub(super) names: Vec<String>,
    /// What it is, for people.
    pub(super) title: String,
}

impl Source {
    /// Copies `given`, which is only read, or makes a file up. Blocks.
    pub(super) fn prepare(given: Option<&Path>, folder: &Path) -> Result<Self, CliError> {
        let path = folder.join("source.db");
        let title = match given {
            Some(given) => {
                copy(given, &path)?;
                format!("copied {}", given.display())
            }
            None => {
                let made = make_up(&path);
                made.map_err(|error| CliError::new(format!("cannot make a database: {error}")))?;
                format!(
                    "made a database: {MADE_UP_ROWS} articles with an index and full-text search"
                )
            }
        };
        let unsound = |why: String| {
            CliError::new(format!(
                "{}: {why}",
                given.unwrap_or(path.as_path()).display()
            ))
        };
        copies::integrity(&path).map_err(unsound)?;
        let names = names(&path).map_err(|error| unsound(error.to_string()))?;
        let size_bytes = std::fs::metadata(&path)
            .map_err(|error| CliError::io(path.display(), &error))?
            .len();
        Ok(Self {
            path,
            size_bytes,
            names,
            title,
        })
    }
}

fn names(path: &Path) -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open(path)?;
    // Brings a write-ahead log back into the file, and does away with it.
    connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    let mut names = connection.prepare("SELECT name FROM sqlite_schema")?;
    let names = names.query_map([], |row| row.get(0))?;
    names.collect()
}

/// Copies a database that other programs may be using, as it stands at one moment, without touching it.
fn copy(from: &Path, to: &Path) -> Result<(), CliError> {
    let io = |error: io::Error| CliError::io(from.display(), &error);
    if !std::fs::metadata(from).map_err(io)?.is_file() {
        return Err(CliError::new(format!("{} is not a file", from.display())));
    }
    let mut header = Vec::with_capacity(100);
    let file = File::open(from).map_err(io)?;
    file.take(100).read_to_end(&mut header).map_err(io)?;
    if !header.starts_with(b"SQLite format 3\0") {
        let what = if header.is_empty() {
            "is empty"
        } else {
            "is not a SQLite database"
        };
        return Err(CliError::new(format!("{} {what}", from.display())));
    }
    let log = beside(from, "-wal");
    let uses_log = header.get(READ_VERSION_AT) == Some(&WAL_VERSION);
    // Without a log nobody has the file open, and merely opening it would create one.
    let reader = if uses_log && !log.exists() {
        None
    } else {
        Some(hold(from).map_err(|error| {
            CliError::new(format!("{} cannot be read: {error}", from.display()))
        })?)
    };
    // While the reader's transaction is open, no page that it may see is overwritten, neither in the file nor in the log. Closing any
    // descriptor of the file would end its lock: all stay open until everything is copied.
    let mut open = vec![copy_bytes(from, to).map_err(io)?];
    if uses_log && log.exists() {
        open.push(copy_bytes(&log, &beside(to, "-wal")).map_err(io)?);
    }
    drop(reader);
    drop(open);
    Ok(())
}

/// A read transaction.
fn hold(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
    Ok(connection)
}

fn copy_bytes(from: &Path, to: &Path) -> io::Result<File> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    io::copy(&mut source, &mut target)?;
    Ok(source)
}

const WORDS: [&str; 24] = [
    "salt", "crystal", "cube", "brine", "mine", "harbour", "winter", "ledger", "quorum", "anchor",
    "lantern", "river", "copper", "orchard", "letter", "station", "glass", "meadow", "signal",
    "bridge", "paper", "market", "island", "engine",
];

/// Articles with an index over two columns and a full-text index: what applications have.
fn make_up(path: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "CREATE TABLE article(id INTEGER PRIMARY KEY, author TEXT NOT NULL, written TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL);
         CREATE INDEX article_by_author ON article(author, written);
         CREATE VIRTUAL TABLE article_search USING fts5(title, body, content='article', content_rowid='id');",
    )?;
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let transaction = connection.transaction()?;
    for _ in 0..MADE_UP_ROWS {
        let mut text = |words: u64| {
            let words = (0..words).map(|_| WORDS[next(WORDS.len() as u64) as usize]);
            words.collect::<Vec<_>>().join(" ")
        };
        let (title, body) = (text(3), text(40));
        let author = format!("author {}", next(50));
        let written = format!(
            "20{:02}-{:02}-{:02}",
            10 + next(16),
            1 + next(12),
            1 + next(28)
        );
        transaction.execute(
            "INSERT INTO article(author, written, title, body) VALUES (?1, ?2, ?3, ?4)",
            params![author, written, title, body],
        )?;
    }
    transaction.execute_batch("INSERT INTO article_search(article_search) VALUES ('rebuild')")?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Everything in the folder, byte by byte.
    fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    #[test]
    fn a_made_up_database_is_sound_and_searchable() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::prepare(None, folder.path()).unwrap();
        assert!(source.names.iter().any(|name| name == "article_by_author"));
        let connection = Connection::open(&source.path).unwrap();
        let count = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(count("SELECT count(*) FROM article"), MADE_UP_ROWS);
        let found = count("SELECT count(*) FROM article_search WHERE article_search MATCH 'salt'");
        assert!(found > 0 && found < MADE_UP_ROWS, "{found}");
    }

    #[test]
    fn a_given_file_is_copied_with_its_log_and_left_as_it_is() {
        for mode in ["delete", "wal"] {
            for open in [false, true] {
                let [given, target] = [(); 2].map(|()| tempfile::tempdir().unwrap());
                let path = given.path().join("app.db");
                let user = Connection::open(&path).unwrap();
                user.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))
                    .unwrap();
                user.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2);")
                    .unwrap();
                let user = if open {
                    Some(user)
                } else {
                    drop(user);
                    None
                };
                let before = content(given.path());
                let source = Source::prepare(Some(&path), target.path()).unwrap();
                let after = content(given.path());
                // Readers leave their marks in the shared memory of a log that is in use; that is no content.
                let marks = |path: &&PathBuf| !path.to_string_lossy().ends_with("-shm");
                assert!(before.keys().eq(after.keys()), "{mode} {open}");
                assert!(
                    before
                        .keys()
                        .filter(marks)
                        .all(|path| before[path] == after[path]),
                    "{mode} {open}"
                );
                let copy = Connection::open(&source.path).unwrap();
                let sum: i64 = copy
                    .query_row("SELECT sum(a) FROM t", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(
                    (sum, source.names.as_slice()),
                    (3, ["t".to_owned()].as_slice())
                );
                drop(user);
            }
        }
    }

    #[test]
    fn what_cannot_be_imported_is_refused() {
        let [given, target] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let path = given.path().join("app.db");
        let words = |path: &Path| {
            Source::prepare(Some(path), target.path())
                .unwrap_err()
                .to_string()
        };
        assert!(words(&path).contains("No such file"));
        assert!(words(given.path()).ends_with("is not a file"));
        std::fs::write(&path, "").unwrap();
        assert!(words(&path).ends_with("is empty"));
        std::fs::write(&path, "CREATE TABLE t(a)").unwrap();
        assert!(words(&path).ends_with("is not a SQLite database"));
        std::fs::remove_file(&path).unwrap();
        make_up(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 * 20..4096 * 22].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(words(&path).contains("app.db: "), "{}", words(&path));
    }
}
