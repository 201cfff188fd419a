//! Which clients there are, and what each does.

use std::time::Duration;

use halite_checks::Level;
use rand::Rng as _;
use rand::rngs::SmallRng;

/// One client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The database it works on.
    pub database: String,
    /// What it does.
    pub job: Job,
    /// Longest pause between two calls.
    pub pause: Duration,
}

/// What a client does; see [`crate::workload`].
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// Inserts rows.
    InsertRows,
    /// Reads rows at a level.
    ReadRows(Level),
}

/// Draws the load on `databases`.
pub(super) fn draw(rng: &mut SmallRng, databases: &[(String, u32)]) -> Vec<ClientPlan> {
    let mut clients = Vec::new();
    let pause = Duration::from_millis(rng.random_range(1..120));
    for (database, _) in databases {
        let mut add = |job| {
            clients.push(ClientPlan {
                database: database.clone(),
                job,
                pause,
            });
        };
        for _ in 0..rng.random_range(1..=4) {
            add(Job::InsertRows);
        }
        let levels = [Level::Linearizable, Level::Session, Level::Local];
        for level in &levels[..rng.random_range(1..=3)] {
            add(Job::ReadRows(*level));
        }
    }
    clients
}
