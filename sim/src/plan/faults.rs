//! Which faults there are, and when.
//!
//! A swarm: each seed has only some kinds of faults, so that none of them hides what another would show; some seeds have none.

mod network;

use std::num::NonZeroU64;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use crate::fault::{DamageFault, Fault, FileDiskFault, LogDiskFault, MemberFault, StoreFault, Who};

/// What there is to be drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    /// Nodes 1 to this.
    pub(super) voters: u64,
    /// Clients 1 to this.
    pub(super) clients: u64,
    /// How many databases there are.
    pub(super) databases: usize,
}

/// A family of faults that a seed has or has not.
#[derive(Clone, Copy)]
enum Family {
    Kill,
    PowerLoss,
    PowerCut,
    CrashAll,
    Restart,
    Partition,
    OneWay,
    Flapping,
    Stall,
    Latency,
    Loss,
    ClientsCut,
    LogDiskSlow,
    LogDiskFails,
    LogDiskFull,
    FileDiskFails,
    FileDiskFull,
    Clock,
    Store,
    Transfer,
    Members,
    DamagedLog,
    DamagedPages,
}

const ALL: [Family; 23] = [
    Family::Kill,
    Family::PowerLoss,
    Family::PowerCut,
    Family::CrashAll,
    Family::Restart,
    Family::Partition,
    Family::OneWay,
    Family::Flapping,
    Family::Stall,
    Family::Latency,
    Family::Loss,
    Family::ClientsCut,
    Family::LogDiskSlow,
    Family::LogDiskFails,
    Family::LogDiskFull,
    Family::FileDiskFails,
    Family::FileDiskFull,
    Family::Clock,
    Family::Store,
    Family::Transfer,
    Family::Members,
    Family::DamagedLog,
    Family::DamagedPages,
];

/// Draws the faults of a run of `length`, in order.
pub(super) fn draw(rng: &mut SmallRng, cast: Cast, length: Duration) -> Vec<(Duration, Fault)> {
    let density = *[0.0, 0.1, 0.2, 0.2, 0.4, 0.7].choose(rng).unwrap_or(&0.2);
    let families: Vec<Family> = ALL
        .into_iter()
        .filter(|_| rng.random_bool(density))
        .collect();
    let gap_max = rng.random_range(100..4_000);
    let mut faults = Vec::new();
    let mut at = ms(rng, 100, 3_000);
    while at < length {
        let Some(family) = families.choose(rng) else {
            break;
        };
        faults.push((at, draw_one(rng, cast, *family)));
        at += ms(rng, 10, gap_max);
        if rng.random_ratio(1, 8) {
            // Time to recover in between.
            at += ms(rng, 2_000, 6_000);
        }
    }
    faults
}

fn draw_one(rng: &mut SmallRng, cast: Cast, family: Family) -> Fault {
    let who = draw_who(rng, cast);
    let (down, lasts) = (ms(rng, 10, 4_000), ms(rng, 10, 4_000));
    let log_disk = |fault| Fault::LogDisk { who, fault, lasts };
    // From a copy: what a seed draws after this stays what it was before databases failed alone.
    let mut copy = rng.clone();
    let database = copy
        .random_ratio(1, 3)
        .then(|| copy.random_range(0..cast.databases));
    let file_disk = |fault| Fault::FileDisk {
        who,
        database,
        fault,
        lasts,
    };
    match family {
        Family::Kill | Family::PowerLoss => Fault::Crash {
            who,
            power: matches!(family, Family::PowerLoss),
            down,
        },
        Family::PowerCut => Fault::PowerCut {
            who,
            accesses: 1 << rng.random_range(0..10),
            down,
        },
        Family::CrashAll => Fault::CrashAll {
            power: rng.random(),
            down: (0..5).map(|_| ms(rng, 10, 2_000)).collect(),
        },
        Family::Restart => Fault::Restart { who, down },
        Family::LogDiskSlow => {
            let slow = LogDiskFault::Slow(ms(rng, 1, 600));
            // From a copy: what a seed draws after this stays what it was before disks were narrow or hung.
            let mut copy = rng.clone();
            log_disk(match copy.random_range(0..3) {
                0 => LogDiskFault::Hangs,
                1 => LogDiskFault::Bandwidth(draw_bandwidth(&mut copy)),
                _ => slow,
            })
        }
        Family::LogDiskFails if rng.random() => {
            log_disk(LogDiskFault::WritesFail(rng.random_range(1..300)))
        }
        Family::LogDiskFails => log_disk(LogDiskFault::SyncsFail(rng.random_range(1..300))),
        Family::LogDiskFull => log_disk(LogDiskFault::Full),
        Family::FileDiskFails => file_disk(draw_file_disk_fault(rng)),
        Family::FileDiskFull => file_disk(FileDiskFault::Full),
        Family::Clock => Fault::ClockJump {
            who,
            by_ms: rng.random_range(-10_000_000..10_000_000),
        },
        Family::Store => Fault::Store {
            fault: draw_store_fault(rng),
            lasts,
        },
        Family::Transfer => {
            Fault::Members(MemberFault::Transfer(rng.random::<bool>().then_some(who)))
        }
        Family::Members => Fault::Members(match rng.random_range(0..8) {
            0 | 1 => MemberFault::Add { voter: false },
            2 | 3 => MemberFault::Add { voter: true },
            4 | 5 => MemberFault::Remove(who),
            _ => MemberFault::Replace(who),
        }),
        Family::DamagedLog => Fault::Damage(DamageFault::Log {
            who,
            down: rng.random::<bool>().then_some(down),
        }),
        Family::DamagedPages => Fault::Damage(DamageFault::Pages {
            who,
            bits: 1 << rng.random_range(0..5),
            down,
        }),
        network => Fault::Network(network::draw(rng, cast, network, lasts)),
    }
}

/// From a disk on which a batch of the log takes a second to one that nobody notices.
fn draw_bandwidth(rng: &mut SmallRng) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(3 << rng.random_range(20..25))
}

fn draw_file_disk_fault(rng: &mut SmallRng) -> FileDiskFault {
    let rate = *[2, 20, 200, 1000].choose(rng).unwrap_or(&20);
    match rng.random_range(0..3) {
        0 => FileDiskFault::ReadsFail(rate),
        1 => FileDiskFault::WritesFail(rate),
        _ => FileDiskFault::SyncsFail(rate),
    }
}

fn draw_store_fault(rng: &mut SmallRng) -> StoreFault {
    let rate = rng.random_range(50..1_000);
    match rng.random_range(0..4) {
        0 => StoreFault::Slow(ms(rng, 1, 3_000)),
        1 => StoreFault::Unavailable(rate),
        2 => StoreFault::UnavailableAfterEffect(rate),
        _ => StoreFault::TimesOut(rate, ms(rng, 1, 3_000)),
    }
}

fn draw_who(rng: &mut SmallRng, cast: Cast) -> Who {
    if rng.random_ratio(1, 3) {
        Who::Primary
    } else {
        // Sometimes one that has come later, if there is one.
        let later = if rng.random_ratio(1, 6) { 3 } else { 0 };
        Who::Node(rng.random_range(1..=cast.voters + later))
    }
}

/// From `least` to `most` milliseconds.
fn ms(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most.max(least)))
}
