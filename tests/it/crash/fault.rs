//! What is done to the processes.

use std::time::Duration;

use anyhow::Result;
use halite_tests::cluster::{PATIENCE, TestCluster};
use rand::Rng as _;
use rand::rngs::StdRng;

/// One disturbance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// SIGKILL of the primary; back after so many milliseconds.
    KillPrimary(u64),
    /// SIGKILL of a follower.
    KillFollower(u64),
    /// SIGKILL of the primary and of a follower: no quorum is left.
    KillTwo(u64),
    /// SIGKILL of all nodes, one right after the other.
    KillAll(u64),
    /// SIGKILL of the primary, and of the next one as soon as it leads.
    KillTwoPrimaries,
    /// SIGSTOP of the primary for longer than its lease.
    FreezePrimary(u64),
    /// SIGSTOP of a follower.
    FreezeFollower(u64),
    /// SIGTERM of the primary.
    StopPrimary(u64),
    /// `halite transfer`.
    Transfer,
}

impl Fault {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let away_ms = rng.random_range(0..1200);
        // The default lease is 400 ms.
        let frozen_ms = rng.random_range(400..2000);
        match rng.random_range(0..20) {
            0..5 => Self::KillPrimary(away_ms),
            5..8 => Self::KillFollower(away_ms),
            8..10 => Self::KillTwo(away_ms),
            10..12 => Self::KillAll(away_ms / 4),
            12 => Self::KillTwoPrimaries,
            13..16 => Self::FreezePrimary(frozen_ms),
            16 => Self::FreezeFollower(frozen_ms),
            17..19 => Self::StopPrimary(away_ms),
            _ => Self::Transfer,
        }
    }

    /// Does it, and undoes it.
    pub(crate) async fn inflict(self, cluster: &mut TestCluster) -> Result<()> {
        let (primary, others) = cluster.roles().await?;
        match self {
            Self::KillPrimary(ms) => kill(cluster, &[primary], ms).await,
            Self::KillFollower(ms) => kill(cluster, &others[..1], ms).await,
            Self::KillTwo(ms) => kill(cluster, &[primary, others[0]], ms).await,
            Self::KillAll(ms) => kill(cluster, &[primary, others[0], others[1]], ms).await,
            Self::KillTwoPrimaries => {
                cluster.kill(primary)?;
                let next = cluster.primary().await?;
                cluster.kill(next)?;
                cluster.restart(primary)?;
                cluster.restart(next)
            }
            Self::FreezePrimary(ms) => freeze(cluster, primary, ms).await,
            Self::FreezeFollower(ms) => freeze(cluster, others[0], ms).await,
            Self::StopPrimary(ms) => {
                cluster.local.terminate(primary, PATIENCE)?;
                away(ms).await;
                cluster.restart(primary)
            }
            Self::Transfer => {
                let admin = cluster.ops().admin();
                // It may fail when the load has the machine for itself; the cluster has to serve either way.
                let _ = admin.transfer_leadership(Some(others[0])).await;
                Ok(())
            }
        }
    }
}

async fn kill(cluster: &mut TestCluster, ids: &[u64], away_ms: u64) -> Result<()> {
    for id in ids {
        cluster.local.kill_now(*id)?;
    }
    for id in ids {
        cluster.kill(*id)?;
    }
    away(away_ms).await;
    for id in ids {
        cluster.restart(*id)?;
    }
    Ok(())
}

async fn freeze(cluster: &mut TestCluster, id: u64, ms: u64) -> Result<()> {
    cluster.freeze(id)?;
    away(ms).await;
    cluster.thaw(id)
}

/// How long a node is away is part of the fault.
async fn away(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
