//! A promise that was broken, for people to read.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Caller, Operation, OperationId, Request};

/// How many violations of each property [`report`] spells out.
const SHOWN: usize = 5;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Name of the check that found it, which is the name of its module.
    pub property: &'static str,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The operations that together prove it, as few as are needed.
    pub operations: Vec<Witness>,
    /// When it could be known first: the latest of the operations' ends. 0 if only the final state proves it.
    pub at_us: u64,
}

/// An operation as a violation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Which.
    pub id: OperationId,
    /// Who asked.
    pub caller: Caller,
    /// When it began.
    pub invoked_us: u64,
    /// When it returned, if it did.
    pub returned_us: Option<u64>,
    /// What was asked.
    pub asked: String,
    /// How it ended.
    pub outcome: String,
}

impl Violation {
    pub(crate) fn new(property: &'static str, what: String) -> Self {
        Self {
            property,
            what,
            operations: Vec::new(),
            at_us: 0,
        }
    }

    /// Names one more operation, once.
    pub(crate) fn with(mut self, operation: &dyn Shown) -> Self {
        let witness = operation.witness();
        if self.operations.iter().all(|known| known.id != witness.id) {
            let last_us = witness.returned_us.unwrap_or(witness.invoked_us);
            self.at_us = self.at_us.max(last_us);
            self.operations.push(witness);
        }
        self
    }

    pub(crate) fn with_some(self, operation: Option<&dyn Shown>) -> Self {
        match operation {
            Some(operation) => self.with(operation),
            None => self,
        }
    }

    /// The numbers of the operations.
    pub fn operation_ids(&self) -> Vec<OperationId> {
        self.operations.iter().map(|witness| witness.id).collect()
    }
}

/// An operation of any workload, as far as a violation needs it.
pub(crate) trait Shown {
    fn witness(&self) -> Witness;
}

impl<R: Request> Shown for Operation<R> {
    fn witness(&self) -> Witness {
        Witness {
            id: self.id,
            caller: self.caller,
            invoked_us: self.invoked.at_us,
            returned_us: self.returned.map(|moment| moment.at_us),
            asked: self.asked.to_string(),
            outcome: self.outcome.to_string(),
        }
    }
}

impl Shown for Witness {
    fn witness(&self) -> Witness {
        self.clone()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)?;
        if self.at_us > 0 {
            write!(f, " (at {})", Seconds(self.at_us))?;
        }
        for witness in &self.operations {
            write!(f, "\n    {witness}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} .. ", self.id, Seconds(self.invoked_us))?;
        match self.returned_us {
            Some(returned_us) => write!(f, "{}", Seconds(returned_us))?,
            None => f.write_str("never")?,
        }
        write!(f, "  {}", self.caller.session)?;
        if let Some(node) = self.caller.node {
            write!(f, " at {node}")?;
        }
        write!(
            f,
            ": {}, {} -> {}",
            self.asked, self.caller.level, self.outcome
        )
    }
}

/// Microseconds as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A report for people; `None` if all is well. One property that is broken a thousand times does not hide the others.
pub fn report(violations: &[Violation]) -> Option<String> {
    if violations.is_empty() {
        return None;
    }
    let mut by_property: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        let of_property = by_property.entry(violation.property).or_default();
        of_property.push(violation);
    }
    let mut lines = vec![format!("{} broken promises:", violations.len())];
    for (property, violations) in by_property {
        let shown = violations.iter().take(SHOWN);
        lines.extend(shown.map(|violation| format!("  {violation}")));
        if let more @ 1.. = violations.len().saturating_sub(SHOWN) {
            lines.push(format!("  {property}: and {more} more"));
        }
    }
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Level;
    use crate::property;
    use crate::script::Script;

    #[test]
    fn violation_names_its_operations_with_their_times() {
        let mut script = Script::at(1_234_000);
        script.insert(1, 1, 2);
        script.read(2, Level::Linearizable, 0, &[]);
        let violations = script.check(property::linearizable::check);
        let expected = "linearizable: #2 saw row 0, but row 2 had been acknowledged before it began (at 1.234400 s)
    #2 1.234300 s .. 1.234400 s  session 2 at node 3: read rows after 0, linearizable -> ok
    #1 1.234100 s .. 1.234200 s  session 1 at node 2: insert writer 1 seq 1 with 2 rows, linearizable -> ok";
        assert_eq!(violations[0].to_string(), expected);
    }

    #[test]
    fn operation_that_never_returned_is_shown_as_such() {
        let mut script = Script::default();
        let write = crate::WriteId { writer: 1, seq: 1 };
        let ticket = script.begin(1, Level::Local, crate::Insert { write, parts: 1 });
        let text = Violation::new("p", "w".into())
            .with(&script.history.set.inserts[0])
            .to_string();
        assert!(
            text.contains(".. never") && text.contains("it never returned"),
            "{text}"
        );
        assert!(text.contains(&ticket.id().to_string()));
    }

    #[test]
    fn report_counts_what_it_does_not_spell_out() {
        assert_eq!(report(&[]), None);
        let mut violations = vec![Violation::new("p", "w".into()); 12];
        violations.push(Violation::new("q", "x".into()));
        let text = report(&violations).expect("violations");
        assert!(text.starts_with("13 broken promises:\n  p: w\n"));
        assert!(text.ends_with("p: w\n  p: and 7 more\n  q: x"), "{text}");
    }
}
