//! What keeps a node from starting is said clearly, costs nothing, and is over when the cause is gone.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use halite_client::{Client, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};

/// Starts a node that must not come up; its exit code and what it said.
async fn refused(args: &[&str]) -> Result<(i32, String)> {
    let mut node = Serving::start(args)?;
    let status = wait::until("the node gives up", PATIENCE, async || {
        node.0
            .try_wait()
            .map_err(|e| e.to_string())?
            .ok_or("it runs".to_owned())
    })
    .await?;
    let mut said = String::new();
    for pipe in [
        node.0
            .stdout
            .take()
            .map(|p| Box::new(p) as Box<dyn std::io::Read>),
        node.0
            .stderr
            .take()
            .map(|p| Box::new(p) as Box<dyn std::io::Read>),
    ]
    .into_iter()
    .flatten()
    {
        let mut pipe = pipe;
        pipe.read_to_string(&mut said)?;
    }
    Ok((status.code().context("killed by a signal")?, said))
}

/// One `halite serve`, ended with this value.
struct Serving(Child);

impl Serving {
    fn start(args: &[&str]) -> Result<Self> {
        let child = Command::new(program::halite())
            .arg("serve")
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_addr() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A node alone in its cluster serves a write.
async fn serves(addr: &str) -> Result<()> {
    let client = wait::until("the node answers", PATIENCE, async || {
        Client::connect([addr]).await
    })
    .await?;
    client.admin().create_database("app", 0, true).await?;
    let app = client.database("app");
    app.execute("CREATE TABLE IF NOT EXISTS t (a)", ()).await?;
    app.execute("INSERT INTO t VALUES (?1)", params![1]).await?;
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn unknown_flags_and_keys_are_refused_with_the_nearest_name() {
    run("unknown", Weight::Light, async |scratch| {
        let (code, said) = refused(&["--elektion-timeout", "1s"]).await?;
        ensure!(code != 0 && said.contains("--election-timeout"), "{said}");
        let file = scratch.join("halite.yml");
        std::fs::write(
            &file,
            "node-id: 1\ndata-dri: /nowhere\nlisten: 127.0.0.1:1\n",
        )?;
        let (code, said) = refused(&["--config", &text(&file)]).await?;
        ensure!(
            code != 0 && said.contains("data-dri") && said.contains("data-dir"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn an_occupied_port_is_named_before_anything_is_touched() {
    run("port", Weight::Light, async |scratch| {
        let holder = TcpListener::bind("127.0.0.1:0")?;
        let addr = holder.local_addr()?.to_string();
        let data = scratch.join("data");
        let args = ["--listen", &addr, "--data-dir", &text(&data)];
        let (code, said) = refused(&args).await?;
        ensure!(
            code != 0 && said.contains(&addr) && said.contains("cannot listen"),
            "{said}"
        );
        ensure!(!data.exists(), "a node without its port touched the disk");
        drop(holder);
        let _node = Serving::start(&args)?;
        serves(&addr).await
    });
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    run("unwritable", Weight::Light, async |scratch| {
        let data = scratch.join("data");
        std::fs::write(&data, "a file where the directory should be")?;
        let addr = free_addr()?;
        let args = ["--listen", &addr, "--data-dir", &text(&data)];
        let (code, said) = refused(&args).await?;
        ensure!(
            code != 0 && said.contains(&text(&data)) && said.contains("data directory"),
            "{said}"
        );
        ensure!(std::fs::metadata(&data)?.is_file(), "the file was replaced");
        std::fs::remove_file(&data)?;
        let _node = Serving::start(&args)?;
        serves(&addr).await
    });
}

#[test]
fn a_data_directory_of_another_node_or_cluster_is_refused() {
    run("wrong-node", Weight::Light, async |scratch| {
        let data = text(&scratch.join("data"));
        let addr = free_addr()?;
        let own = ["--listen", &addr, "--data-dir", &data];
        {
            let _node = Serving::start(&own)?;
            serves(&addr).await?;
        }
        for (flag, value) in [("--node-id", "2"), ("--cluster-name", "other")] {
            let (code, said) = refused(&[&own[..], &[flag, value]].concat()).await?;
            ensure!(
                code != 0 && said.contains("data directory belongs to node 1"),
                "{said}"
            );
        }
        let _node = Serving::start(&own)?;
        serves(&addr).await
    });
}

#[test]
fn two_processes_cannot_share_a_data_directory() {
    run("shared-dir", Weight::Light, async |scratch| {
        let data = text(&scratch.join("data"));
        let addr = free_addr()?;
        let _node = Serving::start(&["--listen", &addr, "--data-dir", &data])?;
        serves(&addr).await?;
        let other = free_addr()?;
        let (code, said) = refused(&["--listen", &other, "--data-dir", &data]).await?;
        ensure!(code != 0 && said.contains("in use"), "{said}");
        serves(&addr).await
    });
}

#[test]
fn a_stray_file_in_the_place_of_a_database_is_kept_aside() {
    run("stray", Weight::Light, async |scratch| {
        let dir = scratch.join("node-2").join("data").join("db");
        std::fs::create_dir_all(&dir)?;
        let stray = "somebody's notes, by no means a database";
        std::fs::write(dir.join("app.db"), stray)?;
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        write_and_compare(&cluster).await?;
        let kept = std::fs::read_dir(&dir)?
            .flatten()
            .any(|item| std::fs::read_to_string(item.path()).is_ok_and(|text| text == stray));
        ensure!(kept, "the stray file was thrown away");
        let said = cluster.log_of(2)?;
        ensure!(
            said.contains("app.db"),
            "nothing was said of the stray file"
        );
        Ok(())
    });
}

#[test]
fn a_directory_in_the_place_of_a_database_holds_up_its_node_alone() {
    run("stray-dir", Weight::Light, async |scratch: &Scratch| {
        let place = scratch
            .join("node-3")
            .join("data")
            .join("db")
            .join("late.db");
        std::fs::create_dir_all(place.join("full"))?;
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        cluster
            .ops()
            .admin()
            .create_database("late", 0, false)
            .await?;
        let late = cluster.ops().database("late");
        late.execute("CREATE TABLE t (a)", ()).await?;
        late.execute("INSERT INTO t VALUES (1)", ()).await?;
        // Whether the node moves it aside or waits for somebody to do so, in the end it has the database.
        if place.is_dir() {
            std::fs::remove_dir_all(&place)?;
        }
        cluster.primary().await?;
        cluster.check_same("late").await?;
        ensure!(
            stock::read(&cluster.file(3, "late"), "SELECT a FROM t")? == ["1"],
            "node 3"
        );
        Ok(())
    });
}

async fn write_and_compare(cluster: &TestCluster) -> Result<()> {
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE t (a)", ()).await?;
    app.execute("INSERT INTO t VALUES (1)", ()).await?;
    cluster.check_same("app").await?;
    Ok(())
}

#[test]
fn a_first_member_names_those_that_it_waits_for() {
    run("waits-for", Weight::Light, async |scratch| {
        let (own, other) = (free_addr()?, free_addr()?);
        let config = |id: u64, addr: &str| -> Result<String> {
            let file = scratch.join(&format!("{id}.yml"));
            let data = scratch.join(&format!("data-{id}"));
            let members = format!("[{{id: 1, addr: \"{own}\"}}, {{id: 2, addr: \"{other}\"}}]");
            std::fs::write(
                &file,
                format!(
                    "node-id: {id}\nlisten: {addr}\ndata-dir: {}\ncluster: {{initial-members: {members}}}\n",
                    text(&data)
                ),
            )?;
            Ok(text(&file))
        };
        let _first = Serving::start(&["--config", &config(1, &own)?])?;
        let waits = format!("still waiting for node 2 at {other}: start them");
        program::status_shows(&own, &[&waits], PATIENCE).await?;
        let _second = Serving::start(&["--config", &config(2, &other)?])?;
        program::status_shows(&own, &["takes writes"], PATIENCE).await?;
        wait::until("nobody waits any more", PATIENCE, async || {
            let said = program::run(["status", "--addr", &own]).map_err(|e| e.to_string())?;
            let said = program::text(&said);
            (!said.contains("waiting")).then_some(()).ok_or(said)
        })
        .await?;
        serves(&own).await
    });
}

/// A first member that waits for the others answers nothing in time, and nobody is kept waiting for longer than they said.
#[test]
fn a_command_on_a_cluster_that_is_not_formed_takes_the_time_that_it_is_given_once() {
    run("not-formed", Weight::Light, async |scratch| {
        let (addr, other) = (free_addr()?, free_addr()?);
        let file = scratch.join("halite.yml");
        let members =
            format!("    - {{ id: 1, addr: {addr} }}\n    - {{ id: 2, addr: {other} }}\n");
        std::fs::write(
            &file,
            format!(
                "node-id: 1\ndata-dir: {}\nlisten: {addr}\ncluster:\n  initial-members:\n{members}",
                text(&scratch.join("data"))
            ),
        )?;
        let _node = Serving::start(&["--config", &text(&file)])?;
        wait::until("the node answers", PATIENCE, async || {
            Client::connect([addr.as_str()]).await.map(drop)
        })
        .await?;
        for sql in [
            "SELECT 1",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "CREATE TABLE t(a)",
        ] {
            for db in [&[][..], &["--db", "app"]] {
                let flags = ["--addr", &addr, "sql", "--timeout", "4s"];
                // Twice the time is half of it too much.
                let mut command = Command::new("timeout");
                command.arg("6").arg(program::halite()).args(flags);
                let output = command.args(db).arg(sql).env("NO_COLOR", "1").output()?;
                let said = program::text(&output);
                let told = said.contains("still waiting for node 2");
                ensure!(
                    output.status.code() == Some(1) && told,
                    "{sql} {db:?}: {said}"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_node_whose_terminal_is_closed_stops_in_order() {
    run("hangup", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let pid = cluster.local.pid(1).context("the node runs")?;
        rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
        ensure!(cluster.ended(1).await? == 0);
        ensure!(cluster.log_of(1)?.contains("stopped"));
        Ok(())
    });
}
