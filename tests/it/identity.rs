//! Nodes that do not belong: other clusters, lost disks.

use anyhow::{Result, ensure};
use halite_client::{Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, wait};

async fn insert(cluster: &TestCluster, value: i64) -> Result<()> {
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE IF NOT EXISTS t (a)", ()).await?;
    app.execute("INSERT INTO t VALUES (?1)", params![value])
        .await?;
    Ok(())
}

async fn count(cluster: &TestCluster) -> Result<i64> {
    let app = cluster.ops().database("app");
    let rows = app.query("SELECT count(*) FROM t", ()).await?;
    Ok(rows[0].get(0)?)
}

/// Rewrites one node's configuration.
pub(crate) fn configure(
    cluster: &TestCluster,
    id: u64,
    change: impl FnOnce(String) -> String,
) -> Result<()> {
    let path = &cluster.local.node(id).config;
    std::fs::write(path, change(std::fs::read_to_string(path)?))?;
    Ok(())
}

/// A configuration that waits to be added.
pub(crate) fn joining(config: String) -> String {
    let members = config
        .lines()
        .filter(|line| !line.contains("- {id:"))
        .map(|line| line.replace("initial-members:", "join: true"));
    members.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_node_configured_for_another_cluster_refuses_to_start_among_strangers() {
    run("foreign-name", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        insert(&cluster, 1).await?;
        cluster.kill(3)?;
        std::fs::remove_dir_all(&cluster.local.node(3).data_dir)?;
        configure(&cluster, 3, |config| {
            config.replace("name: local", "name: elsewhere")
        })?;
        cluster.restart(3)?;
        ensure!(cluster.ended(3).await? != 0, "it left as if all were well");
        let said = cluster.log_of(3)?;
        ensure!(
            said.contains("belongs to cluster \"local\"") && said.contains("\"elsewhere\""),
            "{said}"
        );
        insert(&cluster, 2).await?;
        ensure!(count(&cluster).await? == 2);
        Ok(())
    });
}

#[test]
fn a_node_that_the_members_look_for_elsewhere_says_so_and_goes_on() {
    run("misplaced", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        insert(&cluster, 1).await?;
        let known = cluster.local.node(3).addr.clone();
        cluster.kill(3)?;
        let elsewhere = "127.0.0.1:1";
        configure(&cluster, 3, |config| {
            let config = config.replace(&known, elsewhere);
            config.replace(&format!("listen: {elsewhere}"), &format!("listen: {known}"))
        })?;
        cluster.restart(3)?;
        let told = format!("the members reach this node at {known}, and it advertises {elsewhere}");
        cluster.says(3, &told).await?;
        let ignored = format!("ignored=3@{elsewhere}");
        cluster.says(3, &ignored).await?;
        let status = program::run(["--addr", &known, "status"])?;
        let said = program::text(&status);
        ensure!(said.contains(&told) && !status.status.success(), "{said}");
        insert(&cluster, 2).await?;
        cluster.check_same("app").await?;
        Ok(())
    });
}

#[test]
fn a_node_of_another_cluster_of_the_same_name_is_neither_added_nor_listened_to() {
    run("foreign-id", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        insert(&cluster, 1).await?;
        let other_dir = scratch.join("other");
        let other = halite::local_cluster::LocalCluster::start({
            let mut options =
                halite::local_cluster::LocalClusterOptions::new(program::halite(), &other_dir);
            options.nodes = 1;
            options
        })?;
        let foreign = other.addrs()[0].clone();
        let client = wait::until("the other cluster answers", PATIENCE, async || {
            halite_client::Client::connect([foreign.clone()]).await
        })
        .await?;
        client.admin().create_database("other", 0, false).await?;
        let error = cluster.ops().admin().add_member(1, &foreign).await;
        ensure!(error.is_err(), "node 1 has two addresses: {error:?}");
        let error = cluster.ops().admin().add_member(7, &foreign).await;
        ensure!(error.is_err(), "a node of another cluster was added");
        drop((client, other));

        // It now comes as node 3, at node 3's address, with the state of its own cluster.
        let victim = 3;
        if cluster.primary().await? == victim {
            cluster.lead(1).await?;
        }
        cluster.kill(victim)?;
        let own_data = cluster.local.node(victim).data_dir.clone();
        let aside = scratch.join("aside");
        std::fs::rename(&own_data, &aside)?;
        start_foreign(scratch, &mut cluster, victim).await?;
        for value in 2..20 {
            insert(&cluster, value).await?;
        }
        let status = cluster.node_status(victim).await?;
        ensure!(
            !status.databases.iter().any(|d| d.name == "app"),
            "a node of another cluster got our database: {status:?}"
        );
        let said = cluster.log_of(1)? + &cluster.log_of(2)?;
        ensure!(
            said.contains("another cluster") || said.contains("not the one the cluster knows"),
            "nothing was said of the stranger"
        );

        cluster.kill(victim)?;
        std::fs::remove_dir_all(&own_data)?;
        std::fs::rename(&aside, &own_data)?;
        configure_back(&cluster, victim)?;
        cluster.restart(victim)?;
        cluster.primary().await?;
        cluster.check_same("app").await?;
        ensure!(count(&cluster).await? == 19);
        Ok(())
    });
}

/// Node `id` comes up with a cluster of its own, of the same name.
async fn start_foreign(
    scratch: &halite_tests::scratch::Scratch,
    cluster: &mut TestCluster,
    id: u64,
) -> Result<()> {
    let config = cluster.local.node(id).config.clone();
    std::fs::copy(&config, scratch.join("own.yml"))?;
    configure(cluster, id, |config| {
        let own = format!("- {{id: {id},");
        config
            .lines()
            .filter(|line| !line.contains("- {id:") || line.contains(&own))
            .filter(|line| !line.contains("{name: app"))
            .map(|line| line.replace("dbs:", ""))
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    cluster.restart(id)?;
    wait::until(
        "the stranger leads its own cluster",
        PATIENCE,
        async || match cluster.node_status(id).await {
            Ok(status) if status.role() == Role::Primary => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await
}

fn configure_back(cluster: &TestCluster, id: u64) -> Result<()> {
    let config = &cluster.local.node(id).config;
    let own = config
        .parent()
        .and_then(|dir| dir.parent())
        .map(|dir| dir.join("own.yml"));
    std::fs::copy(own.unwrap_or_default(), config)?;
    Ok(())
}

#[test]
fn a_node_that_lost_its_disk_does_not_vote_and_comes_back_by_remove_and_add() {
    run("lost-disk", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        for value in 1..=10 {
            insert(&cluster, value).await?;
        }
        let lost = cluster.follower().await?;
        cluster.kill(lost)?;
        std::fs::remove_dir_all(&cluster.local.node(lost).data_dir)?;
        cluster.restart(lost)?;
        ensure!(
            cluster.ended(lost).await? != 0,
            "it left as if all were well"
        );
        let said = cluster.log_of(lost)?;
        ensure!(
            said.contains("the data directory is blank, but the cluster knows node"),
            "{said}"
        );

        // With one more voter gone there is no quorum: the blank node must not make up for it.
        let primary = cluster.primary().await?;
        let third = cluster
            .ids()
            .into_iter()
            .find(|id| *id != lost && *id != primary)
            .expect("three nodes");
        cluster.kill(third)?;
        cluster.restart(lost)?;
        ensure!(cluster.ended(lost).await? != 0);
        let app = cluster.ops().database("app");
        let write = app
            .with_timeout(std::time::Duration::from_secs(2))
            .execute("INSERT INTO t VALUES (0)", ())
            .await;
        ensure!(write.is_err(), "a write was acknowledged without a quorum");
        cluster.restart(third)?;
        cluster.primary().await?;

        // As the message says: remove it, and add it again.
        let admin = cluster.ops().admin();
        admin.remove_member(lost).await?;
        std::fs::remove_dir_all(&cluster.local.node(lost).data_dir)?;
        configure(&cluster, lost, joining)?;
        cluster.restart(lost)?;
        cluster.add(lost).await?;
        cluster.promote(lost).await?;
        cluster.primary().await?;
        cluster.check_same("app").await?;
        ensure!(count(&cluster).await? >= 10);
        cluster.kill(third)?;
        insert(&cluster, 11).await
    });
}
