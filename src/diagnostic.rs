//! What is wrong with a file the user wrote or gave, said so that it can be put right.
//!
//! A [`Diagnostic`] names file, line and column, shows the source line, says what is wrong and what to do. Parsers collect
//! all of them and go on; nothing here prints. Row values never enter a message (invariant 11): a source line is kept for
//! files that people write (rules, schemas), never for data files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// How bad a diagnostic is. Only [`Level::Error`] stops a run (exit 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used as it is.
    Error,
    /// Usable, but probably not what was meant.
    Warning,
    /// Worth knowing, nothing to do.
    Note,
}

/// One message about one place in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error, warning or note.
    pub level: Level,
    /// The file as the user named it.
    pub file: PathBuf,
    /// 1-based line; 0 when the message is about the whole file.
    pub line: usize,
    /// 1-based column in characters; 0 when the message is about the whole line.
    pub column: usize,
    /// How many characters are meant; at least 1 where `column` is not 0.
    pub length: usize,
    /// What is wrong: lower case, no full stop, names quoted with backticks.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The text of the line, for files written by people.
    pub source_line: Option<String>,
}

impl Diagnostic {
    /// An error about a whole file.
    pub fn file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Diagnostic {
            level: Level::Error,
            file: file.into(),
            line: 0,
            column: 0,
            length: 0,
            message: message.into(),
            hint: None,
            source_line: None,
        }
    }

    /// An error at a line and column (both 1-based; column 0 for the whole line).
    pub fn at(
        file: impl Into<PathBuf>,
        line: usize,
        column: usize,
        message: impl Into<String>,
    ) -> Self {
        Diagnostic {
            line,
            column,
            length: usize::from(column > 0),
            ..Diagnostic::file(file, message)
        }
    }

    /// The same message with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same message with the text of its line and the length of the marked part, in characters.
    pub fn with_source(mut self, source_line: impl Into<String>, length: usize) -> Self {
        self.source_line = Some(source_line.into());
        self.length = length.max(1);
        self
    }

    /// The same message at another level.
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// `file:line:column`, as far as they are known.
    pub fn location(&self) -> String {
        let mut out = self.file.display().to_string();
        if self.line > 0 {
            let _ = write!(out, ":{}", self.line);
            if self.column > 0 {
                let _ = write!(out, ":{}", self.column);
            }
        }
        out
    }
}

/// The name in `known` that is nearest to `wrong`, when it is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong_lower = wrong.to_lowercase();
    let budget = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&wrong_lower, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= budget)
        .min()
        .map(|(_, name)| name)
}

/// Renders diagnostics for a terminal: one block each, in the order given, with colour when `color` is set.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    use annotate_snippets::renderer::DecorStyle;
    use annotate_snippets::{AnnotationKind, Group, Level as Shown, Renderer, Snippet};
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
    .decor_style(DecorStyle::Ascii);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let level = match diagnostic.level {
            Level::Error => Shown::ERROR,
            Level::Warning => Shown::WARNING,
            Level::Note => Shown::NOTE,
        };
        let message = crate::escape::terminal(&diagnostic.message);
        let path = crate::escape::terminal(&diagnostic.location());
        let Some(line) = &diagnostic.source_line else {
            let _ = writeln!(
                out,
                "{}",
                renderer.render(&[Group::with_title(level.primary_title(&message))])
            );
            let _ = writeln!(out, " --> {path}");
            if let Some(hint) = &diagnostic.hint {
                let _ = writeln!(out, "  = help: {}", crate::escape::terminal(hint));
            }
            out.push('\n');
            continue;
        };
        let line = crate::escape::terminal(line);
        let span = char_span(
            &line,
            diagnostic.column.saturating_sub(1),
            diagnostic.length.max(1),
        );
        let file = crate::escape::terminal(&diagnostic.file.display().to_string());
        let snippet = Snippet::source(&*line)
            .line_start(diagnostic.line)
            .path(&*file)
            .annotation(AnnotationKind::Primary.span(span));
        let mut group = level.primary_title(&message).element(snippet);
        let hint = diagnostic
            .hint
            .as_ref()
            .map(|hint| crate::escape::terminal(hint));
        if let Some(hint) = &hint {
            group = group.element(Shown::HELP.message(hint.as_str()));
        }
        let _ = writeln!(out, "{}\n", renderer.render(&[group]));
    }
    out
}

/// The byte range of `length` characters of `line` from character `start`, clamped to the line.
fn char_span(line: &str, start: usize, length: usize) -> std::ops::Range<usize> {
    let byte = |n: usize| line.char_indices().nth(n).map_or(line.len(), |(at, _)| at);
    byte(start)..byte(start + length)
}

/// The text of a line (1-based) of a file that people write, for [`Diagnostic::with_source`].
pub fn line_of(text: &str, line: usize) -> &str {
    text.lines().nth(line.saturating_sub(1)).unwrap_or("")
}

/// `48120` as `48,120`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes as people write it: `154 MB`, `1.2 GB`.
pub(crate) fn sized(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut size = bytes as f64;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => counted(bytes, "byte"),
        _ if size < 9.95 => format!("{size:.1} {}", UNITS[unit]),
        _ => format!("{size:.0} {}", UNITS[unit]),
    }
}

/// `1 violation`, `37 violations`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        grouped(number),
        if number == 1 { "" } else { "s" }
    )
}

/// True when any diagnostic is an error.
pub fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error)
}

/// Sorts diagnostics by file, line and column, and drops exact repetitions.
pub fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
    diagnostics.dedup();
}

/// The path as people should see it: relative to the current directory where it lies below it.
pub fn shown_path(path: &Path) -> PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf))
        .unwrap_or_else(|| path.to_path_buf())
}
