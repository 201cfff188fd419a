//! Faults of the network between nodes, under load, through a proxy. After each: everything in [`Load::verify`].

mod connections;
mod mix;
mod partitions;
mod slow;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::load::{Load, LoadOptions, after_healing};
use halite_tests::proxy::Proxy;
use halite_tests::scratch::{Scratch, Weight};
use halite_tests::wait;

pub(crate) use mix::NetworkFault;

/// Longer than the rounds of the node (1 s) take to give up.
const ASKED: Duration = Duration::from_secs(2);

/// Three nodes that reach each other through a proxy, under load.
struct Networked {
    // Dropped in this order: clients, nodes, network.
    load: Load,
    cluster: TestCluster,
    proxy: Proxy,
}

impl Networked {
    async fn start(scratch: &Scratch, options: LoadOptions) -> Result<Self> {
        let proxy = Proxy::start(scratch.dir(), 3).await?;
        let cluster = TestCluster::start(scratch, |options| proxy.configure(options)).await?;
        // Each reaches the others through the proxy; otherwise no fault would be one.
        for from in cluster.ids() {
            for to in cluster.ids().into_iter().filter(|&to| to != from) {
                wait::until("nodes are connected", PATIENCE, async || {
                    match proxy.connections(from, to) {
                        0 if cluster.primary().await.ok() == Some(from) => Err((from, to)),
                        _ => Ok(()),
                    }
                })
                .await?;
            }
        }
        let load = Load::start(&cluster, options).await?;
        load.grown(50).await?;
        Ok(Self {
            load,
            cluster,
            proxy,
        })
    }

    /// The primary and the two others.
    async fn roles(&self) -> Result<(u64, [u64; 2])> {
        let (primary, others) = self.cluster.roles().await?;
        let others = others.try_into().ok().context("three nodes")?;
        Ok((primary, others))
    }

    /// Nobody was elected without need.
    async fn still_leads(&self, primary: u64, term: u64) -> Result<()> {
        let (leads, _) = self.roles().await?;
        let now = self.cluster.node_status(leads).await?.term;
        ensure!(
            (leads, now) == (primary, term),
            "an election for nothing: {primary} led in term {term}, then {leads} in term {now}"
        );
        Ok(())
    }

    /// Ends the faults, and checks everything.
    async fn heal(&mut self) -> Result<()> {
        self.proxy.heal();
        after_healing(&mut self.cluster, &self.load).await
    }

    /// The last checks, without load.
    async fn end(mut self) -> Result<()> {
        self.heal().await?;
        self.load.stop().await;
        let [acknowledged, unknown, failed] = self.load.history().counts();
        eprintln!("{acknowledged} acknowledged, {unknown} unknown, {failed} failed");
        Ok(())
    }
}

fn run(name: &str, body: impl AsyncFnOnce(&Scratch) -> Result<()>) {
    halite_tests::scratch::run(name, Weight::Heavy, body);
}

/// A node without a quorum answers neither a write nor a linearizable read with yes.
async fn answers_nothing(cluster: &TestCluster, id: u64) -> Result<()> {
    let mut node = DirectNode::new(&cluster.local.node(id).addr, ASKED)?;
    let mut writer = node.clone();
    let (read, written) = tokio::join!(
        node.integers(
            "app",
            "SELECT count(*) FROM log",
            &[],
            ReadLevel::Linearizable
        ),
        writer.write("app", "REPLACE INTO big VALUES (-1, ?1, x'00')", &[7]),
    );
    ensure!(
        read.is_err(),
        "node {id} answered a linearizable read without a quorum: {read:?}"
    );
    ensure!(
        written.is_err(),
        "node {id} acknowledged a write without a quorum"
    );
    Ok(())
}
