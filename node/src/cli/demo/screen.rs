//! [`Screen`]: what is shown while the demo runs, one line per step, and remembered for the end.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tokio::time::Instant;

use crate::cli::error::CliError;
use crate::cli::output::print_line;

/// One line of the story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// Since the demo began.
    pub(super) at_ms: u64,
    /// Whether a check held; `None` for what only happened.
    pub(super) ok: Option<bool>,
    pub(super) text: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Screen {
    started: Instant,
    /// Results for programs go to standard output, so the story goes to standard error.
    json: bool,
    colours: bool,
    steps: Vec<Step>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let terminal = if json {
            io::stderr().is_terminal()
        } else {
            io::stdout().is_terminal()
        };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            started: Instant::now(),
            json,
            colours: terminal && !plain,
            steps: Vec::new(),
        }
    }

    /// Something happened.
    pub(super) fn note(&mut self, text: &str) -> Result<(), CliError> {
        self.step(None, text)
    }

    /// A check held.
    pub(super) fn good(&mut self, text: &str) -> Result<(), CliError> {
        self.step(Some(true), text)
    }

    /// A check did not hold.
    pub(super) fn bad(&mut self, text: &str) -> Result<(), CliError> {
        self.step(Some(false), text)
    }

    /// A check that says in either case what it found.
    pub(super) fn check(&mut self, outcome: Result<String, String>) -> Result<(), CliError> {
        match outcome {
            Ok(text) => self.good(&text),
            Err(text) => self.bad(&text),
        }
    }

    /// A line without a time of its own: a title.
    pub(super) fn title(&mut self, text: &str) -> Result<(), CliError> {
        self.write(&format!("{text}\n"))
    }

    fn step(&mut self, ok: Option<bool>, text: &str) -> Result<(), CliError> {
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let step = Step {
            at_ms,
            ok,
            text: text.to_owned(),
        };
        let line = line(&step, self.colours);
        self.steps.push(step);
        self.write(&line)
    }

    fn write(&self, line: &str) -> Result<(), CliError> {
        if self.json {
            // Whoever reads the JSON does not have to read the story.
            let _ = writeln!(io::stderr().lock(), "{line}");
            return Ok(());
        }
        print_line(line)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Number of checks that did not hold.
    pub(super) fn failed(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| step.ok == Some(false))
            .count()
    }
}

/// ` 4.31 s  ✓ text`, with the mark in colour where that can be seen.
fn line(step: &Step, colours: bool) -> String {
    let (mark, colour) = match step.ok {
        Some(true) => ("✓", "32"),
        Some(false) => ("✗", "31"),
        None => ("·", "2"),
    };
    let seconds = step.at_ms as f64 / 1000.0;
    if colours {
        format!(
            "\x1b[2m{seconds:6.2} s\x1b[0m  \x1b[{colour}m{mark}\x1b[0m {}",
            step.text
        )
    } else {
        format!("{seconds:6.2} s  {mark} {}", step.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ok: Option<bool>) -> Step {
        Step {
            at_ms: 4310,
            ok,
            text: "so it is".to_owned(),
        }
    }

    #[test]
    fn lines_read_well_without_colours() {
        assert_eq!(line(&step(Some(true)), false), "  4.31 s  ✓ so it is");
        assert_eq!(line(&step(Some(false)), false), "  4.31 s  ✗ so it is");
        assert_eq!(line(&step(None), false), "  4.31 s  · so it is");
        assert!(line(&step(Some(false)), true).contains("\x1b[31m✗\x1b[0m"));
    }

    #[test]
    fn only_checks_that_did_not_hold_count_as_failed() {
        let mut screen = Screen::new(true);
        screen.note("a").unwrap();
        screen.good("b").unwrap();
        screen.check(Ok("c".into())).unwrap();
        assert_eq!(screen.failed(), 0);
        screen.check(Err("d".into())).unwrap();
        screen.bad("e").unwrap();
        assert_eq!((screen.failed(), screen.steps().len()), (2, 5));
    }
}
