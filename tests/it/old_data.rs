//! Data directories that older builds left behind open for ever after.
//!
//! `tests/fixtures/<commit>` holds the directories of a cluster of that build, and what has to be in them; its README says how they came to
//! be. Addresses are part of the stored membership, and places of archives part of the catalog: the cluster comes up at the same ones.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalPlace;
use halite_client::params;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::pages::Pages;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};

/// What one fixture says of itself.
struct Fixture {
    dir: PathBuf,
    manifest: serde_json::Value,
}

/// Where the archive was when the fixture was made: its place is part of the catalog.
const ARCHIVE: &str = "/tmp/halite-fixture-f62e19d/archive";
/// Only one test program at a time can have the fixture's addresses; the last of them says whose turn it is.
const TURN: &str = "127.0.17.254:7117";

fn address(id: u64) -> String {
    format!("127.0.17.{id}:7117")
}

impl Fixture {
    fn load(name: &str) -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        let manifest = std::fs::read(dir.join("manifest.json"))?;
        let manifest = serde_json::from_slice(&manifest)?;
        Ok(Self { dir, manifest })
    }

    /// The data directories where the cluster in `scratch` looks for them, the archive where it was.
    fn unpack(&self, scratch: &Scratch) -> Result<()> {
        let packed = self.dir.join("cluster.tar.xz");
        let unpacked = Command::new("tar")
            .arg("-xJf")
            .arg(&packed)
            .arg("-C")
            .arg(scratch.dir())
            .output()
            .context("`tar` and `xz` are needed: see .ci/setup")?;
        ensure!(unpacked.status.success(), "{}", program::text(&unpacked));
        let archive = Path::new(ARCHIVE);
        if archive.exists() {
            std::fs::remove_dir_all(archive)?;
        }
        std::fs::create_dir_all(archive.parent().context("a folder")?)?;
        let moved = Command::new("cp")
            .arg("-r")
            .arg(scratch.join("archive"))
            .arg(archive)
            .output()?;
        ensure!(moved.status.success(), "{}", program::text(&moved));
        Ok(())
    }

    fn databases(&self) -> Result<Vec<(String, &serde_json::Value)>> {
        let databases = self.manifest["databases"]
            .as_object()
            .context("databases")?;
        Ok(databases.iter().map(|(n, d)| (n.clone(), d)).collect())
    }
}

/// Every database as it was left: pages, position, rows.
async fn check_contents(cluster: &TestCluster, fixture: &Fixture) -> Result<()> {
    for (name, expected) in fixture.databases()? {
        for id in cluster.ids() {
            let found = cluster.database_status(id, &name).await?;
            let position = format!("{:016x} {}", found.txid, found.checksum);
            let wanted = format!(
                "{} {}",
                expected["txid"].as_str().unwrap_or_default(),
                expected["checksum"].as_str().unwrap_or_default()
            );
            ensure!(
                position == wanted,
                "node {id}, {name}: {position}, wanted {wanted}"
            );
            ensure!(
                Some(u64::from(found.page_size)) == expected["page_size"].as_u64()
                    && Some(u64::from(found.page_count)) == expected["pages"].as_u64(),
                "node {id}, {name}: {found:?}"
            );
            let Some(rows) = expected["rows"].as_str() else {
                continue;
            };
            let sums = "SELECT count(*), sum(id), sum(length(v)) FROM t";
            let found = stock::read(&cluster.file(id, &name), sums)?;
            ensure!(
                found == [rows],
                "node {id}, {name}: {found:?}, wanted {rows}"
            );
        }
        cluster.check_same(&name).await?;
    }
    Ok(())
}

#[test]
fn a_cluster_that_the_build_f62e19d_left_behind_goes_on() {
    run("old-data", Weight::Heavy, async |scratch| {
        let turn = wait::until(
            "our turn at the fixture's addresses",
            PATIENCE * 10,
            async || TcpListener::bind(TURN),
        )
        .await?;
        let fixture = Fixture::load("f62e19d")?;
        fixture.unpack(scratch)?;
        let mut cluster = TestCluster::start(scratch, |options| {
            options.databases = vec![("app".to_owned(), 4096)];
            options.archive_url = Some(format!("file://{ARCHIVE}"));
            for id in 1..=4 {
                let place = LocalPlace {
                    listen: Some(address(id)),
                    ..LocalPlace::default()
                };
                options.places.insert(id, place);
            }
        })
        .await?;

        // The learner.
        cluster.local.start_joining(4)?;
        cluster.settle("app").await?;
        check_contents(&cluster, &fixture).await?;
        let status = cluster.status(1).await?;
        let members = status.topology.unwrap_or_default().members;
        let of = |voter| -> Vec<u64> {
            let members = members.iter().filter(|m| m.voter == voter);
            members.map(|m| m.node_id).collect()
        };
        ensure!(
            (of(true), of(false)) == (vec![1, 2, 3], vec![4]),
            "{members:?}"
        );
        let databases = status.node.unwrap_or_default().databases;
        ensure!(
            !databases.iter().any(|d| d.name == "gone"),
            "a database that was dropped is back: {databases:?}"
        );

        // Nothing is written yet that the old build could not read.
        let admin = cluster.ops().admin();
        let told = admin.upgrade_status().await?;
        ensure!(told.level == 1, "{told:?}");
        write_and_restore(&cluster, scratch, "before").await?;
        let told = wait::until("the level is raised", PATIENCE, async || {
            admin.finalize_upgrade().await
        })
        .await?;
        ensure!(told.level > 1, "{told:?}");
        write_and_restore(&cluster, scratch, "after").await?;

        for id in cluster.ids() {
            cluster.kill(id)?;
        }
        for id in cluster.ids() {
            cluster.restart(id)?;
        }
        cluster.primary().await?;
        for (name, _) in fixture.databases()? {
            cluster.check_same(&name).await?;
        }
        let told = cluster.ops().admin().upgrade_status().await?;
        ensure!(told.level > 1, "the level was forgotten: {told:?}");
        drop(cluster);
        std::fs::remove_dir_all(Path::new(ARCHIVE).parent().context("a folder")?)?;
        drop(turn);
        Ok(())
    });
}

/// A further row in every database is on all nodes, and in what is restored from the archive.
async fn write_and_restore(cluster: &TestCluster, scratch: &Scratch, when: &str) -> Result<()> {
    for name in ["app", "small", "wide"] {
        let insert = "INSERT INTO t(v) VALUES (?1)";
        let database = cluster.ops().database(name);
        database.execute(insert, params![when]).await?;
        let pages = cluster.check_same(name).await?;
        cluster.archived(name).await?;
        let copy = scratch.join(&format!("{name}-{when}.db"));
        program::restore(&format!("file://{ARCHIVE}/{name}"), &copy, &[])?;
        Pages::read(&copy)?
            .check_same(&pages)
            .with_context(|| format!("{name} restored {when} the level was raised"))?;
    }
    Ok(())
}
