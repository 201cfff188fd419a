//! The end of a run: faults are over, the cluster has to serve again, come to rest, and hold what the histories say.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use halite_checks::{Bank, FinalState, NodeId, check_all};
use halite_proto::v1;

use super::World;
use crate::file::File;

/// After the last fault the cluster serves again within this.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// Clients end within this.
const CLIENTS_END_WITHIN: Duration = Duration::from_secs(20);
/// All nodes hold the same within this.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn finish(&mut self) -> Result<()> {
        self.trace.note(format_args!("faults end"));
        self.heal_all();
        let before = self.acknowledged_by_database();
        let serves = |world: &mut World| {
            let now = world.acknowledged_by_database();
            before
                .iter()
                .all(|(database, count)| now[database] > *count)
        };
        if !self.wait_for(SERVES_WITHIN, serves)? {
            let what = "no write was acknowledged after the faults ended";
            self.violated("liveness", what.to_owned());
            return Ok(());
        }
        self.stop.send_replace(true);
        if !self.wait_for(CLIENTS_END_WITHIN, |world| *world.clients.lock() == 0)? {
            self.violated("liveness", "clients did not come to an end".to_owned());
            return Ok(());
        }
        if !self.wait_for(SETTLES_WITHIN, World::is_settled)? {
            let what = format!(
                "the nodes did not come to hold the same: {:?}",
                self.last_seen
            );
            self.violated("liveness", what);
            return Ok(());
        }
        if self.outcome.violations.is_empty() {
            self.check_contents()?;
        }
        if self.plan.archive.is_some() && self.outcome.violations.is_empty() {
            self.check_archive()?;
        }
        Ok(())
    }

    fn acknowledged_by_database(&self) -> BTreeMap<String, usize> {
        self.recorders
            .iter()
            .map(|(name, recorder)| (name.clone(), recorder.acknowledged()))
            .collect()
    }

    /// Steps until `condition` holds or something else is violated; false if neither is so within `patience`.
    pub(super) fn wait_for(
        &mut self,
        patience: Duration,
        mut condition: impl FnMut(&mut World) -> bool,
    ) -> Result<bool> {
        let until = self.sim.elapsed() + patience;
        while self.sim.elapsed() < until {
            if !self.outcome.violations.is_empty() || condition(self) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(false)
    }

    /// The operator is done, and every sound member runs and holds the same, without trouble.
    fn is_settled(&mut self) -> bool {
        let members = self.sound_members();
        let states: Option<Vec<_>> = members
            .iter()
            .map(|id| self.nodes.get(id)?.view()?.status()?.node)
            .collect();
        let Some(states) = states else {
            return false;
        };
        let Some(first) = states.first() else {
            return false;
        };
        // A member that is not looked at may be ahead of the others.
        let primary = self.primary().and_then(|id| self.nodes[&id].view());
        let Some(primary) = primary.and_then(|view| view.status()?.node) else {
            return false;
        };
        let held = position(first);
        let planned = |(name, _): &(String, u32)| held.iter().any(|(other, ..)| name == other);
        self.operator.progress().open == 0
            && self.plan.databases.iter().all(planned)
            && is_well(&held)
            && states.iter().all(|state| {
                position(state) == held && state.applied_index == primary.last_log_index
            })
    }

    fn check_contents(&mut self) -> Result<()> {
        for database in self.databases() {
            let end = self.contents(&database)?;
            let Some(recorder) = self.recorders.get(&database) else {
                continue;
            };
            for violation in check_all(&recorder.history(), &end) {
                self.violated("history", format!("{database}: {violation}"));
            }
            self.ends.insert(database, end);
        }
        Ok(())
    }

    /// Those of the plan, and those that clients created and have not dropped.
    fn databases(&self) -> Vec<String> {
        let members = self.sound_members();
        let status = members
            .iter()
            .find_map(|id| self.nodes.get(id)?.view()?.status()?.node);
        let databases = status.map(|status| status.databases).unwrap_or_default();
        databases.into_iter().map(|d| d.name).collect()
    }

    /// What all nodes hold of a database; looks as well whether their files are sound and the same.
    fn contents(&mut self, database: &str) -> Result<FinalState> {
        let mut end = FinalState::default();
        let mut pages: Option<(u64, Vec<Vec<u8>>)> = None;
        for id in self.sound_members() {
            let node = self.nodes[&id].clone();
            let file = File::open(&node.database_path(database))?;
            let problems = file.integrity_check()?;
            if problems != ["ok"] {
                let what = format!("n{} {database}: {problems:?}", node.id);
                self.violated("integrity", what);
            }
            let own = file.pages()?;
            match &pages {
                None => pages = Some((node.id, own)),
                Some((first, expected)) if *expected != own => {
                    let what = format!("{database} is not the same on n{first} and n{}", node.id);
                    self.violated("page-identical files", what);
                }
                Some(_) => {}
            }
            let mut contents = file.contents()?;
            if contents.bank.is_none() && self.bank_was_used(database) {
                contents.bank = Some(Bank::default());
            }
            end.nodes.insert(NodeId(node.id), contents);
        }
        Ok(end)
    }

    /// Somebody was told that it is there.
    fn bank_was_used(&self, database: &str) -> bool {
        self.recorders.get(database).is_some_and(|recorder| {
            let bank = recorder.history().bank;
            bank.transfers
                .iter()
                .any(|transfer| transfer.outcome.is_ok())
                || bank.reads.iter().any(|read| read.outcome.is_ok())
        })
    }
}

/// Name, TXID, checksum and trouble of each database of a node.
type Position = Vec<(String, u64, String, String)>;

/// No database is in trouble.
pub(super) fn is_well(position: &Position) -> bool {
    position.iter().all(|(.., trouble)| trouble.is_empty())
}

/// Where the databases of a node are.
pub(super) fn position(node: &v1::NodeStatus) -> Position {
    let databases = node.databases.iter();
    databases
        .map(|d| {
            (
                d.name.clone(),
                d.txid,
                d.checksum.clone(),
                d.trouble.clone(),
            )
        })
        .collect()
}
