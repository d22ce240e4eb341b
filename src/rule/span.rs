//! Places in rule files, down to the character inside a text.

use std::path::PathBuf;
use std::sync::Arc;

/// Where a piece of a rule stands in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The file as the user named it.
    pub file: PathBuf,
    /// 1-based line.
    pub line: usize,
    /// 1-based column in characters.
    pub column: usize,
    /// Length in characters, at least 1.
    pub length: usize,
    /// The text of the line; empty where it is too long to be shown.
    pub source_line: String,
    /// For a text, how its characters lie in the file; None where that is not known. See [`Span::within`].
    pub runs: Option<Arc<[TextRun]>>,
}

/// A part of a text that lies unbroken on one line of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRun {
    /// Which character of the text is the first of the run, from 0.
    pub offset: usize,
    /// 1-based line of the file.
    pub line: usize,
    /// 1-based column in characters.
    pub column: usize,
    /// The text of the line; empty where it is too long to be shown.
    pub source_line: Arc<str>,
}

impl Span {
    /// An error at this place.
    pub fn error(&self, message: impl Into<String>) -> crate::diagnostic::Diagnostic {
        let place = crate::diagnostic::Diagnostic::at(&self.file, self.line, self.column, message);
        if self.source_line.is_empty() {
            place
        } else {
            place.with_source(self.source_line.clone(), self.length)
        }
    }

    /// The place of `length` characters of the text from character `offset` (from 0), for errors inside SQL and patterns.
    /// The whole span where it is not known how the text lies in the file (an escape such as `\n` in double quotes).
    pub fn within(&self, offset: usize, length: usize) -> Span {
        let runs = self.runs.as_deref().unwrap_or_default();
        let at = runs.partition_point(|run| run.offset <= offset);
        let Some(run) = at.checked_sub(1).and_then(|at| runs.get(at)) else {
            return self.clone();
        };
        let column = run.column + (offset - run.offset);
        let room = runs.get(at).map_or(usize::MAX, |next| next.offset - offset);
        let on_line = run
            .source_line
            .chars()
            .count()
            .saturating_sub(column - 1)
            .max(1);
        Span {
            file: self.file.clone(),
            line: run.line,
            column,
            length: length.min(room).min(on_line).max(1),
            source_line: run.source_line.to_string(),
            runs: None,
        }
    }
}
