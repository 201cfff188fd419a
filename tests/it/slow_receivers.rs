//! Whoever does not take what it asked for holds up nobody else, and large answers come whole.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use halite_client::{ErrorKind, ReadLevel};
use halite_proto::v1;
use halite_proto::v1::admin_client::AdminClient;
use halite_proto::v1::halite_client::HaliteClient;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// More than a node has reader threads.
const READERS: usize = 40;
/// Readers that take their first rows and no more.
const STALLED: u64 = 150;
/// More than a node serves exports.
const STREAMS: usize = 24;
/// Some hundred MiB.
const MANY: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) SELECT x, hex(zeroblob(500)) FROM n";

fn with_three_databases(options: &mut halite::local_cluster::LocalClusterOptions) {
    options.databases = ["app", "other", "third"]
        .map(|name| (name.to_owned(), 4096))
        .to_vec();
}

fn channel(cluster: &TestCluster, id: u64) -> Result<Channel> {
    let addr = &cluster.local.node(id).addr;
    Ok(Endpoint::from_shared(format!("http://{addr}"))?.connect_lazy())
}

/// A query of which only the first rows are taken.
async fn stalled(channel: Channel, timeout: Duration) -> Result<Streaming<v1::QueryResponse>> {
    let request = v1::QueryRequest {
        database: "app".to_owned(),
        statement: Some(v1::Statement {
            sql: MANY.to_owned(),
            ..v1::Statement::default()
        }),
        level: v1::ReadLevel::Local.into(),
        timeout_ms: u32::try_from(timeout.as_millis())?,
        ..v1::QueryRequest::default()
    };
    let mut rows = HaliteClient::new(channel)
        .query(request)
        .await?
        .into_inner();
    rows.message().await?.context("the first rows")?;
    Ok(rows)
}

#[test]
fn clients_that_do_not_take_their_rows_hold_up_no_read_write_or_drop() {
    run("slow-reads", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, with_three_databases).await?;
        let other = cluster.ops().database("other");
        other.execute("CREATE TABLE t (a)", ()).await?;
        cluster.settle("other").await?;
        let id = cluster.primary().await?;
        let mut streams = Vec::new();
        for n in 0..READERS {
            // Half of them may take as long as any call may.
            let timeout = if n % 2 == 0 { 600 } else { 9 };
            let opened = stalled(channel(&cluster, id)?, Duration::from_secs(timeout));
            let opened = tokio::time::timeout(PATIENCE, opened).await;
            streams.push(
                opened
                    .ok()
                    .with_context(|| format!("stream {n} does not begin"))??,
            );
        }
        let mut node = DirectNode::new(&cluster.local.node(id).addr, PATIENCE)?;
        let sql = "SELECT count(*) FROM t";
        let rows = node
            .integers("other", sql, &[], v1::ReadLevel::Local)
            .await
            .context("a read of another database")?;
        ensure!(rows == [[0]], "{rows:?}");
        for (name, writes) in [("third", false), ("app", true)] {
            let admin = cluster.ops().admin();
            let dropped = admin.drop_database(name, false);
            tokio::time::timeout(PATIENCE, dropped)
                .await
                .with_context(|| format!("drop {name}"))??;
            if writes {
                other.execute("INSERT INTO t VALUES (1)", ()).await?;
            }
        }
        // The database is gone: all of them are told so, after the rows that were on their way.
        for mut rows in streams {
            let ended = async {
                loop {
                    match rows.message().await {
                        Ok(Some(piece)) if piece.done => bail!("all rows of a dropped database"),
                        Ok(Some(_)) => {}
                        Ok(None) => bail!("the stream ended without a word"),
                        Err(status) => return Ok(status),
                    }
                }
            };
            let status = tokio::time::timeout(PATIENCE, ended).await??;
            ensure!(
                halite_proto::error_detail::from_status(&status).is_some(),
                "{status:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_read_whose_rows_are_not_taken_is_ended_with_these_words() {
    run("stalled-read", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let id = cluster.primary().await?;
        let mut rows = stalled(channel(&cluster, id)?, Duration::from_secs(600)).await?;
        // It holds the state of the database as it was; the node tells by itself how long.
        wait::until("the read is ended", PATIENCE, async || {
            let said = cluster.log_of(id).map_err(|_| "its log cannot be read")?;
            if said.contains("its receiver took no rows") {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await?;
        let error = loop {
            match rows.message().await {
                Ok(Some(piece)) => ensure!(!piece.done, "all rows came"),
                Ok(None) => bail!("the stream ended without a word"),
                Err(status) => break status,
            }
        };
        let error = halite_proto::error_detail::from_status(&error).context("no detail")?;
        ensure!(error.code() == v1::ErrorCode::DeadlineExceeded, "{error:?}");
        Ok(())
    });
}

/// What a process has in memory, in MiB.
fn resident_mib(pid: impl std::fmt::Display) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no resident memory")?.parse::<u64>()? / 1024)
}

#[test]
fn readers_that_stall_cost_a_node_little_memory_each() {
    run("stalled-memory", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a, b)", ()).await?;
        // Small rows, which take much more in memory than in a message, and many pages.
        let many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) INSERT INTO t SELECT x, 'some text' FROM n";
        app.with_timeout(PATIENCE).execute(many, ()).await?;
        cluster.settle("app").await?;
        let id = cluster.follower().await?;
        let pid = cluster.local.pid(id).context("the node runs")?;
        let pid = pid.as_raw_nonzero();
        let before = resident_mib(pid)?;
        let mut streams = Vec::new();
        for _ in 0..STALLED {
            let request = v1::QueryRequest {
                database: "app".to_owned(),
                statement: Some(v1::Statement {
                    sql: "SELECT a, b FROM t ORDER BY rowid".to_owned(),
                    ..v1::Statement::default()
                }),
                level: v1::ReadLevel::Local.into(),
                timeout_ms: 600_000,
                ..v1::QueryRequest::default()
            };
            let mut node = HaliteClient::new(channel(&cluster, id)?);
            let mut rows = node.query(request).await?.into_inner();
            // One that is ended, since too many wait, holds what it was given as well.
            drop(rows.message().await);
            streams.push(rows);
        }
        let with = resident_mib(pid)?;
        eprintln!("{before} MiB before, {with} MiB with {STALLED} readers that stall");
        ensure!(
            with < before + STALLED,
            "{before} MiB before, {with} MiB with {STALLED} readers that stall"
        );
        Ok(())
    });
}

fn threads(pid: impl std::fmt::Display) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    Ok(line.context("no count of threads")?.trim().parse()?)
}

#[test]
fn slow_ltx_streams_and_exports_hold_no_threads() {
    run("slow-streams", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        for _ in 0..12 {
            app.execute("INSERT INTO t VALUES (randomblob(2000000))", ())
                .await?;
        }
        cluster.settle("app").await?;
        let id = cluster.primary().await?;
        let pid = cluster.local.pid(id).context("the node runs")?;
        let pid = pid.as_raw_nonzero();
        let before = threads(pid)?;
        let mut kept_ltx = Vec::new();
        let mut kept_exports = Vec::new();
        let mut refused = None;
        for _ in 0..STREAMS {
            let mut node = HaliteClient::new(channel(&cluster, id)?);
            let request = v1::StreamLtxRequest {
                database: "app".to_owned(),
                from_txid: 1,
            };
            let mut stream = node.stream_ltx(request).await?.into_inner();
            stream.message().await?.context("the first piece")?;
            kept_ltx.push(stream);
            let request = v1::ExportRequest {
                database: "app".to_owned(),
                level: v1::ReadLevel::Local.into(),
            };
            match AdminClient::new(channel(&cluster, id)?)
                .export(request)
                .await
            {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    stream.message().await?.context("the first piece")?;
                    kept_exports.push(stream);
                }
                Err(status) => refused = Some(status),
            }
        }
        // Threads that read the log and the file for a moment, not one for each stream.
        let after = threads(pid)?;
        ensure!(
            after < before + STREAMS,
            "{before} threads before, {after} with {STREAMS} slow streams and {} slow exports",
            kept_exports.len()
        );
        let refused = refused.context("exports have no limit")?;
        ensure!(refused.message().contains("most exports"), "{refused:?}");
        // They go on where they stand.
        let mut stream = kept_ltx.swap_remove(0);
        let mut last = 0;
        while last < 13 {
            let piece = stream.message().await?.context("the next piece")?;
            last = if piece.last { piece.txid } else { last };
        }
        let mut export = kept_exports.swap_remove(0);
        while !export.message().await?.context("the next piece")?.done {}
        Ok(())
    });
}

#[test]
fn large_rows_come_whole_and_a_row_that_is_too_large_fails_its_own_call_alone() {
    run("large-rows", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let blobs = |rows: usize, bytes: usize| {
            format!(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {rows}) SELECT x, zeroblob({bytes}) FROM n"
            )
        };
        let retries = cluster.ops().stats().retries;
        let database = app.with_timeout(PATIENCE).with_level(ReadLevel::Local);
        let large = tokio::spawn({
            let (database, sql) = (database.clone(), blobs(100, 2 << 20));
            async move { database.query(sql, ()).await }
        });
        let row = format!("SELECT {}", ["zeroblob(30000000)"; 3].join(", "));
        for sql in [row.as_str(), "SELECT hex(zeroblob(400000000))"] {
            let error = database.query(sql, ()).await.err().context("too large")?;
            ensure!(
                matches!(error.kind(), ErrorKind::Sql { code: 18, .. }),
                "{sql}: {error:?}"
            );
        }
        let rows = database
            .query("SELECT 7", ())
            .await
            .context("a small read")?;
        ensure!(rows.len() == 1);
        let rows = large.await?.context("100 rows of 2 MiB")?;
        ensure!(rows.len() == 100, "{} rows", rows.len());
        let mut stream = database.query_stream(blobs(100, 2 << 20), ()).await?;
        let mut streamed = 0;
        while let Some(row) = stream.next().await {
            row.context("a row of 2 MiB")?;
            streamed += 1;
        }
        ensure!(streamed == 100, "{streamed} rows");
        let returned = database
            .execute("INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8) RETURNING zeroblob(2 << 20)", ())
            .await
            .context("8 rows of 2 MiB from a write")?;
        ensure!(returned.rows.len() == 8);
        // What cannot be given back is not written either.
        let insert = format!(
            "INSERT INTO t {} RETURNING a, zeroblob(2 << 20)",
            "SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')"
        );
        let refused = database.execute(insert, ()).await.err();
        let refused = refused.context("40 MiB of rows from a write")?;
        ensure!(*refused.kind() == ErrorKind::Invalid, "{refused:?}");
        let rows = database
            .with_level(ReadLevel::Linearizable)
            .query("SELECT count(*) FROM t", ())
            .await?;
        ensure!(rows.first().context("a row")?.get::<i64>(0)? == 8);
        ensure!(
            cluster.ops().stats().retries == retries,
            "something was tried elsewhere"
        );
        Ok(())
    });
}
