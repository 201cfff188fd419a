//! Database files that were edited while their nodes were stopped, on every node there is: an operator says what counts, and nothing is lost in
//! silence.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::pages::Pages;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};

/// A cluster whose database `app` is in its file, with the row `kept`.
async fn filled(scratch: &Scratch, nodes: u64) -> Result<TestCluster> {
    let archive = format!("file://{}", scratch.join("archive").display());
    let cluster = TestCluster::start(scratch, |options| {
        options.nodes = nodes;
        options.archive_url = Some(archive);
    })
    .await?;
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE t (a TEXT)", ()).await?;
    app.execute("INSERT INTO t VALUES ('kept')", ()).await?;
    cluster.settle("app").await?;
    for node in cluster.ids() {
        wait::until("the file holds everything", PATIENCE, async || {
            let status = cluster.database_status(node, "app").await;
            match status.map_err(|e| format!("{e:#}"))?.wal_bytes {
                0 => Ok(()),
                bytes => Err(format!("wal_bytes={bytes}")),
            }
        })
        .await?;
    }
    Ok(cluster)
}

/// Stops all nodes, edits the files of `edited` with a program that knows nothing of Halite, and starts all but `away`.
fn edit(cluster: &mut TestCluster, edited: &[u64], away: Option<u64>) -> Result<()> {
    for node in cluster.ids() {
        cluster.local.terminate(node, PATIENCE)?;
    }
    for node in edited {
        let row = format!("INSERT INTO t VALUES ('stranger {node}')");
        let refused = stock::try_write(&cluster.file(*node, "app"), &row)?;
        ensure!(refused.is_none(), "{refused:?}");
    }
    for node in cluster.ids().into_iter().filter(|id| Some(*id) != away) {
        cluster.restart(node)?;
    }
    Ok(())
}

fn halite(cluster: &TestCluster, args: &[&str]) -> Result<(bool, String)> {
    let addrs = cluster.local.addrs().join(",");
    let output = program::run([args, &["--addr", &addrs]].concat())?;
    Ok((output.status.success(), program::text(&output)))
}

/// Waits until `halite status` says this; all that it says.
async fn status_says(cluster: &TestCluster, words: &str) -> Result<String> {
    wait::until("`halite status` says so", PATIENCE, async || {
        let (_, said) = halite(cluster, &["status"]).map_err(|e| e.to_string())?;
        said.contains(words).then(|| said.clone()).ok_or(said)
    })
    .await
}

/// Repairs, and where the other version is kept.
fn repair(cluster: &TestCluster, keep: &str) -> Result<PathBuf> {
    let (good, said) = halite(cluster, &["db", "repair", "app", keep])?;
    ensure!(good, "{said}");
    let path = said.trim().rsplit(' ').next().context(said.clone())?;
    ensure!(Path::new(path).is_file(), "no such file: {said}");
    Ok(path.into())
}

fn rows(file: &Path) -> Result<Vec<String>> {
    stock::read(file, "SELECT a FROM t ORDER BY rowid")
}

/// It takes writes, log and archive lead to the same content, and it does not forget.
async fn goes_on(scratch: &Scratch, cluster: &mut TestCluster, expected: &[&str]) -> Result<()> {
    cluster.primary().await?;
    let app = cluster.ops().database("app");
    app.execute("INSERT INTO t VALUES ('new')", ()).await?;
    let expected: Vec<&str> = expected.iter().copied().chain(["new"]).collect();
    let pages = cluster.check_same("app").await?;
    for node in cluster.ids() {
        ensure!(rows(&cluster.file(node, "app"))? == expected);
    }
    let txid = cluster.archived("app").await?;
    ensure!(txid > 0);
    let copy = scratch.join("restored.db");
    let archive = format!("file://{}", scratch.join("archive/app").display());
    program::restore(&archive, &copy, &["-integrity-check", "full"])?;
    ensure!(rows(&copy)? == expected);
    for node in cluster.ids() {
        cluster.kill(node)?;
    }
    for node in cluster.ids() {
        cluster.restart(node)?;
    }
    cluster.primary().await?;
    let again: Pages = cluster.check_same("app").await?;
    ensure!(again == pages, "the restart changed something");
    status_says(cluster, "takes writes").await.map(drop)
}

#[test]
fn a_lone_node_whose_file_was_edited_names_the_way_out_and_keeps_the_file_if_told() {
    run("keep-file", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 1).await?;
        edit(&mut cluster, &[1], None)?;
        let said = status_says(&cluster, "halite db repair app --keep-file").await?;
        ensure!(said.contains("halite db repair app --keep-log"), "{said}");
        status_says(&cluster, "CANNOT WRITE TO app, node 1 leads").await?;
        let (good, said) = halite(
            &cluster,
            &["sql", "--db", "app", "INSERT INTO t VALUES (1)"],
        )?;
        ensure!(
            !good && said.contains("`halite status` says what to do"),
            "{said}"
        );
        let of_log = repair(&cluster, "--keep-file")?;
        ensure!(rows(&of_log)? == ["kept"]);
        goes_on(scratch, &mut cluster, &["kept", "stranger 1"]).await
    });
}

#[test]
fn a_lone_node_whose_file_was_edited_goes_back_to_its_log_if_told() {
    run("keep-log", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 1).await?;
        edit(&mut cluster, &[1], None)?;
        status_says(&cluster, "halite db repair app --keep-log").await?;
        let of_file = repair(&cluster, "--keep-log")?;
        ensure!(rows(&of_file)? == ["kept", "stranger 1"]);
        goes_on(scratch, &mut cluster, &["kept"]).await?;
        let (good, said) = halite(&cluster, &["db", "repair", "app", "--keep-log"])?;
        ensure!(!good && said.contains("needs no repair"), "{said}");
        Ok(())
    });
}

/// Copies of what did not come from the log, beside the database of a node.
fn orphans(cluster: &TestCluster, node: u64) -> Result<Vec<PathBuf>> {
    let prefix = cluster.file(node, "app").display().to_string() + ".orphan-";
    let dir = cluster.local.node(node).data_dir.join("db");
    let files = std::fs::read_dir(dir)?.map(|file| Ok(file?.path()));
    let files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    let is_one = |file: &PathBuf| file.display().to_string().starts_with(&prefix);
    Ok(files.into_iter().filter(is_one).collect())
}

/// What was in the files of all nodes but the one that counted is beside them, and `halite status` tells of it.
async fn the_others_keep_theirs(cluster: &TestCluster, counted: u64) -> Result<()> {
    for node in cluster.ids().into_iter().filter(|id| *id != counted) {
        let kept = orphans(cluster, node)?;
        let [kept] = kept.as_slice() else {
            anyhow::bail!("node {node} keeps {kept:?}");
        };
        ensure!(rows(kept)? == ["kept", &format!("stranger {node}")]);
        status_says(cluster, &kept.display().to_string()).await?;
    }
    Ok(())
}

#[test]
fn three_files_that_were_all_edited_become_one_database_again() {
    run("keep-one-of-three", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 3).await?;
        edit(&mut cluster, &[1, 2, 3], None)?;
        status_says(&cluster, "halite db repair app --keep-file").await?;
        let of_log = repair(&cluster, "--keep-file")?;
        ensure!(rows(&of_log)? == ["kept"]);
        let primary = cluster.primary().await?;
        let stranger = format!("stranger {primary}");
        goes_on(scratch, &mut cluster, &["kept", &stranger]).await?;
        the_others_keep_theirs(&cluster, primary).await
    });
}

#[test]
fn three_files_that_were_all_edited_are_all_kept_when_the_log_counts() {
    run("keep-log-of-three", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 3).await?;
        edit(&mut cluster, &[1, 2, 3], None)?;
        status_says(&cluster, "halite db repair app --keep-log").await?;
        let of_file = repair(&cluster, "--keep-log")?;
        let primary = cluster.primary().await?;
        ensure!(rows(&of_file)? == ["kept", &format!("stranger {primary}")]);
        goes_on(scratch, &mut cluster, &["kept"]).await?;
        the_others_keep_theirs(&cluster, primary).await
    });
}

#[test]
fn nothing_is_given_up_while_a_node_may_have_a_sound_copy() {
    run("may-be-sound", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 3).await?;
        edit(&mut cluster, &[1, 2], Some(3))?;
        status_says(&cluster, "CANNOT WRITE TO app").await?;
        for keep in ["--keep-file", "--keep-log"] {
            let (good, said) = halite(&cluster, &["db", "repair", "app", keep])?;
            ensure!(
                !good && said.contains("may have a sound copy") && said.contains("member remove 3"),
                "{said}"
            );
        }
        cluster.restart(3)?;
        // It takes over, and the others are repaired from it.
        goes_on(scratch, &mut cluster, &["kept"]).await
    });
}

#[test]
fn what_the_log_overwrites_at_a_start_is_kept_beside_it() {
    run("overwritten", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 1).await?;
        let app = cluster.ops().database("app");
        // In the log and not yet in the file: the start writes its page once more.
        app.execute("INSERT INTO t VALUES ('last')", ()).await?;
        edit(&mut cluster, &[1], None)?;
        cluster.primary().await?;
        let kept = orphans(&cluster, 1)?;
        ensure!(kept.len() == 1, "{kept:?}");
        ensure!(rows(&kept[0])? == ["kept", "last", "stranger 1"]);
        ensure!(
            cluster
                .log_of(1)?
                .contains("changed while the node was stopped")
        );
        // Also after further restarts, until somebody has seen it.
        let words = "changed while this node was stopped";
        goes_on(scratch, &mut cluster, &["kept", "last"]).await?;
        let said = status_says(&cluster, words).await?;
        ensure!(said.contains(&kept[0].display().to_string()), "{said}");
        std::fs::rename(&kept[0], scratch.join("seen.db"))?;
        wait::until("`halite status` is content", PATIENCE, async || {
            let (good, said) = halite(&cluster, &["status"]).map_err(|e| e.to_string())?;
            (good && !said.contains(words)).then_some(()).ok_or(said)
        })
        .await
    });
}

#[test]
fn a_file_that_is_gone_comes_back_from_the_log() {
    run("file-gone", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 1).await?;
        cluster.local.terminate(1, PATIENCE)?;
        std::fs::remove_file(cluster.file(1, "app"))?;
        cluster.restart(1)?;
        status_says(&cluster, "halite db repair app --keep-log").await?;
        let (good, said) = halite(&cluster, &["db", "repair", "app", "--keep-file"])?;
        ensure!(
            !good && said.contains("nothing in the file to keep"),
            "{said}"
        );
        let (good, said) = halite(&cluster, &["db", "repair", "app", "--keep-log"])?;
        ensure!(good && said.contains("there was nothing in it"), "{said}");
        goes_on(scratch, &mut cluster, &["kept"]).await
    });
}

#[test]
fn a_malformed_file_is_not_taken_in() {
    run("keep-malformed", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch, 1).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE INDEX i ON t (a)", ()).await?;
        cluster.settle("app").await?;
        cluster.local.terminate(1, PATIENCE)?;
        let file = cluster.file(1, "app");
        let noise = vec![0xa5; 4096];
        std::os::unix::fs::FileExt::write_all_at(
            &std::fs::File::options().write(true).open(&file)?,
            &noise,
            4096,
        )?;
        cluster.restart(1)?;
        status_says(&cluster, "halite db repair app --keep-file").await?;
        let (good, said) = halite(&cluster, &["db", "repair", "app", "--keep-file"])?;
        ensure!(!good && said.contains("malformed"), "{said}");
        let copy = said.split("`sqlite3 ").nth(1).context(said.clone())?;
        let copy = copy.split(" .recover").next().context("a path")?;
        ensure!(std::fs::read(copy)?[4096..8192] == noise[..], "{said}");
        repair(&cluster, "--keep-log")?;
        ensure!(rows(&file)? == ["kept"]);
        Ok(())
    });
}
