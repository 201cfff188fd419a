//! Members come, are promoted, lead and go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Client, ErrorKind, ReadLevel, Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

#[test]
fn a_blank_node_joins_under_load_catches_up_votes_and_leads() {
    run("join", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(1)).await?;
        cluster.join(4).await?;
        wait::until("it is a learner", PATIENCE, async || {
            match cluster.node_status(4).await.map(|s| s.role()) {
                Ok(Role::Learner) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        cluster.promote(4).await?;
        cluster.lead(4).await?;
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

/// A node says that it was removed, in its status and in its log from `from` on, and not that it waits to be added.
async fn removed_says_so(cluster: &TestCluster, id: u64, from: usize) -> Result<()> {
    wait::until("the removed node says so", PATIENCE, async || {
        let said = |error: anyhow::Error| format!("{error:#}");
        let trouble = cluster.node_status(id).await.map_err(said)?.trouble;
        let log = cluster.log_of(id).map_err(said)?[from..].to_owned();
        let removed = |text: &str| text.contains("this node was removed from the cluster");
        match removed(&trouble) && removed(&log) {
            true => Ok(()),
            false => Err(format!("status: {trouble:?}, log: {log}")),
        }
    })
    .await?;
    let log = &cluster.log_of(id)?[from..];
    ensure!(from == 0 || !log.contains("waiting to be added"), "{log}");
    Ok(())
}

#[test]
fn a_member_that_starts_again_does_not_wait_to_be_added() {
    run("started-again", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        cluster.join(2).await?;
        cluster.settle("app").await?;
        ensure!(cluster.log_of(2)?.contains("waiting to be added"));
        for _ in 0..2 {
            let said_before = cluster.log_of(2)?.len();
            cluster.kill(2)?;
            cluster.restart(2)?;
            cluster.settle("app").await?;
            let log = &cluster.log_of(2)?[said_before..];
            ensure!(!log.contains("waiting to be added"), "{log}");
        }
        Ok(())
    });
}

#[test]
fn a_removed_node_stops_serving_and_disturbs_nobody() {
    run("removed", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster.join(4).await?;
        let admin = cluster.ops().admin();
        cluster.promote(4).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let leader = cluster.primary().await?;
        let addr = cluster.local.node(4).addr.clone();
        if leader == 4 {
            cluster.lead(1).await?;
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
        removed_says_so(&cluster, 4, 0).await?;

        // Restarted, it knows from its own disk that it was a voter once; it must not force an election.
        cluster.kill(4)?;
        let said_before = cluster.log_of(4)?.len();
        cluster.restart(4)?;
        removed_says_so(&cluster, 4, said_before).await?;
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

/// The members as the primary knows them, with who votes.
async fn members(cluster: &TestCluster) -> Result<Vec<(u64, bool)>> {
    let topology = cluster.ops().admin().list_members().await?;
    let members = topology.members.iter();
    Ok(members.map(|m| (m.node_id, m.voter)).collect())
}

#[test]
fn a_removal_that_would_leave_no_majority_is_refused_and_the_cluster_goes_on() {
    run("no-majority", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let (primary, others) = cluster.roles().await?;
        let (dead, alive) = (others[0], others[1]);
        cluster.kill(dead)?;
        let admin = cluster.ops().admin();
        let error = admin.remove_member(alive).await.err();
        let error = error.context("the last other node that answers was removed")?;
        ensure!(*error.kind() == ErrorKind::Invalid, "{error:?}");
        let said = error.to_string();
        ensure!(
            said.contains("only 1 answers") && said.contains(&format!("remove {dead} first")),
            "{said}"
        );
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        // As it says: the dead one first. Repeated, it is done already.
        admin.remove_member(dead).await?;
        admin.remove_member(dead).await?;
        app.execute("INSERT INTO t VALUES (2)", ()).await?;
        ensure!(members(&cluster).await?.len() == 2);
        // Two are left, both answer: either may go now.
        admin.remove_member(alive).await?;
        app.execute("INSERT INTO t VALUES (3)", ()).await?;
        ensure!(members(&cluster).await? == [(primary, true)]);
        Ok(())
    });
}

#[test]
fn a_forced_removal_waits_for_the_dead_voter_and_is_finished_by_repeating_it() {
    run("forced-removal", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let (primary, others) = cluster.roles().await?;
        let (dead, alive) = (others[0], others[1].to_string());
        cluster.kill(dead)?;
        let via = cluster.local.node(primary).addr.clone();
        let plain = program::run(["--addr", &via, "member", "remove", &alive])?;
        let said = program::text(&plain);
        ensure!(
            !plain.status.success() && said.contains("or use --force"),
            "{said}"
        );
        let help = program::text(&program::run(["member", "remove", "--help"])?);
        ensure!(help.contains("nothing can be written"), "{help}");
        // The voters that would be left, one of them dead, have to agree to it.
        let forced = program::run(["--addr", &via, "member", "remove", &alive, "--force"])?;
        ensure!(!forced.status.success(), "{}", program::text(&forced));
        let write = app
            .with_timeout(Duration::from_secs(2))
            .execute("INSERT INTO t VALUES (0)", ())
            .await;
        ensure!(
            write.is_err(),
            "written without a majority of the new voters"
        );
        cluster.restart(dead)?;
        wait::until("it is removed when repeated", PATIENCE, async || {
            let output = program::run(["--addr", &via, "member", "remove", &alive])
                .map_err(|e| e.to_string())?;
            let said = program::text(&output);
            output.status.success().then_some(()).ok_or(said)
        })
        .await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        let now = members(&cluster).await?;
        ensure!(
            now.len() == 2 && now.iter().all(|(_, voter)| *voter),
            "{now:?}"
        );
        Ok(())
    });
}

#[test]
fn a_dead_learner_is_not_promoted() {
    run("dead-learner", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster.join(4).await?;
        cluster.settle("app").await?;
        cluster.kill(4)?;
        let admin = cluster.ops().admin();
        let error = admin.promote_member(4).await.err();
        let said = error.context("a dead node was promoted")?.to_string();
        ensure!(said.contains("node 4 does not answer"), "{said}");
        ensure!(members(&cluster).await?.contains(&(4, false)));
        Ok(())
    });
}

#[test]
fn an_address_that_is_nobodys_or_somebody_elses_is_refused_and_leaves_no_trace() {
    run("wrong-address", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let before = members(&cluster).await?;
        let second = cluster.local.node(2).addr.clone();
        let again = second.replace("127.0.0.1", "localhost");
        let admin = cluster.ops().admin();
        for (addr, expected) in [
            ("127.0.0.1:1".to_owned(), "no node answers"),
            (second, "is the address of node 2"),
            (again, "has node-id 2, not 9"),
        ] {
            let error = admin.add_member(9, &addr).await.err();
            let error = error.with_context(|| format!("{addr} was added"))?;
            ensure!(error.to_string().contains(expected), "{addr}: {error}");
            // At once: it is not tried again until a deadline.
            ensure!(*error.kind() == ErrorKind::Invalid, "{addr}: {error:?}");
        }
        ensure!(members(&cluster).await? == before);
        // Nothing of it stands in the way of the real node 9.
        cluster.join(9).await?;
        cluster.promote(9).await?;
        Ok(())
    });
}

#[test]
fn leadership_is_not_handed_to_a_voter_that_does_not_answer() {
    run("silent-successor", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let (primary, others) = cluster.roles().await?;
        let term = cluster.node_status(primary).await?.term;
        let (silent, alive) = (others[0], others[1]);
        let admin = cluster.ops().admin();
        for frozen in [true, false] {
            if frozen {
                cluster.freeze(silent)?;
            } else {
                cluster.kill(silent)?;
            }
            let error = admin.transfer_leadership(Some(silent)).await.err();
            let said = error.context("it was handed over")?.to_string();
            ensure!(
                said.contains(&format!("node {silent} does not answer")),
                "{said}"
            );
            app.execute("INSERT INTO t VALUES (1)", ()).await?;
            let status = cluster.node_status(primary).await?;
            ensure!(
                status.role() == Role::Primary && status.term == term,
                "{status:?}"
            );
        }
        let led = admin.transfer_leadership(None).await?;
        ensure!(led == alive, "node {led} leads");
        cluster.kill(primary)?;
        cluster.restart(primary)?;
        cluster.primary().await?;
        app.execute("INSERT INTO t VALUES (2)", ()).await?;
        Ok(())
    });
}

#[test]
fn two_operators_at_once_are_put_in_order() {
    run("two-operators", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        for id in [4, 5] {
            cluster.join(id).await?;
        }
        cluster.settle("app").await?;
        let (one, two) = (cluster.client().await?, cluster.client().await?);
        for round in 0..4 {
            let (one, two) = (one.admin(), two.admin());
            let (first, second) = tokio::join!(
                wait::until("4 is promoted", PATIENCE, async || {
                    one.promote_member(4).await
                }),
                wait::until("5 is promoted", PATIENCE, async || {
                    two.promote_member(5).await
                }),
            );
            first
                .and(second)
                .with_context(|| format!("round {round}"))?;
            let now = members(&cluster).await?;
            ensure!(now.iter().all(|(_, voter)| *voter), "{now:?}");
            if cluster.primary().await? > 3 {
                one.transfer_leadership(Some(1)).await?;
            }
            let (first, second) = tokio::join!(one.remove_member(4), two.remove_member(5));
            first.and(second)?;
            ensure!(members(&cluster).await?.len() == 3);
            for id in [4, 5] {
                cluster.kill(id)?;
                std::fs::remove_dir_all(&cluster.local.node(id).data_dir)?;
                cluster.restart(id)?;
                cluster.add(id).await?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_peer_that_is_behind_does_not_shut_out_a_node_that_was_added_again() {
    run("stale-peer", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| options.nodes = 4).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let admin = cluster.ops().admin();
        cluster.lead(1).await?;
        admin.remove_member(4).await?;
        cluster.kill(4)?;
        let last = cluster.node_status(1).await?.last_log_index;
        wait::until(
            "node 2 knows of the removal",
            PATIENCE,
            async || match cluster.node_status(2).await {
                Ok(status) if status.applied_index >= last => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await?;
        cluster.freeze(2)?;
        std::fs::remove_dir_all(&cluster.local.node(4).data_dir)?;
        super::identity::configure(&cluster, 4, super::identity::joining)?;
        cluster.restart(4)?;
        cluster.add(4).await?;
        cluster.promote(4).await?;
        cluster.lead(4).await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        // The one that is behind wakes up, and follows the node that it knows as removed.
        cluster.thaw(2)?;
        cluster
            .says(2, "this process could not run when it had to")
            .await?;
        ensure!(cluster.primary().await? == 4);
        cluster.check_same("app").await?;
        Ok(())
    });
}

#[test]
fn clients_that_know_only_nodes_that_were_removed_find_the_cluster() {
    run("removed-seeds", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let addresses: Vec<String> = [1, 2, 3]
            .map(|id| cluster.local.node(id).addr.clone())
            .into();
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::connect(addresses.clone()).await?);
        }
        let (_, others) = cluster.roles().await?;
        // It sleeps through all that follows: it knows of none of the new members.
        let asleep = others[0];
        cluster.kill(asleep)?;
        let admin = cluster.ops().admin();
        for (new, old) in [(4, vec![asleep]), (5, vec![])] {
            cluster.join(new).await?;
            cluster.promote(new).await?;
            for id in old {
                admin.remove_member(id).await?;
            }
        }
        cluster.lead(4).await?;
        for id in (1..=3).filter(|id| *id != asleep) {
            admin.remove_member(id).await?;
        }
        cluster.restart(asleep)?;
        for id in 1..=3 {
            wait::until(
                "it is told that it was removed",
                PATIENCE,
                async || match cluster.node_status(id).await.map(|s| s.role()) {
                    Ok(Role::Removed) => Ok(()),
                    other => Err(format!("node {id}: {other:?}")),
                },
            )
            .await?;
        }
        for _ in 0..8 {
            clients.push(Client::connect(addresses.clone()).await?);
        }
        for (n, client) in clients.iter().enumerate() {
            let app = client.database("app");
            let n = i64::try_from(n)?;
            for _ in 0..3 {
                app.execute("INSERT INTO t VALUES (?)", params![n])
                    .await
                    .with_context(|| format!("client {n} writes"))?;
                let rows = app
                    .query("SELECT count(*) FROM t WHERE a = ?", params![n])
                    .await
                    .with_context(|| format!("client {n} reads"))?;
                ensure!(rows.len() == 1);
            }
        }
        Ok(())
    });
}
