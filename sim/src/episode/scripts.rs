//! What happens in each episode.

mod disks;
mod leadership;
mod machines;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::{Act, Name, Scene, State, When};
use crate::fault::{
    DamageFault, Fault, FileDiskFault, LinkFault, LogDiskFault, Machine, MemberFault, NetworkFault,
    Place, Who,
};

/// Longer than any episode: what ends it is a scene.
const FOR_LONG: Duration = Duration::from_secs(60);

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
        Name::ArchiveLoses => script.archive_loses(),
        Name::NarrowDisks => script.narrow_disks(),
        Name::HangingDisk => script.hanging_disk(),
        Name::DiskPutBack => script.disk_put_back(),
        Name::IdUsedAgain => script.id_used_again(),
        Name::FarApart => script.far_apart(),
        Name::CopiedDirectory => script.copied_directory(),
        Name::FullStreams => script.full_streams(),
        Name::VotersForget => script.voters_forget(),
        Name::DiesAtTheGate => script.dies_at_the_gate(),
        Name::AnswersLost => script.answers_lost(),
        Name::SlowSuccessor => script.slow_successor(),
        Name::VoteThenPower => script.vote_then_power(),
        Name::FarHandover => script.far_handover(),
    }
}

struct Script<'a> {
    rng: &'a mut SmallRng,
    clients: u64,
    scenes: &'a mut Vec<Scene>,
}

impl Script<'_> {
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

    fn after(&mut self, pause_ms: u64, act: Act) {
        self.add(When::After(Duration::from_millis(pause_ms)), act);
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

fn log_disk(who: Who, fault: LogDiskFault) -> Act {
    Act::Fault(Fault::LogDisk {
        who,
        fault,
        lasts: FOR_LONG,
    })
}

fn damage(fault: DamageFault) -> Act {
    Act::Fault(Fault::Damage(fault))
}

fn transfer(to: Who) -> Act {
    Act::Fault(Fault::Members(MemberFault::Transfer(Some(to))))
}
