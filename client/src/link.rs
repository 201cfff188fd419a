//! One connection to one node with the pipelined stream on it.
//!
//! Callers append encoded calls to the [`Pipe`](pipe::Pipe); the body of the HTTP/2 request drains it, many calls to a message; the
//! owner of the connection ([`cluster`](crate::cluster)) reads the answers. Nothing here retries or chooses a node.

mod codec;
mod outbound;
mod pipe;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use halite_proto::v1 as wire;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::transport::Channel;

use crate::call_ledger::{CallId, CallLedger};
use crate::stats::Stats;
use codec::SessionCodec;
use outbound::Outbound;
use pipe::Pipe;

/// One message of answers may be this large; a node sends larger results in parts.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a waiting caller gets.
pub(crate) type Outcome = Result<wire::Reply, Lost>;

/// A try that will not be answered.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) why: Arc<str>,
    /// The call may have left this machine.
    pub(crate) maybe_sent: bool,
}

/// One open connection.
pub(crate) struct Link {
    channel: Channel,
    pipe: Mutex<Pipe>,
    outstanding: AtomicUsize,
    /// An earlier deadline than the reader knows of was added.
    deadline_added: Notify,
    result_bytes_max: usize,
    ledger: Arc<CallLedger>,
    stats: Arc<Stats>,
}

/// The answers of a [`Link`], for its one reader.
pub(crate) type Inbound = Streaming<wire::SessionResponse>;

impl Link {
    /// Opens the pipelined stream on `channel`. The caller has to [`run`](Self::run) the link.
    pub(crate) async fn open(
        channel: Channel,
        client_id: Bytes,
        result_bytes_max: usize,
        ledger: Arc<CallLedger>,
        stats: Arc<Stats>,
    ) -> Result<(Arc<Self>, Inbound), tonic::Status> {
        let link = Arc::new(Self {
            channel: channel.clone(),
            pipe: Mutex::new(Pipe::new()),
            outstanding: AtomicUsize::new(0),
            deadline_added: Notify::new(),
            result_bytes_max,
            ledger,
            stats,
        });
        // If opening fails, or is cancelled, nobody else ends the request body.
        let guard = CloseGuard(Some(Arc::clone(&link)));
        let outbound = Outbound::new(Arc::clone(&link), client_id);
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready()
            .await
            .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/halite.v1.Halite/Session");
        let response = grpc
            .streaming(tonic::Request::new(outbound), path, SessionCodec)
            .await?;
        guard.disarm();
        Ok((link, response.into_inner()))
    }

    /// For the calls that have a gRPC stream of their own.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Tries that wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Queues one try. `write` tries are given back when leadership moves ([`release_writes`](Self::release_writes)).
    pub(crate) fn send(
        self: &Arc<Self>,
        id: &Arc<CallId>,
        call: &wire::Call,
        write: bool,
        deadline: Instant,
    ) -> Result<Waiting, Lost> {
        let (sender, receiver) = oneshot::channel();
        let pushed = self.pipe.lock().push(id, call, sender, write, deadline)?;
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        if let Some(waker) = pushed.wake {
            waker.wake();
        }
        if pushed.earlier_deadline {
            self.deadline_added.notify_one();
        }
        Ok(Waiting {
            link: Arc::clone(self),
            id: id.get(),
            receiver,
            done: false,
        })
    }

    /// Completes waiting callers until the stream ends, then gives all that are left back. Returns why it ended.
    pub(crate) async fn run(self: &Arc<Self>, mut inbound: Inbound) -> Arc<str> {
        let _guard = CloseGuard(Some(Arc::clone(self)));
        let mut armed = None;
        let sweep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sweep);
        let why: Arc<str> = loop {
            let sweep_at = self.pipe.lock().sweep_at();
            if let Some(at) = sweep_at.filter(|_| sweep_at != armed) {
                sweep.as_mut().reset(at);
            }
            armed = sweep_at;
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.deliver(message),
                    Ok(None) => break "node closed the stream".into(),
                    Err(status) => break describe(&status).into(),
                },
                () = self.deadline_added.notified() => {}
                () = &mut sweep, if armed.is_some() => self.sweep(Instant::now()),
            }
        };
        self.close(&why);
        why
    }

    /// Gives back writes that wait here although another node leads now: with their idempotency key they are safe to repeat there.
    pub(crate) fn release_writes(&self, why: &Arc<str>) {
        let released = self.pipe.lock().release_writes(why);
        self.finish(released);
    }

    /// Ends the stream and gives all waiting calls back.
    pub(crate) fn close(&self, why: &Arc<str>) {
        let (released, waker) = self.pipe.lock().close(why);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.finish(released);
    }

    fn deliver(&self, message: wire::SessionResponse) {
        self.stats.messages_received.add(1);
        let mut completed = Vec::with_capacity(message.replies.len());
        {
            let mut pipe = self.pipe.lock();
            for reply in message.replies {
                if let Some(done) = pipe.reply(reply, self.result_bytes_max) {
                    completed.push(done);
                }
            }
        }
        self.finish(completed);
    }

    fn sweep(&self, now: Instant) {
        let expired = self.pipe.lock().sweep(now);
        self.finish(expired);
    }

    fn finish(&self, completed: Vec<pipe::Completed>) {
        for done in completed {
            if let Some((sender, outcome)) = done.caller {
                self.outstanding.fetch_sub(1, Ordering::Relaxed);
                // A caller that has gone is no concern here: dropping `Waiting` took it off the list, or this races with it.
                let _ = sender.send(outcome);
            }
        }
    }

    fn abandon(&self, id: u64) {
        let abandoned = self.pipe.lock().abandon(id);
        if let Some(abandoned) = abandoned {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            if let Some(waker) = abandoned.wake {
                waker.wake();
            }
        }
    }
}

/// Closes the link if its owner is cancelled.
struct CloseGuard(Option<Arc<Link>>);

impl CloseGuard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close(&"client was closed".into());
        }
    }
}

/// One try in flight. Dropping it gives the call up: the node interrupts what has not been committed of it.
pub(crate) struct Waiting {
    link: Arc<Link>,
    id: u64,
    receiver: oneshot::Receiver<Outcome>,
    done: bool,
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(cx).map(|outcome| {
            self.done = true;
            outcome.unwrap_or_else(|_| {
                Err(Lost {
                    why: "another try of the call took its place".into(),
                    maybe_sent: true,
                })
            })
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            self.link.abandon(self.id);
        }
    }
}

/// A gRPC status in one line.
pub(crate) fn describe(status: &tonic::Status) -> String {
    let mut text = if status.message().is_empty() {
        format!("{:?}", status.code()).to_lowercase()
    } else {
        status.message().to_owned()
    };
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}
