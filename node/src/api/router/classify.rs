//! A guess from a statement's first word. It only saves a detour: SQLite itself has the last word, and a "read" that turns out to
//! write is handed on as a write.

use crate::database::pragma::is_for_the_writer;

/// The statement begins like one that only reads.
pub(crate) fn looks_like_read(sql: &str) -> bool {
    const READS: [&str; 5] = ["select", "values", "with", "explain", "pragma"];
    let word = first_word(sql);
    READS.iter().any(|read| word.eq_ignore_ascii_case(read)) && !is_for_the_writer(sql)
}

/// The first keyword after white space and comments.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest
            .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\u{feff}');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find('\n').map_or("", |end| &comment[end + 1..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_decides_behind_comments_and_space() {
        for read in [
            "select 1",
            " -- x\n SELECT 1",
            "/* a */ /* b */ WITH x AS (SELECT 1) SELECT 1",
            "VALUES(1)",
            "PRAGMA foreign_keys",
            "PRAGMA foreign_keys=ON",
        ] {
            assert!(looks_like_read(read), "{read}");
        }
        for write in [
            "insert into t values(1)",
            "/* select */ DELETE FROM t",
            "",
            "--",
            "/*",
            "selection",
            "PRAGMA optimize",
            "PRAGMA foreign_keys=OFF",
        ] {
            assert!(!looks_like_read(write), "{write}");
        }
    }
}
