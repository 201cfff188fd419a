//! Followers hand on what only the primary can do, also what they find out to be a write only when they run it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{ErrorKind, ReadLevel};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Weight, run};

const TIMEOUT: Duration = Duration::from_secs(3);
const PIPELINED: i64 = 50;

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
        let level = halite_proto::v1::ReadLevel::Linearizable;
        let found = node.integers("app", sql, &[], level).await?;
        ensure!(found == [[last, last, 1, last]], "node {id} has {found:?}");
    }
    Ok(())
}
