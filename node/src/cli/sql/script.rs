//! Statements from the command line or from standard input: one after the other, up to the first that fails.

use tokio::io::{AsyncBufReadExt, BufReader};

use super::dot;
use super::session::{Session, Then};
use super::splitter::{first_statement, is_blank};
use crate::cli::error::CliError;

/// Executes the statements of `text`; the last one needs no semicolon.
pub(super) async fn run_text(session: &mut Session, text: &str) -> Result<(), CliError> {
    let mut buffer = Buffer::default();
    buffer.push(text);
    execute(session, &mut buffer).await?;
    finish(session, &mut buffer).await
}

/// Executes what standard input holds, each statement as soon as it is complete.
pub(super) async fn run_stdin(session: &mut Session) -> Result<(), CliError> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut buffer = Buffer::default();
    let mut number = 0_u64;
    loop {
        let line = lines
            .next_line()
            .await
            .map_err(|error| CliError::io("cannot read standard input", &error))?;
        let Some(line) = line else { break };
        number += 1;
        let done = if buffer.is_blank() && line.starts_with('.') {
            match dot::parse(&line) {
                Ok(command) => session.dot(command).await,
                Err(message) => Err(CliError::new(message)),
            }
        } else {
            buffer.push(&line);
            buffer.push("\n");
            execute(session, &mut buffer).await.map(|()| Then::GoOn)
        };
        match done.map_err(|error| at_line(error, number))? {
            Then::GoOn => {}
            Then::Quit => return Ok(()),
        }
    }
    finish(session, &mut buffer)
        .await
        .map_err(|error| at_line(error, number))
}

/// Says where in the input it went wrong.
fn at_line(error: CliError, number: u64) -> CliError {
    match error {
        CliError::Failed { message, help } => CliError::Failed {
            message: format!("line {number}: {message}"),
            help,
        },
        other => other,
    }
}

async fn execute(session: &mut Session, buffer: &mut Buffer) -> Result<(), CliError> {
    while let Some(statement) = buffer.pop() {
        if !is_blank(&statement) {
            session.statement(&statement).await?;
        }
    }
    Ok(())
}

async fn finish(session: &mut Session, buffer: &mut Buffer) -> Result<(), CliError> {
    let rest = std::mem::take(&mut buffer.text);
    if !is_blank(&rest) {
        session.statement(&rest).await?;
    }
    if session.in_transaction() {
        return Err(
            CliError::new("the input ends inside a transaction, which was rolled back")
                .help("end it with COMMIT"),
        );
    }
    Ok(())
}

/// Text on its way to becoming statements.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    text: String,
    /// Something was added that may complete a statement.
    hope: bool,
}

impl Buffer {
    pub(super) fn push(&mut self, text: &str) {
        // Only a semicolon completes a statement: a long one is not read again for each of its lines.
        self.hope |= text.contains(';');
        self.text.push_str(text);
    }

    /// The next complete statement.
    pub(super) fn pop(&mut self) -> Option<String> {
        if !self.hope {
            return None;
        }
        let Some((statement, rest)) = first_statement(&self.text) else {
            self.hope = false;
            return None;
        };
        let (statement, rest) = (statement.trim().to_owned(), rest.to_owned());
        self.text = rest;
        Some(statement)
    }

    pub(super) fn is_blank(&self) -> bool {
        is_blank(&self.text) && !self.text.contains("/*")
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_statements() {
        let mut buffer = Buffer::default();
        let mut statements = Vec::new();
        for line in [
            "CREATE TABLE t(a);",
            "INSERT INTO t",
            "VALUES (';'), -- ;",
            "('b'); SELECT 1;",
            "SELECT 2",
        ] {
            buffer.push(line);
            buffer.push("\n");
            statements.extend(std::iter::from_fn(|| buffer.pop()));
        }
        assert_eq!(
            statements,
            [
                "CREATE TABLE t(a);",
                "INSERT INTO t\nVALUES (';'), -- ;\n('b');",
                "SELECT 1;"
            ]
        );
        assert!(!buffer.is_blank());
        buffer.clear();
        assert!(buffer.is_blank());
    }
}
