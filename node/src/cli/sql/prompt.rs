//! The prompt: lines from a terminal, with editing and history.

use std::io;
use std::path::PathBuf;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor, Result as LineResult};

use super::completion::Completion;
use super::dot;
use super::script::Buffer;
use super::session::{Session, Then};
use super::splitter::is_blank;
use crate::cli::error::{CliError, Outcome};
use crate::cli::output::remark;
use crate::cli::signals::{Signals, StopSignal};

/// What is kept of earlier sessions.
const HISTORY_LINES_MAX: usize = 10_000;

/// Reads and executes until `.quit` or Ctrl-D. A statement that fails is told, and the prompt goes on.
pub(super) async fn run(
    mut session: Session,
    history: Option<PathBuf>,
) -> Result<Outcome, CliError> {
    let mut lines = Lines::open(history)?;
    let listening = Signals::listen();
    let mut signals =
        listening.map_err(|error| CliError::io("cannot listen for signals", &error))?;
    session.is_at_prompt();
    let version = env!("CARGO_PKG_VERSION");
    remark(&format!(
        "Halite {version}: .help for help, SQL ends with a semicolon."
    ));
    let mut buffer = Buffer::default();
    let mut names_are_known = false;
    loop {
        if !names_are_known && !session.in_transaction() {
            match signals.unless(session.names()).await {
                Ok(names) => lines.complete(names),
                // Who presses Ctrl-C meanwhile goes without.
                Err(StopSignal::Interrupt) => {}
                Err(signal) => {
                    return Err(CliError::Interrupted { signal, told: None });
                }
            }
            names_are_known = true;
        }
        let prompt = prompt_text(&session, &buffer);
        // What comes from here on is a key of the editor, and after the line it means its statements.
        signals.forget_interrupt();
        let line = match lines.read(prompt, &mut signals).await? {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                buffer.clear();
                if let Some(state) = session.transaction_state() {
                    remark(state);
                }
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                return Err(CliError::new(format!(
                    "cannot read from the terminal: {error}"
                )));
            }
        };
        names_are_known &= !changes_names(&line);
        match take(&mut session, &mut buffer, &mut lines, &mut signals, &line).await {
            Ok(Then::GoOn) => {}
            Ok(Then::Quit) => break,
            Err(error @ CliError::Failed { .. }) => error.report(false),
            Err(other) => return Err(other),
        }
    }
    if session.in_transaction() {
        remark("the open transaction was rolled back");
    }
    Ok(Outcome::Good)
}

/// Whether other names may be there after this line: of another database, or made by it.
fn changes_names(line: &str) -> bool {
    let words = ["CREATE", "DROP", "ALTER", ".open", ".read", "COMMIT", "END"];
    words.iter().any(|word| {
        let mut given = line.split(|c: char| c.is_whitespace() || c == ';');
        given.any(|given| given.eq_ignore_ascii_case(word))
    })
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
    signals: &mut Signals,
    line: &str,
) -> Result<Then, CliError> {
    if buffer.is_blank() && line.trim_start().starts_with('.') {
        lines.remember(line.trim());
        let wrong = |message| CliError::new(message).help(".help lists the commands");
        let command = dot::parse(line.trim()).map_err(wrong)?;
        let done = signals.unless(session.dot(command)).await;
        return done.unwrap_or_else(|signal| Err(cancelled(session, signal)));
    }
    buffer.push(line);
    buffer.push("\n");
    while let Some(statement) = buffer.pop() {
        lines.remember(&statement);
        if is_blank(&statement) {
            continue;
        }
        let done = signals.unless(session.statement(&statement)).await;
        let done = done.unwrap_or_else(|signal| Err(cancelled(session, signal)));
        if let Err(error) = done {
            buffer.clear();
            return Err(error);
        }
    }
    Ok(Then::GoOn)
}

/// While a statement runs, Ctrl-C gives up waiting for it and comes back to the prompt.
fn cancelled(session: &mut Session, signal: StopSignal) -> CliError {
    let told = session.cancelled();
    match signal {
        StopSignal::Interrupt => told,
        StopSignal::Terminate | StopSignal::Hangup => CliError::Interrupted {
            signal,
            told: Some(Box::new(told)),
        },
    }
}

/// The line editor. It blocks, so it works on a thread of its own and is handed over and back.
struct Lines {
    editor: Option<Editor<Completion, DefaultHistory>>,
    history: Option<PathBuf>,
    /// The terminal as it was found.
    found: Option<Termios>,
}

impl Lines {
    fn open(history: Option<PathBuf>) -> Result<Self, CliError> {
        let broken =
            |error: ReadlineError| CliError::new(format!("cannot use the terminal: {error}"));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(broken)?;
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
            found: tcgetattr(io::stdin()).ok(),
        })
    }

    /// The next line, or why there is none.
    ///
    /// # Errors
    /// SIGTERM or SIGHUP came. The editor is left waiting, and the terminal is as it was before.
    async fn read(
        &mut self,
        prompt: String,
        signals: &mut Signals,
    ) -> Result<LineResult<String>, CliError> {
        let Some(mut editor) = self.editor.take() else {
            return Ok(Err(ReadlineError::Eof));
        };
        let mut job = tokio::task::spawn_blocking(move || {
            let line = editor.readline(&prompt);
            (editor, line)
        });
        let joined = tokio::select! {
            joined = &mut job => joined,
            signal = signals.terminated() => {
                self.give_terminal_back();
                return Err(CliError::Interrupted { signal, told: None });
            }
        };
        match joined {
            Ok((editor, line)) => {
                self.editor = Some(editor);
                Ok(line)
            }
            Err(error) => Ok(Err(ReadlineError::Io(io::Error::other(error)))),
        }
    }

    fn give_terminal_back(&self) {
        if let Some(found) = &self.found {
            // There is nobody left to tell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, found);
        }
    }

    /// From here on these names can be completed.
    fn complete(&mut self, names: Vec<String>) {
        if let Some(editor) = &mut self.editor {
            editor.set_helper(Some(Completion { names }));
        }
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
