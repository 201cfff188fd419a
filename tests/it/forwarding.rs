//! Followers hand on what only the primary can do, also what they find out to be a write only when they run it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{ErrorKind, ReadLevel};
use halite_proto::v1;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;

const TIMEOUT: Duration = Duration::from_secs(3);
const PIPELINED: i64 = 50;

/// Streams that a node serves at a time in these tests, the client that operates the cluster included.
const SESSIONS_MAX: usize = 4;

/// Begins like a read: only SQLite knows that it is none.
fn disguised(n: i64) -> String {
    format!("WITH x(a) AS (SELECT {n}) INSERT INTO t SELECT a FROM x RETURNING a")
}

#[test]
fn a_read_that_turns_out_to_write_is_carried_out_once_from_any_node() {
    run("disguised", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a UNIQUE)", ()).await?;
        let mut written = 0;
        for id in cluster.ids() {
            let mut node = DirectNode::new(&cluster.local.node(id).addr, TIMEOUT)?;
            written += 1;
            let returned = node
                .execute("app", &disguised(written))
                .await
                .with_context(|| format!("a unary call to node {id}"))?;
            ensure!(returned == [[written]], "node {id} returned {returned:?}");
            let statements: Vec<_> = (1..=PIPELINED).map(|n| disguised(written + n)).collect();
            let returned = node
                .pipelined("app", &statements)
                .await
                .with_context(|| format!("a pipelined stream to node {id}"))?;
            let expected: Vec<_> = (1..=PIPELINED).map(|n| vec![vec![written + n]]).collect();
            ensure!(returned == expected, "node {id} returned {returned:?}");
            written += PIPELINED;
        }
        // Whoever says that it is a read is held to it, wherever it goes.
        let local = app.with_level(ReadLevel::Local);
        let refused = local.query(disguised(0), ()).await;
        let refused = refused.err().context("a read that writes")?;
        ensure!(*refused.kind() == ErrorKind::Invalid, "{refused:?}");
        all_there(&cluster, written).await?;
        for id in cluster.ids() {
            ensure!(
                cluster.local.exited(id)?.is_none(),
                "node {id} has come to an end"
            );
            let said = cluster.log_of(id)?;
            ensure!(!said.contains("panicked"), "node {id} panicked: {said}");
        }
        Ok(())
    });
}

/// Numbers 1 to `last`, each once, on every node.
async fn all_there(cluster: &TestCluster, last: i64) -> Result<()> {
    cluster.check_same("app").await?;
    for id in cluster.ids() {
        let mut node = DirectNode::new(&cluster.local.node(id).addr, PATIENCE)?;
        let sql = "SELECT count(*), count(DISTINCT a), min(a), max(a) FROM t";
        let level = v1::ReadLevel::Linearizable;
        let found = node.integers("app", sql, &[], level).await?;
        ensure!(found == [[last, last, 1, last]], "node {id} has {found:?}");
    }
    Ok(())
}

/// A cluster whose nodes serve few sessions, and a follower of it.
async fn with_few_sessions(scratch: &Scratch) -> Result<(TestCluster, u64)> {
    let cluster = TestCluster::start(scratch, |options| {
        options.extra_config = format!("limits:\n  max-sessions: {SESSIONS_MAX}\n");
    })
    .await?;
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE t (a UNIQUE)", ()).await?;
    cluster.settle("app").await?;
    let follower = cluster.follower().await?;
    Ok((cluster, follower))
}

#[test]
fn forwarded_calls_take_no_session_of_the_primary() {
    run("forwarded-unary", Weight::Light, async |scratch| {
        let (cluster, follower) = with_few_sessions(scratch).await?;
        let addr = &cluster.local.node(follower).addr;
        let mut node = DirectNode::new(addr, PATIENCE)?;
        let last = SESSIONS_MAX as i64 * 4;
        for n in 1..=last {
            let sql = if n % 2 == 0 {
                disguised(n)
            } else {
                format!("INSERT INTO t VALUES ({n}) RETURNING a")
            };
            let returned = node.execute("app", &sql).await;
            let returned = returned.with_context(|| format!("write {n} through a follower"))?;
            ensure!(returned == [[n]], "write {n} returned {returned:?}");
        }
        // At once, more of them than there are sessions.
        let at_once = (1..=last).map(|n| {
            let mut node = node.clone();
            async move {
                let sql = format!("INSERT INTO t VALUES ({})", last + n);
                node.execute("app", &sql).await
            }
        });
        for written in futures::future::join_all(at_once).await {
            written.context("one of many writes at once through a follower")?;
        }
        all_there(&cluster, last * 2).await
    });
}

/// A client of its own that leaves without a word when it has its answer: its connection breaks off with its runtime.
async fn passing_client(addr: String, sql: String) -> Result<Vec<Vec<Vec<i64>>>> {
    let client = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut node = DirectNode::new(&addr, PATIENCE)?;
            let (answers, open) = node.stream("app", &[sql]).await?;
            std::mem::forget(open);
            Ok(answers)
        })
    };
    tokio::task::spawn_blocking(client).await?
}

#[test]
fn a_session_ends_with_its_client_also_at_the_node_it_was_forwarded_to() {
    run("forwarded-streams", Weight::Light, async |scratch| {
        let (cluster, follower) = with_few_sessions(scratch).await?;
        let mut written = 0;
        for round in 0..SESSIONS_MAX * 4 {
            written += 1;
            let addr = &cluster.local.node(follower).addr;
            let returned = wait::until("a session is free", PATIENCE, async || {
                passing_client(addr.clone(), disguised(written))
                    .await
                    .map_err(|error| format!("{error:#}"))
            })
            .await
            .with_context(|| format!("stream {round} through a follower"))?;
            ensure!(returned == [[[written]]], "{returned:?}");
        }
        all_there(&cluster, written).await
    });
}

#[test]
fn a_stream_that_its_client_has_ended_ends_after_the_last_answer() {
    run("half-closed", Weight::Light, async |scratch| {
        let (cluster, follower) = with_few_sessions(scratch).await?;
        let primary = cluster.primary().await?;
        let mut last = 0;
        for id in [primary, follower] {
            let mut node = DirectNode::new(&cluster.local.node(id).addr, PATIENCE)?;
            // The same connection: only the end of each stream gives its session back.
            for _ in 0..SESSIONS_MAX * 2 {
                let statements: Vec<_> = (1..=3).map(|n| disguised(last + n)).collect();
                let answers = node.pipelined_to_the_end("app", &statements).await;
                let answers = answers.with_context(|| format!("a stream to node {id}"))?;
                ensure!(answers == 3, "{answers} answers came before the end");
                last += 3;
            }
        }
        all_there(&cluster, last).await
    });
}

#[test]
fn an_idle_stream_holds_no_place_at_the_primary() {
    run("idle-streams", Weight::Light, async |scratch| {
        let (cluster, _) = with_few_sessions(scratch).await?;
        let (_, others) = cluster.roles().await?;
        let mut open = Vec::new();
        let mut written = 0;
        for id in others {
            // All that a follower serves beside the client that operates the cluster; those of two are more than the primary serves.
            for _ in 1..SESSIONS_MAX {
                written += 1;
                let node = DirectNode::new(&cluster.local.node(id).addr, PATIENCE)?;
                let (answers, forwarded) = wait::until("a place is free", PATIENCE, async || {
                    let mut node = node.clone();
                    node.stream("app", &[disguised(written)])
                        .await
                        .map_err(|error| format!("{error:#}"))
                })
                .await
                .with_context(|| format!("stream {written} through node {id}"))?;
                ensure!(answers == [[[written]]], "{answers:?}");
                open.push((node, forwarded));
            }
        }
        all_there(&cluster, written).await
    });
}

/// What a node says of a call that it cannot carry out.
fn refusal(error: &anyhow::Error) -> Result<v1::Error> {
    let status = error.downcast_ref::<tonic::Status>();
    let said = status.and_then(halite_proto::error_detail::from_status);
    said.with_context(|| format!("a node that says why, not {error:#}"))
}

#[test]
fn a_write_that_cannot_be_handed_on_is_told_as_one_that_was_not_sent() {
    run("unsent", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a UNIQUE)", ()).await?;
        cluster.settle("app").await?;
        let (primary, others) = cluster.roles().await?;
        let mut node = DirectNode::new(&cluster.local.node(others[0]).addr, PATIENCE)?;
        // Connected, but not to the primary by way of it.
        let level = v1::ReadLevel::Local;
        node.integers("app", "SELECT count(*) FROM t", &[], level)
            .await?;
        cluster.kill(others[1])?;
        cluster.kill(primary)?;
        // With nobody to elect it knows the dead primary for as long as it likes.
        let error = node.execute("app", "INSERT INTO t VALUES (1)").await;
        let said = refusal(&error.err().context("it was written")?)?;
        ensure!(said.code() == v1::ErrorCode::Unavailable, "{said:?}");
        ensure!(said.message.contains("nothing was sent to it"), "{said:?}");
        let pipelined = node
            .pipelined("app", &["INSERT INTO t VALUES (2)".to_owned()])
            .await;
        let said = format!("{:#}", pipelined.err().context("it was written")?);
        ensure!(said.contains("nothing was sent to it"), "{said}");
        Ok(())
    });
}
