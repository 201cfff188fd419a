//! Tends the databases that are shut or leaving: opens them when they are due, removes the files of dropped ones.
//!
//! One task. A database that is slow to open or to close holds up no other. When the node stops, it ends what it has begun.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::info;

use super::opening::{close, open};
use super::slot::Action;
use crate::cluster::state_machine::Shared;

pub(crate) async fn run(shared: Arc<Shared>) {
    let databases = &shared.databases;
    let mut stopping = databases.stopping();
    let mut under_way = FuturesUnordered::new();
    while !*stopping.borrow() {
        // Each is marked as under way when it is first looked at, below.
        for action in databases.due() {
            under_way.push(act(&shared, action));
        }
        tokio::select! {
            biased;
            Some(()) = under_way.next() => {}
            () = databases.wake.notified() => {}
            // An error means that the node is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = until(databases.next_due()) => {}
        }
    }
    while under_way.next().await.is_some() {}
}

async fn act(shared: &Arc<Shared>, action: Action) {
    match action {
        Action::Open(id) => open(shared, id).await,
        Action::Remove(id) => remove(shared, id).await,
    }
}

/// Closes a dropped database and removes its files.
pub(super) async fn remove(shared: &Arc<Shared>, id: u64) {
    let databases = &shared.databases;
    let Some((database, held)) = databases.begin_removal(id) else {
        return;
    };
    if let Some(held) = held {
        close(shared, &held).await;
        databases.closed(id);
    }
    match shared.opener.delete(&database).await {
        Ok(()) => {
            info!(database = %database.name, id, "dropped database removed");
            databases.removed(id);
        }
        Err(error) => databases.removal_failed(id, error.to_string()),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
