//! The operator: changes membership and moves leadership, as `halite member` and `halite transfer` do. A client on a host of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halite_client::{Client, Error};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tower::service_fn;

use crate::network;
use crate::node;
use crate::trace::Trace;

/// A step is tried again this much later, as a person would.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// And given up after this.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Adds a node as a learner.
    Add(u64),
    /// Makes a learner a voter.
    Promote(u64),
    /// Removes a member.
    Remove(u64),
    /// Moves leadership: to this node, or to whoever is best.
    Transfer(Option<u64>),
    /// A mistake: tried once, and whatever is said to it, the operator goes on.
    Slip(Slip),
}

/// What operators do by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// Adds a new id at the address of a member: never to be taken.
    AddAtAddressOf {
        /// New.
        id: u64,
        /// Is a member.
        member: u64,
    },
    /// Removes a voter while so many others are down that the rest is no majority.
    RemoveOneTooMany(u64),
    /// Hands leadership to a node that is down.
    TransferToDead(u64),
    /// Two operators at once: one promotes, the other moves leadership.
    PromoteAndTransfer(u64),
    /// Finalizes an upgrade that may not be complete.
    Finalize,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(id) => write!(f, "add n{id}"),
            Self::Promote(id) => write!(f, "promote n{id}"),
            Self::Remove(id) => write!(f, "remove n{id}"),
            Self::Transfer(Some(id)) => write!(f, "transfer to n{id}"),
            Self::Transfer(None) => f.write_str("transfer"),
            Self::Slip(slip) => write!(f, "by mistake: {slip:?}"),
        }
    }
}

/// How far the operator is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Orders that are not finished.
    pub open: usize,
    /// Somebody is asked to hand leadership over, and has not answered.
    pub handing_over: bool,
    /// Steps that were done, by what they are called.
    pub done: Vec<&'static str>,
    /// What should have been refused, and was not.
    pub wrong: Vec<String>,
}

/// The driver's end.
pub struct Operator {
    orders: mpsc::UnboundedSender<Vec<Step>>,
    progress: Arc<Mutex<Progress>>,
}

/// The other end; runs on the operator's host.
pub struct Desk {
    orders: mpsc::UnboundedReceiver<Vec<Step>>,
    progress: Arc<Mutex<Progress>>,
    addrs: Vec<String>,
    trace: Trace,
}

impl Operator {
    /// An operator that knows the nodes at `addrs`.
    pub fn new(addrs: Vec<String>, trace: Trace) -> (Self, Desk) {
        let (send, orders) = mpsc::unbounded_channel();
        let progress = Arc::<Mutex<Progress>>::default();
        let desk = Desk {
            orders,
            progress: progress.clone(),
            addrs,
            trace,
        };
        let operator = Self {
            orders: send,
            progress,
        };
        (operator, desk)
    }

    /// Orders steps, one after the other; if one is given up, so are the rest.
    pub fn order(&self, steps: Vec<Step>) {
        self.progress.lock().open += 1;
        // The desk lives as long as the simulation.
        let _ = self.orders.send(steps);
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }
}

impl Desk {
    /// Works for ever.
    pub async fn run(mut self, seed: u64) {
        let mut client = None;
        while let Some(steps) = self.orders.recv().await {
            let give_up = Instant::now() + GIVEN_UP_AFTER;
            for step in steps {
                if let Step::Slip(slip) = step {
                    self.slip(&mut client, seed, slip).await;
                    continue;
                }
                if !self.carry_out(&mut client, seed, step, give_up).await {
                    break;
                }
            }
            self.progress.lock().open -= 1;
        }
    }

    async fn slip(&self, client: &mut Option<Client>, seed: u64, slip: Slip) {
        if client.is_none() {
            *client = self.connect(seed).await;
        }
        let Some(client) = client else {
            return;
        };
        let admin = client.admin();
        let said = match slip {
            Slip::AddAtAddressOf { id, member } => {
                let added = admin.add_member(id, node::addr(member)).await.map(drop);
                if added.is_ok() {
                    let wrong = format!("n{id} was added at the address of n{member}");
                    self.progress.lock().wrong.push(wrong);
                }
                added
            }
            Slip::RemoveOneTooMany(id) => admin.remove_member(id).await.map(drop),
            Slip::TransferToDead(id) => admin.transfer_leadership(Some(id)).await.map(drop),
            Slip::PromoteAndTransfer(id) => {
                let (promoted, moved) =
                    tokio::join!(admin.promote_member(id), admin.transfer_leadership(None));
                promoted.map(drop).and(moved.map(drop))
            }
            Slip::Finalize => admin.finalize_upgrade().await.map(drop),
        };
        let said = said.map_or_else(|error| error.to_string(), |()| "done".to_owned());
        let step = Step::Slip(slip);
        self.trace.note(format_args!("operator: {step}: {said}"));
        self.progress.lock().done.push(name(step));
    }

    /// False if it was given up.
    async fn carry_out(
        &self,
        client: &mut Option<Client>,
        seed: u64,
        step: Step,
        give_up: Instant,
    ) -> bool {
        loop {
            if client.is_none() {
                *client = self.connect(seed).await;
            }
            let error = match client {
                Some(client) => match self.take(client, step).await {
                    Ok(()) => {
                        self.trace.note(format_args!("operator: {step}: done"));
                        self.progress.lock().done.push(name(step));
                        return true;
                    }
                    Err(error) => error.to_string(),
                },
                None => "nobody answers".to_owned(),
            };
            let over = Instant::now() >= give_up || is_pointless(&error);
            let then = if over { "given up" } else { "again" };
            self.trace
                .note(format_args!("operator: {step}: {error}: {then}"));
            if over {
                return false;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn take(&self, client: &Client, step: Step) -> Result<(), Error> {
        self.progress.lock().handing_over = matches!(step, Step::Transfer(_));
        let taken = take(client, step).await;
        self.progress.lock().handing_over = false;
        taken
    }

    async fn connect(&self, seed: u64) -> Option<Client> {
        let connected = Client::builder(self.addrs.clone())
            .connector(service_fn(network::connect))
            .rng_seed(seed)
            .call_timeout(Duration::from_secs(5))
            .retry_deadline(Duration::from_secs(5))
            .connect();
        connected.await.ok()
    }
}

async fn take(client: &Client, step: Step) -> Result<(), Error> {
    let admin = client.admin();
    match step {
        Step::Add(id) => admin.add_member(id, node::addr(id)).await.map(drop),
        Step::Promote(id) => admin.promote_member(id).await.map(drop),
        Step::Remove(id) => admin.remove_member(id).await.map(drop),
        Step::Transfer(to) => admin.transfer_leadership(to).await.map(drop),
        // Made once, and not carried through.
        Step::Slip(_) => Ok(()),
    }
}

/// A person would see that it is done already, or cannot be.
fn is_pointless(error: &str) -> bool {
    error.contains("is not a member")
        || error.contains("the last voter")
        || error.contains("is not a voter")
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Add(_) => "member added",
        Step::Promote(_) => "member promoted",
        Step::Remove(_) => "member removed",
        Step::Transfer(_) => "leadership transferred",
        Step::Slip(Slip::AddAtAddressOf { .. }) => "address in use tried",
        Step::Slip(Slip::RemoveOneTooMany(_)) => "removal of one too many tried",
        Step::Slip(Slip::TransferToDead(_)) => "transfer to a dead node tried",
        Step::Slip(Slip::PromoteAndTransfer(_)) => "two operators at once",
        Step::Slip(Slip::Finalize) => "upgrade finalized, or tried",
    }
}
