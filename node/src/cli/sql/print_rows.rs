//! The rows of a query in the form of a mode.

use halite_client::RowStream;

use super::mode::{Answer, Look};
use super::pour::pour;
use super::row_writer::RowWriter;
use crate::cli::error::CliError;
use crate::cli::output::print;

/// Prints all rows as they arrive.
pub(super) async fn print_rows(rows: RowStream, look: Look) -> Result<(), CliError> {
    if rows.columns().is_empty() {
        return print(&look.render(Answer::default()));
    }
    let mut text = String::new();
    let writer = RowWriter::begin(look, rows.columns().to_vec(), &mut text);
    pour(rows, writer, text).await
}
