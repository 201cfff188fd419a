//! One caller's session: who it is, what it knows, where its answers go, and what has been handed on for it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use halite_proto::v1;
use parking_lot::Mutex;

use super::forward::{Forwarder, hand_on};
use super::{Router, failed};
use crate::cluster::{Cluster, ClusterError};
use crate::database::{CallReply, Database, ReplySink, Room, RoomWaiter, is_not_read_only};

/// Calls that were given up of which a session remembers so much; those before run to their deadlines.
const GIVEN_UP_MAX: usize = 1024;

/// State of one client stream, or of one unary call.
pub(crate) struct Session {
    router: Weak<Router>,
    client_id: Option<[u8; 16]>,
    answered_below: AtomicU64,
    forwarded: bool,
    /// It is one call.
    unary: bool,
    out: Arc<dyn ReplySink>,
    /// Reads that may turn out to write: kept until answered.
    fallback: Mutex<HashMap<u64, v1::Call>>,
    has_fallback: AtomicBool,
    forwarder: Mutex<Option<Forwarder>>,
    given_up: GivenUp,
    /// Databases by name, as of a change count of the catalog.
    databases: Mutex<(u64, HashMap<String, Arc<Database>>)>,
    me: Weak<Session>,
}

pub(crate) fn client_id(bytes: &[u8]) -> Result<[u8; 16], ClusterError> {
    bytes.try_into().map_err(|_| {
        ClusterError::invalid(format!("client_id has to be 16 bytes: len={}", bytes.len()))
    })
}

impl Session {
    /// The session of a client's stream.
    pub(crate) fn new(
        router: Arc<Router>,
        client_id: Option<[u8; 16]>,
        out: Arc<dyn ReplySink>,
        forwarded: bool,
    ) -> Arc<Self> {
        Self::of(router, client_id, out, forwarded, false)
    }

    /// The session of one call.
    pub(crate) fn unary(
        router: Arc<Router>,
        client_id: Option<[u8; 16]>,
        out: Arc<dyn ReplySink>,
        forwarded: bool,
    ) -> Arc<Self> {
        Self::of(router, client_id, out, forwarded, true)
    }

    fn of(
        router: Arc<Router>,
        client_id: Option<[u8; 16]>,
        out: Arc<dyn ReplySink>,
        forwarded: bool,
        unary: bool,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            router: Arc::downgrade(&router),
            client_id,
            answered_below: AtomicU64::new(0),
            forwarded,
            unary,
            out,
            fallback: Mutex::default(),
            has_fallback: AtomicBool::new(false),
            forwarder: Mutex::default(),
            given_up: GivenUp::default(),
            databases: Mutex::default(),
            me: me.clone(),
        })
    }

    pub(crate) fn client_id(&self) -> Option<[u8; 16]> {
        self.client_id
    }

    pub(crate) fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    pub(crate) fn answered_below(&self) -> u64 {
        self.answered_below.load(Ordering::Relaxed)
    }

    pub(crate) fn set_answered_below(&self, below: u64) {
        self.answered_below.fetch_max(below, Ordering::Relaxed);
    }

    /// Where databases deliver: this session, which looks for reads that have to be run as writes.
    pub(super) fn sink(&self) -> Arc<dyn ReplySink> {
        match self.me.upgrade() {
            Some(session) => Arc::new(SessionSink(session)),
            None => self.out.clone(),
        }
    }

    pub(crate) fn fail(&self, ids: impl IntoIterator<Item = u64>, error: &v1::Error) {
        self.out
            .deliver(ids.into_iter().map(|id| failed(id, error)).collect());
    }

    pub(super) fn database(
        &self,
        cluster: &Cluster,
        name: &str,
    ) -> Result<Arc<Database>, ClusterError> {
        let version = cluster.shared().databases.version();
        let mut known = self.databases.lock();
        if known.0 != version {
            *known = (version, HashMap::new());
        }
        if let Some(database) = known.1.get(name) {
            return Ok(database.clone());
        }
        let database = cluster.shared().database(name)?;
        known.1.insert(name.to_owned(), database.clone());
        Ok(database)
    }

    pub(super) fn remember_for_fallback(&self, call: v1::Call) {
        if !call.read_only {
            self.fallback.lock().insert(call.id, call);
            self.has_fallback.store(true, Ordering::Release);
        }
    }

    /// Nobody waits for the answers to these calls any more: what runs of them is interrupted, here or where it was handed on to.
    pub(crate) fn give_up(&self, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        self.given_up.add(&ids);
        if let Some(forwarder) = &*self.forwarder.lock() {
            forwarder.give_up(ids);
        }
    }

    /// Hands calls on to the primary.
    pub(super) fn forward(
        &self,
        cluster: &Arc<Cluster>,
        primary: v1::NodeAddress,
        mut calls: Vec<v1::Call>,
    ) {
        if self.unary {
            for call in calls {
                hand_on(
                    cluster,
                    primary.clone(),
                    self.client_id,
                    call,
                    self.out.clone(),
                );
            }
            return;
        }
        let mut forwarder = self.forwarder.lock();
        if let Some(open) = forwarder.as_ref().filter(|open| open.leads_to(&primary)) {
            match open.send(calls, self.answered_below()) {
                Ok(()) => return,
                Err(back) => calls = back,
            }
        }
        let new = Forwarder::start(cluster, primary, self.client_id, self.out.clone());
        let sent = new.send(calls, self.answered_below());
        *forwarder = Some(new);
        drop(forwarder);
        if let Err(back) = sent {
            let error = ClusterError::unavailable("the primary cannot be reached".into());
            self.fail(back.iter().map(|call| call.id), &error.to_wire());
        }
    }

    /// Takes out of `replies` the reads that turned out to write, and runs them as writes.
    fn fall_back(&self, replies: Vec<CallReply>) -> Vec<CallReply> {
        let mut writes = Vec::new();
        let mut rest = Vec::with_capacity(replies.len());
        let mut fallback = self.fallback.lock();
        for mut reply in replies {
            let call = if reply.more {
                None
            } else {
                fallback.remove(&reply.token)
            };
            match (&reply.outcome, call) {
                (Err(error), Some(call)) if is_not_read_only(error) => writes.push(call),
                (Err(error), None) if is_not_read_only(error) => {
                    reply.outcome = Err(ClusterError::invalid(
                        "the statement writes, but the call says read-only".into(),
                    )
                    .to_wire());
                    rest.push(reply);
                }
                _ => rest.push(reply),
            }
        }
        self.has_fallback
            .store(!fallback.is_empty(), Ordering::Release);
        drop(fallback);
        if !writes.is_empty() {
            match (self.router.upgrade(), self.me.upgrade()) {
                (Some(router), Some(session)) => router.route_writes(&session, writes),
                _ => self.fail(
                    writes.iter().map(|c| c.id),
                    &ClusterError::unavailable("the node is stopping".into()).to_wire(),
                ),
            }
        }
        rest
    }
}

/// Calls that were given up and are not answered yet.
#[derive(Default)]
struct GivenUp {
    ids: Mutex<VecDeque<u64>>,
    /// There are some: asked for each statement that runs.
    any: AtomicBool,
}

impl GivenUp {
    fn add(&self, ids: &[u64]) {
        let mut known = self.ids.lock();
        known.extend(ids);
        // Some had been answered when they were given up.
        let surplus = known.len().saturating_sub(GIVEN_UP_MAX);
        known.drain(..surplus);
        self.any.store(true, Ordering::Release);
    }

    fn has(&self, id: u64) -> bool {
        self.any.load(Ordering::Acquire) && self.ids.lock().contains(&id)
    }

    fn answered(&self, replies: &[CallReply]) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut ids = self.ids.lock();
        ids.retain(|id| !replies.iter().any(|r| !r.more && r.token == *id));
        self.any.store(!ids.is_empty(), Ordering::Release);
    }
}

struct SessionSink(Arc<Session>);

impl ReplySink for SessionSink {
    fn deliver(&self, replies: Vec<CallReply>) {
        self.0.given_up.answered(&replies);
        let look = self.0.has_fallback.load(Ordering::Acquire)
            || replies
                .iter()
                .any(|r| matches!(&r.outcome, Err(error) if is_not_read_only(error)));
        let replies = if look {
            self.0.fall_back(replies)
        } else {
            replies
        };
        if !replies.is_empty() {
            self.0.out.deliver(replies);
        }
    }

    fn is_gone(&self, token: u64) -> bool {
        self.0.out.is_gone(token) || self.0.given_up.has(token)
    }

    fn gone(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.0.out.clone().gone()
    }

    fn receiver(&self) -> usize {
        self.0.out.receiver()
    }

    fn room(&self, waiter: &Arc<dyn RoomWaiter>) -> Room {
        self.0.out.room(waiter)
    }
}
