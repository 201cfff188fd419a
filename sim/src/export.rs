//! Histories as JSON lines, for a judge that shares no code with `halite_checks`: `sim/porcupine`.
//!
//! One line for each operation that may have taken effect and was promised to be linearizable:
//! `{"model","object","client","call","return","known","steps"}`. `call` and `return` are places in one real-time order; an operation of unknown
//! outcome (`known` false) has no `return`. What the nodes hold in the end is read after everything. Steps:
//!
//! | model | step | fields |
//! |---|---|---|
//! | `register` | `increment` | `tag`, and `value`, `replaced` where they are known |
//! | `register` | `read` | `value`, `tag`, `replaced` |
//! | `list` | `append` | `key`, `element` |
//! | `list` | `read` | `key`, `elements` where they are known |

use std::collections::BTreeMap;
use std::io::{self, Write};

use halite_checks::{
    FinalState, History, Level, ListTransaction, Operation, Outcome, RegisterValue, Request, Step,
};
use serde_json::{Value, json};

/// What clients of one database did, and what the nodes held in the end, where the run came to an end.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The database.
    pub database: String,
    /// The former.
    pub history: History,
    /// The latter.
    pub end: Option<FinalState>,
}

/// Writes the lines of all databases.
///
/// # Errors
/// Of `out`.
pub fn write(records: &[Record], out: &mut impl Write) -> io::Result<()> {
    for record in records {
        for line in lines(record) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn lines(record: &Record) -> Vec<Value> {
    let (history, database) = (&record.history, &record.database);
    let mut lines = Vec::new();
    for operation in &history.registers.increments {
        let tag = operation.asked.tag.0;
        let step = match &operation.outcome {
            Outcome::Ok(written) => {
                let (value, replaced) = (written.value, written.replaced.0);
                json!({"do": "increment", "tag": tag, "value": value, "replaced": replaced})
            }
            _ => json!({"do": "increment", "tag": tag}),
        };
        let object = format!("{database}/{}", operation.asked.key);
        lines.extend(line("register", &object, operation, vec![step]));
    }
    for operation in strong(&history.registers.reads) {
        if let Outcome::Ok(found) = &operation.outcome {
            let object = format!("{database}/{}", operation.asked.key);
            lines.extend(line("register", &object, operation, vec![read(found)]));
        }
    }
    for operation in strong(&history.lists) {
        // A transaction that only reads and was not answered tells nothing.
        if operation.outcome.is_ok() || operation.asked.appends() {
            lines.extend(line("list", database, operation, steps(operation)));
        }
    }
    lines.extend(last_reads(record));
    lines
}

fn strong<R: Request>(operations: &[Operation<R>]) -> impl Iterator<Item = &Operation<R>> {
    let is_strong = |operation: &&Operation<R>| operation.caller.level == Level::Linearizable;
    operations.iter().filter(is_strong)
}

/// `None` for an operation that has taken no effect.
fn line<R: Request>(
    model: &str,
    object: &str,
    operation: &Operation<R>,
    steps: Vec<Value>,
) -> Option<Value> {
    let known = match operation.outcome {
        Outcome::Ok(_) => true,
        Outcome::Unknown(_) => false,
        Outcome::Failed(_) => return None,
    };
    let returned = operation.returned.filter(|_| known);
    Some(json!({
        "model": model,
        "object": object,
        "client": operation.caller.session.0,
        "call": operation.invoked.order,
        "return": returned.map(|moment| moment.order),
        "known": known,
        "steps": steps,
    }))
}

fn read(found: &RegisterValue) -> Value {
    json!({"do": "read", "value": found.value, "tag": found.tag.0, "replaced": found.replaced.0})
}

fn steps(operation: &Operation<ListTransaction>) -> Vec<Value> {
    let mut lists = match &operation.outcome {
        Outcome::Ok(lists) => lists.iter(),
        _ => [].iter(),
    };
    let steps = operation.asked.steps.iter();
    steps
        .map(|step| match step {
            Step::Append { key, element } => {
                json!({"do": "append", "key": key.0, "element": element.0})
            }
            Step::Read { key } => match lists.next() {
                Some(list) => {
                    let elements: Vec<u64> = list.iter().map(|element| element.0).collect();
                    json!({"do": "read", "key": key.0, "elements": elements})
                }
                None => json!({"do": "read", "key": key.0}),
            },
        })
        .collect()
}

/// What the nodes hold, as reads after everything.
fn last_reads(record: &Record) -> Vec<Value> {
    let mut order = 2 * record.history.len();
    let mut lines = Vec::new();
    for (node, contents) in record.end.iter().flat_map(|end| &end.nodes) {
        let mut add = |model: &str, object: String, steps: Vec<Value>| {
            lines.push(json!({
                "model": model,
                "object": object,
                "client": node.0,
                "call": order + 1,
                "return": order + 2,
                "known": true,
                "steps": steps,
            }));
            order += 2;
        };
        for (key, found) in contents.registers.iter().flatten() {
            add(
                "register",
                format!("{}/{key}", record.database),
                vec![read(found)],
            );
        }
        let no_lists = BTreeMap::new();
        let lists = contents.lists.as_ref().unwrap_or(&no_lists).iter();
        let reads: Vec<Value> = lists
            .map(|(key, list)| {
                let elements: Vec<u64> = list.iter().map(|element| element.0).collect();
                json!({"do": "read", "key": key.0, "elements": elements})
            })
            .collect();
        if !reads.is_empty() {
            add("list", record.database.clone(), reads);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use halite_checks::{Caller, Contents, Increment, Key, NodeId, SessionId, Tag};

    use super::*;

    #[test]
    fn what_failed_is_left_out_and_what_is_unknown_never_returns() {
        let mut record = Record {
            database: "db0".to_owned(),
            ..Record::default()
        };
        let caller = Caller {
            session: SessionId(3),
            node: None,
            level: Level::Linearizable,
        };
        let key = Key(1);
        let written = RegisterValue::INITIAL.next(Tag(7));
        for (tag, outcome) in [
            (7, Outcome::Ok(written)),
            (8, Outcome::Failed("no".to_owned())),
            (9, Outcome::Unknown("who knows".to_owned())),
        ] {
            let asked = Increment { key, tag: Tag(tag) };
            let ticket = record.history.invoke(caller, 0, asked);
            record.history.returned(ticket, 1, outcome);
        }
        let held = Contents {
            registers: Some(BTreeMap::from([(key, written)])),
            ..Contents::default()
        };
        record.end = Some(FinalState {
            nodes: BTreeMap::from([(NodeId(1), held)]),
        });
        let mut text = Vec::new();
        write(&[record], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (calls, returns): (Vec<_>, Vec<_>) = lines
            .iter()
            .map(|line| (line["call"].as_u64(), line["return"].as_u64()))
            .unzip();
        assert_eq!(calls, [Some(1), Some(5), Some(7)]);
        assert_eq!(returns, [Some(2), None, Some(8)]);
        assert_eq!(lines[0]["steps"][0]["value"], 1);
        assert_eq!(lines[2]["steps"][0]["tag"], 7);
    }
}
