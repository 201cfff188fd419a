//! A database that cannot be opened, created or dropped is in trouble alone: its node, the other databases and the other nodes go on, it says
//! why, and it is well again when the cause is gone.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;
use halite_client::params;
use halite_proto::v1;
use halite_proto::v1::halite_client::HaliteClient;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::wait;

/// More databases than the descriptors of [`FEW`] allow.
const MANY: usize = 60;
/// So few files may be open that [`MANY`] databases do not fit.
const FEW: u64 = 400;

fn limit_open_files(options: &mut LocalClusterOptions, node: u64, limit: u64) {
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    let place = options.places.entry(node).or_default();
    place.launcher = ["bash", "-c", &script, "node"].map(str::to_owned).to_vec();
}

/// Three nodes with the databases `app` and `other`, and a row in each. No configuration names `other`: who drops it is not undone.
async fn two_databases(scratch: &Scratch) -> Result<TestCluster> {
    let cluster = TestCluster::start(scratch, |_| {}).await?;
    let admin = cluster.ops().admin();
    ensure!(admin.create_database("other", 0, false).await?);
    for name in ["app", "other"] {
        let database = cluster.ops().database(name);
        database.execute("CREATE TABLE t (a INTEGER)", ()).await?;
        insert(&cluster, name, 0).await?;
    }
    Ok(cluster)
}

async fn insert(cluster: &TestCluster, name: &str, value: i64) -> Result<()> {
    let database = cluster.ops().database(name);
    let insert = "INSERT INTO t VALUES (?1)";
    let written = database.execute(insert, params![value]).await;
    written
        .map(drop)
        .with_context(|| format!("write to {name}"))
}

/// Waits until a node says that a database is in trouble, for this reason.
async fn says(cluster: &TestCluster, node: u64, name: &str, reason: &str) -> Result<()> {
    wait::until("the node says what is wrong", PATIENCE, async || {
        let status = cluster.database_status(node, name).await;
        let trouble = status.map_err(|e| format!("{e:#}"))?.trouble;
        if trouble.contains(reason) {
            Ok(())
        } else {
            Err(trouble)
        }
    })
    .await
}

/// The node answers linearizable reads of a database that is not in trouble.
async fn serves(cluster: &TestCluster, node: u64, name: &str) -> Result<()> {
    let mut direct = DirectNode::new(&cluster.local.node(node).addr, Duration::from_secs(5))?;
    wait::until("it serves its other database", PATIENCE, async || {
        let level = v1::ReadLevel::Linearizable;
        let rows = direct.integers(name, "SELECT count(*) FROM t", &[], level);
        rows.await.map(drop).map_err(|e| format!("{e:#}"))
    })
    .await
}

/// A read of the database in trouble, beyond what the node has, is refused with the reason.
async fn refuses(cluster: &TestCluster, node: u64, name: &str, reason: &str) -> Result<()> {
    let mut direct = DirectNode::new(&cluster.local.node(node).addr, Duration::from_secs(5))?;
    let level = v1::ReadLevel::Session;
    let rows = direct.integers(name, "SELECT count(*) FROM t", &[], level);
    let error = rows.await.err().context("a database in trouble answered")?;
    ensure!(format!("{error:#}").contains(reason), "{error:#}");
    Ok(())
}

#[test]
fn descriptors_that_run_out_refuse_a_database_and_stop_no_node() {
    run("descriptors", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| {
            (1..=3).for_each(|node| limit_open_files(options, node, FEW));
        })
        .await?;
        let admin = cluster.ops().admin();
        let mut created = Vec::new();
        let refusal = loop {
            let name = format!("many{}", created.len());
            match admin.create_database(&name, 0, false).await {
                Ok(_) => created.push(name),
                Err(error) => break error.to_string(),
            }
            ensure!(
                created.len() < MANY,
                "{MANY} databases fit into {FEW} files"
            );
        };
        ensure!(
            refusal.contains("files open") && refusal.contains("ulimit"),
            "{refusal}"
        );
        let last = created.last().context("none was created")?.clone();
        for id in cluster.ids() {
            ensure!(cluster.local.exited(id)?.is_none(), "node {id} has ended");
        }
        for name in ["app", &last] {
            let database = cluster.ops().database(name);
            database.execute("CREATE TABLE t (a INTEGER)", ()).await?;
            insert(&cluster, name, 1).await?;
        }
        for id in cluster.ids() {
            cluster.kill(id)?;
        }
        for id in cluster.ids() {
            cluster.restart(id)?;
        }
        cluster.primary().await.context("after a restart of all")?;
        for name in ["app", &last] {
            insert(&cluster, name, 2).await?;
            cluster.check_same(name).await?;
        }
        // There is room again when one goes.
        ensure!(admin.drop_database(&last, false).await?);
        ensure!(admin.create_database("late", 0, false).await?);
        cluster.settle("late").await?;
        Ok(())
    });
}

#[test]
fn a_follower_with_fewer_descriptors_has_trouble_alone() {
    run("fewer-descriptors", Weight::Light, async |scratch| {
        // Room for one database, whatever the machine.
        let cluster =
            TestCluster::start(scratch, |options| limit_open_files(options, 3, 200)).await?;
        let admin = cluster.ops().admin();
        cluster.lead(1).await?;
        ensure!(admin.create_database("late", 0, false).await?);
        let late = cluster.ops().database("late");
        late.execute("CREATE TABLE t (a INTEGER)", ()).await?;
        insert(&cluster, "late", 1).await?;
        says(&cluster, 3, "late", "files open").await?;
        ensure!(cluster.database_status(3, "app").await?.trouble.is_empty());
        ensure!(admin.drop_database("app", false).await?);
        cluster.check_same("late").await?;
        Ok(())
    });
}

#[test]
fn a_directory_in_the_place_of_a_file_at_start_is_one_databases_trouble() {
    run("in-the-way", Weight::Light, async |scratch| {
        let mut cluster = two_databases(scratch).await?;
        let node = cluster.follower().await?;
        cluster.settle("app").await?;
        cluster.kill(node)?;
        let file = cluster.file(node, "app");
        let aside = file.with_extension("aside");
        std::fs::rename(&file, &aside)?;
        std::fs::create_dir_all(file.join("full"))?;
        cluster.restart(node)?;
        says(&cluster, node, "app", "cannot be opened").await?;
        refuses(&cluster, node, "app", "cannot be opened").await?;
        serves(&cluster, node, "other").await?;
        for value in 1..20 {
            insert(&cluster, "app", value).await?;
            insert(&cluster, "other", value).await?;
        }
        cluster.check_same("other").await?;
        std::fs::remove_dir_all(&file)?;
        std::fs::rename(&aside, &file)?;
        // What was written meanwhile comes from the log.
        cluster.check_same("app").await?;
        Ok(())
    });
}

/// A stock program that keeps a file locked until it is dropped.
struct Holder {
    sqlite3: Child,
    _input: ChildStdin,
}

impl Holder {
    fn lock(file: &Path) -> Result<Self> {
        let mut sqlite3 = Command::new("sqlite3")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("these tests need the sqlite3 program: apt-get install sqlite3")?;
        let mut input = sqlite3.stdin.take().context("its input")?;
        writeln!(input, "BEGIN IMMEDIATE; SELECT 'locked';")?;
        input.flush()?;
        let mut said = [0_u8; 6];
        let output = sqlite3.stdout.as_mut().context("its output")?;
        std::io::Read::read_exact(output, &mut said)?;
        ensure!(&said == b"locked", "sqlite3 said {said:?}");
        Ok(Self {
            sqlite3,
            _input: input,
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.sqlite3.kill();
        let _ = self.sqlite3.wait();
    }
}

#[test]
fn a_lock_of_a_stock_program_at_start_is_one_databases_trouble() {
    run("locked", Weight::Light, async |scratch| {
        let mut cluster = two_databases(scratch).await?;
        let node = cluster.follower().await?;
        cluster.settle("app").await?;
        cluster.kill(node)?;
        let holder = Holder::lock(&cluster.file(node, "app"))?;
        cluster.restart(node)?;
        says(&cluster, node, "app", "lock").await?;
        serves(&cluster, node, "other").await?;
        for value in 1..20 {
            insert(&cluster, "app", value).await?;
        }
        let status = program::run(["status", "--addr", &cluster.local.node(node).addr])?;
        let told = program::text(&status);
        ensure!(told.contains("cannot be opened"), "{told}");
        drop(holder);
        cluster.check_same("app").await?;
        // Sound enough to lead.
        cluster.lead(node).await?;
        insert(&cluster, "app", 20).await?;
        cluster.check_same("app").await?;
        Ok(())
    });
}

fn cannot_be_created(name: &str, on_primary: bool) {
    run(name, Weight::Light, async |scratch| {
        let mut cluster = two_databases(scratch).await?;
        let node = if on_primary {
            cluster.primary().await?
        } else {
            cluster.follower().await?
        };
        // A new file is written under this name first; root is not stopped by permissions.
        let in_the_way = cluster.file(node, "late.db.halite-new");
        let in_the_way = in_the_way.with_extension("");
        std::fs::create_dir_all(in_the_way.join("full"))?;
        let admin = cluster.ops().admin();
        ensure!(admin.create_database("late", 0, false).await?);
        let late = cluster.ops().database("late");
        late.execute("CREATE TABLE t (a INTEGER)", ())
            .await
            .context("another node leads where the primary cannot create it")?;
        for value in 0..20 {
            insert(&cluster, "late", value).await?;
            insert(&cluster, "app", value).await?;
        }
        ensure!(
            cluster.primary().await? != node,
            "it leads and cannot write"
        );
        says(&cluster, node, "late", "cannot be opened").await?;
        serves(&cluster, node, "app").await?;
        // A restart changes nothing.
        cluster.kill(node)?;
        cluster.restart(node)?;
        says(&cluster, node, "late", "cannot be opened").await?;
        serves(&cluster, node, "app").await?;
        std::fs::remove_dir_all(&in_the_way)?;
        cluster.check_same("late").await?;
        Ok(())
    });
}

#[test]
fn a_follower_that_cannot_create_a_database_serves_the_others() {
    cannot_be_created("create-follower", false);
}

#[test]
fn a_primary_that_cannot_create_a_database_makes_room_for_another() {
    cannot_be_created("create-primary", true);
}

#[test]
fn a_drop_waits_for_nobody_who_reads() {
    run("drop-read", Weight::Light, async |scratch| {
        let cluster = two_databases(scratch).await?;
        let primary = cluster.primary().await?;
        let addr = format!("http://{}", cluster.local.node(primary).addr);
        let mut client = HaliteClient::connect(addr).await?;
        // Far more than fits into all buffers, and nobody takes it.
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
            SELECT randomblob(100000) FROM n, (SELECT a FROM t LIMIT 1)";
        let request = v1::QueryRequest {
            database: "other".to_owned(),
            statement: Some(v1::Statement {
                sql: sql.to_owned(),
                ..v1::Statement::default()
            }),
            timeout_ms: 120_000,
            ..v1::QueryRequest::default()
        };
        let mut rows = client.query(request).await?.into_inner();
        rows.message().await?.context("the first rows")?;

        let admin = cluster.ops().admin();
        ensure!(admin.drop_database("other", false).await?);
        for value in 0..20 {
            insert(&cluster, "app", value).await?;
        }
        ensure!(cluster.primary().await? == primary, "leadership has moved");
        // One of the same name is another one.
        ensure!(admin.create_database("other", 512, false).await?);
        drop(rows);
        cluster.settle("other").await?;
        let other = cluster.ops().database("other");
        other.execute("CREATE TABLE t (a INTEGER)", ()).await?;
        insert(&cluster, "other", 7).await?;
        let found = other.query("SELECT a FROM t", ()).await?;
        ensure!(found.len() == 1 && found[0].get::<i64>(0)? == 7);
        cluster.check_same("other").await?;
        Ok(())
    });
}

#[test]
fn what_a_crash_leaves_of_a_drop_is_gone_after_a_restart() {
    run("drop-crash", Weight::Heavy, async |scratch| {
        let mut cluster = two_databases(scratch).await?;
        let admin = cluster.ops().admin();
        for round in 0..4 {
            ensure!(admin.drop_database("other", false).await?);
            let before_the_crash = round % 2 == 0;
            if before_the_crash {
                ensure!(admin.create_database("other", 0, false).await?);
            }
            for id in cluster.ids() {
                cluster.local.kill_now(id)?;
            }
            for id in cluster.ids() {
                cluster.kill(id)?;
            }
            for id in cluster.ids() {
                cluster.restart(id)?;
            }
            cluster.primary().await?;
            if !before_the_crash {
                for id in cluster.ids() {
                    let file = cluster.file(id, "other");
                    wait::until("its file is gone", PATIENCE, async || {
                        (!file.exists()).then_some(()).ok_or("still there")
                    })
                    .await?;
                }
                ensure!(admin.create_database("other", 0, false).await?);
            }
            let other = cluster.ops().database("other");
            other
                .execute("CREATE TABLE t (a INTEGER)", ())
                .await
                .context("nothing of the one before is in it")?;
            insert(&cluster, "other", round).await?;
            cluster.check_same("other").await?;
            insert(&cluster, "app", round).await?;
        }
        Ok(())
    });
}

#[test]
fn what_a_killed_import_leaves_is_gone_after_a_restart() {
    run("import-left", Weight::Light, async |scratch| {
        let mut cluster = two_databases(scratch).await?;
        let node = cluster.follower().await?;
        cluster.kill(node)?;
        // The first import of a process whose number another one had before, as in a container.
        let left = cluster.file(node, "app").with_extension("db.import-1-0");
        std::fs::create_dir(&left)?;
        std::fs::write(left.join("copy.db"), [0; 4096])?;
        cluster.restart(node)?;
        cluster.primary().await?;
        wait::until("it is gone", PATIENCE, async || {
            (!left.exists()).then_some(()).ok_or("still there")
        })
        .await?;
        insert(&cluster, "app", 1).await?;
        cluster.check_same("app").await.map(drop)
    });
}
