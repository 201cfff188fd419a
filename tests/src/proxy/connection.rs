//! One connection that is passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::link::Link;

/// Small enough that a narrow link is shared fairly.
const PIECE_BYTES: usize = 8 << 10;
/// Pieces under way in one direction: what a long and wide link holds.
const UNDER_WAY: usize = 512;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Carried,
    /// Both ends get RST.
    Reset,
    /// Neither end ever hears of the other again.
    Lost,
}

/// The two directions of a connection, as seen from who made it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) there: Arc<Link>,
    pub(super) back: Arc<Link>,
}

/// Passes on what comes until both ends have closed, one has reset, or fate has it otherwise.
pub(super) async fn carry(
    mut inbound: TcpStream,
    target: SocketAddr,
    way: Way,
    mut fate: watch::Receiver<Fate>,
) -> io::Result<()> {
    inbound.set_nodelay(true)?;
    let connect = async {
        way.there.open().await;
        way.back.open().await;
        TcpStream::connect(target).await
    };
    let connected = tokio::select! {
        connected = connect => connected,
        fate = ended(&mut fate) => Err(fate),
    };
    let mut outbound = match connected {
        Ok(outbound) => outbound,
        Err(error) => {
            if error.kind() == io::ErrorKind::TimedOut {
                gone(&mut fate).await;
            }
            return inbound.set_zero_linger();
        }
    };
    outbound.set_nodelay(true)?;
    let reset = {
        let (from_caller, to_caller) = inbound.split();
        let (from_node, to_node) = outbound.split();
        let passing = async {
            tokio::try_join!(
                pass_on(from_caller, to_node, &way.there),
                pass_on(from_node, to_caller, &way.back)
            )
        };
        tokio::select! {
            passed = passing => passed.is_err(),
            fate = ended(&mut fate) => fate.kind() != io::ErrorKind::TimedOut,
        }
    };
    if reset {
        inbound.set_zero_linger()?;
        return outbound.set_zero_linger();
    }
    if *fate.borrow() == Fate::Lost {
        gone(&mut fate).await;
    }
    Ok(())
}

/// How fate ends a connection, as its ends would put it.
async fn ended(fate: &mut watch::Receiver<Fate>) -> io::Error {
    match fate.wait_for(|fate| *fate != Fate::Carried).await {
        Ok(fate) if *fate == Fate::Lost => io::ErrorKind::TimedOut.into(),
        _ => io::ErrorKind::ConnectionReset.into(),
    }
}

/// Holds a lost connection open until the proxy ends.
async fn gone(fate: &mut watch::Receiver<Fate>) {
    while fate.changed().await.is_ok() {}
}

/// One direction, to its end. An error is what the receiver has to be told of.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    link: &Link,
) -> io::Result<()> {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, io::Result<Vec<u8>>)>(UNDER_WAY);
    let take = async move {
        let mut last = Instant::now();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece).await.map(|bytes| {
                piece.truncate(bytes);
                piece
            });
            let is_last = !matches!(&read, Ok(piece) if !piece.is_empty());
            last = last.max(link.due());
            if pieces.send((last, read)).await.is_err() || is_last {
                return;
            }
        }
    };
    let give = async move {
        while let Some((due, piece)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            link.open().await;
            let piece = piece?;
            if piece.is_empty() {
                // An end that is gone already needs no farewell.
                let _ = to.shutdown().await;
                return Ok(());
            }
            link.pass(piece.len()).await;
            link.open().await;
            if to.write_all(&piece).await.is_err() {
                // The receiver is gone. The sender learns it from the other direction, once that is open.
                return Ok(());
            }
        }
        Ok(())
    };
    tokio::join!(take, give).1
}
