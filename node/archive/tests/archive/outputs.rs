//! What a restore does with its target file.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use halite_archive::{Inline, Level, RestoreError, RestoreOptions, Target, restore};
use halite_ltx::Txid;

use crate::support::{Archive, five_transactions, page};

async fn archive() -> Archive {
    let archive = Archive::empty();
    for ltx in five_transactions() {
        archive.put(Level::ZERO, ltx).await;
    }
    archive
}

#[tokio::test]
async fn existing_target_is_refused_and_forced_over() {
    let archive = archive().await;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let name = format!("restored.db{suffix}");
        fs::write(archive.dir.path().join(&name), b"old").unwrap();
        let error = archive.restore(Target::Latest).await.unwrap_err();
        assert!(
            matches!(&error, RestoreError::OutputExists(path) if path.ends_with(&name)),
            "{error}"
        );
        assert_eq!(archive.leftovers(), [name.as_str()]);
        let options = RestoreOptions {
            force: true,
            ..RestoreOptions::default()
        };
        restore(
            &archive.destination,
            Target::Latest,
            &archive.output(),
            options,
        )
        .await
        .unwrap();
        assert_eq!(archive.leftovers(), ["restored.db"]);
        assert_eq!(
            fs::read(archive.output()).unwrap(),
            [page(12), page(21)].concat()
        );
        fs::remove_file(archive.output()).unwrap();
    }
}

#[tokio::test]
async fn failed_forced_restore_keeps_the_old_database() {
    let archive = archive().await;
    for name in ["restored.db", "restored.db-wal"] {
        fs::write(archive.dir.path().join(name), b"old").unwrap();
    }
    let options = RestoreOptions {
        force: true,
        check: Some(Box::new(|_| Err("not good".into()))),
        ..RestoreOptions::default()
    };
    let error = restore(
        &archive.destination,
        Target::Latest,
        &archive.output(),
        options,
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "restored database failed its check: not good"
    );
    assert_eq!(archive.leftovers(), ["restored.db", "restored.db-wal"]);
    assert_eq!(fs::read(archive.output()).unwrap(), b"old");
}

#[tokio::test]
async fn check_sees_the_whole_database_before_it_has_its_name() {
    let archive = archive().await;
    let output = archive.output();
    let check = move |path: &std::path::Path| {
        assert_eq!(fs::read(path).unwrap(), [page(12), page(21)].concat());
        assert!(!output.exists());
        fs::write(format!("{}-shm", path.display()), b"left by sqlite").unwrap();
        Ok(())
    };
    let options = RestoreOptions {
        check: Some(Box::new(check)),
        ..RestoreOptions::default()
    };
    restore(
        &archive.destination,
        Target::Latest,
        &archive.output(),
        options,
    )
    .await
    .unwrap();
    assert_eq!(archive.leftovers(), ["restored.db"]);
}

#[tokio::test]
async fn target_that_appears_meanwhile_is_not_overwritten() {
    let archive = archive().await;
    let output = archive.output();
    let check = move |_: &std::path::Path| Ok(fs::write(&output, b"somebody else's")?);
    let options = RestoreOptions {
        check: Some(Box::new(check)),
        ..RestoreOptions::default()
    };
    let error = restore(
        &archive.destination,
        Target::Latest,
        &archive.output(),
        options,
    )
    .await
    .unwrap_err();
    assert!(matches!(error, RestoreError::OutputExists(_)), "{error}");
    assert_eq!(fs::read(archive.output()).unwrap(), b"somebody else's");
    assert_eq!(archive.leftovers(), ["restored.db"]);
}

#[tokio::test]
async fn leftover_of_a_killed_restore_is_written_over() {
    let archive = archive().await;
    fs::write(
        archive.dir.path().join("restored.db.halite-tmp"),
        vec![0xee; 100_000],
    )
    .unwrap();
    assert_eq!(
        archive.restored(Target::Latest).await,
        [page(12), page(21)].concat()
    );
    assert!(archive.leftovers().is_empty());
}

#[tokio::test]
async fn second_restore_to_the_same_target_is_refused_while_the_first_runs() {
    let archive = archive().await;
    let held = fs::File::create(archive.dir.path().join("restored.db.halite-tmp")).unwrap();
    held.lock().unwrap();
    let error = archive.restore(Target::Latest).await.unwrap_err();
    assert!(matches!(error, RestoreError::OutputBusy(_)), "{error}");
    assert_eq!(
        archive.leftovers(),
        ["restored.db.halite-tmp"],
        "the file belongs to the other restore"
    );
}

#[tokio::test]
async fn a_missing_folder_is_named_and_not_made() {
    let archive = archive().await;
    let output = archive.dir.path().join("a/b/c.db");
    let error = restore(
        &archive.destination,
        Target::Latest,
        &output,
        RestoreOptions::default(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("a/b is not there"), "{error}");
    assert!(archive.leftovers().is_empty());
}

#[tokio::test]
async fn a_forced_restore_follows_links_keeps_the_mode_and_replaces_only_files() {
    let archive = archive().await;
    let (output, real) = (archive.output(), archive.dir.path().join("real.db"));
    let forced = || RestoreOptions {
        force: true,
        ..RestoreOptions::default()
    };
    fs::write(&real, b"old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &output).unwrap();
    let (destination, target) = (&archive.destination, Target::Latest);
    restore(destination, target, &output, forced())
        .await
        .unwrap();
    assert!(fs::symlink_metadata(&output).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), [page(12), page(21)].concat());
    let mode = fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let null = std::path::Path::new("/dev/null");
    let error = restore(destination, target, null, forced())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is a device"), "{error}");
}

#[tokio::test]
async fn progress_ends_at_the_total() {
    let archive = archive().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&seen);
    let options = RestoreOptions {
        progress: Some(Arc::new(move |progress| {
            hook.lock().unwrap().push(progress)
        })),
        blocking: Arc::new(Inline),
        ..RestoreOptions::default()
    };
    let report = restore(
        &archive.destination,
        Target::Latest,
        &archive.output(),
        options,
    )
    .await
    .unwrap();
    let last = *seen.lock().unwrap().last().expect("told at least once");
    assert_eq!((last.read_bytes, last.pages), (last.read_bytes_total, 2));
    assert_eq!(
        (report.read_bytes, report.files, report.pages),
        (last.read_bytes, 5, 2)
    );
    assert_eq!(
        (report.txid, report.timestamp.as_millisecond()),
        (Txid::new(5), 5000)
    );
}
