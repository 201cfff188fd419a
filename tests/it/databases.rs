//! Databases are created and dropped while others are written to.

use anyhow::ensure;
use halite_client::{ErrorKind, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, stock, wait};

#[test]
fn one_rule_for_names_whoever_names_a_database() {
    run("names", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let addr = cluster.local.node(1).addr.clone();
        let file = scratch.join("file.db");
        ensure!(stock::try_write(&file, "CREATE TABLE t (a)")?.is_none());
        let file = file.display().to_string();
        let longest = "n".repeat(64);
        let admin = cluster.ops().admin();
        ensure!(admin.create_database(&longest, 0, false).await?);
        for bad in [&format!("{longest}n"), ".hidden", "-dash", "a/b", "é"] {
            let by_api = admin.create_database(bad, 0, false).await;
            let mut told = vec![
                by_api
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default(),
            ];
            let config = scratch.join("bad.yml");
            std::fs::write(&config, format!("dbs:\n  - {{name: \"{bad}\"}}\n"))?;
            let config = config.display().to_string();
            let name = format!("--db={bad}");
            for args in [
                &["--addr", &addr, "db", "create", "--", bad][..],
                &["--addr", &addr, "import", &file, &name],
                &["serve", "--check", "--config", &config],
            ] {
                let ended = program::run(args)?;
                ensure!(!ended.status.success(), "{args:?}");
                told.push(program::text(&ended));
            }
            for told in told {
                ensure!(told.contains("1 to 64 letters, digits"), "{bad}: {told}");
            }
        }
        Ok(())
    });
}

const PAGE_SIZES: [u32; 4] = [512, 4096, 8192, 65536];

#[test]
fn databases_come_and_go_under_load_and_through_failovers() {
    run("come-and-go", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(5)).await?;
        let admin = cluster.ops().admin();
        for round in 0..6_usize {
            let name = format!("temporary{}", round % 2);
            let page_size = PAGE_SIZES[round % PAGE_SIZES.len()];
            ensure!(admin.create_database(&name, page_size, false).await?);
            let database = cluster.ops().database(&name);
            database.execute("CREATE TABLE t (a, b)", ()).await?;
            for n in 0..30 {
                let insert = "INSERT INTO t VALUES (?1, randomblob(2000))";
                database.execute(insert, params![n]).await?;
            }
            if round % 3 == 1 {
                let primary = cluster.primary().await?;
                cluster.kill(primary)?;
                cluster.restart(primary)?;
                cluster.primary().await?;
            }
            cluster.check_same_under_load(&name).await?;
            let rows = database.query("SELECT count(*) FROM t", ()).await?;
            ensure!(rows[0].get::<i64>(0)? == 30);
            ensure!(admin.drop_database(&name, false).await?);
            // The answer to a drop carries no session token: a follower may take a moment to hear of it.
            wait::until("nobody answers for it", PATIENCE, async || {
                match database.query("SELECT 1", ()).await {
                    Err(error) if *error.kind() == ErrorKind::NoSuchDatabase => Ok(()),
                    other => Err(other.map(|rows| rows.len())),
                }
            })
            .await?;
            for id in cluster.ids() {
                wait::until("its file is gone", PATIENCE, async || {
                    if cluster.file(id, &name).exists() {
                        Err("still there")
                    } else {
                        Ok(())
                    }
                })
                .await?;
            }
        }
        {
            let _paused = load.pause().await;
            let primary = cluster.primary().await?;
            cluster.check_same("app").await?;
            load.check(&cluster, primary)?;
        }
        load.stop().await;
        Ok(())
    });
}

#[test]
fn every_page_size_is_replicated_page_by_page() {
    run("page-sizes", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.databases = PAGE_SIZES.map(|size| (format!("p{size}"), size)).to_vec();
        })
        .await?;
        for size in PAGE_SIZES {
            let database = cluster.ops().database(format!("p{size}"));
            database
                .execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", ())
                .await?;
            for _ in 0..20 {
                database
                    .execute("INSERT INTO t (b) VALUES (randomblob(5000))", ())
                    .await?;
            }
            database
                .execute("DELETE FROM t WHERE a % 2 = 0", ())
                .await?;
            database.execute("VACUUM", ()).await?;
            cluster.check_same(&format!("p{size}")).await?;
        }
        Ok(())
    });
}
