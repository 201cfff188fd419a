//! Faults of every kind at random, one after the other: processes, network, files that cannot be written, clocks, damage. After each the
//! checks of [`Load::verify`].
//!
//! A few rounds in CI. `make soak` goes on until it is stopped, or for `HALITE_DURATION`; `HALITE_SEED` repeats the choices.

mod mixed_fault;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use halite_tests::cluster::TestCluster;
use halite_tests::disk::configure_unwritable;
use halite_tests::faketime::Clocks;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::proxy::Proxy;
use halite_tests::scratch::{Scratch, Weight, run};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::seed;
use mixed_fault::MixedFault;

const ROUNDS: u64 = 8;
/// Rounds on one cluster: what is checked grows with what was written.
const ROUNDS_PER_CLUSTER: u64 = 150;

/// Everything faults are inflicted on.
struct World {
    // Dropped in this order: clients, nodes, network.
    load: Load,
    cluster: TestCluster,
    proxy: Proxy,
    clocks: Clocks,
}

impl World {
    async fn start(scratch: &Scratch, generation: u64, seed: u64) -> Result<Self> {
        let dir = scratch.join(&format!("cluster-{generation}"));
        std::fs::create_dir_all(&dir)?;
        let proxy = Proxy::start(&dir, 3).await?;
        let clocks = Clocks::new(&dir)?;
        let mut configured = Ok(());
        let cluster = TestCluster::start(scratch, |options| {
            options.dir = dir.clone();
            proxy.configure(options);
            configure_unwritable(options, 3);
            configured = clocks.configure(options, 3);
        })
        .await?;
        configured?;
        let load = Load::start(&cluster, LoadOptions::new(seed)).await?;
        Ok(Self {
            load,
            cluster,
            proxy,
            clocks,
        })
    }

    async fn end(mut self) {
        self.load.stop().await;
    }
}

/// What happened so far, over all clusters.
#[derive(Default)]
struct Figures {
    rounds: u64,
    faults: BTreeMap<&'static str, u64>,
    /// Acknowledged, unknown, failed; of clusters that are gone.
    writes: [usize; 3],
}

impl Figures {
    fn line(&self, world: &World, fault: &MixedFault, took: Duration) -> String {
        let now = world.load.history().counts();
        let [acknowledged, unknown, failed] = std::array::from_fn(|n| self.writes[n] + now[n]);
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        format!(
            "round {} in {took:.1?}: {fault:?}; faults: {}; writes: {acknowledged} acknowledged, {unknown} unknown, {failed} failed; \
             violations: 0",
            self.rounds,
            faults.join(", "),
        )
    }
}

#[test]
fn faults_of_every_kind_at_random_break_no_promise() {
    let (seed, rounds) = (seed::seed(), seed::rounds(ROUNDS));
    let lasts = seed::duration();
    let again = seed::announce("faults_of_every_kind", seed, rounds);
    if let Some(lasts) = lasts {
        eprintln!("for {lasts:?}, whatever the rounds");
    }
    run("soak", Weight::Heavy, async |scratch| {
        let until = lasts.map(|lasts| Instant::now() + lasts);
        let go_on = |round| match until {
            Some(until) => Instant::now() < until,
            None => round < rounds,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut figures = Figures::default();
        let mut generation = 0;
        while go_on(figures.rounds) {
            let mut world = World::start(scratch, generation, seed ^ generation << 40).await?;
            while go_on(figures.rounds) {
                let fault = MixedFault::draw(&mut rng);
                let began = Instant::now();
                figures.rounds += 1;
                *figures.faults.entry(fault.kind()).or_default() += 1;
                one_round(&mut world, &fault).await.with_context(|| {
                    format!("round {}: {fault:?}, to repeat: {again}", figures.rounds)
                })?;
                eprintln!("{}", figures.line(&world, &fault, began.elapsed()));
                if figures.rounds % ROUNDS_PER_CLUSTER == 0 {
                    break;
                }
            }
            let now = world.load.history().counts();
            figures.writes = std::array::from_fn(|n| figures.writes[n] + now[n]);
            world.end().await;
            std::fs::remove_dir_all(scratch.join(&format!("cluster-{generation}")))?;
            generation += 1;
        }
        Ok(())
    });
}

async fn one_round(world: &mut World, fault: &MixedFault) -> Result<()> {
    fault.inflict(world).await?;
    world.load.grown(20).await.context("after the fault")?;
    world.load.verify(&world.cluster).await?;
    Ok(())
}
