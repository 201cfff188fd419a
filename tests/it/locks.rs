//! What a primary says that changed nothing is never older than the call, whatever happened to the primary meanwhile.
//!
//! A lock is a row: its holder renews it with an update that leaves every byte as it was, and others try to get it with updates that find no
//! row. Both reach no quorum by themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_checks::property::linearizable_locks;
use halite_checks::{
    Caller, FinalState, History, Holder, Key, Level, LockAnswer, LockRequest, LockStep, Outcome,
    SessionId, report,
};
use halite_client::params;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::proxy::Proxy;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;
use tokio::sync::Mutex;

/// Longer than rounds of the node (1 s) take to give up.
const ASKED: Duration = Duration::from_secs(3);
const LOCK: Key = Key(1);
/// Callers that ask the old primary, each over a connection of its own.
const CALLERS: u64 = 6;

fn pass(from: Holder, to: Holder) -> LockStep {
    LockStep::Pass { from, to }
}

/// Everything that was asked and told, with the order of it.
struct Locks {
    history: Mutex<History>,
}

impl Locks {
    async fn begin(cluster: &TestCluster) -> Result<Self> {
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE lock (id INTEGER PRIMARY KEY, holder)", ())
            .await?;
        Ok(Self {
            history: Mutex::default(),
        })
    }

    /// Records what `ask` comes to, which says whether it was done.
    async fn ask(
        &self,
        session: u64,
        step: LockStep,
        ask: impl Future<Output = Result<bool>>,
    ) -> Result<bool> {
        let caller = Caller {
            session: SessionId(session),
            node: None,
            level: Level::Linearizable,
        };
        let asked = LockRequest { key: LOCK, step };
        let ticket = self.history.lock().await.invoke(caller, 0, asked);
        let told = ask.await;
        let outcome = match &told {
            Ok(done) => Outcome::Ok(LockAnswer::Done(*done)),
            Err(error) => Outcome::Unknown(format!("{error:#}")),
        };
        self.history.lock().await.returned(ticket, 0, outcome);
        told
    }

    /// The first taking of the lock, by whoever is primary.
    async fn take(&self, cluster: &TestCluster, holder: Holder) -> Result<()> {
        let app = cluster.ops().database("app");
        let insert = "INSERT INTO lock VALUES (1, ?1)";
        let taken = async {
            app.execute(insert, params![holder.0.cast_signed()]).await?;
            Ok(true)
        };
        self.ask(0, LockStep::Take(holder), taken).await.map(drop)
    }

    /// The lock goes from one to another by way of the cluster, which has a primary again.
    async fn hand_over(&self, cluster: &TestCluster, from: Holder, to: Holder) -> Result<()> {
        let app = cluster.ops().database("app");
        let update = "UPDATE lock SET holder = ?2 WHERE id = 1 AND holder = ?1";
        let params = params![from.0.cast_signed(), to.0.cast_signed()];
        let passed = async { Ok(app.execute(update, params).await?.rows_affected > 0) };
        let passed = self.ask(0, pass(from, to), passed).await?;
        ensure!(passed, "nobody but this test passes the lock on");
        Ok(())
    }

    /// One node is asked to renew the lock of `holder`.
    async fn renew(&self, node: &mut DirectNode, session: u64, holder: Holder) -> Result<bool> {
        let id = holder.0;
        let sql = match session % 3 {
            0 => format!(
                "UPDATE lock SET holder = {id} WHERE id = 1 AND holder = {id} RETURNING holder"
            ),
            // The row is there, so all of it is in the conflict.
            1 => format!(
                "INSERT INTO lock VALUES (1, {id}) ON CONFLICT (id) DO UPDATE SET holder = {id} WHERE holder = {id} RETURNING holder"
            ),
            _ => format!("UPDATE lock SET holder = holder WHERE holder = {id} RETURNING holder"),
        };
        let renewed = async { Ok(!node.execute("app", &sql).await?.is_empty()) };
        self.ask(session, pass(holder, holder), renewed).await
    }

    async fn check(&self) -> Result<()> {
        let violations =
            linearizable_locks::check(&*self.history.lock().await, &FinalState::default());
        match report(&violations) {
            None => Ok(()),
            Some(what) => anyhow::bail!(what),
        }
    }
}

/// Connections to a node that have been used.
async fn callers(
    cluster: &TestCluster,
    locks: &Locks,
    id: u64,
    holder: Holder,
) -> Result<Vec<DirectNode>> {
    let mut callers = Vec::new();
    for session in 1..=CALLERS {
        let mut node = DirectNode::new(&cluster.local.node(id).addr, ASKED)?;
        let renewed = locks.renew(&mut node, session, holder).await?;
        ensure!(renewed, "node {id} does not know the holder");
        callers.push(node);
    }
    Ok(callers)
}

#[test]
fn a_primary_that_was_frozen_tells_nobody_what_was_true_before() {
    run("frozen-locks", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let locks = Locks::begin(&cluster).await?;
        let mut holder = Holder(1);
        locks.take(&cluster, holder).await?;
        for _ in 0..12 {
            let old = cluster.primary().await?;
            let mut nodes = callers(&cluster, &locks, old, holder).await?;
            cluster.freeze(old)?;
            let next = Holder(holder.0 + 1);
            locks
                .hand_over(&cluster, holder, next)
                .await
                .context("the others have a primary")?;
            // Asked when another holder has been told that the lock is his, and before the old primary wakes up.
            let asked = nodes.iter_mut().zip(1..).map(|(node, session)| {
                let of = if session % 2 == 0 { holder } else { next };
                locks.renew(node, session, of)
            });
            let asked = futures::future::join_all(asked);
            let woken = async {
                // How long the questions wait for the process is part of the fault.
                tokio::time::sleep(Duration::from_millis(100)).await;
                cluster.thaw(old)
            };
            // What each is told may be a refusal; the history knows.
            let (_, woken) = tokio::join!(asked, woken);
            woken?;
            cluster.primary().await?;
            for (of, holds) in [(holder, false), (next, true)] {
                let node = &mut nodes[0];
                let renewed = wait::until("the old primary answers", PATIENCE, async || {
                    let renewed = locks.renew(node, 0, of).await;
                    renewed.map_err(|error| format!("{error:#}"))
                })
                .await?;
                ensure!(renewed == holds, "{of:?} was told {renewed}");
            }
            locks.check().await?;
            holder = next;
        }
        Ok(())
    });
}

#[test]
fn a_primary_that_was_cut_off_tells_nobody_what_was_true_before() {
    run("cut-off-locks", Weight::Heavy, async |scratch| {
        let proxy = Proxy::start(scratch.dir(), 3).await?;
        let mut cluster = TestCluster::start(scratch, |options| proxy.configure(options)).await?;
        let locks = Locks::begin(&cluster).await?;
        let mut holder = Holder(1);
        locks.take(&cluster, holder).await?;
        for _ in 0..5 {
            let old = cluster.primary().await?;
            let mut nodes = callers(&cluster, &locks, old, holder).await?;
            proxy.isolate(old);
            cluster.look_away_from(&[old]);
            let next = Holder(holder.0 + 1);
            let over = std::sync::atomic::AtomicBool::new(false);
            // They ask until the lock is somebody else's, and once more after that.
            let asked = nodes.iter_mut().zip(1..).map(async |(node, session)| {
                let mut last = false;
                while !last {
                    last = over.load(std::sync::atomic::Ordering::SeqCst);
                    // What is refused is asked again.
                    let _ = locks.renew(node, session, holder).await;
                }
            });
            let asked = futures::future::join_all(asked);
            let handed_over = async {
                let handed_over = locks.hand_over(&cluster, holder, next).await;
                over.store(true, std::sync::atomic::Ordering::SeqCst);
                handed_over
            };
            let (_, handed_over) = tokio::join!(asked, handed_over);
            handed_over.context("on the other side")?;
            locks.check().await?;
            proxy.heal();
            cluster.look_away_from(&[]);
            holder = next;
        }
        Ok(())
    });
}
