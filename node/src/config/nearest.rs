//! "Did you mean": the known name that looks most like a mistyped one.

/// The candidate closest to `name`, if any is close enough to be what was meant.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = plain(name);
    candidates
        .into_iter()
        .map(|candidate| (likeness(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Below this, a suggestion confuses more than it helps.
const ENOUGH: f64 = 0.84;

/// 1.0 for the same name. Jaro-Winkler rewards a common beginning (`heartbeat` for `heartbeat-interval`), the edit distance
/// small slips anywhere.
fn likeness(a: &str, b: &str) -> f64 {
    let slips = strsim::damerau_levenshtein(a, b);
    let slips_max = if a.len() > 3 {
        2
    } else {
        usize::from(a.len() == 3)
    };
    let by_slips = if slips <= slips_max {
        1.0 - slips as f64 * 0.05
    } else {
        0.0
    };
    strsim::jaro_winkler(a, b).max(by_slips)
}

/// Spellings that differ only in case or in how words are joined are the same name.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = [
        "node-id",
        "name",
        "data-dir",
        "heartbeat-interval",
        "election-timeout",
        "dbs",
    ];

    #[test]
    fn slips_other_spellings_and_beginnings_find_their_name() {
        for (typed, meant) in [
            ("nodeid", "node-id"),
            ("node_id", "node-id"),
            ("NodeID", "node-id"),
            ("data-dri", "data-dir"),
            ("heartbeat", "heartbeat-interval"),
            ("electoin-timeout", "election-timeout"),
            ("db", "dbs"),
            ("dsb", "dbs"),
        ] {
            assert_eq!(nearest(typed, KEYS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn what_resembles_nothing_gets_no_suggestion() {
        for typed in ["zzz", "prometheus", "x"] {
            assert_eq!(nearest(typed, KEYS), None, "{typed}");
        }
    }
}
