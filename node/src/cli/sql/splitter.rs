//! Where one SQL statement ends and the next begins.
//!
//! A semicolon ends a statement unless it stands in a string, a quoted name, a comment or the body of a trigger. The rules are those that
//! SQLite documents for `sqlite3_complete()`: a `CREATE [TEMP] TRIGGER` goes on until a semicolon that follows `;END`.

/// Takes the first complete statement off `text`: the statement with its semicolon, and what follows. `None` if it is not complete.
pub(crate) fn first_statement(text: &str) -> Option<(&str, &str)> {
    let mut state = State::Start;
    let mut rest = text;
    while let Some((token, tail)) = next_token(rest) {
        state = state.after(token);
        rest = tail;
        // Lonely semicolons are complete, too: empty statements.
        if token == Token::Semicolon && state == State::Start {
            return Some(text.split_at(text.len() - rest.len()));
        }
    }
    None
}

/// Whether `text` holds nothing but white space, comments and semicolons. An unclosed comment counts as nothing, too.
pub(crate) fn is_blank(text: &str) -> bool {
    let mut rest = text;
    while let Some((token, tail)) = next_token(rest) {
        if !matches!(token, Token::Space | Token::Semicolon) {
            return false;
        }
        rest = tail;
    }
    rest.is_empty() || rest.starts_with("/*")
}

/// The first word of a statement in capitals, behind comments and white space; empty if it begins with something else.
pub(crate) fn first_word(text: &str) -> String {
    let mut rest = text;
    while let Some((Token::Space, tail)) = next_token(rest) {
        rest = tail;
    }
    rest[..word_length(rest)].to_ascii_uppercase()
}

/// What the statement being read is, as far as its end depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space since the last statement.
    Start,
    /// A statement that the next semicolon ends.
    Plain,
    /// After `EXPLAIN`, which may precede a trigger.
    Explain,
    /// After `CREATE`, and `TEMP` behind it.
    Create,
    /// In a trigger, where semicolons end only its steps.
    Trigger,
    /// In a trigger, right after a semicolon.
    TriggerSemicolon,
    /// In a trigger, after `;END`.
    TriggerEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Semicolon,
    /// White space or a comment.
    Space,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
    Other,
}

impl State {
    fn after(self, token: Token) -> Self {
        match (self, token) {
            (state, Token::Space) => state,
            (Self::Trigger | Self::TriggerSemicolon, Token::Semicolon) => Self::TriggerSemicolon,
            (Self::TriggerSemicolon, Token::End) => Self::TriggerEnd,
            (Self::TriggerEnd, Token::Semicolon) => Self::Start,
            (Self::Trigger | Self::TriggerSemicolon | Self::TriggerEnd, _) => Self::Trigger,
            (_, Token::Semicolon) => Self::Start,
            (Self::Start, Token::Explain) => Self::Explain,
            (Self::Start | Self::Explain, Token::Create) => Self::Create,
            // `EXPLAIN QUERY PLAN`: the words between matter to nobody.
            (Self::Explain, Token::Other) => Self::Explain,
            (Self::Create, Token::Temp) => Self::Create,
            (Self::Create, Token::Trigger) => Self::Trigger,
            _ => Self::Plain,
        }
    }
}

/// The next token and what follows it. `None` at the end, and where a string, name or comment is not closed.
fn next_token(text: &str) -> Option<(Token, &str)> {
    let first = text.chars().next()?;
    let (token, length) = match first {
        ';' => (Token::Semicolon, 1),
        '\'' | '"' | '`' => (Token::Other, quoted_length(text, first)?),
        '[' => (Token::Other, text.find(']')? + 1),
        '-' if text.starts_with("--") => (
            Token::Space,
            text.find('\n').map_or(text.len(), |at| at + 1),
        ),
        '/' if text.starts_with("/*") => (Token::Space, text[2..].find("*/")? + 4),
        c if c.is_ascii_whitespace() || c == '\x0b' => (Token::Space, 1),
        c if is_word(c) => {
            let length = word_length(text);
            (keyword(&text[..length]), length)
        }
        c => (Token::Other, c.len_utf8()),
    };
    Some((token, &text[length..]))
}

/// Length of a quoted part with both its quotes. A doubled quote inside reads as two parts side by side, which comes to the same.
fn quoted_length(text: &str, quote: char) -> Option<usize> {
    text[1..].find(quote).map(|at| at + 2)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !is_word(c)).unwrap_or(text.len())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

fn keyword(word: &str) -> Token {
    let words = [
        ("EXPLAIN", Token::Explain),
        ("CREATE", Token::Create),
        ("TEMP", Token::Temp),
        ("TEMPORARY", Token::Temp),
        ("TRIGGER", Token::Trigger),
        ("END", Token::End),
    ];
    words
        .iter()
        .find(|(known, _)| word.eq_ignore_ascii_case(known))
        .map_or(Token::Other, |(_, token)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (Vec<&str>, &str) {
        let (mut statements, mut rest) = (Vec::new(), text);
        while let Some((statement, tail)) = first_statement(rest) {
            statements.push(statement);
            rest = tail;
        }
        (statements, rest)
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(
            split("SELECT 1; SELECT 2;\nSELECT 3"),
            (vec!["SELECT 1;", " SELECT 2;"], "\nSELECT 3")
        );
        assert_eq!(split(";;"), (vec![";", ";"], ""));
        assert_eq!(split(""), (vec![], ""));
    }

    #[test]
    fn semicolons_inside_strings_names_and_comments_end_nothing() {
        for text in [
            "SELECT 'a;b';",
            "SELECT 'it''s; here';",
            "SELECT \"a;\"\";b\";",
            "SELECT `;`, [;];",
            "SELECT 1 -- one; two\n;",
            "SELECT /* ; */ 1;",
            "/* ; */ -- ;\n;",
        ] {
            assert_eq!(split(text), (vec![text], ""), "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_not_complete() {
        for text in [
            "SELECT 'a;",
            "SELECT \"a;",
            "SELECT [a;",
            "SELECT `a;",
            "SELECT 1 /* ;",
            "SELECT 1 -- ;",
            "SELECT 1",
        ] {
            assert_eq!(split(text), (vec![], text), "{text}");
        }
    }

    #[test]
    fn a_trigger_ends_at_its_end() {
        let body = "BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; DELETE FROM u; END;";
        for head in [
            "CREATE TRIGGER x AFTER INSERT ON t",
            "create temp trigger x after insert on t",
            "CREATE TEMPORARY TRIGGER x AFTER INSERT ON t",
            "EXPLAIN CREATE TRIGGER x AFTER INSERT ON t",
            "EXPLAIN QUERY PLAN CREATE TRIGGER x AFTER INSERT ON t",
            "/* c */ CREATE /* c */ TRIGGER x AFTER INSERT ON t",
        ] {
            let text = format!("{head} {body}");
            assert_eq!(split(&text), (vec![text.as_str()], ""), "{text}");
            let (complete, rest) = split(&text[..text.len() - 5]);
            assert!(complete.is_empty(), "{rest}");
        }
        let spaced = "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; -- last\n END /* c */ ;";
        assert_eq!(split(spaced), (vec![spaced], ""));
    }

    #[test]
    fn words_like_trigger_elsewhere_change_nothing() {
        for text in [
            "SELECT trigger FROM t;",
            "CREATE TABLE trigger_log(a);",
            "CREATE VIEW v AS SELECT 1;",
            "END;",
            "BEGIN;",
        ] {
            assert_eq!(split(text), (vec![text], ""), "{text}");
        }
    }

    #[test]
    fn blank_is_what_says_nothing() {
        for text in ["", " \n\t", ";", " ; -- x", "/* x */", "/* open"] {
            assert!(is_blank(text), "{text}");
        }
        for text in ["x", "'", " ; SELECT", "/* x */ 1"] {
            assert!(!is_blank(text), "{text}");
        }
    }

    #[test]
    fn the_first_word_stands_behind_comments() {
        assert_eq!(first_word(" -- hi\n /* x */ select 1"), "SELECT");
        assert_eq!(first_word("(SELECT 1)"), "");
        assert_eq!(first_word(""), "");
    }
}
