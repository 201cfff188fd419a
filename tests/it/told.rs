//! What a cluster says of members that are down or were removed, and where.

use anyhow::{Context, Result, ensure};
use halite_client::{Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

/// Waits until the log of a node says so, this often.
async fn logged(cluster: &TestCluster, id: u64, words: &str, times: usize) -> Result<()> {
    wait::until("the node's log says so", PATIENCE, async || {
        let log = cluster.log_of(id).map_err(|e| e.to_string())?;
        match log.matches(words).count() {
            found if found == times => Ok(()),
            found => Err(format!("{words:?} is there {found} times, not {times}")),
        }
    })
    .await
}

#[test]
fn a_member_that_is_down_is_told_once_and_so_is_its_return() {
    run("told-once", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let (primary, followers) = cluster.roles().await?;
        cluster.kill(followers[0])?;
        logged(&cluster, primary, "a member does not answer", 1).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a INTEGER)", ()).await?;
        for n in 0..200 {
            app.execute("INSERT INTO t VALUES (?1)", params![n]).await?;
        }
        cluster.restart(followers[0])?;
        logged(&cluster, primary, "a member answers again", 1).await?;
        let log = cluster.log_of(primary)?;
        let told = log.matches("a member does not answer").count();
        ensure!(told == 1, "told {told} times");
        Ok(())
    });
}

#[test]
fn a_node_that_finds_no_majority_says_who_is_missing_and_then_is_silent() {
    run("told-alone", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| options.log.clear()).await?;
        let (primary, followers) = cluster.roles().await?;
        // One that has led, and one that has not.
        for (left, gone) in [
            (followers[0], [primary, followers[1]]),
            (primary, [followers[0], followers[1]]),
        ] {
            for id in gone {
                cluster.kill(id)?;
            }
            let before = cluster.log_of(left)?.lines().count();
            for id in gone {
                let told = format!("a member does not answer node={id}");
                cluster.says(left, &told).await?;
            }
            // It has called for ten elections in this second.
            let said = cluster.log_of(left)?;
            let said: Vec<&str> = said.lines().skip(before).collect();
            ensure!(said.len() < 9, "{}", said.join("\n"));
            for id in gone {
                cluster.restart(id)?;
            }
            cluster.primary().await?;
        }
        Ok(())
    });
}

#[test]
fn a_node_that_was_removed_says_so_and_does_not_ask_to_be_added() {
    run("told-removed", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster.join(4).await?;
        let asks = "waiting to be added";
        wait::until("the node has learned of it", PATIENCE, async || {
            let status = cluster.node_status(4).await;
            match status.map_err(|e| e.to_string())?.role() {
                Role::Learner => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        cluster.ops().admin().remove_member(4).await?;
        logged(&cluster, 4, "was removed from the cluster", 1).await?;
        cluster.kill(4)?;
        cluster.restart(4)?;
        logged(&cluster, 4, "was removed from the cluster", 2).await?;
        // Once at its first start, unless it was added before it came to it.
        ensure!(cluster.log_of(4)?.matches(asks).count() <= 1, "asks again");
        Ok(())
    });
}

#[test]
fn nobody_is_listed_as_primary_who_is_dead() {
    run("told-dead", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let (primary, followers) = cluster.roles().await?;
        cluster.kill(followers[0])?;
        cluster.kill(primary)?;
        let addr = cluster.local.node(followers[1]).addr.clone();
        let listed = program::run(["--addr", &addr, "member", "list"])?;
        let said = program::text(&listed);
        ensure!(listed.status.success(), "{said}");
        ensure!(
            said.contains("voter") && !said.contains("primary"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn a_member_that_lost_its_disk_is_not_added_again_without_a_word() {
    run("told-blank", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster.join(4).await?;
        let addr = cluster.local.node(4).addr.clone();
        let admin = cluster.ops().admin();
        // Nothing is to be done for one that is a member already.
        admin.add_member(4, &addr).await?;
        cluster.kill(4)?;
        let file = cluster.file(4, "app");
        let data = file.parent().and_then(|db| db.parent());
        std::fs::remove_dir_all(data.context("a data directory")?)?;
        cluster.restart(4)?;
        logged(&cluster, 4, "waiting to be added", 2).await?;
        let said = admin.add_member(4, &addr).await.err();
        let said = said.context("it was added")?.to_string();
        ensure!(said.contains("halite member remove 4"), "{said}");
        Ok(())
    });
}
