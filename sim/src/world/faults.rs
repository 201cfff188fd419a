//! How faults are begun and ended.

use std::time::Duration;

use anyhow::Result;

use super::World;
use super::network::NextFlap;
use crate::fault::{Fault, StoreFault, Who};
use crate::sometimes::Sometimes;

/// What is to be done later.
pub(super) enum Later {
    EndNetwork(u64, Option<NextFlap>),
    Flap(u64, NextFlap),
    /// The fault of that number at a node's log disk ends.
    EndLogDisk(u64, u64),
    EndFileDisk(u64, u64),
    EndStore(u64),
}

/// See [`Later`].
pub(super) struct Due {
    at: Duration,
    what: Later,
}

impl World {
    /// Begins a fault. One that makes no sense now (the node is down already) is left out.
    pub(super) fn begin(&mut self, fault: &Fault) -> Result<()> {
        self.trace.note(format_args!("FAULT {fault}"));
        let handing_over = self.operator.progress().handing_over;
        if self.carry_out(fault)? {
            let cuts = matches!(
                fault,
                Fault::Crash { .. } | Fault::CrashAll { .. } | Fault::Network(_)
            );
            if handing_over && cuts {
                self.watcher.reach(Sometimes::TransferCut);
            }
            // Of these counts what they did.
            let counts_later = matches!(
                fault,
                Fault::PowerCut { .. }
                    | Fault::LogDisk { .. }
                    | Fault::FileDisk { .. }
                    | Fault::Store { .. }
            );
            if !counts_later {
                self.count(fault.kind());
            }
        } else {
            self.trace.note(format_args!("left out"));
            self.stage.left_out = true;
        }
        Ok(())
    }

    /// False if it is left out.
    fn carry_out(&mut self, fault: &Fault) -> Result<bool> {
        match fault {
            Fault::Crash { who, power, down } => match self.resolve(*who) {
                Some(node) => self.crash(node, *power, *down),
                None => Ok(false),
            },
            Fault::CrashAll { power, down } => {
                let mut any = false;
                let nodes: Vec<u64> = self.nodes.keys().copied().collect();
                for (node, down) in nodes.into_iter().zip(down.iter().cycle()) {
                    any |= self.crash(node, *power, *down)?;
                }
                Ok(any)
            }
            Fault::PowerCut {
                who,
                accesses,
                down,
            } => Ok(self.resolve(*who).is_some_and(|node| {
                self.cut_for.insert(node, *down);
                self.nodes[&node].file_faults.cut_after(Some(*accesses));
                true
            })),
            Fault::Restart { who, down } => Ok(self
                .resolve(*who)
                .is_some_and(|node| self.restart(node, *down))),
            Fault::Network(fault) => Ok(self.begin_network(fault)),
            Fault::LogDisk { who, fault, lasts } => Ok(self.resolve(*who).is_some_and(|node| {
                self.nodes[&node].set_log_fault(Some(*fault));
                let number = self.next_number();
                self.log_disk_faults.insert(node, number);
                self.later(*lasts, Later::EndLogDisk(node, number));
                true
            })),
            Fault::FileDisk {
                who,
                database,
                fault,
                lasts,
            } => Ok(self.resolve(*who).is_some_and(|node| {
                let only = database.map(|place| self.plan.databases[place].0.clone());
                self.nodes[&node].file_faults.set(Some(*fault), only);
                let number = self.next_number();
                self.file_disk_faults.insert(node, number);
                self.later(*lasts, Later::EndFileDisk(node, number));
                true
            })),
            Fault::Store {
                fault: StoreFault::Loses(rate),
                ..
            } => Ok(self.lose_files(*rate)),
            Fault::Store { fault, lasts } => {
                self.store_faults.set(Some(*fault));
                self.store_fault = self.next_number();
                self.later(*lasts, Later::EndStore(self.store_fault));
                Ok(self.plan.archive.is_some())
            }
            Fault::Members(fault) => self.begin_member_fault(fault),
            Fault::Damage(fault) => self.begin_damage(fault),
            Fault::ClockJump { who, by_ms } => Ok(self.resolve(*who).is_some_and(|node| {
                self.nodes[&node].clock.jump(*by_ms);
                true
            })),
        }
    }

    /// The node that is meant, if there is one now.
    pub(super) fn resolve(&self, who: Who) -> Option<u64> {
        match who {
            Who::Node(id) => {
                (self.nodes.contains_key(&id) && !self.members.is_dead(id)).then_some(id)
            }
            Who::Primary => self.primary(),
            Who::Cast(part) => self
                .stage
                .cast(part)
                .and_then(|id| self.resolve(Who::Node(id))),
        }
    }

    /// The node that takes writes, of several the one of the newest term.
    pub(super) fn primary(&self) -> Option<u64> {
        self.nodes
            .values()
            .filter_map(|node| Some((node.view()?.primary_term()?, node.id)))
            .max()
            .map(|(_, id)| id)
    }

    pub(super) fn count(&mut self, kind: &str) {
        *self.outcome.faults.entry(kind.to_owned()).or_default() += 1;
    }

    fn next_number(&mut self) -> u64 {
        self.fault_number += 1;
        self.fault_number
    }

    pub(super) fn later(&mut self, after: Duration, what: Later) {
        self.at(self.sim.elapsed() + after, what);
    }

    pub(super) fn at(&mut self, at: Duration, what: Later) {
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
        self.due.clear();
        self.leave_stage();
        self.heal_network();
        self.store_faults.set(None);
        for node in self.nodes.values() {
            node.set_log_fault(None);
            node.file_faults.set(None, None);
            node.file_faults.cut_after(None);
        }
        self.start_all();
    }

    fn end(&mut self, what: Later) {
        match what {
            Later::EndNetwork(number, again) => self.end_network(number, again),
            Later::Flap(number, next) => self.flap(number, next),
            Later::EndLogDisk(node, number) => {
                // Unless another one has taken its place.
                if self.log_disk_faults.get(&node) == Some(&number) {
                    self.nodes[&node].set_log_fault(None);
                    self.trace.note(format_args!("log disk of n{node} is well"));
                }
            }
            Later::EndStore(number) => {
                if self.store_fault == number {
                    self.store_faults.set(None);
                    self.trace.note(format_args!("the store is well"));
                }
            }
            Later::EndFileDisk(node, number) => {
                if self.file_disk_faults.get(&node) == Some(&number) {
                    self.nodes[&node].file_faults.set(None, None);
                    self.trace
                        .note(format_args!("file disk of n{node} is well"));
                }
            }
        }
    }

    /// Adds what disks and store did.
    pub(super) fn count_disk_faults(&mut self) {
        let mut sums: Vec<(&str, u64)> = Vec::new();
        for node in self.nodes.values() {
            let log = node.log_faults.counts();
            let files = node.file_disk.fault_counts();
            sums.extend([
                ("log sync delayed", log.delayed),
                ("log writes failed", log.writes_failed),
                ("log syncs failed", log.syncs_failed),
                ("file opens failed", files.opens_failed),
                ("file reads failed", files.reads_failed),
                ("file writes failed", files.writes_failed),
                ("file writes without room", files.writes_full),
                ("file truncations failed", files.truncates_failed),
                ("file syncs failed", files.syncs_failed),
                ("unsynced changes dropped", files.changes_dropped),
                ("unsynced changes torn", files.changes_torn),
                ("bits flipped", files.bits_flipped),
            ]);
        }
        let store = self.store.counts();
        sums.extend([
            ("store request delayed", store.delayed),
            ("store unavailable", store.unavailable),
            (
                "store unavailable after the effect",
                store.unavailable_after_effect,
            ),
            ("store request timed out", store.timed_out),
        ]);
        for (kind, count) in sums.into_iter().filter(|(_, count)| *count > 0) {
            *self.outcome.faults.entry(kind.to_owned()).or_default() += count;
        }
    }
}
