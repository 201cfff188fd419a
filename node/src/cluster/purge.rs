//! What may leave the log: entries that are applied and checkpointed here, archived where an archive is configured (up to a
//! cap), and not needed by the tail kept for slow followers.
//!
//! A database that is not well holds what it still needs. It lets go only of what a primary that is well surely has: what nobody
//! else is known to hold stays, whatever room it takes.

use super::Cluster;
use super::error::ClusterError;
use super::formation::identify;
use super::opener;
use crate::database::Health;

/// When purging begins, and when it is worth it. Settings only for the simulation, whose logs are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeRules {
    /// Bytes of log kept for followers that are behind, and for the archiver: beyond it they catch up by page diff or snapshot.
    pub tail_bytes_max: u64,
    /// Bytes of log always kept, so that a short outage of a follower is healed from the log.
    pub tail_bytes_min: u64,
    /// Purging fewer entries than this is not worth a tombstone, unless they are large.
    pub entries_min: u64,
    /// Purging entries of this size together is, however few they are.
    pub bytes_min: u64,
}

impl Default for PurgeRules {
    fn default() -> Self {
        Self {
            tail_bytes_max: 1 << 30,
            tail_bytes_min: 64 << 20,
            entries_min: 10_000,
            bytes_min: 32 << 20,
        }
    }
}

/// What limits a purge. Indexes are the last entry that each could let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) first: u64,
    pub(crate) applied: u64,
    /// Least over all databases.
    pub(crate) checkpointed: u64,
    /// Least over all followers and archives; ignored when the log has grown past the cap.
    pub(crate) wanted_by_others: u64,
    /// Least over databases that are not well, as long as nobody else is known to hold what they lack.
    pub(crate) wanted_by_unwell: u64,
    pub(crate) log_bytes: u64,
}

/// The last index to purge, if it is worth it.
pub(crate) fn purge_to(rules: &PurgeRules, limits: Limits) -> Option<u64> {
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::PurgePastCheckpoint) {
        return Some(limits.applied);
    }
    if limits.log_bytes < rules.tail_bytes_min {
        return None;
    }
    let mut to = limits.applied.min(limits.checkpointed);
    #[cfg(feature = "planted-bugs")]
    let limits = match halite_planted::on(halite_planted::Bug::UnwellForgottenByRestart) {
        true => Limits {
            wanted_by_unwell: limits.applied,
            ..limits
        },
        false => limits,
    };
    to = to.min(limits.wanted_by_unwell);
    if limits.log_bytes < rules.tail_bytes_max {
        to = to.min(limits.wanted_by_others);
    }
    let entries = to.saturating_sub(limits.first);
    let all_entries = limits.applied.saturating_sub(limits.first).max(1);
    // Entries are taken to be of one size.
    let bytes = u128::from(limits.log_bytes) * u128::from(entries) / u128::from(all_entries);
    (entries >= rules.entries_min || bytes >= u128::from(rules.bytes_min)).then_some(to)
}

pub(crate) async fn purge(cluster: &Cluster) -> Result<(), ClusterError> {
    let shared = cluster.shared();
    let applied = cluster.applied_index();
    let mut checkpointed = shared
        .open_chunks
        .first_index()
        .map_or(applied, |index| index.saturating_sub(1));
    let mut wanted_by_others = applied;
    let mut wanted_by_unwell = applied;
    for database in shared.all_databases() {
        if let Some(needed) = database.oldest_needed() {
            let needs_repair = matches!(*database.health().borrow(), Health::NeedsRepair { .. });
            if may_let_go(cluster, database.spec().id.get(), needs_repair).await {
                continue;
            }
            wanted_by_unwell = wanted_by_unwell.min(needed.saturating_sub(1));
        }
        let id = database.spec().id.get();
        let done = shared
            .opener
            .checkpoint(id, opener::DONE)
            .map_err(|e| ClusterError::internal(e.to_string()))?
            .map_or(id, |c| c.raft_index);
        if done < database.status().applied.raft_index {
            checkpointed = checkpointed.min(done);
        }
        if cluster.options.archived {
            let archived = shared
                .catalog
                .lock()
                .archives_of(id)
                .map(|(_, at)| at.raft_index)
                .min()
                .unwrap_or(id);
            if archived < database.status().applied.raft_index {
                wanted_by_others = wanted_by_others.min(archived);
            }
        }
    }
    // What passes a database that cannot be opened is kept for it in the same way.
    for shut in shared.databases.shut() {
        if may_let_go(cluster, shut.id, false).await {
            continue;
        }
        let done = shared.opener.checkpoint(shut.id, opener::DONE);
        let done = done.map_err(|e| ClusterError::internal(e.to_string()))?;
        wanted_by_unwell = wanted_by_unwell.min(done.map_or(shut.id, |c| c.raft_index));
    }
    if let Some(replication) = &cluster.metrics().replication {
        let slowest = replication
            .values()
            .map(|matched| matched.as_ref().map_or(0, halite_log::LogId::index))
            .min();
        wanted_by_others = wanted_by_others.min(slowest.unwrap_or(applied));
    }
    let limits = Limits {
        first: shared.log.indexes().start,
        applied,
        checkpointed,
        wanted_by_others,
        wanted_by_unwell,
        log_bytes: shared.log.log_bytes(),
    };
    let Some(to) = purge_to(&cluster.options.purge, limits) else {
        return Ok(());
    };
    // From then on nothing else may say what had been committed: a database that lacks it has to know at the next start.
    shared
        .persist_catalog(true)
        .await
        .map_err(|e| ClusterError::internal(format!("catalog not saved: {e}")))?;
    // openraft purges only what a snapshot covers; ours costs nothing.
    let stopped = |e: openraft::error::Fatal<halite_log::TypeConfig>| {
        ClusterError::unavailable(e.to_string())
    };
    cluster.raft().trigger().snapshot().await.map_err(stopped)?;
    cluster
        .raft()
        .trigger()
        .purge_log(to)
        .await
        .map_err(stopped)?;
    tracing::debug!(to, "purging log");
    Ok(())
}

/// What a database that is not well lacks may go: the primary has it, and it comes from there by page diff. One that could catch up by itself
/// keeps it as long as the log has room.
async fn may_let_go(cluster: &Cluster, id: u64, needs_repair: bool) -> bool {
    let room = cluster.shared().log.log_bytes() < cluster.options.purge.tail_bytes_max;
    if room && !needs_repair {
        return false;
    }
    let applied = cluster.applied_index();
    let Some(primary) = cluster.other_primary() else {
        return false;
    };
    let answer = identify(cluster, primary.node_id, &primary.addr).await;
    answer.is_ok_and(|primary| {
        primary.applied_index >= applied && !primary.unwell_database_ids.contains(&id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PurgeRules = PurgeRules {
        tail_bytes_max: 1 << 30,
        tail_bytes_min: 64 << 20,
        entries_min: 10_000,
        bytes_min: 32 << 20,
    };

    fn limits() -> Limits {
        Limits {
            first: 1,
            applied: 100_000,
            checkpointed: 90_000,
            wanted_by_others: 80_000,
            wanted_by_unwell: 100_000,
            log_bytes: RULES.tail_bytes_min,
        }
    }

    #[test]
    fn database_that_is_not_well_holds_the_log_whatever_room_it_takes() {
        for log_bytes in [RULES.tail_bytes_min, RULES.tail_bytes_max * 2] {
            let limits = Limits {
                wanted_by_unwell: 60_000,
                log_bytes,
                ..limits()
            };
            assert_eq!(purge_to(&RULES, limits), Some(60_000));
        }
    }

    #[test]
    fn nothing_that_anybody_needs_is_purged() {
        assert_eq!(purge_to(&RULES, limits()), Some(80_000));
        assert_eq!(
            purge_to(
                &RULES,
                Limits {
                    wanted_by_others: 95_000,
                    ..limits()
                }
            ),
            Some(90_000)
        );
    }

    #[test]
    fn log_past_the_cap_is_purged_without_regard_to_others_but_never_past_the_checkpoint() {
        assert_eq!(
            purge_to(
                &RULES,
                Limits {
                    log_bytes: RULES.tail_bytes_max,
                    wanted_by_others: 5,
                    ..limits()
                }
            ),
            Some(90_000)
        );
    }

    #[test]
    fn small_log_or_small_gain_is_left_alone() {
        assert_eq!(
            purge_to(
                &RULES,
                Limits {
                    log_bytes: RULES.tail_bytes_min - 1,
                    ..limits()
                }
            ),
            None
        );
        assert_eq!(
            purge_to(
                &RULES,
                Limits {
                    first: 79_000,
                    ..limits()
                }
            ),
            None
        );
    }

    #[test]
    fn few_large_entries_are_purged_as_well() {
        let few = Limits {
            first: 1,
            applied: 400,
            checkpointed: 390,
            wanted_by_others: 395,
            wanted_by_unwell: 400,
            log_bytes: 400 << 20,
        };
        assert_eq!(purge_to(&RULES, few), Some(390));
        assert_eq!(
            purge_to(
                &RULES,
                Limits {
                    wanted_by_others: 10,
                    ..few
                }
            ),
            None
        );
    }
}
