//! [`World`]: one run of one plan.
//!
//! The driver: it steps the simulated network, carries faults out, looks at the invariants after every step, and in the end heals
//! everything, waits until the cluster has come to rest, and checks the histories.

mod archive;
mod damage;
mod dead_files;
mod end;
mod episode;
mod faults;
mod look;
mod members;
mod network;
mod processes;
mod programs;
mod stock;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use halite::archiver::ArchiverOptions;
use halite_archive::{Inline, MemStore};
use halite_checks::FinalState;
use halite_sim_clock::SimulatedClocks;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::disks::StoreFaults;
use crate::export::Record;
use crate::fault::Machine;
use crate::host::WallClock;
use crate::invariant::{self, Invariant, Seen};
use crate::node::{self, ClusterPlan, Node};
use crate::operator::Operator;
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::sometimes::watcher::Watcher;
use crate::sometimes::{Sometimes, answers};
use crate::trace::Trace;
use crate::workload::{self, Session};
use episode::Stage;
use faults::Due;
use look::Eyes;
use members::Members;
use network::Links;
use programs::Programs;

/// The network moves messages once per tick.
const TICK: Duration = Duration::from_millis(1);
/// An episode that is not over when its run ends gets as much time more.
const EPISODE_TAKES_MAX: Duration = Duration::from_secs(20);
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
    /// Rare states that were reached.
    pub sometimes: BTreeSet<Sometimes>,
    /// What clients did and nodes held.
    pub records: Vec<Record>,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

/// See the module.
pub struct World {
    sim: turmoil::Sim<'static>,
    plan: Plan,
    rng: SmallRng,
    nodes: BTreeMap<u64, Arc<Node>>,
    /// Machines that run on a copy of a node's disks, by its id.
    copies: BTreeMap<u64, Arc<Node>>,
    eyes: Eyes,
    last_seen: BTreeMap<u64, String>,
    /// The nodes as they were at the last look.
    seen: Vec<Seen>,
    watcher: Watcher,
    /// When there was a primary of a newer term than before, in microseconds.
    failovers_us: Vec<u64>,
    newest_term: Option<u64>,
    invariants: Vec<Box<dyn Invariant>>,
    elapsed_us: Arc<AtomicU64>,
    clocks: SimulatedClocks,
    trace: Trace,
    recorders: BTreeMap<String, Recorder>,
    stop: watch::Sender<bool>,
    clients: Arc<Mutex<usize>>,
    due: Vec<Due>,
    stage: Stage,
    links: Links,
    operator: Operator,
    members: Members,
    programs: Programs,
    /// What every node is started with, and where they all live.
    cluster: Option<(ClusterPlan, PathBuf)>,
    store: MemStore,
    store_faults: StoreFaults,
    /// When nodes that are down are to run again.
    starts: BTreeMap<u64, Duration>,
    /// How long nodes stay down whose power goes off by itself.
    cut_for: BTreeMap<u64, Duration>,
    fault_number: u64,
    /// The newest fault of each node's disk, by its number.
    log_disk_faults: BTreeMap<u64, u64>,
    file_disk_faults: BTreeMap<u64, u64>,
    store_fault: u64,
    archive_lost: bool,
    /// How far any clock has shown more than the time of the simulation.
    clock_ahead_ms: i64,
    newest: stock::Newest,
    /// What the nodes held in the end, by database.
    ends: BTreeMap<String, FinalState>,
    outcome: Outcome,
}

impl World {
    /// A cluster that has never run, in the empty directory `dir`.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(plan: Plan, dir: &Path, trace: Trace, elapsed_us: Arc<AtomicU64>) -> Result<Self> {
        let clocks = SimulatedClocks::start();
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(plan.latency_min)
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let addrs = (1..=plan.voters).map(node::addr).collect();
        let (operator, desk) = Operator::new(addrs, trace.clone());
        let seed = plan.seed;
        sim.client(Machine::Operator.to_string(), async move {
            desk.run(seed).await;
            Ok(())
        });
        let store = MemStore::new(archive::BUCKET, Arc::new(Inline));
        let mut world = Self {
            sim,
            operator,
            members: Members::new(plan.voters),
            programs: Programs::new(plan.mixed_versions, plan.seed),
            cluster: None,
            store_faults: StoreFaults::install(&store, plan.seed ^ 0x570),
            store,
            rng: SmallRng::seed_from_u64(plan.seed ^ 0x5eed),
            nodes: BTreeMap::new(),
            copies: BTreeMap::new(),
            eyes: Eyes::default(),
            last_seen: BTreeMap::new(),
            seen: Vec::new(),
            watcher: Watcher::default(),
            failovers_us: Vec::new(),
            newest_term: None,
            invariants: invariant::all(),
            elapsed_us,
            clocks,
            trace,
            recorders: BTreeMap::new(),
            stop: watch::Sender::new(false),
            clients: Arc::default(),
            due: Vec::new(),
            stage: Stage::new(plan.episode.clone(), &plan.databases),
            links: Links::default(),
            starts: BTreeMap::new(),
            cut_for: BTreeMap::new(),
            fault_number: 0,
            log_disk_faults: BTreeMap::new(),
            file_disk_faults: BTreeMap::new(),
            store_fault: 0,
            archive_lost: false,
            clock_ahead_ms: i64::MIN,
            newest: BTreeMap::new(),
            ends: BTreeMap::new(),
            outcome: Outcome::default(),
            plan,
        };
        world.add_nodes(dir);
        world.add_clients();
        Ok(world)
    }

    fn add_nodes(&mut self, dir: &Path) {
        let cluster = ClusterPlan {
            first_members: (1..=self.plan.voters).collect(),
            databases: self.plan.databases.clone(),
            checkpoint_wal_bytes: self.plan.checkpoint_wal_bytes,
            checkpoint_idle: self.plan.checkpoint_idle,
            log_cache_bytes: self.plan.log_cache_bytes,
            purge: self.plan.purge,
            entry_bytes_max: self.plan.entry_bytes_max,
            archiver: ArchiverOptions {
                own: std::collections::HashMap::new(),
                default: self.plan.archive.map(archive::target),
                schedule: archive::schedule(),
                destinations: Arc::new(self.store.clone()),
            },
        };
        self.cluster = Some((cluster, dir.to_owned()));
        for id in 1..=self.plan.voters {
            self.add_node(id);
        }
    }

    /// A machine that has never run; one that is not among the first waits to be added.
    fn add_node(&mut self, id: u64) {
        let Some((cluster, dir)) = self.cluster.clone() else {
            return;
        };
        let clock = WallClock::new(self.elapsed_us.clone());
        let seed = self.rng.random();
        let machine = Node::new(id, dir.join(node::name(id)), seed, clock, cluster);
        self.nodes.insert(id, machine.clone());
        self.give_program(id);
        self.start_machine(node::name(id), machine);
    }

    fn start_machine(&mut self, host: String, machine: Arc<Node>) {
        self.sim.host(host, move || {
            let machine = machine.clone();
            async move {
                machine.run().await;
                Ok(())
            }
        });
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
                nodes: (1..=self.plan.voters).collect(),
                pause: client.pause,
                patience: client.patience,
                rng: SmallRng::seed_from_u64(self.rng.random()),
                recorder: self.recorders[&client.database].clone(),
                stop: self.stop.subscribe(),
                quiet: self.stage.quiet(&client.database),
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
        let latest = self.sim.elapsed() + EPISODE_TAKES_MAX;
        while self.stage.is_on() && self.sim.elapsed() < latest {
            self.run_until(self.sim.elapsed() + TICK)?;
            if !self.outcome.violations.is_empty() {
                break;
            }
        }
        if self.outcome.violations.is_empty() {
            self.finish()?;
        }
        self.count_disk_faults();
        self.count_operations();
        self.outcome.simulated = self.sim.elapsed();
        self.outcome.acknowledged = self
            .recorders
            .values()
            .map(|recorder| recorder.acknowledged() as u64)
            .sum();
        self.note_rare_states();
        let recorders = self.recorders.iter();
        let records = recorders.map(|(database, recorder)| Record {
            database: database.clone(),
            history: recorder.history(),
            end: self.ends.remove(database),
        });
        self.outcome.records = records.collect();
        Ok(self.outcome)
    }

    fn note_rare_states(&mut self) {
        let histories = self.recorders.values().map(Recorder::history);
        let mut reads = histories.map(|h| answers::read_right_after(&h, &self.failovers_us));
        if reads.any(|after| after) {
            self.watcher.reach(Sometimes::ReadAfterFailover);
        }
        if self
            .nodes
            .values()
            .any(|node| node.file_faults.one_failed())
        {
            self.watcher.reach(Sometimes::OneDatabaseFailed);
        }
        if self.outcome.faults.is_empty() && self.outcome.acknowledged > 0 {
            self.watcher.reach(Sometimes::NoFault);
        }
        self.outcome.sometimes = self.watcher.reached().clone();
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
        self.clocks.show(elapsed);
        self.elapsed_us
            .store(u64::try_from(elapsed.as_micros())?, Ordering::Relaxed);
        self.note_power_cuts()?;
        self.end_what_is_due();
        self.note_exits();
        self.start_what_is_due();
        self.finalize_if_due();
        if elapsed.as_millis() % LOOK_EVERY.as_millis() == 0 {
            self.look();
            self.note_programs();
        }
        if elapsed.as_millis() % self.plan.read_files_every.as_millis() == 0 {
            self.read_files()?;
            self.look_at_archives();
        }
        self.play()?;
        self.note_complaints();
        Ok(())
    }

    fn note_complaints(&mut self) {
        let recorders = self.recorders.values();
        let complaints: Vec<String> = recorders.flat_map(Recorder::take_complaints).collect();
        for what in complaints {
            self.violated("contents", what);
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
