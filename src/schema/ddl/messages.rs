//! Diagnostics with their places in one SQL text.

use std::path::Path;

use super::lex::{Cursor, Kind, Token};
use crate::diagnostic::{Diagnostic, Level};

/// After this many messages the rest of the file is judged in silence: nobody reads more.
const MESSAGES_MAX: usize = 200;
/// Longer source lines are not shown.
const SOURCE_LINE_MAX: usize = 400;
/// Longer pieces of the text are shown in part.
const SHOWN_MAX: usize = 40;

/// Collects what there is to say about a text.
pub(super) struct Messages<'a> {
    text: &'a str,
    file: &'a Path,
    line_starts: Vec<usize>,
    found: Vec<Diagnostic>,
    dropped: usize,
}

impl<'a> Messages<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path) -> Self {
        let after_newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Messages {
            text,
            file,
            line_starts,
            found: Vec::new(),
            dropped: 0,
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn report(
        &mut self,
        level: Level,
        span: Token,
        message: String,
        hint: Option<String>,
    ) {
        if self.found.len() >= MESSAGES_MAX {
            self.dropped += 1;
            return;
        }
        let line = self
            .line_starts
            .partition_point(|&start| start <= span.start);
        let start = line
            .checked_sub(1)
            .and_then(|at| self.line_starts.get(at))
            .copied()
            .unwrap_or(0);
        let source = self
            .text
            .get(start..)
            .unwrap_or("")
            .split('\n')
            .next()
            .unwrap_or("")
            .trim_end_matches('\r');
        let column = self
            .text
            .get(start..span.start)
            .unwrap_or("")
            .chars()
            .count()
            + 1;
        let mut diagnostic = Diagnostic::at(self.file, line, column, message).with_level(level);
        if source.len() <= SOURCE_LINE_MAX {
            let in_line = span.end.min(start + source.len());
            let length = self
                .text
                .get(span.start..in_line)
                .unwrap_or("")
                .chars()
                .count();
            diagnostic = diagnostic.with_source(source, length);
        }
        diagnostic.hint = hint;
        self.found.push(diagnostic);
    }

    pub(super) fn error(&mut self, span: Token, message: String, hint: Option<String>) {
        self.report(Level::Error, span, message, hint);
    }

    /// An error at the cursor, where something else than what stands there is needed.
    pub(super) fn expected(&mut self, what: &str, cursor: &Cursor<'_>) {
        match cursor.peek() {
            Some(token) => self.error(
                token,
                format!("expected {what}, found `{}`", self.shown(token)),
                None,
            ),
            None => {
                let after = cursor.last().unwrap_or(Token {
                    kind: Kind::Symbol,
                    start: 0,
                    end: 0,
                });
                self.error(
                    after,
                    format!("expected {what} after `{}`", self.shown(after)),
                    None,
                );
            }
        }
    }

    /// The token's text on one line and not too long.
    pub(super) fn shown(&self, token: Token) -> String {
        let text = token.text(self.text);
        let line = text.lines().next().unwrap_or("");
        let short: String = line.chars().take(SHOWN_MAX).collect();
        if short.len() < text.len() {
            short + "…"
        } else {
            short
        }
    }

    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        if self.dropped > 0 {
            let count = crate::diagnostic::counted(self.dropped as u64, "more message");
            let are = if self.dropped == 1 { "is" } else { "are" };
            let message = format!("{count} {are} not shown");
            let level = if crate::diagnostic::any_error(&self.found) {
                Level::Error
            } else {
                Level::Note
            };
            self.found
                .push(Diagnostic::file(self.file, message).with_level(level));
        }
        crate::diagnostic::tidy(&mut self.found);
        self.found
    }
}
