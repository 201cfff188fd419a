//! Transfers of whole databases that break off, and go on where they did. How much came is read from the log of the node that receives.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Database, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::proxy::{Conditions, Proxy};
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;

/// A blank node that is added to three others.
const BLANK: u64 = 4;
/// Of one row: below what comes in chunks.
const ROW_BYTES: i64 = 950_000;
/// Rows that are written over and over until the log has let go of what was before.
const CHURN_ROWS: i64 = 220;
/// A connection that carries nothing is given up within 1.5 s.
const CUT: Duration = Duration::from_millis(2_500);
/// How long it carries something in between: not enough for all.
const OPEN: Duration = Duration::from_millis(1_500);
/// So many attempts have to break off, of so many cuts.
const BROKEN_OFF: usize = 4;
const CUTS_MAX: usize = 20;
/// How long the slowest transfer may take here.
const TRANSFER: Duration = Duration::from_secs(120);

/// Three nodes that have written `rows` to each database and purged their logs, behind a proxy with a place for the blank one.
async fn start(scratch: &Scratch, databases: usize, rows: i64) -> Result<(Proxy, TestCluster)> {
    let proxy = Proxy::start(scratch.dir(), BLANK).await?;
    let cluster = TestCluster::start(scratch, |options| {
        proxy.configure(options);
        options.databases = (0..databases).map(|n| (name(n), 4096)).collect();
        options.databases.push(("churn".to_owned(), 4096));
        options.extra_config = "checkpoint:\n  wal-size: 1MiB\n".to_owned();
    })
    .await?;
    for number in 0..databases {
        write(&cluster.ops().database(name(number)), rows, i64::MAX).await?;
    }
    // Their last transactions may leave the log when they are in the files.
    wait::until("all is checkpointed", PATIENCE, async || {
        for id in cluster.ids() {
            let status = cluster.node_status(id).await.map_err(|e| e.to_string())?;
            let pending = status.databases.iter().find(|d| d.wal_bytes > 0);
            if let Some(pending) = pending {
                return Err(format!("node {id}: {}", pending.name));
            }
        }
        Ok(())
    })
    .await?;
    write(&cluster.ops().database("churn"), CHURN_ROWS, 3).await?;
    Ok((proxy, cluster))
}

fn name(number: usize) -> String {
    format!("db{number}")
}

/// Writes rows into so many slots. A row that was written in doubt is written again: that changes nothing.
async fn write(database: &Database, rows: i64, slots: i64) -> Result<()> {
    let create = "CREATE TABLE IF NOT EXISTS t (slot INTEGER PRIMARY KEY, b)";
    let replace = "REPLACE INTO t VALUES (?1, randomblob(?2))";
    wait::until("the table is there", PATIENCE, async || {
        database.execute(create, ()).await
    })
    .await?;
    for n in 0..rows {
        wait::until("a row is written", PATIENCE, async || {
            let row = params![n % slots, ROW_BYTES];
            database.execute(replace, row).await
        })
        .await?;
    }
    Ok(())
}

/// What a node says of the page diffs it has pulled.
#[derive(Debug, Default)]
struct Diffs {
    /// Bytes of those that were installed, and how many times: by the number of the database.
    pulled: BTreeMap<u64, Vec<u64>>,
    /// Bytes of those that broke off.
    broken_off: Vec<u64>,
}

impl Diffs {
    fn of(cluster: &TestCluster, id: u64) -> Result<Self> {
        let mut diffs = Self::default();
        for line in cluster.log_of(id)?.lines() {
            if line.contains("pulled page diff") {
                let database = number(line, "database_id")?;
                let pulled = diffs.pulled.entry(database).or_default();
                pulled.push(number(line, "bytes")?);
            } else if line.contains("page diff broke off") {
                diffs.broken_off.push(number(line, "bytes")?);
            }
        }
        Ok(diffs)
    }

    fn bytes(&self) -> u64 {
        let pulled = self.pulled.values().flatten();
        pulled.chain(&self.broken_off).sum()
    }
}

fn number(line: &str, field: &str) -> Result<u64> {
    let mut words = line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
    let value = value.with_context(|| format!("no {field} in {line:?}"))?;
    Ok(value.parse()?)
}

/// Waits until the blank node has come up, and compares all databases.
async fn comes_up(cluster: &TestCluster, databases: usize) -> Result<()> {
    wait::until("the blank node has all pages", TRANSFER, async || {
        let said = cluster.log_of(BLANK).map_err(|e| e.to_string())?;
        let installed = said.contains("install snapshot databases=");
        installed.then_some(()).ok_or("no snapshot yet".to_owned())
    })
    .await?;
    cluster.promote(BLANK).await?;
    for number in 0..databases {
        cluster.check_same(&name(number)).await?;
    }
    cluster.check_same("churn").await.map(drop)
}

#[test]
fn a_large_database_comes_through_a_link_that_is_cut_again_and_again() {
    run("cut-again", Weight::Heavy, async |scratch| {
        const ROWS: i64 = 100;
        let (proxy, mut cluster) = start(scratch, 1, ROWS).await?;
        let primary = cluster.primary().await?;
        let narrow = Conditions::narrow(10 << 20);
        proxy.set(primary, BLANK, narrow);
        cluster.join(BLANK).await?;
        for _ in 0..CUTS_MAX {
            tokio::time::sleep(OPEN).await;
            proxy.set(primary, BLANK, Conditions::cut());
            tokio::time::sleep(CUT).await;
            proxy.set(primary, BLANK, narrow);
            let diffs = Diffs::of(&cluster, BLANK)?;
            eprintln!("{diffs:?}");
            if diffs.broken_off.len() >= BROKEN_OFF {
                break;
            }
        }
        proxy.heal();
        comes_up(&cluster, 1).await?;
        let diffs = Diffs::of(&cluster, BLANK)?;
        let large = (ROWS * ROW_BYTES) as u64;
        ensure!(
            diffs.broken_off.len() >= BROKEN_OFF,
            "the cuts cut nothing: {diffs:?}"
        );
        ensure!(
            diffs.bytes() < large * 5 / 4,
            "more came than the database once ({large} bytes): {diffs:?}"
        );
        ensure!(
            diffs
                .pulled
                .values()
                .flatten()
                .all(|bytes| *bytes < large * 9 / 10),
            "the last attempt began at the beginning: {diffs:?}"
        );
        Ok(())
    });
}

#[test]
fn databases_that_have_come_do_not_come_again_when_the_node_dies_in_the_middle() {
    run("dies-in-the-middle", Weight::Heavy, async |scratch| {
        const DATABASES: usize = 20;
        const ROWS: i64 = 4;
        let (proxy, mut cluster) = start(scratch, DATABASES, ROWS).await?;
        let primary = cluster.primary().await?;
        proxy.set(primary, BLANK, Conditions::narrow(8 << 20));
        cluster.join(BLANK).await?;
        let some = DATABASES / 3;
        let before = wait::until("some databases have come", TRANSFER, async || {
            let diffs = Diffs::of(&cluster, BLANK).map_err(|e| e.to_string())?;
            match diffs.pulled.len() {
                come if come >= some => Ok(diffs),
                come => Err(format!("{come} databases")),
            }
        })
        .await?;
        cluster.kill(BLANK)?;
        ensure!(
            before.pulled.len() < DATABASES,
            "all had come before it died: {before:?}"
        );
        cluster.restart(BLANK)?;
        comes_up(&cluster, DATABASES).await?;
        let diffs = Diffs::of(&cluster, BLANK)?;
        let one = (ROWS * ROW_BYTES) as u64;
        // The last one may not have been installed when the node died.
        let installed = before.pulled.len() - 1;
        let come_once = before.pulled.keys().filter(|id| {
            let again: u64 = diffs.pulled[id].iter().skip(1).sum();
            again < one / 10
        });
        ensure!(come_once.count() >= installed, "{before:?}, then {diffs:?}");
        let all = one * DATABASES as u64 + 3 * ROW_BYTES as u64;
        ensure!(
            diffs.bytes() < all * 5 / 4,
            "more came than all databases once ({all} bytes): {diffs:?}"
        );
        Ok(())
    });
}
