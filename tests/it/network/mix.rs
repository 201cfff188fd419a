//! Faults of the network at random. `HALITE_ROUNDS` says how many rounds, `HALITE_SEED` repeats a choice.

use std::time::Duration;

use anyhow::{Context, Result};
use halite_tests::cluster::TestCluster;
use halite_tests::load::LoadOptions;
use halite_tests::proxy::{Conditions, Proxy};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Networked, run};
use crate::seed;

const ROUNDS: u64 = 8;

/// One disturbance of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NetworkFault {
    IsolatePrimary,
    IsolateFollower,
    /// The primary hears nobody.
    Deaf,
    /// Nobody hears the primary.
    Mute,
    /// Nobody hears anybody.
    AllApart,
    /// One pair does not see each other.
    Pair,
    /// Everything is late by up to so many milliseconds.
    Late(u64),
    /// So many KiB pass in a second.
    Narrow(u32),
    Reset,
    Lost,
}

impl NetworkFault {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let late_ms = rng.random_range(20..800);
        let kib = rng.random_range(256..4096);
        match rng.random_range(0..10) {
            0 => Self::IsolatePrimary,
            1 => Self::IsolateFollower,
            2 => Self::Deaf,
            3 => Self::Mute,
            4 => Self::AllApart,
            5 => Self::Pair,
            6 => Self::Late(late_ms),
            7 => Self::Narrow(kib),
            8 => Self::Reset,
            _ => Self::Lost,
        }
    }

    /// Begins; [`Proxy::heal`] ends it.
    pub(crate) async fn begin(self, cluster: &TestCluster, proxy: &Proxy) -> Result<()> {
        let primary = cluster.primary().await?;
        let mut others = cluster.ids();
        others.retain(|id| *id != primary);
        match self {
            Self::IsolatePrimary => proxy.isolate(primary),
            Self::IsolateFollower => proxy.isolate(others[0]),
            Self::Deaf => {
                for &other in &others {
                    proxy.set(other, primary, Conditions::cut());
                }
            }
            Self::Mute => {
                for &other in &others {
                    proxy.set(primary, other, Conditions::cut());
                }
            }
            Self::AllApart => proxy.set_all(Conditions::cut()),
            Self::Pair => proxy.set_between(primary, others[0], Conditions::cut()),
            Self::Late(ms) => {
                let half = Duration::from_millis(ms / 2);
                proxy.set_all(Conditions::delayed(half, half));
            }
            Self::Narrow(kib) => proxy.set_all(Conditions::narrow(kib << 10)),
            Self::Reset => drop(proxy.reset_connections()),
            Self::Lost => drop(proxy.lose_connections()),
        }
        Ok(())
    }
}

#[test]
fn nothing_is_lost_doubled_or_unseen_over_random_network_faults() {
    let (seed, rounds) = (seed::seed(), seed::rounds(ROUNDS));
    let again = seed::announce("random_network_faults", seed, rounds);
    run("network-mix", async |scratch| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut net = Networked::start(scratch, LoadOptions::new(seed)).await?;
        for round in 1..=rounds {
            let fault = NetworkFault::draw(&mut rng);
            let lasts = Duration::from_millis(rng.random_range(150..2000));
            one_round(&mut net, fault, lasts).await.with_context(|| {
                format!("round {round}: {fault:?} for {lasts:?}, to repeat: {again}")
            })?;
        }
        net.end().await
    });
}

async fn one_round(net: &mut Networked, fault: NetworkFault, lasts: Duration) -> Result<()> {
    fault.begin(&net.cluster, &net.proxy).await?;
    // How long it lasts is drawn, not waited for.
    tokio::time::sleep(lasts).await;
    net.heal().await?;
    let [acknowledged, unknown, failed] = net.load.history().counts();
    eprintln!(
        "{fault:?} for {lasts:?}: {acknowledged} acknowledged, {unknown} unknown, {failed} failed"
    );
    Ok(())
}
