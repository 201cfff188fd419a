//! Seeds as the command line and the file of regressions name them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::episode::Choice;

/// What decides a run: a seed, and its episode where that is not left to the seed. Written and read as `7` or `7:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The seed.
    pub seed: u64,
    /// The episode.
    pub choice: Choice,
}

impl Pick {
    /// Arguments that repeat it.
    pub fn arguments(self) -> Vec<String> {
        let mut arguments = vec!["--seed".to_owned(), self.seed.to_string()];
        if self.choice != Choice::Drawn {
            arguments.extend(["--episode".to_owned(), self.choice.to_string()]);
        }
        arguments
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.choice {
            Choice::Drawn => write!(f, "{}", self.seed),
            choice => write!(f, "{}:{choice}", self.seed),
        }
    }
}

impl FromStr for Pick {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (seed, choice) = match text.split_once(':') {
            Some((seed, name)) => (seed, name.parse()?),
            None => (text, Choice::Drawn),
        };
        let seed = seed
            .parse()
            .with_context(|| format!("{seed:?} is not a seed"))?;
        Ok(Self { seed, choice })
    }
}

/// `A..B` (B not included) or `A..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedRange(pub Range<u64>);

impl FromStr for SeedRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (from, to) = text
            .split_once("..")
            .with_context(|| format!("expected A..B or A.., found {text:?}"))?;
        let number = |text: &str, default| match text {
            "" => Ok(default),
            text => text
                .parse()
                .with_context(|| format!("{text:?} is not a number")),
        };
        let (from, to) = (number(from, 0)?, number(to, u64::MAX)?);
        if from >= to {
            bail!("the range is empty: {text}");
        }
        Ok(Self(from..to))
    }
}

/// Seeds that once failed, as a [`Pick`] each: one a line, each with its reason; `#` begins a comment.
///
/// # Errors
/// A line that is none of these.
pub fn regressions(text: &str) -> Result<Vec<Pick>> {
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            (
                number + 1,
                line.split('#').next().unwrap_or_default().trim(),
            )
        })
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            let (seed, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if reason.trim().is_empty() {
                bail!("line {number}: a seed is kept with its reason");
            }
            seed.parse().with_context(|| format!("line {number}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        assert_eq!("3..7".parse::<SeedRange>().unwrap().0, 3..7);
        assert_eq!("3..".parse::<SeedRange>().unwrap().0, 3..u64::MAX);
        for bad in ["3", "7..3", "a..b", "4..4"] {
            assert!(bad.parse::<SeedRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_regression_needs_its_reason() {
        let text = "# seeds\n12  a reason\n\n7 another # with a comment\n9:none of no episode\n";
        let read: Vec<_> = regressions(text).unwrap();
        let read: Vec<_> = read.iter().map(Pick::to_string).collect();
        assert_eq!(read, ["12", "7", "9:none"]);
        assert!(regressions("12\n").is_err());
        assert!(regressions("twelve a reason\n").is_err());
        assert!(regressions("12:nonesuch a reason\n").is_err());
    }
}
