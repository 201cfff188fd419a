//! Episodes of who leads: elections, transfers, primaries that are cut off, and what clients are told meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::{FOR_LONG, Script, log_disk, network, only, transfer};
use crate::episode::{Act, FIRST, LEAD, SECOND, State};
use crate::fault::{Fault, LinkFault, LogDiskFault, NetworkFault, Place, Who};

impl Script<'_> {
    pub(super) fn stale_side(&mut self) {
        for _ in 0..self.rng.random_range(3..8) {
            let what = match self.rng.random_range(0..3) {
                0 => LinkFault::Hold,
                _ => LinkFault::Cut,
            };
            let lasts = Duration::from_millis(self.rng.random_range(300..1_500));
            let side = self.side_of(Who::Primary);
            self.now(Act::Fault(Fault::Network(NetworkFault {
                place: side,
                what,
                flaps: None,
                lasts,
            })));
            let pause = lasts.as_millis() as u64 + 700;
            self.after_up_to(pause, Act::Wait);
        }
    }

    pub(super) fn transfer_cut(&mut self) {
        for _ in 0..self.rng.random_range(2..5) {
            let to = if self.rng.random() { FIRST } else { SECOND };
            self.now(transfer(to));
            let hit = if self.rng.random() { to } else { Who::Primary };
            let what = match self.rng.random_range(0..4) {
                0 => LinkFault::CutIn,
                1 => LinkFault::Hold,
                _ => LinkFault::Cut,
            };
            let lasts = Duration::from_millis(self.rng.random_range(300..2_000));
            let act = match self.rng.random_range(0..4) {
                0 => self.crash(hit, 2_000),
                1 => Act::Fault(Fault::LogDisk {
                    who: hit,
                    fault: LogDiskFault::Slow(Duration::from_millis(700)),
                    lasts,
                }),
                _ => network(only(hit), what, lasts),
            };
            self.once(State::HandingOver, 3_000, Act::Wait);
            self.after_up_to(30, act);
            self.after_up_to(4_000, Act::Wait);
        }
    }

    pub(super) fn tail_then_restart(&mut self) {
        // In half of the runs all clients are with it: what the next primary writes is shorter then than the tail that goes.
        let mut place = self.side_of(LEAD);
        if self.rng.random() {
            (place.clients, place.between) = ((1..=self.clients).collect(), BTreeSet::new());
        }
        let what = match self.rng.random() {
            true => LinkFault::Hold,
            false => LinkFault::Cut,
        };
        self.now(network(place, what, FOR_LONG));
        self.once(State::HasTail(LEAD), 3_000, Act::Wait);
        self.once(State::IsDeposed(LEAD), 4_000, Act::Wait);
        self.after_up_to(300, Act::Reconnect);
        let crash = self.crash(LEAD, 500);
        self.once(State::TailReplaced(LEAD), 3_000, crash);
        self.after_up_to(1_500, Act::Wait);
    }

    pub(super) fn chunks_cut(&mut self) {
        for _ in 0..self.rng.random_range(2..5) {
            let act = match self.rng.random_range(0..3) {
                0 => self.crash(Who::Primary, 2_000),
                1 => {
                    let lasts = Duration::from_millis(self.rng.random_range(400..2_000));
                    network(self.side_of(Who::Primary), LinkFault::Cut, lasts)
                }
                _ => transfer(SECOND),
            };
            self.once(State::HasOpenChunks(FIRST), 3_000, act);
            self.after_up_to(3_000, Act::Wait);
        }
    }

    pub(super) fn voters_forget(&mut self) {
        self.cut_off_again_and_again(1_500, |script| {
            for who in [FIRST, SECOND] {
                let crash = script.crash(who, 60);
                script.now(crash);
            }
        });
    }

    pub(super) fn dies_at_the_gate(&mut self) {
        self.cut_off_again_and_again(1_000, |script| {
            script.once(State::HasTail(LEAD), 3_000, Act::Wait);
            let crash = script.crash(LEAD, 1_500);
            script.after_up_to(400, crash);
        });
    }

    /// The primary is cut off with some of the clients, something happens, and another one leads before it is reached again.
    fn cut_off_again_and_again(&mut self, most_ms: u64, meanwhile: impl Fn(&mut Self)) {
        for _ in 0..self.rng.random_range(1..4) {
            self.now(Act::Cast);
            let place = self.side_of(LEAD);
            self.now(network(place, LinkFault::Cut, FOR_LONG));
            meanwhile(self);
            self.once(State::IsDeposed(LEAD), 4_000, Act::Wait);
            self.after_up_to(most_ms, Act::Reconnect);
            self.after_up_to(1_000, Act::Wait);
            self.once(State::Cast, 6_000, Act::Wait);
        }
    }

    pub(super) fn slow_successor(&mut self) {
        for _ in 0..self.rng.random_range(2..5) {
            self.now(Act::Cast);
            let most = Duration::from_millis(self.rng.random_range(50..600));
            for who in [FIRST, SECOND] {
                self.now(log_disk(who, LogDiskFault::Slow(most)));
            }
            let way = Duration::from_millis(self.rng.random_range(20..150));
            let place = self.side_of(LEAD);
            self.now(network(place, LinkFault::Latency(way), FOR_LONG));
            let crash = self.crash(LEAD, 1_500);
            self.after_up_to(1_500, crash);
            self.now(Act::Reconnect);
            self.once(State::IsDeposed(LEAD), 4_000, Act::Wait);
            self.after_up_to(500, Act::Mend(FIRST));
            self.now(Act::Mend(SECOND));
            self.once(State::Cast, 6_000, Act::Wait);
        }
    }

    pub(super) fn far_handover(&mut self) {
        for _ in 0..self.rng.random_range(3..7) {
            self.now(Act::Cast);
            let way = Duration::from_millis(self.rng.random_range(40..130));
            let place = self.side_of(LEAD);
            self.now(network(place, LinkFault::Latency(way), FOR_LONG));
            let to = if self.rng.random() { FIRST } else { SECOND };
            self.after_up_to(800, transfer(to));
            self.once(State::IsDeposed(LEAD), 4_000, Act::Wait);
            self.after_up_to(500, Act::Reconnect);
            self.once(State::Cast, 6_000, Act::Wait);
        }
    }

    pub(super) fn vote_then_power(&mut self) {
        for _ in 0..self.rng.random_range(2..5) {
            self.now(Act::Cast);
            let crash = self.crash(LEAD, 2_000);
            self.now(crash);
            let down = Duration::from_millis(self.rng.random_range(10..100));
            let power = Fault::Crash {
                who: SECOND,
                power: true,
                down,
            };
            self.once(State::HasVoted(SECOND), 3_000, Act::Fault(power));
            // Nobody tells it how far the others are.
            self.now(network(only(SECOND), LinkFault::Cut, FOR_LONG));
            self.after_up_to(1_500, Act::Reconnect);
            self.once(State::Cast, 6_000, Act::Wait);
        }
    }

    pub(super) fn answers_lost(&mut self) {
        for _ in 0..self.rng.random_range(1..4) {
            let nobody = Place {
                nodes: vec![LEAD, FIRST, SECOND],
                ..Place::default()
            };
            self.after_up_to(500, network(nobody, LinkFault::CutOut, FOR_LONG));
            // Nobody writes anything new: what is there comes into the files.
            let down = |rng: &mut SmallRng| Duration::from_millis(rng.random_range(20..200));
            let all = Fault::CrashAll {
                power: self.rng.random(),
                down: (0..3).map(|_| down(self.rng)).collect(),
            };
            let pause = self.rng.random_range(300..1_000);
            self.after(pause, Act::Fault(all));
            self.after_up_to(300, Act::Reconnect);
            self.after_up_to(2_000, Act::Wait);
        }
    }

    pub(super) fn far_apart(&mut self) {
        self.now(Act::Quiet(0, true));
        for _ in 0..4 {
            self.after(1_500, Act::Demand(State::LeadsOn(LEAD)));
        }
        self.now(Act::Quiet(0, false));
        self.after(2_000, Act::Demand(State::LeadsOn(LEAD)));
    }
}
