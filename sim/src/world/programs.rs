//! Programs of several versions beside each other: nodes come back as the version before this one, as this one, or as the one after, and
//! operators finalize when they like.

use std::collections::BTreeSet;
use std::time::Duration;

use halite::cluster::Levels;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::World;
use crate::operator::{Slip, Step};
use crate::sometimes::Sometimes;

/// Drawn apart from everything else: what a seed meant before there were versions, it means still, but for what they change.
const STREAM: u64 = 0x0009_1e5e;

/// Which programs there are, and who gets which.
pub(super) struct Programs {
    /// `None`: this version alone.
    rng: Option<SmallRng>,
    finalized_at: Duration,
    /// Ended because their program was too old for their cluster.
    too_old: BTreeSet<u64>,
}

impl Programs {
    pub(super) fn new(mixed: bool, seed: u64) -> Self {
        Self {
            rng: mixed.then(|| SmallRng::seed_from_u64(seed ^ STREAM)),
            finalized_at: Duration::from_secs(1),
            too_old: BTreeSet::new(),
        }
    }

    /// The operator gives a node that says so the newest program, whatever happens besides.
    pub(super) fn note_exit(&mut self, node: u64, why: &str) {
        if why.contains("this node is too old for its cluster") {
            self.too_old.insert(node);
        }
    }
}

impl World {
    /// What the node runs from its next start on.
    pub(super) fn give_program(&mut self, node: u64) {
        let Some(rng) = &mut self.programs.rng else {
            return;
        };
        let views = self
            .nodes
            .values()
            .filter_map(|node| node.view()?.status()?.node);
        let level = views.map(|node| node.level).max().unwrap_or(0);
        // A level is only reached when every member can do it.
        let programs = [Levels::FIRST, Levels::OURS, Levels::NEXT, Levels::NEXT];
        let drawn = *programs.choose(rng).unwrap_or(&Levels::OURS);
        // Too old a program is given now and then: by mistake.
        let slip = rng.random_ratio(1, 6);
        let program = match drawn.max.get() < level && !slip || self.programs.too_old.remove(&node)
        {
            true => Levels::NEXT,
            false => drawn,
        };
        self.trace
            .note(format_args!("n{node} is of levels {program}"));
        self.nodes[&node].set_levels(program);
    }

    /// An operator tries to finalize an upgrade, whether there was one or not.
    pub(super) fn finalize_if_due(&mut self) {
        let now = self.sim.elapsed();
        let Some(rng) = &mut self.programs.rng else {
            return;
        };
        if now < self.programs.finalized_at || self.operator.progress().open > 0 {
            return;
        }
        self.programs.finalized_at = now + Duration::from_millis(rng.random_range(300..6_000));
        self.operator.order(vec![Step::Slip(Slip::Finalize)]);
    }

    /// Two that may write different things belong to one cluster.
    pub(super) fn note_programs(&mut self) {
        if self.programs.rng.is_none() {
            return;
        }
        let levels = |seen: &crate::invariant::Seen| (seen.status.level, seen.status.level_max);
        let all: BTreeSet<_> = self.seen.iter().map(levels).collect();
        let programs: BTreeSet<_> = all.iter().map(|(_, max)| max).collect();
        if programs.len() > 1 {
            self.watcher.reach(Sometimes::VersionsBesideEachOther);
        }
        if all
            .iter()
            .any(|(level, _)| *level == Levels::NEXT.max.get())
        {
            self.watcher.reach(Sometimes::NextVersionFinalized);
        }
    }
}
