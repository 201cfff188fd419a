//! Bits that change by themselves, on a minority of nodes.

use std::time::Duration;

use anyhow::Result;
use halite_pager::FileKind;
use rand::Rng as _;

use super::World;
use crate::fault::DamageFault;
use crate::host::WallClock;
use crate::node;
use crate::sometimes::Sometimes;

impl World {
    /// False if it is left out.
    pub(super) fn begin_damage(&mut self, fault: &DamageFault) -> Result<bool> {
        match fault {
            DamageFault::Log { who, down } => match self.expendable(*who) {
                Some(node) => self.damage_log(node, *down),
                None => Ok(false),
            },
            DamageFault::Pages { who, bits, down } => match self.expendable(*who) {
                Some(node) => self.damage_pages(node, *bits, *down),
                None => Ok(false),
            },
            DamageFault::Keep { who, down } => match self.resolve(*who) {
                Some(node) => self.keep_disks(node, *down),
                None => Ok(false),
            },
            DamageFault::PutBack { who, down } => match self.expendable(*who) {
                Some(node) if self.nodes[&node].has_kept() => self.put_back(node, true, *down),
                _ => Ok(false),
            },
            DamageFault::Copy { who, down } => match self.resolve(*who) {
                Some(node) => self.run_copy(node, *down),
                None => Ok(false),
            },
            DamageFault::NewDisks { who, down } => match self.expendable(*who) {
                Some(node) => self.put_back(node, false, *down),
                None => Ok(false),
            },
        }
    }

    fn keep_disks(&mut self, node: u64, down: Duration) -> Result<bool> {
        let crashed = self.crash(node, true, down)?;
        if crashed {
            self.nodes[&node].keep_disks()?;
        }
        Ok(crashed)
    }

    /// It makes its calls as the node, from another machine; who calls the node reaches the original.
    fn run_copy(&mut self, node: u64, down: Duration) -> Result<bool> {
        let host = node::name_of_copy(node);
        if self.copies.contains_key(&node) || !self.keep_disks(node, down)? {
            return Ok(false);
        }
        let clock = WallClock::new(self.elapsed_us.clone());
        let copy = self.nodes[&node].copy(self.rng.random(), clock)?;
        self.copies.insert(node, copy.clone());
        self.start_machine(host, copy);
        self.watcher.reach(Sometimes::CopyStarted);
        Ok(true)
    }

    /// To the copy that was `kept`, or to nothing.
    fn put_back(&mut self, node: u64, kept: bool, down: Duration) -> Result<bool> {
        let crashed = self.crash(node, true, down)?;
        if crashed {
            self.nodes[&node].put_back(kept)?;
            // Nobody may count on it any more.
            self.members.set_damaged(node);
            self.watcher.reach(if kept {
                Sometimes::DiskPutBack
            } else {
                Sometimes::IdUsedAgain
            });
        }
        Ok(crashed)
    }

    /// Flips a bit of an entry; if the node goes `down` before, it meets the damage at its next start, else when it reads the entry.
    fn damage_log(&mut self, node: u64, down: Option<Duration>) -> Result<bool> {
        let machine = self.nodes[&node].clone();
        let Some(ends) = machine.view().and_then(|view| view.log()) else {
            return Ok(false);
        };
        if ends.first >= ends.end {
            return Ok(false);
        }
        let index = self.rng.random_range(ends.first..ends.end);
        if let Some(down) = down {
            self.crash(node, false, down)?;
        }
        let damaged = machine.damage_log(index);
        if damaged {
            self.members.set_damaged(node);
            self.trace
                .note(format_args!("entry {index} of n{node} is damaged"));
        }
        Ok(damaged)
    }

    /// Flips bits of a database file while nobody has it open: a start compares the checksum of the whole.
    fn damage_pages(&mut self, node: u64, bits: u32, down: Duration) -> Result<bool> {
        self.crash(node, false, down)?;
        let machine = self.nodes[&node].clone();
        if machine.view().is_some() || self.is_running(node) {
            return Ok(false);
        }
        let place = self.rng.random_range(0..self.plan.databases.len());
        let path = machine.database_path(&self.plan.databases[place].0);
        let Ok(size) = path.metadata().map(|file| file.len()) else {
            return Ok(false);
        };
        let mut any = false;
        for _ in 0..bits {
            if size > 0 {
                let offset = self.rng.random_range(0..size);
                let flipped = machine.file_disk.corrupt(&path, FileKind::Database, offset);
                any |= flipped.is_ok();
            }
        }
        if any {
            self.members.set_rotten(node);
        }
        Ok(any)
    }
}
