//! Members come, are promoted, lead and go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Client, ErrorKind, ReadLevel, Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

async fn add(cluster: &mut TestCluster, id: u64) -> Result<()> {
    cluster.local.start_joining(id)?;
    let addr = cluster.local.node(id).addr.clone();
    let admin = cluster.ops().admin();
    wait::until("the node is added", PATIENCE, async || {
        admin.add_member(id, &addr).await
    })
    .await?;
    Ok(())
}

#[test]
fn a_blank_node_joins_under_load_catches_up_votes_and_leads() {
    run("join", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(1)).await?;
        add(&mut cluster, 4).await?;
        wait::until("it is a learner", PATIENCE, async || {
            match cluster.node_status(4).await.map(|s| s.role()) {
                Ok(Role::Learner) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let admin = cluster.ops().admin();
        wait::until("it is promoted", PATIENCE, async || {
            admin.promote_member(4).await
        })
        .await?;
        let led = admin.transfer_leadership(Some(4)).await?;
        ensure!(led == 4, "node {led} leads");
        {
            let _paused = load.pause().await;
            cluster.primary().await?;
            cluster.check_same("app").await?;
            load.check(&cluster, 4)?;
        }
        load.stop().await;
        Ok(())
    });
}

#[test]
fn a_removed_node_stops_serving_and_disturbs_nobody() {
    run("removed", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        add(&mut cluster, 4).await?;
        let admin = cluster.ops().admin();
        wait::until("it is promoted", PATIENCE, async || {
            admin.promote_member(4).await
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let leader = cluster.primary().await?;
        let addr = cluster.local.node(4).addr.clone();
        if leader == 4 {
            admin.transfer_leadership(Some(1)).await?;
        }
        admin.remove_member(4).await?;
        let term = cluster.node_status(cluster.ids()[0]).await?.term;

        let only = Client::connect([addr]).await?.database("app");
        wait::until("it serves nothing", PATIENCE, async || {
            let read = only
                .with_level(ReadLevel::Local)
                .with_timeout(Duration::from_secs(1))
                .query("SELECT count(*) FROM t", ())
                .await;
            // The client goes on to the members it hears of; what counts is what the node itself says.
            match cluster.node_status(4).await.map(|s| s.role()) {
                Ok(Role::Removed) => Ok(()),
                other => Err(format!("{other:?}, read: {:?}", read.map(|r| r.len()))),
            }
        })
        .await?;
        let mut direct = halite_tests::direct::DirectNode::new(
            &cluster.local.node(4).addr,
            Duration::from_secs(2),
        )?;
        let refused = direct
            .integers(
                "app",
                "SELECT count(*) FROM t",
                &[],
                halite_proto::v1::ReadLevel::Local,
            )
            .await;
        ensure!(refused.is_err(), "a removed node serves reads: {refused:?}");

        // Restarted, it knows from its own disk that it was a voter once; it must not force an election.
        cluster.kill(4)?;
        cluster.restart(4)?;
        for row in 0..200 {
            app.execute("INSERT INTO t VALUES (?1)", params![row])
                .await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = cluster.node_status(cluster.ids()[0]).await?;
        ensure!(
            status.term == term,
            "a removed node disturbed: term {term} became {}",
            status.term
        );
        Ok(())
    });
}

#[test]
fn commands_list_add_promote_transfer_and_remove_members() {
    run("member-commands", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster.local.start_joining(4)?;
        let addr = cluster.local.node(4).addr.clone();
        let via = cluster.local.node(2).addr.clone();
        let halite = async |args: &[&str]| -> Result<String> {
            let args = [&["--addr", &via], args].concat();
            wait::until("the command succeeds", PATIENCE, async || {
                let output = program::run(&args).map_err(|e| e.to_string())?;
                let said = program::text(&output);
                if output.status.success() {
                    Ok(said)
                } else {
                    Err(said)
                }
            })
            .await
        };
        halite(&["member", "add", "4", &addr]).await?;
        halite(&["member", "promote", "4"]).await?;
        let listed = halite(&["member", "list"]).await?;
        ensure!(listed.contains(&addr), "{listed}");
        let said = halite(&["transfer", "--to", "4"]).await?;
        ensure!(said.contains("node 4 leads"), "{said}");
        ensure!(cluster.primary().await? == 4);
        halite(&["transfer", "--to", "1"]).await?;
        halite(&["member", "remove", "4"]).await?;
        let listed = halite(&["member", "list"]).await?;
        ensure!(!listed.contains(&addr), "{listed}");

        let wrong = [
            (vec!["member", "promote", "9"], "not a member"),
            (vec!["transfer", "--to", "9"], "not a voter"),
            (vec!["member", "add", "9", "127.0.0.1:1"], "no node answers"),
        ];
        for (args, expected) in wrong {
            let args = [vec!["--addr", &via], args].concat();
            let output = program::run(&args)?;
            let said = program::text(&output);
            ensure!(
                !output.status.success() && said.contains(expected),
                "{args:?}: {said}"
            );
        }
        Ok(())
    });
}

#[test]
fn the_primary_and_the_last_voter_are_not_removed_by_mistake() {
    run("no-suicide", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let error = cluster
            .ops()
            .admin()
            .remove_member(1)
            .await
            .err()
            .context("the last voter was removed")?;
        ensure!(*error.kind() == ErrorKind::Invalid, "{error:?}");
        Ok(())
    });
}
