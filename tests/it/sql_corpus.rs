//! SQLite as the yardstick: each statement of `tests/fixtures/sql` is answered by a cluster as by a local file, or the fixture says why not.
//!
//! A group of statements begins with an empty database and is run three times: in a file, by the SQLite library that the node has too, on one
//! connection as a program has it; through the Rust client; and through `halite sql`, a script on standard input. Columns, rows, counts of
//! changes, rowids, error codes and messages have to be the same. What is listed as different has to be different.

mod fixture;
mod page;
mod said;
mod shell;
mod through_client;
mod yardstick;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::Client;
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::{Weight, run};

use fixture::{Differs, Group, Statement};
use said::Said;
use yardstick::Yardstick;

/// So many there are at least; a file that is not found any more would go unnoticed otherwise.
const STATEMENTS_LEAST: usize = 500;
/// Of a new file of SQLite.
const PAGE_SIZE: u32 = 4096;

/// What a group found that the fixture does not say.
type Findings = Vec<String>;

#[test]
fn a_cluster_answers_as_a_local_file_or_the_list_says_why_not() {
    run("sql-corpus", Weight::Light, async |scratch| {
        let groups = fixture::groups()?;
        let statements: usize = groups.iter().map(|group| group.statements.len()).sum();
        ensure!(
            statements >= STATEMENTS_LEAST,
            "{statements} statements in {} groups are too few",
            groups.len()
        );
        let cluster = TestCluster::start(scratch, |options| options.databases.clear()).await?;
        let mut findings = Findings::new();
        for (number, group) in groups.iter().enumerate() {
            let file = scratch.join(&format!("yardstick-{number}.db"));
            let expected = Yardstick::open(&file)?.answers(group);
            let names = [format!("client{number}"), format!("shell{number}")];
            for name in &names {
                create(cluster.ops(), name).await?;
            }
            let told = through_client::answers(cluster.ops(), &names[0], group).await?;
            findings.extend(compare(group, &expected, &told));
            if group.for_the_shell {
                let addrs = cluster.local.addrs();
                let run = shell::Run::new(&addrs, &names[1], group, &expected, &told);
                findings.extend(run.findings().await?);
            }
            cluster.check_same(&names[0]).await?;
            for name in &names {
                cluster.ops().admin().drop_database(name, false).await?;
            }
        }
        ensure!(
            findings.is_empty(),
            "{} of {statements} statements:\n{}",
            findings.len(),
            findings.join("\n")
        );
        Ok(())
    });
}

async fn create(client: &Client, name: &str) -> Result<()> {
    let admin = client.admin();
    ensure!(
        admin.create_database(name, PAGE_SIZE, false).await?,
        "{name} was there"
    );
    // Each node has it from here on: reads go to any of them.
    let database = client.database(name).with_timeout(Duration::from_secs(30));
    let strict = database.with_level(halite_client::ReadLevel::Linearizable);
    strict
        .query("SELECT 1", ())
        .await
        .context("a new database")?;
    Ok(())
}

/// What the client was told is what the file says, or stands in the list.
fn compare(group: &Group, expected: &[Said], told: &[Said]) -> Findings {
    let all = group.statements.iter().zip(expected).zip(told);
    all.filter_map(|((statement, expected), told)| {
        let listed = statement.for_the_client();
        judge(
            group,
            statement,
            "client",
            listed,
            expected.difference(told),
        )
    })
    .collect()
}

/// Turns a difference that is not listed, or one that is listed and is none, into a finding.
fn judge(
    group: &Group,
    statement: &Statement,
    through: &str,
    listed: Option<&Differs>,
    difference: Option<String>,
) -> Option<String> {
    let place = format!("{}:{} [{through}]", group.file, statement.line);
    let sql = &statement.sql;
    match (difference, listed) {
        (None, None) | (Some(_), Some(_)) => None,
        (Some(how), None) => Some(format!("{place} {sql}\n    {how}")),
        (None, Some(differs)) => Some(format!(
            "{place} {sql}\n    is listed as different and is not: {}",
            differs.reason
        )),
    }
}
