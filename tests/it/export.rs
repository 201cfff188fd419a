//! Databases become ordinary files again: what `halite export` and `halite restore` put where.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, stock};
use rustix::process::{Pid, Signal, kill_process};

/// Runs `halite export`, or `halite restore`, into `output`; what it said, if it went as expected.
fn into(command: &[&str], output: &Path, good: bool) -> Result<String> {
    let output = output.display().to_string();
    let ended = program::run([command, &["-o", &output]].concat())?;
    let said = program::text(&ended);
    ensure!(ended.status.success() == good, "{command:?}: {said}");
    Ok(said)
}

fn holds(file: &Path, row: &str) -> Result<()> {
    let rows = stock::read(file, "SELECT a FROM t")?;
    ensure!(rows == [row], "{}: {rows:?}", file.display());
    Ok(())
}

#[test]
fn copies_replace_only_files_keep_owner_and_mode_and_say_what_they_are() {
    run("copies-out", Weight::Light, async |scratch| {
        let archive = format!("file://{}", scratch.join("archive").display());
        let cluster = TestCluster::start(scratch, |options| {
            options.archive_url = Some(archive.clone());
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('new')", ()).await?;
        cluster.archived("app").await?;
        let addrs = cluster.local.addrs().join(",");
        let export = ["export", "--addr", &addrs, "--db", "app"];
        let url = format!("{archive}/app");
        let restore = ["restore", &url];
        for command in [&export[..], &restore] {
            let forced = [command, &["--force"]].concat();
            let dir = scratch.join(command[0]);
            fs::create_dir(&dir)?;
            let (file, link) = (dir.join("copy.db"), dir.join("link.db"));
            let said = into(command, &file, true)?;
            for word in ["copy.db", "transaction 000000000000000", "KiB"] {
                ensure!(said.contains(word), "{word} is not in: {said}");
            }
            holds(&file, "new")?;
            let said = into(command, &file, false)?;
            ensure!(said.contains("force"), "{said}");
            // What is there gives its owner and mode, also through a link.
            ensure!(stock::try_write(&file, "UPDATE t SET a = 'old'")?.is_none());
            fs::set_permissions(&file, Permissions::from_mode(0o604))?;
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&file, Some(12), Some(34))?;
            }
            let owner = |file: &Path| -> Result<_> {
                let found = fs::metadata(file)?;
                Ok((found.uid(), found.gid(), found.mode()))
            };
            let before = owner(&file)?;
            symlink(&file, &link)?;
            into(&forced, &link, true)?;
            ensure!(fs::symlink_metadata(&link)?.is_symlink());
            ensure!(owner(&file)? == before, "{:?}", owner(&file)?);
            holds(&file, "new")?;
            // What is no file stays what it is.
            let socket = dir.join("socket");
            let _socket = std::os::unix::net::UnixListener::bind(&socket)?;
            let refused = [
                (Path::new("/dev/null"), "is a device"),
                (socket.as_path(), "is a socket"),
                (dir.as_path(), "is a folder"),
            ];
            for (path, words) in refused {
                let said = into(&forced, path, false)?;
                ensure!(said.contains(words), "{said}");
            }
            let lost = dir.join("mistyped/copy.db");
            let said = into(&forced, &lost, false)?;
            ensure!(said.contains("mistyped is not there"), "{said}");
            ensure!(!dir.join("mistyped").exists());
            // What the stock shell leaves beside a file that it may only read does not count.
            let mut left: Vec<_> = fs::read_dir(&dir)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<_>>()?;
            left.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
            left.sort();
            ensure!(left == ["copy.db", "link.db", "socket"], "{left:?}");
        }
        Ok(())
    });
}

#[test]
fn an_exported_file_is_read_where_nothing_may_be_written_and_goes_through_a_pipe() {
    run("export-pipe", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('new')", ()).await?;
        let addrs = cluster.local.addrs().join(",");
        let args = ["export", "--addr", &addrs, "--db", "app", "-o", "-"];
        let ended = program::run(args)?;
        ensure!(ended.status.success(), "{}", program::text(&ended));
        let said = String::from_utf8(ended.stderr)?;
        ensure!(said.contains("exported app to standard output"), "{said}");
        let file = scratch.join("copy.db");
        fs::write(&file, ended.stdout)?;
        ensure!(stock::read(&file, "PRAGMA journal_mode")? == ["delete"]);
        ensure!(stock::read(&file, "PRAGMA integrity_check")? == ["ok"]);
        // A program that only reads leaves nothing beside the file, and needs to write nothing there.
        holds(&file, "new")?;
        let beside = fs::read_dir(scratch.dir())?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("copy.db"));
        ensure!(beside.count() == 1);
        // And back.
        let path = file.display().to_string();
        let ended = program::run(["import", "--addr", &addrs, "--db", "again", &path])?;
        ensure!(ended.status.success(), "{}", program::text(&ended));
        cluster.check_same("again").await.context("again").map(drop)
    });
}

#[test]
fn a_file_that_somebody_holds_as_a_database_is_not_replaced() {
    run("held", Weight::Light, async |scratch| {
        let archive = format!("file://{}", scratch.join("archive").display());
        let mut cluster = TestCluster::start(scratch, |options| {
            options.nodes = 1;
            options.archive_url = Some(archive.clone());
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('new')", ()).await?;
        cluster.archived("app").await?;
        let addr = cluster.local.node(1).addr.clone();
        let url = format!("{archive}/app");
        let export = ["export", "--addr", &addr, "--db", "app", "--force"];
        let restore = ["restore", &url, "--force"];
        let (own, link) = (cluster.file(1, "app"), scratch.join("link.db"));
        symlink(&own, &link)?;
        let other = scratch.join("other.db");
        let holder = rusqlite::Connection::open(&other)?;
        holder.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES ('own')",
        )?;
        for command in [&export[..], &restore] {
            for file in [&own, &link] {
                let said = into(command, file, false)?;
                ensure!(said.contains("of a node that runs"), "{said}");
            }
            let said = into(command, &other, false)?;
            ensure!(said.contains("is open as a database"), "{said}");
        }
        app.execute("UPDATE t SET a = 'newer'", ()).await?;
        holds(&own, "newer")?;
        drop(holder);
        holds(&other, "own")?;
        into(&export, &other, true)?;
        holds(&other, "newer")?;
        // Nobody holds it any more.
        cluster.local.terminate(1, PATIENCE)?;
        into(&restore, &own, true).map(drop)
    });
}

#[test]
fn what_killed_exports_have_left_is_removed_by_the_next_unless_somebody_holds_it() {
    run("export-left", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('new')", ()).await?;
        let dir = scratch.join("copies");
        fs::create_dir(&dir)?;
        let at = |name: &str| dir.join(name);
        for name in [
            ".halite-export-left",
            ".halite-export-held",
            "halite-export-x",
        ] {
            fs::write(at(name), name)?;
        }
        // As an export does that runs.
        let held = fs::File::open(at(".halite-export-held"))?;
        rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        let addrs = cluster.local.addrs().join(",");
        let export = ["export", "--addr", &addrs, "--db", "app"];
        let said = into(&export, &at("copy.db"), true)?;
        ensure!(said.contains(".halite-export-left"), "{said}");
        holds(&at("copy.db"), "new")?;
        let names = || -> Result<Vec<String>> {
            let names =
                fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name().display().to_string()));
            let mut names: Vec<String> = names.collect::<Result<_>>()?;
            names.sort();
            Ok(names)
        };
        let found = names()?;
        ensure!(
            found == [".halite-export-held", "copy.db", "halite-export-x"],
            "{found:?}"
        );
        // Its process is gone.
        drop(held);
        into(&export, &at("again.db"), true)?;
        let found = names()?;
        ensure!(
            found == ["again.db", "copy.db", "halite-export-x"],
            "{found:?}"
        );
        Ok(())
    });
}

/// `halite export` into a folder of its own that stands still, as by a slow disk, before it has written so many bytes.
fn stopped_in_the_middle(args: &[&str], output: &Path, bytes_max: u64) -> Result<Child> {
    let folder = output.parent().context("a folder")?;
    let written = || -> Result<u64> {
        let files = fs::read_dir(folder)?.flatten();
        // One that gets its name meanwhile is not there any more.
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        Ok(sizes.max().unwrap_or(0))
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut export = Command::new(program::halite())
            .args(args)
            .arg(output)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        while written()? == 0 && export.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // One that is over cannot be stopped.
        let stopped = kill_process(Pid::from_child(&export), Signal::STOP).is_ok();
        if stopped && (1..bytes_max).contains(&written()?) {
            return Ok(export);
        }
        let _ = kill_process(Pid::from_child(&export), Signal::CONT);
        let ended = export.wait_with_output()?;
        ensure!(Instant::now() < deadline, "{}", program::text(&ended));
        fs::remove_file(output)?;
    }
}

#[test]
fn an_export_whose_node_dies_is_begun_anew_with_the_next_primary() {
    run("export-node-dies", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a, b)", ()).await?;
        let insert = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 20) \
                      INSERT INTO t SELECT a, zeroblob(1000000) FROM n";
        for _ in 0..8 {
            app.execute(insert, ()).await?;
        }
        let addrs = cluster.local.addrs().join(",");
        let dir = scratch.join("copies");
        fs::create_dir(&dir)?;
        let copy = dir.join("copy.db");
        let export = ["export", "--addr", &addrs, "--db", "app", "-o"];
        let export = stopped_in_the_middle(&export, &copy, 100_000_000)?;
        let dead = cluster.primary().await?;
        cluster.kill(dead)?;
        kill_process(Pid::from_child(&export), Signal::CONT)?;
        let ended = export.wait_with_output()?;
        let said = program::text(&ended);
        ensure!(ended.status.success(), "{said}");
        ensure!(said.contains("is begun anew"), "{said}");
        let rows = "SELECT count(*) || ' ' || sum(length(b)) FROM t";
        ensure!(stock::read(&copy, rows)? == ["160 160000000"]);
        ensure!(stock::read(&copy, "PRAGMA integrity_check")? == ["ok"]);
        Ok(())
    });
}
