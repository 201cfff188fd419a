//! Which PRAGMAs callers may use. Pure; called by the authorizer.
//!
//! Calls share connections, so a setting of one connection would leak from one caller to the next, or not reach the one that made it: such
//! PRAGMAs can be read but not set. What would break replication is refused altogether.

use super::Verdict;

/// Look at the database or the connection, or do harmless work; any argument.
const FREE: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "optimize",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// May be read, not set.
const READABLE: &[&str] = &[
    "analysis_limit",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
    "cell_size_check",
    "checkpoint_fullfsync",
    "encoding",
    "foreign_keys",
    "fullfsync",
    "hard_heap_limit",
    "ignore_check_constraints",
    "journal_mode",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "page_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "schema_version",
    "secure_delete",
    "soft_heap_limit",
    "synchronous",
    "temp_store",
    "threads",
    "trusted_schema",
    "wal_autocheckpoint",
];

/// Judges one PRAGMA.
pub(super) fn judge(name: &str, value: Option<&str>) -> Verdict {
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    if FREE.contains(&name) {
        return Verdict::Allow;
    }
    if !READABLE.contains(&name) {
        return Verdict::Deny(format!("PRAGMA {name} is refused: {}", why_not(name)));
    }
    let Some(value) = value else {
        return Verdict::Allow;
    };
    match (name, value.to_ascii_lowercase().as_str()) {
        // What is so already may be asked for, as many libraries do when they connect.
        ("journal_mode", "wal") => Verdict::Allow,
        ("foreign_keys", "on" | "1" | "yes" | "true")
        | ("synchronous", "normal" | "1")
        | ("locking_mode", "normal")
        // The queue waits, bounded by the deadline of the call, not SQLite.
        | ("busy_timeout", _) => Verdict::Ignore,
        _ => Verdict::Deny(format!("PRAGMA {name} cannot be set: {}", why_not(name))),
    }
}

fn why_not(name: &str) -> &'static str {
    match name {
        "journal_mode" | "locking_mode" | "synchronous" | "wal_autocheckpoint"
        | "journal_size_limit" => "replication depends on it",
        "wal_checkpoint" => "checkpoints are made by the node, in step with its log",
        "writable_schema" | "schema_version" => "it can corrupt the database",
        "page_size" | "encoding" => "it is fixed when the database is created",
        "mmap_size" => "the file is only read through the node's own file layer",
        "foreign_keys" => {
            "foreign keys are always enforced; use PRAGMA defer_foreign_keys=ON in the transaction that needs it"
        }
        "cache_size" | "cache_spill" | "temp_store" | "threads" | "analysis_limit"
        | "soft_heap_limit" | "hard_heap_limit" => "it is a setting of the node",
        _ if READABLE.contains(&name) => {
            "calls share connections, so that the setting would reach other callers"
        }
        _ => "it is not among those known to be harmless here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_free_and_setting_is_judged() {
        let cases = [
            ("table_info", Some("t"), "allow"),
            ("USER_VERSION", Some("3"), "allow"),
            ("user_version", None, "allow"),
            ("foreign_keys", None, "allow"),
            ("foreign_keys", Some("ON"), "ignore"),
            ("foreign_keys", Some("OFF"), "deny"),
            ("journal_mode", None, "allow"),
            ("journal_mode", Some("WAL"), "allow"),
            ("journal_mode", Some("delete"), "deny"),
            ("synchronous", Some("off"), "deny"),
            ("locking_mode", Some("exclusive"), "deny"),
            ("wal_checkpoint", None, "deny"),
            ("wal_checkpoint", Some("TRUNCATE"), "deny"),
            ("wal_autocheckpoint", Some("0"), "deny"),
            ("writable_schema", Some("1"), "deny"),
            ("writable_schema", None, "deny"),
            ("page_size", Some("8192"), "deny"),
            ("page_size", None, "allow"),
            ("mmap_size", Some("1000000"), "deny"),
            ("busy_timeout", Some("5000"), "ignore"),
            ("case_sensitive_like", Some("1"), "deny"),
            ("no_such_pragma", None, "deny"),
            ("temp_store_directory", Some("'/tmp'"), "deny"),
        ];
        for (name, value, expected) in cases {
            let verdict = match judge(name, value) {
                Verdict::Allow => "allow",
                Verdict::Ignore => "ignore",
                Verdict::Deny(why) => {
                    assert!(why.contains(&name.to_ascii_lowercase()), "{why}");
                    "deny"
                }
            };
            assert_eq!(verdict, expected, "{name}={value:?}");
        }
    }
}
