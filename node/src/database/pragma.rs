//! What PRAGMAs of callers do.
//!
//! Calls share connections, so a setting of one connection would leak from one caller to the next, or not reach the one that made it. What only
//! tunes is accepted and changes nothing; what asks for what is so already is accepted; what would break a promise, or another caller, is
//! refused with a reason. The answer to each that is accepted is the value in force.
//!
//! Owns the rules, and what is run in the place of a PRAGMA. The authorizer asks [`judge`], which also sees what a text hides; whoever prepares
//! statements asks [`in_effect`] before.

use std::borrow::Cow;

use halite_proto::v1;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::guard::{Guard, Verdict};
use super::{failure, statement};
use text::Pragma;

mod text;

/// What may be done with one PRAGMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Looks at the database or the connection, or does harmless work, with any argument.
    Free,
    /// Only makes something faster or smaller: any value is accepted, and none is taken.
    Tunes,
    /// Stays as it is, and may be read. With the reason.
    Stays(&'static str),
    /// With the reason.
    Never(&'static str),
}

const SHARED: &str = "calls share connections, so that the setting would reach other callers";
const FILE: &str = "it belongs to the file since it was made; a file that has it can be imported";
const QUERY_ONLY: &str = "calls share connections; a query cannot write";
const SCHEMA: &str = "it can corrupt the database";
const FOREIGN_KEYS: &str = "foreign keys can be off for one transaction, which then runs alone: send PRAGMA foreign_keys=OFF as the first \
     statement of a batch or of a transaction, which is committed if PRAGMA foreign_key_check finds nothing new";

fn rule(name: &str) -> Rule {
    match name {
        "application_id" | "collation_list" | "compile_options" | "data_version"
        | "database_list" | "defer_foreign_keys" | "foreign_key_check" | "foreign_key_list"
        | "freelist_count" | "function_list" | "incremental_vacuum" | "index_info"
        | "index_list" | "index_xinfo" | "integrity_check" | "module_list" | "optimize"
        | "page_count" | "pragma_list" | "quick_check" | "shrink_memory" | "table_info"
        | "table_list" | "table_xinfo" | "user_version" => Rule::Free,
        "analysis_limit"
        | "automatic_index"
        | "busy_timeout"
        | "cache_size"
        | "cache_spill"
        | "checkpoint_fullfsync"
        | "fullfsync"
        | "hard_heap_limit"
        | "journal_size_limit"
        | "mmap_size"
        | "soft_heap_limit"
        | "synchronous"
        | "temp_store"
        | "threads"
        | "wal_autocheckpoint"
        | "wal_checkpoint" => Rule::Tunes,
        "auto_vacuum" | "encoding" | "page_size" => Rule::Stays(FILE),
        "journal_mode" | "locking_mode" => {
            Rule::Stays("replication reads the write-ahead log; leave it out, the mode is WAL")
        }
        "foreign_keys" => Rule::Stays(FOREIGN_KEYS),
        "schema_version" => Rule::Stays(SCHEMA),
        "writable_schema" => {
            Rule::Stays("it can corrupt the database; CREATE, ALTER and DROP change the schema")
        }
        "query_only" => Rule::Stays(QUERY_ONLY),
        "case_sensitive_like" => Rule::Stays("calls share connections; GLOB heeds case"),
        "cell_size_check"
        | "count_changes"
        | "empty_result_callbacks"
        | "full_column_names"
        | "ignore_check_constraints"
        | "legacy_alter_table"
        | "max_page_count"
        | "read_uncommitted"
        | "recursive_triggers"
        | "reverse_unordered_selects"
        | "secure_delete"
        | "short_column_names"
        | "trusted_schema" => Rule::Stays(SHARED),
        _ => Rule::Never("it is not among those known to be harmless here"),
    }
}

/// What the authorizer says to a PRAGMA.
pub(super) fn judge(name: &str, value: Option<&str>) -> Verdict {
    let name = name.to_ascii_lowercase();
    match (rule(&name), value) {
        // Would write the file; there is another text for it.
        (Rule::Tunes, None) if name == "wal_checkpoint" => Verdict::Ignore,
        (Rule::Free, _) | (Rule::Tunes | Rule::Stays(_), None) => Verdict::Allow,
        (Rule::Tunes, Some(_)) => Verdict::Ignore,
        (Rule::Stays(why), Some(_)) => Verdict::deny(format!("PRAGMA {name} cannot be set: {why}")),
        (Rule::Never(why), _) => Verdict::deny(format!("PRAGMA {name} is refused: {why}")),
    }
}

/// What is run for a caller's statement: itself, or, for a PRAGMA that sets what stays as it is, one that tells the value in force.
///
/// # Errors
/// The PRAGMA asks for what cannot be.
pub(super) fn in_effect<'s>(
    connection: &Connection,
    guard: &Guard,
    sql: &'s str,
) -> Result<Cow<'s, str>, v1::Error> {
    if text::mentions_pragma(sql) || statement::is_explain(sql) {
        renew_schema(connection).map_err(|error| statement::explain(error, guard))?;
    }
    let Some(pragma) = Pragma::parse(sql) else {
        return Ok(Cow::Borrowed(sql));
    };
    let name = pragma.name.as_str();
    let refuse = |why: &str| {
        Err(failure::invalid(format!(
            "PRAGMA {name} cannot be set: {why}"
        )))
    };
    if name == "wal_checkpoint" {
        return Ok(Cow::Owned(checkpoint(guard, pragma.value.as_deref())));
    }
    if name == "query_only" {
        // Readers have it set for safety's sake; to the caller its database takes writes.
        let asked = pragma.value.as_deref().unwrap_or("0");
        return match meaning(name, asked).as_str() {
            "0" => Ok(Cow::Borrowed("SELECT 0 AS query_only")),
            _ => refuse(QUERY_ONLY),
        };
    }
    let Some(asked) = pragma.value.as_deref() else {
        return Ok(match name {
            "journal_mode" => Cow::Owned(tells(connection, name)),
            _ => Cow::Borrowed(sql),
        });
    };
    match rule(name) {
        Rule::Tunes if name == "synchronous" && !syncs(asked) => refuse(
            "a commit is on the disks of a majority before it is answered; leave it out, or ask for NORMAL or FULL",
        ),
        Rule::Tunes => Ok(Cow::Owned(tells(connection, name))),
        Rule::Stays(why) => {
            // A transaction for which they are off has done with asking.
            let rebuilding = matches!(name, "foreign_keys" | "writable_schema")
                && !enforces_foreign_keys(connection);
            let found = in_force(connection, name);
            if rebuilding || meaning(name, asked) == meaning(name, &found) {
                Ok(Cow::Owned(tells(connection, name)))
            } else if matches!(name, "foreign_keys" | "case_sensitive_like") {
                refuse(why)
            } else {
                refuse(&format!("it is {found}: {why}"))
            }
        }
        Rule::Free | Rule::Never(_) => Ok(Cow::Borrowed(sql)),
    }
}

/// What tells the value in force.
fn tells(connection: &Connection, name: &str) -> String {
    match name {
        // SQLite takes it for a statement that may write, also where it only asks: no reader would answer it.
        "journal_mode" => format!("SELECT '{}' AS journal_mode", in_force(connection, name)),
        _ => format!("PRAGMA {name}"),
    }
}

/// A PRAGMA looks names up in the schema that the connection remembers, and EXPLAIN plans by it. Any other statement finds out that the file has a
/// newer one; a PRAGMA would say that a table which was created meanwhile has no columns.
fn renew_schema(connection: &Connection) -> rusqlite::Result<()> {
    let mut looks = connection.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 0")?;
    looks.raw_query().next().map(drop)
}

/// Foreign keys are on, as they are but for one transaction at a time.
pub(super) fn enforces_foreign_keys(connection: &Connection) -> bool {
    in_force(connection, "foreign_keys") != "0"
}

/// The node makes its own checkpoints: it tells how far they are, in the columns that SQLite has.
fn checkpoint(guard: &Guard, kind: Option<&str>) -> String {
    let (log, copied) = guard.wal();
    let waits = matches!(kind, Some("full" | "restart" | "truncate"));
    let busy = u8::from(waits && copied < log);
    format!("SELECT {busy} AS busy, {log} AS log, {copied} AS checkpointed")
}

fn syncs(value: &str) -> bool {
    matches!(
        value,
        "1" | "2" | "3" | "normal" | "full" | "extra" | "on" | "yes" | "true"
    )
}

/// The value in force; empty where SQLite does not tell.
fn in_force(connection: &Connection, name: &str) -> String {
    let value = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
    match value {
        Ok(Value::Integer(integer)) => integer.to_string(),
        Ok(Value::Text(text)) => text,
        _ => String::new(),
    }
}

/// Two texts that mean the same to a PRAGMA are the same here.
fn meaning(name: &str, value: &str) -> String {
    let value = value.to_ascii_lowercase();
    let same = match (name, value.as_str()) {
        // It does not tell, and nobody can have set it.
        ("case_sensitive_like", "") => "0",
        ("auto_vacuum", "none") => "0",
        ("auto_vacuum", "full") => "1",
        ("auto_vacuum", "incremental") | ("secure_delete", "fast") => "2",
        ("encoding", "utf8") => "utf-8",
        ("encoding", "utf16" | "utf-16" | "utf16le") => "utf-16le",
        ("encoding", "utf16be") => "utf-16be",
        ("locking_mode" | "journal_mode" | "encoding", same) => same,
        (_, "on" | "yes" | "true") => "1",
        (_, "off" | "no" | "false") => "0",
        (_, same) => same,
    };
    same.to_owned()
}

/// The statement is a PRAGMA that may change the database, or asks for a transaction of its own: nothing for a reader.
pub(crate) fn is_for_the_writer(sql: &str) -> bool {
    Pragma::parse(sql).is_some_and(|pragma| pragma.name == "optimize" || is_off(&pragma))
}

/// `PRAGMA optimize`, which SQLite takes for a statement that only reads.
pub(super) fn is_optimize(sql: &str) -> bool {
    Pragma::parse(sql).is_some_and(|pragma| pragma.name == "optimize")
}

/// The statement is a PRAGMA.
pub(super) fn is_one(sql: &str) -> bool {
    Pragma::parse(sql).is_some()
}

/// `PRAGMA foreign_keys=OFF`.
pub(super) fn is_foreign_keys_off(sql: &str) -> bool {
    Pragma::parse(sql).is_some_and(|pragma| is_off(&pragma))
}

fn is_off(pragma: &Pragma) -> bool {
    let off = |value: &str| meaning("foreign_keys", value) == "0";
    pragma.name == "foreign_keys" && pragma.value.as_deref().is_some_and(off)
}

/// Whether foreign keys are asked to be on, or off; `None` for other statements.
pub(crate) fn foreign_keys_asked(sql: &str) -> Option<bool> {
    let pragma = Pragma::parse(sql)?;
    let set = pragma.name == "foreign_keys" && pragma.value.is_some();
    set.then(|| !is_off(&pragma))
}

/// `PRAGMA defer_foreign_keys`, on or off.
pub(crate) fn is_deferral(sql: &str) -> bool {
    Pragma::parse(sql)
        .is_some_and(|pragma| pragma.name == "defer_foreign_keys" && pragma.value.is_some())
}

/// A PRAGMA inside the transaction of a dump, which sets something and tells nothing.
pub(crate) fn is_setting_of_a_dump(sql: &str) -> bool {
    const SETTINGS: [&str; 3] = ["defer_foreign_keys", "foreign_keys", "writable_schema"];
    Pragma::parse(sql)
        .is_some_and(|pragma| SETTINGS.contains(&pragma.name.as_str()) && pragma.value.is_some())
}

/// `PRAGMA writable_schema=ON`, as a dump has it before its virtual tables.
pub(super) fn is_writable_schema_on(sql: &str) -> bool {
    Pragma::parse(sql).is_some_and(|pragma| {
        let on = |value: &str| meaning("writable_schema", value) == "1";
        pragma.name == "writable_schema" && pragma.value.as_deref().is_some_and(on)
    })
}

/// These statements are a transaction without foreign keys: the PRAGMA comes first, or only other PRAGMAs come before it.
pub(super) fn without_foreign_keys(statements: &[v1::Statement]) -> bool {
    statements.len() > 1
        && statements
            .iter()
            .map_while(|statement| Pragma::parse(&statement.sql))
            .any(|pragma| is_off(&pragma))
}

/// A PRAGMA that lasts until the end of its transaction does nothing where it is all there is.
///
/// # Errors
/// It would have no effect.
pub(super) fn check_effect(statements: &[v1::Statement]) -> Result<(), v1::Error> {
    let [only] = statements else {
        return Ok(());
    };
    let Some(Pragma {
        name,
        value: Some(value),
    }) = Pragma::parse(&only.sql)
    else {
        return Ok(());
    };
    if name == "defer_foreign_keys" && meaning(&name, &value) != "0" {
        return Err(failure::invalid(
            "PRAGMA defer_foreign_keys has no effect by itself: it lasts to the end of the batch or transaction that it is sent in",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
