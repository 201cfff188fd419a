//! A group through `halite sql`: one process for a whole script. It ends at the first statement that fails, so the next one goes on after that.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use halite_client::Value;
use halite_tests::program;

use super::Findings;
use super::fixture::{Differs, Group, Statement, Who};
use super::judge;
use super::said::{Answer, Counts, Refusal, Said};

/// One group on its way through the shell.
pub(super) struct Run<'a> {
    addrs: String,
    database: &'a str,
    group: &'a Group,
    lines: Vec<Line<'a>>,
}

/// A statement of a script, and what the shell has to print for it.
struct Line<'a> {
    statement: &'a Statement,
    /// Rows, or the words of a refusal.
    expected: Result<String, String>,
    /// It is listed: the shell alone does something else.
    differs: Option<&'a Differs>,
}

impl<'a> Run<'a> {
    /// `expected` is what a local file answers, `told` what the client was told.
    pub(super) fn new(
        addrs: &[String],
        database: &'a str,
        group: &'a Group,
        expected: &[Said],
        told: &[Said],
    ) -> Self {
        let mut lines = Vec::new();
        let mut in_transaction = false;
        for ((statement, expected), told) in group.statements.iter().zip(expected).zip(told) {
            let said = if statement.differs_for_both() {
                told
            } else {
                expected
            };
            if in_transaction && !said.is_answer() {
                // The script would end with it, and the transaction with the script.
                continue;
            }
            lines.push(Line {
                statement,
                expected: printed(&statement.sql, said, told),
                differs: statement.of(Who::Shell),
            });
            in_transaction = match transaction_word(&statement.sql) {
                Some("BEGIN") if said.is_answer() => true,
                Some(_) => false,
                None => in_transaction,
            };
        }
        Self {
            addrs: addrs.join(","),
            database,
            group,
            lines,
        }
    }

    /// Runs all of it; what was printed otherwise than expected.
    pub(super) async fn findings(self) -> Result<Findings> {
        let mut findings = Findings::new();
        let mut rest = self.lines.as_slice();
        while !rest.is_empty() {
            let (script, after) = rest.split_at(script_len(rest));
            rest = after;
            findings.extend(self.check(script).await?);
        }
        Ok(findings)
    }

    /// Runs one script; at most the first difference, since what comes after it is printed elsewhere.
    async fn check(&self, script: &[Line<'_>]) -> Result<Option<String>> {
        let text: String = script
            .iter()
            .flat_map(|line| [&*line.statement.sql, "\n"])
            .collect();
        let output = self.run(text).await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let mut rest = &*printed;
        for line in script {
            let difference = match &line.expected {
                Ok(expected) => match rest.strip_prefix(&**expected) {
                    Some(after) => {
                        rest = after;
                        None
                    }
                    None => Some(format!("printed {rest:?} {said}, expected {expected:?}")),
                },
                Err(words) => {
                    (!refuses(&said, words)).then(|| format!("{said}    expected {words:?}"))
                }
            };
            let finding = judge(
                self.group,
                line.statement,
                "shell",
                line.differs,
                difference,
            );
            if finding.is_some() || line.differs.is_some() {
                return Ok(finding);
            }
        }
        Ok((!rest.is_empty()).then(|| format!("{}: {rest:?} is left over", self.group.file)))
    }

    async fn run(&self, script: String) -> Result<Output> {
        let mut command = Command::new(program::halite());
        command
            .args(["--addr", &self.addrs, "sql", "--db", self.database])
            .args(["--mode", "json"])
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || -> Result<Output> {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().context("a pipe")?;
            let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
            let output = child.wait_with_output()?;
            // Who fails early does not read to the end.
            let _ = writer.join();
            Ok(output)
        })
        .await?
    }
}

/// Lines up to the first that fails, which ends the script. One that is listed as different is alone.
fn script_len(lines: &[Line<'_>]) -> usize {
    let listed = |line: &Line<'_>| line.differs.is_some();
    if lines.first().is_some_and(listed) {
        return 1;
    }
    let before = lines.iter().position(listed).unwrap_or(lines.len());
    let failing = lines.iter().position(|line| line.expected.is_err());
    failing.map_or(before, |at| before.min(at + 1))
}

/// The shell has the name of a code beside its number; that it is the right one is its own tests' business.
fn without_names(said: &str) -> String {
    let mut parts = said.split("(SQLITE_");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('(');
        plain.push_str(part.split_once(", ").map_or(part, |(_, rest)| rest));
    }
    plain
}

/// The first line of an error is `error: line N: WORDS`.
fn refuses(said: &str, words: &str) -> bool {
    let said = without_names(said);
    let error = said.find("error: line ").map(|at| &said[at..]);
    let error = error.and_then(|error| error.splitn(3, ": ").nth(2));
    error.is_some_and(|error| {
        error
            .strip_prefix(words)
            .is_some_and(|rest| rest.starts_with('\n'))
    })
}

fn transaction_word(sql: &str) -> Option<&'static str> {
    let upper = sql.to_ascii_uppercase();
    let word = ["BEGIN", "COMMIT", "END", "ROLLBACK"];
    let word = word.into_iter().find(|word| upper.starts_with(word))?;
    (!upper.contains(" TO ")).then_some(word)
}

/// What the shell prints for a statement that is answered with `said`. `told` is what the client was told, which has the counts too.
fn printed(sql: &str, said: &Said, told: &Said) -> Result<String, String> {
    let answer = match said {
        Said::Answer(answer) => answer,
        Said::Refusal(refusal) => return Err(words(refusal)),
    };
    if is_silent(sql) {
        return Ok(String::new());
    }
    if answer.columns.is_empty() {
        let counts = match told {
            Said::Answer(told) => told.counts.unwrap_or(Counts::NONE),
            Said::Refusal(_) => Counts::NONE,
        };
        let Counts { changes, rowid } = counts;
        let rowid = rowid.value();
        return Ok(format!(
            "{{\"rows_affected\":{changes},\"last_insert_rowid\":{rowid}}}\n"
        ));
    }
    Ok(rows(answer))
}

fn words(refusal: &Refusal) -> String {
    match refusal.code {
        0 => refusal.message.clone(),
        code => format!("{} ({code})", refusal.message),
    }
}

/// What the shell does itself, sends along with a transaction, or passes over.
fn is_silent(sql: &str) -> bool {
    const SETTINGS: [&str; 2] = ["PRAGMA foreign_keys=", "PRAGMA defer_foreign_keys="];
    let empty = sql.ends_with("*/;");
    empty
        || transaction_word(sql).is_some()
        || SETTINGS.iter().any(|setting| sql.starts_with(setting))
}

fn rows(answer: &Answer) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let object = |row: &Vec<Value>| {
        let fields = answer.columns.iter().zip(row);
        let fields = fields.map(|(name, value)| format!("{}:{}", text(name), json(value)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    let objects = answer.rows.iter().map(object);
    format!("[{}]\n", objects.collect::<Vec<_>>().join(",\n"))
}

fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() && *real > 0.0 => "9e999".to_owned(),
        Value::Real(real) if real.is_infinite() => "-9e999".to_owned(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Blob(blob) => {
            let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"{hex}\"")
        }
    }
}
