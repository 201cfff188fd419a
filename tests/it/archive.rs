//! The archive holds every transaction exactly once, whichever node wrote it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;
use halite_client::params;
use halite_ltx::{Txid, parse_file_name};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::files::copy_dir;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::pages::Pages;
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::slow_disk::SlowDisk;
use halite_tests::stock;
use halite_tests::wait;

/// Primaries that have to die between the upload of a file and the recording of its progress ...
const HITS: usize = 8;
/// ... in at most so many tries.
const ROUNDS: usize = 40;
const SYNC_INTERVAL: Duration = Duration::from_millis(20);

type Range = (Txid, Txid);

/// Nothing is merged or deleted: the tests of this file are about what syncs and losses leave.
fn archive_into(options: &mut LocalClusterOptions, archive: &Path) {
    options.extra_config = format!(
        "archive: {{url: {:?}, sync-interval: {}ms, levels: [], snapshot-interval: 87840h}}\n",
        format!("file://{}", archive.display()),
        SYNC_INTERVAL.as_millis()
    );
}

/// The level-0 files that are there, in order.
fn level_zero(dir: &Path) -> Result<BTreeSet<Range>> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(Ok(range)) = entry?.file_name().to_str().map(parse_file_name) {
            files.insert(range);
        }
    }
    Ok(files)
}

/// Looks for a further file without a pause, since the moment after it appears is what the test is about.
fn new_file(dir: &Path) -> Result<Range> {
    let before = level_zero(dir)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(new) = level_zero(dir)?.difference(&before).next() {
            return Ok(*new);
        }
        ensure!(Instant::now() < deadline, "no further file is archived");
    }
}

/// How far the archive is by what the nodes that live have been told.
async fn recorded(cluster: &TestCluster) -> Result<u64> {
    let mut recorded = 0;
    for id in cluster.awake() {
        let status = cluster.database_status(id, "app").await?;
        recorded = recorded.max(status.archived_txid);
    }
    Ok(recorded)
}

#[test]
fn primaries_that_die_before_they_record_their_upload_leave_no_transaction_twice() {
    run("archive-once", Weight::Heavy, async |scratch| {
        let archive = scratch.join("archive");
        let mut cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let options = LoadOptions {
            big_percent: 0,
            ..LoadOptions::new(7)
        };
        let mut load = Load::start(&cluster, options).await?;
        let files = archive.join("app/ltx/0");
        wait::until("the archive begins", PATIENCE, async || {
            level_zero(&files).map_err(|error| error.to_string())
        })
        .await?;
        let mut hits = 0;
        for round in 1..=ROUNDS {
            let primary = cluster.primary().await?;
            let (_, last) = new_file(&files)?;
            cluster.kill(primary)?;
            let known = recorded(&cluster).await?;
            let hit = known < last.get();
            hits += usize::from(hit);
            eprintln!("round {round}: file up to {last}, recorded up to {known:x}, hit: {hit}");
            cluster.primary().await?;
            // The next primary has archived something.
            new_file(&files).with_context(|| format!("after round {round}"))?;
            once_each(&files).with_context(|| format!("after round {round}"))?;
            cluster.restart(primary)?;
            cluster.primary().await?;
            cluster.settle_under_load().await?;
            if hits == HITS {
                break;
            }
        }
        ensure!(
            hits == HITS,
            "only {hits} of {ROUNDS} primaries died between upload and recording"
        );
        load.stop().await;
        restored_is_the_same(scratch, &cluster, &archive, "app").await?;
        once_each(&files)?;
        ensure!(
            !archive.join("app/ltx/9").exists(),
            "a snapshot was archived, although the log had every transaction"
        );
        Ok(())
    });
}

#[test]
fn a_destination_that_hangs_is_told_and_delays_only_itself() {
    run("archive-hangs", Weight::Light, async |scratch| {
        let disk = SlowDisk::new(scratch.dir())?;
        let (hanging, sound) = (scratch.join("hanging"), scratch.join("sound"));
        let files = |archive: &Path| archive.join("app/ltx/0");
        let mut cluster = TestCluster::start(scratch, |options| {
            disk.configure(options, 3);
            options.databases.clear();
            let replica = |archive: &Path| {
                let url = format!("file://{}/app", archive.display());
                format!("{{url: {url:?}, sync-interval: 20ms}}")
            };
            let replicas = [&hanging, &sound]
                .map(|archive| replica(archive))
                .join(", ");
            options.extra_config = format!("dbs: [{{name: app, replicas: [{replicas}]}}]\n");
        })
        .await?;
        let admin = cluster.ops().admin();
        admin.create_database("app", 0, true).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(1)).await?;
        wait::until("both archives begin", PATIENCE, async || {
            level_zero(&files(&hanging)).and(level_zero(&files(&sound)))
        })
        .await?;
        for id in cluster.ids() {
            disk.hang(id, "/hanging/")?;
        }
        // Of the destination: a node that does not answer is told, too.
        let told = ["the destination does not answer"];
        let addr = &cluster.local.node(1).addr;
        let shown = program::status_shows(addr, &told, PATIENCE * 3).await?;
        ensure!(shown.status.code() == Some(1), "{}", program::text(&shown));
        new_file(&files(&sound)).context("the other one stands still, too")?;
        // The primary stops in order all the same.
        let primary = cluster.primary().await?;
        let status = cluster.local.terminate(primary, PATIENCE)?;
        ensure!(status.success(), "{status}");
        for id in cluster.ids() {
            disk.release(id)?;
        }
        new_file(&files(&hanging)).context("after it hung")?;
        cluster.restart(primary)?;
        load.stop().await;
        cluster.settle("app").await?;
        for archive in [&hanging, &sound] {
            restored_is_the_same(scratch, &cluster, archive, "app").await?;
        }
        Ok(())
    });
}

#[test]
fn a_database_is_dropped_when_all_of_it_is_archived_or_by_force() {
    run("archive-drop", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let cluster = TestCluster::start(scratch, |options| {
            options.databases.push(("other".to_owned(), 4096));
            archive_into(options, &archive);
        })
        .await?;
        let addr = &cluster.local.node(1).addr;
        let drop = |more: &[&str]| program::run([&["db", "drop", "--addr", addr], more].concat());
        for name in ["app", "other"] {
            let database = cluster.ops().database(name);
            database.execute("CREATE TABLE t (a)", ()).await?;
        }
        for row in 0..20 {
            let insert = "INSERT INTO t VALUES (?1)";
            let app = cluster.ops().database("app");
            app.execute(insert, params![row]).await?;
        }
        let dropped = drop(&["app"])?;
        ensure!(dropped.status.success(), "{}", program::text(&dropped));
        let restored = scratch.join("app.db");
        let url = format!("file://{}/app", archive.display());
        program::restore(&url, &restored, &[])?;
        let rows = stock::read(&restored, "SELECT count(*) FROM t")?;
        ensure!(rows == ["20"], "{rows:?}");
        // Where nothing can be written any more.
        let away = scratch.join("away");
        std::fs::rename(&archive, &away)?;
        std::fs::write(&archive, "in the way")?;
        let other = cluster.ops().database("other");
        other.execute("INSERT INTO t VALUES (1)", ()).await?;
        let refused = program::text(&drop(&["other"])?);
        ensure!(refused.contains("its archive lacks 1"), "{refused}");
        other.execute("INSERT INTO t VALUES (2)", ()).await?;
        let forced = drop(&["other", "--force"])?;
        ensure!(forced.status.success(), "{}", program::text(&forced));
        Ok(())
    });
}

/// Every transaction is in one file: they follow each other from the first on.
fn once_each(dir: &Path) -> Result<()> {
    let mut next = Txid::new(1);
    for (min, max) in level_zero(dir)? {
        ensure!(
            min == next && max >= min,
            "file {min}-{max} follows transaction {}",
            next.get() - 1
        );
        next = max.next();
    }
    Ok(())
}

/// What is archived now restores to what the nodes hold.
async fn restored_is_the_same(
    scratch: &Scratch,
    cluster: &TestCluster,
    archive: &Path,
    database: &str,
) -> Result<Pages> {
    let pages = cluster.check_same(database).await?;
    let txid = cluster.archived(database).await?;
    let restored = scratch.join(&format!("restored-{txid}.db"));
    let url = format!("file://{}/{database}", archive.display());
    program::restore(&url, &restored, &["-txid", &format!("{txid:x}"), "-force"])?;
    pages.check_restored(&restored)?;
    Ok(pages)
}

#[test]
fn a_database_is_archived_beside_an_earlier_one_of_its_name() {
    run("archive-taken", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let admin = cluster.ops().admin();
        let fill = async |rows: i64| {
            ensure!(admin.create_database("passing", 4096, false).await?);
            let database = cluster.ops().database("passing");
            database.execute("CREATE TABLE t (a, b)", ()).await?;
            for row in 0..rows {
                let insert = "INSERT INTO t VALUES (?1, randomblob(2000))";
                database.execute(insert, params![row]).await?;
            }
            anyhow::Ok(())
        };

        fill(20).await?;
        let earlier = restored_is_the_same(scratch, &cluster, &archive, "passing").await?;
        ensure!(admin.drop_database("passing", false).await?);
        // On its way it is where the archive of the first ends, and then beyond.
        fill(30).await?;
        let txid = cluster.archived("passing").await?;
        let primary = cluster.primary().await?;
        let status = cluster.database_status(primary, "passing").await?;
        let [url] = status.archive_urls.as_slice() else {
            anyhow::bail!("{status:?}");
        };
        let first = format!("file://{}", archive.join("passing").display());
        ensure!(url.starts_with(&format!("{first}~")), "{url}");
        let shown = program::run(["--addr", &cluster.local.node(primary).addr, "status"])?;
        let shown = program::text(&shown);
        let (_, place) = url.rsplit_once('/').context("an address")?;
        ensure!(shown.contains(&format!("in step at {place}")), "{shown}");

        // Either is restored by its own address, which tells of the other.
        let restored = scratch.join("earlier.db");
        let output = restored.display().to_string();
        let said = program::run(["restore", "-o", &output, &first])?;
        let said = program::text(&said);
        ensure!(said.contains(url.as_str()), "{said}");
        earlier.check_restored(&restored)?;
        let restored = scratch.join("later.db");
        program::restore(url, &restored, &[&format!("-txid={txid:016x}")])?;
        cluster
            .check_same("passing")
            .await?
            .check_restored(&restored)?;
        let files = archive.join(place);
        once_each(&files.join("ltx/0"))
    });
}

/// Writes until the archive has lost what it has lost, and then restores to what the nodes hold.
async fn heals(
    scratch: &Scratch,
    cluster: &TestCluster,
    archive: &Path,
    times: usize,
) -> Result<()> {
    let app = cluster.ops().database("app");
    app.execute("INSERT INTO t VALUES (randomblob(100))", ())
        .await?;
    wait::until("the loss is noticed", PATIENCE, async || {
        let said = "the archive has lost files";
        let logs: Result<Vec<String>> =
            cluster.ids().iter().map(|id| cluster.log_of(*id)).collect();
        let logs = logs.map_err(|e| e.to_string())?;
        let found: usize = logs.iter().map(|log| log.matches(said).count()).sum();
        (found == times)
            .then_some(())
            .ok_or_else(|| format!("{found} times"))
    })
    .await?;
    // It is told before it is made good.
    let url = format!("file://{}/app", archive.display());
    let output = scratch.join("healed.db").display().to_string();
    wait::until("the loss is made good", PATIENCE, async || {
        let said = program::run(["restore", "-dry-run", "-o", &output, &url]);
        let said = said.map_err(|error| error.to_string())?;
        let is_whole = said.status.success();
        is_whole.then_some(()).ok_or_else(|| program::text(&said))
    })
    .await?;
    restored_is_the_same(scratch, cluster, archive, "app").await?;
    Ok(())
}

#[test]
fn an_archive_that_loses_files_is_noticed_and_begins_anew() {
    run("archive-holes", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        for _ in 0..20 {
            app.execute("INSERT INTO t VALUES (randomblob(100))", ())
                .await?;
            cluster.archived("app").await?;
        }
        let level = archive.join("app/ltx/0");
        let files = level_zero(&level)?;
        ensure!(files.len() > 4, "{files:?}");
        let path = |(min, max): &Range| level.join(halite_ltx::file_name(*min, *max));
        // One in the middle.
        let middle = files.iter().nth(files.len() / 2).context("a file")?;
        std::fs::remove_file(path(middle))?;
        heals(scratch, &cluster, &archive, 1).await?;
        // The newest one, which no snapshot holds.
        app.execute("INSERT INTO t VALUES (randomblob(100))", ())
            .await?;
        cluster.archived("app").await?;
        let files = level_zero(&level)?;
        std::fs::remove_file(path(files.last().context("a file")?))?;
        heals(scratch, &cluster, &archive, 2).await?;
        // All of them.
        std::fs::remove_dir_all(archive.join("app"))?;
        heals(scratch, &cluster, &archive, 3).await?;
        // And what a new primary finds when nothing is written.
        std::fs::remove_dir_all(archive.join("app"))?;
        let next = cluster.follower().await?;
        cluster.lead(next).await?;
        wait::until("the next primary heals it", PATIENCE, async || {
            let found = level.with_file_name("9").is_dir();
            found.then_some(()).ok_or("no snapshot")
        })
        .await?;
        restored_is_the_same(scratch, &cluster, &archive, "app").await?;
        Ok(())
    });
}

#[test]
fn what_keeps_a_database_from_being_archived_is_told_in_the_status() {
    run("archive-told", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let txid = cluster.archived("app").await?;
        // A file of somebody else, of transactions that this cluster does not have yet.
        let level = archive.join("app/ltx/0");
        let own = level_zero(&level)?;
        let own = own.last().context("a file")?;
        let foreign = level.join(halite_ltx::file_name(
            Txid::new(txid + 500),
            Txid::new(txid + 501),
        ));
        std::fs::copy(level.join(halite_ltx::file_name(own.0, own.1)), &foreign)?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        let addr = cluster.local.node(1).addr.clone();
        let status = async || {
            let shown = program::run(["--addr", &addr, "status"]).map_err(|e| e.to_string())?;
            Ok::<_, String>((shown.status.code(), program::text(&shown)))
        };
        wait::until("it is told", PATIENCE, async || match status().await? {
            (Some(1), said) if said.contains("app: NOT ARCHIVED: the destination holds") => Ok(()),
            (code, said) => Err(format!("{code:?}: {said}")),
        })
        .await?;
        std::fs::remove_file(&foreign)?;
        wait::until("all is well", PATIENCE, async || match status().await? {
            (Some(0), said) if said.contains("in step") && !said.contains("NOT ARCHIVED") => Ok(()),
            (code, said) => Err(format!("{code:?}: {said}")),
        })
        .await?;
        restored_is_the_same(scratch, &cluster, &archive, "app").await?;
        Ok(())
    });
}

#[test]
fn a_restore_to_a_time_goes_by_the_times_in_the_files() {
    run("archive-times", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        let earlier = restored_is_the_same(scratch, &cluster, &archive, "app").await?;
        let files = archive.join("app/ltx/0");
        let newest = |files: &Path| -> Result<std::time::SystemTime> {
            let mut newest = std::time::SystemTime::UNIX_EPOCH;
            for entry in std::fs::read_dir(files)? {
                newest = newest.max(entry?.metadata()?.modified()?);
            }
            Ok(newest)
        };
        // Right after what is there, to the millisecond in which times are kept.
        let when = newest(&files)? + Duration::from_millis(1);
        wait::until("the clock has gone on", PATIENCE, async || {
            let gone = std::time::SystemTime::now() > when + Duration::from_millis(1);
            gone.then_some(()).ok_or("not yet")
        })
        .await?;
        app.execute("INSERT INTO t VALUES (2)", ()).await?;
        cluster.archived("app").await?;
        // As a copy without times has them.
        for entry in std::fs::read_dir(&files)? {
            let file = std::fs::File::options().append(true).open(entry?.path())?;
            file.set_modified(std::time::SystemTime::now())?;
        }
        let restored = scratch.join("then.db");
        let ms = when
            .duration_since(std::time::SystemTime::UNIX_EPOCH)?
            .as_millis();
        let text: String = rusqlite::Connection::open_in_memory()?.query_row(
            "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', ?1 / 1000.0, 'unixepoch')",
            [i64::try_from(ms)?],
            |row| row.get(0),
        )?;
        let url = format!("file://{}", archive.join("app").display());
        program::restore(&url, &restored, &["-timestamp", &text])?;
        earlier.check_restored(&restored)
    });
}

/// Inserts rows, and waits until the archive has all that is committed.
async fn archived(cluster: &TestCluster, rows: i64) -> Result<()> {
    let app = cluster.ops().database("app");
    for row in 0..rows {
        app.execute("INSERT INTO t VALUES (?1)", params![row])
            .await?;
    }
    wait::until("all is archived", PATIENCE, async || {
        let primary = cluster.primary().await.map_err(|e| e.to_string())?;
        let status = cluster.database_status(primary, "app").await;
        let status = status.map_err(|e| e.to_string())?;
        let (archived, all) = (status.archived_txid, status.txid);
        (archived == all)
            .then_some(())
            .ok_or(format!("{archived} of {all}"))
    })
    .await
}

#[test]
fn a_cluster_that_was_put_back_as_a_whole_mixes_no_second_history_into_its_archive() {
    run("archive-parted", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let mut cluster = TestCluster::start(scratch, |options| {
            options.nodes = 1;
            archive_into(options, &archive);
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        archived(&cluster, 5).await?;
        let (data, old) = (cluster.local.node(1).data_dir.clone(), scratch.join("old"));
        cluster.kill(1)?;
        copy_dir(&data, &old)?;
        cluster.restart(1)?;
        archived(&cluster, 5).await?;
        let files = archive.join("app/ltx/0");
        let before = level_zero(&files)?;
        cluster.kill(1)?;
        std::fs::remove_dir_all(&data)?;
        copy_dir(&old, &data)?;
        cluster.restart(1)?;
        // More than was there before: the place is not ahead of it any more.
        for row in 100..108 {
            app.execute("INSERT INTO t VALUES (?1)", params![row])
                .await?;
        }
        wait::until("status says so", PATIENCE, async || {
            let addr = &cluster.local.node(1).addr;
            let shown = program::run(["--addr", addr, "status"]).map_err(|e| e.to_string())?;
            let text = program::text(&shown);
            let told = text.contains("another history") && !shown.status.success();
            told.then_some(()).ok_or(text)
        })
        .await?;
        ensure!(
            level_zero(&files)? == before,
            "the archive has been written to"
        );
        Ok(())
    });
}
