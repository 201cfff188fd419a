//! A process that is killed between its last byte and the rename.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use halite_archive::{Content, Destination, Level, RestoreOptions, Target, Upload, restore};
use halite_ltx::Txid;

use crate::support::{Archive, five_transactions};

/// Set in the child: the directory that the parent looks at.
const CHILD_DIR: &str = "HALITE_ARCHIVE_TEST_CHILD_DIR";

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

/// In the child: says that all is written, and never returns.
fn wait_for_death(dir: &Path) -> ! {
    fs::write(dir.join("written"), b"").unwrap();
    loop {
        std::thread::park();
    }
}

/// Runs `test` of this binary in a child, kills it as soon as it has said that all is written.
fn run_and_kill(test: &str, dir: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("written").exists() {
        assert!(child.try_wait().unwrap().is_none(), "child ended early");
        assert!(Instant::now() < deadline, "child wrote nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn tmp_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
        .collect()
}

#[tokio::test]
async fn killed_upload_is_invisible_and_can_be_repeated() {
    let ltx = five_transactions()[0].clone();
    let upload = Upload::from_bytes(Level::ZERO, ltx.clone()).unwrap();
    if let Some(dir) = child_dir() {
        let destination = halite_archive::FileDestination::new(
            dir.join("replica"),
            std::sync::Arc::new(halite_archive::ThreadPool),
        );
        let (key, timestamp) = (upload.key, upload.timestamp);
        let content = Content::Writer(Box::new(move |writer| {
            writer.write_all(&ltx)?;
            writer.flush()?;
            wait_for_death(&dir)
        }));
        destination
            .put(Upload {
                key,
                timestamp,
                content,
            })
            .await
            .unwrap();
        return;
    }
    let archive = Archive::empty();
    run_and_kill(
        "killed_writer::killed_upload_is_invisible_and_can_be_repeated",
        archive.dir.path(),
    );
    let level = archive.dir.path().join("replica/ltx/0");
    assert_eq!(
        fs::read(&tmp_files(&level)[0]).unwrap(),
        ltx,
        "the child was killed with all bytes written"
    );
    assert!(
        archive
            .destination
            .list(Level::ZERO, Txid::ZERO)
            .await
            .unwrap()
            .is_empty()
    );
    archive.destination.put(upload).await.unwrap();
    assert_eq!(
        archive
            .destination
            .list(Level::ZERO, Txid::ZERO)
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(tmp_files(&level).is_empty());
}

#[tokio::test]
async fn killed_restore_is_invisible_and_can_be_repeated() {
    let archive = Archive::empty();
    archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    if let Some(dir) = child_dir() {
        let output = dir.join("restored.db");
        let check = move |_: &Path| wait_for_death(&dir);
        let options = RestoreOptions {
            check: Some(Box::new(check)),
            ..RestoreOptions::default()
        };
        restore(&archive.destination, Target::Latest, &output, options)
            .await
            .unwrap();
        return;
    }
    run_and_kill(
        "killed_writer::killed_restore_is_invisible_and_can_be_repeated",
        archive.dir.path(),
    );
    assert_eq!(archive.leftovers(), ["restored.db.halite-tmp"]);
    archive.restore(Target::Latest).await.unwrap();
    assert_eq!(archive.leftovers(), ["restored.db"]);
}
