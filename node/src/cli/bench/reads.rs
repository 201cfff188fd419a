//! Point reads of every level, from a single follower and spread over the nodes.

use std::time::Duration;

use halite_client::{Database, ReadLevel, params};
use serde::Serialize;

use super::super::error::CliError;
use super::bench_cluster::BenchCluster;
use super::load::closed_loop;
use super::plan::Plan;
use super::progress::Progress;
use super::report::{ReadFigures, Report};

const SELECT: &str = "SELECT v FROM kv WHERE id = ?1";
/// Rows that reads choose from at least.
const ROWS_MIN: i64 = 10_000;
const BOUND: Duration = Duration::from_secs(1);

/// Where reads go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    /// All to the same follower, which asks the primary for what it cannot know itself.
    Follower,
    /// Wherever the client sends them: to the least busy node, and to the primary if linearizable.
    Spread,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Spread => "spread",
        }
    }
}

/// How fresh they have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Local,
    Bounded,
    Session,
    Linearizable,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [
        Self::Local,
        Self::Bounded,
        Self::Session,
        Self::Linearizable,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Bounded => "bounded",
            Self::Session => "session",
            Self::Linearizable => "linearizable",
        }
    }

    fn read_level(self) -> ReadLevel {
        match self {
            Self::Local => ReadLevel::Local,
            Self::Bounded => ReadLevel::Bounded(BOUND),
            Self::Session => ReadLevel::Session,
            Self::Linearizable => ReadLevel::Linearizable,
        }
    }
}

pub(super) async fn measure(
    plan: &Plan,
    cluster: &mut BenchCluster,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    let rows = fill(cluster).await?;
    for &place in plan.read_places() {
        let database = match place {
            Place::Follower => cluster.client_of(cluster.follower_id().await?).await?,
            Place::Spread => cluster.database(),
        };
        for level in Level::ALL {
            for &clients in &plan.read_clients {
                let (name, place_name) = (level.name(), place.name());
                progress.step(&format!("reads: {name}, {place_name}, {clients} clients"));
                let database = database.with_level(level.read_level());
                let measured = closed_loop(clients, plan.window, move || {
                    let database = database.clone();
                    async move { read_one(&database, rows).await }
                });
                let figures = ReadFigures::new(level, place, clients, measured.await?);
                report.reads.push(figures);
            }
        }
    }
    Ok(())
}

async fn read_one(database: &Database, rows: i64) -> Result<(), CliError> {
    let id = rand::random_range(1..=rows);
    if database.query(SELECT, params![id]).await?.len() == 1 {
        Ok(())
    } else {
        Err(CliError::new(format!("a row is missing: id={id}")))
    }
}

/// Makes sure that there are rows to read on all nodes; ids are 1 to what is returned.
async fn fill(cluster: &mut BenchCluster) -> Result<i64, CliError> {
    let database = cluster.database().with_level(ReadLevel::Linearizable);
    let rows = "SELECT coalesce(max(id), 0) FROM kv";
    let there: i64 = first(&database, rows).await?;
    if there < ROWS_MIN {
        let more = "INSERT INTO kv (v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                    SELECT hex(randomblob(32)) FROM n";
        database.execute(more, params![ROWS_MIN - there]).await?;
    }
    cluster.all_caught_up().await?;
    first(&database, rows).await
}

/// The number that a query gives.
pub(super) async fn first(database: &Database, sql: &str) -> Result<i64, CliError> {
    let rows = database.query(sql, ()).await?;
    let row = rows.first();
    let row = row.ok_or_else(|| CliError::new(format!("no answer to: {sql}")))?;
    Ok(row.get(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_tables_are_those_in_json() {
        let json = |value: serde_json::Value| value.as_str().map(str::to_owned);
        for level in Level::ALL {
            let name = json(serde_json::to_value(level).unwrap());
            assert_eq!(name.as_deref(), Some(level.name()));
        }
        for place in [Place::Follower, Place::Spread] {
            let name = json(serde_json::to_value(place).unwrap());
            assert_eq!(name.as_deref(), Some(place.name()));
        }
    }
}
