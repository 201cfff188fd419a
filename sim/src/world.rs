//! [`World`]: one run of one plan.
//!
//! The driver: it steps the simulated network, carries faults out, looks at the invariants after every step, and in the end heals
//! everything, waits until the cluster has come to rest, and checks the histories.

mod end;
mod faults;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use halite::archiver::ArchiverOptions;
use halite_archive::{Inline, MemStore};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::host::WallClock;
use crate::invariant::{self, Invariant, Seen};
use crate::node::{self, ClusterPlan, Node};
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::trace::Trace;
use crate::workload::{self, Session};
use faults::Due;

/// The network moves messages once per tick.
const TICK: Duration = Duration::from_millis(1);
/// Invariants are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which property.
    pub property: String,
    /// What was seen.
    pub what: String,
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Simulated time.
    pub simulated: Duration,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

/// See the module.
pub struct World {
    sim: turmoil::Sim<'static>,
    plan: Plan,
    rng: SmallRng,
    nodes: BTreeMap<u64, Arc<Node>>,
    /// What was last looked at of each log: life and index.
    looked: BTreeMap<u64, (u64, u64)>,
    last_seen: BTreeMap<u64, String>,
    invariants: Vec<Box<dyn Invariant>>,
    elapsed_us: Arc<AtomicU64>,
    trace: Trace,
    recorders: BTreeMap<String, Recorder>,
    stop: watch::Sender<bool>,
    clients: Arc<Mutex<usize>>,
    due: Vec<Due>,
    outcome: Outcome,
}

impl World {
    /// A cluster that has never run, in the empty directory `dir`.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(plan: Plan, dir: &Path, trace: Trace, elapsed_us: Arc<AtomicU64>) -> Result<Self> {
        let sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let mut world = Self {
            sim,
            rng: SmallRng::seed_from_u64(plan.seed ^ 0x5eed),
            nodes: BTreeMap::new(),
            looked: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            invariants: invariant::all(),
            elapsed_us,
            trace,
            recorders: BTreeMap::new(),
            stop: watch::Sender::new(false),
            clients: Arc::default(),
            due: Vec::new(),
            outcome: Outcome::default(),
            plan,
        };
        world.add_nodes(dir);
        world.add_clients();
        Ok(world)
    }

    fn add_nodes(&mut self, dir: &Path) {
        let store = MemStore::new("archive", Arc::new(Inline));
        let cluster = ClusterPlan {
            first_members: (1..=self.plan.voters).collect(),
            databases: self.plan.databases.clone(),
            election_timeout: Duration::from_millis(400),
            heartbeat_interval: Duration::from_millis(50),
            checkpoint_wal_bytes: self.plan.checkpoint_wal_bytes,
            checkpoint_idle: self.plan.checkpoint_idle,
            log_cache_bytes: self.plan.log_cache_bytes,
            archiver: ArchiverOptions {
                own: std::collections::HashMap::new(),
                default: None,
                destinations: Arc::new(store),
            },
        };
        for id in 1..=self.plan.voters {
            let clock = WallClock::new(self.elapsed_us.clone());
            let dir = dir.join(node::name(id));
            let seed = self.rng.random();
            let machine = Node::new(id, dir, seed, clock, cluster.clone());
            self.nodes.insert(id, machine.clone());
            self.sim.host(node::name(id), move || {
                let machine = machine.clone();
                async move {
                    machine.run().await;
                    Ok(())
                }
            });
        }
    }

    fn add_clients(&mut self) {
        for (database, _) in &self.plan.databases {
            let recorder = Recorder::new(self.trace.clone());
            self.recorders.insert(database.clone(), recorder);
        }
        for (place, client) in self.plan.clients.clone().into_iter().enumerate() {
            let number = place as u64 + 1;
            let session = Session {
                number,
                addrs: (1..=self.plan.voters).map(node::addr).collect(),
                pause: client.pause,
                rng: SmallRng::seed_from_u64(self.rng.random()),
                recorder: self.recorders[&client.database].clone(),
                stop: self.stop.subscribe(),
                database: client.database,
            };
            let clients = self.clients.clone();
            *clients.lock() += 1;
            self.sim.client(format!("c{number}"), async move {
                workload::run(client.job, session).await;
                *clients.lock() -= 1;
                Ok(())
            });
        }
    }

    /// Runs the plan to its end, or to the first violation.
    ///
    /// # Errors
    /// The simulation itself failed.
    pub fn run(mut self) -> Result<Outcome> {
        let faults = std::mem::take(&mut self.plan.faults);
        for (at, fault) in faults {
            self.run_until(at)?;
            self.begin(&fault)?;
        }
        self.run_until(self.plan.length)?;
        if self.outcome.violations.is_empty() {
            self.finish()?;
        }
        self.outcome.simulated = self.sim.elapsed();
        self.outcome.acknowledged = self
            .recorders
            .values()
            .map(|recorder| recorder.acknowledged() as u64)
            .sum();
        Ok(self.outcome)
    }

    fn run_until(&mut self, at: Duration) -> Result<()> {
        while self.sim.elapsed() < at && self.outcome.violations.is_empty() {
            self.step()?;
        }
        Ok(())
    }

    /// One tick of everything.
    fn step(&mut self) -> Result<()> {
        self.sim
            .step()
            .map_err(|error| anyhow!("{error}"))
            .context("the simulation failed")?;
        let elapsed = self.sim.elapsed();
        self.elapsed_us
            .store(u64::try_from(elapsed.as_micros())?, Ordering::Relaxed);
        self.end_what_is_due();
        self.note_exits();
        if elapsed.as_millis() % LOOK_EVERY.as_millis() == 0 {
            self.look();
        }
        Ok(())
    }

    /// Looks at all nodes that run.
    fn look(&mut self) {
        let seen: Vec<Seen> = self
            .nodes
            .values()
            .filter_map(|n| see(n, &mut self.looked))
            .collect();
        for node in &seen {
            let line = line_of(node);
            if self.last_seen.get(&node.node) != Some(&line) {
                self.trace.note(format_args!("n{} {line}", node.node));
                self.last_seen.insert(node.node, line);
            }
        }
        let mut wrong = Vec::new();
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.look(&seen) {
                wrong.push((invariant.name(), what));
            }
        }
        for (property, what) in wrong {
            self.violated(property, what);
        }
    }

    fn violated(&mut self, property: &str, what: String) {
        self.trace
            .note(format_args!("VIOLATION {property}: {what}"));
        self.outcome.violations.push(Violation {
            property: property.to_owned(),
            what,
        });
    }
}

fn see(node: &Node, looked: &mut BTreeMap<u64, (u64, u64)>) -> Option<Seen> {
    let view = node.view()?;
    let status = view.status()?.node?;
    let life = node.lives();
    let from = match looked.get(&node.id) {
        Some((known, index)) if *known == life => index + 1,
        _ => 1,
    };
    let to = status.committed_index;
    let committed = if from <= to {
        // A disk that cannot be read shows elsewhere.
        view.entries(from, to)?.unwrap_or_default()
    } else {
        Vec::new()
    };
    if let Some(last) = committed.last() {
        looked.insert(node.id, (life, last.index));
    }
    Some(Seen {
        node: node.id,
        life,
        primary_term: view.primary_term(),
        status,
        committed,
    })
}

fn line_of(seen: &Seen) -> String {
    let status = &seen.status;
    let databases: Vec<String> = status
        .databases
        .iter()
        .map(|d| format!("{}@{}/{}{}", d.name, d.txid, d.checksum, d.trouble))
        .collect();
    format!(
        "{:?} term={} last={} committed={} applied={} {}",
        status.role(),
        status.term,
        status.last_log_index,
        status.committed_index,
        status.applied_index,
        databases.join(" ")
    )
}
