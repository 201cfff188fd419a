//! File, environment and flags laid over each other: for each setting, the text that counts and where it came from.
//!
//! Knows names and precedence, not what a value means.

use std::collections::BTreeMap;
use std::path::Path;

use super::expand::expand;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::setting::{self, SETTINGS, Setting};
use super::yaml::{self, Entry, Node, NodeKind};

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    Text(String),
    /// A list from the file.
    Items(Vec<Node>),
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) given: Given,
    pub(crate) origin: Origin,
}

/// The values that were given, by key; what is absent has its default.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<&'static str, Value>,
}

impl Layers {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Where the value of `key` comes from.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.values
            .get(key)
            .map(|value| value.origin.clone())
            .unwrap_or_default()
    }

    /// Lays a file over what is there. `expansion` looks up variables; without it values stay as written.
    pub(crate) fn add_file(
        &mut self,
        path: &Path,
        text: &str,
        expansion: Option<&BTreeMap<String, String>>,
        problems: &mut Vec<Problem>,
    ) {
        let mut root = match yaml::parse(text) {
            Ok(root) => root,
            Err(error) => {
                return problems
                    .push(Problem::new("", error.message).at(in_file(path, error.line)));
            }
        };
        let mut file = FileLayer {
            layers: self,
            path,
            problems,
        };
        if let Some(variables) = expansion {
            file.expand(&mut root, variables);
        }
        match root.kind {
            NodeKind::Null => {}
            NodeKind::Mapping(entries) => file.entries(None, entries),
            _ => file.problem(
                "",
                root.line,
                format!("the file is {} instead of keys and values", root.describe()),
            ),
        }
    }

    /// Lays the environment over what is there. Returns a warning for each variable whose name looks mistyped; others that begin
    /// with `HALITE_` are not ours to judge (container platforms invent them).
    pub(crate) fn add_env(&mut self, env: &BTreeMap<String, String>) -> Vec<String> {
        for setting in SETTINGS {
            let name = setting.env();
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                self.set(setting, text.clone(), Origin::Env(name));
            }
        }
        let names: Vec<String> = SETTINGS.iter().map(Setting::env).collect();
        env.keys()
            .filter(|name| {
                name.starts_with("HALITE_")
                    && !names.contains(name)
                    && !NOT_SETTINGS.contains(&name.as_str())
            })
            .filter_map(|name| {
                let slips = |known: &&String| strsim::damerau_levenshtein(known, name) <= 2;
                let meant = names.iter().find(slips)?;
                Some(format!(
                    "environment variable {name} is not known; did you mean {meant}?"
                ))
            })
            .collect()
    }

    /// Lays flags over what is there: pairs of key and text.
    pub(crate) fn add_flags(&mut self, flags: &BTreeMap<&'static str, String>) {
        for (key, text) in flags {
            let setting = setting::by_key(key);
            self.set(setting, text.clone(), Origin::Flag(setting.flag.to_owned()));
        }
    }

    fn set(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        self.values.insert(
            setting.key,
            Value {
                given: Given::Text(text),
                origin,
            },
        );
    }
}

/// Variables that the command line reads itself.
const NOT_SETTINGS: [&str; 4] = [
    "HALITE_ADDR",
    "HALITE_CONFIG",
    "HALITE_DB",
    "HALITE_HISTORY",
];

pub(crate) fn in_file(path: &Path, line: usize) -> Origin {
    Origin::File {
        path: path.to_owned(),
        line,
    }
}

struct FileLayer<'a> {
    layers: &'a mut Layers,
    path: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl FileLayer<'_> {
    fn problem(&mut self, key: &str, line: usize, message: impl Into<String>) {
        self.problems
            .push(Problem::new(key, message).at(in_file(self.path, line)));
    }

    /// Expands variables below `node`. False if the node is a value that names a variable which is not set: that is one problem, and the value
    /// is left out so that it does not become a second one. A path that lost its beginning would be another place.
    fn expand(&mut self, node: &mut Node, variables: &BTreeMap<String, String>) -> bool {
        match &mut node.kind {
            NodeKind::Null => {}
            NodeKind::Scalar(text) => {
                let expanded = expand(text, |name| variables.get(name).cloned());
                *text = expanded.text;
                if !expanded.unset.is_empty() {
                    let names = expanded.unset.join(" and $");
                    self.problem("", node.line, format!("${names} is not set"));
                    return false;
                }
            }
            NodeKind::Sequence(items) => items.retain_mut(|item| self.expand(item, variables)),
            NodeKind::Mapping(entries) => {
                entries.retain_mut(|entry| self.expand(&mut entry.value, variables))
            }
        }
        true
    }

    fn entries(&mut self, section: Option<&str>, entries: Vec<Entry>) {
        for entry in entries {
            let key = section.map_or_else(
                || entry.key.clone(),
                |section| format!("{section}.{}", entry.key),
            );
            match setting::find(&key) {
                Some(setting) if !entry.key.contains('.') => self.setting(setting, entry),
                _ if section.is_none() && setting::sections().any(|known| known == key) => {
                    self.section(&key, entry)
                }
                _ => self.unknown(section, &entry),
            }
        }
    }

    fn section(&mut self, section: &str, entry: Entry) {
        match entry.value.kind {
            NodeKind::Null => {}
            NodeKind::Mapping(entries) => self.entries(Some(section), entries),
            _ => self.problem(
                section,
                entry.line,
                format!(
                    "is {} instead of a section with keys",
                    entry.value.describe()
                ),
            ),
        }
    }

    fn setting(&mut self, setting: &'static Setting, entry: Entry) {
        let origin = in_file(self.path, entry.line);
        let given = match entry.value.kind {
            NodeKind::Scalar(text) if !setting.is_list() => Given::Text(text),
            NodeKind::Sequence(items) if setting.is_list() => Given::Items(items),
            NodeKind::Null => {
                let message = "has no value (remove the key to get the default)";
                return self.problem(setting.key, entry.line, message);
            }
            _ => {
                let wanted = if setting.is_list() {
                    "a list"
                } else {
                    "a single value"
                };
                let message = format!("is {} instead of {wanted}", entry.value.describe());
                return self.problem(setting.key, entry.line, message);
            }
        };
        self.layers
            .values
            .insert(setting.key, Value { given, origin });
    }

    fn unknown(&mut self, section: Option<&str>, entry: &Entry) {
        let mut message = match section {
            Some(section) => format!("unknown key `{}` in `{section}`", entry.key),
            None => format!("unknown key `{}`", entry.key),
        };
        if let Some((section, leaf)) = entry
            .key
            .split_once('.')
            .filter(|_| setting::find(&entry.key).is_some())
        {
            message.push_str(&format!(
                "; write it as `{leaf}` in the section `{section}`"
            ));
        } else if section.is_some() && setting::find(&entry.key).is_some() {
            message.push_str(&format!("; `{}` stands outside of all sections", entry.key));
        } else if let Some(meant) = suggestion(section, &entry.key) {
            message.push_str(&format!("; did you mean `{meant}`?"));
        }
        self.problem("", entry.line, message);
    }
}

/// What an unknown key was probably meant to be: a neighbour, or a key of that name elsewhere in the file.
fn suggestion(section: Option<&str>, key: &str) -> Option<&'static str> {
    let here = SETTINGS
        .iter()
        .filter(|setting| setting.section() == section)
        .map(Setting::leaf);
    let sections = setting::sections().filter(|_| section.is_none());
    let neighbour = nearest(key, here.chain(sections));
    neighbour
        .or_else(|| nearest(key, SETTINGS.iter().map(|setting| setting.key)))
        .or_else(|| {
            let leaf = nearest(key, SETTINGS.iter().map(Setting::leaf))?;
            SETTINGS
                .iter()
                .find(|setting| setting.leaf() == leaf)
                .map(|setting| setting.key)
        })
}
