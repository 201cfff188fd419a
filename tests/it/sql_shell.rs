//! What people pipe into `halite sql` and type there.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;
use halite_tests::cluster::TestCluster;
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::stock;

/// Rows of the dump that is loaded.
const ROWS: usize = 100_000;

/// So little that no transaction of many statements is done in it, unless it comes as one call.
fn no_time_between_statements(options: &mut LocalClusterOptions) {
    options.extra_config = "transaction-timeout: 10ms\n".to_owned();
}

async fn sql(cluster: &TestCluster, args: &[&str], input: Option<String>) -> Result<Output> {
    let addrs = cluster.local.addrs().join(",");
    let mut command = Command::new(program::halite());
    command
        .args(["--addr", &addrs, "sql", "--db", "app", "--mode", "csv"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || -> Result<Output> {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let writer =
            std::thread::spawn(move || stdin.write_all(input.unwrap_or_default().as_bytes()));
        let output = child.wait_with_output()?;
        // Who fails early does not read to the end.
        let _ = writer.join();
        Ok(output)
    });
    output.await?
}

async fn good(cluster: &TestCluster, args: &[&str], input: Option<String>) -> Result<String> {
    let output = sql(cluster, args, input).await?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        program::text(&output)
    );
    Ok(String::from_utf8(output.stdout)?)
}

async fn bad(cluster: &TestCluster, input: &str) -> Result<String> {
    let output = sql(cluster, &[], Some(input.to_owned())).await?;
    ensure!(
        !output.status.success(),
        "{input}: {}",
        program::text(&output)
    );
    Ok(program::text(&output))
}

/// Has the stock shell make a file.
fn stock_script(file: &Path, script: &str) -> Result<()> {
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(file)
        .stdin(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(script.as_bytes())?;
    ensure!(child.wait()?.success(), "sqlite3 refuses the script");
    Ok(())
}

/// Everything that is in the database, in an order that does not depend on how it came there.
const CONTENT: &str = "SELECT (SELECT count(*) || ':' || sum(a) FROM t), (SELECT group_concat(id || p) FROM c), \
     (SELECT group_concat(rowid) FROM f WHERE f MATCH 'words'), (SELECT group_concat(id) FROM r WHERE x0 < 3), \
     (SELECT group_concat(seq) FROM sqlite_sequence)";

#[test]
fn a_stock_dump_is_loaded_at_once_and_whole() {
    run("stock-dump", Weight::Heavy, async |scratch| {
        let source = scratch.dir().join("source.db");
        stock_script(
            &source,
            &format!(
                "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p);
                 CREATE TABLE p(id INTEGER PRIMARY KEY AUTOINCREMENT, note);
                 INSERT INTO p VALUES(1, 'a; ''b''' || char(10) || '-- c'), (2, x'00ff');
                 INSERT INTO c VALUES(10, 1), (11, 2);
                 CREATE TABLE t(a, b);
                 INSERT INTO t SELECT value, 'row ' || value FROM generate_series(1, {ROWS});
                 CREATE INDEX i ON t(b);
                 CREATE VIRTUAL TABLE f USING fts5(body);
                 INSERT INTO f VALUES('some words'), ('other'), ('words again');
                 CREATE VIRTUAL TABLE r USING rtree(id, x0, x1);
                 INSERT INTO r VALUES(1, 1, 2), (2, 5, 6);
                 CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE p SET note = 1; SELECT 1; END;"
            ),
        )?;
        let dump = Command::new("sqlite3").arg(&source).arg(".dump").output()?;
        let dump = String::from_utf8(dump.stdout)?;
        ensure!(dump.lines().count() > ROWS && dump.contains("writable_schema=ON"));
        let cluster = TestCluster::start(scratch, no_time_between_statements).await?;
        good(&cluster, &[], Some(dump.clone())).await?;
        let primary = cluster.primary().await?;
        cluster.settle("app").await?;
        let file = cluster.file(primary, "app");
        ensure!(stock::read(&file, CONTENT)? == stock::read(&source, CONTENT)?);
        ensure!(stock::read(&file, "PRAGMA integrity_check")? == ["ok"]);
        // A second one fails at its first table, and says where; nothing of it is there.
        let said = bad(&cluster, &dump).await?;
        ensure!(said.contains("already exists"), "{said}");
        ensure!(stock::read(&file, CONTENT)? == stock::read(&source, CONTENT)?);
        cluster.check_same("app").await?;
        // What is dumped here is loaded by stock SQLite.
        let ours = good(&cluster, &[".dump"], None).await?;
        let copy = cluster
            .file(primary, "app")
            .with_file_name("copy-of-dump.sqlite");
        stock_script(&copy, &ours)?;
        ensure!(stock::read(&copy, CONTENT)? == stock::read(&source, CONTENT)?);
        Ok(())
    });
}

#[test]
fn many_statements_on_one_line_are_sent_at_once() {
    run("one-line", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, no_time_between_statements).await?;
        good(&cluster, &["CREATE TABLE t(a)"], None).await?;
        let line = format!(
            "BEGIN;{}COMMIT;",
            "INSERT INTO t VALUES(1);".repeat(300_000)
        );
        good(&cluster, &[], Some(line)).await?;
        ensure!(good(&cluster, &["SELECT count(*) AS n FROM t"], None).await? == "n\n300000\n");
        Ok(())
    });
}

#[test]
fn scripts_and_dot_commands_do_what_the_stock_shell_does() {
    run("shell", Weight::Light, async |scratch| {
        let file = scratch.dir().join("more.sql");
        std::fs::write(
            &file,
            "\u{feff}.headers off\nINSERT INTO p VALUES(3, 'read');\n",
        )?;
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let schema = "CREATE TABLE p(id INTEGER PRIMARY KEY, v); CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);
                      INSERT INTO p VALUES(1, 'x'), (2, 'y'); INSERT INTO c VALUES(10, 1), (11, 2);";
        good(&cluster, &[schema], None).await?;
        // A migration as frameworks write it: no child is lost.
        let rebuild = "PRAGMA foreign_keys=OFF;\nPRAGMA foreign_keys;\nBEGIN TRANSACTION;\nCREATE TABLE n(id INTEGER PRIMARY KEY, v TEXT);
             INSERT INTO n SELECT * FROM p;\nDROP TABLE p;\nALTER TABLE n RENAME TO p;\nCOMMIT;\nPRAGMA foreign_keys=ON;\nPRAGMA foreign_keys;\n";
        let said = good(&cluster, &[], Some(rebuild.to_owned())).await?;
        ensure!(said == "foreign_keys\n0\nforeign_keys\n1\n", "{said}");
        // The same where a statement is waited for in the middle.
        let waited = rebuild.replace("DROP", "SELECT count(*) AS n FROM n;\nDROP");
        let said = good(&cluster, &[], Some(waited)).await?;
        ensure!(said == "foreign_keys\n0\nn\n2\nforeign_keys\n1\n", "{said}");
        let count = good(&cluster, &["SELECT count(*) AS n FROM c"], None).await?;
        ensure!(count == "n\n2\n", "{count}");
        let said = bad(
            &cluster,
            "PRAGMA foreign_keys=OFF;\nBEGIN;\nDELETE FROM p WHERE id = 1;\nCOMMIT;\n",
        )
        .await?;
        ensure!(said.contains("rowid=10"), "{said}");
        for (input, words) in [
            ("BEGIN NONSENSE;\n", "syntax error"),
            ("BEGIN;\nCOMMIT LATER;\n", "syntax error"),
            ("BEGIN;\nBEGIN;\n", "within a transaction"),
            (
                "BEGIN;\nINSERT INTO p VALUES(9, 9);\n",
                "ends inside a transaction",
            ),
            (
                "BEGIN;\nINSERT INTO p VALUES(9, 9);\n.quit\n",
                "ends inside a transaction",
            ),
            (
                "BEGIN;\nINSERT INTO p VALUES(9, 9);\nINSERT INTO nothing VALUES(1);\nCOMMIT;\n",
                "INSERT INTO nothing",
            ),
        ] {
            let said = bad(&cluster, input).await?;
            ensure!(said.contains(words), "{input}: {said}");
        }
        let read = format!(
            ".headers off\n.read {}\nBEGIN IMMEDIATE TRANSACTION;\nDELETE FROM p WHERE id = 3;\nROLLBACK;\nSELECT id FROM p;\n",
            file.display()
        );
        let said = good(&cluster, &[], Some(read)).await?;
        ensure!(said == "1\n2\n3\n", "{said}");
        ensure!(good(&cluster, &[".tables"], None).await? == "c\np\n");
        let more = "CREATE INDEX by_v ON p(v); CREATE VIRTUAL TABLE f USING fts5(body); CREATE VIEW w AS SELECT 1";
        good(&cluster, &[more], None).await?;
        // What a virtual table keeps its content in is nobody's table.
        let said = good(&cluster, &[".tables"], None).await?;
        ensure!(said == "c\nf\np\nw\n", "{said}");
        let said = good(&cluster, &[".indexes"], None).await?;
        ensure!(said == "by_v\n", "{said}");
        let said = good(&cluster, &[".indexes c"], None).await?;
        ensure!(said.is_empty(), "{said}");
        let said = good(&cluster, &[".schema f%"], None).await?;
        ensure!(
            said == "CREATE VIRTUAL TABLE f USING fts5(body);\n",
            "{said}"
        );
        let said = good(
            &cluster,
            &[".mode column\nSELECT id, v FROM p WHERE id = 1;"],
            None,
        )
        .await?;
        ensure!(said == "id  v\n 1  x\n", "{said}");
        let said = good(&cluster, &["SELECT sqrt(16) AS r"], None).await?;
        ensure!(said == "r\n4.0\n", "{said}");
        Ok(())
    });
}

#[test]
fn a_statement_gets_the_time_that_its_caller_gives() {
    run("shell-timeout", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        good(&cluster, &["CREATE TABLE t (a)"], None).await?;
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t SELECT x FROM n WHERE x < 9";
        let late = sql(&cluster, &["--timeout", "500ms", endless], None).await?;
        let said = program::text(&late);
        ensure!(
            !late.status.success() && said.contains("nothing of it was kept"),
            "{said}"
        );
        let never = sql(&cluster, &["--timeout", "0s", "SELECT 1"], None).await?;
        let said = program::text(&never);
        ensure!(said.contains("--timeout"), "{said}");
        Ok(())
    });
}

#[test]
fn each_run_reads_what_the_one_before_it_wrote_and_says_so_once_where_no_quorum_answers() {
    run("levels", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let create = "CREATE TABLE t(a); INSERT INTO t VALUES(0)";
        good(&cluster, &[create], None).await?;
        for round in 1..=30 {
            good(&cluster, &["UPDATE t SET a = a + 1"], None).await?;
            let said = good(&cluster, &["SELECT a FROM t"], None).await?;
            ensure!(said == format!("a\n{round}\n"), "round {round}: {said}");
        }
        cluster.settle("app").await?;
        let (primary, others) = cluster.roles().await?;
        cluster.kill(primary)?;
        cluster.kill(others[0])?;
        let reads = "SELECT a FROM t;\nWITH x AS (SELECT a FROM t) SELECT a FROM x;\n";
        let output = sql(&cluster, &[], Some(reads.to_owned())).await?;
        ensure!(output.status.success(), "{}", program::text(&output));
        ensure!(output.stdout == b"a\n30\na\n30\n");
        let warned = String::from_utf8(output.stderr)?;
        ensure!(warned.matches("no quorum answers").count() == 1, "{warned}");
        let output = sql(&cluster, &[], Some(".dump\n".to_owned())).await?;
        let (dump, warned) = (program::text(&output), &output.stderr);
        ensure!(
            output.status.success() && dump.contains("VALUES(30);"),
            "{dump}"
        );
        ensure!(std::str::from_utf8(warned)?.contains("no quorum answers"));
        // Who asks for a level gets it or nothing.
        let strict = ["--level", "linearizable", "SELECT a FROM t"];
        let output = sql(&cluster, &strict, None).await?;
        ensure!(!output.status.success(), "{}", program::text(&output));
        let said = bad(&cluster, "UPDATE t SET a = 0;\n").await?;
        ensure!(!said.contains("no quorum answers: from"), "{said}");
        Ok(())
    });
}

#[test]
fn errors_of_scripts_name_the_line_that_failed() {
    run("script-lines", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let schema = "CREATE TABLE l(a UNIQUE); CREATE TABLE d(a REFERENCES l(a) DEFERRABLE INITIALLY DEFERRED);";
        good(&cluster, &[schema], None).await?;
        let file = |name: &str, content: &str| -> Result<String> {
            let path = scratch.dir().join(name);
            std::fs::write(&path, content)?;
            Ok(path.display().to_string())
        };
        let inner = file(
            "inner.sql",
            "INSERT INTO l VALUES(7);\nINSERT INTO l\nVALUES(7);\n",
        )?;
        let within = file(
            "within.sql",
            "INSERT INTO l VALUES(8);\nINSERT INTO l\nVALUES(8);\n",
        )?;
        let unique = "UNIQUE constraint failed: l.a";
        for (script, place, words) in [
            // Sent as a whole, at its COMMIT.
            (
                "BEGIN;\nINSERT INTO l VALUES(1);\n\n-- a remark\nINSERT INTO l\n  VALUES(1);\nINSERT INTO l VALUES(2);\nCOMMIT;\n".to_owned(),
                "line 5".to_owned(),
                unique,
            ),
            ("PRAGMA foreign_keys=OFF;\nBEGIN;\nINSERT INTO l VALUES(1);\nINSERT INTO l VALUES(1);\nCOMMIT;\n".into(), "line 4".into(), unique),
            // Begun late, since somebody waits for an answer.
            ("BEGIN;\nINSERT INTO l VALUES(1);\nINSERT INTO l VALUES(1);\nSELECT 1;\nCOMMIT;\n".into(), "line 3".into(), unique),
            ("BEGIN;\nSELECT 1;\nINSERT INTO l VALUES(1), (1);\nCOMMIT;\n".into(), "line 3".into(), unique),
            // No statement of it is to blame.
            ("BEGIN;\nINSERT INTO d VALUES(1);\nINSERT INTO l VALUES(2);\nCOMMIT;\n".into(), "line 4".into(), "FOREIGN KEY constraint failed (SQLITE"),
            // Outside of transactions.
            (".headers off\n/* more\nlines */ SELECT 1;\n\nSELECT\n  no_column;\nSELECT 2;\n".into(), "line 5".into(), "no such column: no_column"),
            ("SELECT 1;\nSELECT 2; SELECT 3;\n.nonsense\n".into(), "line 3".into(), "unknown command .nonsense"),
            ("SELECT 1;\n\nSELECT no_column".into(), "line 3".into(), "no such column: no_column"),
            (format!("SELECT 1;\n.read {inner}\n"), format!("line 2 of {inner}"), unique),
            (format!("BEGIN;\n.read {within}\nCOMMIT;\n"), format!("line 2 of {within}"), unique),
        ] {
            let said = bad(&cluster, &script).await?;
            ensure!(
                said.contains(&format!("error: {place}: {words}")),
                "{script}: {said}"
            );
        }
        let count = good(&cluster, &["SELECT group_concat(a) AS a FROM l"], None).await?;
        // What was read before the line that failed, outside of any transaction.
        ensure!(count == "a\n7\n", "{count}");
        Ok(())
    });
}

/// What the stock shell says of a file.
fn stock_shell(file: &Path, sql: &str) -> Result<String> {
    let found = Command::new("sqlite3").arg(file).arg(sql).output()?;
    ensure!(found.status.success(), "{}", program::text(&found));
    Ok(String::from_utf8(found.stdout)?)
}

#[test]
fn a_dump_gives_every_value_back_bit_for_bit() {
    run("dump-values", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let reals = "(0.1), (1e300), (1.0/3), (-0.0), (5e-324), (9e999), (-9e999), (1e15), (1e19), (1e20), (-2.5e-5), \
                     (1.7976931348623157e308), (123456789.125)";
        let schema = format!(
            "CREATE TABLE \"t one\"(a, g AS (a), b); CREATE TABLE none(a); CREATE TABLE w(k PRIMARY KEY, v) WITHOUT ROWID;
             INSERT INTO w VALUES(x'00', 'a' || char(0) || 'b'), ('it''s', NULL), ('lines', char(13, 10) || '<13.0>' || char(0, 13));
             INSERT INTO \"t one\" SELECT column1, 1 FROM (VALUES {reals});
             CREATE VIEW one AS SELECT 1 AS n -- a comment that ends with its line
             ;
             CREATE VIEW two AS SELECT n /* one that is closed */ FROM one;"
        );
        good(&cluster, &[&schema], None).await?;
        let dump = good(&cluster, &[".dump"], None).await?;
        ensure!(dump.contains("VALUES(0.10000000000000000555,1)"), "{dump}");
        cluster.settle("app").await?;
        let file = cluster.file(cluster.primary().await?, "app");
        let copy = scratch.dir().join("copy.sqlite");
        stock_script(&copy, &dump)?;
        let content = "SELECT hex(ieee754_to_blob(a)), b, quote(g) FROM \"t one\" ORDER BY rowid; \
                       SELECT quote(k), hex(v), typeof(v) FROM w ORDER BY k; SELECT count(*) FROM none; \
                       SELECT n FROM two";
        let (original, copied) = (stock_shell(&file, content)?, stock_shell(&copy, content)?);
        ensure!(
            original.lines().count() == 18 && copied == original,
            "{copied}{original}"
        );
        // The cluster takes it back as well.
        let drop =
            "DROP VIEW two; DROP VIEW one; DROP TABLE w; DROP TABLE none; DROP TABLE \"t one\"";
        good(&cluster, &[drop], None).await?;
        good(&cluster, &[], Some(dump.clone())).await?;
        let schema = good(&cluster, &[".schema one"], None).await?;
        ensure!(schema.trim_end().ends_with("its line\n;"), "{schema}");
        cluster.settle("app").await?;
        let again = stock_shell(&file, content)?;
        ensure!(again == original, "{again}{original}");
        Ok(())
    });
}

#[test]
fn a_dump_is_written_as_its_rows_come() {
    run("dump-stream", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let filled = "CREATE TABLE t(a); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100) \
                      INSERT INTO t SELECT zeroblob(1000000) FROM n";
        good(&cluster, &["--timeout", "60s", filled], None).await?;
        let mut dump = Command::new(program::halite())
            .args([
                "--addr",
                &cluster.local.addrs().join(","),
                "sql",
                "--db",
                "app",
                ".dump",
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = dump.stdout.take().context("a pipe")?;
        let mut begun = [0; 1 << 10];
        out.read_exact(&mut begun)?;
        // It goes on when more is taken.
        let peak_kib = program::peak_memory_kib(dump.id())?;
        let rest = std::io::copy(&mut out, &mut std::io::sink())?;
        ensure!(dump.wait()?.success());
        ensure!(rest > 200_000_000, "{rest} bytes");
        ensure!(
            peak_kib < 80 << 10,
            "{peak_kib} KiB of 200 MB were in memory"
        );
        Ok(())
    });
}

#[test]
fn scripts_that_cannot_go_on_say_so() {
    run("scripts-end", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        good(&cluster, &["CREATE TABLE t(a)"], None).await?;
        let file = scratch.dir().join("itself.sql");
        let read = format!(".read {}\n", file.display());
        std::fs::write(&file, &read)?;
        let said = bad(&cluster, &read).await?;
        ensure!(said.contains("does one of them read itself?"), "{said}");
        // One whose reader has enough, and that has more to do.
        let mut child = Command::new(program::halite())
            .args(["--addr", &cluster.local.addrs().join(",")])
            .args(["sql", "--db", "app", "--mode", "csv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let insert = "INSERT INTO t VALUES(1) RETURNING a;\n";
        let mut input = child.stdin.take().context("a pipe")?;
        input.write_all(insert.as_bytes())?;
        let mut out = child.stdout.take().context("a pipe")?;
        out.read_exact(&mut [0; 2])?;
        drop(out);
        input.write_all(insert.repeat(100).as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(1) && said.contains("what follows was not executed"),
            "{said}"
        );
        Ok(())
    });
}
