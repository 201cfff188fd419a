//! Standard output and standard error: a closed pipe is an end, not a panic.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Effects, Style};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::error::CliError;

/// Prints text as it is to standard output.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CliError::output)
}

/// Prints text to standard output and empties it. Waits, without holding up the process, for a reader that is slow.
pub(crate) async fn print_chunk(text: &mut String) -> Result<(), CliError> {
    let mut out = tokio::io::stdout();
    let written = out.write_all(text.as_bytes()).await;
    text.clear();
    written.map_err(CliError::output)?;
    out.flush().await.map_err(CliError::output)
}

/// How many columns the terminal has that standard output goes to; `None` if it goes to a file or a program.
pub(crate) fn stdout_columns() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&out).map_or(0, |size| size.ws_col);
    // Some terminals do not know.
    Some(if columns == 0 { 80 } else { columns.into() })
}

/// Prints one line to standard output.
pub(crate) fn print_line(text: &str) -> Result<(), CliError> {
    print(&format!("{text}\n"))
}

/// Prints a value for programs: indented JSON and a line break.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::new(format!("the result cannot be written as JSON: {error}")))?;
    print_line(&text)
}

/// Prints a remark for people to standard error; nobody has to read it.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What is wrong.
pub(crate) const WRONG: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
/// What may pass, or become wrong.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// What is there for those who do not know it yet.
pub(crate) const ASIDE: Style = Style::new().effects(Effects::DIMMED);

/// The text in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints text that has styles in it; they are left out where nobody could see them, or `NO_COLOR` asks for that.
pub(crate) fn print_styled(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CliError::output)
}

/// Prints a failure the way every command does: `error:`, and `help:` where there is something to do.
pub(crate) fn report(message: &str, help: Option<&str>) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{} {message}", styled(WRONG, "error:"));
    if let Some(help) = help {
        let _ = writeln!(err, "help: {help}");
    }
}

/// Whether somebody watches standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A line on a terminal that is written over and over: shown while work goes on, gone when dropped. Silent where nobody watches.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    shown: bool,
    last: Option<tokio::time::Instant>,
}

/// Fast enough for the eye, slow enough for the terminal.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

impl ProgressLine {
    pub(crate) fn new() -> Self {
        Self {
            shown: stderr_is_terminal(),
            last: None,
        }
    }

    pub(crate) fn show(&mut self, text: &str) {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if self.shown && due {
            self.last = Some(tokio::time::Instant::now());
            let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown && self.last.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_printed_for_people() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), want);
        }
    }
}
