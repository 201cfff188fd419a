//! [`Plan`]: everything that a seed decides before the run begins. Pure.

mod episode;
mod faults;
mod load;

use std::time::Duration;

use halite::cluster::PurgeRules;
use halite::database::DatabaseOptions;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::episode::{Choice, Episode};
use crate::fault::Fault;
pub use load::{ClientPlan, Job, Patience};

/// Nodes beside each other.
const LATENCY_MIN: Duration = Duration::from_micros(100);
/// Whether there are several versions is drawn apart from everything else.
const VERSIONS: u64 = 0x7e25_1085;

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it all comes from.
    pub seed: u64,
    /// Voters at the beginning: nodes 1 to this.
    pub voters: u64,
    /// Databases: name and page size.
    pub databases: Vec<(String, u32)>,
    /// Clients, numbered by their place.
    pub clients: Vec<ClientPlan>,
    /// Shortest way of a message.
    pub latency_min: Duration,
    /// Longest way of a message.
    pub latency_max: Duration,
    /// A checkpoint is due when the WAL is larger, in bytes.
    pub checkpoint_wal_bytes: u64,
    /// A checkpoint is due after this long without work.
    pub checkpoint_idle: Duration,
    /// Bytes of recent log entries kept in memory.
    pub log_cache_bytes: usize,
    /// What leaves the log, and when.
    pub purge: PurgeRules,
    /// A larger transaction comes in chunks of this size, in bytes.
    pub entry_bytes_max: usize,
    /// How often what is new is archived; `None`: nothing is.
    pub archive: Option<Duration>,
    /// How often stock programs read the files of all nodes.
    pub read_files_every: Duration,
    /// Faults and when they begin, in order.
    pub faults: Vec<(Duration, Fault)>,
    /// How long faults and load go on.
    pub length: Duration,
    /// Nodes run programs of several versions.
    pub mixed_versions: bool,
    /// What leads to a rare state on purpose.
    pub episode: Option<Episode>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, choice: Choice) -> Self {
        let mut plan = Self::without_episode(seed);
        // Drawn apart; seeds that are repeated with an episode of their own, or with none, are runs of this version alone.
        let mut versions = SmallRng::seed_from_u64(seed ^ VERSIONS);
        plan.mixed_versions = choice == Choice::Drawn && versions.random_ratio(1, 4);
        if let Some(episode) = Episode::of(seed, choice, plan.clients.len() as u64) {
            episode::suit(&mut plan, episode);
        }
        plan
    }

    fn without_episode(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let voters = *[1, 3, 3, 3, 5].choose(rng).unwrap_or(&3);
        let databases: Vec<_> = (0..rng.random_range(1..=3))
            .map(|n| (format!("db{n}"), 512_u32 << rng.random_range(0..6)))
            .collect();
        let length = Duration::from_millis(rng.random_range(6_000..20_000));
        let clients = load::draw(rng, &databases);
        let cast = faults::Cast {
            voters,
            clients: clients.len() as u64,
            databases: databases.len(),
        };
        let locks = load::draw_locks(seed, &databases);
        let is_large = clients.iter().any(|c| c.job == Job::InsertLarge);
        Self {
            seed,
            voters,
            latency_min: LATENCY_MIN,
            latency_max: Duration::from_millis(rng.random_range(1..20)),
            checkpoint_wal_bytes: 1 << rng.random_range(13..22),
            checkpoint_idle: Duration::from_millis(rng.random_range(200..3_000)),
            log_cache_bytes: 1 << rng.random_range(12..22),
            purge: draw_purge_rules(rng),
            archive: rng
                .random_ratio(1, 3)
                .then(|| Duration::from_millis(rng.random_range(20..1_500))),
            clients: clients.into_iter().chain(locks).collect(),
            faults: faults::draw(rng, cast, length),
            read_files_every: Duration::from_millis(rng.random_range(60..400)),
            entry_bytes_max: draw_entry_bytes_max(rng, is_large),
            databases,
            length,
            mixed_versions: false,
            episode: None,
        }
    }
}

/// The product's size, or one so small that ordinary transactions come in many chunks. With large transactions not as small: the log of one
/// would be a hundred thousand entries.
fn draw_entry_bytes_max(rng: &mut SmallRng, is_large: bool) -> usize {
    match rng.random_ratio(1, 2) {
        true => DatabaseOptions::default().entry_bytes_max,
        false => 1 << rng.random_range(7..14).max(if is_large { 10 } else { 7 }),
    }
}

/// The product's rules, or a tail so short that a node which was away for a moment needs page diff.
fn draw_purge_rules(rng: &mut SmallRng) -> PurgeRules {
    if rng.random_ratio(1, 3) {
        return PurgeRules::default();
    }
    let tail_bytes_min = 1 << rng.random_range(10..18);
    PurgeRules {
        tail_bytes_min,
        tail_bytes_max: tail_bytes_min << rng.random_range(0..4),
        entries_min: 1 << rng.random_range(0..8),
        bytes_min: 1 << rng.random_range(10..16),
    }
}
