//! Wall clocks that are hours apart, run fast and jump back. No promise may rest on them; timestamps of transactions never go back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use halite_client::{ErrorKind, params};
use halite_ltx::{HEADER_LEN, Header};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::faketime::Clocks;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const HOUR: i64 = 3600;
/// Nodes 1, 2 and 3.
const HOURS_AHEAD: [i64; 3] = [-3, 0, 5];

struct Skewed {
    cluster: TestCluster,
    clocks: Clocks,
    archive: std::path::PathBuf,
}

async fn skewed(scratch: &Scratch) -> Result<Skewed> {
    let clocks = Clocks::new(scratch.dir())?;
    let archive = scratch.join("archive");
    let mut configured = Ok(());
    let cluster = TestCluster::start(scratch, |options| {
        options.archive_url = Some(format!("file://{}", archive.display()));
        configured = clocks.configure(options, 3);
    })
    .await?;
    configured?;
    for (id, hours) in (1..).zip(HOURS_AHEAD) {
        clocks.set(id, hours * HOUR)?;
    }
    Ok(Skewed {
        cluster,
        clocks,
        archive,
    })
}

async fn lead(cluster: &TestCluster, id: u64) -> Result<()> {
    if cluster.primary().await? != id {
        cluster.lead(id).await?;
        ensure!(cluster.primary().await? == id);
    }
    Ok(())
}

/// The headers of the transactions in an archive's lowest level, by TXID.
fn headers(archive: &Path) -> Result<BTreeMap<u64, Header>> {
    let mut headers = BTreeMap::new();
    let mut dirs = vec![archive.to_owned()];
    while let Some(dir) = dirs.pop() {
        for item in std::fs::read_dir(dir)? {
            let path = item?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "ltx")
                && path.parent().is_some_and(|level| level.ends_with("0"))
            {
                let bytes = std::fs::read(&path)?;
                let first = bytes.first_chunk::<HEADER_LEN>().context("a header")?;
                let header = Header::decode(first)?;
                headers.insert(header.max_txid.get(), header);
            }
        }
    }
    Ok(headers)
}

fn unix_s() -> Result<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}

#[test]
fn timestamps_never_go_back_over_primaries_whose_clocks_are_hours_apart() {
    run("clock-order", Weight::Light, async |scratch| {
        let skewed = skewed(scratch).await?;
        let cluster = &skewed.cluster;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let mut n = 0;
        for leader in [2, 3, 1, 2, 3] {
            lead(cluster, leader).await?;
            for _ in 0..5 {
                app.execute("INSERT INTO t VALUES (?1)", params![n]).await?;
                n += 1;
            }
            // Each leader's writes in files of their own.
            cluster.archived("app").await?;
        }
        // And one clock that jumps back under its primary, over everything it said before.
        skewed.clocks.set(3, -20 * HOUR)?;
        app.execute("INSERT INTO t VALUES (?1)", params![n]).await?;
        n += 1;
        cluster.archived("app").await?;
        cluster.check_same("app").await?;

        let headers = headers(&skewed.archive)?;
        let stamps: Vec<i64> = headers.values().map(|h| h.timestamp_ms).collect();
        ensure!(
            stamps.len() >= 6,
            "too few files to say anything: {stamps:?}"
        );
        ensure!(
            stamps.is_sorted(),
            "timestamps go back, by transaction: {stamps:?}"
        );
        let ahead = stamps.last().context("a stamp")? / 1000 - unix_s()?;
        ensure!(
            ahead > 4 * HOUR,
            "no clock was wrong: the newest stamp is {ahead} s ahead"
        );
        restores_are_ordered(scratch, &skewed.archive, &stamps, n)
    });
}

/// What a restore to each moment holds is a longer and longer beginning of what was written.
fn restores_are_ordered(
    scratch: &Scratch,
    archive: &Path,
    stamps: &[i64],
    rows: i64,
) -> Result<()> {
    let mut before = -1;
    // Nothing was archived before the first.
    for (number, stamp) in stamps.iter().enumerate().skip(1) {
        let restored = scratch.join(&format!("restored-{number}.db"));
        let at = Command::new("date")
            .args(["-u", "--date"])
            .arg(format!("@{}.{:03}", stamp / 1000, stamp % 1000))
            .arg("+%Y-%m-%dT%H:%M:%S.%3NZ")
            .output()?;
        let at = String::from_utf8(at.stdout)?;
        let url = format!("file://{}/app", archive.display());
        program::restore(&url, &restored, &["-timestamp", at.trim()])?;
        let tables = stock::read(&restored, "SELECT count(*) FROM sqlite_schema")?;
        if tables == ["0"] {
            continue;
        }
        let found = stock::read(&restored, "SELECT count(*), coalesce(max(a), -1) FROM t")?;
        let (count, newest) = found[0].split_once('|').context("two columns")?;
        let (count, newest): (i64, i64) = (count.parse()?, newest.parse()?);
        ensure!(
            count == newest + 1 && newest >= before,
            "a restore to {at} holds {count} rows up to {newest}, an earlier one up to {before}"
        );
        before = newest;
    }
    // What the last file says is not before its own moment.
    ensure!(
        before > 0 && before < rows,
        "the last moment holds {before} of {rows}"
    );
    Ok(())
}

#[test]
fn no_promise_rests_on_clocks_that_differ_jump_and_run_fast() {
    run("clock-load", Weight::Heavy, async |scratch| {
        let mut skewed = skewed(scratch).await?;
        let mut load = Load::start(&skewed.cluster, LoadOptions::new(61)).await?;
        load.grown(50).await?;
        for round in 0..4 {
            let primary = skewed.cluster.primary().await?;
            match round {
                // Ahead, far behind, fast, and right again.
                0 => skewed.clocks.set(primary, 30 * HOUR)?,
                1 => skewed.clocks.set(primary, -400 * HOUR)?,
                2 => skewed.clocks.set_fast(primary, HOUR, 50)?,
                _ => skewed.clocks.set(primary, 0)?,
            }
            load.grown(40).await.context("after a clock was set")?;
            skewed.cluster.kill(primary)?;
            skewed.cluster.primary().await?;
            load.grown(40).await.context("without the old primary")?;
            skewed.cluster.restart(primary)?;
            load.verify(&skewed.cluster).await?;
        }
        load.stop().await;
        Ok(())
    });
}

const CALLS: i64 = 60;
const KILLS: i64 = 10;

#[test]
fn calls_are_applied_once_when_the_next_primary_lives_hours_later() {
    run("clock-retries", Weight::Heavy, async |scratch| {
        let mut rng = StdRng::seed_from_u64(7);
        let mut skewed = skewed(scratch).await?;
        let cluster = &mut skewed.cluster;
        let client = cluster.client().await?;
        let app = client.database("app").with_timeout(Duration::from_secs(20));
        app.execute("CREATE TABLE t (a)", ()).await?;
        for kill in 0..KILLS {
            let primary = cluster.primary().await?;
            // Whoever comes next is a day ahead of the one before.
            for id in cluster.ids() {
                let days = if id == primary { kill } else { kill + 1 };
                skewed.clocks.set(id, days * 24 * HOUR)?;
            }
            // Others write, too: what they write brings the new time into the database before retries come.
            let other = cluster.client().await?.database("app");
            let mut calls = Vec::new();
            for n in 0..CALLS {
                let (app, key) = (app.clone(), kill * CALLS + n);
                calls.push(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(250 * n as u64)).await;
                    let insert = "INSERT INTO t VALUES (?1)";
                    app.execute(insert, params![key]).await.map(drop)
                }));
            }
            // The moment is drawn.
            tokio::time::sleep(Duration::from_micros(rng.random_range(500..14_000))).await;
            cluster.kill(primary)?;
            wait::until("somebody else writes", PATIENCE, async || {
                other.execute("INSERT INTO t VALUES (-1)", ()).await
            })
            .await?;
            for call in calls {
                let result = call.await?;
                let unknown = |e: &halite_client::Error| *e.kind() == ErrorKind::OutcomeUnknown;
                ensure!(
                    result.is_ok() || result.as_ref().is_err_and(unknown),
                    "{result:?}"
                );
            }
            cluster.restart(primary)?;
            cluster.primary().await?;
        }
        let rows = app
            .query(
                "SELECT a, count(*) FROM t WHERE a >= 0 GROUP BY a HAVING count(*) > 1",
                (),
            )
            .await?;
        ensure!(rows.is_empty(), "applied twice: {rows:?}");
        cluster.check_same("app").await?;
        Ok(())
    });
}
