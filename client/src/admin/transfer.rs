//! Whole databases to and from the cluster.

use std::sync::Arc;

use bytes::BytesMut;
use halite_proto::v1 as wire;
use halite_proto::v1::admin_client::AdminClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codec::Streaming;
use wire::import_request::Kind;

use super::Exported;
use crate::failure::{Effect, Failure};
use crate::link::{Link, MESSAGE_BYTES_MAX};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::route::Need;
use crate::{Client, Error, ReadLevel};

const PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of what HTTP/2 has taken.
const PIECES_MAX: usize = 4;

pub(crate) async fn import(
    client: &Client,
    begin: wire::ImportBegin,
    mut source: impl AsyncRead + Send + Unpin,
) -> Result<wire::ImportResponse, Error> {
    let link = primary_link(client).await?;
    let mut node = AdminClient::new(link.channel());
    let size_bytes = begin.size_bytes;
    let (pieces, outbound) = mpsc::channel(PIECES_MAX);
    let upload = async move {
        let send = async |kind: Kind| {
            pieces
                .send(wire::ImportRequest { kind: Some(kind) })
                .await
                .is_ok()
        };
        // A node that takes no more has answered, and the answer says why.
        let mut open = send(Kind::Begin(begin)).await;
        let mut left = size_bytes;
        while open && left > 0 {
            let mut piece = BytesMut::with_capacity(
                PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES)),
            );
            let wanted = piece.capacity() as u64;
            let count = (&mut source)
                .take(wanted.min(left))
                .read_buf(&mut piece)
                .await
                .map_err(|error| {
                    Error::io(format!("cannot read the file to import: {error}"), error)
                })?;
            if count == 0 {
                return Err(Error::invalid(format!(
                    "file to import ended early: size_bytes={size_bytes} missing_bytes={left}"
                )));
            }
            left -= count as u64;
            open = send(Kind::Data(piece.freeze())).await;
        }
        drop(pieces);
        Ok(())
    };
    let answer = node.import(ReceiverStream::new(outbound));
    tokio::pin!(upload, answer);
    let mut uploading = true;
    loop {
        tokio::select! {
            answer = &mut answer => return match answer {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => Err(once(&status)),
            },
            uploaded = &mut upload, if uploading => {
                uploaded?;
                uploading = false;
            }
        }
    }
}

fn once(status: &Status) -> Error {
    match Failure::from_status(status) {
        Failure::Answered(error) => error,
        Failure::Lost(lost) => Error::outcome_unknown(format!(
            "import was not acknowledged: reason=\"{}\"",
            lost.why
        )),
    }
}

/// The link to the primary, or to any node while it is not known.
async fn primary_link(client: &Client) -> Result<Arc<Link>, Error> {
    struct Choose;

    impl Operation for Choose {
        type Output = Arc<Link>;

        async fn attempt(&mut self, attempt: Attempt) -> Result<Arc<Link>, Failure> {
            Ok(attempt.link)
        }
    }

    let cluster = &client.core.cluster;
    let deadline = Instant::now() + cluster.options.retry_deadline;
    let mut topology = client.watch_topology();
    // Without a primary the import cannot succeed; the node would only say so after the upload.
    let _ = tokio::time::timeout_at(deadline, topology.primary()).await;
    let plan = Plan::new(Need::Primary, Effect::Read, deadline);
    run(cluster, plan, Choose).await
}

struct OpenExport {
    request: wire::ExportRequest,
}

pub(crate) async fn export(
    client: &Client,
    request: wire::ExportRequest,
    level: ReadLevel,
    mut target: impl AsyncWrite + Send + Unpin,
) -> Result<Exported, Error> {
    let cluster = &client.core.cluster;
    let options = &cluster.options;
    // The request carries no session token: only the primary is certain to have what this session has seen.
    let need = match level {
        ReadLevel::Session => Need::Primary,
        level => options.need(Effect::Read, level),
    };
    let plan = Plan::new(need, Effect::Read, Instant::now() + options.retry_deadline);
    let (mut piece, mut inbound) = run(cluster, plan, OpenExport { request }).await?;
    let mut bytes = 0;
    let cannot_write = |error: std::io::Error| {
        Error::io(format!("cannot write the exported file: {error}"), error)
    };
    loop {
        target.write_all(&piece.data).await.map_err(cannot_write)?;
        bytes += piece.data.len() as u64;
        if piece.done {
            target.flush().await.map_err(cannot_write)?;
            return Ok(Exported {
                txid: piece.txid,
                bytes,
            });
        }
        piece = match timeout(options.call_timeout, inbound.message()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => {
                return Err(Error::unavailable(format!(
                    "export ended before it was complete: bytes={bytes}"
                )));
            }
            Ok(Err(status)) => return Err(Failure::from_status(&status).into_error()),
            Err(_) => return Err(Error::unavailable(format!("export stalled: bytes={bytes}"))),
        };
    }
}

impl Operation for OpenExport {
    type Output = (wire::ExportResponse, Streaming<wire::ExportResponse>);

    async fn attempt(&mut self, attempt: Attempt) -> Result<Self::Output, Failure> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        let mut node =
            AdminClient::new(attempt.link.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = self.request.clone();
        let opening = async move {
            let mut inbound = node.export(request).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, Status>((first, inbound))
        };
        match timeout(remaining, opening).await {
            Ok(Ok((Some(first), inbound))) => Ok((first, inbound)),
            Ok(Ok((None, _))) => Err(Failure::lost("export ended before it began", true)),
            Ok(Err(status)) => Err(Failure::from_status(&status)),
            Err(_) => Err(Failure::lost("node did not answer in time", true)),
        }
    }
}
