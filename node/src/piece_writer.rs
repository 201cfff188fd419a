//! [`PieceWriter`]: what is written to it goes out as the messages of a stream, a piece at a time.
//!
//! Owns the cutting and nothing of the content. Blocks while the receiver is slow, so it must never be used on an async worker. Exports
//! (`api`) and page diffs (`cluster`) write through it.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

/// Largest piece.
const PIECE_BYTES: usize = 1 << 20;

/// See the module. What is left in it at the end goes out with [`flush`](io::Write::flush).
pub(crate) struct PieceWriter<T> {
    pieces: mpsc::Sender<Result<T, Status>>,
    message: fn(Bytes) -> T,
    buffer: Vec<u8>,
}

impl<T> PieceWriter<T> {
    /// `message` wraps a piece.
    pub(crate) fn new(pieces: mpsc::Sender<Result<T, Status>>, message: fn(Bytes) -> T) -> Self {
        Self {
            pieces,
            message,
            buffer: Vec::with_capacity(PIECE_BYTES),
        }
    }
}

impl<T> io::Write for PieceWriter<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(Ok((self.message)(data.into())))
            .map_err(|_| io::Error::other("the receiver went away"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn everything_written_comes_out_in_order_and_in_bounded_pieces() {
        let (pieces, mut receiver) = mpsc::channel(8);
        let mut writer = PieceWriter::new(pieces, |data| data);
        let written: Vec<u8> = (0..PIECE_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
        writer.write_all(&written).unwrap();
        writer.flush().unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut lens = Vec::new();
        let mut received = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            let piece = piece.unwrap();
            lens.push(piece.len());
            received.extend_from_slice(&piece);
        }
        assert_eq!(lens, [PIECE_BYTES, PIECE_BYTES, 5]);
        assert_eq!(received, written);
    }

    #[test]
    fn receiver_that_went_away_is_an_error() {
        let (pieces, receiver) = mpsc::channel::<Result<Bytes, Status>>(1);
        drop(receiver);
        let mut writer = PieceWriter::new(pieces, |data| data);
        writer.write_all(b"x").unwrap();
        assert!(writer.flush().is_err());
    }
}
