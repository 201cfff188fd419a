//! [`Workload`]: writers and readers that go on through everything, and remember what they were told and saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use halite_client::{Client, Database, Error, ErrorKind, ReadLevel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::{Fate, Ledger, WriteId};
use super::nodes::words;
use super::rows::{Tables, tail};
use super::sightings::Sightings;

pub(super) const WRITERS: i64 = 8;
/// At session level: what they saw may never vanish.
pub(super) const SESSION_READERS: usize = 3;
/// At local level, from whichever node: may lag, but may not see what is lost later.
pub(super) const LOCAL_READERS: usize = 1;
/// The writer that measures the takeover.
const PROBE: i64 = 0;

const READ_EVERY: Duration = Duration::from_millis(10);
/// How often a writer looks whether it reads what it wrote.
const OWN_READ_EVERY: i64 = 25;
/// After an error: long enough not to spin, short enough not to matter.
const PAUSE: Duration = Duration::from_millis(50);
/// Calls end by their own deadline of 10 s; more means that the client hangs.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Writers and readers at work. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workload {
    tasks: JoinSet<Diary>,
    shared: Arc<Shared>,
    probe: Diary,
    tables: Arc<Tables>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    in_flight: AtomicU64,
}

/// What writers and readers remember.
#[derive(Debug, Default)]
pub(super) struct Diary {
    pub(super) ledger: Ledger,
    pub(super) sightings: Vec<Sightings>,
    /// Broken promises.
    pub(super) faults: Vec<String>,
    /// Calls that failed, which is no broken promise.
    pub(super) errors: Vec<String>,
    pub(super) reads: u64,
    pub(super) slowest_write: Duration,
}

impl Diary {
    /// A call that nobody could serve in time is bad luck. One that SQLite refuses is a fault: every statement is sound.
    fn failed(&mut self, what: &str, error: &Error) {
        let text = format!("{what}: {}", words(error));
        if matches!(error.kind(), ErrorKind::Sql { .. } | ErrorKind::Corrupt) {
            self.faults.push(text.clone());
        }
        self.errors.push(text);
    }

    fn merge(&mut self, other: Diary) {
        self.ledger.merge(other.ledger);
        self.sightings.extend(other.sightings);
        self.faults.extend(other.faults);
        self.errors.extend(other.errors);
        self.reads += other.reads;
        self.slowest_write = self.slowest_write.max(other.slowest_write);
    }
}

impl Workload {
    /// The ids of all who write.
    pub(super) fn writers() -> Vec<i64> {
        (PROBE..=WRITERS).collect()
    }

    pub(super) fn start(client: &Client, database: &str, tables: Tables) -> Self {
        let shared = Arc::new(Shared::default());
        let tables = Arc::new(tables);
        let session = || client.session().database(database);
        let mut tasks = JoinSet::new();
        for writer in 1..=WRITERS {
            let task = Writer {
                db: session(),
                tables: Arc::clone(&tables),
                shared: Arc::clone(&shared),
                id: writer,
                next_seq: 0,
            };
            tasks.spawn(task.run());
        }
        let levels = [ReadLevel::Session; SESSION_READERS]
            .into_iter()
            .chain([ReadLevel::Local; LOCAL_READERS]);
        for level in levels {
            let db = session().with_level(level);
            tasks.spawn(read(db, Arc::clone(&tables), Arc::clone(&shared), level));
        }
        Self {
            tasks,
            shared,
            probe: Diary::default(),
            tables,
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Writes until a write that began after this call is acknowledged; when it was.
    pub(super) async fn probe(
        &mut self,
        client: &Client,
        database: &str,
    ) -> Result<Instant, String> {
        let mut probe = Writer {
            db: client.session().database(database),
            tables: Arc::clone(&self.tables),
            shared: Arc::clone(&self.shared),
            id: PROBE,
            next_seq: i64::try_from(self.probe.ledger.len()).unwrap_or(i64::MAX),
        };
        let deadline = Instant::now() + PROBE_TIMEOUT;
        loop {
            let fate = probe.write(&mut self.probe).await;
            if fate == Fate::Acknowledged {
                return Ok(Instant::now());
            }
            if Instant::now() > deadline {
                let why = self.probe.errors.last().cloned().unwrap_or_default();
                return Err(format!(
                    "no write was acknowledged within {PROBE_TIMEOUT:?}: {why}"
                ));
            }
            sleep(PAUSE).await;
        }
    }

    /// Lets everyone finish the call they are at; what all of them remember.
    pub(super) async fn finish(mut self) -> Diary {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut diary = self.probe;
        let deadline = Instant::now() + FINISH_TIMEOUT;
        loop {
            match timeout(deadline - Instant::now(), self.tasks.join_next()).await {
                Ok(Some(Ok(one))) => diary.merge(one),
                Ok(Some(Err(failed))) => diary
                    .faults
                    .push(format!("a task of the demo failed: {failed}")),
                Ok(None) => return diary,
                Err(_) => {
                    let left = self.tasks.len();
                    let fault = format!("{left} calls did not end within {FINISH_TIMEOUT:?}");
                    diary.faults.push(fault);
                    return diary;
                }
            }
        }
    }
}

struct Writer {
    db: Database,
    tables: Arc<Tables>,
    shared: Arc<Shared>,
    id: i64,
    next_seq: i64,
}

impl Writer {
    async fn run(mut self) -> Diary {
        let mut diary = Diary::default();
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.write(&mut diary).await != Fate::Acknowledged {
                sleep(PAUSE).await;
            } else if self.next_seq % OWN_READ_EVERY == 0 {
                self.read_own(&mut diary).await;
            }
        }
        diary
    }

    async fn write(&mut self, diary: &mut Diary) -> Fate {
        let write = WriteId {
            writer: self.id,
            seq: self.next_seq,
        };
        self.next_seq += 1;
        let began = Instant::now();
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let result = self.db.batch(self.tables.write(write)).await;
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        diary.slowest_write = diary.slowest_write.max(began.elapsed());
        let fate = match result {
            Ok(_) => {
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                Fate::Acknowledged
            }
            Err(error) => {
                diary.failed("write", &error);
                Fate::of_error(&error)
            }
        };
        diary.ledger.record(write, fate);
        fate
    }

    /// What was acknowledged to this session, it reads, wherever it reads.
    async fn read_own(&self, diary: &mut Diary) {
        let counted = async {
            let rows = self
                .db
                .query(self.tables.counter_query(), [self.id])
                .await?;
            rows.first().map_or(Ok(-1), |row| row.get::<i64>(0))
        };
        match counted.await {
            Ok(count) => {
                diary.reads += 1;
                let [sure, unsure] =
                    [Fate::Acknowledged, Fate::Unknown].map(|fate| diary.ledger.count(fate) as i64);
                if !(sure..=sure + unsure).contains(&count) {
                    diary.faults.push(format!(
                        "writer {} read {count} writes of its own after {sure} were acknowledged and {unsure} not answered",
                        self.id
                    ));
                }
            }
            Err(error) => diary.failed("read", &error),
        }
    }
}

async fn read(db: Database, tables: Arc<Tables>, shared: Arc<Shared>, level: ReadLevel) -> Diary {
    let (mut diary, mut seen) = (Diary::default(), Sightings::default());
    let query = tables.tail_query();
    while !shared.stop.load(Ordering::Relaxed) {
        let rows = db.query(query.as_str(), [seen.last_id()]).await;
        let answer = rows.and_then(|rows| tail(rows.iter()));
        if let Err(error) = take(answer, level, &mut seen, &mut diary) {
            diary.failed("read", &error);
            sleep(PAUSE).await;
        }
        sleep(READ_EVERY).await;
    }
    diary.sightings.push(seen);
    diary
}

type Tail = (i64, Vec<(i64, WriteId)>);

fn take(
    answer: Result<Tail, Error>,
    level: ReadLevel,
    seen: &mut Sightings,
    diary: &mut Diary,
) -> Result<(), Error> {
    let (count, rows) = answer?;
    diary.reads += 1;
    // At local level the node that answers may be behind the one before.
    if level != ReadLevel::Local {
        diary.faults.extend(seen.confirm(count).err());
    }
    diary.faults.extend(seen.add(rows).err());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64) -> (i64, WriteId) {
        (id, WriteId { writer: 1, seq: id })
    }

    #[test]
    fn vanished_rows_are_a_fault_in_a_session_only() {
        for (level, faults) in [(ReadLevel::Session, 1), (ReadLevel::Local, 0)] {
            let (mut diary, mut seen) = (Diary::default(), Sightings::default());
            take(Ok((0, vec![row(1), row(2)])), level, &mut seen, &mut diary).unwrap();
            take(Ok((1, vec![])), level, &mut seen, &mut diary).unwrap();
            assert_eq!((diary.reads, diary.faults.len()), (2, faults), "{level:?}");
        }
    }

    #[test]
    fn diaries_add_up() {
        let mut diary = Diary::default();
        for writer in [1, 2] {
            let mut one = Diary {
                reads: 3,
                slowest_write: Duration::from_millis(10 * writer as u64),
                ..Diary::default()
            };
            one.ledger
                .record(WriteId { writer, seq: 0 }, Fate::Acknowledged);
            diary.merge(one);
        }
        assert_eq!((diary.reads, diary.ledger.len()), (6, 2));
        assert_eq!(diary.slowest_write, Duration::from_millis(20));
    }
}
