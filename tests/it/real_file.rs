//! A database that nobody here made goes through everything: import, writes, failover, archive.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use halite_tests::cluster::TestCluster;
use halite_tests::pages::Pages;
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::stock;

const MAGIC: &[u8] = b"SQLite format 3\0";
const DATABASE: &str = "real";
/// Where a SQLite file may lie on any machine that builds Halite.
const PLACES: [&str; 3] = ["/var", "/usr", "/root"];
const BYTES_MAX: u64 = 64 << 20;

#[test]
fn a_database_of_another_program_survives_import_writes_failover_and_restore() {
    run("real-file", Weight::Light, async |scratch| {
        let source = real_file(scratch)?;
        let archive = format!("file://{}", scratch.join("archive").display());
        let mut cluster = TestCluster::start(scratch, |options| {
            options.archive_url = Some(archive.clone())
        })
        .await?;
        let admin = cluster.ops().admin();
        let file = tokio::fs::File::open(&source).await?;
        let bytes = file.metadata().await?.len();
        admin.import(DATABASE, bytes, false, file).await?;
        check(&cluster, &source).await.context("after the import")?;

        write(&cluster, &source, 1).await?;
        check(&cluster, &source).await.context("after the writes")?;

        let old = cluster.primary().await?;
        cluster.kill(old)?;
        cluster.primary().await?;
        write(&cluster, &source, 2).await?;
        cluster.restart(old)?;
        let pages = check(&cluster, &source).await.context("after a failover")?;

        cluster.archived(DATABASE).await?;
        let restored = scratch.join("restored.db");
        let url = format!("{archive}/{DATABASE}");
        program::restore(&url, &restored, &["--integrity-check", "full"])?;
        pages.check_restored(&restored)?;
        same_content(&restored, &source)
    });
}

/// All nodes hold the same pages, and stock SQLite reads from each what it reads from the file written beside.
async fn check(cluster: &TestCluster, expected: &Path) -> Result<Pages> {
    cluster.primary().await?;
    let pages = cluster.check_same(DATABASE).await?;
    for id in cluster.ids() {
        same_content(&cluster.file(id, DATABASE), expected)
            .with_context(|| format!("node {id}"))?;
    }
    Ok(pages)
}

fn same_content(found: &Path, expected: &Path) -> Result<()> {
    ensure!(
        stock::read(found, "PRAGMA integrity_check")? == ["ok"],
        "the integrity check of SQLite fails"
    );
    let (found, expected) = (
        stock::read(found, ".dump")?,
        stock::read(expected, ".dump")?,
    );
    let differing = found.iter().zip(&expected).find(|(a, b)| a != b);
    ensure!(
        found.len() == expected.len() && differing.is_none(),
        "dumps differ: {} against {} lines, first {differing:?}",
        found.len(),
        expected.len()
    );
    Ok(())
}

/// The same statements to the cluster and, by stock SQLite, to the file beside.
async fn write(cluster: &TestCluster, beside: &Path, round: i64) -> Result<()> {
    let largest = largest_table(beside)?;
    let statements = [
        format!("CREATE TABLE halite_copy_{round} AS SELECT * FROM \"{largest}\" ORDER BY rowid"),
        format!("INSERT INTO halite_copy_{round} SELECT * FROM \"{largest}\" ORDER BY rowid"),
        format!("DELETE FROM halite_copy_{round} WHERE rowid % 3 = {round}"),
        format!("CREATE INDEX halite_index_{round} ON halite_copy_{round} (rowid)"),
    ];
    // An index on rowid is refused by SQLite: both have to say so, and keep the rest.
    for sql in &statements[..3] {
        cluster
            .ops()
            .database(DATABASE)
            .execute(sql.as_str(), ())
            .await?;
        ensure!(stock::try_write(beside, sql)?.is_none(), "stock: {sql}");
    }
    let refused = cluster
        .ops()
        .database(DATABASE)
        .execute(statements[3].as_str(), ())
        .await;
    ensure!(
        refused.is_err() == stock::try_write(beside, &statements[3])?.is_some(),
        "SQLite and Halite disagree on: {}",
        statements[3]
    );
    Ok(())
}

fn largest_table(file: &Path) -> Result<String> {
    let tables = stock::read(
        file,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'halite_%' \
         AND sql NOT LIKE '%WITHOUT ROWID%' AND sql NOT LIKE '%VIRTUAL%'",
    )?;
    let mut counted = Vec::new();
    for table in tables {
        let count = stock::read(file, &format!("SELECT count(*) FROM \"{table}\""))?;
        counted.push((count[0].parse::<u64>()?, table));
    }
    let (_, table) = counted.into_iter().max().context("a table")?;
    Ok(table)
}

/// A copy of the first usable database found: cargo's own cache, else any below [`PLACES`].
fn real_file(scratch: &Scratch) -> Result<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let caches = cargo_home
        .into_iter()
        .chain(home)
        .map(|dir| dir.join(".global-cache"));
    let copy = scratch.join("real.db");
    for cache in caches {
        if usable(&cache, &copy) {
            return Ok(copy);
        }
    }
    let mut dirs: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
    while let Some(dir) = dirs.pop() {
        let Ok(items) = std::fs::read_dir(&dir) else {
            continue;
        };
        for item in items.flatten() {
            match item.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(item.path()),
                Ok(kind) if kind.is_file() && usable(&item.path(), &copy) => return Ok(copy),
                _ => {}
            }
        }
    }
    bail!(
        "no SQLite database was found on this machine: neither cargo's .global-cache (any build with cargo from rustup makes one) \
         nor any below {PLACES:?}"
    )
}

/// Copies a database that is sound and has rows.
fn usable(file: &Path, copy: &Path) -> bool {
    let starts_right = || -> std::io::Result<bool> {
        let mut found = [0; MAGIC.len()];
        std::io::Read::read_exact(&mut std::fs::File::open(file)?, &mut found)?;
        Ok(found == MAGIC && std::fs::metadata(file)?.len() <= BYTES_MAX)
    };
    if !starts_right().unwrap_or(false) || std::fs::copy(file, copy).is_err() {
        return false;
    }
    let sound = stock::read(copy, "PRAGMA integrity_check").is_ok_and(|said| said == ["ok"]);
    let used = sound && largest_table(copy).is_ok();
    if used {
        eprintln!("real input: {}", file.display());
    }
    used
}
