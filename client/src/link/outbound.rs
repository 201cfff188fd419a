//! The body of the pipelined request: drains the queue whenever HTTP/2 has room.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use halite_proto::v1 as wire;
use prost::Message;

use super::Link;

/// One writer per stream. It sends what is queued at once if its caller is alone; with others in flight it first lets every task that
/// is ready run once, since they are about to queue calls of their own, and sends all of them in one message.
pub(crate) struct Outbound {
    link: Arc<Link>,
    hello: Option<Bytes>,
    gathered: bool,
}

impl Outbound {
    pub(crate) fn new(link: Arc<Link>, client_id: Bytes) -> Self {
        Self {
            link,
            hello: Some(client_id),
            gathered: false,
        }
    }
}

impl Stream for Outbound {
    type Item = BytesMut;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BytesMut>> {
        let this = &mut *self;
        if let Some(client_id) = this.hello.take() {
            let hello = wire::SessionRequest {
                client_id,
                answered_below: this.link.ledger.answered_below(),
                ..wire::SessionRequest::default()
            };
            return Poll::Ready(Some(BytesMut::from(&hello.encode_to_vec()[..])));
        }
        let mut pipe = this.link.pipe.lock();
        if !pipe.is_open() {
            return Poll::Ready(None);
        }
        if pipe.queue_is_empty() {
            this.gathered = false;
            pipe.park(cx.waker());
            return Poll::Pending;
        }
        if !this.gathered && pipe.has_company() {
            this.gathered = true;
            drop(pipe);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (mut message, calls) = pipe.drain();
        drop(pipe);
        this.gathered = false;
        prost::encoding::uint64::encode(3, &this.link.ledger.answered_below(), &mut message);
        this.link.stats.messages_sent.add(1);
        this.link.stats.calls_sent.add(calls);
        Poll::Ready(Some(message))
    }
}
