//! Processes and machines that go down, and come back.

use std::time::Duration;

use anyhow::{Result, anyhow};
use halite_log::Crash;
use halite_sim_disk::Survival;
use rand::Rng as _;

use super::World;
use crate::node;

/// A process that ended by itself is started again this much later, as a supervisor does.
const STARTED_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn is_running(&mut self, node: u64) -> bool {
        self.sim.is_host_running(node::name(node))
    }

    /// The node is to run again after this time, and not before.
    fn start_after(&mut self, node: u64, down: Duration) {
        if !self.members.is_dead(node) {
            self.starts.insert(node, self.sim.elapsed() + down);
        }
    }

    /// Starts what is to be started by now.
    pub(super) fn start_what_is_due(&mut self) {
        let now = self.sim.elapsed();
        let due: Vec<u64> = self
            .starts
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            // One that was asked to stop may not have come to it yet.
            if !self.is_running(node) {
                self.starts.remove(&node);
                self.give_program(node);
                self.trace.note(format_args!("n{node} starts"));
                self.sim.bounce(node::name(node));
            }
        }
    }

    /// A node that is down is to run from now on.
    pub(super) fn start_now(&mut self, node: u64) {
        let now = self.sim.elapsed();
        if let Some(at) = self.starts.get_mut(&node) {
            *at = now.min(*at);
        }
    }

    /// Everything that is down is to run from now on.
    pub(super) fn start_all(&mut self) {
        let now = self.sim.elapsed();
        for at in self.starts.values_mut() {
            *at = now.min(*at);
        }
    }

    pub(super) fn restart(&mut self, node: u64, down: Duration) -> bool {
        let running = self.is_running(node);
        if running {
            self.nodes[&node].terminate();
            self.start_after(node, down);
        }
        running
    }

    /// False if the node does not run.
    pub(super) fn crash(&mut self, node: u64, power: bool, down: Duration) -> Result<bool> {
        if !self.is_running(node) {
            return Ok(false);
        }
        let machine = self.nodes[&node].clone();
        machine.file_faults.cut_after(None);
        machine.file_disk.cut_power();
        if let Some(view) = machine.view() {
            view.abandon();
        }
        self.sim.crash(node::name(node));
        machine.died();
        machine.threads.wait_for_all();
        if power {
            self.lose_unsynced(node)?;
        } else {
            // The kernel lives and has what was written.
            machine.log_disk.crash(Crash::KeepUnsynced);
            machine
                .file_disk
                .restart_process()
                .map_err(|error| anyhow!("n{node}: {error}"))?;
        }
        self.read_dead_files(&machine)?;
        self.start_after(node, down);
        Ok(true)
    }

    fn lose_unsynced(&mut self, node: u64) -> Result<()> {
        let machine = self.nodes[&node].clone();
        let rng = &mut self.rng;
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
            .map_err(|error| anyhow!("n{node}: {error}"))
    }

    /// Nodes whose power went off by itself since the last tick.
    pub(super) fn note_power_cuts(&mut self) -> Result<()> {
        let cut: Vec<u64> = self
            .nodes
            .values()
            .filter(|node| node.file_disk.is_cut())
            .map(|node| node.id)
            .collect();
        for node in cut {
            let down = self.cut_for.remove(&node).unwrap_or_default();
            if self.crash(node, true, down)? {
                self.trace.note(format_args!("n{node} has lost power"));
                self.count("power loss at an access");
            } else {
                // The process was not there any more.
                self.lose_unsynced(node)?;
            }
        }
        Ok(())
    }

    pub(super) fn note_exits(&mut self) {
        let exits: Vec<_> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.take_exit()?)))
            .collect();
        for (node, why) in exits {
            self.trace.note(format_args!("n{node} ended: {why}"));
            self.programs.note_exit(node, &why);
            if why != "stopped" && !self.starts.contains_key(&node) {
                self.start_after(node, STARTED_AGAIN_AFTER);
            }
        }
    }
}
