//! How many calls per second the client carries through an in-memory node, with many callers and with one.
//!
//! `cargo bench -p halite-client [-- CALLERS SECONDS]`. The node runs in the same process on threads of its own; `client_cpu_us`
//! and `node_cpu_us` are processor time per call of each side (Linux only).

#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../tests/client/fake_node.rs"]
mod fake_node;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use halite_client::{Client, params};
use hdrhistogram::Histogram;
use tokio::time::Instant;

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let callers = numbers.first().copied().unwrap_or(256);
    let seconds = numbers.get(1).copied().unwrap_or(5);
    let node_runtime = runtime("node");
    let nodes = node_runtime.block_on(fake_node::cluster(1));
    nodes[0].stop_recording();
    runtime("client").block_on(async {
        let client = Client::connect(fake_node::addresses(&nodes)).await.unwrap();
        client.watch_topology().primary().await;
        measure(&client, 1, seconds).await;
        measure(&client, callers, seconds).await;
        client.close().await;
    });
}

fn runtime(name: &str) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

/// Nanoseconds that the threads of this name have run so far.
fn cpu_ns(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|schedstat| schedstat.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

async fn measure(client: &Client, callers: u64, seconds: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let before = client.stats();
    let cpu_before = (cpu_ns("client"), cpu_ns("node"));
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let database = client.database("app");
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut latencies_us = Histogram::<u64>::new(3).unwrap();
                let mut n = 0_i64;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    database
                        .execute(
                            "INSERT INTO t (caller, n, text) VALUES (?1, ?2, ?3)",
                            params![caller as i64, n, "some text"],
                        )
                        .await
                        .unwrap();
                    latencies_us.saturating_record(begun.elapsed().as_micros() as u64);
                    n += 1;
                }
                latencies_us
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies_us = Histogram::<u64>::new(3).unwrap();
    for task in tasks {
        latencies_us.add(task.await.unwrap()).unwrap();
    }
    let elapsed = started.elapsed().as_secs_f64();
    let after = client.stats();
    let calls = after.calls_sent - before.calls_sent;
    let cpu_us = |name, before| (cpu_ns(name) - before) as f64 / 1e3 / calls as f64;
    println!(
        "callers={callers} calls_per_s={:.0} calls_per_message={:.1} p50_us={} p99_us={} p999_us={} client_cpu_us={:.1} node_cpu_us={:.1}",
        calls as f64 / elapsed,
        calls as f64 / (after.messages_sent - before.messages_sent).max(1) as f64,
        latencies_us.value_at_quantile(0.5),
        latencies_us.value_at_quantile(0.99),
        latencies_us.value_at_quantile(0.999),
        cpu_us("client", cpu_before.0),
        cpu_us("node", cpu_before.1),
    );
}
