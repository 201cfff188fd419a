//! Interactive transactions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_client::{Client, ErrorKind, params};
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::{Weight, run};
use halite_tests::stock;

async fn count(cluster: &TestCluster) -> Result<i64> {
    let app = cluster.ops().database("app");
    Ok(app.query("SELECT count(*) FROM t", ()).await?[0].get(0)?)
}

#[test]
fn a_transaction_past_its_deadline_is_rolled_back_and_lets_others_write() {
    run("deadline", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let within = Duration::from_millis(700);
        let mut transaction = app.transaction_within(within).await?;
        transaction.execute("INSERT INTO t VALUES (1)", ()).await?;
        // A writer that comes meanwhile waits for the deadline and not longer.
        let began = Instant::now();
        app.execute("INSERT INTO t VALUES (2)", ()).await?;
        let waited = began.elapsed();
        ensure!(
            waited > within / 4 && waited < within + Duration::from_secs(2),
            "the other writer waited {waited:?}"
        );
        let late = transaction.execute("INSERT INTO t VALUES (3)", ()).await;
        ensure!(late.is_err(), "a transaction went on past its deadline");
        let late = transaction.commit().await.err().context("it committed")?;
        ensure!(!late.is_outcome_unknown(), "{late:?}");
        ensure!(count(&cluster).await? == 1);

        // One that nobody spoke to until its time was over.
        let mut transaction = app.transaction_within(within).await?;
        transaction.execute("INSERT INTO t VALUES (4)", ()).await?;
        tokio::time::sleep(within).await;
        let late = transaction.commit().await.err().context("it committed")?;
        ensure!(*late.kind() == ErrorKind::DeadlineExceeded, "{late:?}");
        ensure!(late.to_string().contains("open longer than"), "{late}");
        ensure!(count(&cluster).await? == 1);
        Ok(())
    });
}

#[test]
fn a_transaction_may_be_open_as_long_as_the_node_is_told() {
    run("long-transaction", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.extra_config = "transaction-timeout: 30s\n".into();
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let usual = Duration::from_secs(5);
        // Through every node, at once: of one database there is one transaction at a time, so each has its own.
        let each = cluster.ids().into_iter().map(async |id| {
            let node = Client::connect([cluster.local.node(id).addr.clone()]).await?;
            let name = format!("db{id}");
            node.admin().create_database(&name, 0, false).await?;
            let database = node.database(&name);
            database.execute("CREATE TABLE t (a)", ()).await?;
            let mut transaction = database.transaction().await?;
            transaction.execute("INSERT INTO t VALUES (1)", ()).await?;
            tokio::time::sleep(usual + usual / 10).await;
            transaction.execute("INSERT INTO t VALUES (2)", ()).await?;
            transaction.commit().await?;
            let rows = database.query("SELECT count(*) FROM t", ()).await?;
            ensure!(rows[0].get::<i64>(0)? == 2, "through node {id}");
            Ok(())
        });
        futures::future::try_join_all(each).await?;
        Ok(())
    });
}

#[test]
fn a_write_that_runs_out_of_time_is_known_not_to_be_kept() {
    run("out-of-time", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t SELECT x FROM n WHERE x < 9";
        for id in cluster.ids() {
            let node = Client::connect([cluster.local.node(id).addr.clone()]).await?;
            let app = node.database("app").with_timeout(Duration::from_secs(1));
            let late = app.execute(endless, ()).await.err().context("it ended")?;
            ensure!(
                *late.kind() == ErrorKind::DeadlineExceeded,
                "through node {id}: {late:?}"
            );
            ensure!(late.to_string().contains("more time"), "{late}");
        }
        ensure!(count(&cluster).await? == 0);
        Ok(())
    });
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does_before_the_commit() {
    run("isolation", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let mut transaction = app.transaction().await?;
        transaction.execute("INSERT INTO t VALUES (1)", ()).await?;
        let rows = transaction.query("SELECT count(*) FROM t", ()).await?;
        ensure!(rows[0].get::<i64>(0)? == 1);
        ensure!(count(&cluster).await? == 0);
        for id in cluster.ids() {
            let seen = stock::read(&cluster.file(id, "app"), "SELECT count(*) FROM t")?;
            ensure!(seen == ["0"], "node {id}");
        }
        transaction.commit().await?;
        ensure!(count(&cluster).await? == 1);
        let mut transaction = app.transaction().await?;
        transaction.execute("DELETE FROM t", ()).await?;
        transaction.rollback().await?;
        ensure!(count(&cluster).await? == 1);
        Ok(())
    });
}

#[test]
fn a_transaction_whose_primary_dies_leaves_nothing_behind() {
    run("orphaned", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let mut transaction = app.transaction().await?;
        for row in 0..100 {
            transaction
                .execute("INSERT INTO t VALUES (?1)", params![row])
                .await?;
        }
        let primary = cluster.primary().await?;
        cluster.kill(primary)?;
        let error = transaction
            .execute("INSERT INTO t VALUES (0)", ())
            .await
            .err()
            .context("the dead primary answered")?;
        ensure!(*error.kind() != ErrorKind::Internal, "{error:?}");
        ensure!(count(&cluster).await? == 0);
        cluster.restart(primary)?;
        cluster.primary().await?;
        cluster.check_same("app").await?;
        ensure!(stock::read(&cluster.file(primary, "app"), "SELECT count(*) FROM t")? == ["0"]);
        Ok(())
    });
}

#[test]
fn a_transaction_over_which_leadership_moves_says_that_it_was_rolled_back() {
    run("moved", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let mut transaction = app.transaction().await?;
        transaction.execute("INSERT INTO t VALUES (1)", ()).await?;
        let admin = cluster.ops().admin();
        admin.transfer_leadership(None).await?;
        let lost = transaction.execute("INSERT INTO t VALUES (2)", ()).await;
        let lost = lost.err().context("it goes on")?.to_string();
        ensure!(
            lost.contains("rolled back") && lost.contains("begin it again"),
            "{lost}"
        );
        ensure!(transaction.commit().await.is_err());
        ensure!(count(&cluster).await? == 0);
        Ok(())
    });
}
