//! YAML with positions: a small tree of [`Node`]s whose every part knows its line and column.
//!
//! Rule files are hostile: a file has at most [`FILE_BYTES_MAX`] bytes, [`DEPTH_MAX`] levels and [`NODES_MAX`] values, aliases
//! counted as often as they are used. What YAML itself forbids ends the file with one located [`Diagnostic`]; keys written
//! twice are reported, and the tree goes on with the first. Values stay text: what a scalar means is decided by who reads it.

use std::path::Path;
use std::sync::Arc;

use super::{Literal, Span, TextRun};
use crate::diagnostic::Diagnostic;

/// The largest rule file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of lists and mappings.
pub const DEPTH_MAX: usize = 64;
/// The most scalars, lists and mappings in one file; a copy made by an alias counts again.
pub const NODES_MAX: usize = 100_000;
/// The most bytes of text in one file; a copy made by an alias counts again.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Longer lines are not shown in messages, so that spans stay small.
const SHOWN_CHARS_MAX: usize = 400;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A scalar: its text, and true when it was written without quotes on one or more lines.
    Scalar {
        /// The text with quotes, escapes and folding resolved.
        text: String,
        /// True when neither quoted nor a block: only then `null`, `true` and `1` are more than text.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys (always scalars, each once) and values in the order of the file.
    Mapping(Vec<(Node, Node)>),
}

/// A part of a YAML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// 1-based line where it starts.
    pub line: usize,
    /// 1-based column in characters where it starts.
    pub column: usize,
    /// Characters it takes on that line, at least 1.
    pub length: usize,
    /// How many characters of its own stand before a scalar's text: 1 for a quote.
    pub(super) quotes: usize,
    /// Where it starts in its line, in bytes.
    pub(super) byte: usize,
    /// True for a mapping of which a key was reported and left out: what it lacks may be that.
    pub(super) broken: bool,
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// True for a plain `null`, `~` or nothing.
    pub fn is_null(&self) -> bool {
        self.literal() == Some(Literal::Null)
    }

    /// A scalar as YAML 1.2 reads it; None for lists and mappings.
    pub fn literal(&self) -> Option<Literal> {
        let Kind::Scalar { text, plain } = &self.kind else {
            return None;
        };
        if !plain {
            return Some(Literal::Text(text.clone()));
        }
        Some(match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Literal::Null,
            "true" | "True" | "TRUE" => Literal::Bool(true),
            "false" | "False" | "FALSE" => Literal::Bool(false),
            number if is_number(number) => Literal::Number(number.to_owned()),
            other => Literal::Text(other.to_owned()),
        })
    }

    /// What the node is, for messages: `a list`, `the number `5``…
    pub fn describe(&self) -> String {
        match (&self.kind, self.literal()) {
            (Kind::Sequence(items), _) if items.is_empty() => "an empty list".to_owned(),
            (Kind::Sequence(_), _) => "a list".to_owned(),
            (Kind::Mapping(_), _) => "a mapping".to_owned(),
            (_, Some(Literal::Null)) => "nothing".to_owned(),
            (_, Some(Literal::Text(text))) if text.is_empty() => "an empty text".to_owned(),
            (_, Some(Literal::Text(text) | Literal::Number(text))) => {
                format!("`{}`", shortened(&text))
            }
            (_, Some(Literal::Bool(value))) => format!("`{value}`"),
            (Kind::Scalar { .. }, None) => "a scalar".to_owned(),
        }
    }
}

/// At most 40 characters of a text, on one line, for messages.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// True for a decimal integer or number as YAML's core schema has it, without its hexadecimal and octal forms.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        ),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && (!whole.is_empty() || !fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

/// The text of a YAML file, cut into lines, with its name.
pub struct Source<'a> {
    file: &'a Path,
    pub(super) text: &'a str,
    pub(super) lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    /// A file's text; a byte order mark is passed over.
    pub fn new(text: &'a str, file: &'a Path) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text
            .split('\n')
            .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
            .collect();
        Source { file, text, lines }
    }

    /// The file as the user named it.
    pub fn file(&self) -> &Path {
        self.file
    }

    /// The place of a node.
    pub fn span(&self, node: &Node) -> Span {
        self.place(node.line, node.column, node.length)
    }

    /// The place of a scalar, with what [`Span::within`] needs to point into its text.
    pub fn text_span(&self, node: &Node) -> Span {
        Span {
            runs: self.runs(node).map(Arc::from),
            ..self.span(node)
        }
    }

    pub(super) fn place(&self, line: usize, column: usize, length: usize) -> Span {
        Span {
            file: self.file.to_path_buf(),
            line,
            column,
            length: length.max(1),
            source_line: self.shown(line),
            runs: None,
        }
    }

    pub(super) fn line(&self, line: usize) -> &'a str {
        self.lines.get(line.wrapping_sub(1)).copied().unwrap_or("")
    }

    fn shown(&self, line: usize) -> String {
        let text = self.line(line);
        if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
            String::new()
        } else {
            text.to_owned()
        }
    }

    /// The runs of a scalar's text in the file: folding changes only white space, so the other characters are met in order.
    /// None where an escape stands for a character that is not in the file, and for texts too long to be SQL.
    fn runs(&self, node: &Node) -> Option<Vec<TextRun>> {
        let text = node
            .text()
            .filter(|text| text.len() <= super::sql::SQL_BYTES_MAX)?;
        let rest = self.line(node.line).get(node.byte + node.quotes..)?;
        let mut cursor = Cursor {
            source: self,
            line: node.line,
            column: node.column + node.quotes,
            rest,
        };
        let mut runs: Vec<TextRun> = Vec::new();
        for (offset, wanted) in text.chars().enumerate() {
            if wanted.is_whitespace() {
                if cursor.rest.starts_with(wanted) {
                    cursor.step();
                }
                continue;
            }
            cursor.skip_white_space()?;
            let (line, column) = (cursor.line, cursor.column);
            cursor.take(wanted, node.quotes > 0)?;
            let last = runs.last().filter(|last| last.line == line);
            if last
                .is_some_and(|last| column.checked_sub(last.column) == Some(offset - last.offset))
            {
                continue;
            }
            let source_line = last.map_or_else(
                || Arc::from(self.shown(line)),
                |last| Arc::clone(&last.source_line),
            );
            runs.push(TextRun {
                offset,
                line,
                column,
                source_line,
            });
        }
        Some(runs)
    }
}

/// A place in the raw text, moving forward.
struct Cursor<'a> {
    source: &'a Source<'a>,
    line: usize,
    /// 1-based, in characters.
    column: usize,
    /// What is left of the line.
    rest: &'a str,
}

impl Cursor<'_> {
    fn step(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
        self.column += 1;
    }

    fn skip_white_space(&mut self) -> Option<()> {
        loop {
            match self.rest.chars().next() {
                Some(c) if c.is_whitespace() => self.step(),
                Some(_) => return Some(()),
                None => {
                    self.line += 1;
                    self.column = 1;
                    self.rest = self.source.lines.get(self.line - 1)?;
                }
            }
        }
    }

    /// Steps over the raw form of a character: itself, or in quotes `''`, `\"`, `\\`, `\/`.
    fn take(&mut self, wanted: char, quoted: bool) -> Option<()> {
        let mut ahead = self.rest.chars();
        let found = ahead.next()?;
        let doubled = quoted && matches!(found, '\\' | '\'') && ahead.next() == Some(wanted);
        match (found == wanted, doubled) {
            (true, true) => self.step(),
            (true, false) => {}
            (false, true) if matches!(wanted, '"' | '/') => self.step(),
            _ => return None,
        }
        self.step();
        Some(())
    }
}

/// Reads a file into a tree. None when it is empty or no YAML; every mistake is pushed to `out`.
pub fn parse(source: &Source<'_>, out: &mut Vec<Diagnostic>) -> Option<Node> {
    if let Some(problem) = forbidden_character(source) {
        out.push(problem);
        return None;
    }
    super::build::tree(source, out)
}

/// YAML parsers take NUL for the end of the file: whatever stands behind it would be lost without a word.
fn forbidden_character(source: &Source<'_>) -> Option<Diagnostic> {
    let is_forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if !source.text.contains(is_forbidden) {
        return None;
    }
    let (index, line) = source
        .lines
        .iter()
        .enumerate()
        .find(|(_, line)| line.contains(is_forbidden))?;
    let (column, c) = line.chars().enumerate().find(|(_, c)| is_forbidden(*c))?;
    let place = source.place(index + 1, column + 1, 1);
    Some(
        place
            .error(format!(
                "control character U+{:04X} in a YAML file",
                u32::from(c)
            ))
            .with_hint("remove it, or write it as an escape inside double quotes"),
    )
}
