//! What clients do, one file per workload.
//!
//! A workload is a client of the real client library, on a host of its own in the simulated network. It records everything and goes on
//! until it is told to stop. Several of them share one database; none may disturb what another one has recorded.

pub mod bank;
pub mod databases;
pub mod large;
pub mod list;
pub mod lock;
pub mod register;
pub mod schema;
pub mod set;
pub mod wander;

use std::io;
use std::time::Duration;

use halite_checks::{Caller, Level, NodeId, Outcome, SessionId};
use halite_client::{Client, ClientBuilder, Database, Error, ReadLevel};
use http::Uri;
use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tower::service_fn;

use crate::plan::{Job, Patience};
use crate::recorder::Recorder;
use crate::{network, node};

/// Does a job until it is told to stop.
pub async fn run(job: Job, session: Session) {
    // `None`: it was told to stop.
    let _: Option<()> = match job {
        Job::InsertRows => set::write(session).await,
        Job::InsertLarge => large::write(session).await,
        Job::ReadRows(level) => set::read(session, level).await,
        Job::Wander => wander::run(session).await,
        Job::Transfer => bank::write(session).await,
        Job::ReadBalances(level) => bank::read(session, level).await,
        Job::AppendToLists => list::write(session).await,
        Job::ReadLists(level) => list::read(session, level).await,
        Job::IncrementRegisters => register::write(session).await,
        Job::ReadRegisters(level) => register::read(session, level).await,
        Job::KeepLocks => lock::run(session).await,
        Job::ChangeSchema => schema::run(session).await,
        Job::ChangeDatabases => databases::run(session).await,
    };
}

/// How long a client goes on trying to connect.
const CONNECT_AGAIN: Duration = Duration::from_millis(200);
/// Longest a transaction sits still between two statements, where it does.
const DAWDLE_MAX_MS: u64 = 30;

/// What every workload needs.
pub struct Session {
    /// Unique in the run.
    pub number: u64,
    /// The database it works on.
    pub database: String,
    /// Nodes it may begin with.
    pub nodes: Vec<u64>,
    /// Longest pause between two calls.
    pub pause: Duration,
    /// How long it waits for answers.
    pub patience: Patience,
    /// Its choices.
    pub rng: SmallRng,
    /// Where it records.
    pub recorder: Recorder,
    /// Turns true when it is to stop.
    pub stop: watch::Receiver<bool>,
    /// True while it is to begin nothing.
    pub quiet: watch::Receiver<bool>,
}

/// How a transaction is sent.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// As one statement, where one is enough.
    Single,
    /// All statements in one call.
    Batch,
    /// Statement by statement.
    Interactive,
}

/// How often a session takes which way.
pub struct Ways([u32; 3]);

impl Ways {
    /// Weights of a session; some ways may have none.
    pub fn draw(rng: &mut SmallRng) -> Self {
        let mut weights = [0, 0, 0].map(|_: u32| rng.random_range(0..4));
        weights[rng.random_range(0..3)] += 1;
        Self(weights)
    }

    /// The way of the next transaction.
    pub fn pick(&self, rng: &mut SmallRng) -> Way {
        let [single, batch, interactive] = self.0;
        let draw = rng.random_range(0..single + batch + interactive);
        if draw < single {
            Way::Single
        } else if draw < single + batch {
            Way::Batch
        } else {
            Way::Interactive
        }
    }
}

impl Session {
    /// This session at a level.
    pub fn caller(&self, level: Level) -> Caller {
        Caller {
            session: SessionId(self.number),
            node: None,
            level,
        }
    }

    /// This session as it writes.
    pub fn writer(&self) -> Caller {
        self.caller(Level::Linearizable)
    }

    /// This session at a node.
    pub fn caller_at(&self, node: u64, level: Level) -> Caller {
        Caller {
            node: Some(NodeId(node)),
            ..self.caller(level)
        }
    }

    /// The number of the `count`th thing of this session: unique in the run, from 1.
    pub fn unique(&self, count: u64) -> u64 {
        self.number * 1_000_000 + count
    }

    /// Connects; `None` if it is told to stop before anybody answers.
    pub async fn connect(&mut self) -> Option<Client> {
        loop {
            let connector = service_fn(network::connect);
            match self
                .builder(&self.nodes.clone())
                .connector(connector)
                .connect()
                .await
            {
                Ok(client) => return Some(client),
                Err(_) => self.sleep(CONNECT_AGAIN).await?,
            }
        }
    }

    /// Connects to one node only: whatever the topology says, all calls go there.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn connect_to(&mut self, node: u64) -> Result<Client, Error> {
        let host = node::name(node);
        let connector = service_fn(move |uri: Uri| {
            let allowed = uri.host() == Some(&host);
            async move {
                if !allowed {
                    return Err(io::Error::other("this client stays at one node"));
                }
                network::connect(uri).await
            }
        });
        self.builder(&[node]).connector(connector).connect().await
    }

    fn builder(&mut self, nodes: &[u64]) -> ClientBuilder {
        Client::builder(nodes.iter().map(|id| node::addr(*id)))
            .rng_seed(self.rng.random())
            .call_timeout(self.patience.call_timeout)
            .retry_deadline(self.patience.retry_deadline)
    }

    /// Executes `statements` in one transaction until they are acknowledged: they may be executed several times.
    pub async fn prepare(&mut self, database: &Database, statements: &[&str]) -> Option<()> {
        while database.batch(statements.iter().copied()).await.is_err() {
            self.pause().await?;
        }
        Some(())
    }

    /// Pauses between two calls; `None` when it is to stop.
    pub async fn pause(&mut self) -> Option<()> {
        self.pause_within(self.pause).await
    }

    /// Pauses up to `longest`; `None` when it is to stop.
    pub async fn pause_within(&mut self, longest: Duration) -> Option<()> {
        let pause = self.rng.random_range(Duration::ZERO..=longest);
        self.sleep(pause).await
    }

    /// Sits still in the midst of a transaction, sometimes: it holds the writer meanwhile, and its node may die.
    pub async fn dawdle(&mut self) {
        if self.rng.random_ratio(1, 6) {
            let pause = self.rng.random_range(0..DAWDLE_MAX_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Notes in the trace how something ended that no history holds.
    pub fn note<T>(&self, what: &str, ended: &Result<T, Error>) {
        let number = self.number;
        match ended {
            Ok(_) => self
                .recorder
                .note(format_args!("session {number} {what}: ok")),
            Err(error) => self
                .recorder
                .note(format_args!("session {number} {what}: {error}")),
        }
    }

    /// Waits; `None` when it is to stop.
    pub async fn sleep(&mut self, pause: Duration) -> Option<()> {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            () = tokio::time::sleep(pause) => Some(()),
        }?;
        tokio::select! {
            biased;
            _ = self.quiet.wait_for(|quiet| !quiet) => Some(()),
            _ = self.stop.wait_for(|stop| *stop) => None,
        }
    }
}

/// A level as the client library names it.
pub fn client_level(level: Level) -> ReadLevel {
    match level {
        Level::Local => ReadLevel::Local,
        Level::Bounded { max_lag_us } => ReadLevel::Bounded(Duration::from_micros(max_lag_us)),
        Level::Session => ReadLevel::Session,
        Level::Linearizable => ReadLevel::Linearizable,
    }
}

/// What an error says of a transaction that has not been asked to commit: nothing of it is kept, whatever became of the call itself.
pub fn not_committed<T>(error: &Error) -> Outcome<T> {
    Outcome::Failed(error.to_string())
}

/// What became of a read.
pub fn read_outcome<T>(read: Result<T, Error>) -> Outcome<T> {
    match read {
        Ok(answer) => Outcome::Ok(answer),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
