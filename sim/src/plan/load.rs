//! Which clients there are, and what each does.
//!
//! Each run takes a part of all workloads only, with weights of its own: what all runs had in common, no run would ever be without.

use std::time::Duration;

use halite_checks::Level;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// One client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The database it works on.
    pub database: String,
    /// What it does.
    pub job: Job,
    /// Longest pause between two calls.
    pub pause: Duration,
    /// How long it waits for answers.
    pub patience: Patience,
}

/// How long a client waits for answers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest wait for one try.
    pub call_timeout: Duration,
    /// Longest time a call may take with all its retries.
    pub retry_deadline: Duration,
}

/// What a client does; see [`crate::workload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Inserts rows.
    InsertRows,
    /// Inserts rows together with several MiB.
    InsertLarge,
    /// Reads rows at a level.
    ReadRows(Level),
    /// Reads and inserts rows at one node after the other.
    Wander,
    /// Moves money.
    Transfer,
    /// Reads all balances at a level.
    ReadBalances(Level),
    /// Appends to lists, and reads them in the same transactions.
    AppendToLists,
    /// Reads lists at a level.
    ReadLists(Level),
    /// Increments registers.
    IncrementRegisters,
    /// Reads registers at a level.
    ReadRegisters(Level),
    /// Takes, renews and lets go of locks.
    KeepLocks,
    /// Creates, changes and drops tables and indexes; vacuums.
    ChangeSchema,
    /// Creates and drops databases.
    ChangeDatabases,
}

/// A writer, and the readers of what it writes.
#[derive(Clone, Copy)]
struct Workload {
    write: Job,
    read: fn(Level) -> Job,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        write: Job::InsertRows,
        read: Job::ReadRows,
    },
    Workload {
        write: Job::Transfer,
        read: Job::ReadBalances,
    },
    Workload {
        write: Job::AppendToLists,
        read: Job::ReadLists,
    },
    Workload {
        write: Job::IncrementRegisters,
        read: Job::ReadRegisters,
    },
];

/// Draws the load on `databases`.
pub(super) fn draw(rng: &mut SmallRng, databases: &[(String, u32)]) -> Vec<ClientPlan> {
    let mut jobs: Vec<(&str, Job)> = Vec::new();
    for (database, _) in databases {
        let first = rng.random_range(0..WORKLOADS.len());
        for (n, workload) in WORKLOADS.iter().enumerate() {
            if n == first || rng.random_ratio(1, 4) {
                draw_workload(rng, *workload, |job| jobs.push((database, job)));
            }
        }
        for (job, odds) in [
            (Job::Wander, 4),
            (Job::ChangeSchema, 4),
            (Job::InsertLarge, 10),
        ] {
            if rng.random_ratio(1, odds) {
                jobs.push((database, job));
            }
        }
    }
    if rng.random_ratio(1, 6) {
        jobs.push((&databases[0].0, Job::ChangeDatabases));
    }
    // However many there are: together they make about so many calls a second.
    let rate = rng.random_range(20..250);
    let pause = Duration::from_millis(2_000 * jobs.len() as u64 / rate);
    let hurry_odds = *[2, 5, u32::MAX]
        .get(rng.random_range(0..3))
        .unwrap_or(&u32::MAX);
    let mut patient: Vec<&str> = Vec::new();
    jobs.into_iter()
        .map(|(database, job)| {
            // Some writer of each database is patient: somebody has to come through in the end.
            let must_be_patient = job.writes_records() && !patient.contains(&database);
            if must_be_patient {
                patient.push(database);
            }
            let hurried = !must_be_patient && rng.random_ratio(1, hurry_odds);
            ClientPlan {
                database: database.to_owned(),
                job,
                pause: pause * rng.random_range(1..=3) / 2,
                patience: draw_patience(rng, hurried),
            }
        })
        .collect()
}

/// Clients that write large transactions, patient enough for a narrow disk.
pub(super) fn large(rng: &mut SmallRng, database: &str) -> Vec<ClientPlan> {
    let client = |pause_ms| ClientPlan {
        database: database.to_owned(),
        job: Job::InsertLarge,
        pause: Duration::from_millis(pause_ms),
        patience: Patience {
            call_timeout: Duration::from_secs(10),
            retry_deadline: Duration::from_secs(10),
        },
    };
    (0..rng.random_range(1..=2))
        .map(|_| client(rng.random_range(50..500)))
        .collect()
}

/// Makes the stream of choices of [`draw_locks`] another one than the rest of the plan is drawn from.
const LOCKS: u64 = 0x6c6f_636b_7321;

/// Draws clients that keep locks, in every second run. They are quick, since what changes nothing is answered soon, and what was true a moment
/// ago is told only for a moment. Drawn apart: whoever repeats a seed from before gets the other clients and the faults as they were.
pub(super) fn draw_locks(seed: u64, databases: &[(String, u32)]) -> Vec<ClientPlan> {
    let rng = &mut SmallRng::seed_from_u64(seed ^ LOCKS);
    let database = databases.choose(rng).filter(|_| rng.random_ratio(1, 2));
    match database {
        Some((database, _)) => locks(rng, database),
        None => Vec::new(),
    }
}

/// Clients that keep locks.
pub(super) fn locks(rng: &mut SmallRng, database: &str) -> Vec<ClientPlan> {
    let pause = Duration::from_millis(rng.random_range(4..60));
    (0..rng.random_range(2..=4))
        .map(|_| {
            let hurried = rng.random_ratio(1, 2);
            ClientPlan {
                database: database.to_owned(),
                job: Job::KeepLocks,
                pause,
                patience: draw_patience(rng, hurried),
            }
        })
        .collect()
}

fn draw_workload<'a>(rng: &mut SmallRng, workload: Workload, mut add: impl FnMut(Job) + 'a) {
    for _ in 0..rng.random_range(1..=3) {
        add(workload.write);
    }
    let max_lag_us = rng.random_range(20..2_000) * 1_000;
    for level in [
        Level::Linearizable,
        Level::Session,
        Level::Bounded { max_lag_us },
        Level::Local,
    ] {
        if rng.random_ratio(2, 5) {
            add((workload.read)(level));
        }
    }
}

fn draw_patience(rng: &mut SmallRng, hurried: bool) -> Patience {
    let (call_timeout, retry_deadline) = if hurried {
        (rng.random_range(20..100), rng.random_range(500..4_000))
    } else {
        (2_000, 4_000)
    };
    Patience {
        call_timeout: Duration::from_millis(call_timeout),
        retry_deadline: Duration::from_millis(retry_deadline),
    }
}

impl Job {
    /// Its writes are recorded, one after the other until the end.
    fn writes_records(self) -> bool {
        matches!(
            self,
            Self::InsertRows | Self::Transfer | Self::AppendToLists | Self::IncrementRegisters
        )
    }
}
