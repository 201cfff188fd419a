//! openraft's own suite for log storages.

use std::io;
use std::sync::Arc;

use futures::{Stream, TryStreamExt};
use halite_log::{Entry, EntryPayload, LogId, LogStore, MemDisk, Reply, TypeConfig};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use parking_lot::Mutex;

use crate::support::{TestDisk, run};

/// The least a state machine can be: it remembers what was applied last, and the membership.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
pub(crate) struct State {
    applied: Option<LogId>,
    membership: StoredMembershipOf<TypeConfig>,
    snapshot: Option<SnapshotMetaOf<TypeConfig>>,
}

impl Machine {
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.state.lock().applied
    }

    fn apply_one(&self, entry: &Entry) {
        let mut state = self.state.lock();
        state.applied = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            state.membership =
                StoredMembershipOf::<TypeConfig>::new(Some(entry.log_id), membership.clone());
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembershipOf<TypeConfig>), io::Error> {
        let state = self.state.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.apply_one(&entry);
            if let Some(responder) = responder {
                responder.send(Reply::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        (): (),
    ) -> Result<(), io::Error> {
        let mut state = self.state.lock();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        let meta = self.state.lock().snapshot.clone();
        Ok(meta.map(|meta| SnapshotOf::<TypeConfig, ()> { meta, snapshot: () }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let mut state = self.state.lock();
        let meta = SnapshotMetaOf::<TypeConfig> {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        };
        state.snapshot = Some(meta.clone());
        Ok(SnapshotOf::<TypeConfig, ()> { meta, snapshot: () })
    }
}

/// A new disk for each test of the suite.
struct Builder {
    rocks: bool,
}

impl StoreBuilder<TypeConfig, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<TypeConfig>> {
        let disk = if self.rocks {
            TestDisk::Rocks(tempfile::tempdir().unwrap())
        } else {
            TestDisk::Memory(MemDisk::new())
        };
        let store = disk.open();
        Ok((Guard { _disk: disk }, store, Machine::default()))
    }
}

/// Keeps the disk until the test is over.
struct Guard {
    _disk: TestDisk,
}

#[test]
fn openraft_suite_passes_on_rocksdb() {
    run(async { Suite::test_all(Builder { rocks: true }).await.unwrap() });
}

#[test]
fn openraft_suite_passes_on_the_simulated_disk() {
    run(async { Suite::test_all(Builder { rocks: false }).await.unwrap() });
}
