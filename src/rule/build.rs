//! From the events of the YAML parser to the tree of [`yaml`](super::yaml), within its limits.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span as Range};

use super::Span;
use super::yaml::{DEPTH_MAX, Kind, NODES_MAX, Node, Source, TEXT_BYTES_MAX, shortened};
use crate::diagnostic::Diagnostic;

/// The tree of a file. None when it is empty or no YAML; every mistake is pushed to `out`.
pub(super) fn tree(source: &Source<'_>, out: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut builder = Builder {
        source,
        out,
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
        bytes: 0,
        reached: (0, 0, 0),
    };
    match builder.run() {
        Ok(()) => builder.root,
        Err(problem) => {
            out.push(*problem);
            None
        }
    }
}

type Stop = Box<Diagnostic>;

struct Frame {
    items: Items,
    start: Marker,
    anchor: usize,
}

enum Items {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(Node, Node)>,
        seen: HashMap<String, usize>,
        key: Option<Node>,
        broken: bool,
    },
}

struct Builder<'s, 'o> {
    source: &'s Source<'s>,
    out: &'o mut Vec<Diagnostic>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    bytes: usize,
    /// The line, column (from 0) and byte reached last: events come in order, so that long lines are walked once.
    reached: (usize, usize, usize),
}

impl Builder<'_, '_> {
    fn run(&mut self) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(self.source.text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, range) = event.map_err(|error| self.syntax_error(&error))?;
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let place = self
                            .source
                            .place(range.start.line(), range.start.col() + 1, 3);
                        let message =
                            "a second YAML document begins here; the file is to be one document";
                        return Err(stop(
                            place.error(message),
                            "move it to a file of its own, or remove the `---`",
                        ));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let mut node = self.scalar(text.into_owned(), style, &range);
                    self.apply_tag(&mut node, tag.as_deref())?;
                    self.attach_anchored(node, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(Items::Sequence(Vec::new()), &range, anchor, tag.as_deref())?
                }
                Event::MappingStart(anchor, tag) => {
                    let items = Items::Mapping {
                        entries: Vec::new(),
                        seen: HashMap::new(),
                        key: None,
                        broken: false,
                    };
                    self.open(items, &range, anchor, tag.as_deref())?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(&range)?,
                Event::Alias(anchor) => self.alias(anchor, &range)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn syntax_error(&self, error: &ScanError) -> Stop {
        let marker = error.marker();
        let lines = self.source.lines.len();
        let line = marker.line().clamp(1, lines.max(1));
        let text = self.source.line(line);
        let column = (marker.col() + 1).min(text.chars().count() + 1);
        let (message, hint) = match text.chars().nth(column - 1) {
            Some(quote @ ('"' | '\'')) if is_open(text, column, quote) => (
                "a quoted text never ends".to_owned(),
                "add the closing quote",
            ),
            _ => plain_words(error.info(), text),
        };
        stop(self.source.place(line, column, 1).error(message), hint)
    }

    /// Counts a node that is about to be kept.
    fn charge(&mut self, node: &Node, place: &Span) -> Result<(), Stop> {
        self.nodes += 1;
        match &node.kind {
            Kind::Scalar { text, .. } => self.bytes += text.len(),
            Kind::Sequence(items) => items.iter().try_for_each(|item| self.charge(item, place))?,
            Kind::Mapping(entries) => entries.iter().try_for_each(|(key, value)| {
                self.charge(key, place)?;
                self.charge(value, place)
            })?,
        }
        if self.nodes <= NODES_MAX && self.bytes <= TEXT_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "the file holds more than {NODES_MAX} values or {} MiB of text, aliases counted",
            TEXT_BYTES_MAX >> 20
        );
        Err(stop(
            place.error(message),
            "split the file, and check its anchors and aliases",
        ))
    }

    /// Where a place of the file stands in its line, in bytes.
    fn byte_of(&mut self, line: usize, column: usize) -> usize {
        let (reached_line, reached_column, reached_byte) = self.reached;
        let (from, at) = if line == reached_line && column >= reached_column {
            (reached_column, reached_byte)
        } else {
            (0, 0)
        };
        let rest = self.source.line(line).get(at..).unwrap_or("");
        let byte = at
            + rest
                .char_indices()
                .nth(column - from)
                .map_or(rest.len(), |(byte, _)| byte);
        self.reached = (line, column, byte);
        byte
    }

    fn node(&mut self, kind: Kind, start: Marker) -> Node {
        let byte = self.byte_of(start.line(), start.col());
        Node {
            kind,
            line: start.line(),
            column: start.col() + 1,
            length: 1,
            quotes: 0,
            byte,
            broken: false,
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, range: &Range) -> Node {
        let mut node = self.node(
            Kind::Scalar {
                text,
                plain: style == ScalarStyle::Plain,
            },
            range.start,
        );
        let rest = self.source.line(node.line).get(node.byte..).unwrap_or("");
        let length = match style {
            ScalarStyle::Plain if range.end.line() == node.line => {
                range.end.col().saturating_sub(range.start.col())
            }
            ScalarStyle::SingleQuoted => quoted_length(rest, '\''),
            ScalarStyle::DoubleQuoted => quoted_length(rest, '"'),
            _ => rest.trim_end().chars().count(),
        };
        node.length = length.max(1);
        node.quotes = usize::from(matches!(
            style,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
        ));
        node
    }

    fn apply_tag(&self, node: &mut Node, tag: Option<&saphyr_parser::Tag>) -> Result<(), Stop> {
        let Some(tag) = tag else { return Ok(()) };
        match (
            &mut node.kind,
            tag.is_yaml_core_schema(),
            tag.suffix.as_str(),
        ) {
            (Kind::Scalar { plain, .. }, true, "str") => *plain = false,
            (Kind::Scalar { .. }, true, "int" | "float" | "bool" | "null") => {}
            (Kind::Sequence(_), true, "seq") | (Kind::Mapping(_), true, "map") => {}
            _ => {
                let shown = if tag.is_yaml_core_schema() {
                    format!("!!{}", tag.suffix)
                } else {
                    tag.to_string()
                };
                let message = format!("the YAML tag `{}` means nothing here", shortened(&shown));
                return Err(stop(
                    self.source.span(node).error(message),
                    "remove the tag",
                ));
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        items: Items,
        range: &Range,
        anchor: usize,
        tag: Option<&saphyr_parser::Tag>,
    ) -> Result<(), Stop> {
        let kind = match &items {
            Items::Sequence(_) => Kind::Sequence(Vec::new()),
            Items::Mapping { .. } => Kind::Mapping(Vec::new()),
        };
        let mut node = self.node(kind, range.start);
        self.apply_tag(&mut node, tag)?;
        if self.stack.len() >= DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(stop(
                self.source.span(&node).error(message),
                "no rule needs such depth; check brackets and indentation",
            ));
        }
        self.stack.push(Frame {
            items,
            start: range.start,
            anchor,
        });
        Ok(())
    }

    fn close(&mut self, range: &Range) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let line = frame.start.line();
        let end = if range.end.line() == line {
            range.end.col()
        } else {
            self.source.line(line).trim_end().chars().count()
        };
        let (kind, broken) = match frame.items {
            Items::Sequence(items) => (Kind::Sequence(items), false),
            Items::Mapping {
                entries, broken, ..
            } => (Kind::Mapping(entries), broken),
        };
        let length = end.saturating_sub(frame.start.col()).max(1);
        let node = Node {
            kind,
            line,
            column: frame.start.col() + 1,
            length,
            quotes: 0,
            byte: 0,
            broken,
        };
        self.attach_anchored(node, frame.anchor)
    }

    fn alias(&mut self, anchor: usize, range: &Range) -> Result<(), Stop> {
        let place = self
            .source
            .place(range.start.line(), range.start.col() + 1, range.len());
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(stop(
                place.error("an alias stands inside the value that it names"),
                "write the value out",
            ));
        };
        if self.stack.len() + depth(&node) > DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(stop(
                place.error(message),
                "write the value out instead of aliasing aliases",
            ));
        }
        self.charge(&node, &place)?;
        self.attach(node);
        Ok(())
    }

    fn attach_anchored(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            let place = self.source.span(&node);
            self.charge(&node, &place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let place = self.source.span(&node);
            self.charge(&node, &place)?;
        }
        self.attach(node);
        Ok(())
    }

    fn attach(&mut self, mut node: Node) {
        let Some(frame) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut frame.items {
            Items::Sequence(items) => items.push(node),
            Items::Mapping {
                key: key @ None, ..
            } => *key = Some(node),
            Items::Mapping {
                entries,
                seen,
                key,
                broken,
            } => {
                let Some(key) = key.take() else { return };
                if node.text() == Some("") && node.is_null() {
                    (node.line, node.column, node.length) = (key.line, key.column, key.length);
                }
                let Some(name) = key.text() else {
                    *broken = true;
                    let hint = "keys are plain words; a template such as `{{ name }}` is not expanded here";
                    self.out.push(
                        self.source
                            .span(&key)
                            .error(format!("{} cannot be a key", key.describe()))
                            .with_hint(hint),
                    );
                    return;
                };
                if let Some(first) = seen.get(name) {
                    let message = format!(
                        "the key `{}` is written twice in this mapping",
                        shortened(name)
                    );
                    let hint = format!("it is first written at line {first}; keep one of them");
                    self.out
                        .push(self.source.span(&key).error(message).with_hint(hint));
                    return;
                }
                seen.insert(name.to_owned(), key.line);
                entries.push((key, node));
            }
        }
    }
}

fn stop(problem: Diagnostic, hint: &str) -> Stop {
    Box::new(problem.with_hint(hint))
}

fn depth(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Kind::Mapping(entries) => {
            1 + entries
                .iter()
                .map(|(_, value)| depth(value))
                .max()
                .unwrap_or(0)
        }
    }
}

/// True when the text that begins with the quote at this column (from 1) does not end on its line.
fn is_open(line: &str, column: usize, quote: char) -> bool {
    let rest: String = line.chars().skip(column - 1).collect();
    let length = quoted_length(&rest, quote);
    length < 2 || rest.chars().nth(length - 1) != Some(quote)
}

/// Characters from the opening to the closing quote, both counted, or to the end of the line.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut length = 1;
    let mut chars = rest.chars().skip(1).peekable();
    while let Some(c) = chars.next() {
        length += 1;
        let doubled = (c == '\\' && quote == '"')
            || (c == quote && quote == '\'' && chars.peek() == Some(&'\''));
        if doubled {
            chars.next();
            length += 1;
        } else if c == quote {
            break;
        }
    }
    length
}

/// The parser's message in words that help somebody who writes rules.
fn plain_words(info: &str, line: &str) -> (String, &'static str) {
    let tab = line
        .split(|c: char| c != ' ' && c != '\t')
        .next()
        .is_some_and(|indent| indent.contains('\t'));
    let (message, hint): (&str, &str) = match info {
        _ if tab || info.contains("tab") => ("a tab cannot indent YAML", "indent with spaces"),
        "recursion limit exceeded" => (
            "brackets are nested too deep",
            "no rule needs such depth; check the brackets",
        ),
        "unexpected end of plain scalar" => {
            ("a value is expected here", "write a value, or quote it")
        }
        "mapping values are not allowed in this context" => (
            "a `:` that begins a mapping cannot stand here",
            "quote the text if the `: ` belongs to it; otherwise check the indentation",
        ),
        _ if info.contains("unknown anchor") => (
            "an alias of an anchor that is not defined",
            "a text that begins with `*` must be quoted",
        ),
        _ if info.contains("quoted scalar, found unexpected end of stream") => {
            ("a quoted text never ends", "add the closing quote")
        }
        _ if info.contains("trailing content after double-quoted") => (
            "text follows a closing quote",
            "put the whole value into quotes, doubling (`''`) those inside",
        ),
        _ if info.contains("',' or ']'") => (
            "`,` or `]` is expected here",
            "close the list with `]`, or quote a text that holds commas or brackets",
        ),
        _ if info.contains("',' or '}'") => (
            "`,` or `}` is expected here",
            "close the mapping with `}`, or quote a text that holds commas or braces",
        ),
        _ if info.contains("unexpected character") => (
            "a text cannot begin with this character",
            "put the text into quotes",
        ),
        _ if info.contains("escape") => (
            "a wrong escape in double quotes",
            "write `\\\\` for a backslash, or use single quotes",
        ),
        _ if info.contains("misplaced bracket") => (
            "a closing bracket without an opening one",
            "remove it, or quote the text",
        ),
        _ if info.contains("block mapping")
            || info.contains("block collection")
            || info.contains("simple key")
            || info.contains("document start")
            || info.contains("indent") =>
        {
            (
                "the indentation or a missing `:` breaks the mapping here",
                "keys of one mapping start in the same column and end with `: `; quote texts that span lines",
            )
        }
        other => {
            return (
                format!("not YAML: {}", shortened(&other.to_lowercase())),
                "check quotes, brackets and indentation",
            );
        }
    };
    (message.to_owned(), hint)
}
