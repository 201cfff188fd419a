//! Ordinary SQLite files become databases, while others use the same names, nodes die, and files are not what they seem.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use halite_client::{Client, ErrorKind, ReadLevel, params};
use halite_proto::v1;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};
use tokio::task::JoinHandle;

/// A file with table `who`, which says which file it is, and some pages beside.
fn file(scratch: &Scratch, who: &str, page_size: u32, pages: u32) -> Result<PathBuf> {
    let path = scratch.join(&format!("{who}.db"));
    let made = stock::try_write(
        &path,
        &format!(
            "PRAGMA page_size = {page_size}; CREATE TABLE who (name); INSERT INTO who VALUES ('{who}');
             CREATE TABLE ballast (a);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {pages})
             INSERT INTO ballast SELECT randomblob({page_size} - 200) FROM n;"
        ),
    )?;
    ensure!(made.is_none(), "{made:?}");
    Ok(path)
}

/// The same without its last page: everything is well until SQLite reads all of it.
fn cut_off(scratch: &Scratch, who: &str, page_size: u32, pages: u32) -> Result<PathBuf> {
    let path = file(scratch, who, page_size, pages)?;
    let file = std::fs::File::options().write(true).open(&path)?;
    file.set_len(file.metadata()?.len() - u64::from(page_size))?;
    Ok(path)
}

async fn import(client: &Client, name: &str, path: &Path) -> Result<(), halite_client::Error> {
    let file = tokio::fs::File::open(path).await.expect("it is there");
    let bytes = file.metadata().await.expect("it is there").len();
    let imported = client.admin().import(name, bytes, false, file).await;
    imported.map(drop)
}

/// Writes its own rows to a database until it is told to stop; those that were acknowledged.
fn writer(
    client: Client,
    name: String,
    number: u32,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Result<Vec<i64>>> {
    tokio::spawn(async move {
        let database = client.database(&name);
        let mut acknowledged = Vec::new();
        let mut row = i64::from(number) << 32;
        while !stop.load(Ordering::Relaxed) {
            let create = "CREATE TABLE IF NOT EXISTS w (a INTEGER PRIMARY KEY)";
            let insert = "INSERT INTO w VALUES (?1)";
            let written = match database.execute(create, ()).await {
                Ok(_) => database.execute(insert, params![row]).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => acknowledged.push(row),
                Err(error) => match error.kind() {
                    // Between a drop and the next creation, or in the middle of one.
                    ErrorKind::NoSuchDatabase
                    | ErrorKind::Unavailable { .. }
                    | ErrorKind::NotPrimary { .. }
                    | ErrorKind::OutcomeUnknown
                    | ErrorKind::Sql { .. } => tokio::task::yield_now().await,
                    other => bail!("writer: {other:?}: {error}"),
                },
            }
            row += 1;
        }
        Ok(acknowledged)
    })
}

#[test]
fn imports_that_fail_and_race_lose_nothing_that_anybody_was_told_is_kept() {
    run("import-races", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let good = [
            file(scratch, "a", 4096, 200)?,
            file(scratch, "b", 4096, 20)?,
            file(scratch, "c", 8192, 20)?,
        ];
        let bad = [
            cut_off(scratch, "x", 4096, 400)?,
            cut_off(scratch, "y", 8192, 100)?,
        ];
        let (mut written, mut imported) = (0, 0);
        for round in 0..30 {
            let name = format!("race{round}");
            let stop = Arc::new(AtomicBool::new(false));
            let mut writers = Vec::new();
            // Some rounds are of imports alone.
            for number in 0..round % 3 {
                let client = cluster.client().await?;
                writers.push(writer(client, name.clone(), number, stop.clone()));
            }
            let mut importers = Vec::new();
            for path in bad.iter().chain(&good).chain(&bad) {
                let (client, name, path) = (cluster.client().await?, name.clone(), path.clone());
                importers.push(tokio::spawn(async move {
                    (import(&client, &name, &path).await, path)
                }));
            }
            let mut kept = BTreeSet::new();
            for importer in importers {
                let (result, path) = importer.await?;
                match result {
                    Ok(()) if bad.contains(&path) => bail!("a file that is cut off was imported"),
                    Ok(()) => {
                        kept.insert(path.file_stem().context("a name")?.display().to_string());
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::AlreadyExists | ErrorKind::Invalid => {}
                        // A blank database of another page size, and somebody at work on it.
                        ErrorKind::Unavailable { .. } => {}
                        other => bail!("import: {other:?}: {error}"),
                    },
                }
            }
            stop.store(true, Ordering::Relaxed);
            let mut rows = BTreeSet::new();
            for writer in writers {
                rows.extend(writer.await??);
            }
            ensure!(kept.len() <= 1, "round {round}: told so: {kept:?}");
            check(&cluster, &name, &kept, &rows)
                .await
                .with_context(|| {
                    format!("round {round}: imported {kept:?}, written {}", rows.len())
                })?;
            written += rows.len();
            imported += kept.len();
        }
        ensure!(written > 0 && imported > 0, "{written} rows, {imported}");
        Ok(())
    });
}

/// The database holds the import and the rows that were acknowledged.
async fn check(
    cluster: &TestCluster,
    name: &str,
    imported: &BTreeSet<String>,
    rows: &BTreeSet<i64>,
) -> Result<()> {
    if imported.is_empty() && rows.is_empty() {
        return Ok(());
    }
    let database = cluster
        .ops()
        .database(name)
        .with_level(ReadLevel::Linearizable);
    if let Some(who) = imported.first() {
        let found = database.query("SELECT name FROM who", ()).await?;
        let found: String = found.first().context("a row")?.get(0)?;
        ensure!(found == *who, "it holds {found}");
    }
    if !rows.is_empty() {
        let found = database.query("SELECT a FROM w", ()).await?;
        let found: BTreeSet<i64> = found
            .iter()
            .map(|row| row.get(0))
            .collect::<Result<_, _>>()?;
        let lost: Vec<_> = rows.difference(&found).collect();
        ensure!(lost.is_empty(), "{} rows are lost: {lost:?}", lost.len());
    }
    cluster.check_same(name).await.map(drop)
}

#[test]
fn a_failed_import_leaves_things_as_they_were() {
    run("import-fails", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let admin = cluster.ops().admin();
        let bad = cut_off(scratch, "x", 8192, 50)?;
        for name in ["absent", "blank", "used"] {
            if name != "absent" {
                admin.create_database(name, 4096, false).await?;
            }
            if name == "used" {
                let used = cluster.ops().database(name);
                used.execute("CREATE TABLE t (a)", ()).await?;
            }
            let error = import(cluster.ops(), name, &bad).await.err();
            let error = error.context("it was imported")?;
            ensure!(*error.kind() == ErrorKind::Invalid, "{name}: {error}");
        }
        let databases = admin.list_databases().await?;
        let of = |name: &str| databases.iter().find(|database| database.name == name);
        ensure!(of("absent").is_none());
        let blank = of("blank").context("it was there before")?;
        ensure!(blank.page_size == 4096 && blank.txid == 0, "{blank:?}");
        ensure!(of("used").context("it was there before")?.txid == 1);
        // Names are checked before anything is sent.
        let error = import(cluster.ops(), "no/name", &bad).await.err();
        ensure!(error.is_some_and(|error| *error.kind() == ErrorKind::Invalid));
        Ok(())
    });
}

/// Runs `halite` with the cluster's addresses.
fn spawn(cluster: &TestCluster, args: &[&str]) -> Result<tokio::process::Child> {
    Ok(tokio::process::Command::new(program::halite())
        .args(["--addr", &cluster.local.addrs().join(",")])
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

async fn cli(cluster: &TestCluster, args: &[&str]) -> Result<Output> {
    Ok(spawn(cluster, args)?.wait_with_output().await?)
}

#[test]
fn an_import_goes_on_when_the_primary_dies_in_the_middle_of_it() {
    run("import-failover", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let source = file(scratch, "large", 4096, 20_000)?;
        let path = source.display().to_string();
        for round in 0..2 {
            let name = format!("large{round}");
            let primary = cluster.primary().await?;
            let child = spawn(&cluster, &["import", &path, "--db", &name])?;
            let data = cluster.file(primary, "app");
            let data = data.ancestors().nth(2).context("a data directory")?;
            let staging = data.join("staging");
            wait::until("the upload has begun", PATIENCE, async || {
                let files = std::fs::read_dir(&staging).map_err(|e| e.to_string())?;
                let bytes = |file: std::fs::DirEntry| file.metadata().map_or(0, |meta| meta.len());
                let bytes: u64 = files.flatten().map(bytes).sum();
                (bytes > 1 << 20)
                    .then_some(())
                    .ok_or(format!("{bytes} bytes"))
            })
            .await?;
            cluster.kill(primary)?;
            let output = tokio::time::timeout(4 * PATIENCE, child.wait_with_output()).await??;
            let said = program::text(&output);
            // Its answer may have died with the primary, and the file be there.
            let done = output.status.success() || said.contains("holds something now");
            ensure!(done, "{said}");
            cluster.restart(primary)?;
            cluster.primary().await?;
            cluster.check_same(&name).await?;
            let copy = cluster.file(primary, &name);
            let sum = "SELECT count(*), sum(length(a)), (SELECT name FROM who) FROM ballast";
            ensure!(stock::read(&copy, sum)? == stock::read(&source, sum)?);
        }
        Ok(())
    });
}

#[test]
fn what_is_malformed_is_refused_with_words_and_taken_in_only_by_force() {
    run("import-malformed", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let whole = file(scratch, "whole", 4096, 20)?;
        let cut = cut_off(scratch, "cut", 4096, 20)?;
        let mut bytes = std::fs::read(&whole)?;
        bytes[4096 * 6..4096 * 7].fill(0xa5);
        let garbage = scratch.join("garbage.db");
        std::fs::write(&garbage, &bytes)?;
        bytes.truncate(bytes.len() - 1000);
        let uneven = scratch.join("uneven.db");
        std::fs::write(&uneven, &bytes)?;
        for (path, words) in [
            (&cut, "its end is missing"),
            (&garbage, "--force imports it as it is"),
            (&uneven, "its end is missing"),
        ] {
            let output = cli(&cluster, &["import", &path.display().to_string()]).await?;
            let said = program::text(&output);
            ensure!(!output.status.success() && said.contains(words), "{said}");
        }
        ensure!(cluster.ops().admin().list_databases().await?.len() == 1);
        let path = garbage.display().to_string();
        let output = cli(&cluster, &["import", "--force", &path]).await?;
        let said = program::text(&output);
        ensure!(output.status.success(), "{said}");
        let warned = said.contains("warning:") && said.contains("malformed");
        ensure!(warned, "{said}");
        cluster.check_same("garbage").await?;
        // What a program that died has left in its log is part of the file, through a link, too.
        let link = scratch.join("link.db");
        let crashed = crashed(scratch)?;
        std::os::unix::fs::symlink(&crashed, &link)?;
        let path = link.display().to_string();
        let output = cli(&cluster, &["import", &path]).await?;
        ensure!(output.status.success(), "{}", program::text(&output));
        let rows = cluster
            .ops()
            .database("link")
            .with_level(ReadLevel::Linearizable)
            .query("SELECT group_concat(a) FROM t", ())
            .await?;
        let rows: String = rows.first().context("a row")?.get(0)?;
        ensure!(rows == "1,2", "{rows}");
        Ok(())
    });
}

/// A file in a folder of its own, whose last transaction is in its write-ahead log only.
fn crashed(scratch: &Scratch) -> Result<PathBuf> {
    let folder = scratch.join("crashed");
    std::fs::create_dir(&folder)?;
    let (live, copy) = (folder.join("live.db"), folder.join("copy.db"));
    let writer = rusqlite::Connection::open(&live)?;
    writer.pragma_update(None, "journal_mode", "wal")?;
    writer.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1);")?;
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    writer.execute_batch("INSERT INTO t VALUES (2);")?;
    std::fs::copy(&live, &copy)?;
    std::fs::copy(folder.join("live.db-wal"), folder.join("copy.db-wal"))?;
    Ok(copy)
}

#[test]
fn text_of_another_encoding_replaces_what_is_there_and_all_nodes_read_and_write_on() {
    run("import-encodings", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let encodings = ["UTF-8", "UTF-16le", "UTF-8", "UTF-16be"];
        for (round, encoding) in encodings.iter().enumerate() {
            let path = scratch.join(&format!("{round}.db"));
            let sql = format!(
                "PRAGMA encoding = '{encoding}'; CREATE TABLE t (a); INSERT INTO t VALUES ('häl')"
            );
            ensure!(stock::try_write(&path, &sql)?.is_none());
            let path = path.display().to_string();
            let args = ["import", "--overwrite", "--db", "app", &path];
            let output = cli(&cluster, &args).await?;
            ensure!(output.status.success(), "{}", program::text(&output));
            // Every node leads once, and writes on a connection that it opened before the import.
            for id in cluster.ids() {
                cluster.ops().admin().transfer_leadership(Some(id)).await?;
                cluster.primary().await?;
                app.execute("INSERT INTO t VALUES ('ite')", ()).await?;
            }
            cluster.check_same("app").await?;
            for id in cluster.ids() {
                let mut node = DirectNode::new(&cluster.local.node(id).addr, PATIENCE)?;
                let sql = "SELECT count(*), sum(length(a)) FROM t";
                let found = node
                    .integers("app", sql, &[], v1::ReadLevel::Local)
                    .await
                    .context(id)?;
                ensure!(found == [[4, 12]], "node {id}: {found:?}");
                let file = cluster.file(id, "app");
                ensure!(stock::read(&file, "PRAGMA encoding")? == [*encoding]);
                ensure!(stock::read(&file, "PRAGMA integrity_check")? == ["ok"]);
            }
        }
        Ok(())
    });
}

#[test]
fn a_schema_that_nodes_would_not_read_is_refused_before_anything_is_sent() {
    run("import-shadow-trigger", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let path = scratch.join("shadow.db");
        // Sound for SQLite, and unreadable where shadow tables are protected.
        let made = stock::try_write(
            &path,
            "CREATE VIRTUAL TABLE v USING fts5(t); CREATE TABLE plain (a);
             CREATE TRIGGER tr AFTER INSERT ON v_config BEGIN SELECT 1; END",
        )?;
        ensure!(made.is_none(), "{made:?}");
        let (addr, file) = (
            cluster.local.node(1).addr.clone(),
            path.display().to_string(),
        );
        let ended = program::run(["import", "--addr", &addr, "--db", "shadow", &file])?;
        let said = program::text(&ended);
        ensure!(!ended.status.success(), "{said}");
        ensure!(said.contains("triggers on shadow tables"), "{said}");
        let listed = program::text(&program::run(["db", "list", "--addr", &addr])?);
        ensure!(!listed.contains("shadow"), "{listed}");
        Ok(())
    });
}
