//! The prompt: lines from a terminal, with editing and history.

use std::path::PathBuf;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, Result as LineResult};

use super::dot;
use super::script::Buffer;
use super::session::{Session, Then};
use super::splitter::is_blank;
use crate::cli::error::{CliError, Outcome};
use crate::cli::output::{remark, report};
use crate::cli::signals::unless_interrupted;

/// What is kept of earlier sessions.
const HISTORY_LINES_MAX: usize = 10_000;

/// Reads and executes until `.quit` or Ctrl-D. A statement that fails is told, and the prompt goes on.
pub(super) async fn run(
    mut session: Session,
    history: Option<PathBuf>,
) -> Result<Outcome, CliError> {
    let mut lines = Lines::open(history)?;
    let version = env!("CARGO_PKG_VERSION");
    remark(&format!(
        "Halite {version}: .help for help, SQL ends with a semicolon."
    ));
    let mut buffer = Buffer::default();
    loop {
        let prompt = prompt_text(&session, &buffer);
        let line = match lines.read(prompt).await {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                buffer.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                return Err(CliError::new(format!(
                    "cannot read from the terminal: {error}"
                )));
            }
        };
        match take(&mut session, &mut buffer, &mut lines, &line).await {
            Ok(Then::GoOn) => {}
            Ok(Then::Quit) => break,
            Err(CliError::Failed { message, help }) => report(&message, help.as_deref()),
            Err(other) => return Err(other),
        }
    }
    if session.in_transaction() {
        remark("the open transaction was rolled back");
    }
    Ok(Outcome::Good)
}

fn prompt_text(session: &Session, buffer: &Buffer) -> String {
    let name = session.database_name().unwrap_or("halite");
    let mark = if session.in_transaction() { "*" } else { "" };
    if buffer.is_blank() {
        format!("{name}{mark}> ")
    } else {
        format!("{:>width$}> ", "...", width = name.len() + mark.len())
    }
}

/// Does what one line asks for: a dot command, or the statements that it completes.
async fn take(
    session: &mut Session,
    buffer: &mut Buffer,
    lines: &mut Lines,
    line: &str,
) -> Result<Then, CliError> {
    if buffer.is_blank() && line.trim_start().starts_with('.') {
        lines.remember(line.trim());
        let command = dot::parse(line.trim()).map_err(CliError::new)?;
        return interruptible(session.dot(command)).await;
    }
    buffer.push(line);
    buffer.push("\n");
    while let Some(statement) = buffer.pop() {
        lines.remember(&statement);
        if is_blank(&statement) {
            continue;
        }
        if let Err(error) = interruptible(session.statement(&statement)).await {
            buffer.clear();
            return Err(error);
        }
    }
    Ok(Then::GoOn)
}

/// While a statement runs, Ctrl-C gives up waiting for it and comes back to the prompt.
async fn interruptible<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let done = unless_interrupted(work)
        .await
        .map_err(|error| CliError::io("cannot listen for signals", &error))?;
    done.unwrap_or_else(|| {
        Err(CliError::new("interrupted")
            .help("a write that was under way may or may not have been kept"))
    })
}

/// The line editor. It blocks, so it works on a thread of its own and is handed over and back.
struct Lines {
    editor: Option<DefaultEditor>,
    history: Option<PathBuf>,
}

impl Lines {
    fn open(history: Option<PathBuf>) -> Result<Self, CliError> {
        let broken =
            |error: ReadlineError| CliError::new(format!("cannot use the terminal: {error}"));
        let mut editor = DefaultEditor::new().map_err(broken)?;
        editor
            .set_max_history_size(HISTORY_LINES_MAX)
            .map_err(broken)?;
        if let Some(path) = &history {
            // No history yet is no reason to stop.
            let _ = editor.load_history(path);
        }
        Ok(Self {
            editor: Some(editor),
            history,
        })
    }

    async fn read(&mut self, prompt: String) -> LineResult<String> {
        let mut editor = self.editor.take().ok_or(ReadlineError::Eof)?;
        let job = tokio::task::spawn_blocking(move || {
            let line = editor.readline(&prompt);
            (editor, line)
        });
        let (editor, line) = job
            .await
            .map_err(|error| ReadlineError::Io(std::io::Error::other(error)))?;
        self.editor = Some(editor);
        line
    }

    fn remember(&mut self, text: &str) {
        let Some(editor) = &mut self.editor else {
            return;
        };
        let added = editor.add_history_entry(text).unwrap_or(false);
        if let (true, Some(path)) = (added, &self.history) {
            // A history that cannot be kept is a loss for nobody but the next session.
            let _ = editor.append_history(path);
        }
    }
}
