//! What `halite sql` prints, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::TestCluster;
use halite_tests::program;
use halite_tests::scratch::{Weight, run};

/// Rows of a kilobyte each, without end.
const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT printf('%01000d', x) AS v FROM n";
const MEBIBYTE: usize = 1 << 20;

fn start(cluster: &TestCluster, args: &[&str]) -> Result<Child> {
    let addrs = cluster.local.addrs().join(",");
    let child = Command::new(program::halite())
        .args(["--addr", &addrs, "sql", "--db", "app", "--timeout", "2m"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// The most memory that a process has had.
fn peak_bytes(child: &Child) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kilobytes.context("no peak")?.parse::<usize>()? << 10)
}

#[test]
fn rows_are_printed_as_they_come_and_nobody_holds_them() {
    run("endless-rows", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        for mode in ["csv", "json", "line", "table", "column"] {
            let mut child = start(&cluster, &["--mode", mode, ENDLESS])?;
            let out = child.stdout.take().context("a pipe")?;
            let mut out = BufReader::new(out);
            let mut first = String::new();
            out.read_line(&mut first)?;
            ensure!(!first.is_empty(), "{mode}");
            let mut some = vec![0; MEBIBYTE];
            for _ in 0..200 {
                out.read_exact(&mut some)?;
            }
            let peak = peak_bytes(&child)?;
            ensure!(peak < 100 * MEBIBYTE, "{mode}: {peak}");
            // Whoever reads has enough: that is no failure.
            drop(out);
            let output = child.wait_with_output()?;
            ensure!(
                output.status.success() && output.stderr.is_empty(),
                "{mode}: {}",
                program::text(&output)
            );
        }
        Ok(())
    });
}

#[test]
fn an_error_among_the_rows_is_told_after_those_that_came() {
    run("broken-rows", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                   SELECT abs(iif(x < 200000, x, -9223372036854775807 - 1)) AS v FROM n";
        let output = start(&cluster, &["--mode", "csv", sql])?.wait_with_output()?;
        let (out, said) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        let rows = out.lines().count() - 1;
        ensure!(
            output.status.code() == Some(1) && rows > 100_000,
            "{rows} {said}"
        );
        ensure!(
            out.ends_with(&format!("\n{rows}\n")),
            "row {rows} is not whole"
        );
        ensure!(
            said.contains(&format!("the rows end after {rows}: integer overflow")),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn errors_name_the_code_that_sqlite_gave_them() {
    run("error-codes", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let client = cluster.client().await?;
        let app = client.database("app");
        app.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)", ())
            .await?;
        app.execute("INSERT INTO t VALUES(1)", ()).await?;
        let said = |args: &[&str]| {
            let output = start(&cluster, args)?.wait_with_output()?;
            ensure!(
                output.status.code() == Some(1),
                "{}",
                program::text(&output)
            );
            Ok(String::from_utf8(output.stderr)?)
        };
        let twice = "BEGIN; INSERT INTO t VALUES(1); COMMIT";
        let text = said(&[twice])?;
        ensure!(
            text.contains("(SQLITE_CONSTRAINT_PRIMARYKEY, 1555)"),
            "{text}"
        );
        let text = said(&["SELECT missing"])?;
        ensure!(
            text.contains("no such column: missing") && text.ends_with("(SQLITE_ERROR, 1)\n"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&said(&["--json", twice])?)?;
        ensure!(
            json["error"]["sqlite_name"] == "SQLITE_CONSTRAINT_PRIMARYKEY",
            "{json}"
        );
        ensure!(json["error"]["sqlite_code"] == 1555, "{json}");
        // What only a prompt has is of no help here.
        let output = program::run([
            "--addr",
            &cluster.local.addrs().join(","),
            "db",
            "create",
            "other",
        ])?;
        ensure!(output.status.success(), "{}", program::text(&output));
        let addrs = cluster.local.addrs().join(",");
        let output = program::run(["--addr", &addrs, "sql", "SELECT 1"])?;
        let text = program::text(&output);
        ensure!(
            text.contains("--db NAME") && !text.contains(".open"),
            "{text}"
        );
        let output = program::run(["--addr", &addrs, "sql", ".nonsense"])?;
        ensure!(
            !program::text(&output).contains(".help"),
            "{}",
            program::text(&output)
        );
        Ok(())
    });
}

#[test]
fn a_terminal_gets_what_fits_it_and_a_pipe_gets_everything() {
    run("terminal", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.client().await?.database("app");
        app.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)", ())
            .await?;
        let on_terminal = |sql: &str, setting: &str| {
            let (halite, addrs) = (program::halite(), cluster.local.addrs().join(","));
            let line = format!(
                "stty cols 60; {setting} {} --addr {addrs} sql --db app \"{sql}\"",
                halite.display()
            );
            let output = Command::new("script")
                .args(["-qc", &line, "/dev/null"])
                .stdin(Stdio::null())
                .env("TERM", "xterm")
                .env_remove("NO_COLOR")
                .output()?;
            Ok::<_, anyhow::Error>(program::text(&output).replace('\r', ""))
        };
        let wrote = on_terminal("INSERT INTO t VALUES(1, zeroblob(500))", "")?;
        ensure!(wrote == "1 row\n", "{wrote}");
        let shown = on_terminal("SELECT * FROM t", "")?;
        ensure!(
            shown.contains("| 1 | x'0000") && shown.contains("… |\n"),
            "{shown}"
        );
        ensure!(
            shown.lines().all(|line| line.chars().count() <= 60),
            "{shown}"
        );
        let wrong = on_terminal("SELECT missing", "")?;
        ensure!(wrong.contains("\u{1b}[31m"), "{wrong:?}");
        let plain = on_terminal("SELECT missing", "NO_COLOR=1")?;
        ensure!(
            plain.contains("error: ") && !plain.contains('\u{1b}'),
            "{plain:?}"
        );
        let piped = start(&cluster, &["INSERT INTO t VALUES(2, 0); SELECT * FROM t"])?;
        let piped = program::text(&piped.wait_with_output()?);
        ensure!(
            piped.contains(&"00".repeat(500)) && !piped.contains("row"),
            "{piped}"
        );
        Ok(())
    });
}
