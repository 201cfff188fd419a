//! Litestream's flags: `restore` and `ltx` take them with one dash as well as with two.

use std::ffi::OsString;

/// Long flags of `halite restore`.
const RESTORE_FLAGS: [&str; 9] = [
    "txid",
    "timestamp",
    "if-replica-exists",
    "if-db-not-exists",
    "dry-run",
    "force",
    "json",
    "integrity-check",
    "parallelism",
];
/// Long flags of `halite ltx`.
const LTX_FLAGS: [&str; 2] = ["level", "json"];
/// Global flags that stand before the command and take a value of their own.
const WITH_VALUE: [&str; 1] = ["--addr"];

/// Gives `-txid` and the other long flags of these commands their second dash, and leaves everything else as it is.
pub(crate) fn normalise(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    let Some(command) = command_index(&argv) else {
        return argv;
    };
    let flags: &[&str] = match argv[command].to_str() {
        Some("restore") => &RESTORE_FLAGS,
        Some("ltx") => &LTX_FLAGS,
        _ => return argv,
    };
    for arg in argv.iter_mut().skip(command + 1) {
        if arg == "--" {
            break;
        }
        let Some(text) = arg.to_str() else { continue };
        let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.starts_with('-')) else {
            continue;
        };
        let name = flag.split('=').next().unwrap_or(flag);
        if flags.contains(&name) {
            *arg = OsString::from(format!("-{text}"));
        }
    }
    argv
}

/// Where the command stands: the first argument that is neither a flag nor the value of one.
fn command_index(argv: &[OsString]) -> Option<usize> {
    let mut index = 1;
    while let Some(arg) = argv.get(index) {
        let text = arg.to_string_lossy();
        if !text.starts_with('-') {
            return Some(index);
        }
        index += if WITH_VALUE.contains(&text.as_ref()) {
            2
        } else {
            1
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(line: &str) -> String {
        let argv = normalise(line.split(' ').map(OsString::from));
        argv.iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn restore_takes_long_flags_with_one_dash() {
        for (given, want) in [
            (
                "halite restore -o x -txid 10 file:///b",
                "halite restore -o x --txid 10 file:///b",
            ),
            (
                "halite restore -timestamp=2026-01-01T00:00:00Z u",
                "halite restore --timestamp=2026-01-01T00:00:00Z u",
            ),
            (
                "halite restore --txid 10 -json -dry-run u",
                "halite restore --txid 10 --json --dry-run u",
            ),
            (
                "halite -v --addr a:1 restore -force u",
                "halite -v --addr a:1 restore --force u",
            ),
            (
                "halite --addr=a:1 restore -integrity-check quick u",
                "halite --addr=a:1 restore --integrity-check quick u",
            ),
            (
                "halite ltx -level 9 -json u",
                "halite ltx --level 9 --json u",
            ),
            ("halite restore -v -o x u", "halite restore -v -o x u"),
            ("halite restore -unknown u", "halite restore -unknown u"),
            ("halite restore -- -txid", "halite restore -- -txid"),
        ] {
            assert_eq!(normalised(given), want);
        }
    }

    #[test]
    fn other_commands_are_left_alone() {
        for line in [
            "halite sql -json",
            "halite",
            "halite -v",
            "halite --addr restore sql -txid",
            "halite export -force restore",
        ] {
            assert_eq!(normalised(line), line);
        }
    }
}
