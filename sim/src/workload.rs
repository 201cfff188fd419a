//! What clients do, one file per workload.
//!
//! A workload is a client of the real client library, on a host of its own in the simulated network. It records everything and goes on
//! until it is told to stop.

pub mod set;

use std::time::Duration;

use halite_client::Client;
use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tower::service_fn;

use crate::network;
use crate::plan::Job;
use crate::recorder::Recorder;

/// Does a job until it is told to stop.
pub async fn run(job: Job, session: Session) {
    // `None`: it was told to stop.
    let _: Option<()> = match job {
        Job::InsertRows => set::write(session).await,
        Job::ReadRows(level) => set::read(session, level).await,
    };
}

/// How long a client goes on trying to connect.
const CONNECT_AGAIN: Duration = Duration::from_millis(200);

/// What every workload needs.
pub struct Session {
    /// Unique in the run.
    pub number: u64,
    /// The database it works on.
    pub database: String,
    /// Nodes it may begin with.
    pub addrs: Vec<String>,
    /// Longest pause between two calls.
    pub pause: Duration,
    /// Its choices.
    pub rng: SmallRng,
    /// Where it records.
    pub recorder: Recorder,
    /// Turns true when it is to stop.
    pub stop: watch::Receiver<bool>,
}

impl Session {
    /// Connects; `None` if it is told to stop before anybody answers.
    pub async fn connect(&mut self) -> Option<Client> {
        loop {
            let seed = self.rng.random();
            let connected = Client::builder(self.addrs.clone())
                .connector(service_fn(network::connect))
                .rng_seed(seed)
                .call_timeout(Duration::from_secs(2))
                .retry_deadline(Duration::from_secs(4))
                .connect();
            match connected.await {
                Ok(client) => return Some(client),
                Err(_) => self.sleep(CONNECT_AGAIN).await?,
            }
        }
    }

    /// Pauses between two calls; `None` when it is to stop.
    pub async fn pause(&mut self) -> Option<()> {
        let most = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        let pause = self.rng.random_range(0..=most);
        self.sleep(Duration::from_micros(pause)).await
    }

    async fn sleep(&mut self, pause: Duration) -> Option<()> {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            () = tokio::time::sleep(pause) => Some(()),
        }
    }
}
