//! `$VAR` and `${VAR}` inside the values of the configuration file.

/// A value after expansion, with the variables that were named and not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    pub(crate) unset: Vec<String>,
}

/// Replaces `$VAR` and `${VAR}` by what `variable` knows of them; one that is not set is named, for the caller to refuse. `$PID` is this
/// process. A dollar sign that begins no name stays as it is.
pub(crate) fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Expanded {
    let mut out = Expanded {
        text: String::with_capacity(text.len()),
        unset: Vec::new(),
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some((name, tail)) = variable_name(after) else {
            out.text.push('$');
            rest = after;
            continue;
        };
        match variable(name) {
            Some(value) => out.text.push_str(&value),
            None if name == "PID" => out.text.push_str(&std::process::id().to_string()),
            None => out.unset.push(name.to_owned()),
        }
        rest = tail;
    }
    out.text.push_str(rest);
    out
}

/// The variable named right after a dollar sign, and what follows it.
fn variable_name(after: &str) -> Option<(&str, &str)> {
    let (name, tail) = match after.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => after.split_at(after.find(|c: char| !is_name(c)).unwrap_or(after.len())),
    };
    let starts_well = name
        .chars()
        .next()
        .is_some_and(|c| is_name(c) && !c.is_ascii_digit());
    (starts_well && name.chars().all(is_name)).then_some((name, tail))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Expanded {
        expand(text, |name| match name {
            "HOST" => Some("db1".to_owned()),
            "EMPTY" => Some(String::new()),
            "PRICE" => Some("5$HOST".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_in_both_spellings() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$HOST", "db1"),
            ("${HOST}:7420", "db1:7420"),
            ("$HOST:7420", "db1:7420"),
            ("a${EMPTY}b", "ab"),
            ("$HOST$HOST", "db1db1"),
            ("costs 5$", "costs 5$"),
            ("$5 and $-", "$5 and $-"),
            ("${HOST", "${HOST"),
            ("${}", "${}"),
            ("ü${HOST}ü", "üdb1ü"),
        ] {
            assert_eq!(
                expanded(text),
                Expanded {
                    text: want.to_owned(),
                    unset: Vec::new()
                },
                "{text}"
            );
        }
    }

    #[test]
    fn a_replacement_is_not_expanded_again() {
        assert_eq!(expanded("$PRICE").text, "5$HOST");
    }

    #[test]
    fn unset_variables_become_empty_and_are_named() {
        let got = expanded("a${NOPE}b$MISSING");
        assert_eq!(
            got,
            Expanded {
                text: "ab".to_owned(),
                unset: vec!["NOPE".to_owned(), "MISSING".to_owned()]
            }
        );
    }

    #[test]
    fn pid_is_this_process() {
        assert_eq!(expanded("$PID").text, std::process::id().to_string());
    }
}
