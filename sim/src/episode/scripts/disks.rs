//! Episodes of disks: databases and logs that fail, hang, are slow or narrow, and what comes as a page diff.

use std::num::NonZeroU64;
use std::time::Duration;

use rand::Rng as _;

use super::{FOR_LONG, Script, file_disk, log_disk, network, only, transfer};
use crate::episode::{Act, FIRST, LEAD, SECOND, State};
use crate::fault::{DamageFault, Fault, FileDiskFault, LinkFault, LogDiskFault, Who};

/// So many that some lie in pages which no entry of the log touches: a redo writes over the others.
const DAMAGED_BITS: u32 = 100;

/// While nobody writes, a node that is well has all that the primary has within this.
const HELD_BY_ALL_WITHIN_MS: u64 = 5_000;

/// From when a leader says that its disk hangs until another node takes writes: it may try more than once.
const GIVEN_WAY_WITHIN_MS: u64 = 5_000;

impl Script<'_> {
    pub(super) fn unwell_then_leads(&mut self) {
        let refuses = FileDiskFault::WritesFail(1_000);
        self.now(file_disk(SECOND, Some(0), refuses));
        self.once(State::Unwell(SECOND, 0), 6_000, Act::Quiet(0, true));
        // The log is purged while the other database is written.
        let ends = Act::Fault(self.crash_or_restart(SECOND));
        self.once(State::LacksWhatIsPurged(SECOND, 0), 12_000, ends);
        self.after_up_to(300, Act::Mend(SECOND));
        self.after_up_to(300, Act::Start(SECOND));
        self.once(State::Runs(SECOND), 3_000, Act::Wait);
        self.after_up_to(1_500, transfer(SECOND));
        if self.rng.random() {
            // Clients are there when it leads, and before it has made room for another one.
            self.now(Act::Quiet(0, false));
        } else {
            self.after_up_to(3_000, Act::Quiet(0, false));
        }
    }

    pub(super) fn diff_into_tail(&mut self) {
        let lasts = FOR_LONG;
        let place = self.side_of(LEAD);
        self.now(network(place, LinkFault::Cut, lasts));
        self.once(State::HasTail(LEAD), 3_000, Act::Wait);
        let quiet = Act::Quiet(0, self.rng.random());
        self.once(State::IsDeposed(LEAD), 4_000, quiet);
        self.after_up_to(2_500, Act::Reconnect);
        // It has nothing to write but the pages that come.
        let (accesses, down) = (
            1 << self.rng.random_range(0..9),
            Duration::from_millis(self.rng.random_range(50..800)),
        );
        let who = LEAD;
        self.now(Act::Fault(Fault::PowerCut {
            who,
            accesses,
            down,
        }));
        self.after_up_to(2_000, Act::Quiet(0, false));
    }

    pub(super) fn unfinished_diff(&mut self) {
        let down = Duration::from_millis(self.rng.random_range(100..600));
        self.now(Act::Fault(Fault::Damage(DamageFault::Pages {
            who: FIRST,
            bits: DAMAGED_BITS,
            down,
        })));
        self.now(file_disk(FIRST, None, FileDiskFault::SyncsFail(1_000)));
        self.once(State::NeedsRepair(FIRST), 3_000, Act::Wait);
        self.once(State::DiffNotCheckpointed(FIRST), 8_000, Act::Wait);
        self.after_up_to(
            1_500,
            Act::Fault(Fault::Crash {
                who: FIRST,
                power: true,
                down: Duration::from_millis(300),
            }),
        );
        self.now(Act::Mend(FIRST));
        let crash = self.crash(Who::Primary, 4_000);
        self.after_up_to(600, crash);
    }

    pub(super) fn leads_in_repair(&mut self) {
        let down = Duration::from_millis(self.rng.random_range(100..600));
        let slow = LinkFault::Latency(Duration::from_millis(self.rng.random_range(20..250)));
        self.now(Act::Fault(Fault::Damage(DamageFault::Pages {
            who: FIRST,
            bits: DAMAGED_BITS,
            down,
        })));
        if self.rng.random() {
            self.now(network(only(FIRST), slow, Duration::from_secs(4)));
        }
        let act = match self.rng.random_range(0..3) {
            0 => self.crash(Who::Primary, 3_000),
            _ => transfer(FIRST),
        };
        self.once(State::NeedsRepair(FIRST), 4_000, Act::Wait);
        if self.rng.random() {
            self.after_up_to(120, act);
            self.once(State::IsWell(FIRST), 8_000, Act::QuietAll(true));
        } else {
            // What comes during the repair is the last to come: nothing would show later that it was forgotten.
            self.after_up_to(600, Act::QuietAll(true));
            self.once(State::IsWell(FIRST), 8_000, Act::Wait);
        }
        self.after(HELD_BY_ALL_WITHIN_MS, Act::Demand(State::HoldsAll(FIRST)));
        self.now(Act::QuietAll(false));
        self.after_up_to(1_000, Act::Wait);
    }

    pub(super) fn power_ahead_of_disk(&mut self) {
        for _ in 0..self.rng.random_range(2..5) {
            let who = if self.rng.random() {
                FIRST
            } else {
                Who::Primary
            };
            let most = Duration::from_millis(self.rng.random_range(100..1_500));
            self.now(Act::Fault(Fault::LogDisk {
                who,
                fault: LogDiskFault::Slow(most),
                lasts: Duration::from_millis(1_500),
            }));
            let down = Duration::from_millis(self.rng.random_range(50..1_500));
            let power = true;
            self.after_up_to(1_200, Act::Fault(Fault::Crash { who, power, down }));
            self.after_up_to(2_000, Act::Wait);
        }
    }

    pub(super) fn one_database_fails(&mut self) {
        let who = match self.rng.random_range(0..3) {
            0 => LEAD,
            1 => FIRST,
            _ => Who::Primary,
        };
        for _ in 0..self.rng.random_range(2..5) {
            let fault = match self.rng.random_range(0..5) {
                0 => FileDiskFault::ReadsFail(300),
                1 => FileDiskFault::SyncsFail(1_000),
                2 => FileDiskFault::Full,
                3 => FileDiskFault::OpensFail(1_000),
                _ => FileDiskFault::WritesFail(1_000),
            };
            self.now(file_disk(who, Some(0), fault));
            if self.rng.random() {
                let crash = self.crash(who, 500);
                self.after_up_to(800, crash);
            }
            self.after_up_to(2_500, Act::Mend(who));
            self.after_up_to(1_500, Act::Wait);
        }
    }

    pub(super) fn narrow_disks(&mut self) {
        let bytes_per_s = NonZeroU64::MIN.saturating_add(self.rng.random_range(2 << 20..12 << 20));
        for who in [LEAD, FIRST, SECOND] {
            self.now(log_disk(who, LogDiskFault::Bandwidth(bytes_per_s)));
        }
        for _ in 0..6 {
            self.after(2_000, Act::Demand(State::LeadsOn(LEAD)));
        }
        for who in [LEAD, FIRST, SECOND] {
            self.now(Act::Mend(who));
        }
    }

    pub(super) fn hanging_disk(&mut self) {
        // A primary, a follower, or one that is about to be elected.
        let kind = self.rng.random_range(0..3);
        let who = if kind == 0 { LEAD } else { FIRST };
        if kind == 2 {
            self.now(transfer(FIRST));
            self.once(State::HandingOver, 3_000, Act::Wait);
            self.after_up_to(60, log_disk(who, LogDiskFault::Hangs));
        } else {
            self.now(log_disk(who, LogDiskFault::Hangs));
        }
        self.once(State::SaysThatItHangs(who), 8_000, Act::Wait);
        if kind == 1 {
            self.after_up_to(3_000, Act::Demand(State::LeadsOn(LEAD)));
        } else {
            self.after(GIVEN_WAY_WITHIN_MS, Act::Demand(State::IsDeposed(who)));
        }
        if self.rng.random() {
            let crash = self.crash(who, 2_000);
            self.after_up_to(1_000, crash);
        }
        self.after_up_to(1_000, Act::Mend(who));
        self.after_up_to(2_000, Act::Wait);
    }

    pub(super) fn full_streams(&mut self) {
        for to in [SECOND, LEAD, SECOND] {
            let most = Duration::from_millis(self.rng.random_range(200..1_500));
            self.now(log_disk(FIRST, LogDiskFault::Slow(most)));
            self.after_up_to(1_500, transfer(to));
            self.after_up_to(1_000, Act::Mend(FIRST));
            self.after_up_to(500, Act::Wait);
        }
        self.now(Act::QuietAll(true));
        self.after(HELD_BY_ALL_WITHIN_MS, Act::Demand(State::HoldsAll(FIRST)));
        self.now(Act::QuietAll(false));
    }

    /// Kill, power loss or an orderly end, until a later scene starts it.
    fn crash_or_restart(&mut self, who: Who) -> Fault {
        let down = FOR_LONG;
        match self.rng.random_range(0..3) {
            0 => Fault::Restart { who, down },
            kind => Fault::Crash {
                who,
                power: kind == 1,
                down,
            },
        }
    }
}
