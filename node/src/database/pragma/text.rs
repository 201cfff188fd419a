//! A PRAGMA as it is written: which one, and what is asked for. Pure.

/// One `PRAGMA [schema.]name [= value]`, or with the value in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pragma {
    /// In small letters.
    pub(super) name: String,
    /// Without quotes, in small letters.
    pub(super) value: Option<String>,
}

impl Pragma {
    /// Reads a whole statement. `None` if it is something else, or more.
    pub(super) fn parse(sql: &str) -> Option<Pragma> {
        let mut text = Text { rest: sql };
        if !text.word()?.eq_ignore_ascii_case("pragma") {
            return None;
        }
        let mut name = text.word()?;
        if text.symbol('.') {
            name = text.word()?;
        }
        let value = if text.symbol('=') {
            Some(text.value()?)
        } else if text.symbol('(') {
            let value = text.value()?;
            if !text.symbol(')') {
                return None;
            }
            Some(value)
        } else {
            None
        };
        while text.symbol(';') {}
        text.is_over().then(|| Pragma {
            name: name.to_ascii_lowercase(),
            value: value.map(|value| value.to_ascii_lowercase()),
        })
    }
}

/// The text may be a PRAGMA, or ask one of the tables that SQLite makes of them (`pragma_table_info`).
pub(super) fn mentions_pragma(sql: &str) -> bool {
    let mut windows = sql.as_bytes().windows(6);
    windows.any(|window| window.eq_ignore_ascii_case(b"pragma"))
}

struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    /// Passes over white space and comments. One that is not closed goes to the end, as in SQLite.
    fn skip(&mut self) {
        loop {
            self.rest = self
                .rest
                .trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, after)| after);
            } else {
                return;
            }
        }
    }

    fn is_over(&mut self) -> bool {
        self.skip();
        self.rest.is_empty()
    }

    fn symbol(&mut self, symbol: char) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A name or a string, without its quotes.
    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let first = self.rest.chars().next()?;
        let close = match first {
            '\'' | '"' | '`' => first,
            '[' => ']',
            _ => return self.run(|c| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()),
        };
        let (word, rest) = self.rest[1..].split_once(close)?;
        self.rest = rest;
        Some(word)
    }

    /// A number with its sign, or a word.
    fn value(&mut self) -> Option<String> {
        let sign = if self.symbol('-') {
            "-"
        } else {
            self.symbol('+');
            ""
        };
        self.skip();
        let number = self
            .rest
            .starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let value = if number {
            self.run(|c| c.is_ascii_alphanumeric() || c == '.')?
        } else {
            self.word()?
        };
        Some(format!("{sign}{value}"))
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> Option<&'a str> {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!run.is_empty()).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragmas_are_read_in_every_form() {
        for (sql, name, value) in [
            ("PRAGMA foreign_keys", "foreign_keys", None),
            ("pragma Foreign_Keys=OFF;", "foreign_keys", Some("off")),
            ("PRAGMA main.page_size = 4096 ;", "page_size", Some("4096")),
            ("PRAGMA cache_size(-2000)", "cache_size", Some("-2000")),
            ("PRAGMA cache_size = + 5", "cache_size", Some("5")),
            ("PRAGMA encoding = 'UTF-8'", "encoding", Some("utf-8")),
            (
                "PRAGMA \"main\".[encoding]=\"UTF-8\"",
                "encoding",
                Some("utf-8"),
            ),
            (
                "/* a */ PRAGMA -- b\n x /* c */ = /* d */ y -- e",
                "x",
                Some("y"),
            ),
        ] {
            let want = Pragma {
                name: name.to_owned(),
                value: value.map(str::to_owned),
            };
            assert_eq!(Pragma::parse(sql), Some(want), "{sql}");
        }
        for sql in [
            "",
            "SELECT 1",
            "PRAGMA",
            "PRAGMA =",
            "PRAGMA x =",
            "PRAGMA x(",
            "PRAGMA x(1",
            "PRAGMA x 1",
            "PRAGMA x=1; SELECT 1",
            "PRAGMAx",
            "PRAGMA 'x",
        ] {
            assert_eq!(Pragma::parse(sql), None, "{sql}");
        }
    }
}
