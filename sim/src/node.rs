//! [`Node`]: one machine of the simulation: its disks, its clock, and the life of the process on it.
//!
//! Disks and clock outlive the process. The process itself is the real server, started by the driver as a host of the simulated network.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use halite::archiver::ArchiverOptions;
use halite::cluster::{ClusterOptions, Levels, PurgeRules};
use halite::config::{ClusterConfig, Config, DatabaseConfig, MemberConfig};
use halite::database::{DatabaseOptions, Window};
use halite::server::{NodeView, ServerOptions, serve};
use halite_log::{MemDisk, MemDiskImage};
use halite_sim_disk::CrashDisk;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::disks::{FileFaults, LogFaults};
use crate::fault::LogDiskFault;
use crate::host::{SimHost, Threads, WallClock};
use crate::network::{PORT, SimNetwork};

/// How often lanes look at their deadlines.
const TICK: Duration = Duration::from_millis(20);
/// Within this time each page of a file is looked at: some times in a run.
const SCRUB_INTERVAL: Duration = Duration::from_secs(2);

/// What is the same for all nodes of a run.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Voters that form the cluster.
    pub first_members: Vec<u64>,
    /// Databases that are created at the beginning: name and page size.
    pub databases: Vec<(String, u32)>,
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
    /// Where databases are archived.
    pub archiver: ArchiverOptions,
}

/// See the module. Shared between the driver and the host of the simulated network.
pub struct Node {
    /// Id in the cluster.
    pub id: u64,
    /// Its log.
    pub log_disk: MemDisk,
    /// Its databases.
    pub file_disk: CrashDisk,
    /// What is wrong with the one under the log.
    pub log_faults: LogFaults,
    /// What is wrong with the one under its databases.
    pub file_faults: FileFaults,
    /// Its wall clock.
    pub clock: WallClock,
    /// The threads of its process.
    pub threads: Arc<Threads>,
    log_is_damaged: AtomicBool,
    disks_are_others: AtomicBool,
    /// What its log's disk held when a copy was kept; the files are beside its directory.
    kept: Mutex<Option<MemDiskImage>>,
    levels: Mutex<Levels>,
    dir: PathBuf,
    seed: u64,
    plan: ClusterPlan,
    lives: AtomicU64,
    /// Counts the lives of the node within its processes as well.
    starts: Arc<AtomicU64>,
    view: Arc<Mutex<Option<NodeView>>>,
    stop: watch::Sender<u64>,
    exit: Mutex<Option<String>>,
}

/// Name of a node in the simulated network.
pub fn name(id: u64) -> String {
    format!("n{id}")
}

/// Name of the machine that runs on a copy of a node's disks.
pub fn name_of_copy(id: u64) -> String {
    format!("copy-of-{}", name(id))
}

/// Address of a node.
pub fn addr(id: u64) -> String {
    format!("{}:{PORT}", name(id))
}

impl Node {
    /// A machine that has never run.
    pub fn new(id: u64, dir: PathBuf, seed: u64, clock: WallClock, plan: ClusterPlan) -> Arc<Self> {
        let (log_disk, file_disk) = (MemDisk::new(), CrashDisk::new());
        Arc::new(Self {
            id,
            log_faults: LogFaults::install(&log_disk, seed ^ 1),
            file_faults: FileFaults::install(&file_disk, seed ^ 2),
            log_disk,
            file_disk,
            clock,
            threads: Arc::default(),
            log_is_damaged: AtomicBool::new(false),
            disks_are_others: AtomicBool::new(false),
            kept: Mutex::new(None),
            levels: Mutex::new(Levels::OURS),
            dir,
            seed,
            plan,
            lives: AtomicU64::new(0),
            starts: Arc::default(),
            view: Arc::default(),
            stop: watch::Sender::new(0),
            exit: Mutex::new(None),
        })
    }

    /// From now on this is wrong with the disk under its log, or nothing.
    pub fn set_log_fault(&self, fault: Option<LogDiskFault>) {
        self.log_disk.set_bandwidth(match fault {
            Some(LogDiskFault::Bandwidth(bytes_per_s)) => Some(bytes_per_s),
            _ => None,
        });
        self.log_disk
            .set_hanging(fault == Some(LogDiskFault::Hangs));
        self.log_faults.set(fault);
    }

    /// The program that its next life runs, by what it reads and writes.
    pub fn set_levels(&self, levels: Levels) {
        *self.levels.lock() = levels;
    }

    /// The file of a database.
    pub fn database_path(&self, database: &str) -> PathBuf {
        self.dir.join("db").join(format!("{database}.db"))
    }

    /// The process as it is now; `None` when there is none.
    pub fn view(&self) -> Option<NodeView> {
        self.view.lock().clone()
    }

    /// How often the process was started.
    pub fn lives(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }

    /// How often the node was started: a process whose disk failed starts it anew.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Why the process ended by itself, if it did. Forgotten when it is asked.
    pub fn take_exit(&self) -> Option<String> {
        self.exit.lock().take()
    }

    /// Flips a bit of an entry of its log; false if the entry is not there.
    pub fn damage_log(&self, index: u64) -> bool {
        let damaged = self.log_disk.corrupt(index);
        self.log_is_damaged.fetch_or(damaged, Ordering::Relaxed);
        damaged
    }

    /// The disk under its databases has failed at some time, or one of its disks has lied.
    pub fn is_damaged(&self) -> bool {
        let counts = self.file_disk.fault_counts();
        let failed = counts.opens_failed + counts.reads_failed;
        let failed = failed + counts.writes_failed + counts.writes_full;
        let failed = failed + counts.truncates_failed + counts.syncs_failed + counts.bits_flipped;
        failed > 0 || self.log_is_damaged() || self.disks_are_others()
    }

    /// Its disks were put back to an older copy, or are new.
    pub fn disks_are_others(&self) -> bool {
        self.disks_are_others.load(Ordering::Relaxed)
    }

    /// A copy of its disks was kept.
    pub fn has_kept(&self) -> bool {
        self.kept.lock().is_some()
    }

    /// Keeps a copy of both disks. The power has to be off, with nothing unsynced.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub fn keep_disks(&self) -> Result<()> {
        let copy = self.dir.with_extension("kept");
        remove_dir(&copy)?;
        copy_dir(&self.dir, &copy)?;
        *self.kept.lock() = Some(self.log_disk.image());
        Ok(())
    }

    /// Another machine with copies of both disks as they were kept, under the same id and with the same settings.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub fn copy(&self, seed: u64, clock: WallClock) -> Result<Arc<Self>> {
        let dir = self.dir.with_extension("copy");
        copy_dir(&self.dir.with_extension("kept"), &dir)?;
        let copy = Self::new(self.id, dir, seed, clock, self.plan.clone());
        copy.log_disk
            .put_back(&self.kept.lock().clone().unwrap_or_default());
        Ok(copy)
    }

    /// Puts both disks back to the copy that was kept, or makes them blank. The power has to be off, with nothing unsynced.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub fn put_back(&self, to_kept: bool) -> Result<()> {
        remove_dir(&self.dir)?;
        let kept = self.kept.lock();
        let log = kept.as_ref().filter(|_| to_kept);
        if log.is_some() {
            copy_dir(&self.dir.with_extension("kept"), &self.dir)?;
        }
        self.log_disk.put_back(&log.cloned().unwrap_or_default());
        self.disks_are_others.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Its log has lied.
    pub fn log_is_damaged(&self) -> bool {
        self.log_is_damaged.load(Ordering::Relaxed)
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn terminate(&self) {
        self.stop.send_replace(self.lives());
    }

    /// The process is gone, whether it wanted or not.
    pub fn died(&self) {
        *self.view.lock() = None;
    }

    /// One life of the process: the software of the host.
    pub async fn run(self: Arc<Self>) {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let seed = self
            .seed
            .wrapping_add(life.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let host = SimHost::new(seed, self.clock.clone(), self.threads.clone());
        // The address is one of numbers, and the settings are the defaults.
        let options = self
            .options(Arc::new(host))
            .expect("defaults are a configuration");
        let mut stop = self.stop.subscribe();
        let stopped = async move {
            // The sender lives as long as the machine.
            let _ = stop.wait_for(|upto| *upto >= life).await;
        };
        let ticks = tick(self.view.clone());
        let served = tokio::select! {
            served = serve(options, stopped) => served,
            never = ticks => never,
        };
        self.died();
        *self.exit.lock() = Some(match served {
            Ok(()) => "stopped".to_owned(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        });
    }

    /// Those of the product, but for what the plan changes and what is not real here.
    fn options(&self, host: Arc<SimHost>) -> Result<ServerOptions> {
        let plan = &self.plan;
        let product = ServerOptions::from_config(&self.config())?;
        let (view, starts) = (self.view.clone(), self.starts.clone());
        Ok(ServerOptions {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            cluster: ClusterOptions {
                log_cache_bytes: plan.log_cache_bytes,
                database: DatabaseOptions {
                    checkpoint_wal_bytes: plan.checkpoint_wal_bytes,
                    checkpoint_idle: plan.checkpoint_idle,
                    scrub_interval: SCRUB_INTERVAL,
                    gather_max: Duration::ZERO,
                    entry_bytes_max: plan.entry_bytes_max,
                    // Small enough that lanes wait for it.
                    window: Window::new(16 * plan.entry_bytes_max, 4 * plan.entry_bytes_max),
                    host,
                    disk: Some(Arc::new(self.file_disk.clone())),
                    ..product.cluster.database
                },
                // Small enough that streams wait for it, and end while they do.
                unsynced_bytes_max: 8 * plan.entry_bytes_max,
                // The product's is of the machine it runs on.
                capacity: None,
                archived: !plan.archiver.is_empty(),
                purge: plan.purge,
                log_disk: Some(self.log_disk.clone()),
                levels: *self.levels.lock(),
                connector: Arc::new(SimNetwork),
                ..product.cluster
            },
            archiver: plan.archiver.clone(),
            // One thread: which of several comes first would not repeat.
            reader_threads: 1,
            listener: Arc::new(SimNetwork),
            on_start: Some(Arc::new(move |started| {
                starts.fetch_add(1, Ordering::Relaxed);
                *view.lock() = Some(started);
            })),
            ..product
        })
    }

    /// Every setting at its default, but for who the node is and what there is at the beginning.
    fn config(&self) -> Config {
        let plan = &self.plan;
        let is_first = plan.first_members.contains(&self.id);
        let member = |id: &u64| MemberConfig {
            id: *id,
            addr: addr(*id),
        };
        let first = plan.first_members.iter().filter(|_| is_first).map(member);
        let database = |(name, page_size): &(String, u32)| DatabaseConfig {
            page_size: *page_size,
            ..DatabaseConfig::named(name)
        };
        Config {
            node_id: self.id,
            name: name(self.id),
            advertise: addr(self.id),
            data_dir: self.dir.clone(),
            cluster: ClusterConfig {
                name: "sim".to_owned(),
                initial_members: first.collect(),
                join: !is_first,
            },
            dbs: plan.databases.iter().map(database).collect(),
            ..Config::default()
        }
    }
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Lanes wait without a clock: somebody has to tell them that time has passed.
async fn tick<T>(view: Arc<Mutex<Option<NodeView>>>) -> T {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let view = view.lock().clone();
        if let Some(view) = view {
            view.tick();
        }
    }
}
