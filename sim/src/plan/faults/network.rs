//! Faults of the network.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::{Cast, Family, draw_who, ms};
use crate::fault::{LinkFault, Machine, NetworkFault, Place, Who};

/// Draws one of a family.
pub(super) fn draw(
    rng: &mut SmallRng,
    cast: Cast,
    family: Family,
    lasts: Duration,
) -> NetworkFault {
    let (place, stalls) = match family {
        Family::ClientsCut => (draw_clients(rng, cast), None),
        Family::Stall => draw_stall(rng, cast),
        _ => (draw_side(rng, cast), None),
    };
    let what = match family {
        Family::OneWay if rng.random() => LinkFault::CutIn,
        Family::OneWay => LinkFault::CutOut,
        Family::Stall => LinkFault::Hold,
        Family::Latency => LinkFault::Latency(ms(rng, 20, 600)),
        Family::Loss => LinkFault::Loss(1 << rng.random_range(3..11)),
        _ => LinkFault::Cut,
    };
    let flaps = match family {
        Family::Flapping => Some(ms(rng, 20, 800)),
        _ => stalls,
    };
    NetworkFault {
        place,
        what,
        flaps,
        lasts,
    }
}

/// A node that looks stopped to everybody; or one that some clients still reach, so that it serves while answers of the others are
/// under way to it, and that may come and go.
fn draw_stall(rng: &mut SmallRng, cast: Cast) -> (Place, Option<Duration>) {
    let mut place = Place {
        nodes: vec![draw_who(rng, cast)],
        ..Place::default()
    };
    // From a copy: what a seed draws after this stays what it was before there were clients here.
    let mut rng = rng.clone();
    if rng.random() {
        return (place, None);
    }
    add_clients(&mut rng, cast, &mut place);
    let flaps = rng.random::<bool>().then(|| ms(&mut rng, 200, 1_200));
    (place, flaps)
}

/// Nodes, mostly the primary alone, and clients on their side; some clients reach both sides.
fn draw_side(rng: &mut SmallRng, cast: Cast) -> Place {
    let nodes = if rng.random_ratio(1, 3) {
        vec![Who::Primary]
    } else {
        let mut nodes: Vec<Who> = (1..=cast.voters)
            .filter(|_| rng.random())
            .map(Who::Node)
            .collect();
        if nodes.is_empty() {
            nodes.push(draw_who(rng, cast));
        }
        nodes
    };
    let mut place = Place {
        nodes,
        ..Place::default()
    };
    add_clients(rng, cast, &mut place);
    place
}

/// Each client is inside, outside, or reaches both sides.
fn add_clients(rng: &mut SmallRng, cast: Cast, place: &mut Place) {
    for client in 1..=cast.clients {
        match rng.random_range(0..3) {
            0 => {
                place.clients.insert(client);
            }
            1 => {
                place.between.insert(Machine::Client(client));
            }
            _ => {}
        }
    }
}

/// Clients without nodes: cut off from all of those, or from some.
fn draw_clients(rng: &mut SmallRng, cast: Cast) -> Place {
    let clients: BTreeSet<u64> = (1..=cast.clients).filter(|_| rng.random()).collect();
    let between: BTreeSet<Machine> = if rng.random() {
        (1..=cast.voters)
            .filter(|_| rng.random())
            .map(Machine::Node)
            .collect()
    } else {
        BTreeSet::new()
    };
    Place {
        nodes: Vec::new(),
        clients,
        between,
    }
}
