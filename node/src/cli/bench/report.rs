//! The figures of a run, as JSON and as tables.

use serde::Serialize;

use super::super::output::human_bytes;
use super::super::text_table::{Align, TextTable};
use super::latencies::{Quantiles, nearest_rank, rounded};
use super::load::Measured;
use super::reads::{Level, Place};

/// What was measured; `null` or empty where it was not asked for.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    pub(super) fdatasync_ms: Option<f64>,
    pub(super) plain_sqlite_inserts_per_s: Option<f64>,
    pub(super) inserts: Vec<InsertFigures>,
    pub(super) reads: Vec<ReadFigures>,
    pub(super) takeover_ms: Option<TakeoverFigures>,
    pub(super) follower_lag_ms: Option<LagFigures>,
    pub(super) files: Option<FilesFigures>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct InsertFigures {
    clients: u32,
    per_s: f64,
    #[serde(flatten)]
    latency: Quantiles,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ReadFigures {
    level: Level,
    #[serde(rename = "where")]
    place: Place,
    clients: u32,
    per_s: f64,
    #[serde(flatten)]
    latency: Quantiles,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct TakeoverFigures {
    p50: Option<f64>,
    p99: Option<f64>,
    /// In the order of the rounds.
    all: Vec<f64>,
    /// Writes that the client gave up.
    #[serde(skip)]
    failed_writes: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LagFigures {
    p50: f64,
    p99: f64,
}

/// A file that went into a cluster and came out again. Memory is what is resident; `null` where the kernel does not tell.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FilesFigures {
    pub(super) bytes: u64,
    /// A plain copy of it, synced.
    pub(super) copy_s: f64,
    /// What each node held before.
    pub(super) idle_node_bytes: Vec<Option<u64>>,
    pub(super) import: FileFigures,
    pub(super) export: FileFigures,
    pub(super) restore: FileFigures,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct FileFigures {
    pub(super) s: f64,
    pub(super) times_copy: f64,
    pub(super) program_peak_bytes: Option<u64>,
    pub(super) node_peak_bytes: Vec<Option<u64>>,
}

impl InsertFigures {
    pub(super) fn new(clients: u32, measured: Measured) -> Self {
        Self {
            clients,
            per_s: rounded(measured.per_s),
            latency: measured.latency,
        }
    }
}

impl ReadFigures {
    pub(super) fn new(level: Level, place: Place, clients: u32, measured: Measured) -> Self {
        Self {
            level,
            place,
            clients,
            per_s: rounded(measured.per_s),
            latency: measured.latency,
        }
    }
}

impl TakeoverFigures {
    pub(super) fn new(all_ms: Vec<f64>, failed_writes: u64) -> Self {
        let mut sorted = all_ms.clone();
        Self {
            p50: nearest_rank(&mut sorted, 0.5),
            p99: nearest_rank(&mut sorted, 0.99),
            all: all_ms,
            failed_writes,
        }
    }
}

impl From<Quantiles> for LagFigures {
    fn from(quantiles: Quantiles) -> Self {
        Self {
            p50: quantiles.p50_ms,
            p99: quantiles.p99_ms,
        }
    }
}

impl Report {
    /// Tables for people: only of what was measured.
    pub(super) fn text(&self) -> String {
        let sections = [
            self.baseline_text(),
            self.inserts_text(),
            self.reads_text(),
            self.takeover_text(),
            self.lag_text(),
            self.files_text(),
        ];
        let sections: Vec<String> = sections.into_iter().flatten().collect();
        sections.join("\n")
    }

    fn baseline_text(&self) -> Option<String> {
        let mut lines = String::new();
        if let Some(ms) = self.fdatasync_ms {
            lines.push_str(&format!(
                "fdatasync of the disk   {} ms\n",
                milliseconds(ms)
            ));
        }
        if let Some(per_s) = self.plain_sqlite_inserts_per_s {
            lines.push_str(&format!("plain SQLite, durable   {per_s:.0} inserts/s\n"));
        }
        (!lines.is_empty()).then_some(lines)
    }

    fn inserts_text(&self) -> Option<String> {
        if self.inserts.is_empty() {
            return None;
        }
        let mut table = TextTable::new([
            ("clients", Align::Right),
            ("inserts/s", Align::Right),
            ("p50 ms", Align::Right),
            ("p99 ms", Align::Right),
            ("times plain SQLite", Align::Right),
        ]);
        for step in &self.inserts {
            let plain = self.plain_sqlite_inserts_per_s.filter(|plain| *plain > 0.0);
            table.row([
                step.clients.to_string(),
                format!("{:.0}", step.per_s),
                milliseconds(step.latency.p50_ms),
                milliseconds(step.latency.p99_ms),
                plain.map_or_else(String::new, |plain| format!("{:.2}", step.per_s / plain)),
            ]);
        }
        Some(format!("Durable single-row inserts\n{}", table.plain()))
    }

    fn reads_text(&self) -> Option<String> {
        if self.reads.is_empty() {
            return None;
        }
        let mut table = TextTable::new([
            ("level", Align::Left),
            ("where", Align::Left),
            ("clients", Align::Right),
            ("reads/s", Align::Right),
            ("p50 ms", Align::Right),
            ("p99 ms", Align::Right),
        ]);
        for step in &self.reads {
            table.row([
                step.level.name().to_owned(),
                step.place.name().to_owned(),
                step.clients.to_string(),
                format!("{:.0}", step.per_s),
                milliseconds(step.latency.p50_ms),
                milliseconds(step.latency.p99_ms),
            ]);
        }
        Some(format!("Point reads\n{}", table.plain()))
    }

    fn takeover_text(&self) -> Option<String> {
        let figures = self.takeover_ms.as_ref()?;
        let shown = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.0}"));
        let all: Vec<String> = figures.all.iter().map(|ms| format!("{ms:.0}")).collect();
        let mut text = format!(
            "Takeover: SIGKILL of the primary to the next acknowledged write\np50 {} ms, p99 {} ms; all: {}\n",
            shown(figures.p50),
            shown(figures.p99),
            all.join(" ")
        );
        if figures.failed_writes > 0 {
            text.push_str(&format!(
                "{} writes were given up by the client\n",
                figures.failed_writes
            ));
        }
        Some(text)
    }

    fn lag_text(&self) -> Option<String> {
        let lag = self.follower_lag_ms.as_ref()?;
        Some(format!(
            "Follower lag: acknowledgement to readable on a follower\np50 {} ms, p99 {} ms\n",
            milliseconds(lag.p50),
            milliseconds(lag.p99)
        ))
    }

    fn files_text(&self) -> Option<String> {
        let files = self.files.as_ref()?;
        let mut table = TextTable::new([
            ("", Align::Left),
            ("seconds", Align::Right),
            ("times a copy", Align::Right),
            ("program's peak", Align::Right),
            ("nodes' peaks", Align::Left),
        ]);
        let nodes = |peaks: &[Option<u64>]| -> String {
            let peaks: Vec<String> = peaks.iter().map(|bytes| memory(*bytes)).collect();
            peaks.join(", ")
        };
        table.row(["idle", "", "", "", &nodes(&files.idle_node_bytes)]);
        for (name, run) in [
            ("import", &files.import),
            ("export", &files.export),
            ("restore", &files.restore),
        ] {
            table.row([
                name.to_owned(),
                format!("{:.2}", run.s),
                format!("{:.1}", run.times_copy),
                memory(run.program_peak_bytes),
                nodes(&run.node_peak_bytes),
            ]);
        }
        Some(format!(
            "A file of {}; a plain copy of it, synced: {:.2} s\n{}",
            human_bytes(files.bytes),
            files.copy_s,
            table.plain()
        ))
    }
}

/// Bytes for people, where they are known.
fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), human_bytes)
}

/// Digits that mean something: `0.042`, `3.14`, `120`.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.2}"),
        ms => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measured(per_s: f64) -> Measured {
        Measured {
            per_s,
            latency: Quantiles {
                p50_ms: 0.5,
                p99_ms: 12.25,
            },
        }
    }

    fn file(s: f64) -> FileFigures {
        FileFigures {
            s,
            times_copy: s / 0.5,
            program_peak_bytes: Some(20 << 20),
            node_peak_bytes: vec![Some(100 << 20), None],
        }
    }

    fn full() -> Report {
        Report {
            fdatasync_ms: Some(0.8),
            plain_sqlite_inserts_per_s: Some(1000.0),
            inserts: vec![
                InsertFigures::new(1, measured(500.0)),
                InsertFigures::new(256, measured(12345.6789)),
            ],
            reads: vec![ReadFigures::new(
                Level::Local,
                Place::Follower,
                64,
                measured(40_000.0),
            )],
            takeover_ms: Some(TakeoverFigures::new(vec![300.0, 250.5, 400.0], 0)),
            follower_lag_ms: Some(LagFigures { p50: 1.5, p99: 4.0 }),
            files: Some(FilesFigures {
                bytes: 256 << 20,
                copy_s: 0.5,
                idle_node_bytes: vec![Some(50 << 20), None],
                import: file(2.0),
                export: file(1.0),
                restore: file(0.75),
            }),
        }
    }

    #[test]
    fn json_has_the_documented_keys() {
        let file_json = |s: f64| {
            json!({
                "s": s,
                "times_copy": s / 0.5,
                "program_peak_bytes": 20_971_520,
                "node_peak_bytes": [104_857_600, null],
            })
        };
        let want = json!({
            "fdatasync_ms": 0.8,
            "plain_sqlite_inserts_per_s": 1000.0,
            "inserts": [
                {"clients": 1, "per_s": 500.0, "p50_ms": 0.5, "p99_ms": 12.25},
                {"clients": 256, "per_s": 12345.679, "p50_ms": 0.5, "p99_ms": 12.25},
            ],
            "reads": [
                {"level": "local", "where": "follower", "clients": 64, "per_s": 40000.0, "p50_ms": 0.5, "p99_ms": 12.25},
            ],
            "takeover_ms": {"p50": 300.0, "p99": 400.0, "all": [300.0, 250.5, 400.0]},
            "follower_lag_ms": {"p50": 1.5, "p99": 4.0},
            "files": {
                "bytes": 268_435_456,
                "copy_s": 0.5,
                "idle_node_bytes": [52_428_800, null],
                "import": file_json(2.0),
                "export": file_json(1.0),
                "restore": file_json(0.75),
            },
        });
        assert_eq!(serde_json::to_value(full()).unwrap(), want);
    }

    #[test]
    fn text_shows_every_part() {
        let want = "\
fdatasync of the disk   0.800 ms
plain SQLite, durable   1000 inserts/s

Durable single-row inserts
clients  inserts/s  p50 ms  p99 ms  times plain SQLite
      1        500   0.500   12.25                0.50
    256      12346   0.500   12.25               12.35

Point reads
level  where     clients  reads/s  p50 ms  p99 ms
local  follower       64    40000   0.500   12.25

Takeover: SIGKILL of the primary to the next acknowledged write
p50 300 ms, p99 400 ms; all: 300 250 400

Follower lag: acknowledgement to readable on a follower
p50 1.50 ms, p99 4.00 ms

A file of 256.0 MiB; a plain copy of it, synced: 0.50 s
         seconds  times a copy  program's peak  nodes' peaks
idle                                            50.0 MiB, ?
import      2.00           4.0        20.0 MiB  100.0 MiB, ?
export      1.00           2.0        20.0 MiB  100.0 MiB, ?
restore     0.75           1.5        20.0 MiB  100.0 MiB, ?
";
        assert_eq!(full().text(), want);
    }

    #[test]
    fn what_was_not_measured_is_null_and_not_shown() {
        let report = Report::default();
        assert_eq!(report.text(), "");
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["fdatasync_ms"].is_null() && json["takeover_ms"].is_null());
        assert_eq!(json["inserts"], json!([]));
    }

    #[test]
    fn given_up_writes_are_shown() {
        let report = Report {
            takeover_ms: Some(TakeoverFigures::new(vec![1.0], 3)),
            ..Report::default()
        };
        assert!(report.text().contains("3 writes were given up"));
    }
}
