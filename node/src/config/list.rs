//! The settings that are lists: `cluster.initial-members`, `dbs` and `archive.levels`.

use std::path::Path;
use std::time::Duration;

use super::decode::{count, duration, text, whole};
use super::layers::in_file;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::yaml::{Entry, Node, NodeKind};
use super::{DatabaseConfig, MemberConfig, ReplicaConfig};

/// Page size of a database that names none: SQLite's own default.
pub(crate) const PAGE_SIZE_DEFAULT: u32 = 4096;

/// `1=host:port,2=host:port`.
pub(crate) fn members_from_text(given: &str) -> Result<Vec<MemberConfig>, String> {
    let member = |part: &str| {
        let (id, addr) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not ID=HOST:PORT"))?;
        Ok(MemberConfig {
            id: whole(id.trim())?,
            addr: text(addr.trim())?,
        })
    };
    parts(given).map(member).collect()
}

/// `app,users`: databases with every default.
pub(crate) fn databases_from_text(given: &str) -> Vec<DatabaseConfig> {
    parts(given).map(DatabaseConfig::named).collect()
}

/// `30s,5m,1h`.
pub(crate) fn levels_from_text(given: &str) -> Result<Vec<Duration>, String> {
    parts(given).map(duration).collect()
}

fn parts(given: &str) -> impl Iterator<Item = &str> {
    given
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Reads the items of a list from the file.
pub(crate) struct ItemReader<'a> {
    key: &'static str,
    path: &'a Path,
    problems: &'a mut Vec<Problem>,
}

/// The fields of one item: known keys with their text or node.
struct Fields<'a> {
    line: usize,
    entries: &'a [Entry],
}

impl<'a> ItemReader<'a> {
    pub(crate) fn new(
        key: &'static str,
        origin: &'a Origin,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let path = match origin {
            Origin::File { path, .. } => path.as_path(),
            _ => Path::new(""),
        };
        Self {
            key,
            path,
            problems,
        }
    }

    pub(crate) fn members(&mut self, items: &[Node]) -> Vec<MemberConfig> {
        items.iter().filter_map(|item| self.member(item)).collect()
    }

    fn member(&mut self, item: &Node) -> Option<MemberConfig> {
        let fields = self.fields(item, &["id", "addr"])?;
        let id = self.required(&fields, "id", whole);
        let addr = self.required(&fields, "addr", text);
        Some(MemberConfig {
            id: id?,
            addr: addr?,
        })
    }

    pub(crate) fn databases(
        &mut self,
        items: &[Node],
        sync_interval: Duration,
    ) -> Vec<DatabaseConfig> {
        items
            .iter()
            .filter_map(|item| self.database(item, sync_interval))
            .collect()
    }

    fn database(&mut self, item: &Node, sync_interval: Duration) -> Option<DatabaseConfig> {
        if let NodeKind::Scalar(name) = &item.kind {
            return Some(DatabaseConfig::named(name));
        }
        let fields = self.fields(item, &["name", "page-size", "replica", "replicas"])?;
        let name = self.required(&fields, "name", text);
        let page_size = self
            .optional(&fields, "page-size", count)
            .unwrap_or(PAGE_SIZE_DEFAULT);
        let replicas = match (fields.node("replica"), fields.node("replicas")) {
            (Some(_), Some(both)) => {
                self.problem(
                    both.line,
                    "`replica` and `replicas` are both given; use one",
                );
                None
            }
            (Some(one), None) => self
                .replica(one, sync_interval)
                .map(|replica| vec![replica]),
            (
                None,
                Some(Node {
                    kind: NodeKind::Sequence(many),
                    ..
                }),
            ) => Some(
                many.iter()
                    .filter_map(|node| self.replica(node, sync_interval))
                    .collect(),
            ),
            (None, Some(other)) => {
                self.problem(
                    other.line,
                    format!("`replicas` is {} instead of a list", other.describe()),
                );
                None
            }
            (None, None) => None,
        };
        Some(DatabaseConfig {
            name: name?,
            page_size,
            replicas,
        })
    }

    fn replica(&mut self, item: &Node, sync_interval: Duration) -> Option<ReplicaConfig> {
        if let NodeKind::Scalar(url) = &item.kind {
            return Some(ReplicaConfig {
                url: url.clone(),
                sync_interval,
            });
        }
        let fields = self.fields(item, &["url", "sync-interval"])?;
        let url = self.required(&fields, "url", text);
        let sync_interval = self
            .optional(&fields, "sync-interval", duration)
            .unwrap_or(sync_interval);
        Some(ReplicaConfig {
            url: url?,
            sync_interval,
        })
    }

    /// Each an interval, or with its key as Litestream has it.
    pub(crate) fn levels(&mut self, items: &[Node]) -> Vec<Duration> {
        items.iter().filter_map(|item| self.level(item)).collect()
    }

    fn level(&mut self, item: &Node) -> Option<Duration> {
        if let NodeKind::Scalar(interval) = &item.kind {
            return duration(interval)
                .map_err(|message| self.problem(item.line, message))
                .ok();
        }
        let fields = self.fields(item, &["interval"])?;
        self.required(&fields, "interval", duration)
    }

    fn fields<'n>(&mut self, item: &'n Node, known: &[&'static str]) -> Option<Fields<'n>> {
        let NodeKind::Mapping(entries) = &item.kind else {
            let keys = known.join("`, `");
            self.problem(
                item.line,
                format!(
                    "an item is {} instead of the keys `{keys}`",
                    item.describe()
                ),
            );
            return None;
        };
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            let mut message = format!("unknown key `{}` in an item", entry.key);
            if let Some(meant) = nearest(&entry.key, known.iter().copied()) {
                message.push_str(&format!("; did you mean `{meant}`?"));
            } else {
                message.push_str(&format!("; known are `{}`", known.join("`, `")));
            }
            self.problem(entry.line, message);
        }
        Some(Fields {
            line: item.line,
            entries,
        })
    }

    fn required<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if fields.node(key).is_none() {
            self.problem(fields.line, format!("`{key}` is missing"));
        }
        self.optional(fields, key, parse)
    }

    fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = fields.node(key)?;
        let NodeKind::Scalar(given) = &node.kind else {
            self.problem(
                node.line,
                format!("`{key}` is {} instead of a single value", node.describe()),
            );
            return None;
        };
        parse(given)
            .map_err(|message| self.problem(node.line, format!("{key}: {message}")))
            .ok()
    }

    fn problem(&mut self, line: usize, message: impl Into<String>) {
        self.problems
            .push(Problem::new(self.key, message).at(in_file(self.path, line)));
    }
}

impl<'a> Fields<'a> {
    fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }
}
