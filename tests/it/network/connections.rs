//! Connections that end, with and without a word.

use anyhow::ensure;
use halite_tests::load::LoadOptions;

use super::{Networked, run};

#[test]
fn connections_that_are_reset_again_and_again_are_made_again() {
    run("resets", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(31)).await?;
        let mut reset = 0;
        for round in 0..25 {
            reset += net.proxy.reset_connections();
            net.load.grown(10).await?;
            if round % 8 == 7 {
                net.load.verify(&net.cluster).await?;
            }
        }
        ensure!(reset >= 50, "only {reset} connections were reset");
        net.heal().await?;
        net.end().await
    });
}

#[test]
fn connections_that_die_without_a_word_are_noticed_and_made_again() {
    run("lost-connections", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(32)).await?;
        for _ in 0..4 {
            let lost = net.proxy.lose_connections();
            ensure!(lost > 0, "there was nothing to lose");
            net.cluster.primary().await?;
            net.load.grown(60).await?;
            net.load.verify(&net.cluster).await?;
        }
        net.heal().await?;
        net.end().await
    });
}
