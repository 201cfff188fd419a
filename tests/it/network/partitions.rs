//! Nodes that cannot reach each other, in one direction or in both.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::PATIENCE;
use halite_tests::load::LoadOptions;
use halite_tests::proxy::Conditions;
use halite_tests::wait;

use super::{Networked, answers_nothing, run};

/// Waits until the two others have a primary of their own, which serves.
async fn others_take_over(net: &mut Networked, alone: u64) -> Result<()> {
    net.cluster.look_away_from(&[alone]);
    let next = net.cluster.primary().await.context("on the other side")?;
    ensure!(next != alone);
    net.load.grown(60).await.context("on the other side")
}

#[test]
fn a_primary_cut_off_from_all_serves_nothing_and_the_others_take_over() {
    run("isolated-primary", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(11)).await?;
        for _ in 0..2 {
            let (old, _) = net.roles().await?;
            net.proxy.isolate(old);
            others_take_over(&mut net, old).await?;
            answers_nothing(&net.cluster, old).await?;
            net.load.verify(&net.cluster).await.context("meanwhile")?;
            net.heal().await?;
        }
        net.end().await
    });
}

#[test]
fn a_follower_cut_off_from_all_holds_nobody_up_and_unseats_nobody() {
    run("isolated-follower", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(12)).await?;
        let (primary, [follower, _]) = net.roles().await?;
        let term = net.cluster.node_status(primary).await?.term;
        net.proxy.isolate(follower);
        // Several election timeouts: what a lonely node would call elections with.
        net.load.grown(400).await?;
        answers_nothing(&net.cluster, follower).await?;
        net.heal().await?;
        net.still_leads(primary, term).await?;
        net.end().await
    });
}

#[test]
fn three_nodes_that_are_all_apart_serve_nothing_until_they_meet() {
    run("all-apart", async |scratch| {
        let net = Networked::start(scratch, LoadOptions::new(13)).await?;
        net.proxy.set_all(Conditions::cut());
        let nodes = net.cluster.ids();
        // What was answered by the quorum is answered; then nobody is.
        wait::until("all have noticed", PATIENCE, async || {
            for &id in &nodes {
                answers_nothing(&net.cluster, id)
                    .await
                    .map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(())
        })
        .await?;
        let before = net.load.history().newest_acknowledged();
        for &id in &nodes {
            answers_nothing(&net.cluster, id).await?;
        }
        let after = net.load.history().newest_acknowledged();
        ensure!(before == after, "{} rows were acknowledged", after - before);
        net.end().await
    });
}

#[test]
fn a_primary_that_is_heard_but_hears_nothing_gives_way() {
    one_way("deaf-primary", 14, |old, other| (other, old));
}

#[test]
fn a_primary_that_hears_but_is_not_heard_gives_way() {
    one_way("mute-primary", 15, |old, other| (old, other));
}

/// Cuts the way between the primary and each other node, in the one direction that `way` gives: from, to.
fn one_way(name: &str, seed: u64, way: fn(u64, u64) -> (u64, u64)) {
    run(name, async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(seed)).await?;
        let (old, others) = net.roles().await?;
        for other in others {
            let (from, to) = way(old, other);
            net.proxy.set(from, to, Conditions::cut());
        }
        others_take_over(&mut net, old).await?;
        answers_nothing(&net.cluster, old).await?;
        net.end().await
    });
}

#[test]
fn two_nodes_that_lost_sight_of_each_other_go_on_through_the_third() {
    run("partial", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(16)).await?;
        let (primary, [a, b]) = net.roles().await?;
        let term = net.cluster.node_status(primary).await?.term;
        // Two followers do not need each other.
        net.proxy.set_between(a, b, Conditions::cut());
        net.load.grown(60).await?;
        net.heal().await?;
        // The primary and one follower do not see each other, the other one sees both.
        net.proxy.set_between(primary, a, Conditions::cut());
        net.load.grown(400).await?;
        net.heal().await?;
        net.still_leads(primary, term).await?;
        net.end().await
    });
}

#[test]
fn a_primary_whose_network_comes_and_goes_keeps_every_promise() {
    run("flapping", async |scratch| {
        let net = Networked::start(scratch, LoadOptions::new(17)).await?;
        for flap in 0..12 {
            let (primary, _) = net.roles().await?;
            net.proxy.isolate(primary);
            // Around the lease (400 ms) and the election timeout: the fault is its rhythm.
            tokio::time::sleep(Duration::from_millis(100 + 40 * flap)).await;
            net.proxy.heal();
            if flap % 3 == 2 {
                net.load.verify(&net.cluster).await?;
            }
        }
        net.end().await
    });
}
