//! [`Summary`]: the numbers of a run, for people and for programs.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::screen::Screen;
use crate::cli::output::human_bytes;
use crate::cli::text_table::{Align, TextTable};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) writes_acknowledged: usize,
    /// Not answered: may or may not be there.
    pub(super) writes_unknown: usize,
    /// Refused with the promise that nothing was written.
    pub(super) writes_refused: usize,
    /// Rows of the demo in the database.
    pub(super) rows: usize,
    pub(super) reads: u64,
    /// Rows that were seen by readers, each reader's counted.
    pub(super) rows_seen: usize,
    pub(super) reads_failed: usize,
    /// From the kill to the acknowledgement of the first write that began after it.
    pub(super) takeover_ms: u64,
    pub(super) slowest_write_ms: u64,
    /// From the restart of the killed node until it had what the others had.
    pub(super) catch_up_ms: u64,
    pub(super) transactions: u64,
    pub(super) pages: u64,
    pub(super) page_size: u32,
    pub(super) archive_files: usize,
    pub(super) archive_bytes: u64,
    pub(super) restore_ms: u64,
}

impl Summary {
    pub(super) fn text(&self) -> String {
        let mut table = TextTable::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        let ms = |ms: u64| format!("{ms} ms");
        let size = human_bytes(self.pages * u64::from(self.page_size));
        let writes = format!(
            "and {} refused, {} not answered",
            self.writes_refused, self.writes_unknown
        );
        let reads = format!(
            "{} rows seen, {} reads failed",
            self.rows_seen, self.reads_failed
        );
        let pages = format!(
            "of {} bytes ({size}), at transaction {}",
            self.page_size, self.transactions
        );
        let archive = human_bytes(self.archive_bytes);
        for (name, value, remark) in [
            (
                "writes acknowledged",
                self.writes_acknowledged.to_string(),
                writes,
            ),
            ("rows found", self.rows.to_string(), String::new()),
            ("reads", self.reads.to_string(), reads),
            (
                "takeover",
                ms(self.takeover_ms),
                "from the kill to the next acknowledged write".into(),
            ),
            ("slowest write", ms(self.slowest_write_ms), String::new()),
            (
                "killed node back",
                ms(self.catch_up_ms),
                "from its restart until it had caught up".into(),
            ),
            ("pages", self.pages.to_string(), pages),
            ("archive files", self.archive_files.to_string(), archive),
            ("restore", ms(self.restore_ms), String::new()),
        ] {
            table.row([name.to_owned(), value, remark]);
        }
        // The headings are empty.
        let text = table.plain();
        text.trim_start_matches('\n').to_owned()
    }
}

/// All of it for programs: steps, numbers (null if the story did not come to its end), and the folder if it is kept.
pub(super) fn json(screen: &Screen, summary: Option<&Summary>, kept: Option<&Path>) -> Value {
    json!({
        "ok": screen.failed() == 0,
        "checks_failed": screen.failed(),
        "steps": screen.steps(),
        "summary": summary,
        "kept": kept,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            writes_acknowledged: 1200,
            writes_unknown: 1,
            writes_refused: 2,
            rows: 1201,
            reads: 300,
            rows_seen: 4000,
            reads_failed: 0,
            takeover_ms: 431,
            slowest_write_ms: 440,
            catch_up_ms: 900,
            transactions: 700,
            pages: 256,
            page_size: 4096,
            archive_files: 5,
            archive_bytes: 2048,
            restore_ms: 20,
        }
    }

    #[test]
    fn numbers_stand_in_columns() {
        let text = summary().text();
        let line = |name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            line("writes acknowledged"),
            "writes acknowledged    1200  and 2 refused, 1 not answered"
        );
        assert_eq!(
            line("takeover"),
            "takeover             431 ms  from the kill to the next acknowledged write"
        );
        assert!(line("pages").ends_with("of 4096 bytes (1.0 MiB), at transaction 700"));
        assert!(text.starts_with("writes"));
    }

    #[test]
    fn programs_learn_whether_all_held() {
        let mut screen = Screen::new(true);
        screen.good("fine").unwrap();
        let value = json(&screen, Some(&summary()), None);
        assert_eq!(
            (&value["ok"], &value["summary"]["takeover_ms"]),
            (&json!(true), &json!(431))
        );
        screen.bad("not fine").unwrap();
        let value = json(&screen, None, Some(Path::new("/x")));
        assert_eq!(
            (&value["ok"], &value["kept"]),
            (&json!(false), &json!("/x"))
        );
        assert_eq!(value["steps"][1]["text"], "not fine");
    }
}
