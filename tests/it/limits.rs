//! What one call may take of a node: a value that is too large is refused before it takes memory, and by one node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{ErrorKind, ReadLevel};
use halite_proto::v1;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, wait};

const TOO_BIG: i32 = 18;
/// What a node may grow by meanwhile; the smallest of these values has 400 MB.
const GROWTH_MAX_KIB: u64 = 128 << 10;

/// The most memory that each node has had, in KiB.
fn peaks(cluster: &TestCluster) -> Result<Vec<u64>> {
    let peak = |id| {
        let pid = cluster.local.pid(id).context("the node runs")?;
        program::peak_memory_kib(pid.as_raw_nonzero().get().cast_unsigned())
    };
    cluster.ids().into_iter().map(peak).collect()
}

#[test]
fn a_value_that_is_too_large_is_refused_at_once_by_one_node_and_takes_no_memory() {
    run("large-values", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('x')", ()).await?;
        cluster.settle("app").await?;
        let retries = cluster.ops().stats().retries;
        let before = peaks(&cluster)?;
        for sql in [
            "SELECT hex(zeroblob(400000000))",
            "SELECT printf('%.*c', 400000000, 'x')",
            "SELECT zeroblob(900000000)",
        ] {
            for level in [ReadLevel::Local, ReadLevel::Linearizable] {
                let error = app.with_level(level).query(sql, ()).await.err();
                let error = error.with_context(|| format!("it was read: {sql}"))?;
                ensure!(
                    matches!(error.kind(), ErrorKind::Sql { code: TOO_BIG, .. }),
                    "{sql}: {error:?}"
                );
            }
        }
        for sql in [
            "INSERT INTO t VALUES (1) RETURNING hex(zeroblob(400000000))",
            "WITH x (a) AS (SELECT 1) INSERT INTO t SELECT a FROM x RETURNING hex(zeroblob(400000000))",
            "INSERT INTO t VALUES (zeroblob(900000000))",
            "INSERT INTO t VALUES (hex(zeroblob(400000000)))",
            "UPDATE t SET a = printf('%.*c', 400000000, a)",
        ] {
            let error = app.execute(sql, ()).await.err();
            let error = error.with_context(|| format!("it was written: {sql}"))?;
            ensure!(
                matches!(error.kind(), ErrorKind::Sql { code: TOO_BIG, .. }),
                "{sql}: {error:?}"
            );
        }
        let tried = cluster.ops().stats().retries - retries;
        ensure!(tried == 0, "{tried} of them were tried once more");
        let strict = app.with_level(ReadLevel::Linearizable);
        let rows = strict.query("SELECT group_concat(a) FROM t", ()).await?;
        let left: String = rows.first().context("a row")?.get(0)?;
        ensure!(left == "x", "something was written: {left}");
        for (before, after) in before.into_iter().zip(peaks(&cluster)?) {
            ensure!(
                after < before + GROWTH_MAX_KIB,
                "a node grew from {before} to {after} KiB"
            );
        }
        Ok(())
    });
}

/// Each aggregate gathers all that its string grows to before it is refused; as many of them side by side as a statement has columns. `#` makes
/// them differ: SQLite computes the same one once.
fn gather(aggregate: &str, columns: usize) -> String {
    let column = |n: usize| format!("length({})", aggregate.replace('#', &n.to_string()));
    let columns = Vec::from_iter((0..columns).map(column)).join(", ");
    format!(
        "WITH RECURSIVE c (n, s) AS (SELECT 1, hex(zeroblob(500000)) UNION ALL SELECT n + 1, s FROM c LIMIT 300) SELECT {columns} FROM c"
    )
}

#[test]
fn what_one_statement_gathers_in_memory_is_bounded_and_others_go_on() {
    const NO_MEMORY: i32 = 7;
    const GATHERED_MAX_KIB: u64 = 600 << 10;
    run("gathering", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app").with_timeout(PATIENCE);
        app.execute("CREATE TABLE t (a)", ()).await?;
        let before = peaks(&cluster)?;
        for aggregate in [
            "json_group_array(s || #)",
            "json_group_object(n, s || #)",
            "jsonb_group_array(s || #)",
        ] {
            let sql = gather(aggregate, 4);
            let read = app.with_level(ReadLevel::Linearizable);
            let error = read.query(&*sql, ()).await.err();
            let error = error.with_context(|| format!("it was read: {aggregate}"))?;
            ensure!(
                matches!(
                    error.kind(),
                    ErrorKind::Sql {
                        code: NO_MEMORY | TOO_BIG,
                        ..
                    }
                ),
                "{aggregate}: {error:?}"
            );
            // The writer's connection as well, and what it does next.
            let error = app
                .execute(format!("INSERT INTO t {}", gather(aggregate, 1)), ())
                .await;
            ensure!(error.is_err(), "{aggregate} was written");
            app.execute("INSERT INTO t VALUES (1)", ()).await?;
        }
        let rows = app.query("SELECT count(*) FROM t", ()).await?;
        ensure!(rows[0].get::<i64>(0)? == 3);
        for (before, after) in before.into_iter().zip(peaks(&cluster)?) {
            ensure!(
                after < before + GATHERED_MAX_KIB,
                "a node grew from {before} to {after} KiB"
            );
        }
        Ok(())
    });
}

/// One call of a function, which SQLite does not interrupt: it compares each place of a text with a pattern that fails at its end.
fn endless() -> String {
    let text = "replace(hex(zeroblob(15000000)), '00', 'aa')";
    let pattern = "'%' || substr(replace(hex(zeroblob(1000)), '00', 'a'), 1, 990) || 'b%'";
    format!("{text} LIKE {pattern}")
}

#[test]
fn calls_of_functions_that_nothing_interrupts_take_no_reads_from_others() {
    run("endless-reads", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.nodes = 1;
            options.databases.push(("other".to_owned(), 4096));
        })
        .await?;
        let addr = cluster.local.node(1).addr.clone();
        let endless = format!("SELECT {}", endless());
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (addr, endless) = (addr.clone(), endless.clone());
            asked.spawn(async move {
                let mut node = DirectNode::new(&addr, Duration::from_secs(2))?;
                node.integers("other", &endless, &[], v1::ReadLevel::Local)
                    .await
            });
        }
        while let Some(answer) = asked.join_next().await {
            ensure!(answer?.is_err(), "it was answered: is it slow enough?");
        }
        // All threads that there were are at it still.
        let app = cluster.ops().database("app").with_level(ReadLevel::Local);
        wait::until("others are read", PATIENCE, async || {
            let read = app.query("SELECT 1", ()).await;
            read.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        let log = cluster.log_of(1)?;
        ensure!(log.contains("another thread takes the place"), "{log}");
        Ok(())
    });
}

#[test]
fn a_writer_that_nothing_interrupts_makes_room_for_another_node() {
    run("endless-write", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let held = cluster.primary().await?;
        let addr = cluster.local.node(held).addr.clone();
        let mut node = DirectNode::new(&addr, Duration::from_secs(2))?;
        let endless = format!("INSERT INTO t SELECT 1 WHERE {}", endless());
        let asked = node.execute("app", &endless).await;
        ensure!(asked.is_err(), "it was answered: is it slow enough?");
        wait::until("writes go on", PATIENCE, async || {
            let wrote = app.execute("INSERT INTO t VALUES (2)", ()).await;
            wrote.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        let leads = cluster.primary().await?;
        ensure!(leads != held, "node {held} leads on");
        let trouble = cluster.database_status(held, "app").await?.trouble;
        ensure!(trouble.contains("cannot be interrupted"), "{trouble}");
        // And it is stopped all the same.
        cluster.local.terminate(held, PATIENCE)?;
        Ok(())
    });
}
