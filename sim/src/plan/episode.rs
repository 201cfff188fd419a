//! What a plan needs for its episode, where it was not drawn.

use std::time::Duration;

use halite::cluster::PurgeRules;
use halite::config::{Config, DatabaseConfig};
use halite::database::DatabaseOptions;
use halite_checks::Level;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::{ClientPlan, Job, Patience, Plan, load};
use crate::episode::Episode;

/// A primary and two followers.
const VOTERS_MIN: u64 = 3;
/// So small that ordinary transactions come in more chunks than one message between nodes carries.
const CHUNK_BYTES: usize = 128;
/// The same beside large transactions: more chunks than Raft queues come to a standstill.
const CHUNK_BYTES_OF_LARGE: usize = 1 << 12;
/// A quarter of the election timeout is the longest round trip over which a primary keeps its role.
const ONE_WAY_MAX_MS: u64 = 45;
const ARCHIVED_EVERY: Duration = Duration::from_millis(200);
/// Shorter than any answer is lost for.
const EARLY_CHECKPOINT: Duration = Duration::from_millis(200);
/// A few transactions are enough for a purge.
const EARLY_PURGE: PurgeRules = PurgeRules {
    tail_bytes_min: 4 << 10,
    tail_bytes_max: 16 << 10,
    entries_min: 4,
    bytes_min: 2 << 10,
};

/// One client each.
const EVERY_JOB: [Job; 14] = [
    Job::InsertRows,
    Job::Transfer,
    Job::AppendToLists,
    Job::IncrementRegisters,
    Job::IncrementRegisters,
    Job::ReadRows(Level::Linearizable),
    Job::ReadRows(Level::Session),
    Job::ReadBalances(Level::Linearizable),
    Job::ReadLists(Level::Linearizable),
    Job::ReadRegisters(Level::Linearizable),
    Job::ReadRegisters(Level::Session),
    Job::Wander,
    Job::ChangeSchema,
    Job::ChangeDatabases,
];

/// Brings `plan` to what the episode needs.
pub(super) fn suit(plan: &mut Plan, episode: Episode) {
    let mut rng = SmallRng::seed_from_u64(episode.seed);
    plan.voters = plan.voters.max(VOTERS_MIN);
    if episode.wants_defaults() {
        set_defaults(plan);
    }
    for n in plan.databases.len()..episode.databases_min() {
        let database = [(format!("db{n}"), 4096)];
        plan.clients.extend(load::draw(&mut rng, &database));
        plan.databases.extend(database);
    }
    if episode.wants_early_purge() {
        plan.purge = EARLY_PURGE;
    }
    if episode.wants_chunks() {
        let is_large = plan.clients.iter().any(|c| c.job == Job::InsertLarge);
        let most = if is_large {
            CHUNK_BYTES_OF_LARGE
        } else {
            CHUNK_BYTES
        };
        plan.entry_bytes_max = plan.entry_bytes_max.min(most);
    }
    if episode.wants_early_checkpoints() {
        plan.checkpoint_idle = EARLY_CHECKPOINT;
    }
    if episode.wants_large() {
        plan.entry_bytes_max = DatabaseOptions::default().entry_bytes_max;
        let (name, _) = &plan.databases[0];
        plan.clients.extend(load::large(&mut rng, name));
    }
    if episode.wants_locks() {
        let (name, _) = &plan.databases[0];
        // In front: the sides of an episode are made of the clients with low numbers.
        let locks = load::locks(&mut rng, name);
        plan.clients.splice(0..0, locks);
    }
    if episode.wants_distance() {
        plan.databases.truncate(1);
        let (name, _) = &plan.databases[0];
        plan.clients.retain(|client| client.database == *name);
        // Few chunks are under way at a time: small ones would take all day.
        plan.entry_bytes_max = DatabaseOptions::default().entry_bytes_max;
        let least = rng.random_range(15..=ONE_WAY_MAX_MS - 10);
        plan.latency_min = Duration::from_millis(least);
        plan.latency_max = Duration::from_millis(rng.random_range(least..=ONE_WAY_MAX_MS));
    }
    if episode.wants_archive() {
        plan.archive = plan.archive.or(Some(ARCHIVED_EVERY));
    }
    if episode.alone {
        plan.faults.clear();
    }
    plan.episode = Some(episode);
}

/// Every setting is the product's, and every workload is there.
fn set_defaults(plan: &mut Plan) {
    let (config, database) = (Config::default(), DatabaseOptions::default());
    let DatabaseConfig {
        name, page_size, ..
    } = DatabaseConfig::named("db0");
    plan.voters = VOTERS_MIN;
    plan.checkpoint_wal_bytes = config.checkpoint.wal_size.bytes();
    plan.checkpoint_idle = database.checkpoint_idle;
    plan.entry_bytes_max = database.entry_bytes_max;
    plan.log_cache_bytes = usize::try_from(config.log_cache.bytes()).unwrap_or(usize::MAX);
    plan.purge = PurgeRules::default();
    let client = |job| ClientPlan {
        database: name.clone(),
        job,
        pause: Duration::from_millis(150),
        patience: Patience {
            call_timeout: Duration::from_secs(2),
            retry_deadline: Duration::from_secs(4),
        },
    };
    plan.clients = EVERY_JOB.map(client).to_vec();
    plan.databases = vec![(name, page_size)];
}
