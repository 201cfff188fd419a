//! The rows of a query go to standard output as they arrive, however many there are.

use futures::{FutureExt, StreamExt};
use halite_client::{ErrorKind, RowStream, Value};

use crate::cli::error::CliError;
use crate::cli::output::print_chunk;

/// Text is written when there is this much of it, or nothing else to do.
const CHUNK_BYTES: usize = 64 << 10;

/// What makes text of rows.
pub(super) trait Sink {
    fn push(&mut self, row: Vec<Value>, out: &mut String) -> Result<(), Stopped>;

    /// Writes what is left, and what comes after all rows.
    fn finish(self, out: &mut String) -> Result<(), Stopped>;

    /// Writes what is left where the rest of the rows will not come. What is not whole must not read as if it were.
    fn break_off(self, out: &mut String);

    /// Rows so far.
    fn count(&self) -> u64;
}

/// Why a sink takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) why: &'static str,
    pub(super) help: &'static str,
}

impl From<Stopped> for CliError {
    fn from(stopped: Stopped) -> Self {
        CliError::new(stopped.why).help(stopped.help)
    }
}

/// Prints all rows, behind `text`. Where the stream breaks, those that came are printed before the error is returned.
pub(super) async fn pour(
    mut rows: RowStream,
    mut sink: impl Sink,
    mut text: String,
) -> Result<(), CliError> {
    loop {
        let row = match rows.next().now_or_never() {
            Some(row) => row,
            None => {
                print_chunk(&mut text).await?;
                rows.next().await
            }
        };
        match row {
            Some(Ok(row)) => sink.push(row.into_values(), &mut text)?,
            Some(Err(error)) => {
                let count = sink.count();
                sink.break_off(&mut text);
                print_chunk(&mut text).await?;
                return Err(broken_off(error, count));
            }
            None => {
                sink.finish(&mut text)?;
                return print_chunk(&mut text).await;
            }
        }
        if text.len() >= CHUNK_BYTES {
            print_chunk(&mut text).await?;
        }
    }
}

/// Why the rest of the rows does not come.
fn broken_off(error: halite_client::Error, count: u64) -> CliError {
    let is_late = *error.kind() == ErrorKind::DeadlineExceeded;
    let error = CliError::from(error).within(&format!("the rows end after {count}: "), "");
    match is_late {
        true => error.help("--timeout gives it more time"),
        false => error,
    }
}
