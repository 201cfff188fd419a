//! Where a call goes: reads to this node's reader pool once it is fresh enough, writes to the lane or to the primary.
//!
//! Owns the decision and the waiting for freshness. Never blocks: whatever takes time is a task, a lane or a reader thread. Answers
//! go to the session's sink.

mod classify;
mod forward;
mod session;

use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1::{self, ReadLevel};
use tokio::time::Instant;

use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError};
use crate::database::{CallKey, CallReply, Database, ReadJob, ReaderPool, ReplyTo, WriteJob};
use classify::looks_like_read;
pub(crate) use session::{Session, client_id};

/// Time a call gets when it names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// No call may hold resources for longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Routes the calls of all sessions of this node.
pub(crate) struct Router {
    cluster: Arc<Cluster>,
    readers: Arc<ReaderPool>,
}

/// Asked after it is known what the node has applied: the node counts entries that a database in trouble could not take, but only once the
/// database has said that it is in trouble.
fn follows(read: &PendingRead) -> Result<(), ClusterError> {
    let database = &read.job.database;
    if read.level == ReadLevel::Local || database.is_fine() {
        return Ok(());
    }
    let health = database.health().borrow().clone();
    let state = match health.needs_repair() {
        true => "needs repair",
        false => "is behind",
    };
    Err(ClusterError::unavailable(format!(
        "database {:?} {state} on this node: {}",
        database.spec().name,
        health.trouble()
    )))
}

/// A read that may run as soon as the node is fresh enough.
struct PendingRead {
    job: ReadJob,
    level: ReadLevel,
    max_lag: Duration,
    session_index: u64,
    deadline: Instant,
    call: v1::Call,
}

impl Router {
    pub(crate) fn new(cluster: Arc<Cluster>, readers: Arc<ReaderPool>) -> Arc<Self> {
        Arc::new(Self { cluster, readers })
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Routes the calls of one message. Answers arrive at the session's sink, in any order.
    pub(crate) fn route(self: &Arc<Self>, session: &Arc<Session>, calls: Vec<v1::Call>) {
        if let Err(error) = self.cluster.check_member() {
            return session.fail(calls.iter().map(|c| c.id), &error.to_wire());
        }
        let now = Instant::now();
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        for call in calls {
            if call.statements.is_empty() {
                session.fail(
                    [call.id],
                    &ClusterError::invalid("the call holds no statement".into()).to_wire(),
                );
            } else if call.read_only || call.statements.iter().all(|s| looks_like_read(&s.sql)) {
                reads.push(call);
            } else {
                writes.push(call);
            }
        }
        if !reads.is_empty() {
            self.route_reads(session, reads, now);
        }
        if !writes.is_empty() {
            self.route_writes(session, writes);
        }
    }

    /// Writes go to the lane here, or to the primary.
    pub(crate) fn route_writes(self: &Arc<Self>, session: &Arc<Session>, calls: Vec<v1::Call>) {
        if let Role::Primary { .. } = self.cluster.role() {
            return self.submit(session, calls);
        }
        match self.cluster.other_primary() {
            Some(primary) if !session.is_forwarded() => {
                session.forward(&self.cluster, primary, calls)
            }
            _ => session.fail(
                calls.iter().map(|c| c.id),
                &self.cluster.not_primary().to_wire(),
            ),
        }
    }

    fn submit(&self, session: &Arc<Session>, calls: Vec<v1::Call>) {
        let now = Instant::now();
        let mut current: Option<(Arc<Database>, Vec<WriteJob>)> = None;
        for call in calls {
            let database = match session.database(&self.cluster, &call.database) {
                Ok(database) => database,
                Err(error) => {
                    session.fail([call.id], &error.to_wire());
                    continue;
                }
            };
            if let Some((open, jobs)) = &mut current
                && open.spec().id != database.spec().id
            {
                open.submit(std::mem::take(jobs));
                *open = database.clone();
            }
            let job = WriteJob {
                key: session.client_id().map(|client_id| CallKey {
                    client_id,
                    call_id: call.id,
                }),
                answered_below: session.answered_below(),
                deadline: (now + timeout(&call)).into_std(),
                statements: call.statements,
                retry: call.retry,
                begun: false,
                reply: ReplyTo {
                    sink: session.sink(),
                    token: call.id,
                },
            };
            current
                .get_or_insert_with(|| (database, Vec::new()))
                .1
                .push(job);
        }
        if let Some((database, jobs)) = current {
            database.submit(jobs);
        }
    }

    fn route_reads(self: &Arc<Self>, session: &Arc<Session>, calls: Vec<v1::Call>, now: Instant) {
        let mut ready = Vec::new();
        let mut waiting = Vec::new();
        for call in calls {
            let database = match session.database(&self.cluster, &call.database) {
                Ok(database) => database,
                Err(error) => {
                    session.fail([call.id], &error.to_wire());
                    continue;
                }
            };
            let read = self.pending_read(session, database, call, now);
            let fresh = self.is_fresh(&read);
            // A database that is behind now does not wait for anything: another node answers sooner.
            match follows(&read) {
                Err(error) => session.fail([read.call.id], &error.to_wire()),
                Ok(()) if fresh => {
                    session.remember_for_fallback(read.call);
                    ready.push(read.job);
                }
                Ok(()) => match self.cluster.says_failed() {
                    // Nothing comes any more that it could wait for.
                    Some(why) => {
                        session.fail([read.call.id], &ClusterError::unavailable(why).to_wire());
                    }
                    None => waiting.push(read),
                },
            }
        }
        if !ready.is_empty() {
            self.readers.run(ready);
        }
        if !waiting.is_empty() {
            let (router, session) = (self.clone(), session.clone());
            tokio::spawn(async move { router.read_when_fresh(&session, waiting).await });
        }
    }

    fn pending_read(
        &self,
        session: &Arc<Session>,
        database: Arc<Database>,
        mut call: v1::Call,
        now: Instant,
    ) -> PendingRead {
        let deadline = now + timeout(&call);
        // Kept whole only where it may turn out to be a write.
        let statements = if call.read_only {
            std::mem::take(&mut call.statements)
        } else {
            call.statements.clone()
        };
        let level = match call.level() {
            ReadLevel::Unspecified => ReadLevel::Session,
            level => level,
        };
        PendingRead {
            job: ReadJob {
                database,
                statements,
                deadline: deadline.into_std(),
                reply: ReplyTo {
                    sink: session.sink(),
                    token: call.id,
                },
            },
            level,
            max_lag: Duration::from_millis(call.max_lag_ms.into()),
            session_index: call.session_index,
            deadline,
            call,
        }
    }

    fn is_fresh(&self, read: &PendingRead) -> bool {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::SessionTokenIgnored)
            && read.level == ReadLevel::Session
        {
            return true;
        }
        match read.level {
            ReadLevel::Local => true,
            ReadLevel::Bounded => self.cluster.read_index().confirmed().is_some_and(|round| {
                round.asked_at.elapsed() <= read.max_lag
                    && self.cluster.applied_index() >= round.index
            }),
            ReadLevel::Linearizable => false,
            ReadLevel::Session | ReadLevel::Unspecified => {
                self.cluster.applied_index() >= read.session_index
            }
        }
    }

    async fn read_when_fresh(self: Arc<Self>, session: &Arc<Session>, reads: Vec<PendingRead>) {
        let asks =
            |r: &PendingRead| matches!(r.level, ReadLevel::Linearizable | ReadLevel::Bounded);
        // One round serves all of the message, and bounded reads after it.
        let read_index = if reads.iter().any(asks) {
            self.cluster.read_index().get().await
        } else {
            Ok(0)
        };
        let mut ready = Vec::new();
        for read in reads {
            let fresh = match (read.level, &read_index) {
                (ReadLevel::Linearizable | ReadLevel::Bounded, Ok(index)) => {
                    self.cluster.wait_applied(*index, read.deadline).await
                }
                (ReadLevel::Linearizable, Err(error)) => Err(error.clone()),
                (ReadLevel::Bounded, Err(_)) => Err(self.too_stale(&read)),
                _ => {
                    self.cluster
                        .wait_applied(read.session_index, read.deadline)
                        .await
                }
            };
            match fresh.and_then(|()| follows(&read)) {
                Ok(()) => {
                    session.remember_for_fallback(read.call);
                    ready.push(read.job);
                }
                Err(error) => session.fail([read.call.id], &error.to_wire()),
            }
        }
        if !ready.is_empty() {
            self.readers.run(ready);
        }
    }

    fn too_stale(&self, read: &PendingRead) -> ClusterError {
        let lag = self
            .cluster
            .lag()
            .map_or("unknown".to_owned(), |lag| lag.as_millis().to_string());
        let mut error = ClusterError::unavailable(format!(
            "no majority answers that could tell how old what this node holds is: max_lag_ms={} lag_ms={lag}, as far as it knows itself",
            read.max_lag.as_millis()
        ));
        error.primary = self.cluster.other_primary();
        error
    }

    /// Runs one call to its end, with all pieces of its answer joined: for unary calls.
    pub(crate) async fn call(
        self: &Arc<Self>,
        key: Option<v1::IdempotencyKey>,
        forwarded: bool,
        mut call: v1::Call,
    ) -> Result<crate::database::CallResults, v1::Error> {
        let (reply, answer) = ReplyTo::oneshot();
        let client_id = match key {
            Some(key) => {
                call.id = key.call_id;
                Some(client_id(&key.client_id).map_err(|e| e.to_wire())?)
            }
            None => None,
        };
        let session = Session::unary(self.clone(), client_id, reply.sink, forwarded);
        self.route(&session, vec![call]);
        answer.await.unwrap_or_else(|_| {
            Err(ClusterError::unavailable("the node is stopping".into()).to_wire())
        })
    }
}

fn timeout(call: &v1::Call) -> Duration {
    match call.timeout_ms {
        0 => TIMEOUT_DEFAULT,
        ms => Duration::from_millis(ms.into()).min(TIMEOUT_MAX),
    }
}

fn failed(token: u64, error: &v1::Error) -> CallReply {
    CallReply {
        token,
        outcome: Err(error.clone()),
        more: false,
    }
}
