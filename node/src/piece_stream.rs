//! [`piece_stream`]: the messages of a long stream, read where it may block and sent where it may wait.
//!
//! Owns the waiting for a slow receiver: it holds no thread meanwhile, and what stands behind the pieces is let go when the receiver takes nothing for
//! long. Owns nothing of the content. Exports and LTX streams (`api`) and page diffs (`cluster`) go through it.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;

use crate::cluster::ClusterError;
use crate::database::{Host, blocking};

/// Pieces read ahead of a slow receiver.
const QUEUED_MAX: usize = 2;
/// A receiver that takes nothing for this long is given up. A read transaction or a part of the log may be held for it.
const STALL_MAX: Duration = Duration::from_secs(30);

/// A place for a stream among those that a node serves at a time.
///
/// # Errors
/// All are taken.
pub(crate) fn place(
    places: &Arc<Semaphore>,
    what: &str,
    max: usize,
) -> Result<OwnedSemaphorePermit, Status> {
    places.clone().try_acquire_owned().map_err(|_| {
        ClusterError::unavailable(format!(
            "this node serves its most {what} already: max={max}"
        ))
        .into()
    })
}

/// Where pieces come from. Blocks on the disk, never on the receiver.
pub(crate) trait PieceSource: Send + 'static {
    type Piece: Send + 'static;

    /// The next piece; `None` after the last one.
    fn next(&mut self) -> Result<Option<Self::Piece>, Status>;
}

/// The sending end of a stream. The stream ends when it is dropped.
pub(crate) struct PieceSender<T> {
    pieces: mpsc::Sender<T>,
    /// What the receiver is told after the pieces that are on their way.
    failure: Arc<Mutex<Option<Status>>>,
    stall_max: Duration,
    /// The stream's place among those that the node serves.
    _place: OwnedSemaphorePermit,
}

/// A stream and its sending end. `place` is given back when the sending end is dropped.
pub(crate) fn piece_stream<T: Send + 'static>(
    place: OwnedSemaphorePermit,
) -> (
    PieceSender<T>,
    impl Stream<Item = Result<T, Status>> + Send + 'static + use<T>,
) {
    with_patience(place, STALL_MAX)
}

fn with_patience<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    stall_max: Duration,
) -> (
    PieceSender<T>,
    impl Stream<Item = Result<T, Status>> + Send + 'static + use<T>,
) {
    let (pieces, receiver) = mpsc::channel(QUEUED_MAX);
    let failure = Arc::new(Mutex::new(None));
    let sender = PieceSender {
        pieces,
        failure: failure.clone(),
        stall_max,
        _place: place,
    };
    let stream =
        futures::stream::unfold((receiver, failure), |(mut receiver, failure)| async move {
            let piece = match receiver.recv().await {
                Some(piece) => Ok(piece),
                None => Err(failure.lock().take()?),
            };
            Some((piece, (receiver, failure)))
        });
    (sender, stream)
}

impl<T: Send + 'static> PieceSender<T> {
    /// Waits until the receiver has room; false if there is no use in sending more.
    pub(crate) async fn send(&self, piece: T) -> bool {
        match tokio::time::timeout(self.stall_max, self.pieces.send(piece)).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.fail(
                    ClusterError::unavailable(format!(
                        "the stream was ended because its receiver took nothing: stall_max_ms={}",
                        self.stall_max.as_millis()
                    ))
                    .into(),
                );
                false
            }
        }
    }

    /// What the stream is to end with.
    pub(crate) fn fail(&self, status: Status) {
        *self.failure.lock() = Some(status);
    }

    /// The receiver went away.
    pub(crate) async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// Sends all that `source` gives, then ends the stream.
    pub(crate) async fn send_all(self, host: Arc<dyn Host>, source: impl PieceSource<Piece = T>) {
        let Some(source) = self.send_from(&host, source).await else {
            return;
        };
        // It may hold files.
        let closed = blocking(&host, move || drop(source)).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the source of a stream was not closed in order");
        }
    }

    async fn send_from<S: PieceSource<Piece = T>>(
        &self,
        host: &Arc<dyn Host>,
        mut source: S,
    ) -> Option<S> {
        loop {
            let read = blocking(host, move || {
                let piece = source.next();
                (source, piece)
            });
            let piece = match read.await {
                Ok((back, piece)) => {
                    source = back;
                    piece
                }
                Err(error) => {
                    self.fail(Status::unavailable(error.to_string()));
                    return None;
                }
            };
            match piece {
                Ok(Some(piece)) => {
                    if !self.send(piece).await {
                        return Some(source);
                    }
                }
                Ok(None) => return Some(source),
                Err(status) => {
                    self.fail(status);
                    return Some(source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::SystemHost;
    use futures::StreamExt as _;

    struct Numbers(u32);

    impl PieceSource for Numbers {
        type Piece = u32;

        fn next(&mut self) -> Result<Option<u32>, Status> {
            self.0 += 1;
            match self.0 {
                100 => Err(Status::data_loss("the end")),
                n => Ok(Some(n)),
            }
        }
    }

    fn numbers(stall_max: Duration) -> (Arc<Semaphore>, impl Stream<Item = Result<u32, Status>>) {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().unwrap();
        let (sender, stream) = with_patience(place, stall_max);
        tokio::spawn(sender.send_all(SystemHost::shared(), Numbers(0)));
        (places, stream)
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_the_error_after_them() {
        let (_places, stream) = numbers(STALL_MAX);
        let all: Vec<_> = stream.collect().await;
        let (error, pieces) = all.split_last().unwrap();
        let pieces: Vec<u32> = pieces
            .iter()
            .map(|piece| *piece.as_ref().unwrap())
            .collect();
        assert!(pieces.into_iter().eq(1..100));
        assert_eq!(error.as_ref().unwrap_err().message(), "the end");
    }

    #[tokio::test]
    async fn receiver_that_takes_nothing_is_given_up_and_told_so() {
        let (places, stream) = numbers(Duration::from_millis(1));
        // The place is free when the source has been let go.
        let place = places.acquire().await.unwrap();
        let all: Vec<_> = stream.collect().await;
        assert_eq!(all.len(), QUEUED_MAX + 1);
        let error = all.last().unwrap().as_ref().unwrap_err();
        assert!(error.message().contains("took nothing"), "{error:?}");
        drop(place);
    }

    #[tokio::test]
    async fn receiver_that_leaves_ends_the_reading() {
        let (places, stream) = numbers(STALL_MAX);
        drop(stream);
        drop(places.acquire().await.unwrap());
    }
}
