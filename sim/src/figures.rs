//! [`Figures`]: what one run gave, or many together. Travels from the process that ran a seed to the one that searches, as one line of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sometimes::{Reached, Sometimes};
use crate::world::{Outcome, Violation};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Seeds run.
    pub seeds: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Faults injected, by kind.
    pub faults: BTreeMap<String, u64>,
    /// In how many runs each rare state was reached, by its name.
    pub sometimes: Reached,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

impl Figures {
    /// Of one run.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            seeds: 1,
            simulated_ms: u64::try_from(outcome.simulated.as_millis()).unwrap_or(u64::MAX),
            acknowledged: outcome.acknowledged,
            faults: outcome.faults,
            sometimes: outcome
                .sometimes
                .into_iter()
                .map(|state| (state.name().to_owned(), 1))
                .collect(),
            violations: outcome.violations,
        }
    }

    /// Adds another run.
    pub fn add(&mut self, other: Figures) {
        self.seeds += other.seeds;
        self.simulated_ms += other.simulated_ms;
        self.acknowledged += other.acknowledged;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (state, runs) in other.sometimes {
            *self.sometimes.entry(state).or_default() += runs;
        }
        self.violations.extend(other.violations);
    }

    /// Simulated time.
    pub fn simulated(&self) -> Duration {
        Duration::from_millis(self.simulated_ms)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated().as_secs_f64() / 3600.0;
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let sometimes: Vec<String> = Sometimes::ALL
            .iter()
            .map(|state| {
                let runs = self.sometimes.get(state.name()).copied().unwrap_or(0);
                format!("{} {runs}", state.name())
            })
            .collect();
        write!(
            f,
            "seeds={} simulated_hours={hours:.2} acknowledged_writes={} faults={} ({}) sometimes=({}) violations={}",
            self.seeds,
            self.acknowledged,
            self.faults.values().sum::<u64>(),
            faults.join(", "),
            sometimes.join(", "),
            self.violations.len()
        )
    }
}
