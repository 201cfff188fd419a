//! One node's disk is full: the others go on, and it comes back when there is room again.
//!
//! The disk is a small tmpfs, which only root can mount; elsewhere the tests say so and pass.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

const DISK_MIB: u32 = 96;
const ROWS_BEFORE: i64 = 20;

/// A mounted tmpfs.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(dir: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"])
            .arg(dir)
            .output()?;
        if mounted.status.success() {
            return Ok(Some(Self(dir.to_owned())));
        }
        let said = String::from_utf8_lossy(&mounted.stderr);
        eprintln!(
            "not tested: a small disk cannot be mounted here: {}",
            said.trim()
        );
        Ok(None)
    }

    /// Takes all the room there is.
    fn fill(&self) -> Result<PathBuf> {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast)?;
        let mut piece = vec![7_u8; 1 << 20];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(written) if written > 0 => {}
                _ => piece.truncate(piece.len() / 2),
            }
        }
        Ok(ballast)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn full_disk(name: &str, of_primary: bool) {
    run(name, Weight::Light, async |scratch| {
        let Some(disk) = SmallDisk::mount(&scratch.join("node-2").join("data"))? else {
            return Ok(());
        };
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a INTEGER, b BLOB)", ())
            .await?;
        let admin = cluster.ops().admin();
        let leader = if of_primary { 2 } else { 1 };
        admin.transfer_leadership(Some(leader)).await?;
        for row in 0..ROWS_BEFORE {
            let insert = "INSERT INTO t VALUES (?1, randomblob(10000))";
            app.execute(insert, params![row]).await?;
        }

        let ballast = disk.fill()?;
        // A write may fail for the reason, until another node leads; none that was acknowledged may be missing later.
        let mut kept = ROWS_BEFORE;
        wait::until(
            "ten writes are kept in spite of the full disk",
            PATIENCE,
            async || {
                let insert = "INSERT INTO t VALUES (?1, randomblob(10000))";
                let write = app.with_timeout(Duration::from_secs(5));
                write
                    .execute(insert, params![kept])
                    .await
                    .map_err(|e| e.to_string())?;
                kept += 1;
                if kept == ROWS_BEFORE + 10 {
                    Ok(())
                } else {
                    Err(format!("{kept} rows"))
                }
            },
        )
        .await?;
        // Something large, so that nothing squeezes in.
        app.execute(
            "INSERT INTO t VALUES (?1, randomblob(3000000))",
            params![kept],
        )
        .await?;
        kept += 1;

        std::fs::remove_file(ballast)?;
        cluster
            .primary()
            .await
            .context("after there is room again")?;
        cluster.check_same("app").await?;
        let rows = app.query("SELECT count(DISTINCT a) FROM t", ()).await?;
        ensure!(rows[0].get::<i64>(0)? == kept, "{rows:?} of {kept}");
        drop(cluster);
        Ok(())
    });
}

#[test]
fn a_follower_with_a_full_disk_holds_nobody_up_and_recovers() {
    full_disk("full-follower", false);
}

#[test]
fn a_primary_with_a_full_disk_makes_room_for_another_and_recovers() {
    full_disk("full-primary", true);
}
