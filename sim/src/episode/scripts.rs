//! What happens in each episode.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::{Act, FIRST, LEAD, Name, SECOND, Scene, State, When};
use crate::fault::{
    DamageFault, Fault, FileDiskFault, LinkFault, LogDiskFault, Machine, MemberFault, NetworkFault,
    Place, StoreFault, Who,
};

/// Longer than any episode: what ends it is a scene.
const FOR_LONG: Duration = Duration::from_secs(60);

/// So many that some lie in pages which no entry of the log touches: a redo writes over the others.
const DAMAGED_BITS: u32 = 100;

/// Adds the scenes of an episode.
pub(super) fn write(name: Name, rng: &mut SmallRng, clients: u64, scenes: &mut Vec<Scene>) {
    let mut script = Script {
        rng,
        clients,
        scenes,
    };
    match name {
        Name::UnwellThenLeads => script.unwell_then_leads(),
        Name::StaleSide => script.stale_side(),
        Name::DiffIntoTail => script.diff_into_tail(),
        Name::UnfinishedDiff => script.unfinished_diff(),
        Name::ChunksCut => script.chunks_cut(),
        Name::TransferCut => script.transfer_cut(),
        Name::LeadsInRepair => script.leads_in_repair(),
        Name::PowerAheadOfDisk => script.power_ahead_of_disk(),
        Name::TailThenRestart => script.tail_then_restart(),
        Name::Defaults => script.after_up_to(5_000, Act::Wait),
        Name::OneDatabaseFails => script.one_database_fails(),
        Name::ArchiveAway => script.archive_away(),
    }
}

struct Script<'a> {
    rng: &'a mut SmallRng,
    clients: u64,
    scenes: &'a mut Vec<Scene>,
}

impl Script<'_> {
    fn unwell_then_leads(&mut self) {
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
        self.after_up_to(3_000, Act::Quiet(0, false));
    }

    fn stale_side(&mut self) {
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

    fn diff_into_tail(&mut self) {
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

    fn unfinished_diff(&mut self) {
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

    fn chunks_cut(&mut self) {
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

    fn transfer_cut(&mut self) {
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

    fn leads_in_repair(&mut self) {
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
        self.after_up_to(120, act);
        self.after_up_to(3_000, Act::Wait);
    }

    fn power_ahead_of_disk(&mut self) {
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

    fn tail_then_restart(&mut self) {
        let place = self.side_of(LEAD);
        self.now(network(place, LinkFault::Cut, FOR_LONG));
        self.once(State::HasTail(LEAD), 3_000, Act::Wait);
        self.once(State::IsDeposed(LEAD), 4_000, Act::Wait);
        self.after_up_to(300, Act::Reconnect);
        let crash = self.crash(LEAD, 500);
        self.once(State::TailReplaced(LEAD), 3_000, crash);
        self.after_up_to(1_500, Act::Wait);
    }

    fn one_database_fails(&mut self) {
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

    fn archive_away(&mut self) {
        let lasts = Duration::from_millis(self.rng.random_range(1_500..5_000));
        self.now(Act::Fault(Fault::Store {
            fault: StoreFault::Unavailable(1_000),
            lasts,
        }));
        self.after_up_to(lasts.as_millis() as u64, Act::Wait);
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

    /// Kill or power loss, and back in up to `most_ms`.
    fn crash(&mut self, who: Who, most_ms: u64) -> Act {
        Act::Fault(Fault::Crash {
            who,
            power: self.rng.random(),
            down: Duration::from_millis(self.rng.random_range(50..=most_ms)),
        })
    }

    /// A node with some of the clients; some others reach both sides.
    fn side_of(&mut self, who: Who) -> Place {
        let mut place = only(who);
        for client in 1..=self.clients {
            match self.rng.random_range(0..3) {
                0 => {
                    place.clients.insert(client);
                }
                1 => {
                    place.between.insert(Machine::Client(client));
                }
                _ => {}
            }
        }
        place
    }

    fn now(&mut self, act: Act) {
        self.add(When::After(Duration::ZERO), act);
    }

    fn after_up_to(&mut self, most_ms: u64, act: Act) {
        let pause = Duration::from_millis(self.rng.random_range(0..=most_ms));
        self.add(When::After(pause), act);
    }

    fn once(&mut self, state: State, within_ms: u64, act: Act) {
        self.add(When::Once(state, Duration::from_millis(within_ms)), act);
    }

    fn add(&mut self, when: When, act: Act) {
        self.scenes.push(Scene { when, act });
    }
}

fn only(who: Who) -> Place {
    Place {
        nodes: vec![who],
        clients: BTreeSet::new(),
        between: BTreeSet::new(),
    }
}

fn network(place: Place, what: LinkFault, lasts: Duration) -> Act {
    Act::Fault(Fault::Network(NetworkFault {
        place,
        what,
        flaps: None,
        lasts,
    }))
}

fn file_disk(who: Who, database: Option<usize>, fault: FileDiskFault) -> Act {
    Act::Fault(Fault::FileDisk {
        who,
        database,
        fault,
        lasts: FOR_LONG,
    })
}

fn transfer(to: Who) -> Act {
    Act::Fault(Fault::Members(MemberFault::Transfer(Some(to))))
}
