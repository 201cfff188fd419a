//! Membership: nodes that join, leave, or are lost for good and replaced.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use halite_proto::v1;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::World;
use crate::fault::{MemberFault, Who};
use crate::operator::{Slip, Step};
use crate::sometimes::Sometimes;

/// Nodes that a run may have in all.
const NODES_MAX: u64 = 12;
/// Mistakes are drawn apart from everything else: what a seed meant before operators made any, it means still.
const SLIPS: u64 = 0x0511_9051;

/// Who there is.
pub(super) struct Members {
    /// Ids are never used again.
    next_id: u64,
    /// Orders so far.
    orders: u64,
    /// Will never run again.
    dead: BTreeSet<u64>,
    /// May refuse to run, or be unable to: their log was damaged.
    damaged: BTreeSet<u64>,
    /// Have to repair pages, or had to.
    rotten: BTreeSet<u64>,
}

impl Members {
    pub(super) fn new(voters: u64) -> Self {
        Self {
            next_id: voters + 1,
            orders: 0,
            dead: BTreeSet::new(),
            damaged: BTreeSet::new(),
            rotten: BTreeSet::new(),
        }
    }

    pub(super) fn is_dead(&self, node: u64) -> bool {
        self.dead.contains(&node)
    }

    pub(super) fn set_damaged(&mut self, node: u64) {
        self.damaged.insert(node);
    }

    pub(super) fn set_rotten(&mut self, node: u64) {
        self.rotten.insert(node);
    }
}

impl World {
    /// False if it is left out: an operator does one thing after the other, and does not give up a majority.
    pub(super) fn begin_member_fault(&mut self, fault: &MemberFault) -> Result<bool> {
        if self.operator.progress().open > 0 {
            return Ok(false);
        }
        let steps = match fault {
            MemberFault::Transfer(to) => match to {
                None => vec![Step::Transfer(None)],
                Some(who) => match self.resolve(*who) {
                    Some(node) => vec![Step::Transfer(Some(node))],
                    None => return Ok(false),
                },
            },
            MemberFault::Add { voter } => {
                let Some(node) = self.new_node() else {
                    return Ok(false);
                };
                let mut steps = vec![Step::Add(node)];
                if *voter {
                    steps.push(Step::Promote(node));
                }
                steps
            }
            MemberFault::Remove(who) => match self.resolve(*who) {
                Some(node) if self.may_leave(node) => self.steps_to_remove(node),
                _ => return Ok(false),
            },
            MemberFault::Replace(who) => match self.resolve(*who) {
                Some(node) => match self.steps_to_replace(node)? {
                    Some(steps) => steps,
                    None => return Ok(false),
                },
                None => return Ok(false),
            },
        };
        let steps = self.with_slips(steps);
        if steps.iter().any(|step| matches!(step, Step::Slip(_))) {
            self.watcher.reach(Sometimes::OperatorsMistake);
        }
        self.operator.order(steps);
        if let Some(wrong) = self.operator.progress().wrong.first() {
            bail!("the operator was not refused: {wrong}");
        }
        Ok(true)
    }

    /// An operator that means these steps makes a mistake before them, or two of them work at once.
    fn with_slips(&mut self, mut steps: Vec<Step>) -> Vec<Step> {
        self.members.orders += 1;
        let mut rng = SmallRng::seed_from_u64(self.plan.seed ^ SLIPS ^ (self.members.orders << 32));
        if !rng.random_ratio(1, 3) {
            return steps;
        }
        let promoted = steps
            .iter()
            .position(|step| matches!(step, Step::Promote(_)));
        if let (Some(at), true) = (promoted, rng.random_ratio(1, 2))
            && let Step::Promote(id) = steps[at]
        {
            steps.insert(at, Step::Slip(Slip::PromoteAndTransfer(id)));
            return steps;
        }
        let is_down = |id: &u64| self.nodes.get(id).is_none_or(|node| node.view().is_none());
        let voters = self.voters();
        let slip = match rng.random_range(0..3) {
            0 => {
                let members = self.topology().members.into_iter();
                let member = members.map(|member| member.node_id).choose(&mut rng);
                member.map(|member| Slip::AddAtAddressOf {
                    id: NODES_MAX + 1,
                    member,
                })
            }
            1 => {
                let up = voters.iter().filter(|id| !is_down(id)).count();
                let is_too_many = up.saturating_sub(1) * 2 < voters.len();
                let live = voters.iter().copied().filter(|id| {
                    !is_down(id) && self.primary() != Some(*id) && self.may_leave(*id)
                });
                let one = live.choose(&mut rng).filter(|_| is_too_many);
                one.map(Slip::RemoveOneTooMany)
            }
            _ => {
                let down = voters.iter().copied().filter(is_down);
                down.choose(&mut rng).map(Slip::TransferToDead)
            }
        };
        steps.splice(0..0, slip.map(Step::Slip));
        steps
    }

    fn new_node(&mut self) -> Option<u64> {
        let node = self.members.next_id;
        if node > NODES_MAX {
            return None;
        }
        self.members.next_id += 1;
        self.add_node(node);
        self.trace.note(format_args!("n{node} is new"));
        Some(node)
    }

    fn steps_to_remove(&self, node: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.primary() == Some(node) {
            // As the product asks for.
            steps.push(Step::Transfer(None));
        }
        steps.push(Step::Remove(node));
        steps
    }

    /// The machine is gone with its disks; a new one takes its place under an id of its own.
    fn steps_to_replace(&mut self, node: u64) -> Result<Option<Vec<Step>>> {
        if !self.may_lose(node) || self.members.next_id > NODES_MAX {
            return Ok(None);
        }
        self.crash(node, true, std::time::Duration::ZERO)?;
        self.starts.remove(&node);
        self.members.dead.insert(node);
        let Some(new) = self.new_node() else {
            return Ok(None);
        };
        let is_voter = self.voters().contains(&node);
        let mut steps = vec![Step::Remove(node), Step::Add(new)];
        if is_voter {
            steps.push(Step::Promote(new));
        }
        Ok(Some(steps))
    }

    /// Who belongs to the cluster, as the one knows it who has heard of the newest term; the primary before others.
    pub(super) fn topology(&self) -> v1::Topology {
        let said = self.nodes.values().filter_map(|node| {
            let view = node.view()?;
            let topology = view.status()?.topology?;
            Some((view.primary_term(), topology.term, node.id, topology))
        });
        said.max_by_key(|(primary, term, node, _)| (*primary, *term, *node))
            .map(|(.., topology)| topology)
            .unwrap_or_default()
    }

    fn voters(&self) -> BTreeSet<u64> {
        let members = self.topology().members;
        members
            .into_iter()
            .filter(|member| member.voter)
            .map(|member| member.node_id)
            .collect()
    }

    /// Members that are to hold everything in the end.
    pub(super) fn sound_members(&self) -> BTreeSet<u64> {
        let members = self.topology().members;
        members
            .into_iter()
            .map(|member| member.node_id)
            .filter(|id| !self.members.dead.contains(id) && !self.members.damaged.contains(id))
            .collect()
    }

    /// A majority is left without this node, whatever becomes of it.
    fn may_lose(&mut self, node: u64) -> bool {
        if self.operator.progress().open > 0 || self.primary().is_none() {
            return false;
        }
        let repaired: Vec<u64> = self
            .members
            .rotten
            .iter()
            .copied()
            .filter(|id| self.is_sound(*id))
            .collect();
        for id in repaired {
            self.members.rotten.remove(&id);
        }
        let voters = self.voters();
        let mut lost: BTreeSet<u64> = self.members.dead.clone();
        lost.extend(&self.members.damaged);
        lost.extend(&self.members.rotten);
        lost.insert(node);
        let lost = voters.intersection(&lost).count();
        !self.members.is_dead(node) && lost * 2 < voters.len()
    }

    /// It runs, and says nothing of trouble.
    fn is_sound(&self, node: u64) -> bool {
        let view = self.nodes.get(&node).and_then(|node| node.view());
        let status = view.and_then(|view| view.status()?.node);
        status.is_some_and(|status| status.databases.iter().all(|d| d.trouble.is_empty()))
    }

    /// Those that stay can go on without it, and those that are lost already.
    fn may_leave(&self, node: u64) -> bool {
        let mut stay = self.voters();
        stay.remove(&node);
        let lost = stay
            .iter()
            .filter(|id| self.members.is_dead(**id) || self.members.damaged.contains(id))
            .count();
        lost * 2 < stay.len()
    }

    /// What the operator has done counts, and not what it was asked to.
    pub(super) fn count_operations(&mut self) {
        for done in self.operator.progress().done {
            self.count(done);
        }
    }

    /// Who is meant, for a fault after which the node may be lost.
    pub(super) fn expendable(&mut self, who: Who) -> Option<u64> {
        self.resolve(who).filter(|node| self.may_lose(*node))
    }
}
