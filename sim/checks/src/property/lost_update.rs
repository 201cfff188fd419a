//! Each write of a register replaces a different one: no two transactions read the same value and both write one more.
//!
//! What anybody saw of a register tells which write put value `n` there, and which one put `n - 1`. There may be only one for each.

use std::collections::BTreeMap;

use crate::history::{Increment, Key, Operation, RegisterValue, Tag};
use crate::registers::{Sighting, sightings};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "lost_update";

/// Values that two writes put there, values that nobody wrote, and registers that are behind in the end.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let increments = history.registers.increments.iter();
    let increments: Increments<'_> = increments
        .map(|increment| ((increment.asked.key, increment.asked.tag), increment))
        .collect();
    let mut chains: BTreeMap<Key, Chain<'_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for (key, sighting) in sightings(history, end) {
        violations.extend(not_written(&increments, key, &sighting));
        let chain = chains.entry(key).or_default();
        violations.extend(chain.add(key, sighting));
    }
    violations.extend(behind_in_the_end(&chains, end));
    violations
}

type Increments<'a> = BTreeMap<(Key, Tag), &'a Operation<Increment>>;

/// What is known of one register.
#[derive(Default)]
struct Chain<'a> {
    /// Which write put a value there, and who says so first.
    by_value: BTreeMap<i64, (Tag, Sighting<'a>)>,
    by_tag: BTreeMap<Tag, (i64, Sighting<'a>)>,
}

impl<'a> Chain<'a> {
    fn add(&mut self, key: Key, sighting: Sighting<'a>) -> Option<Violation> {
        let RegisterValue {
            value,
            tag,
            replaced,
        } = sighting.value;
        let before = (value > 0).then_some((value - 1, replaced));
        // What was replaced is looked at first: two writes that replaced the same one are what people look for.
        for (value, tag) in before.into_iter().chain([(value, tag)]) {
            let (known, by) = self.by_value.entry(value).or_insert((tag, sighting));
            if *known != tag {
                let what = format!(
                    "{key} value {value} is of tag {} by {by} and of tag {} by {sighting}",
                    known.0, tag.0
                );
                return Some(sighting.accuse(NAME, what).with_some(by.operation()));
            }
            let (known, by) = self.by_tag.entry(tag).or_insert((value, sighting));
            if *known != value {
                let what = format!(
                    "{key} has tag {} at value {known} by {by} and at value {value} by {sighting}",
                    tag.0
                );
                return Some(sighting.accuse(NAME, what).with_some(by.operation()));
            }
        }
        None
    }
}

/// A value that no write of this history can have put there.
fn not_written(
    increments: &Increments<'_>,
    key: Key,
    sighting: &Sighting<'_>,
) -> Option<Violation> {
    let seen = sighting.value;
    if seen == RegisterValue::INITIAL {
        return None;
    }
    let accuse =
        |why: &str| Some(sighting.accuse(NAME, format!("{key} has {seen} by {sighting}: {why}")));
    if seen.tag == Tag::NONE || seen.value < 1 {
        return accuse("no write leaves that");
    }
    for tag in [seen.tag, seen.replaced] {
        match increments.get(&(key, tag)) {
            None if tag != Tag::NONE => return accuse("nobody wrote it"),
            Some(increment) if increment.outcome.is_failed() => {
                return accuse("its client was told that it failed")
                    .map(|violation| violation.with(*increment));
            }
            _ => {}
        }
    }
    None
}

fn behind_in_the_end(chains: &BTreeMap<Key, Chain<'_>>, end: &FinalState) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, contents) in &end.nodes {
        let Some(registers) = &contents.registers else {
            continue;
        };
        for (key, chain) in chains {
            let held = registers.get(key).map_or(0, |held| held.value);
            let Some((value, (_, by))) = chain.by_value.last_key_value() else {
                continue;
            };
            if held < *value {
                let what = format!(
                    "{key} had value {value} by {by}, and {node} has value {held} in the end"
                );
                violations.push(by.accuse(NAME, what));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests;
