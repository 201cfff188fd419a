//! Every field that nodes store or send to each other has its feature level in `levels.txt`: one that nodes below it would drop in silence is
//! noticed when it is added.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What `levels.txt` may say of a field.
const LEVELS: [&str; 3] = ["1", "1 droppable", "2"];

/// A message's fields as `name = number`, and the messages that they hold.
#[derive(Default)]
struct Message {
    fields: Vec<String>,
    holds: Vec<String>,
}

/// All fields of the schemas that nodes share, as `Message.field = number`.
fn schemas() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["client", "peer", "log"].map(|name| format!("halite/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root]).expect("schemas compile");
    let mut messages: BTreeMap<String, Message> = BTreeMap::new();
    let mut todo = Vec::new();
    for file in descriptors.file {
        let is_shared = !file.name().ends_with("client.proto");
        for message in file.message_type {
            assert!(
                message.nested_type.is_empty(),
                "{}: messages in messages are not looked at here",
                message.name()
            );
            if is_shared {
                todo.push(message.name().to_owned());
            }
            let into = messages.entry(message.name().to_owned()).or_default();
            for field in &message.field {
                let number = field.number();
                into.fields.push(format!("{} = {number}", field.name()));
                into.holds
                    .extend(field.type_name().rsplit('.').next().map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        // Enums and plain values hold nothing.
        let Some(message) = messages.get(&name).filter(|_| seen.insert(name.clone())) else {
            continue;
        };
        found.extend(message.fields.iter().map(|field| format!("{name}.{field}")));
        todo.extend(message.holds.iter().cloned());
    }
    found
}

#[test]
fn every_field_that_nodes_share_has_its_level() {
    let mut listed = BTreeSet::new();
    let lines = include_str!("levels.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (field, level) = line.split_once(": ").expect("`field = number: level`");
        assert!(LEVELS.contains(&level), "no such level: {line:?}");
        assert!(listed.insert(field.to_owned()), "listed twice: {field}");
    }
    let found = schemas();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "proto/tests/levels.txt does not fit the schemas. A new field: what becomes of a node that drops it in silence? \
         See node/src/cluster/feature_level.rs. unlisted={unlisted:?} gone={gone:?}"
    );
}
