//! Retries under idempotency keys: each call is applied once, whatever happens between question and answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Client, ErrorKind, ExecuteResult, params};
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::{Weight, run};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const KILLS: usize = 10;
const CALLS: i64 = 60;
/// Every so many calls one gives more back than is kept for a retry.
const LARGE_EVERY: i64 = 5;

/// Many calls at once, so that a kill finds some at every stage; each inserts a row of its own without a unique index and wants it back.
async fn burst(
    client: &Client,
    burst: i64,
) -> Vec<(i64, Result<ExecuteResult, halite_client::Error>)> {
    let app = client.database("app").with_timeout(Duration::from_secs(20));
    let mut calls = Vec::new();
    for n in 0..CALLS {
        let app = app.clone();
        let key = burst * CALLS + n;
        calls.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(200 * n as u64)).await;
            let returning = if key % LARGE_EVERY == 0 {
                "INSERT INTO t VALUES (?1) RETURNING a, hex(zeroblob(10000))"
            } else {
                "INSERT INTO t VALUES (?1) RETURNING a"
            };
            (key, app.execute(returning, params![key]).await)
        }));
    }
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.expect("a call does not panic"));
    }
    results
}

#[test]
fn calls_that_were_under_way_when_the_primary_died_are_applied_once() {
    run("retries", Weight::Heavy, async |scratch| {
        let mut rng = StdRng::seed_from_u64(7);
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let client = cluster.client().await?;
        client
            .database("app")
            .execute("CREATE TABLE t (a)", ())
            .await?;
        let mut answered = Vec::new();
        for kill in 0..KILLS {
            let primary = cluster.primary().await?;
            let under_way = client.clone();
            let calls = tokio::spawn(async move { burst(&under_way, kill as i64).await });
            // The moment is drawn.
            tokio::time::sleep(Duration::from_micros(rng.random_range(500..14_000))).await;
            cluster.kill(primary)?;
            answered.extend(calls.await?);
            cluster.restart(primary)?;
            cluster.primary().await?;
        }
        cluster.check_same("app").await?;
        let rows = client
            .database("app")
            .query(
                "SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1",
                (),
            )
            .await?;
        ensure!(rows.is_empty(), "applied twice: {rows:?}");
        for (key, result) in &answered {
            let rows = client
                .database("app")
                .query("SELECT count(*) FROM t WHERE a = ?1", params![*key])
                .await?;
            let found: i64 = rows[0].get(0)?;
            match result {
                Ok(done) => {
                    ensure!(found == 1, "acknowledged call {key} is there {found} times");
                    let returned = done.rows.first().context("its row did not come back")?;
                    ensure!(
                        returned.get::<i64>(0)? == *key,
                        "call {key} got {returned:?}"
                    );
                }
                Err(error) if *error.kind() == ErrorKind::RowsNotKept => {
                    ensure!(found == 1, "kept call {key} is there {found} times");
                    ensure!(
                        key % LARGE_EVERY == 0,
                        "a small row of call {key} was not kept"
                    );
                }
                Err(error) if error.is_outcome_unknown() => {}
                Err(error) => ensure!(found == 0, "call {key} failed and is there: {error}"),
            }
        }
        let failed: Vec<_> = answered
            .iter()
            .filter_map(|(key, result)| Some((key, result.as_ref().err()?)))
            .filter(|(_, error)| *error.kind() != ErrorKind::RowsNotKept)
            .collect();
        ensure!(
            failed.is_empty(),
            "calls were not carried through a failover of one node: {failed:?}"
        );
        Ok(())
    });
}
