use super::*;

#[test]
fn names_are_compared_as_sqlite_does() {
    for (pattern, name, like) in [
        ("users", "Users", true),
        ("u%", "users", true),
        ("_sers", "users", true),
        ("%x%", "users", false),
        ("user", "users", false),
    ] {
        assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
    }
}

fn value(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Rows of a schema of two tables, the second of which has no rows, and an index.
fn schema() -> Vec<Vec<Value>> {
    let object = |rowid, kind, name, table, sql| {
        vec![
            Value::Integer(0),
            Value::Integer(rowid),
            value(kind),
            value(name),
            value(table),
            value(sql),
        ]
    };
    let column = |rowid, cid, table, name| {
        vec![
            Value::Integer(1),
            Value::Integer(rowid),
            Value::Integer(cid),
            value(table),
            value(name),
            Value::Null,
        ]
    };
    vec![
        object(2, "index", "i", "t", "CREATE INDEX i ON t(b)"),
        object(3, "table", "u", "u", "CREATE TABLE u(c)"),
        object(1, "table", "t", "t", "CREATE TABLE t(a, b)"),
        column(1, 1, "t", "b"),
        column(1, 0, "t", "a"),
        column(3, 0, "u", "c"),
    ]
}

#[test]
fn all_rows_are_asked_for_at_once() {
    let plan = Plan::of(schema(), None);
    let query = plan.query().expect("few columns");
    assert!(
        query.contains("SELECT 2,\"a\",\"b\", NULL, NULL, NULL FROM \"t\""),
        "{query}"
    );
    assert!(
        query.ends_with("UNION ALL SELECT 3,\"c\", NULL, NULL, NULL, NULL FROM \"u\""),
        "{query}"
    );
    let only = Plan::of(schema(), Some("U"));
    assert!(!only.query().expect("few columns").contains("\"t\""));
}

#[test]
fn rows_become_statements_one_by_one() {
    let plan = || Plan::of(schema(), None);
    let (mut dump, mut out) = (Dump::new(plan(), None), String::new());
    for row in schema() {
        dump.push(row, &mut out).expect("part of the schema");
    }
    assert_eq!(out, "");
    let row = vec![
        Value::Integer(2),
        Value::Integer(7),
        value("it's"),
        Value::Null,
    ];
    dump.push(row, &mut out).expect("a row");
    let begun = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(a, b);\nINSERT INTO \"t\"(\"a\",\"b\") VALUES(7,'it''s');\n";
    assert_eq!(std::mem::take(&mut out), begun);
    dump.finish(&mut out).expect("all rows");
    assert_eq!(
        out,
        "CREATE TABLE u(c);\nCREATE INDEX i ON t(b);\nCOMMIT;\n"
    );
}

#[test]
fn a_schema_that_was_changed_meanwhile_gives_no_text() {
    let plan = Plan::of(schema(), None);
    let (mut dump, mut out) = (Dump::new(plan, None), String::new());
    for row in schema().into_iter().skip(1) {
        dump.push(row, &mut out).expect("part of the schema");
    }
    assert!(dump.finish(&mut out).is_err());
    assert_eq!(out, "");
}

#[test]
fn what_is_not_whole_is_not_kept_by_whoever_executes_it() {
    let plan = || Plan::of(schema(), None);
    let (mut dump, mut out) = (Dump::new(plan(), None), String::new());
    for row in schema() {
        dump.push(row, &mut out).expect("part of the schema");
    }
    Dump::new(plan(), None).break_off(&mut out);
    assert_eq!(out, "");
    dump.push(vec![Value::Integer(3), Value::Null], &mut out)
        .expect("a row");
    dump.break_off(&mut out);
    assert!(
        out.ends_with("VALUES(NULL);\nROLLBACK; -- the dump is not whole\n"),
        "{out}"
    );
}

/// As many tables as SQLite does not put together in one query, and a wide one.
#[test]
fn sqlite_takes_the_query_of_very_many_tables() {
    let connection = rusqlite::Connection::open_in_memory().expect("in memory");
    let mut rows = Vec::new();
    for number in 0..1_500_i64 {
        let sql = format!("CREATE TABLE t{number}(a, b)");
        connection
            .execute_batch(&format!("{sql}; INSERT INTO t{number} VALUES({number}, 1)"))
            .expect("created");
        let name = format!("t{number}");
        rows.push(vec![
            Value::Integer(0),
            Value::Integer(number),
            value("table"),
            value(&name),
            value(&name),
            value(&sql),
        ]);
        for (cid, column) in ["a", "b"].into_iter().enumerate() {
            rows.push(vec![
                Value::Integer(1),
                Value::Integer(number),
                Value::Integer(cid as i64),
                value(&name),
                value(column),
                Value::Null,
            ]);
        }
    }
    let query = Plan::of(rows, None)
        .query()
        .expect("few columns")
        .to_owned();
    let mut statement = connection.prepare(&query).expect("prepared");
    let found: Vec<(i64, i64)> = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("read")
        .map(|row| row.expect("a row"))
        .filter(|(number, _)| *number >= 2)
        .collect();
    let expected: Vec<(i64, i64)> = (0..1_500).map(|number| (number + 2, number)).collect();
    assert!(found == expected, "{} rows", found.len());
}
