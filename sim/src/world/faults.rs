//! How faults are carried out and ended.

use std::time::Duration;

use anyhow::{Result, anyhow};
use halite_log::Crash;
use halite_pager::Survival;
use rand::Rng as _;

use super::World;
use crate::fault::Fault;
use crate::node;

/// What is to be done later.
pub(super) struct Due {
    at: Duration,
    what: End,
}

enum End {
    Start(u64),
    Heal(Vec<u64>, Vec<u64>),
}

impl World {
    /// Begins a fault. One that makes no sense now (the node is down already) is left out.
    pub(super) fn begin(&mut self, fault: &Fault) -> Result<()> {
        let begun = match fault {
            Fault::Crash { node, power, down } => self.crash(*node, *power, *down)?,
            Fault::Restart { node, down } => self.restart(*node, *down),
            Fault::Partition { side, lasts } => {
                let (one, other): (Vec<u64>, Vec<u64>) =
                    self.nodes.keys().partition(|id| side.contains(id));
                self.partition(&one, &other);
                self.later(*lasts, End::Heal(one, other));
                true
            }
        };
        if begun {
            self.trace.note(format_args!("FAULT {fault}"));
            let kind = fault.kind().to_owned();
            *self.outcome.faults.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    fn later(&mut self, after: Duration, what: End) {
        let at = self.sim.elapsed() + after;
        self.due.push(Due { at, what });
    }

    pub(super) fn end_what_is_due(&mut self) {
        let now = self.sim.elapsed();
        let (due, rest) = std::mem::take(&mut self.due)
            .into_iter()
            .partition(|due: &Due| due.at <= now);
        self.due = rest;
        for Due { what, .. } in due {
            self.end(what);
        }
    }

    /// Ends everything that would end later.
    pub(super) fn heal_all(&mut self) {
        for Due { what, .. } in std::mem::take(&mut self.due) {
            self.end(what);
        }
    }

    fn end(&mut self, what: End) {
        match what {
            End::Start(node) => self.start(node),
            End::Heal(one, other) => {
                self.trace
                    .note(format_args!("healed {one:?} from {other:?}"));
                for (a, b) in pairs(&one, &other) {
                    self.sim.repair(a, b);
                }
            }
        }
    }

    fn partition(&mut self, one: &[u64], other: &[u64]) {
        for (a, b) in pairs(one, other) {
            self.sim.partition(a, b);
        }
    }

    fn is_running(&mut self, node: u64) -> bool {
        self.sim.is_host_running(node::name(node))
    }

    fn start(&mut self, node: u64) {
        if self.is_running(node) {
            // It was asked to stop and has not come to it yet.
            self.later(Duration::from_millis(100), End::Start(node));
        } else {
            self.trace.note(format_args!("n{node} starts"));
            self.sim.bounce(node::name(node));
        }
    }

    fn restart(&mut self, node: u64, down: Duration) -> bool {
        let running = self.is_running(node);
        if running {
            self.nodes[&node].terminate();
            self.later(down, End::Start(node));
        }
        running
    }

    fn crash(&mut self, node: u64, power: bool, down: Duration) -> Result<bool> {
        if !self.is_running(node) {
            return Ok(false);
        }
        let machine = self.nodes[&node].clone();
        machine.file_disk.cut_power();
        if let Some(view) = machine.view() {
            view.abandon();
        }
        self.sim.crash(node::name(node));
        machine.died();
        machine.threads.wait_for_all();
        let rng = &mut self.rng;
        if power {
            let unsynced = machine.log_disk.unsynced_batches();
            machine.log_disk.crash(match rng.random_range(0..3) {
                0 => Crash::DropUnsynced,
                1 => Crash::KeepUnsynced,
                _ => Crash::KeepFirst(rng.random_range(0..=unsynced)),
            });
            let habit = rng.random_range(0..4);
            machine
                .file_disk
                .restore_power(|_| match habit {
                    0 => Survival::Drop,
                    1 => Survival::Keep,
                    _ => match rng.random_range(0..8) {
                        0 => Survival::Tear(rng.random_range(0..512)),
                        n if n % 2 == 0 => Survival::Drop,
                        _ => Survival::Keep,
                    },
                })
                .map_err(|error| anyhow!("n{node}: {error}"))?;
        } else {
            // The kernel lives and has what was written.
            machine.log_disk.crash(Crash::KeepUnsynced);
            machine
                .file_disk
                .restart_process()
                .map_err(|error| anyhow!("n{node}: {error}"))?;
        }
        self.later(down, End::Start(node));
        Ok(true)
    }

    /// A process that ended by itself is started again a second later, as a supervisor does.
    pub(super) fn note_exits(&mut self) {
        let exits: Vec<_> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.take_exit()?)))
            .collect();
        for (node, why) in exits {
            self.trace.note(format_args!("n{node} ended: {why}"));
            if why != "stopped" {
                self.later(Duration::from_secs(1), End::Start(node));
            }
        }
    }
}

fn pairs(one: &[u64], other: &[u64]) -> Vec<(String, String)> {
    one.iter()
        .flat_map(|a| other.iter().map(move |b| (node::name(*a), node::name(*b))))
        .collect()
}
