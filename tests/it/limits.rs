//! What one call may take of a node: a value that is too large is refused before it takes memory, and by one node.

use anyhow::{Context, Result, ensure};
use halite_client::{ErrorKind, ReadLevel};
use halite_tests::cluster::TestCluster;
use halite_tests::program;
use halite_tests::scratch::{Weight, run};

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
