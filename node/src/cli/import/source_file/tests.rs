use super::*;
use tempfile::TempDir;

fn refusal(path: &Path) -> String {
    SourceFile::open(path, false).unwrap_err().to_string()
}

fn sqlite_file(folder: &TempDir, journal_mode: &str) -> (PathBuf, Connection) {
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
        .pragma_update(None, "journal_mode", journal_mode)
        .unwrap();
    connection
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1);")
        .unwrap();
    (path, connection)
}

/// A file of many pages, with an index.
fn large_file(folder: &TempDir) -> PathBuf {
    let (path, connection) = sqlite_file(folder, "delete");
    connection
        .execute_batch(
            "CREATE INDEX i ON t(a);
             WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 5000)
             INSERT INTO t SELECT n FROM c;",
        )
        .unwrap();
    path
}

/// What the cluster would get, as a file.
fn poured(source: &SourceFile, folder: &TempDir) -> PathBuf {
    let mut bytes = Vec::new();
    source
        .pour(|piece| {
            bytes.extend_from_slice(&piece);
            true
        })
        .unwrap();
    assert_eq!(bytes.len() as u64, source.size_bytes());
    let path = folder.path().join("poured.db");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn rows(path: &Path) -> i64 {
    Connection::open(path)
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn what_is_no_sqlite_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(refusal(&path("none")).ends_with("none: No such file or directory"));
    assert!(refusal(folder.path()).ends_with("is not a file"));
    std::fs::write(path("empty"), "").unwrap();
    assert!(refusal(&path("empty")).contains("is empty"));
    std::fs::write(path("text"), "CREATE TABLE t(a);").unwrap();
    assert!(refusal(&path("text")).ends_with("is not a SQLite database"));
    std::fs::write(path("short"), "SQLite").unwrap();
    assert!(refusal(&path("short")).ends_with("is not a SQLite database"));
}

#[test]
fn all_of_a_file_is_read_and_writers_are_locked_out_meanwhile() {
    for mode in ["wal", "delete"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, writer) = sqlite_file(&folder, mode);
        let source = SourceFile::open(&path, false).unwrap();
        assert_eq!(rows(&poured(&source, &folder)), 1, "{mode}");
        let refused = writer.execute("INSERT INTO t VALUES (2)", []).unwrap_err();
        assert_eq!(
            refused.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy),
            "{mode}"
        );
        drop(source);
        writer.execute("INSERT INTO t VALUES (2)", []).unwrap();
    }
}

/// Looking for the log beside the link would find none, and lose what is in it.
#[test]
fn what_is_in_the_log_is_found_through_a_symbolic_link_and_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = sqlite_file(&folder, "wal");
    // The log of a program that died: nobody has the file open.
    let (crashed, log) = (
        folder.path().join("crashed.db"),
        filled_beside(&path, "-wal"),
    );
    std::fs::copy(&path, &crashed).unwrap();
    let crashed_log = folder.path().join("crashed.db-wal");
    std::fs::copy(log.unwrap(), &crashed_log).unwrap();
    drop(writer);
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(&crashed, &link).unwrap();
    let before = [&crashed, &crashed_log].map(|path| std::fs::read(path).unwrap());
    let source = SourceFile::open(&link, false).unwrap();
    assert_eq!(rows(&poured(&source, &folder)), 1);
    drop(source);
    let after = [&crashed, &crashed_log].map(|path| std::fs::read(path).unwrap());
    assert!(before == after, "the file and its log are as before");
}

#[test]
fn a_file_that_is_cut_off_is_refused_also_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = large_file(&folder);
    let file = File::options().write(true).open(&path).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes - 4096).unwrap();
    let words = refusal(&path);
    let expected = format!("it has {} bytes and should have {bytes}", bytes - 4096);
    assert!(words.contains(&expected), "{words}");
    assert!(SourceFile::open(&path, true).is_err());
}

#[test]
fn a_length_of_no_whole_pages_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = large_file(&folder);
    let file = File::options().write(true).open(&path).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes + 100).unwrap();
    let words = refusal(&path);
    assert!(words.contains("not a whole number of pages"), "{words}");
    let source = SourceFile::open(&path, true).unwrap();
    assert_eq!(source.complaints().len(), 1);
    assert_eq!(source.size_bytes(), bytes);
    assert_eq!(rows(&poured(&source, &folder)), 5001);
}

#[test]
fn garbage_in_pages_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = large_file(&folder);
    let sound = std::fs::read(&path).unwrap();
    for page in [0, 3] {
        let mut bytes = sound.clone();
        // Behind the header of the file, on its first page.
        let garbage = page * 4096 + 100..(page + 1) * 4096;
        bytes[garbage].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        let words = refusal(&path);
        assert!(words.contains("is malformed"), "{words}");
        let source = SourceFile::open(&path, true).unwrap();
        assert!(!source.complaints().is_empty());
        assert_eq!(std::fs::read(poured(&source, &folder)).unwrap(), bytes);
    }
}

/// A check that cannot be made says nothing of the file.
#[test]
fn a_file_that_uses_what_only_its_program_has_is_not_called_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, connection) = sqlite_file(&folder, "delete");
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a, CHECK (theirs(a)))' WHERE name = 't';",
        )
        .unwrap();
    drop(connection);
    let source = SourceFile::open(&path, false).unwrap();
    assert!(source.complaints().is_empty());
}

#[test]
fn names_that_are_not_utf8_are_refused_and_taken_as_they_are_when_forced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, connection) = sqlite_file(&folder, "delete");
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON;
             CREATE TABLE cafe(a);
             UPDATE sqlite_schema SET name = CAST(x'636166e9' AS TEXT), tbl_name = CAST(x'636166e9' AS TEXT),
                 sql = CAST(x'435245415445205441424c4520636166e9286129' AS TEXT) WHERE name = 'cafe';",
        )
        .unwrap();
    drop(connection);
    let said = refusal(&path);
    assert!(said.contains("not UTF-8, at \"caf\u{fffd}\""), "{said}");
    let source = SourceFile::open(&path, true).unwrap();
    assert_eq!(source.complaints(), &[] as &[String]);
    assert_eq!(rows(&poured(&source, &folder)), 1);
}
