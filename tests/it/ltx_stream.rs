//! Whoever follows a database by its transactions gets each of them once, and what they add up to is the database.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use halite_client::{Database, ErrorKind, LtxStream, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::ltx_copy::LtxCopy;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const WRITES: i64 = 60;
/// More than one log entry, and more than one message, carries.
const BIG_BYTES: i64 = 5 << 20;
/// How many transactions a live copy takes between two deaths.
const BETWEEN_DEATHS: u64 = 150;
/// Nothing has to come within this time where nothing is.
const QUIET: Duration = Duration::from_millis(300);
const ROW_BYTES: i64 = 950_000;

/// Takes transactions until the copy has come to `txid`.
async fn follow(stream: &mut LtxStream, copy: &mut LtxCopy, txid: u64) -> Result<()> {
    while copy.txid() < txid {
        let next = tokio::time::timeout(PATIENCE, stream.next_transaction());
        let transaction = next
            .await
            .with_context(|| format!("nothing came after transaction {}", copy.txid()))??;
        copy.apply(&transaction)?;
    }
    Ok(())
}

async fn same_as_the_nodes(scratch: &Scratch, cluster: &TestCluster, copy: &LtxCopy) -> Result<()> {
    let pages = copy.check(&scratch.join("copy.db"))?;
    cluster.check_same("app").await?.check_same(&pages)
}

#[test]
fn what_a_follower_streams_from_the_first_transaction_on_is_the_database() {
    run("ltx-copy", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", ())
            .await?;
        app.execute("CREATE INDEX i ON t (b)", ()).await?;
        for n in 1..=WRITES {
            let bytes = if n % 20 == 0 { BIG_BYTES } else { n * 50 };
            let insert = "INSERT INTO t VALUES (?1, randomblob(?2))";
            app.execute(insert, params![n, bytes]).await?;
        }
        app.execute("DELETE FROM t WHERE a > 30", ()).await?;
        app.execute("VACUUM", ()).await?;
        let txid = cluster.settle("app").await?;
        let follower = cluster.follower().await?;

        let mut stream = app.ltx_stream_at(follower, 1).await?;
        let mut copy = LtxCopy::default();
        follow(&mut stream, &mut copy, txid).await?;
        ensure!(
            stream.node_id() == Some(follower),
            "streamed from {:?}, not from the follower {follower}",
            stream.node_id()
        );
        same_as_the_nodes(scratch, &cluster, &copy).await?;

        // From here on it is live.
        app.execute("INSERT INTO t VALUES (1000, 'more')", ())
            .await?;
        follow(&mut stream, &mut copy, txid + 1).await?;
        same_as_the_nodes(scratch, &cluster, &copy).await
    });
}

/// Copies until it has come to the wanted transaction (`u64::MAX`: not known yet).
fn copy_live(
    mut stream: LtxStream,
    wanted: watch::Receiver<u64>,
    news: watch::Sender<(u64, Option<u64>)>,
) -> JoinHandle<Result<LtxCopy>> {
    tokio::spawn(async move {
        let mut wanted = wanted;
        let mut copy = LtxCopy::default();
        loop {
            let end = *wanted.borrow_and_update();
            if copy.txid() >= end {
                return Ok(copy);
            }
            tokio::select! {
                transaction = stream.next_transaction() => copy.apply(&transaction?)?,
                changed = wanted.changed() => changed?,
            }
            news.send_replace((copy.txid(), stream.node_id()));
        }
    })
}

#[test]
fn a_live_copy_has_no_gap_when_the_node_that_serves_it_dies() {
    run("ltx-live", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(11)).await?;
        let app = cluster.client().await?.database("app");
        let (end, wanted) = watch::channel(u64::MAX);
        let (news, mut seen) = watch::channel((0, None));
        let copying = copy_live(app.ltx_stream(1).await?, wanted, news);
        let mut served_by = Vec::new();
        for death in 1..=6 {
            let (_, serving) = *seen
                .wait_for(|(txid, node)| *txid >= death * BETWEEN_DEATHS && node.is_some())
                .await
                .context("the copy ended")?;
            let dying = serving.context("a node serves")?;
            cluster.kill(dying)?;
            served_by.push(dying);
            seen.wait_for(|(_, node)| node.is_some_and(|node| node != dying))
                .await
                .context("the copy ended")?;
            cluster.restart(dying)?;
            cluster.primary().await?;
        }
        load.stop().await;
        let txid = cluster.settle("app").await?;
        end.send_replace(txid);
        let copy = tokio::time::timeout(PATIENCE, copying)
            .await
            .context("the copy does not come to its end")???;
        eprintln!("{txid} transactions from nodes {served_by:?}, each of which died");
        same_as_the_nodes(scratch, &cluster, &copy).await
    });
}

#[test]
fn a_stream_cannot_begin_beyond_the_next_transaction() {
    run("ltx-beyond", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let txid = cluster.settle("app").await?;
        for id in cluster.ids() {
            let refused = app.ltx_stream_at(id, txid + 2).await;
            let error = refused.err().context("a stream from beyond the end")?;
            ensure!(*error.kind() == ErrorKind::Invalid, "{error:?}");
            let said = error.to_string();
            ensure!(
                said.contains(&format!("txid={txid} from_txid={}", txid + 2)),
                "{said}"
            );
        }
        let mut next = app.ltx_stream(txid + 1).await?;
        let mut end = app.ltx_stream(0).await?;
        ensure!(end.next_txid() == txid + 1, "{end:?}");
        let early = tokio::time::timeout(QUIET, next.next_transaction()).await;
        ensure!(early.is_err(), "nothing was written: {early:?}");
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        for stream in [&mut next, &mut end] {
            let transaction = tokio::time::timeout(PATIENCE, stream.next_transaction()).await??;
            ensure!(transaction.txid == txid + 1, "{transaction:?}");
        }
        let unknown = cluster.ops().database("nobody").ltx_stream(1).await;
        let error = unknown.err().context("a stream of no database")?;
        ensure!(*error.kind() == ErrorKind::NoSuchDatabase, "{error:?}");
        Ok(())
    });
}

/// Nobody can serve transaction 1 of this database any more.
async fn is_purged(database: &Database) -> Result<(), String> {
    match database.ltx_stream(1).await {
        Err(error) if *error.kind() == ErrorKind::Purged => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_transaction_that_has_left_the_log_is_refused_with_these_words() {
    run("ltx-purged", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.databases = vec![("idle".to_owned(), 4096), ("busy".to_owned(), 4096)];
            options.extra_config = "checkpoint:\n  wal-size: 1MiB\n".to_owned();
        })
        .await?;
        let idle = cluster.ops().database("idle");
        let busy = cluster.ops().database("busy");
        for database in [&idle, &busy] {
            let create = "CREATE TABLE t (slot INTEGER PRIMARY KEY, b)";
            database.execute(create, ()).await?;
        }
        let mut n = 0;
        wait::until("the log is purged", PATIENCE * 2, async || {
            for _ in 0..20 {
                n += 1;
                let replace = "REPLACE INTO t VALUES (?1, randomblob(?2))";
                busy.execute(replace, params![n % 3, ROW_BYTES])
                    .await
                    .map_err(|error| error.to_string())?;
            }
            is_purged(&busy).await
        })
        .await?;
        // Nothing of the idle one is left in the log: there is no later transaction that would show the gap.
        wait::until("all of the idle database is purged", PATIENCE, async || {
            is_purged(&idle).await
        })
        .await?;
        for database in [&idle, &busy] {
            let mut end = database.ltx_stream(0).await?;
            let txid = end.next_txid();
            database
                .execute("INSERT INTO t VALUES (100, 1)", ())
                .await?;
            let next = tokio::time::timeout(PATIENCE, end.next_transaction()).await??;
            if next.txid != txid {
                bail!("{next:?} came instead of {txid}");
            }
        }
        Ok(())
    });
}
