//! Where one SQL statement ends and the next begins.
//!
//! A semicolon ends a statement unless it stands in a string, a quoted name, a comment or the body of a trigger. The rules are those that
//! SQLite documents for `sqlite3_complete()`: a `CREATE [TEMP] TRIGGER` goes on until a semicolon that follows `;END`.

/// Reads text from its beginning to its end, once, however it comes: what has been read is not looked at again.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    state: State,
    place: Place,
    /// The word that is being read, as far as it may be a keyword.
    word: String,
    /// Bytes that were looked at.
    #[cfg(test)]
    pub(super) bytes: usize,
}

/// Where in the text the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Between,
    Word,
    /// Until this byte.
    Quoted(u8),
    /// After a `-` or `/`, which may begin a comment.
    Mark(u8),
    LineComment,
    /// With whether a `*` came last.
    BlockComment(bool),
}

impl Splitter {
    /// Reads on; stops behind the semicolon that completes a statement, and says where that is.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<usize> {
        let length = text
            .iter()
            .position(|byte| self.ends_with(*byte))
            .map(|at| at + 1);
        #[cfg(test)]
        {
            self.bytes += length.unwrap_or(text.len());
        }
        length
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        match self.place {
            Place::Quoted(quote) if byte == quote => self.place = Place::Between,
            Place::LineComment if byte == b'\n' => self.place = Place::Between,
            Place::BlockComment(true) if byte == b'/' => self.place = Place::Between,
            Place::BlockComment(_) => self.place = Place::BlockComment(byte == b'*'),
            Place::Quoted(_) | Place::LineComment => {}
            Place::Mark(b'-') if byte == b'-' => self.place = Place::LineComment,
            Place::Mark(b'/') if byte == b'*' => self.place = Place::BlockComment(false),
            Place::Mark(_) => {
                self.take(Token::Other);
                return self.begin(byte);
            }
            Place::Word if is_word_byte(byte) => self.spell(byte),
            Place::Word => {
                let token = keyword(&self.word);
                self.take(token);
                return self.begin(byte);
            }
            Place::Between => return self.begin(byte),
        }
        false
    }

    /// A token begins with this byte.
    fn begin(&mut self, byte: u8) -> bool {
        self.place = Place::Between;
        match byte {
            b';' => {
                self.take(Token::Semicolon);
                // Lonely semicolons are complete, too: empty statements.
                return self.state == State::Start;
            }
            b'\'' | b'"' | b'`' => {
                self.take(Token::Other);
                self.place = Place::Quoted(byte);
            }
            b'[' => {
                self.take(Token::Other);
                self.place = Place::Quoted(b']');
            }
            b'-' | b'/' => self.place = Place::Mark(byte),
            byte if byte.is_ascii_whitespace() || byte == 0x0b => {}
            byte if is_word_byte(byte) => {
                self.word.clear();
                self.spell(byte);
                self.place = Place::Word;
            }
            _ => self.take(Token::Other),
        }
        false
    }

    fn take(&mut self, token: Token) {
        self.state = self.state.after(token);
    }

    fn spell(&mut self, byte: u8) {
        // No keyword is longer.
        if self.word.len() < 16 {
            self.word.push(char::from(byte));
        }
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// Whether a word stands in the text outside of strings, quoted names and comments.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let mut rest = text;
    while let Some((token, tail)) = next_token(rest) {
        let token_text = &rest[..rest.len() - tail.len()];
        if token != Token::Space && token_text.eq_ignore_ascii_case(word) {
            return true;
        }
        rest = tail;
    }
    false
}

/// The words of a short statement in capitals, without comments and semicolons at its end.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text);
    while let Some((token, tail)) = next_token(rest) {
        if !matches!(token, Token::Space | Token::Semicolon) {
            words.push(rest[..rest.len() - tail.len()].to_ascii_uppercase());
        }
        rest = tail;
    }
    words
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
    let text = without_space(text);
    text[..word_length(text)].to_ascii_uppercase()
}

/// The text behind comments and white space at its beginning.
pub(super) fn without_space(text: &str) -> &str {
    let mut rest = text;
    while let Some((Token::Space, tail)) = next_token(rest) {
        rest = tail;
    }
    rest
}

/// A statement with the semicolon that ends it: behind a comment that it leaves open, which would swallow that.
pub(super) fn ended(sql: &str) -> String {
    let ways = ["", "*/", "\n"].map(|close| format!("{sql}{close};"));
    let whole = |text: &&String| Splitter::default().read(text.as_bytes()) == Some(text.len());
    ways.iter().find(whole).unwrap_or(&ways[0]).clone()
}

/// What the statement being read is, as far as its end depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing but white space since the last statement.
    #[default]
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
        while let Some(length) = Splitter::default().read(rest.as_bytes()) {
            let (statement, tail) = rest.split_at(length);
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
