//! Faults of the network: which are going on, and what that makes of each link.
//!
//! turmoil knows one state of a link, and forgets what it was before. So the state of a link is worked out anew from all faults that
//! go on whenever one begins or ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IteratorRandom as _;

use super::World;
use super::faults::Later;
use crate::fault::{LinkFault, Machine, NetworkFault, Place};

/// Longest time between the ends of two links that were held together.
const RELEASE_PAUSE_MS_MAX: u64 = 30;

/// The way from one machine to another.
type Way = (Machine, Machine);

/// A fault that goes on.
struct Active {
    /// Ways into the place and out of it.
    into: BTreeSet<Way>,
    out: BTreeSet<Way>,
    what: LinkFault,
}

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    begun: u64,
    active: BTreeMap<u64, Active>,
}

impl World {
    /// Begins a fault; false if it touches no link.
    pub(super) fn begin_network(&mut self, fault: &NetworkFault) -> bool {
        let Some(into) = self.ways_into(&fault.place) else {
            return false;
        };
        if into.is_empty() {
            return false;
        }
        let out = into.iter().map(|(from, to)| (*to, *from)).collect();
        let number = self.links.begun;
        self.links.begun += 1;
        let active = Active {
            into,
            out,
            what: fault.what,
        };
        let end = self.sim.elapsed() + fault.lasts;
        self.switch(number, active, fault.flaps, end);
        true
    }

    /// Lets a fault act until its end, or until it pauses.
    fn switch(&mut self, number: u64, active: Active, flaps: Option<Duration>, end: Duration) {
        let until = match flaps {
            Some(period) => end.min(self.sim.elapsed() + period),
            None => end,
        };
        let again = (until < end).then(|| NextFlap {
            into: active.into.clone(),
            what: active.what,
            flaps,
            end,
        });
        self.set_active(number, Some(active));
        self.at(until, Later::EndNetwork(number, again));
    }

    /// Ends a fault, which may act again later. What was held arrives from one machine after the other: answers of two nodes that were
    /// under way together do not come together.
    pub(super) fn end_network(&mut self, number: u64, again: Option<NextFlap>) {
        if self.release_one(number) {
            let pause = Duration::from_millis(self.rng.random_range(1..RELEASE_PAUSE_MS_MAX));
            self.at(self.sim.elapsed() + pause, Later::EndNetwork(number, again));
            return;
        }
        self.set_active(number, None);
        match again {
            Some(next) => {
                let at = next
                    .end
                    .min(self.sim.elapsed() + next.flaps.unwrap_or_default());
                self.at(at, Later::Flap(number, next));
            }
            None => self.trace.note(format_args!("network fault {number} ends")),
        }
    }

    /// Lets a machine outside go that a fault holds messages from and to; false for the last one, and for other faults.
    fn release_one(&mut self, number: u64) -> bool {
        let Some(active) = self.links.active.get(&number) else {
            return false;
        };
        let held: BTreeSet<Machine> = active.into.iter().map(|(from, _)| *from).collect();
        if active.what != LinkFault::Hold || held.len() < 2 {
            return false;
        }
        let released = held.iter().choose(&mut self.rng).copied();
        let is_held = |(from, to): &&Way| Some(*from) != released && Some(*to) != released;
        let rest = Active {
            into: active.into.iter().filter(is_held).copied().collect(),
            out: active.out.iter().filter(is_held).copied().collect(),
            what: active.what,
        };
        self.set_active(number, Some(rest));
        true
    }

    pub(super) fn flap(&mut self, number: u64, next: NextFlap) {
        if self.sim.elapsed() >= next.end {
            return;
        }
        let out = next.into.iter().map(|(from, to)| (*to, *from)).collect();
        let active = Active {
            into: next.into,
            out,
            what: next.what,
        };
        self.switch(number, active, next.flaps, next.end);
    }

    /// All ways from outside of a place into it; `None` if somebody in it is not there.
    fn ways_into(&self, place: &Place) -> Option<BTreeSet<Way>> {
        let nodes: Option<Vec<u64>> = place.nodes.iter().map(|who| self.resolve(*who)).collect();
        let inside: BTreeSet<Machine> = nodes?
            .into_iter()
            .map(Machine::Node)
            .chain(place.clients.iter().copied().map(Machine::Client))
            .collect();
        let outside: Vec<Machine> = self
            .machines()
            .filter(|machine| !inside.contains(machine) && !place.between.contains(machine))
            .collect();
        let ways = inside
            .iter()
            .flat_map(|to| outside.iter().map(move |from| (*from, *to)))
            .filter(|(from, to)| is_node(*from) || is_node(*to));
        Some(ways.collect())
    }

    fn machines(&self) -> impl Iterator<Item = Machine> {
        let nodes = self.nodes.keys().copied().map(Machine::Node);
        let clients = (1..=self.plan.clients.len() as u64).map(Machine::Client);
        nodes.chain(clients).chain([Machine::Operator])
    }

    fn set_active(&mut self, number: u64, active: Option<Active>) {
        let before = self.links.active.remove(&number);
        let links: BTreeSet<Way> = before
            .iter()
            .chain(&active)
            .flat_map(|active| &active.into)
            .map(|(a, b)| (*a.min(b), *a.max(b)))
            .collect();
        if let Some(active) = active {
            self.links.active.insert(number, active);
        }
        for (a, b) in links {
            self.set_link(a, b);
        }
    }

    /// Brings one link to what the faults that go on make of it.
    fn set_link(&mut self, a: Machine, b: Machine) {
        let (mut cut_ab, mut cut_ba, mut hold) = (false, false, false);
        let (mut latency, mut loss) = (self.plan.latency_max, 0);
        for active in self.links.active.values() {
            let ab_is_in = active.into.contains(&(a, b));
            if !ab_is_in && !active.out.contains(&(a, b)) {
                continue;
            }
            match active.what {
                LinkFault::Cut => (cut_ab, cut_ba) = (true, true),
                LinkFault::CutIn if ab_is_in => cut_ab = true,
                LinkFault::CutOut if !ab_is_in => cut_ab = true,
                LinkFault::CutIn | LinkFault::CutOut => cut_ba = true,
                LinkFault::Hold => hold = true,
                LinkFault::Latency(most) => latency = latency.max(most),
                LinkFault::Loss(rate) => loss = loss.max(rate),
            }
        }
        let (from, to) = (a.to_string(), b.to_string());
        let (from, to) = (from.as_str(), to.as_str());
        if hold && !(cut_ab || cut_ba) {
            self.sim.hold(from, to);
        } else {
            self.sim.release(from, to);
        }
        match (cut_ab, cut_ba) {
            (true, true) => self.sim.partition(from, to),
            (true, false) => self.sim.partition_oneway(from, to),
            (false, true) => self.sim.partition_oneway(to, from),
            (false, false) => {}
        }
        self.sim.set_link_max_message_latency(from, to, latency);
        // A link that loses messages forgets that it is cut.
        let loss = if cut_ab || cut_ba || hold { 0 } else { loss };
        self.sim
            .set_link_fail_rate(from, to, f64::from(loss) / 100_000.0);
    }

    /// Ends all faults of the network.
    pub(super) fn heal_network(&mut self) {
        for number in self.links.active.keys().copied().collect::<Vec<_>>() {
            self.set_active(number, None);
        }
    }
}

/// A fault that pauses.
pub(super) struct NextFlap {
    into: BTreeSet<Way>,
    what: LinkFault,
    flaps: Option<Duration>,
    end: Duration,
}

fn is_node(machine: Machine) -> bool {
    matches!(machine, Machine::Node(_))
}
