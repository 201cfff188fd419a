//! A session that wanders: each call goes to a node of its choice, with the token of the one before.
//!
//! It has one client per node, which cannot connect to any other, and hands the token on by hand, as an application of several processes
//! does. Writes at a follower are handed on to the primary by the follower.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use halite_checks::{Insert, Level, ReadRows};
use halite_client::Client;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::{Session, client_level, set};

/// Nodes it goes to at most: clients that do not reach the primary ask for it often.
const NODES_MAX: usize = 3;

/// Reads, and writes now and then.
pub async fn run(mut session: Session) -> Option<()> {
    let nodes: Vec<u64> = session
        .nodes
        .choose_multiple(&mut session.rng, NODES_MAX)
        .copied()
        .collect();
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    let (mut token, mut newest, mut seq) = (0, 0, 0);
    loop {
        session.pause().await?;
        let node = nodes.choose(&mut session.rng).copied()?;
        let client = match clients.entry(node) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match session.connect_to(node).await {
                Ok(client) => new.insert(client),
                Err(_) => continue,
            },
        };
        client.observe_token(token);
        let database = client
            .database(&session.database)
            .with_level(client_level(Level::Session));
        if session.rng.random_ratio(1, 4) {
            seq += 1;
            let write = session.write(seq);
            let caller = session.caller_at(node, Level::Linearizable);
            let ticket = session.recorder.invoke(caller, Insert { write, parts: 1 });
            let outcome = set::told(set::single(&database, write).await);
            session.recorder.returned(ticket, outcome);
        } else {
            let after = if session.rng.random_ratio(1, 8) {
                0
            } else {
                newest
            };
            let caller = session.caller_at(node, Level::Session);
            let ticket = session.recorder.invoke(caller, ReadRows { after });
            let outcome = set::rows_after(&database, after).await;
            if let Some(row) = outcome.ok().and_then(|rows| rows.last()) {
                newest = row.id;
            }
            session.recorder.returned(ticket, outcome);
        }
        token = client.token().max(token);
    }
}
