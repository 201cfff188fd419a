//! Episodes of machines and places: disks put back, copied or lost, and archives.

use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::{FOR_LONG, Script, damage, network, only, transfer};
use crate::episode::{Act, FIRST, LEAD, SECOND, State};
use crate::fault::{DamageFault, Fault, LinkFault, MemberFault, StoreFault, Who};

impl Script<'_> {
    pub(super) fn disk_put_back(&mut self) {
        let down = Duration::from_millis(self.rng.random_range(50..500));
        self.now(damage(DamageFault::Keep { who: FIRST, down }));
        self.once(State::Runs(FIRST), 5_000, Act::Wait);
        // Long enough that it has acknowledged more.
        let pause = self.rng.random_range(1_000..3_000);
        self.after(pause, damage(DamageFault::PutBack { who: FIRST, down }));
        self.after(4_000, Act::Demand(State::TakesNoPart(FIRST)));
        self.replace(FIRST);
    }

    pub(super) fn id_used_again(&mut self) {
        // What is acknowledged now, the primary and the first follower hold alone.
        let cut_off = network(only(SECOND), LinkFault::Cut, FOR_LONG);
        self.now(cut_off);
        let down = Duration::from_millis(self.rng.random_range(20..200));
        self.after_up_to(1_500, damage(DamageFault::NewDisks { who: FIRST, down }));
        let crash = self.crash(LEAD, 3_000);
        self.now(crash);
        self.after_up_to(300, Act::Reconnect);
        self.once(State::Runs(LEAD), 8_000, Act::Wait);
        self.after_up_to(2_000, Act::Demand(State::TakesNoPart(FIRST)));
        self.replace(FIRST);
    }

    pub(super) fn copied_directory(&mut self) {
        let who = if self.rng.random() { FIRST } else { LEAD };
        // It is gone for a moment, or for so long that the copy could stand for election.
        let down = Duration::from_millis(self.rng.random_range(20..3_000));
        self.now(damage(DamageFault::Copy { who, down }));
        if self.rng.random() {
            let crash = self.crash(LEAD, 1_000);
            self.after_up_to(2_000, crash);
        }
        self.once(State::Runs(who), 5_000, Act::Wait);
        self.after(4_000, Act::Demand(State::CopyTakesNoPart(who)));
        self.after_up_to(1_000, transfer(SECOND));
    }

    /// As an operator does with a node that takes no part any more.
    fn replace(&mut self, who: Who) {
        let members = |fault| Act::Fault(Fault::Members(fault));
        self.after(1_000, members(MemberFault::Remove(who)));
        self.after(2_000, members(MemberFault::Add { voter: true }));
        self.after_up_to(2_000, Act::Wait);
    }

    pub(super) fn archive_away(&mut self) {
        let lasts = Duration::from_millis(self.rng.random_range(1_500..5_000));
        self.now(Act::Fault(Fault::Store {
            fault: StoreFault::Unavailable(1_000),
            lasts,
        }));
        self.after_up_to(lasts.as_millis() as u64, Act::Wait);
    }

    pub(super) fn archive_loses(&mut self) {
        for _ in 0..self.rng.random_range(1..5) {
            let rate = *[30, 200, 1_000].choose(self.rng).unwrap_or(&200);
            let lasts = Duration::ZERO;
            let fault = StoreFault::Loses(rate);
            self.after_up_to(2_500, Act::Fault(Fault::Store { fault, lasts }));
            if self.rng.random_ratio(1, 3) {
                let to = if self.rng.random() { FIRST } else { SECOND };
                self.after_up_to(500, transfer(to));
            }
        }
    }
}
