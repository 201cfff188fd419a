//! The committed transactions of one database, one after the other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::Stream;
use halite_proto::v1 as wire;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::codec::Streaming;

use crate::backoff::Backoff;
use crate::call::CallScope;
use crate::failure::{Effect, Failure};
use crate::link::{Link, MESSAGE_BYTES_MAX};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::route::Need;
use crate::{Client, Error, ErrorKind, LtxTransaction};

const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_millis(500);
/// A stream that lasted this long was a good one, whether it brought a transaction or not.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// Every transaction of one database from a TXID on, in order, each once and as soon as the node that serves it has applied it.
///
/// When that node dies or falls silent, the stream goes on at another one, with the transaction that is due; that each continues the
/// one before is checked by TXID and checksum. Transactions are handed over whole; one larger than
/// [`result_bytes_max`](crate::ClientBuilder::result_bytes_max) is refused. The node sends only as fast as they are taken, and whoever
/// takes them too slowly finds that they have left the log ([`ErrorKind::Purged`]).
///
/// After an error the next call tries again from [`next_txid`](Self::next_txid).
pub struct LtxStream {
    client: Client,
    scope: CallScope,
    need: Need,
    /// 0 until the node has said what comes next.
    next_txid: u64,
    /// Checksum after the last transaction handed over.
    checksum: Option<u64>,
    source: Option<Source>,
    /// What has come of the next transaction.
    data: BytesMut,
    pause: Backoff,
    /// Since when streams break without having brought anything.
    failing_since: Option<Instant>,
}

/// Where the transactions come from at the moment.
struct Source {
    link: Arc<Link>,
    /// The piece that told that the node can serve.
    first: Option<wire::StreamLtxResponse>,
    inbound: Streaming<wire::StreamLtxResponse>,
    opened: Instant,
}

struct OpenLtx {
    request: wire::StreamLtxRequest,
    call_timeout: Duration,
}

impl LtxStream {
    pub(crate) async fn open(
        client: &Client,
        scope: &CallScope,
        need: Need,
        from_txid: u64,
    ) -> Result<Self, Error> {
        let mut stream = Self {
            client: client.clone(),
            scope: scope.clone(),
            need,
            next_txid: from_txid,
            checksum: None,
            source: None,
            data: BytesMut::new(),
            pause: Backoff::new(PAUSE_FIRST, PAUSE_CAP),
            failing_since: None,
        };
        stream.reopen().await?;
        Ok(stream)
    }

    /// The next transaction; waits until there is one. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Purged`] if no node has it in its log any more, [`ErrorKind::NoSuchDatabase`] if the database is gone, also if
    /// another one has got its name, [`ErrorKind::Unavailable`] if no node served it within the retry deadline.
    pub async fn next_transaction(&mut self) -> Result<LtxTransaction, Error> {
        loop {
            let Some(source) = &mut self.source else {
                self.reopen().await?;
                continue;
            };
            let piece = match source.first.take() {
                Some(first) => Ok(Some(first)),
                None => source.inbound.message().await,
            };
            let why = match piece {
                Ok(Some(piece)) => match self.accept(piece)? {
                    Some(transaction) => return Ok(transaction),
                    None => continue,
                },
                Ok(None) => Error::unavailable("the node ended the LTX stream"),
                Err(status) => Failure::from_status(&status).into_error(),
            };
            self.lost(why).await?;
        }
    }

    /// The same as a [`Stream`]. It never ends; after an error it tries again.
    pub fn into_stream(self) -> impl Stream<Item = Result<LtxTransaction, Error>> + Send {
        futures::stream::unfold(self, |mut stream| async move {
            Some((stream.next_transaction().await, stream))
        })
    }

    /// The transaction that comes next.
    pub fn next_txid(&self) -> u64 {
        self.next_txid
    }

    /// The node that serves the stream at the moment, as far as it is known.
    pub fn node_id(&self) -> Option<u64> {
        let source = self.source.as_ref()?;
        let view = self.client.core.cluster.view();
        let (node, _) = view
            .links()
            .find(|(_, link)| Arc::ptr_eq(link, &source.link))?;
        Some(node.node_id)
    }

    /// Opens the stream at a node that has what comes next.
    async fn reopen(&mut self) -> Result<(), Error> {
        let plan = Plan::new(
            self.need,
            Effect::Read,
            Instant::now() + self.scope.retry_deadline,
        );
        let operation = OpenLtx {
            request: wire::StreamLtxRequest {
                database: self.scope.database.clone(),
                from_txid: self.next_txid,
            },
            call_timeout: self.scope.call_timeout,
        };
        let source = run(&self.client.core.cluster, plan, operation).await?;
        if let (0, Some(first)) = (self.next_txid, &source.first) {
            self.next_txid = first.txid;
        }
        self.data.clear();
        self.source = Some(source);
        Ok(())
    }

    /// The stream broke: there is another try, unless streams have been breaking for as long as a call may take.
    async fn lost(&mut self, why: Error) -> Result<(), Error> {
        let now = Instant::now();
        let lasted = self.source.take().map(|source| now - source.opened);
        if lasted.is_some_and(|lasted| lasted >= GOOD_AFTER) {
            self.brought_something();
        }
        match self.failing_since {
            None => self.failing_since = Some(now),
            Some(since) if now - since >= self.scope.retry_deadline => {
                self.brought_something();
                return Err(why);
            }
            Some(_) => {
                let random = self.client.core.cluster.random.next();
                sleep(self.pause.next(random)).await;
            }
        }
        Ok(())
    }

    fn brought_something(&mut self) {
        self.failing_since = None;
        self.pause.reset();
    }

    /// Takes one piece; the transaction that it completes. After an error the stream is closed.
    fn accept(&mut self, piece: wire::StreamLtxResponse) -> Result<Option<LtxTransaction>, Error> {
        let accepted = self.assemble(piece);
        if accepted.is_err() {
            self.source = None;
        }
        accepted
    }

    fn assemble(
        &mut self,
        piece: wire::StreamLtxResponse,
    ) -> Result<Option<LtxTransaction>, Error> {
        let txid = self.next_txid;
        if piece.txid != txid {
            return Err(Error::internal(format!(
                "node sent another transaction than the next one: expected_txid={txid} found_txid={}",
                piece.txid
            )));
        }
        let bytes_max = self.client.core.cluster.options.result_bytes_max;
        if self.data.len() + piece.data.len() > bytes_max {
            return Err(Error::invalid(format!(
                "transaction is too large to buffer: txid={txid} bytes_max={bytes_max}"
            )));
        }
        if !piece.last {
            self.data.extend_from_slice(&piece.data);
            return Ok(None);
        }
        let data = if self.data.is_empty() {
            piece.data
        } else {
            self.data.extend_from_slice(&piece.data);
            self.data.split().freeze()
        };
        let transaction = LtxTransaction {
            txid,
            raft_index: piece.raft_index,
            pre_checksum: checksum(&piece.pre_checksum)?,
            post_checksum: checksum(&piece.post_checksum)?,
            data,
        };
        if let Some(expected) = self.checksum
            && expected != transaction.pre_checksum
        {
            return Err(Error::new(
                ErrorKind::NoSuchDatabase,
                format!(
                    "the database that was followed is gone, another one has its name: txid={txid} expected_checksum={expected:016x} \
                     found_checksum={:016x}",
                    transaction.pre_checksum
                ),
            ));
        }
        self.checksum = Some(transaction.post_checksum);
        self.next_txid = txid + 1;
        self.brought_something();
        Ok(Some(transaction))
    }
}

fn checksum(digits: &str) -> Result<u64, Error> {
    u64::from_str_radix(digits, 16)
        .map_err(|_| Error::internal(format!("node sent no checksum: found={digits:?}")))
}

impl Operation for OpenLtx {
    type Output = Source;

    async fn attempt(&mut self, attempt: Attempt) -> Result<Self::Output, Failure> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        let mut node =
            HaliteClient::new(attempt.link.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = self.request.clone();
        let opening = async move {
            let mut inbound = node.stream_ltx(request).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((first, inbound))
        };
        match timeout(self.call_timeout.min(remaining), opening).await {
            Ok(Ok((first @ Some(_), inbound))) => Ok(Source {
                link: attempt.link,
                first,
                inbound,
                opened: Instant::now(),
            }),
            Ok(Ok((None, _))) => Err(Failure::lost("LTX stream ended before it began", true)),
            Ok(Err(status)) => Err(Failure::from_status(&status)),
            Err(_) => Err(Failure::lost("node did not answer in time", true)),
        }
    }
}

impl fmt::Debug for LtxStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LtxStream")
            .field("database", &self.scope.database)
            .field("next_txid", &self.next_txid)
            .field("open", &self.source.is_some())
            .finish_non_exhaustive()
    }
}
