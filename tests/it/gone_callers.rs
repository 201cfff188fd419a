//! What a node does for callers that are gone: nothing any more. Their statements hold neither the writer of a database nor a thread of the readers.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use halite_proto::v1;
use halite_proto::v1::halite_client::HaliteClient;
use halite_proto::v1::transaction_request::Kind;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;
use tonic::transport::{Channel, Endpoint};

/// Take until somebody ends them.
const ENDLESS_WRITE: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t SELECT x FROM n WHERE x < 0";
const ENDLESS_READ: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
/// Much longer than anybody here has patience.
const DEADLINE: Duration = Duration::from_secs(600);
/// More than a node has threads for reads.
const READERS: usize = 40;

fn shell(cluster: &TestCluster, sql: &str) -> Result<Child> {
    let child = Command::new(program::halite())
        .args(["--addr", &cluster.local.addrs().join(",")])
        .args(["sql", "--db", "app", "--timeout", "600s", sql])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(child?)
}

fn node(cluster: &TestCluster, id: u64) -> Result<HaliteClient<Channel>> {
    let addr = &cluster.local.node(id).addr;
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
    Ok(HaliteClient::new(endpoint.connect_lazy()))
}

fn statement(sql: &str) -> v1::Statement {
    v1::Statement {
        sql: sql.to_owned(),
        ..v1::Statement::default()
    }
}

/// Carries `call` out for as long as it takes until the writer is held, and then no longer.
async fn until_held(cluster: &TestCluster, call: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        ended = call => Err(ended.err().context("an endless statement has ended")?),
        held = writer_is_held(cluster) => held,
    }
}

/// Waits until a statement holds the writer of the database: others do not get their turn.
pub(super) async fn writer_is_held(cluster: &TestCluster) -> Result<()> {
    let app = cluster.ops().database("app");
    let app = app.with_timeout(Duration::from_millis(700));
    let mut refused = 0;
    wait::until("a statement holds the writer", PATIENCE, async || {
        // A loaded machine may be slow once.
        refused = match app.execute("DELETE FROM t WHERE 0", ()).await {
            Ok(_) => 0,
            Err(_) => refused + 1,
        };
        (refused >= 3).then_some(()).ok_or("it is free")
    })
    .await
}

/// Waits until the database takes writes.
pub(super) async fn writer_is_free(cluster: &TestCluster, whose: &str) -> Result<()> {
    let app = cluster.client().await?.database("app");
    wait::until("the writer is free", PATIENCE, async || {
        app.execute("DELETE FROM t WHERE 0", ()).await.map(drop)
    })
    .await
    .with_context(|| format!("after {whose}"))
}

async fn with_a_table(cluster: &TestCluster) -> Result<u64> {
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE t(a)", ()).await?;
    cluster.settle("app").await?;
    cluster.follower().await
}

async fn unary(mut node: HaliteClient<Channel>) -> Result<()> {
    let request = v1::ExecuteRequest {
        database: "app".to_owned(),
        statement: Some(statement(ENDLESS_WRITE)),
        timeout_ms: u32::try_from(DEADLINE.as_millis())?,
        ..v1::ExecuteRequest::default()
    };
    node.execute(request).await?;
    Ok(())
}

fn call(id: u64, sql: &str) -> v1::Call {
    v1::Call {
        id,
        database: "app".to_owned(),
        statements: vec![statement(sql)],
        timeout_ms: DEADLINE.as_millis() as u32,
        ..v1::Call::default()
    }
}

/// The first message of a stream: a short write, and an endless one.
fn two_calls() -> v1::SessionRequest {
    v1::SessionRequest {
        client_id: rand::random::<[u8; 16]>().to_vec().into(),
        calls: vec![call(1, "INSERT INTO t VALUES(1)"), call(2, ENDLESS_WRITE)],
        ..v1::SessionRequest::default()
    }
}

async fn pipelined(mut node: HaliteClient<Channel>) -> Result<()> {
    // Ends with this function.
    let (_end, ended) = tokio::sync::oneshot::channel::<()>();
    let requests = futures::stream::iter([two_calls()])
        .chain(futures::stream::pending())
        .take_until(ended);
    let mut answers = node.session(requests).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

async fn in_a_transaction(mut node: HaliteClient<Channel>) -> Result<()> {
    let begin = v1::TransactionBegin {
        database: "app".to_owned(),
        ..v1::TransactionBegin::default()
    };
    let moves = [
        Kind::Begin(begin),
        Kind::Statement(statement(ENDLESS_WRITE)),
    ];
    let moves = moves.map(|kind| v1::TransactionRequest { kind: Some(kind) });
    let (_end, ended) = tokio::sync::oneshot::channel::<()>();
    let requests = futures::stream::iter(moves)
        .chain(futures::stream::pending())
        .take_until(ended);
    let mut answers = node.transaction(requests).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

#[test]
fn a_write_whose_caller_is_gone_lets_others_write() {
    run("gone-writers", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.extra_config = "transaction-timeout: 60s\n".into();
        })
        .await?;
        let follower = with_a_table(&cluster).await?;

        let mut child = shell(&cluster, ENDLESS_WRITE)?;
        writer_is_held(&cluster).await?;
        child.kill()?;
        child.wait()?;
        writer_is_free(&cluster, "`halite sql` was killed").await?;

        let primary = cluster.primary().await?;
        for id in [primary, follower] {
            let of = if id == primary { "primary" } else { "follower" };
            until_held(&cluster, unary(node(&cluster, id)?)).await?;
            writer_is_free(&cluster, &format!("a unary call to the {of} was dropped")).await?;
            until_held(&cluster, pipelined(node(&cluster, id)?)).await?;
            writer_is_free(&cluster, &format!("a stream to the {of} was dropped")).await?;
            until_held(&cluster, in_a_transaction(node(&cluster, id)?)).await?;
            writer_is_free(
                &cluster,
                &format!("a transaction through the {of} was dropped"),
            )
            .await?;
        }
        // Nothing of them was kept, but for what was committed.
        let app = cluster.ops().database("app");
        let others = "SELECT count(*) FROM t WHERE a <> 1";
        ensure!(app.query(others, ()).await?[0].get::<i64>(0)? == 0);
        cluster.check_same("app").await.map(drop)
    });
}

#[test]
fn a_call_that_a_client_gave_up_lets_others_write_and_its_stream_goes_on() {
    run("given-up", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        with_a_table(&cluster).await?;
        let client = cluster.client().await?;
        let app = client.database("app").with_timeout(DEADLINE);
        let endless = async {
            app.execute(ENDLESS_WRITE, ()).await?;
            Ok(())
        };
        until_held(&cluster, endless).await?;
        writer_is_free(&cluster, "a future was dropped").await?;
        app.execute("INSERT INTO t VALUES(1)", ()).await?;
        ensure!(client.stats().retries == 0, "{:?}", client.stats());
        Ok(())
    });
}

#[test]
fn a_call_that_is_given_up_at_a_follower_ends_at_the_primary() {
    run("given-up-handed-on", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let follower = with_a_table(&cluster).await?;
        let (say, requests) = futures::channel::mpsc::unbounded();
        say.unbounded_send(two_calls())?;
        let mut node = node(&cluster, follower)?;
        let mut answers = node.session(requests).await?.into_inner();
        writer_is_held(&cluster).await?;
        let give_up = v1::SessionRequest {
            given_up: vec![2],
            ..v1::SessionRequest::default()
        };
        say.unbounded_send(give_up)?;
        writer_is_free(&cluster, "a call was given up").await?;
        let goes_on = v1::SessionRequest {
            calls: vec![call(3, "INSERT INTO t VALUES(3)")],
            ..v1::SessionRequest::default()
        };
        say.unbounded_send(goes_on)?;
        let mut answered = Vec::new();
        while answered.len() < 3 {
            let message = tokio::time::timeout(PATIENCE, answers.message()).await??;
            for reply in message.context("the stream ended")?.replies {
                answered.push((reply.id, reply.error.is_none()));
            }
        }
        // The writer is free before the one that held it is answered.
        answered.sort_unstable();
        ensure!(
            answered == [(1, true), (2, false), (3, true)],
            "{answered:?}"
        );
        Ok(())
    });
}

#[test]
fn a_read_whose_caller_is_gone_lets_others_read() {
    run("gone-readers", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let follower = with_a_table(&cluster).await?;
        let primary = cluster.primary().await?;
        let mut child = shell(&cluster, ENDLESS_READ)?;
        for id in [primary, follower] {
            let read = |sql| v1::QueryRequest {
                database: "app".to_owned(),
                statement: Some(statement(sql)),
                level: v1::ReadLevel::Local.into(),
                timeout_ms: DEADLINE.as_millis() as u32,
                ..v1::QueryRequest::default()
            };
            let mut endless = Vec::new();
            for _ in 0..READERS {
                let rows = node(&cluster, id)?.query(read(ENDLESS_READ)).await?;
                endless.push(rows.into_inner());
            }
            // Those that may take long do not get all threads, and this one may.
            let mut other = node(&cluster, id)?;
            let mut long = async || -> Result<()> {
                let mut rows = other.query(read("SELECT 1")).await?.into_inner();
                rows.message().await?.context("a row").map(drop)
            };
            let waits = tokio::time::timeout(Duration::from_secs(2), long()).await;
            ensure!(
                waits.is_err(),
                "{READERS} endless reads do not fill the node"
            );
            drop(endless);
            child.kill()?;
            child.wait()?;
            tokio::time::timeout(PATIENCE, long())
                .await
                .with_context(|| format!("node {id} reads for those that are gone"))??;
        }
        Ok(())
    });
}
