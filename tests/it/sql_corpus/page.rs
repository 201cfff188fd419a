//! The page `docs/sql.md` says what is so: its list of differences is that of the fixtures, its table of PRAGMAs what a node answers.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use halite_client::{Client, Database, ErrorKind, Value};
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::{Weight, run};

use super::fixture;

const PAGE: &str = include_str!("../../../node/src/docs/sql.md");
/// PRAGMAs that need a name before they say anything.
const OF_SOMETHING: [&str; 6] = [
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_xinfo",
];

/// The rows of the table below a heading, without its head: the texts of their cells.
fn table(heading: &str) -> Result<Vec<Vec<&'static str>>> {
    let heading = format!("\n## {heading}\n");
    let (_, section) = PAGE.split_once(&heading).context("no such heading")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let line = line.trim_matches('|').split('|');
        line.map(str::trim).collect()
    };
    Ok(lines.skip(2).map(cells).collect())
}

#[test]
fn the_page_lists_the_differences_that_the_corpus_has() -> Result<()> {
    let groups = fixture::groups()?;
    let statements = groups.iter().flat_map(|group| &group.statements);
    let reasons: BTreeSet<&str> = statements
        .flat_map(|statement| &statement.differs)
        .map(|differs| differs.reason.as_str())
        .collect();
    let rows = table("What differs from a file")?;
    let listed: BTreeSet<&str> = rows.iter().map(|cells| cells[0]).collect();
    ensure!(
        reasons == listed,
        "only in the corpus: {:?}\nonly on the page: {:?}",
        reasons.difference(&listed).collect::<Vec<_>>(),
        listed.difference(&reasons).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn the_page_says_of_each_pragma_what_a_node_answers() {
    run("sql-page", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let app = cluster.ops().database("app");
        let mut known = BTreeSet::new();
        let rows = app.query("SELECT name FROM pragma_pragma_list", ()).await?;
        for row in &rows {
            known.insert(row.get::<String>(0)?);
        }
        for cells in table("PRAGMAs one by one")? {
            let [name, told, set] = cells.as_slice() else {
                bail!("three cells, not {cells:?}");
            };
            let name = name.trim_matches('`');
            ensure!(known.remove(name), "SQLite has no PRAGMA {name}");
            check_row(&app, name, told, set)
                .await
                .with_context(|| format!("PRAGMA {name}: {told}, {set}"))?;
        }
        for name in known {
            let refused = value(&app, &format!("PRAGMA {name}")).await;
            ensure!(refused.is_err(), "{name} is missing on the page");
            ensure!(
                PAGE.contains(&format!("`{name}`")),
                "{name} is missing on the page"
            );
        }
        Ok(())
    });
}

#[test]
fn the_page_says_what_is_told_beyond_each_limit() {
    run("sql-limits", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| options.nodes = 1).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let too_big = ErrorKind::Sql {
            code: 18,
            extended: 18,
        };
        let call = app.execute("INSERT INTO t VALUES (?1)", [vec![0; 16 << 20]]);
        is(call.await, &ErrorKind::Invalid, "16 MiB")?;
        let value = app.execute("INSERT INTO t VALUES (zeroblob(33554433))", ());
        is(value.await, &too_big, "32 MiB")?;
        let row = app.query("SELECT zeroblob(30000000), zeroblob(30000000)", ());
        is(row.await, &too_big, "48 MiB")?;
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400)";
        let memory = format!("{many} SELECT json_group_array(hex(zeroblob(500000))) FROM n");
        let no_memory = ErrorKind::Sql {
            code: 7,
            extended: 7,
        };
        is(app.query(memory, ()).await, &no_memory, "256 MiB")?;
        let rows = format!("INSERT INTO t {COUNT} RETURNING zeroblob(1000000)");
        is(app.execute(rows, ()).await, &ErrorKind::Invalid, "32 MiB")?;
        let left = app.query("SELECT count(*) FROM t", ()).await?;
        ensure!(left[0].get::<i64>(0)? == 0, "something of it was kept");
        let small = Client::builder(cluster.local.addrs()).result_bytes_max(4 << 20);
        let small = small.connect().await?.database("app");
        let rows = format!("SELECT zeroblob(1000000) FROM ({COUNT})");
        is(
            small.query(&rows, ()).await,
            &ErrorKind::Invalid,
            "result_bytes_max",
        )?;
        let mut stream = small.query_stream(rows, ()).await?;
        let mut streamed = 0;
        while stream.next_row().await?.is_some() {
            streamed += 1;
        }
        ensure!(streamed == 40, "{streamed} rows");
        Ok(())
    });
}

const COUNT: &str = "SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40]')";

/// It is refused so, and the page has the limit.
fn is<T>(told: Result<T, halite_client::Error>, kind: &ErrorKind, limit: &str) -> Result<()> {
    ensure!(PAGE.contains(limit), "the page does not say {limit}");
    let error = told.err().with_context(|| format!("{limit} is no limit"))?;
    ensure!(error.kind() == kind, "{limit}: {error:?}");
    Ok(())
}

async fn check_row(app: &Database, name: &str, told: &str, set: &str) -> Result<()> {
    let asked = format!("PRAGMA {name}");
    let in_force = value(app, &asked).await?;
    if told.starts_with('`') {
        let told = told.split('`').nth(1).unwrap_or_default();
        ensure!(told == in_force.trim_matches('\''), "it says {in_force}");
    }
    let other = other(name, &in_force);
    let sets = format!("PRAGMA {name} = {other}");
    if set.starts_with("changes nothing") || set.contains("change nothing") {
        ensure!(
            value(app, &sets).await? == in_force,
            "{sets} is told otherwise"
        );
    } else if set.starts_with("stays") {
        refused(app, &sets).await?;
        if !in_force.is_empty() {
            let same = format!("PRAGMA {name} = {in_force}");
            ensure!(
                value(app, &same).await? == in_force,
                "{same} is told otherwise"
            );
        }
    } else if set.starts_with("makes none") || OF_SOMETHING.contains(&name) {
        value(app, &format!("PRAGMA {name}(FULL)")).await?;
    } else {
        ensure!(set.starts_with("as in a file"), "{set} is not checked");
        return Ok(());
    }
    if set.contains("`OFF`") {
        refused(app, &format!("PRAGMA {name} = OFF")).await?;
    }
    ensure!(value(app, &asked).await? == in_force, "it was changed");
    Ok(())
}

/// A value that is not in force.
fn other(name: &str, in_force: &str) -> &'static str {
    match (name, in_force) {
        ("encoding", _) => "'UTF-16le'",
        ("journal_mode", _) => "DELETE",
        ("locking_mode", _) => "EXCLUSIVE",
        ("synchronous" | "auto_vacuum", _) => "FULL",
        ("page_size", _) => "8192",
        ("foreign_keys" | "automatic_index" | "short_column_names" | "trusted_schema", _) => "OFF",
        ("max_page_count" | "schema_version", _) => "77",
        _ => "ON",
    }
}

/// The first value that it gives, as SQL; empty if it gives none.
async fn value(app: &Database, sql: &str) -> Result<String> {
    let rows = app.execute(sql, ()).await?.rows;
    Ok(match rows.first().and_then(|row| row.values().first()) {
        Some(Value::Integer(integer)) => integer.to_string(),
        Some(Value::Text(text)) => format!("'{text}'"),
        _ => String::new(),
    })
}

async fn refused(app: &Database, sql: &str) -> Result<()> {
    match app.execute(sql, ()).await {
        Err(error) if *error.kind() == ErrorKind::Invalid => Ok(()),
        other => bail!("{sql} is not refused: {other:?}"),
    }
}
