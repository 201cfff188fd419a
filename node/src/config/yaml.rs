//! The configuration file as a tree that still knows the line of every part.
//!
//! Scalars keep their text as written: what a setting means is decided by the setting, not by YAML's guess at a type (`007`
//! stays a name, `1e3` too). Reads only; knows no setting.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

/// One part of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) kind: NodeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Nothing after the colon, `~` or `null`.
    Null,
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Node,
}

/// The file is not one YAML document of plain keys and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Aliases may repeat parts; past this many parts a file is not a configuration.
const NODES_MAX: usize = 100_000;
/// Deeper nesting than this has no meaning in any configuration of ours.
const DEPTH_MAX: usize = 32;

impl Node {
    /// What the part is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            NodeKind::Null => "nothing",
            NodeKind::Scalar(_) => "a single value",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a section with keys",
        }
    }
}

/// Reads a whole file; an empty one is an empty mapping.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut root = None;
    while let Some((event, line)) = reader.next()? {
        match event {
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => {}
            _ if root.is_some() => {
                return Err(error(
                    line,
                    "a second YAML document begins here; one is expected",
                ));
            }
            event => root = Some(reader.node(event, line, 0)?),
        }
    }
    Ok(root.unwrap_or(Node {
        line: 1,
        kind: NodeKind::Null,
    }))
}

fn error(line: usize, message: impl Into<String>) -> YamlError {
    YamlError {
        line,
        message: message.into(),
    }
}

impl From<ScanError> for YamlError {
    fn from(scan: ScanError) -> Self {
        error(
            scan.marker().line(),
            format!("not valid YAML: {}", scan.info()),
        )
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, usize)>, YamlError> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok(Some((event, span.start.line()))),
                Some(Err(scan)) => return Err(scan.into()),
            }
        }
    }

    /// The next event inside a list or a mapping.
    fn inside(&mut self, begun_on: usize) -> Result<(Event<'a>, usize), YamlError> {
        self.next()?
            .ok_or_else(|| error(begun_on, "what begins here does not end"))
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, YamlError> {
        self.count(line, 1)?;
        if depth > DEPTH_MAX {
            return Err(error(line, "nested too deeply"));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(_, anchor, _) => (self.sequence(line, depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.mapping(line, depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| error(line, "an alias cannot contain itself"))?;
                self.count(line, count(&node))?;
                (node.kind, 0)
            }
            _ => return Err(error(line, "unexpected YAML")),
        };
        let node = Node { line, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, line: usize, depth: usize) -> Result<NodeKind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.inside(line)? {
                (Event::SequenceEnd, _) => return Ok(NodeKind::Sequence(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<NodeKind, YamlError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, key_line) = match self.inside(line)? {
                (Event::MappingEnd, _) => return Ok(NodeKind::Mapping(entries)),
                (Event::Scalar(text, ..), line) => (text.into_owned(), line),
                (_, line) => return Err(error(line, "a key has to be plain text")),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err(error(
                    key_line,
                    format!("key `{key}` is given twice, first on line {}", first.line),
                ));
            }
            let (event, value_line) = self.inside(key_line)?;
            let value = self.node(event, value_line, depth + 1)?;
            entries.push(Entry {
                key,
                line: key_line,
                value,
            });
        }
    }

    fn count(&mut self, line: usize, more: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            Err(error(line, "the file is too large for a configuration"))
        } else {
            Ok(())
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> NodeKind {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => NodeKind::Null,
        _ => NodeKind::Scalar(text.to_owned()),
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.kind {
        NodeKind::Null | NodeKind::Scalar(_) => 0,
        NodeKind::Sequence(items) => items.iter().map(count).sum(),
        NodeKind::Mapping(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar_node(line: usize, text: &str) -> Node {
        Node {
            line,
            kind: NodeKind::Scalar(text.to_owned()),
        }
    }

    #[test]
    fn every_part_knows_its_line_and_keeps_its_text() {
        let root =
            parse("# first\nname: 007\n\ncluster:\n  members:\n    - 1e3\n    - 'x'\nnothing:\n")
                .unwrap();
        let NodeKind::Mapping(entries) = root.kind else {
            panic!("{root:?}")
        };
        let lines: Vec<_> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.line))
            .collect();
        assert_eq!(lines, [("name", 2), ("cluster", 4), ("nothing", 8)]);
        assert_eq!(entries[0].value, scalar_node(2, "007"));
        assert_eq!(entries[2].value.kind, NodeKind::Null);
        let NodeKind::Mapping(cluster) = &entries[1].value.kind else {
            panic!()
        };
        assert_eq!(
            cluster[0].value.kind,
            NodeKind::Sequence(vec![scalar_node(6, "1e3"), scalar_node(7, "x")])
        );
    }

    #[test]
    fn an_empty_file_is_nothing() {
        for text in ["", "\n", "# only a comment\n", "---\n"] {
            assert_eq!(parse(text).unwrap().kind, NodeKind::Null, "{text:?}");
        }
    }

    #[test]
    fn quoted_null_is_text() {
        assert_eq!(
            parse("'null'").unwrap().kind,
            NodeKind::Scalar("null".to_owned())
        );
    }

    #[test]
    fn aliases_repeat_what_they_name() {
        let root = parse("a: &x {b: 1}\nc: *x\n").unwrap();
        let NodeKind::Mapping(entries) = root.kind else {
            panic!()
        };
        assert_eq!(entries[0].value.kind, entries[1].value.kind);
        assert_eq!(entries[1].value.line, 2);
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (text, line, words) in [
            ("a: 1\nb: 2\na: 3\n", 3, "given twice, first on line 1"),
            ("a: 1\n---\nb: 2\n", 3, "second YAML document"),
            ("a: [1, 2\n", 1, "not valid YAML"),
            ("a: 1\n b: 2\n", 2, "not valid YAML"),
            ("a: *x\n", 1, "not valid YAML"),
            ("? [a, b]\n: 1\n", 1, "plain text"),
        ] {
            let err = parse(text).unwrap_err();
            assert!(err.message.contains(words), "{text:?}: {err:?}");
            assert_eq!(err.line, line, "{text:?}: {err:?}");
        }
    }

    #[test]
    fn files_that_grow_without_bound_are_refused() {
        let deep = "[".repeat(200);
        assert!(parse(&deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{item}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().message.contains("too large"));
    }
}
