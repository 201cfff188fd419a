//! Statements from the command line or from standard input: one after the other, up to the first that fails.

use std::sync::Arc;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines};

use super::dot;
use super::session::{Place, Session, Then};
use super::splitter::{Splitter, is_blank, without_space};
use crate::cli::error::CliError;

/// Files that read each other: as many as the stock shell takes.
const FILES_MAX: u32 = 25;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Executes the statements and dot commands of `text`; the last statement needs no semicolon.
pub(super) async fn run_text(session: &mut Session, text: &str) -> Result<(), CliError> {
    run_lines(session, text.as_bytes(), Numbered::No).await
}

/// Executes what standard input holds, each statement as soon as it is complete, or with its transaction.
pub(super) async fn run_stdin(session: &mut Session) -> Result<(), CliError> {
    run_lines(
        session,
        BufReader::new(tokio::io::stdin()),
        Numbered::Yes(None),
    )
    .await
}

/// Executes what a file holds, as standard input.
pub(super) async fn run_file(session: &mut Session, path: &str) -> Result<(), CliError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| CliError::io(format!("cannot read {path}"), &error))?;
    let name = Some(path.into());
    if session.files >= FILES_MAX {
        return Err(CliError::new(format!(
            "files that read others are nested {FILES_MAX} deep: does one of them read itself?"
        )));
    }
    session.files += 1;
    let done = run_lines(session, BufReader::new(file), Numbered::Yes(name)).await;
    session.files -= 1;
    done
}

/// Whether people are told a line, and of which file.
enum Numbered {
    No,
    Yes(Option<Arc<str>>),
}

impl Numbered {
    fn place(&self, line: u64) -> Option<Place> {
        match self {
            Numbered::No => None,
            Numbered::Yes(file) => Some(Place {
                file: file.clone(),
                line,
            }),
        }
    }
}

/// The error of a script that another one reads is of the line of the inner one: it is put there where the outermost ends.
async fn run_lines(
    session: &mut Session,
    text: impl AsyncBufRead + Unpin,
    numbered: Numbered,
) -> Result<(), CliError> {
    let outer = session.at(None);
    match run_each(session, text, numbered).await {
        Ok(()) => {
            session.at(outer);
            Ok(())
        }
        Err(error) if outer.is_none() => {
            let error = session.placed(error);
            session.at(None);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

async fn run_each(
    session: &mut Session,
    text: impl AsyncBufRead + Unpin,
    numbered: Numbered,
) -> Result<(), CliError> {
    let (mut lines, mut buffer) = (text.lines(), Buffer::default());
    match run_on(session, &mut lines, &mut buffer, numbered).await {
        Err(CliError::OutputClosed) if !is_over(&mut lines, &buffer).await => Err(CliError::new(
            "nobody reads the output any more: what follows was not executed",
        )),
        done => done,
    }
}

/// Whether nothing is left to be executed.
async fn is_over(lines: &mut Lines<impl AsyncBufRead + Unpin>, buffer: &Buffer) -> bool {
    let mut blank = is_blank(buffer.rest());
    while let (true, Ok(Some(line))) = (blank, lines.next_line().await) {
        blank = is_blank(&line);
    }
    blank
}

async fn run_on(
    session: &mut Session,
    lines: &mut Lines<impl AsyncBufRead + Unpin>,
    buffer: &mut Buffer,
    numbered: Numbered,
) -> Result<(), CliError> {
    let mut number = 0_u64;
    let within = session.in_transaction();
    session.gather();
    loop {
        let line = lines.next_line().await.map_err(|error| {
            session.at(numbered.place(number + 1));
            CliError::io("cannot read the input", &error)
        })?;
        let Some(mut line) = line else { break };
        number += 1;
        // As editors on Windows begin a file. SQLite itself passes over it.
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.remove(0);
        }
        if line.starts_with('.') && buffer.is_blank() {
            session.at(numbered.place(number));
            // It counts as a line.
            buffer.push("\n");
            let command = dot::parse(&line).map_err(CliError::new)?;
            // The future of `.read` is one of these again.
            if Box::pin(session.dot(command)).await? == Then::Quit {
                break;
            }
            continue;
        }
        buffer.push(&line);
        buffer.push("\n");
        while let Some(statement) = buffer.pop() {
            session.at(numbered.place(buffer.line()));
            if !is_blank(&statement) {
                session.statement(&statement).await?;
            }
        }
    }
    let rest = buffer.rest().to_owned();
    if !is_blank(&rest) {
        session.at(numbered.place(buffer.line_of_rest()));
        buffer.clear();
        session.statement(&rest).await?;
    }
    // One that was open before goes on behind the file.
    if session.in_transaction() && !within {
        session.at(numbered.place(number));
        session.statement("ROLLBACK").await?;
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
    /// Where the statement begins that is not complete yet.
    start: usize,
    /// How far it has been read.
    read: usize,
    splitter: Splitter,
    /// Lines that end before `start`.
    lines: u64,
    /// Where the last statement began.
    line: u64,
}

impl Buffer {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The next complete statement.
    pub(super) fn pop(&mut self) -> Option<String> {
        let Some(length) = self.splitter.read(&self.text.as_bytes()[self.read..]) else {
            // What is done with is let go of once a text, not once a statement.
            self.text.drain(..self.start);
            (self.start, self.read) = (0, self.text.len());
            return None;
        };
        let end = self.read + length;
        let statement = &self.text[self.start..end];
        self.line = self.line_of(statement);
        self.lines += line_breaks(statement);
        let statement = statement.trim().to_owned();
        (self.start, self.read) = (end, end);
        Some(statement)
    }

    /// The line in which the last statement began, behind comments, from 1.
    fn line(&self) -> u64 {
        self.line
    }

    /// The same of what is no complete statement.
    fn line_of_rest(&self) -> u64 {
        self.line_of(self.rest())
    }

    fn line_of(&self, next: &str) -> u64 {
        let space = next.len() - without_space(next).len();
        self.lines + line_breaks(&next[..space]) + 1
    }

    /// What is no complete statement.
    fn rest(&self) -> &str {
        &self.text[self.start..]
    }

    pub(super) fn is_blank(&self) -> bool {
        is_blank(self.rest()) && !self.rest().contains("/*")
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn line_breaks(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
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
        assert_eq!(buffer.line_of_rest(), 5);
        buffer.clear();
        assert!(buffer.is_blank());
    }

    #[test]
    fn a_statement_is_of_the_line_in_which_it_begins() {
        let mut buffer = Buffer::default();
        let mut lines = Vec::new();
        for line in [
            "-- about",
            "",
            "SELECT 1; SELECT",
            "  2;",
            "/* more",
            "*/ SELECT 'a",
            ";",
            "b'; -- behind",
            "SELECT 3;;",
        ] {
            buffer.push(line);
            buffer.push("\n");
            while buffer.pop().is_some() {
                lines.push(buffer.line());
            }
        }
        assert_eq!(lines, [3, 3, 6, 9, 9]);
    }

    #[test]
    fn long_lines_and_long_statements_are_read_once() {
        let mut buffer = Buffer::default();
        let line = "INSERT INTO t VALUES(1);".repeat(30_000);
        buffer.push(&line);
        assert_eq!(std::iter::from_fn(|| buffer.pop()).count(), 30_000);
        assert_eq!(buffer.splitter.bytes, line.len());
        buffer.push("INSERT INTO t VALUES('");
        for _ in 0..30_000 {
            buffer.push("a line; of a long text\n");
            assert_eq!(buffer.pop(), None);
        }
        buffer.push("');");
        let statement = buffer.pop().expect("a statement");
        assert_eq!(statement.len(), 23 * 30_000 + 25);
        assert_eq!(buffer.splitter.bytes, line.len() + statement.len());
        assert!(buffer.is_blank());
    }
}
