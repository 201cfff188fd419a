//! Plays the episode of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use halite::server::{DatabaseView, TroubleView};
use tokio::sync::watch;

use super::World;
use crate::episode::{Act, Episode, State, When};
use crate::fault::{Part, Who};

/// How far an episode is, and what it does that ends with it.
#[derive(Default)]
pub(super) struct Stage {
    /// Scenes that are still to come, the next one last.
    episode: Option<Episode>,
    /// When the scene before came.
    since: Duration,
    cast: BTreeMap<Part, u64>,
    /// Whether the clients of each database pause.
    quiet: BTreeMap<String, watch::Sender<bool>>,
}

impl Stage {
    pub(super) fn new(episode: Option<Episode>, databases: &[(String, u32)]) -> Self {
        let mut episode = episode;
        let since = episode.as_ref().map_or(Duration::ZERO, |e| e.at);
        if let Some(episode) = &mut episode {
            episode.scenes.reverse();
        }
        let quiet = |(name, _): &(String, u32)| (name.clone(), watch::Sender::new(false));
        Self {
            episode,
            since,
            cast: BTreeMap::new(),
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
            Act::Mend(who) => {
                if let Some(node) = self.resolve(*who) {
                    self.nodes[&node].file_faults.set(None, None);
                    self.nodes[&node].log_faults.set(None);
                }
            }
            Act::Start(who) => {
                if let Some(node) = self.resolve(*who) {
                    self.start_now(node);
                }
            }
            Act::Reconnect => self.heal_network(),
        }
        Ok(())
    }

    fn give_parts(&mut self) {
        let Some(lead) = self.primary() else {
            return;
        };
        let others: Vec<u64> = self.followers_of(lead);
        self.stage.cast = [Part::Lead, Part::First, Part::Second]
            .into_iter()
            .zip([lead].into_iter().chain(others))
            .collect();
        self.trace
            .note(format_args!("EPISODE cast {:?}", self.stage.cast));
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
            State::TailReplaced(who) => {
                node(who).is_some_and(|seen| seen.log.appended.iter().any(|entry| entry.replaces))
            }
        }
    }
}
