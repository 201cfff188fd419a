//! From one version to the next, node by node, and back while there is a way back.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use halite_client::UpgradeResponse;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::Load;
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, wait};

use super::handover::{all_served, loaded};

/// Exit code of a node whose program does not go with its cluster.
const UNFIT: i32 = 3;

/// The highest level of a program.
fn level_of(program: &Path) -> Result<u32> {
    let said = std::process::Command::new(program)
        .args(["version", "--json"])
        .output()?;
    let version: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let level = version["level_max"].as_u64().context("a level")?;
    Ok(u32::try_from(level)?)
}

/// Gives one node another program, in order and under load.
async fn replace(cluster: &mut TestCluster, load: &Load, id: u64, program: &Path) -> Result<()> {
    let ended = cluster.local.terminate(id, PATIENCE)?;
    ensure!(ended.success(), "node {id} ended with {ended}");
    cluster.local.set_program(id, program);
    cluster.restart(id)?;
    cluster.primary().await?;
    cluster.settle_under_load().await?;
    load.grown(50).await
}

async fn status(cluster: &TestCluster) -> Result<UpgradeResponse> {
    Ok(cluster.ops().admin().upgrade_status().await?)
}

/// Finalizing is refused, with words that name this.
async fn expect_blocked(cluster: &TestCluster, words: &str) -> Result<()> {
    let refused = cluster.ops().admin().finalize_upgrade().await;
    match refused {
        Err(error) if error.to_string().contains(words) => Ok(()),
        other => anyhow::bail!("expected a refusal that says {words:?}: {other:?}"),
    }
}

/// A node with the older program ends by itself and says why.
async fn expect_unfit(cluster: &mut TestCluster, id: u64) -> Result<()> {
    let code = cluster.ended(id).await?;
    let said = cluster.log_of(id)?;
    ensure!(code == UNFIT, "node {id} ended with {code}: {said}");
    ensure!(
        said.contains("this node is too old for its cluster: upgrade it"),
        "{said}"
    );
    Ok(())
}

#[test]
fn nodes_go_to_the_next_version_and_back_under_load_and_not_back_once_it_is_finalized() {
    run("upgrade", Weight::Heavy, async |scratch| {
        let (this, next) = (program::halite(), program::next_version());
        let (level, next_level) = (level_of(&this)?, level_of(&next)?);
        ensure!(level < next_level, "{level} and {next_level}");
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        // A member that was slow to answer when the cluster was formed counts as an old one.
        let finalized = wait::until("the cluster reaches its own level", PATIENCE, async || {
            cluster.ops().admin().finalize_upgrade().await
        })
        .await?;
        ensure!(finalized.level == level, "{finalized:?}");
        let mut load = loaded(&cluster, 3).await?;

        let ids = cluster.ids();
        for (step, id) in ids.iter().enumerate() {
            replace(&mut cluster, &load, *id, &next).await?;
            if step + 1 < ids.len() {
                expect_blocked(&cluster, &format!("level {next_level} needs every member")).await?;
            }
        }
        let told = status(&cluster).await?;
        ensure!(
            (told.level, told.next_level, told.blocked.as_str()) == (level, next_level, ""),
            "{told:?}"
        );
        for id in &ids {
            replace(&mut cluster, &load, *id, &this).await?;
        }
        let told = status(&cluster).await?;
        ensure!((told.level, told.next_level) == (level, level), "{told:?}");

        for id in &ids {
            replace(&mut cluster, &load, *id, &next).await?;
        }
        // One that does not answer counts as one that cannot follow.
        let away = cluster.follower().await?;
        cluster.local.terminate(away, PATIENCE)?;
        cluster.primary().await?;
        expect_blocked(&cluster, &format!("node {away} at")).await?;
        cluster.restart(away)?;
        cluster.primary().await?;
        let told = wait::until("every member answers", PATIENCE, async || {
            cluster.ops().admin().finalize_upgrade().await
        })
        .await?;
        ensure!(told.level == next_level, "{told:?}");
        load.grown(50).await?;
        for id in &ids {
            wait::until("the new command reaches the node", PATIENCE, async || {
                let said = cluster.log_of(*id).map_err(|e| e.to_string())?;
                let read = said.contains("read a command of the next version");
                read.then_some(()).ok_or_else(|| format!("node {id}"))
            })
            .await?;
            let status = cluster.node_status(*id).await?;
            ensure!(status.level == next_level, "node {id}: {status:?}");
        }
        all_served(&cluster, &mut load).await?;

        // Now there is no way back, neither for members nor for who would become one.
        let old = cluster.follower().await?;
        cluster.local.terminate(old, PATIENCE)?;
        cluster.local.set_program(old, &this);
        cluster.restart(old)?;
        expect_unfit(&mut cluster, old).await?;
        cluster.local.set_program(old, &next);
        cluster.restart(old)?;
        cluster.primary().await?;
        cluster.check_same("app").await?;

        cluster.local.start_joining(4)?;
        let addr = cluster.local.node(4).addr.clone();
        let admin = cluster.ops().admin();
        wait::until("the new node is refused", PATIENCE, async || {
            match admin.add_member(4, &addr).await {
                Err(error) if error.to_string().contains("is too old for this cluster") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    });
}
