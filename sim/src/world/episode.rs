//! Plays the episode of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use halite::server::{DatabaseView, TroubleView};
use halite_proto::v1;
use tokio::sync::watch;

use super::World;
use super::end::{is_well, position};
use crate::episode::{Act, Episode, State, When};
use crate::fault::{Part, Who};
use crate::invariant::Seen;
use crate::sometimes::watcher::says_that_it_hangs;

/// How far an episode is, and what it does that ends with it.
#[derive(Default)]
pub(super) struct Stage {
    /// Scenes that are still to come, the next one last.
    episode: Option<Episode>,
    /// When the scene before came.
    since: Duration,
    cast: BTreeMap<Part, u64>,
    /// The term in which the parts were given away.
    cast_term: Option<u64>,
    /// Nothing but the episode goes on.
    alone: bool,
    /// A fault could not come when it was to, as while an operator was at work: what it was to lead to cannot be demanded.
    pub(super) left_out: bool,
    /// Whether the clients of each database pause.
    quiet: BTreeMap<String, watch::Sender<bool>>,
}

impl Stage {
    pub(super) fn new(episode: Option<Episode>, databases: &[(String, u32)]) -> Self {
        let mut episode = episode;
        let since = episode.as_ref().map_or(Duration::ZERO, |e| e.at);
        let alone = episode.as_ref().is_some_and(|e| e.alone);
        if let Some(episode) = &mut episode {
            episode.scenes.reverse();
        }
        let quiet = |(name, _): &(String, u32)| (name.clone(), watch::Sender::new(false));
        Self {
            episode,
            since,
            cast: BTreeMap::new(),
            cast_term: None,
            left_out: false,
            alone,
            quiet: databases.iter().map(quiet).collect(),
        }
    }

    /// Turns true while the clients of a database are to pause.
    pub(super) fn quiet(&self, database: &str) -> watch::Receiver<bool> {
        self.quiet[database].subscribe()
    }

    pub(super) fn cast(&self, part: Part) -> Option<u64> {
        self.cast.get(&part).copied()
    }

    /// Scenes are left.
    pub(super) fn is_on(&self) -> bool {
        self.episode.is_some()
    }

    fn end(&mut self) {
        self.episode = None;
        for quiet in self.quiet.values() {
            quiet.send_replace(false);
        }
    }
}

impl World {
    /// Plays the scenes that are due.
    pub(super) fn play(&mut self) -> Result<()> {
        let now = self.sim.elapsed();
        loop {
            let Some(episode) = &mut self.stage.episode else {
                return Ok(());
            };
            let Some(scene) = episode.scenes.pop() else {
                self.end_episode("all of it was played");
                return Ok(());
            };
            let waited = now.saturating_sub(self.stage.since);
            let (due, late) = match &scene.when {
                When::After(pause) => (now >= self.stage.since && waited >= *pause, false),
                When::Once(state, most) => {
                    let is_so = now >= self.stage.since && self.is_so(state);
                    (is_so, waited > *most)
                }
            };
            if due {
                self.stage.since = now;
                self.act(&scene.act)?;
                continue;
            }
            if late {
                self.end_episode(&format!("it never was so: {:?}", scene.when));
            } else if let Some(episode) = &mut self.stage.episode {
                episode.scenes.push(scene);
            }
            return Ok(());
        }
    }

    fn end_episode(&mut self, why: &str) {
        self.trace.note(format_args!("EPISODE ends: {why}"));
        self.leave_stage();
        for node in self.nodes.values() {
            node.file_faults.set(None, None);
        }
    }

    /// Nothing of an episode goes on.
    pub(super) fn leave_stage(&mut self) {
        self.stage.end();
        for part in [Part::Lead, Part::First, Part::Second] {
            if let Some(node) = self.stage.cast(part) {
                self.start_now(node);
            }
        }
    }

    fn act(&mut self, act: &Act) -> Result<()> {
        self.trace.note(format_args!("EPISODE {act:?}"));
        match act {
            Act::Wait => {}
            Act::Cast => self.give_parts(),
            Act::Fault(fault) => self.begin(fault)?,
            Act::Quiet(database, quiet) => {
                let name = &self.plan.databases[*database].0;
                self.stage.quiet[name].send_replace(*quiet);
            }
            Act::QuietAll(quiet) => {
                for told in self.stage.quiet.values() {
                    told.send_replace(*quiet);
                }
            }
            Act::Mend(who) => {
                if let Some(node) = self.resolve(*who) {
                    self.nodes[&node].file_faults.set(None, None);
                    self.nodes[&node].set_log_fault(None);
                }
            }
            Act::Start(who) => {
                if let Some(node) = self.resolve(*who) {
                    self.start_now(node);
                }
            }
            Act::Reconnect => self.heal_network(),
            Act::Demand(state) => {
                if self.stage.alone && !self.stage.left_out && !self.is_so(state) {
                    self.violated("liveness", format!("it has to be so now: {state:?}"));
                }
            }
        }
        Ok(())
    }

    fn give_parts(&mut self) {
        let Some(lead) = self.primary() else {
            return;
        };
        let others: Vec<u64> = self.followers_of(lead);
        self.stage.cast_term = self.primary_term(lead);
        self.stage.cast = [Part::Lead, Part::First, Part::Second]
            .into_iter()
            .zip([lead].into_iter().chain(others))
            .collect();
        self.trace
            .note(format_args!("EPISODE cast {:?}", self.stage.cast));
    }

    fn primary_term(&self, node: u64) -> Option<u64> {
        self.nodes.get(&node)?.view()?.primary_term()
    }

    /// Voters of the beginning that run beside the primary.
    fn followers_of(&self, lead: u64) -> Vec<u64> {
        let voters = 1..=self.plan.voters;
        let runs = |id: &u64| self.seen.iter().any(|seen| seen.node == *id);
        voters.filter(|id| *id != lead).filter(runs).collect()
    }

    fn is_so(&self, state: &State) -> bool {
        let node = |who: &Who| {
            let id = self.resolve(*who)?;
            self.seen.iter().find(|seen| seen.node == id)
        };
        let any_database = |who: &Who, is_so: &dyn Fn(&DatabaseView) -> bool| {
            node(who).is_some_and(|seen| seen.databases.iter().any(is_so))
        };
        match state {
            State::Cast => self
                .primary()
                .is_some_and(|lead| self.followers_of(lead).len() >= 2),
            State::Unwell(who, database) => {
                let name = &self.plan.databases[*database].0;
                any_database(who, &|d| d.name == *name && d.trouble.is_some())
            }
            State::HandingOver => self.operator.progress().handing_over,
            State::NeedsRepair(who) => {
                any_database(who, &|d| d.trouble == Some(TroubleView::NeedsRepair))
            }
            State::LacksWhatIsPurged(who, database) => self.resolve(*who).is_some_and(|node| {
                let name = &self.plan.databases[*database].0;
                self.watcher.lacks_what_is_purged(&self.seen, node, name)
            }),
            State::Runs(who) => node(who).is_some(),
            State::IsDeposed(who) => match (self.resolve(*who), self.primary()) {
                (Some(node), Some(primary)) => node != primary,
                _ => false,
            },
            State::HasTail(who) => {
                node(who).is_some_and(|seen| seen.log.ends.end > seen.known_committed() + 1)
            }
            State::HasOpenChunks(who) => node(who).is_some_and(|seen| {
                let last = seen.log.appended.last();
                last.is_some_and(|entry| {
                    entry.chunk_of.is_some() && entry.index + 1 == seen.log.ends.end
                })
            }),
            State::DiffNotCheckpointed(who) => any_database(who, &|d| {
                d.trouble.is_none() && d.checkpoint_done < d.checkpoint_target
            }),
            State::LeadsOn(who) => self.resolve(*who).is_some_and(|id| {
                self.primary() == Some(id) && self.primary_term(id) == self.stage.cast_term
            }),
            State::HasVoted(who) => node(who).is_some_and(|seen| {
                let (term, candidate, _) = seen.log.ends.vote;
                self.stage.cast_term.is_some_and(|cast| term > cast) && candidate != seen.node
            }),
            State::TakesNoPart(who) => {
                // One that has just started and holds neither an entry nor a vote has taken no part yet.
                let blank = |seen: &Seen| seen.log.ends.end == 0 && seen.log.ends.vote.0 == 0;
                node(who).is_none_or(|seen| seen.status.role() == v1::Role::Stopped || blank(seen))
            }
            State::IsWell(who) => node(who).is_some_and(|seen| is_well(&position(&seen.status))),
            State::HoldsAll(who) => {
                let primary = self.primary();
                let primary = self.seen.iter().find(|seen| Some(seen.node) == primary);
                match (node(who), primary) {
                    (Some(seen), Some(primary)) => {
                        let held = position(&seen.status);
                        held == position(&primary.status) && is_well(&held)
                    }
                    _ => false,
                }
            }
            State::CopyTakesNoPart(who) => self.resolve(*who).is_some_and(|id| {
                let copy = self.copies.get(&id).filter(|copy| copy.lives() > 0);
                copy.is_some_and(|copy| {
                    let status = copy.view().and_then(|view| view.status()?.node);
                    status.is_none_or(|node| node.role() == v1::Role::Stopped)
                })
            }),
            State::SaysThatItHangs(who) => node(who).is_some_and(says_that_it_hangs),
            State::TailReplaced(who) => {
                node(who).is_some_and(|seen| seen.log.appended.iter().any(|entry| entry.replaces))
            }
        }
    }
}
