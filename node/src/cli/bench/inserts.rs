//! Durable single-row inserts: each is acknowledged when a majority of the nodes keeps it on disk.

use halite_client::params;

use super::super::error::CliError;
use super::baseline::INSERT;
use super::bench_cluster::BenchCluster;
use super::load::{closed_loop, row_text};
use super::plan::Plan;
use super::progress::Progress;
use super::report::{InsertFigures, Report};

pub(super) async fn measure(
    plan: &Plan,
    cluster: &BenchCluster,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    for &clients in &plan.insert_clients {
        progress.step(&format!("inserts: {clients} clients"));
        let database = cluster.database();
        let measured = closed_loop(clients, plan.window, move || {
            let database = database.clone();
            async move {
                database.execute(INSERT, params![row_text()]).await?;
                Ok(())
            }
        })
        .await?;
        report.inserts.push(InsertFigures::new(clients, measured));
    }
    Ok(())
}
