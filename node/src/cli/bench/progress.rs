//! What goes on, for whoever watches on a terminal; silent otherwise.

use super::super::output::{ProgressLine, remark, stderr_is_terminal};

/// A line that says which step of how many is running.
#[derive(Debug)]
pub(super) struct Progress {
    line: Option<ProgressLine>,
    done: usize,
    total: usize,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self {
            line: None,
            done: 0,
            total,
        }
    }

    /// The next step begins.
    pub(super) fn step(&mut self, what: &str) {
        self.done += 1;
        // A new line each time: it is shown at once.
        let mut line = ProgressLine::new();
        line.show(&format!("[{}/{}] {what}", self.done, self.total));
        self.line = Some(line);
    }

    /// Something to know beforehand.
    pub(super) fn remark(&self, text: &str) {
        if stderr_is_terminal() {
            remark(text);
        }
    }
}
