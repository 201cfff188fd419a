//! Carries one call through: choose a node, try, retry elsewhere, wait for the cluster to recover, until an answer or the deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1 as wire;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::cluster::{Cluster, PeerKey, View};
use crate::failure::{Effect, Failure, Next};
use crate::link::Link;
use crate::route::Need;
use crate::{Error, ErrorKind};

/// Pace of tries while nobody can serve a call. News of the cluster end a pause at once.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_millis(250);

/// A call that can be tried on a node, again and again.
pub(crate) trait Operation: Send {
    type Output: Send;

    fn attempt(
        &mut self,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// One try.
pub(crate) struct Attempt {
    pub(crate) link: Arc<Link>,
    /// An earlier try may have reached the cluster.
    pub(crate) retry: bool,
    /// When the whole call has to be done with.
    pub(crate) deadline: Instant,
}

/// How a call is to be carried through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) need: Need,
    pub(crate) effect: Effect,
    pub(crate) deadline: Instant,
    /// No try begins later.
    pub(crate) tries_until: Instant,
}

impl Plan {
    /// Tries may begin until the deadline.
    pub(crate) fn new(need: Need, effect: Effect, deadline: Instant) -> Self {
        Self {
            need,
            effect,
            deadline,
            tries_until: deadline,
        }
    }
}

/// The tries of one call so far.
struct Progress {
    plan: Plan,
    /// Nodes tried since the last pause.
    tried: Vec<PeerKey>,
    tries: u32,
    maybe_done: bool,
    /// The last answer stands if nobody else can be asked.
    stands: bool,
    /// All nodes tried since the last pause spoke of what they are or have themselves.
    agreed: bool,
    last: Option<Error>,
    hint: Option<wire::NodeAddress>,
    pause: Backoff,
    pause_at_least: Duration,
}

/// Carries `operation` through as `plan` says.
pub(crate) async fn run<O: Operation>(
    cluster: &Cluster,
    plan: Plan,
    mut operation: O,
) -> Result<O::Output, Error> {
    let mut progress = Progress::new(plan);
    loop {
        let view = cluster.view();
        let random = cluster.random.next();
        let chosen = view
            .route(plan.need, &progress.tried, progress.hint.as_ref(), random)
            .and_then(|index| Some((index, view.nodes[index].link.clone()?)));
        let Some((index, link)) = chosen else {
            if cluster.in_flight.is_closed() && progress.last.is_none() {
                return Err(Error::unavailable("client was closed"));
            }
            progress.heed_agreement(&view);
            let over = Instant::now() >= plan.tries_until;
            if progress.stands || cluster.in_flight.is_closed() || over {
                return Err(progress.into_error());
            }
            progress.wait(cluster, &view).await;
            continue;
        };
        if progress.tries > 0 {
            if Instant::now() >= plan.tries_until {
                return Err(progress.into_error());
            }
            cluster.stats.retries.add(1);
        }
        progress.tries += 1;
        let attempt = Attempt {
            link,
            retry: progress.maybe_done,
            deadline: plan.deadline,
        };
        let failure = match operation.attempt(attempt).await {
            Ok(output) => return Ok(output),
            Err(failure) => failure,
        };
        let key = view.nodes[index].key;
        if let Failure::Answered(error) = &failure
            && matches!(
                error.kind(),
                ErrorKind::NotPrimary { .. } | ErrorKind::Fenced
            )
        {
            cluster.primary_denied(key, error.primary());
        }
        let by_primary = view.primary == Some(index);
        if progress.failed(key, by_primary, failure) == Step::Stop {
            return Err(progress.into_error());
        }
        if progress.pause_at_least > Duration::ZERO {
            progress.wait(cluster, &view).await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    Stop,
}

impl Progress {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            tried: Vec::new(),
            tries: 0,
            maybe_done: false,
            stands: false,
            agreed: true,
            last: None,
            hint: None,
            pause: Backoff::new(PAUSE_FIRST, PAUSE_CAP),
            pause_at_least: Duration::ZERO,
        }
    }

    fn failed(&mut self, key: PeerKey, by_primary: bool, failure: Failure) -> Step {
        let next = failure.next(self.plan.effect, by_primary);
        let maybe_done = self.plan.effect != Effect::Read && failure.maybe_done();
        self.maybe_done |= maybe_done;
        self.tried.push(key);
        let error = failure.into_error();
        self.hint = error.primary().cloned();
        self.last = Some(error);
        // Who cannot know what became of an earlier try must not end the call either.
        self.stands = match next {
            Next::Fail => true,
            Next::ElsewhereOrFail => !self.maybe_done,
            Next::Elsewhere | Next::ElsewhereUnlessAll | Next::Pause(_) => false,
        };
        self.agreed &= next == Next::ElsewhereUnlessAll;
        match next {
            Next::Fail => return Step::Stop,
            Next::Elsewhere | Next::ElsewhereOrFail | Next::ElsewhereUnlessAll => {}
            Next::Pause(at_least) => {
                self.pause_at_least = at_least.unwrap_or(Duration::from_millis(1))
            }
        }
        Step::GoOn
    }

    /// Nobody is left to be asked: what each member says of itself stands, if none is missing.
    fn heed_agreement(&mut self, view: &View) {
        let asked = |key: &PeerKey| self.tried.contains(key);
        let mut members = view.nodes.iter().filter(|node| node.member);
        self.stands |= self.agreed
            && !self.tried.is_empty()
            && !self.maybe_done
            && members.all(|m| asked(&m.key));
    }

    /// Waits for news of the cluster, a moment, or the deadline, whichever comes first.
    async fn wait(&mut self, cluster: &Cluster, seen: &Arc<View>) {
        let pace = self.pause.next(cluster.random.next());
        let asked = std::mem::take(&mut self.pause_at_least);
        let until = (Instant::now() + pace.max(asked)).min(self.plan.tries_until);
        self.tried.clear();
        self.agreed = true;
        self.hint = None;
        let mut news = cluster.subscribe();
        if !Arc::ptr_eq(&news.borrow_and_update(), seen) {
            return;
        }
        // Either way the call looks again.
        let _ = timeout_at(until, news.changed()).await;
    }

    fn into_error(self) -> Error {
        let tries = self.tries;
        let Some(last) = self.last else {
            return Error::unavailable(
                "no node could be reached before the deadline: nothing was sent",
            );
        };
        if self.stands && (!self.maybe_done || settles(&last)) {
            return last;
        }
        if self.maybe_done {
            return Error::outcome_unknown(format!(
                "not acknowledged in time, may or may not have been carried out: tries={tries} last_error=\"{last}\""
            ));
        }
        if *last.kind() == ErrorKind::DeadlineExceeded {
            return last;
        }
        let nothing = match self.plan.effect {
            Effect::Read => "",
            Effect::Write | Effect::Once => ", nothing was carried out",
        };
        Error::unavailable(format!(
            "no node could serve the call before the deadline{nothing}: tries={tries} last_error=\"{last}\""
        ))
    }
}

/// The error tells what became of all tries of the call, the ones without an answer included. SQLite would not have been asked had the cluster a record of
/// one: none took effect. Rows that are not kept are those of a record: one did. Other refusals may come from a node that has none (any more).
fn settles(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Sql { .. } | ErrorKind::RowsNotKept)
}
