//! Processes are killed, frozen and restarted at random moments under load. After each: nothing acknowledged is lost, nothing is there
//! twice, nothing that anybody saw has vanished, all files are page-identical, and nobody but Halite can write to them.
//!
//! `HALITE_ROUNDS` says how many rounds, `HALITE_SEED` repeats a choice of faults and moments.

mod fault;
mod imports;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_checks::Outcome;
use halite_client::params;
use halite_tests::cluster::TestCluster;
use halite_tests::history::History;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::seed;
pub(crate) use fault::Fault;
use imports::Imports;

const ROUNDS: u64 = 50;
/// A cluster that has healed serves a write within this.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn nothing_is_lost_doubled_or_unseen_over_random_crashes() {
    let (seed, rounds) = (seed::seed(), seed::rounds(ROUNDS));
    let again = seed::announce("random_crashes", seed, rounds);
    run("crash", Weight::Heavy, async |scratch| {
        crash(scratch, seed, rounds)
            .await
            .with_context(|| format!("to repeat: {again}"))
    });
}

async fn crash(scratch: &Scratch, seed: u64, rounds: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let archive = format!("file://{}", scratch.join("archive").display());
    let mut cluster = TestCluster::start(scratch, |options| {
        options.archive_url = Some(archive.clone())
    })
    .await?;
    let mut load = Load::start(&cluster, LoadOptions::new(seed)).await?;
    let mut imports = Imports::new(scratch);
    for round in 1..=rounds {
        let fault = Fault::draw(&mut rng);
        let after = Duration::from_millis(rng.random_range(100..900));
        let with_import = rng.random_range(0..6) == 0;
        one_round(&mut cluster, &load, &mut imports, fault, after, with_import)
            .await
            .with_context(|| {
                format!("round {round}, seed {seed}: {fault:?} after {after:?} of load")
            })?;
    }
    load.stop().await;
    for (error, count) in errors(load.history()) {
        eprintln!("{count:>6} x {error}");
    }
    let reads = load.history().records().answered_reads.clone();
    for (reader, count) in &reads {
        eprintln!("{count:>6} reads of {reader}");
    }
    ensure!(
        reads.len() == 10 && reads.values().all(|count| *count as u64 >= rounds),
        "a reader saw next to nothing: {reads:?}"
    );
    restored_is_the_same(scratch, &cluster, &archive).await
}

async fn one_round(
    cluster: &mut TestCluster,
    load: &Load,
    imports: &mut Imports,
    fault: Fault,
    after: Duration,
    with_import: bool,
) -> Result<()> {
    let began = Instant::now();
    if with_import {
        imports.begin(cluster)?;
    }
    // The moment of the fault is drawn, not waited for.
    tokio::time::sleep(after).await;
    fault.inflict(cluster).await?;
    let primary = cluster.primary().await?;
    serves(cluster).await?;
    let healed = began.elapsed();

    let paused = load.pause().await;
    imports.end(cluster).await?;
    let pages = cluster.check_same("app").await?;
    let rows = load.check(cluster, primary)?;
    for id in cluster.ids() {
        stock::expect_fence(
            &cluster.file(id, "app"),
            "INSERT INTO log (writer, seq, part, parts) VALUES (0, 0, 0, 1)",
        )?;
    }
    drop(paused);
    let [acknowledged, unknown, failed] = load.history().counts();
    eprintln!(
        "{fault:?} after {after:?}: healed in {healed:.1?}, checked in {:.1?}, primary {primary}, {rows} rows, {} pages, \
         {acknowledged} acknowledged, {unknown} unknown, {failed} failed",
        began.elapsed(),
        pages.len(),
    );
    Ok(())
}

async fn serves(cluster: &TestCluster) -> Result<()> {
    let database = cluster.ops().database("app").with_timeout(SERVES_WITHIN);
    database
        .execute(
            "REPLACE INTO big (writer, seq, value) VALUES (0, 0, ?1)",
            params![vec![0_u8; 16]],
        )
        .await
        .context("the healed cluster does not serve a write")?;
    Ok(())
}

/// What writers were told other than yes, and how often.
fn errors(history: &History) -> BTreeMap<String, usize> {
    let mut errors = BTreeMap::new();
    for insert in &history.records().operations.set.inserts {
        let error = match &insert.outcome {
            Outcome::Ok(_) => continue,
            Outcome::Unknown(error) => format!("unknown: {error}"),
            Outcome::Failed(error) => format!("failed: {error}"),
        };
        *errors.entry(error).or_default() += 1;
    }
    errors
}

async fn restored_is_the_same(
    scratch: &Scratch,
    cluster: &TestCluster,
    archive: &str,
) -> Result<()> {
    let pages = cluster.check_same("app").await?;
    cluster.archived("app").await?;
    let restored = scratch.join("restored.db");
    program::restore(&format!("{archive}/app"), &restored, &[])?;
    pages.check_restored(&restored)
}
