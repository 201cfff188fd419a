//! A real Raft, of one node, on the store: what openraft does when the disk fails, and that it comes back.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use halite_log::{FlushFate, LogStore, MemDisk, Member, Payload, TypeConfig};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, Config, OptionalSend, Raft};

use crate::suite::Machine;
use crate::support::{DEADLINE, TestDisk, run};

/// A network without peers.
struct Nobody;

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error("there are no peers"))
}

impl RaftNetworkFactory<TypeConfig> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _target: u64, _node: &Member) -> Self {
        Self
    }
}

impl RaftNetworkV2<TypeConfig> for Nobody {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}

type TestRaft = Raft<TypeConfig, Machine>;

async fn start(store: &LogStore) -> (TestRaft, Machine) {
    let config = Config {
        heartbeat_interval: 50,
        election_timeout_min: 150,
        election_timeout_max: 300,
        ..Config::default()
    };
    let machine = Machine::default();
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(1, config, Nobody, store.clone(), machine.clone())
        .await
        .unwrap();
    (raft, machine)
}

async fn lead(raft: &TestRaft) {
    raft.wait(Some(DEADLINE))
        .metrics(|m| m.current_leader == Some(1), "leads")
        .await
        .unwrap();
}

fn payload(number: u64) -> Payload {
    Payload(Bytes::from(number.to_le_bytes().to_vec()))
}

#[test]
fn raft_writes_and_restarts_on_both_disks() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let (raft, machine) = start(&store).await;
            let member = Member {
                addr: "127.0.0.1:1".into(),
                name: "one".into(),
            };
            raft.initialize(std::collections::BTreeMap::from([(1, member)]))
                .await
                .unwrap();
            lead(&raft).await;
            let mut last = 0;
            for i in 0..20 {
                last = raft.client_write(payload(i)).await.unwrap().log_id.index;
            }
            assert_eq!(Some(last), machine.applied().map(|id| id.index));
            assert!(
                *store.flushed().borrow() >= Some(last),
                "a cluster of one answered before its only disk"
            );
            raft.shutdown().await.unwrap();
            store.close().await.unwrap();

            let store = disk.open();
            let (raft, machine) = start(&store).await;
            lead(&raft).await;
            let after = raft.client_write(payload(99)).await.unwrap().log_id.index;
            assert!(after > last);
            assert_eq!(Some(after), machine.applied().map(|id| id.index));
            raft.shutdown().await.unwrap();
        }
    });
}

#[test]
fn full_disk_stops_raft_and_a_new_one_runs_after_recovery() {
    run(async {
        let disk = MemDisk::new();
        let store = LogStore::open_memory(&disk, Default::default()).unwrap();
        let (raft, _) = start(&store).await;
        raft.initialize(std::collections::BTreeMap::from([(1, Member::default())]))
            .await
            .unwrap();
        lead(&raft).await;
        let kept = raft.client_write(payload(1)).await.unwrap().log_id.index;

        disk.set_faults(|_| FlushFate::WriteFails(io::ErrorKind::StorageFull));
        let error = raft.client_write(payload(2)).await.unwrap_err();
        assert!(error.fatal().is_some(), "{error}");
        // The core is gone already; this waits for its tasks.
        let _ = raft.shutdown().await;

        disk.set_faults(|_| FlushFate::Done {
            delay: Duration::from_millis(1),
        });
        store.recover().await.unwrap();
        let (raft, machine) = start(&store).await;
        lead(&raft).await;
        let index = raft.client_write(payload(3)).await.unwrap().log_id.index;
        assert!(index > kept);
        assert_eq!(Some(index), machine.applied().map(|id| id.index));
        raft.shutdown().await.unwrap();
    });
}
