//! What a write gives back arrives, also with the first call of a client.

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::TestCluster;
use halite_tests::program;
use halite_tests::scratch::{Weight, run};

/// Fresh clients of each kind.
const CLIENTS: usize = 40;

/// A new client, which knows only `addrs`, writes a row as the first thing that it does.
async fn first_write(addrs: &str, n: usize) -> Result<()> {
    let sql = format!("INSERT INTO t VALUES ({n}) RETURNING a");
    let args = ["--addr", addrs, "sql", "--db", "app", "--mode", "csv", &sql].map(str::to_owned);
    let output = tokio::task::spawn_blocking(move || program::run(args)).await??;
    let said = program::text(&output);
    ensure!(output.status.success(), "write {n} through {addrs}: {said}");
    let last = said.lines().last();
    ensure!(
        last == Some(&n.to_string()),
        "write {n} through {addrs} gave {said:?} back"
    );
    Ok(())
}

#[test]
fn a_first_write_gives_its_rows_back_through_any_node() {
    run("first-write", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a UNIQUE)", ()).await?;
        cluster.settle("app").await?;
        let addr = |id| cluster.local.node(id).addr.clone();
        let (follower, primary) = (cluster.follower().await?, cluster.primary().await?);
        let all = cluster.local.addrs().join(",");
        let mut written = 0;
        for addrs in [addr(follower), addr(primary), all] {
            for _ in 0..CLIENTS {
                written += 1;
                first_write(&addrs, written).await?;
            }
        }
        let rows = app.query("SELECT count(*) FROM t", ()).await?;
        let count: i64 = rows.first().context("a row")?.get(0)?;
        ensure!(count == written as i64, "{count} of {written} rows");
        Ok(())
    });
}
