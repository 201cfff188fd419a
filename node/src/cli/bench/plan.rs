//! What is measured, with how many clients and for how long.

use std::time::Duration;

use clap::ValueEnum;

use super::files;
use super::reads::{Level, Place};

/// A part of the benchmark that can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// The disk's fdatasync and plain SQLite
    Baseline,
    /// Durable single-row inserts
    Inserts,
    /// Point reads of each level
    Reads,
    /// From SIGKILL of the primary to the next acknowledged write
    Takeover,
    /// How long after its acknowledgement a row is seen on a follower
    Lag,
    /// Import, export and restore of a file, beside a plain copy
    Files,
}

const INSERT_CLIENTS: [u32; 5] = [1, 4, 16, 64, 256];
const READ_CLIENTS: [u32; 2] = [1, 64];
/// Each step runs this part of its duration before it is measured ...
const WARM_UP_SHARE: u32 = 5;
/// ... but no longer than this.
const WARM_UP_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    parts: Vec<Part>,
    pub(super) insert_clients: Vec<u32>,
    pub(super) read_clients: Vec<u32>,
    pub(super) nodes: u64,
    pub(super) takeover_rounds: u32,
    pub(super) window: Window,
}

/// When calls count: those answered between the end of the warm-up and the end of the step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

impl Plan {
    /// Empty `clients`: the usual numbers. Empty `only`: everything that so many nodes can do.
    ///
    /// Errors if a part was asked for that the number of nodes does not allow.
    pub(super) fn new(
        measured: Duration,
        clients: Vec<u32>,
        only: &[Part],
        nodes: u64,
        takeover_rounds: u32,
    ) -> Result<Self, String> {
        let fault = |part: Part| match part {
            Part::Takeover if nodes < 3 => Some("a takeover needs at least three nodes"),
            Part::Lag if nodes < 2 => Some("lag needs a follower, so at least two nodes"),
            _ => None,
        };
        let parts: Vec<Part> = if only.is_empty() {
            let all = Part::value_variants().iter().copied();
            all.filter(|part| fault(*part).is_none()).collect()
        } else {
            only.to_vec()
        };
        if let Some(fault) = parts.iter().find_map(|part| fault(*part)) {
            return Err(format!("{fault}: nodes={nodes}"));
        }
        let clients_or = |usual: &[u32]| match clients.is_empty() {
            true => usual.to_vec(),
            false => clients.clone(),
        };
        Ok(Self {
            parts,
            insert_clients: clients_or(&INSERT_CLIENTS),
            read_clients: clients_or(&READ_CLIENTS),
            nodes,
            takeover_rounds,
            window: Window {
                warm_up: (measured / WARM_UP_SHARE).min(WARM_UP_MAX),
                measured,
            },
        })
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Whether anything is asked of the cluster that is loaded with small calls.
    pub(super) fn needs_cluster(&self) -> bool {
        // Files have one of their own.
        let without = [Part::Baseline, Part::Files];
        self.parts.iter().any(|part| !without.contains(part))
    }

    /// Where reads are measured.
    pub(super) fn read_places(&self) -> &'static [Place] {
        if self.nodes > 1 {
            &[Place::Follower, Place::Spread]
        } else {
            &[Place::Spread]
        }
    }

    /// Steps that progress is counted in, the start of the cluster among them.
    pub(super) fn step_count(&self) -> usize {
        let of_part = |part: Part| match part {
            Part::Baseline => 2,
            Part::Inserts => self.insert_clients.len(),
            Part::Reads => self.read_places().len() * Level::ALL.len() * self.read_clients.len(),
            Part::Takeover => self.takeover_rounds as usize,
            Part::Lag => 1,
            Part::Files => files::STEPS,
        };
        let parts = Part::value_variants()
            .iter()
            .filter(|part| self.has(**part));
        parts.map(|part| of_part(*part)).sum::<usize>() + usize::from(self.needs_cluster())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(only: &[Part], nodes: u64) -> Result<Plan, String> {
        Plan::new(Duration::from_secs(2), vec![1, 8], only, nodes, 7)
    }

    #[test]
    fn everything_is_measured_unless_told_otherwise() {
        let plan = plan(&[], 3).unwrap();
        assert!(Part::value_variants().iter().all(|part| plan.has(*part)));
        assert_eq!(plan.step_count(), 2 + 1 + 2 + 2 * 4 * 2 + 7 + 1 + 7);
    }

    #[test]
    fn a_part_asked_for_twice_is_one_part() {
        let plan = plan(&[Part::Inserts, Part::Inserts], 3).unwrap();
        assert!(!plan.has(Part::Reads));
        assert_eq!(plan.step_count(), 1 + 2);
    }

    #[test]
    fn the_disk_alone_needs_no_cluster() {
        let plan = plan(&[Part::Baseline], 3).unwrap();
        assert!(!plan.needs_cluster());
        assert_eq!(plan.step_count(), 2);
    }

    #[test]
    fn few_nodes_leave_out_what_they_cannot_do() {
        let alone = plan(&[], 1).unwrap();
        assert!(alone.has(Part::Inserts) && alone.has(Part::Reads));
        assert!(!alone.has(Part::Takeover) && !alone.has(Part::Lag));
        assert_eq!(alone.read_places(), [Place::Spread]);
        assert!(plan(&[], 2).unwrap().has(Part::Lag));
        for (part, nodes) in [(Part::Takeover, 2), (Part::Lag, 1)] {
            let fault = plan(&[part], nodes).unwrap_err();
            assert!(fault.ends_with(&format!("nodes={nodes}")), "{fault}");
        }
    }

    #[test]
    fn the_warm_up_is_short() {
        let window = |secs| {
            let plan = Plan::new(Duration::from_secs(secs), Vec::new(), &[], 3, 7);
            plan.unwrap().window
        };
        assert_eq!(window(1).warm_up, Duration::from_millis(200));
        assert_eq!(window(60).warm_up, Duration::from_secs(1));
        assert_eq!(window(60).measured, Duration::from_secs(60));
    }
}
