//! Partitions as they really are: packets vanish. Needs root; elsewhere the tests say so and pass.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::TestCluster;
use halite_tests::direct::DirectNode;
use halite_tests::load::{Load, LoadOptions, after_healing};
use halite_tests::netns::{Netns, expect_nothing_left};
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight};

/// Three nodes in namespaces of their own, under load.
struct Separate {
    load: Load,
    cluster: TestCluster,
    network: Netns,
}

impl Separate {
    async fn start(scratch: &Scratch, network: Netns, seed: u64) -> Result<Self> {
        let cluster = TestCluster::start(scratch, |options| network.configure(options)).await?;
        let load = Load::start(&cluster, LoadOptions::new(seed)).await?;
        load.grown(50).await?;
        Ok(Self {
            load,
            cluster,
            network,
        })
    }

    /// The others elect, serve and keep every promise while a node is away.
    async fn others_take_over(&mut self, alone: u64) -> Result<()> {
        self.cluster.look_away_from(&[alone]);
        let next = self.cluster.primary().await.context("on the other side")?;
        ensure!(next != alone);
        self.load.grown(60).await.context("on the other side")?;
        ensure!(
            self.network.dropped(alone)? > 0 || self.dropped_by_others(alone)? > 0,
            "no packet was dropped: this was no partition"
        );
        Ok(())
    }

    fn dropped_by_others(&self, alone: u64) -> Result<u64> {
        let others = self.cluster.ids().into_iter().filter(|id| *id != alone);
        others.map(|id| self.network.dropped(id)).sum()
    }

    /// A client that shares a node's side of the partition, and a caller of that node alone, are told nothing that needs a quorum.
    async fn side_serves_nothing(&self, id: u64) -> Result<()> {
        let addr = self.cluster.local.node(id).addr.clone();
        let node = DirectNode::new(&addr, std::time::Duration::from_secs(2))?;
        let (mut reader, mut writer) = (node.clone(), node);
        let (read, written, local) = tokio::join!(
            reader.integers(
                "app",
                "SELECT count(*) FROM log",
                &[],
                ReadLevel::Linearizable
            ),
            writer.write("app", "REPLACE INTO big VALUES (-1, ?1, x'00')", &[7]),
            self.clients_on_the_side_of(id),
        );
        ensure!(read.is_err(), "it answered a linearizable read: {read:?}");
        ensure!(written.is_err(), "it acknowledged a write");
        local
    }

    /// The program itself, in the node's namespace: it reaches this node and no other.
    async fn clients_on_the_side_of(&self, id: u64) -> Result<()> {
        let addr = self.cluster.local.node(id).addr.clone();
        let launcher = self.network.launcher(id);
        let call = move |level: &'static str, sql: &'static str| {
            let mut command = Command::new(&launcher[0]);
            // A client that waits for a primary gives up late; who was told nothing by then was not told yes.
            command.args(&launcher[1..]).args(["timeout", "3"]);
            command
                .arg(program::halite())
                .args(["--addr", &addr, "sql"]);
            command.args(["--db", "app", "--level", level, sql]);
            command.env("NO_COLOR", "1").output()
        };
        let call = |level, sql| {
            let call = call.clone();
            tokio::task::spawn_blocking(move || call(level, sql))
        };
        let (read, written, own) = tokio::try_join!(
            call("linearizable", "SELECT count(*) FROM log"),
            call("session", "REPLACE INTO big VALUES (-1, 1, x'00')"),
            // What a node holds itself it still shows.
            call("local", "SELECT count(*) FROM log"),
        )?;
        let (read, written, own) = (read?, written?, own?);
        ensure!(!read.status.success(), "{}", program::text(&read));
        ensure!(!written.status.success(), "{}", program::text(&written));
        ensure!(own.status.success(), "{}", program::text(&own));
        Ok(())
    }

    async fn heal(&mut self) -> Result<()> {
        self.network.heal()?;
        after_healing(&mut self.cluster, &self.load).await
    }

    async fn end(mut self) -> Result<()> {
        self.heal().await?;
        self.load.stop().await;
        Ok(())
    }
}

fn run(name: &str, seed: u64, body: impl AsyncFnOnce(Separate) -> Result<()>) {
    halite_tests::scratch::run(name, Weight::Heavy, async |scratch| {
        let Some(network) = Netns::create(3)? else {
            return Ok(());
        };
        body(Separate::start(scratch, network, seed).await?).await?;
        expect_nothing_left()
    });
}

#[test]
fn a_primary_whose_packets_vanish_serves_nothing_on_its_side_and_the_other_side_goes_on() {
    run("netns-primary", 41, async |mut net| {
        for _ in 0..2 {
            let old = net.cluster.primary().await?;
            net.network.isolate(old)?;
            net.others_take_over(old).await?;
            net.side_serves_nothing(old).await?;
            net.load.verify(&net.cluster).await.context("meanwhile")?;
            net.heal().await?;
        }
        net.end().await
    });
}

#[test]
fn a_follower_whose_packets_vanish_holds_nobody_up() {
    run("netns-follower", 42, async |mut net| {
        let primary = net.cluster.primary().await?;
        let follower = net.cluster.follower().await?;
        net.network.isolate(follower)?;
        net.load.grown(200).await?;
        net.side_serves_nothing(follower).await?;
        net.heal().await?;
        ensure!(net.cluster.primary().await? == primary, "it was unseated");
        net.end().await
    });
}

#[test]
fn packets_that_vanish_in_one_direction_move_the_primary() {
    run("netns-one-way", 43, async |mut net| {
        for primary_is_mute in [true, false] {
            let old = net.cluster.primary().await?;
            for other in net.cluster.ids().into_iter().filter(|id| *id != old) {
                if primary_is_mute {
                    net.network.cut(old, other)?;
                } else {
                    net.network.cut(other, old)?;
                }
            }
            net.others_take_over(old).await?;
            net.side_serves_nothing(old).await?;
            net.heal().await?;
        }
        net.end().await
    });
}

#[test]
fn a_primary_whose_large_packets_vanish_makes_room() {
    run("netns-large", 45, async |mut net| {
        let old = net.cluster.primary().await?;
        // Its heartbeats pass: nobody misses it.
        net.network.lose_large(old, 400)?;
        net.others_take_over(old).await?;
        net.load.verify(&net.cluster).await.context("meanwhile")?;
        net.end().await
    });
}

#[test]
fn a_network_that_loses_and_delays_packets_keeps_every_promise() {
    run("netns-loss", 44, async |mut net| {
        net.network.lose(5)?;
        net.load.grown(150).await?;
        ensure!(net.dropped_by_others(0)? > 0, "no packet was lost");
        net.heal().await?;
        let mut delayed = true;
        for id in net.cluster.ids() {
            delayed = delayed && net.network.delay(id, 20, 15)?;
        }
        if delayed {
            net.load.grown(100).await?;
        }
        net.end().await
    });
}

#[test]
fn a_panic_leaves_no_namespace_behind() {
    halite_tests::scratch::run("netns-panic", Weight::Heavy, async |_| {
        let panicked = std::panic::catch_unwind(|| {
            let network = Netns::create(2).expect("namespaces");
            if network.is_some() {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        });
        if panicked.is_ok() {
            return Ok(());
        }
        expect_nothing_left()
    });
}
