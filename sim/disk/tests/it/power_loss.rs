//! Power losses and disk faults at any moment, on a simulated disk: whatever survives, redo leads to exactly what the log says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halite_ltx::Checksum;
use halite_pager::{
    Applier, ApplyError, ApplyTarget, CapturedTransaction, CheckpointMode, Database, FileKind,
    Gate, GateVerdict, OpenOptions, Writer,
};
use halite_sim_disk::{
    CrashDisk, DiskAction, DiskError, DiskFate, FaultCounts, Survival, Unsynced,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::support::{Log, Recorded, mask, options, pages, recording, statement};

/// One committed state, as the log alone gives it.
#[derive(Clone)]
struct State {
    pages: Vec<Vec<u8>>,
    checksum: Checksum,
}

impl State {
    fn blank() -> Self {
        State {
            pages: vec![],
            checksum: Checksum::EMPTY,
        }
    }

    fn after(&self, transaction: &Recorded) -> Self {
        let mut pages = self.pages.clone();
        pages.resize(transaction.page_count as usize, vec![]);
        for (pgno, page) in &transaction.pages {
            let mut page = page.clone();
            if pgno.get() == 1 {
                mask(&mut page);
            }
            pages[pgno.get() as usize - 1] = page;
        }
        State {
            pages,
            checksum: transaction.post,
        }
    }
}

/// What goes wrong in one life of the process.
#[derive(Clone, Copy, Default)]
struct Trouble {
    /// Accesses until the power goes off; 0 for never.
    cut_after: u64,
    /// One of so many accesses that are no reads fails; 0 for none.
    fails_one_in: u32,
}

/// One database on a simulated disk, and what a node would know of it beside.
struct World {
    random: StdRng,
    _directory: TempDir,
    path: std::path::PathBuf,
    options: OpenOptions,
    disk: CrashDisk,
    /// Failures before this life.
    failures: u64,
    /// Nothing goes wrong while it is set.
    quiet: Arc<AtomicBool>,
    log: Log,
    states: Vec<State>,
    /// Position that the last complete checkpoint made durable, and the one that the last checkpoint aimed at.
    durable: usize,
    aimed: usize,
}

/// The handles of one life. Dropped from the top.
struct Life {
    writer: Writer,
    applier: Applier,
    database: Arc<Database>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().canonicalize().expect("path").join("a.db");
        let disk = CrashDisk::new();
        let options = OpenOptions {
            disk: Some(Arc::new(disk.clone())),
            ..options(1 << random.random_range(9..15))
        };
        World {
            random,
            _directory: directory,
            path,
            options,
            disk,
            failures: 0,
            quiet: Arc::default(),
            log: Log::default(),
            states: vec![State::blank()],
            durable: 0,
            aimed: 0,
        }
    }

    /// Brings the states up to the log; its length.
    fn known(&mut self) -> usize {
        let log = self.log.lock();
        for transaction in &log[self.states.len() - 1..] {
            let next = self.states[self.states.len() - 1].after(transaction);
            self.states.push(next);
        }
        log.len()
    }

    fn trouble(&mut self, trouble: Trouble) {
        let mut random = StdRng::seed_from_u64(self.random.random());
        self.failures = self.failures();
        let mut left = trouble.cut_after;
        let quiet = Arc::clone(&self.quiet);
        self.disk.set_faults(move |operation| {
            if quiet.load(Ordering::SeqCst) {
                return DiskFate::Done;
            }
            if left > 0 {
                left -= 1;
                if left == 0 {
                    return DiskFate::PowerCut;
                }
            }
            let changes = !matches!(operation.action, DiskAction::Read { .. });
            if trouble.fails_one_in == 0
                || !changes
                || random.random_range(0..trouble.fails_one_in) > 0
            {
                return DiskFate::Done;
            }
            match random.random_range(0..3) {
                0 => DiskFate::Fails(DiskError::Io),
                1 => DiskFate::Fails(DiskError::Full),
                _ => DiskFate::FailsPartly {
                    bytes: random.random_range(0..5000),
                    error: DiskError::Full,
                },
            }
        });
    }

    /// Opens and records, but sometimes the power goes off while it is shut: then nobody may see the transaction, ever.
    fn gate(&mut self) -> Box<dyn Gate> {
        let random = Mutex::new(StdRng::seed_from_u64(self.random.random()));
        let (disk, recording) = (self.disk.clone(), recording(&self.log));
        Box::new(move |transaction: &CapturedTransaction<'_>| {
            if random.lock().random_range(0..30) == 0 {
                disk.cut_power();
                return GateVerdict::Refuse;
            }
            recording.commit(transaction)
        })
    }

    /// Opens and redoes; `None` if the disk did not allow it.
    fn start(&mut self) -> Option<Life> {
        let known = self.known();
        let target = self.random.random_range(self.aimed..=known);
        let database = match Database::open(&self.path, &self.options) {
            Ok(database) => database,
            Err(error) => return self.excused(&error),
        };
        let found = database.checksum();
        assert!(
            // The sync that comes before pages are copied may have failed: only redo makes up for that.
            self.disk.fault_counts().syncs_failed > 0
                || self.states.iter().any(|state| state.checksum == found),
            "what readers see before redo was never committed"
        );
        let mut applier = match database.applier() {
            Ok(applier) => applier,
            Err(error) => return self.excused(&error),
        };
        let goal = &self.states[target];
        let goal = ApplyTarget {
            page_count: goal.pages.len() as u32,
            expected_pre: None,
            expected_post: Some(goal.checksum),
        };
        let log = self.log.lock().clone();
        let redone = applier.redo::<ApplyError>(goal, |sink| {
            for transaction in &log[self.durable..target] {
                for (pgno, page) in &transaction.pages {
                    sink.page(*pgno, page)?;
                }
            }
            Ok(())
        });
        if let Err(error) = redone {
            drop(applier);
            return self.excused(&error);
        }
        if !self.disk.is_cut() {
            self.compare(&database, target);
        }
        let writer = match database.writer(self.gate()) {
            Ok(writer) => writer,
            Err(error) => return self.excused(&error),
        };
        Some(Life {
            writer,
            applier,
            database,
        })
    }

    /// A failure is right only if a fault was injected.
    fn excused(&self, error: &dyn std::error::Error) -> Option<Life> {
        let source = error.source().map(|source| source.to_string());
        assert!(
            self.disk.is_cut() || self.failures() > self.failures,
            "{error}: {source:?}"
        );
        None
    }

    fn failures(&self) -> u64 {
        let counts = self.disk.fault_counts();
        counts.opens_failed
            + counts.writes_failed
            + counts.writes_full
            + counts.truncates_failed
            + counts.syncs_failed
    }

    fn compare(&self, database: &Arc<Database>, position: usize) {
        let state = &self.states[position];
        assert_eq!(database.checksum(), state.checksum);
        self.quiet.store(true, Ordering::SeqCst);
        assert!(
            pages(database) == state.pages,
            "pages differ position={position}"
        );
        self.quiet.store(false, Ordering::SeqCst);
    }

    /// Applies what the log has and the file has not; false if the disk did not allow it.
    fn catch_up(&mut self, life: &mut Life) -> bool {
        let known = self.known();
        let now = life.database.checksum();
        let position = self
            .states
            .iter()
            .rposition(|state| state.checksum == now)
            .expect("a committed state");
        let log = self.log.lock().clone();
        log[position..known].iter().all(|transaction| {
            match transaction.apply_to(&mut life.applier) {
                Ok(_) => true,
                Err(error) => {
                    self.excused(&error);
                    false
                }
            }
        })
    }

    fn checkpoint(&mut self, life: &mut Life) {
        if !self.catch_up(life) {
            return;
        }
        let modes = [
            CheckpointMode::Passive,
            CheckpointMode::Restart,
            CheckpointMode::Truncate,
        ];
        // Recorded before pages are copied.
        self.aimed = self.known();
        let mode = modes[self.random.random_range(0..3)];
        match life.database.checkpoint(mode) {
            Ok(outcome) if outcome.complete => self.durable = self.aimed,
            Ok(_) => {}
            Err(error) => {
                self.excused(&error);
            }
        }
    }

    /// One life of the process, until the power goes off or enough has been done.
    fn live(&mut self, life: &mut Life) {
        let mut reader = None;
        for _ in 0..self.random.random_range(1..25) {
            if self.disk.is_cut() {
                return;
            }
            match self.random.random_range(0..10) {
                0..=1 => self.checkpoint(life),
                2 => {
                    // Makes checkpoints partial for a while.
                    reader = life.database.reader().ok().filter(|reader| {
                        reader
                            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
                            .is_ok()
                    });
                }
                3 => drop(reader.take()),
                _ if self.catch_up(life) => {
                    let sql = statement(&mut self.random);
                    // May fail: the table may be missing, the disk may be bad.
                    let _ = life.writer.connection().execute_batch(&format!(
                        "CREATE TABLE IF NOT EXISTS t(a PRIMARY KEY, b); {sql}"
                    ));
                }
                _ => {}
            }
        }
        if self.catch_up(life) && !self.disk.is_cut() {
            self.compare(&life.database, self.states.len() - 1);
        }
    }

    fn crash(&mut self) {
        self.disk.cut_power();
        if self.random.random_range(0..4) == 0 {
            return self.disk.restart_process().expect("nothing is open");
        }
        let style = self.random.random_range(0..6);
        let kept = self.random.random_range(0..200);
        let random = &mut self.random;
        self.disk
            .restore_power(|unsynced| survival(random, style, kept, unsynced))
            .expect("nothing is open");
    }
}

fn survival(random: &mut StdRng, style: u32, kept: usize, unsynced: &Unsynced<'_>) -> Survival {
    match (style, unsynced.file) {
        (0, _) => CrashDisk::keep_all(unsynced),
        (1, _) | (2, FileKind::Wal) | (3, FileKind::Database) => CrashDisk::drop_all(unsynced),
        (2 | 3, _) => Survival::Keep,
        (4, FileKind::Wal) if unsynced.number < kept => Survival::Keep,
        (4, FileKind::Wal) => Survival::Drop,
        _ => match random.random_range(0..3) {
            0 => Survival::Keep,
            1 => Survival::Drop,
            _ => Survival::Tear(random.random_range(0..4096)),
        },
    }
}

fn run(seed: u64, fails_one_in: u32) -> FaultCounts {
    println!("seed {seed} fails_one_in {fails_one_in}");
    let mut world = World::new(seed);
    for round in 0..12 {
        let mut life = None;
        // The power may go off while the last loss is being redone, a few times.
        for attempt in 0..5 {
            let rough = attempt < 3 && round < 11;
            let reach = if world.random.random_bool(0.5) {
                300
            } else {
                6000
            };
            let trouble = Trouble {
                cut_after: world.random.random_range(1..reach) * u64::from(rough),
                fails_one_in: fails_one_in * u32::from(rough),
            };
            world.trouble(trouble);
            life = world.start();
            if life.is_some() {
                break;
            }
            world.crash();
        }
        let mut life = life.expect("a disk without faults");
        if world.random.random_bool(0.3) {
            let _ = life
                .writer
                .connection()
                .execute_batch("PRAGMA cache_size = 10");
        }
        world.live(&mut life);
        drop(life);
        world.crash();
    }
    world.disk.clear_faults();
    let mut life = world.start().expect("a disk without faults");
    assert!(world.catch_up(&mut life));
    world.compare(&life.database, world.states.len() - 1);
    assert_eq!(life.database.scrub().expect("scrub").damaged, []);
    let reader = life.database.reader().expect("reader");
    let check: String = reader
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("check");
    assert_eq!(check, "ok");
    world.disk.fault_counts()
}

/// Runs some seeds; all that can go wrong must have.
fn run_all(seeds: std::ops::Range<u64>, fails_one_in: u32) {
    let mut total = FaultCounts::default();
    for seed in seeds {
        let counts = run(seed, fails_one_in);
        total.changes_kept += counts.changes_kept;
        total.changes_dropped += counts.changes_dropped;
        total.changes_torn += counts.changes_torn;
        total.opens_failed += counts.opens_failed;
        total.writes_failed += counts.writes_failed;
        total.writes_full += counts.writes_full;
        total.syncs_failed += counts.syncs_failed;
    }
    assert!(total.changes_kept > 0 && total.changes_dropped > 0 && total.changes_torn > 0);
    if fails_one_in > 0 {
        assert!(total.opens_failed > 0 && total.writes_failed > 0);
        assert!(total.writes_full > 0 && total.syncs_failed > 0);
    }
}

#[test]
fn redo_reaches_the_exact_state_after_any_power_loss() {
    run_all(0..30, 0);
}

#[test]
fn redo_reaches_the_exact_state_on_a_failing_disk() {
    run_all(1000..1030, 40);
}
