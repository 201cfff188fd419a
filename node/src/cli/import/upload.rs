//! [`upload`]: the pages of a [`SourceFile`] go to the cluster as fast as it takes them, once.
//!
//! Called by `import`, which decides whether they are sent again; decides nothing itself.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use halite_client::Client;
use halite_proto::v1::ImportResponse;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::source_file::SourceFile;
use crate::cli::error::CliError;
use crate::cli::output::{ProgressLine, human_bytes};

/// Pieces read ahead of the network.
const PIECES_MAX: usize = 4;

/// What the cluster said, and the file, for another try.
pub(super) async fn upload(
    client: &Client,
    name: &str,
    overwrite: bool,
    source: SourceFile,
) -> Result<(SourceFile, Result<ImportResponse, halite_client::Error>), CliError> {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let total_bytes = source.size_bytes();
    let poured = tokio::task::spawn_blocking(move || {
        let poured = source.pour(|piece| sender.blocking_send(Ok(piece)).is_ok());
        if let Err(error) = poured {
            // Whoever takes no more has its answer already.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
        source
    });
    let pages = Pages {
        pieces,
        piece: Bytes::new(),
        read_bytes: 0,
        total_bytes,
        line: ProgressLine::new(),
    };
    let answer = client
        .admin()
        .import(name, total_bytes, overwrite, pages)
        .await;
    let source = poured
        .await
        .map_err(|error| CliError::new(format!("cannot read the file: {error}")))?;
    Ok((source, answer))
}

/// Pages as they come from SQLite; counted and shown.
struct Pages {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    read_bytes: u64,
    total_bytes: u64,
    line: ProgressLine,
}

impl AsyncRead for Pages {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.piece = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece.split_to(count));
        self.read_bytes += count as u64;
        let text = if self.read_bytes < self.total_bytes {
            let [read, total] = [self.read_bytes, self.total_bytes].map(human_bytes);
            format!("importing: {read} of {total}")
        } else {
            "importing: all is sent, waiting for the cluster".to_owned()
        };
        self.line.show(&text);
        Poll::Ready(Ok(()))
    }
}
