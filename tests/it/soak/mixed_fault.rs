//! One disturbance of any kind.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use halite_tests::disk::set_writable;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::World;
use crate::crash::Fault;
use crate::network::NetworkFault;

const HOUR: i64 = 3600;

/// What is done, and for how many milliseconds.
#[derive(Debug)]
pub(super) enum MixedFault {
    Process(Fault),
    Network(NetworkFault, u64),
    /// Of the primary, or of a follower.
    Unwritable(bool, u64),
    /// Node, seconds ahead, times as fast.
    Clock(u64, i64, u32),
    /// A byte of a database file that is down, so many thousandths in.
    Damage(bool, u64),
}

impl MixedFault {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let lasts_ms = rng.random_range(150..2500);
        match rng.random_range(0..10) {
            0..4 => Self::Process(Fault::draw(rng)),
            4..7 => Self::Network(NetworkFault::draw(rng), lasts_ms),
            7 => Self::Unwritable(rng.random(), lasts_ms),
            8 => {
                let ahead_s = rng.random_range(-30 * HOUR..30 * HOUR);
                Self::Clock(rng.random_range(1..=3), ahead_s, rng.random_range(1..20))
            }
            _ => Self::Damage(rng.random(), rng.random_range(0..1000)),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Network(..) => "network",
            Self::Unwritable(..) => "unwritable",
            Self::Clock(..) => "clock",
            Self::Damage(..) => "damage",
        }
    }

    /// Does it, and undoes it, except for clocks, which stay wrong.
    pub(super) async fn inflict(&self, world: &mut World) -> Result<()> {
        // Something to lose.
        world.load.grown(20).await.context("before the fault")?;
        match *self {
            Self::Process(fault) => fault.inflict(&mut world.cluster).await,
            Self::Network(fault, ms) => {
                fault.begin(&world.cluster, &world.proxy).await?;
                lasting(ms).await;
                world.proxy.heal();
                Ok(())
            }
            Self::Unwritable(of_primary, ms) => {
                let node = victim(world, of_primary).await?;
                set_writable(&world.cluster, node, false)?;
                lasting(ms).await;
                set_writable(&world.cluster, node, true)
            }
            Self::Clock(node, ahead_s, times) => world.clocks.set_fast(node, ahead_s, times),
            Self::Damage(of_primary, thousandths) => {
                let node = victim(world, of_primary).await?;
                world.cluster.kill(node)?;
                let file = world.cluster.file(node, "app");
                let file = File::options().read(true).write(true).open(file)?;
                let offset = (file.metadata()?.len() * thousandths / 1000).max(200);
                let mut byte = [0];
                // A file that is all in its WAL is too short to be hit.
                if file.read_exact_at(&mut byte, offset).is_ok() {
                    file.write_all_at(&[byte[0] ^ 0x10], offset)?;
                }
                world.cluster.restart(node)
            }
        }
    }
}

async fn victim(world: &World, of_primary: bool) -> Result<u64> {
    if of_primary {
        world.cluster.primary().await
    } else {
        world.cluster.follower().await
    }
}

/// How long a fault lasts is part of it.
async fn lasting(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
