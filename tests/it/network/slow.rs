//! A network that is late or narrow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_tests::cluster::TestCluster;
use halite_tests::load::LoadOptions;
use halite_tests::proxy::Conditions;

use super::{Networked, run};

/// How long one write takes.
async fn write_takes(cluster: &TestCluster) -> Result<Duration> {
    let app = cluster.ops().database("app");
    let replace = "REPLACE INTO big (writer, seq, value) VALUES (-2, ?1, x'00')";
    let began = Instant::now();
    app.execute(replace, params![1]).await?;
    Ok(began.elapsed())
}

#[test]
fn writes_take_one_round_trip_of_a_slow_network_and_nobody_is_unseated() {
    run("slow-network", async |scratch| {
        let net = Networked::start(scratch, LoadOptions::new(21)).await?;
        let (primary, _) = net.roles().await?;
        let term = net.cluster.node_status(primary).await?.term;
        let delay = Duration::from_millis(30);
        let jitter = Duration::from_millis(10);
        net.proxy.set_all(Conditions::delayed(delay, jitter));
        net.load.grown(100).await?;
        let took = write_takes(&net.cluster).await?;
        ensure!(
            took >= delay * 2,
            "a write took {took:?}: not every one goes through a quorum"
        );
        net.still_leads(primary, term).await?;
        net.end().await
    });
}

#[test]
fn a_primary_that_nobody_writes_to_keeps_its_role_over_a_slow_network() {
    run("idle-slow-network", async |scratch| {
        let net = Networked::start(scratch, LoadOptions::new(25)).await?;
        let quiet = net.load.pause().await;
        let (primary, _) = net.roles().await?;
        let term = net.cluster.node_status(primary).await?.term;
        // A round trip takes longer than the pause between two heartbeats.
        let (delay, jitter) = (Duration::from_millis(35), Duration::from_millis(10));
        net.proxy.set_all(Conditions::delayed(delay, jitter));
        let app = net.cluster.ops().database("app");
        for n in 0..8 {
            // Longer than the election timeout, and nothing but heartbeats meanwhile.
            tokio::time::sleep(Duration::from_millis(600)).await;
            let read = app.query("SELECT count(*) FROM log", params![]).await;
            read.with_context(|| format!("after pause {n}"))?;
        }
        net.still_leads(primary, term).await?;
        drop(quiet);
        net.end().await
    });
}

#[test]
fn a_network_slower_than_the_elections_loses_and_doubles_nothing() {
    run("very-slow-network", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(22)).await?;
        for round in 0..4 {
            let (primary, others) = net.roles().await?;
            // Old news arrives long after others lead: appends, votes and answers of terms that are over.
            let late = Conditions::delayed(Duration::from_millis(300), Duration::from_millis(900));
            for other in others {
                net.proxy.set(primary, other, late);
                if round % 2 == 1 {
                    net.proxy.set(other, primary, late);
                }
            }
            net.cluster.look_away_from(&[primary]);
            net.load.grown(30).await?;
            net.heal().await?;
        }
        net.end().await
    });
}

#[test]
fn a_primary_whose_links_are_too_slow_makes_room_for_another() {
    run("late-primary", async |scratch| {
        let mut net = Networked::start(scratch, LoadOptions::new(24)).await?;
        let (old, others) = net.roles().await?;
        // Its links become slower little by little, so that its heartbeats come as regularly as ever: nobody has a reason to call an election.
        for delay_ms in (50..=600).step_by(50) {
            let late = Conditions::delayed(Duration::from_millis(delay_ms), Duration::ZERO);
            for other in others {
                net.proxy.set(old, other, late);
                net.proxy.set(other, old, late);
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        net.cluster.look_away_from(&[old]);
        let next = net.cluster.primary().await?;
        ensure!(
            next != old,
            "node {old} leads on over links too slow for it"
        );
        net.load.grown(100).await?;
        net.heal().await?;
        net.end().await
    });
}

#[test]
fn big_values_over_a_narrow_network_unseat_nobody() {
    run("narrow-network", async |scratch| {
        let options = LoadOptions {
            writers: 3,
            big_percent: 0,
            ..LoadOptions::new(23)
        };
        let mut net = Networked::start(scratch, options).await?;
        let (primary, _) = net.roles().await?;
        let term = net.cluster.node_status(primary).await?.term;
        net.proxy.set_all(Conditions::narrow(4 << 20));
        let app = net.cluster.ops().database("app");
        for n in 0..2 {
            let began = Instant::now();
            app.with_timeout(Duration::from_secs(20))
                .execute(
                    "REPLACE INTO big (writer, seq, value) VALUES (-3, ?1, randomblob(?2))",
                    params![n, 2 << 20],
                )
                .await?;
            let took = began.elapsed();
            ensure!(
                took > Duration::from_millis(400),
                "2 MiB went through 4 MiB/s in {took:?}"
            );
        }
        net.still_leads(primary, term).await?;
        net.load.grown(20).await?;
        net.heal().await?;
        net.end().await
    });
}
