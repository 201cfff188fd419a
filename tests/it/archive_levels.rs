//! Files of an archive are merged and deleted while databases are written, and what is promised can be restored all the while.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::litestream;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// Primaries that are killed while files are merged.
const ROUNDS: usize = 8;

/// Levels so short that all of them are in use within seconds.
fn archive_into(options: &mut LocalClusterOptions, archive: &Path) {
    options.extra_config = format!(
        "archive:\n  url: {:?}\n  sync-interval: 20ms\n  levels: [{{interval: 500ms}}, {{interval: 2s}}]\n  \
         l0-retention: 1s\n  snapshot-interval: 4s\n  snapshot-retention: 8s\n",
        format!("file://{}", archive.display())
    );
}

/// What `halite ltx` lists: level, first and last transaction.
fn files(url: &str) -> Result<Vec<(u64, String, String)>> {
    let said = program::run(["ltx", "--json", url])?;
    let files: Vec<Value> = serde_json::from_slice(&said.stdout)?;
    let field = |file: &Value, key: &str| Some(file[key].as_str()?.to_owned());
    let file = |file: &Value| {
        Some((
            file["level"].as_u64()?,
            field(file, "min_txid")?,
            field(file, "max_txid")?,
        ))
    };
    let files: Option<Vec<_>> = files.iter().map(file).collect();
    files.context("the keys of Litestream's listing")
}

/// What `halite ltx verify` says: it has to be content.
fn verified(url: &str) -> Result<Value> {
    let said = program::run(["ltx", "verify", "--json", url])?;
    ensure!(said.status.success(), "{}", program::text(&said));
    Ok(serde_json::from_slice(&said.stdout)?)
}

fn is_sound(file: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let found: String = Connection::open_with_flags(file, flags)?.query_row(
        "PRAGMA integrity_check",
        [],
        |row| row.get(0),
    )?;
    ensure!(found == "ok", "{}: {found}", file.display());
    Ok(())
}

/// Both programs restore a state to the same bytes, and SQLite finds it sound.
fn restored_alike(scratch: &Scratch, url: &str, txid: &str) -> Result<()> {
    let [ours, stock] = ["ours", "stock"].map(|who| scratch.join(&format!("{who}-{txid}.db")));
    program::restore(url, &ours, &["-txid", txid])?;
    litestream::restore(url, &stock, &["-txid", txid])?;
    ensure!(
        std::fs::read(&ours)? == std::fs::read(&stock)?,
        "txid {txid} is restored differently"
    );
    is_sound(&ours)
}

#[test]
fn killed_primaries_leave_levels_from_which_everything_promised_is_restored() {
    run("archive-levels", Weight::Heavy, async |scratch| {
        let archive = scratch.join("archive");
        let url = format!("file://{}", archive.join("app").display());
        let mut cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(11)).await?;
        for round in 1..=ROUNDS {
            let primary = cluster.primary().await?;
            // It has merged something since it leads.
            let before = files(&url)?.iter().map(|(_, _, max)| max.clone()).max();
            wait::until("files are merged", PATIENCE, async || {
                let files = files(&url).map_err(|error| error.to_string())?;
                let merged = files.iter().filter(|(level, ..)| *level == 1);
                let newest = merged.map(|(_, _, max)| max.clone()).max();
                (newest > before).then_some(()).ok_or(format!("{newest:?}"))
            })
            .await?;
            cluster.kill(primary)?;
            cluster.primary().await?;
            cluster.restart(primary)?;
            cluster.settle_under_load().await?;
            eprintln!("round {round}: {} files", files(&url)?.len());
        }
        load.stop().await;
        let pages = cluster.check_same("app").await?;
        let txid = format!("{:016x}", cluster.archived("app").await?);
        let logs: Result<Vec<String>> =
            cluster.ids().iter().map(|id| cluster.log_of(*id)).collect();
        ensure!(
            !logs?
                .iter()
                .any(|log| log.contains("the archive has lost files")),
            "what was deleted was needed"
        );
        wait::until(
            "all levels are in use, and what is old goes",
            PATIENCE,
            async || {
                let files = files(&url).map_err(|error| error.to_string())?;
                let has = |wanted| files.iter().any(|(level, ..)| *level == wanted);
                let first = files.iter().find(|(level, ..)| *level == 0);
                let is_cut = first.is_some_and(|(_, min, _)| *min > format!("{:016x}", 1));
                let good = is_cut && [1, 2, 9].into_iter().all(has);
                good.then_some(()).ok_or(format!("{files:?}"))
            },
        )
        .await?;
        // From here on nothing more goes.
        for id in cluster.ids() {
            cluster.kill(id)?;
        }
        let report = verified(&url)?;
        ensure!(report["newest"]["txid"] == txid.as_str(), "{report}");
        let oldest = report["oldest"]["txid"]
            .as_str()
            .context("an oldest state")?;
        let ends = files(&url)?.into_iter().map(|(_, _, max)| max);
        let mut ends: Vec<String> = ends.filter(|max| max.as_str() >= oldest).collect();
        ends.sort_unstable();
        ends.dedup();
        for end in &ends {
            restored_alike(scratch, &url, end)?;
        }
        pages.check_restored(&scratch.join(&format!("ours-{txid}.db")))?;
        // What is older is refused with what is there.
        let out = scratch.join("too-old.db").display().to_string();
        let said = program::run(["restore", "-o", &out, "-txid", "1", &url])?;
        let said = program::text(&said);
        ensure!(
            said.contains("older than what the archive can give back") && said.contains(oldest),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn a_file_that_is_damaged_is_found_when_it_is_merged_and_made_good() {
    run("archive-damaged", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let url = format!("file://{}", archive.join("app").display());
        let cluster = TestCluster::start(scratch, |options| {
            archive_into(options, &archive);
            // There is time to damage a file before it is merged.
            options.extra_config = options
                .extra_config
                .replace("500ms", "3s")
                .replace("2s", "9s");
            options.extra_config = options
                .extra_config
                .replace("snapshot-interval: 4s", "snapshot-interval: 20s");
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let insert = async || {
            app.execute("INSERT INTO t VALUES (randomblob(3000))", ())
                .await?;
            cluster.archived("app").await
        };
        wait::until("the first snapshot is there", PATIENCE, async || {
            insert().await.map_err(|error| error.to_string())?;
            let found = archive.join("app/ltx/9").is_dir();
            found.then_some(()).ok_or("no snapshot".to_owned())
        })
        .await?;
        insert().await?;
        let txid = insert().await?;
        insert().await?;
        let name = halite_ltx::file_name(halite_ltx::Txid::new(txid), halite_ltx::Txid::new(txid));
        let path = archive.join("app/ltx/0").join(name);
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes)?;
        wait::until("it is found and made good", PATIENCE, async || {
            // An archive that nobody writes to is left alone.
            insert().await.map_err(|error| error.to_string())?;
            let logs: Result<Vec<String>> =
                cluster.ids().iter().map(|id| cluster.log_of(*id)).collect();
            let logs = logs.map_err(|error| error.to_string())?.join("\n");
            let found = logs.contains("archive file is not readable")
                && logs.contains("the archive has lost files");
            found.then_some(()).ok_or("not yet".to_owned())
        })
        .await?;
        let pages = cluster.check_same("app").await?;
        cluster.archived("app").await?;
        let restored = scratch.join("restored.db");
        program::restore(&url, &restored, &["-integrity-check", "full"])?;
        pages.check_restored(&restored)?;
        let status = program::run(["--addr", &cluster.local.node(1).addr, "status"])?;
        ensure!(status.status.success(), "{}", program::text(&status));
        Ok(())
    });
}

#[test]
fn an_archive_of_a_database_that_nobody_writes_to_comes_to_rest() {
    run("archive-rest", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let url = format!("file://{}", archive.join("app").display());
        let cluster =
            TestCluster::start(scratch, |options| archive_into(options, &archive)).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        for row in 0..30 {
            app.execute("INSERT INTO t VALUES (?1)", halite_client::params![row])
                .await?;
            cluster.archived("app").await?;
        }
        let listing = || files(&url).map_err(|error| error.to_string());
        // Levels, snapshots and retention come to their ends; the newest file of each level stays.
        wait::until("all is merged", PATIENCE, async || {
            let files = listing()?;
            let levels: Vec<u64> = files.iter().map(|(level, ..)| *level).collect();
            (levels == [0, 1, 2, 9])
                .then_some(())
                .ok_or(format!("{files:?}"))
        })
        .await?;
        verified(&url)?;
        Ok(())
    });
}
