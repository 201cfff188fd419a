//! The archive holds every transaction exactly once, whichever node wrote it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;
use halite_client::params;
use halite_ltx::{Txid, parse_file_name};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::pages::Pages;
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;

/// Primaries that have to die between the upload of a file and the recording of its progress ...
const HITS: usize = 8;
/// ... in at most so many tries.
const ROUNDS: usize = 40;
const SYNC_INTERVAL: Duration = Duration::from_millis(20);

type Range = (Txid, Txid);

fn archive_into(options: &mut LocalClusterOptions, archive: &Path) {
    options.extra_config = format!(
        "archive: {{url: {:?}, sync-interval: {}ms}}\n",
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
    program::restore(&url, &restored, &["-txid", &format!("{txid:x}")])?;
    pages.check_restored(&restored)?;
    Ok(pages)
}

#[test]
fn a_database_does_not_write_into_the_archive_of_an_earlier_one_of_its_name() {
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
        // On its way it is where the archive ends, and then beyond.
        fill(30).await?;
        let primary = cluster.primary().await?;
        wait::until("the primary says why", PATIENCE, async || {
            let log = cluster.log_of(primary).map_err(|e| e.to_string())?;
            let said = log.contains("an archive that is not of this database");
            said.then_some(()).ok_or("it does not say so".to_owned())
        })
        .await?;
        let status = cluster.database_status(primary, "passing").await?;
        ensure!(status.archived_txid == 0, "archived: {status:?}");
        let restored = scratch.join("earlier.db");
        let files = archive.join("passing");
        let url = format!("file://{}", files.display());
        program::restore(&url, &restored, &[])?;
        earlier.check_restored(&restored)?;

        // As the message says: once it is moved away, the new one is archived from its beginning.
        std::fs::rename(&files, scratch.join("moved"))?;
        restored_is_the_same(scratch, &cluster, &archive, "passing").await?;
        once_each(&files.join("ltx/0"))
    });
}
