//! The lists in `tests/fixtures/sql`. Owns their form:
//!
//! ```sql
//! --- what this group is about
//! SELECT 1;
//! CREATE TRIGGER r AFTER INSERT ON t BEGIN
//!   SELECT 1;
//!   END;
//! -- differs: a reason that stands in docs/sql.md
//! ATTACH 'other.db' AS other;
//! ```
//!
//! A line that begins with white space goes on with the statement above it. `client differs` and `shell differs` are of one of the two only; a
//! heading that ends with `(not for the shell)` is of a group where an error decides what comes after it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const NOT_FOR_THE_SHELL: &str = "(not for the shell)";

/// Statements that share a database.
#[derive(Debug)]
pub(super) struct Group {
    /// The name of the file that it stands in.
    pub(super) file: String,
    pub(super) for_the_shell: bool,
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct Statement {
    /// From 1, in its file.
    pub(super) line: usize,
    /// With the semicolon.
    pub(super) sql: String,
    pub(super) differs: Vec<Differs>,
}

/// Somebody is told something else than by a local file.
#[derive(Debug, Clone)]
pub(super) struct Differs {
    who: Option<Who>,
    pub(super) reason: String,
}

/// Through what a statement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Shell,
}

impl Statement {
    /// What is listed as different for one of them.
    pub(super) fn of(&self, who: Who) -> Option<&Differs> {
        self.differs.iter().find(|differs| differs.who == Some(who))
    }

    pub(super) fn differs_for_both(&self) -> bool {
        self.differs.iter().any(|differs| differs.who.is_none())
    }

    /// What is listed as different for the client.
    pub(super) fn for_the_client(&self) -> Option<&Differs> {
        let both = self.differs.iter().find(|differs| differs.who.is_none());
        self.of(Who::Client).or(both)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sql")
}

/// All groups of all files, in the order of their names.
pub(super) fn groups() -> Result<Vec<Group>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut groups = Vec::new();
    for path in files {
        let file = path.file_name().context("a name")?.to_string_lossy();
        let text = fs::read_to_string(&path)?;
        groups.extend(parse(&file, &text).with_context(|| format!("{file}"))?);
    }
    Ok(groups)
}

fn parse(file: &str, text: &str) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut differs: Vec<Differs> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(title) = line.strip_prefix("--- ") {
            groups.push(Group {
                file: file.to_owned(),
                for_the_shell: !title.ends_with(NOT_FOR_THE_SHELL),
                statements: Vec::new(),
            });
            continue;
        }
        let group = groups
            .last_mut()
            .context("a statement before any heading")?;
        if let Some(remark) = line.strip_prefix("-- ") {
            differs.push(listed(remark).with_context(|| format!("line {number}"))?);
        } else if line.starts_with([' ', '\t']) {
            let above = group.statements.last_mut().context("nothing goes on")?;
            above.sql.push('\n');
            above.sql.push_str(line);
        } else {
            group.statements.push(Statement {
                line: number,
                sql: line.to_owned(),
                differs: std::mem::take(&mut differs),
            });
        }
    }
    for statement in groups.iter().flat_map(|group| &group.statements) {
        ensure!(
            statement.sql.ends_with(';'),
            "line {}: a statement ends with a semicolon: {}",
            statement.line,
            statement.sql
        );
    }
    Ok(groups)
}

fn listed(remark: &str) -> Result<Differs> {
    let Some((who, reason)) = remark.split_once("differs: ") else {
        bail!("a remark is `[client|shell] differs: REASON`, not {remark:?}");
    };
    let who = match who.trim() {
        "" => None,
        "client" => Some(Who::Client),
        "shell" => Some(Who::Shell),
        other => bail!("{other:?} is neither client nor shell"),
    };
    Ok(Differs {
        who,
        reason: reason.trim().to_owned(),
    })
}
