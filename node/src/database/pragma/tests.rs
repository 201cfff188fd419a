use super::*;
use crate::database::guard::Refusal;

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Ignore => "ignore",
        Verdict::Deny(_) => "deny",
    }
}

#[test]
fn the_authorizer_lets_nothing_be_set_that_reaches_others() {
    for (name, value, expected) in [
        ("table_info", Some("t"), "allow"),
        ("USER_VERSION", Some("3"), "allow"),
        ("user_version", None, "allow"),
        ("foreign_keys", None, "allow"),
        ("foreign_keys", Some("ON"), "deny"),
        ("foreign_keys", Some("OFF"), "deny"),
        ("journal_mode", None, "allow"),
        ("journal_mode", Some("delete"), "deny"),
        ("synchronous", Some("off"), "ignore"),
        ("locking_mode", Some("exclusive"), "deny"),
        ("wal_checkpoint", None, "ignore"),
        ("wal_checkpoint", Some("TRUNCATE"), "ignore"),
        ("wal_autocheckpoint", Some("0"), "ignore"),
        ("writable_schema", Some("1"), "deny"),
        ("page_size", Some("8192"), "deny"),
        ("page_size", None, "allow"),
        ("auto_vacuum", Some("1"), "deny"),
        ("mmap_size", Some("1000000"), "ignore"),
        ("busy_timeout", Some("5000"), "ignore"),
        ("case_sensitive_like", Some("1"), "deny"),
        ("no_such_pragma", None, "deny"),
        ("temp_store_directory", Some("'/tmp'"), "deny"),
    ] {
        let verdict = judge(name, value);
        assert_eq!(word(&verdict), expected, "{name}={value:?}");
        if let Verdict::Deny(Refusal::NotHere(why)) = verdict {
            assert!(why.contains(&name.to_ascii_lowercase()), "{why}");
        }
    }
}

fn statement(sql: &str) -> v1::Statement {
    v1::Statement {
        sql: sql.into(),
        ..v1::Statement::default()
    }
}

#[test]
fn a_transaction_without_foreign_keys_is_known_by_its_first_statements() {
    for (expected, list) in [
        (false, &["PRAGMA foreign_keys=OFF"][..]),
        (true, &["PRAGMA foreign_keys=OFF", "DROP TABLE t"]),
        (true, &["pragma foreign_keys(0);", "DROP TABLE t"]),
        (
            true,
            &[
                "PRAGMA defer_foreign_keys=ON",
                "PRAGMA foreign_keys = false",
                "DROP TABLE t",
            ],
        ),
        (false, &["DROP TABLE t", "PRAGMA foreign_keys=OFF"]),
        (false, &["PRAGMA foreign_keys=ON", "DROP TABLE t"]),
        (false, &["PRAGMA foreign_keys", "DROP TABLE t"]),
    ] {
        let statements: Vec<_> = list.iter().map(|sql| statement(sql)).collect();
        assert_eq!(without_foreign_keys(&statements), expected, "{list:?}");
    }
}
