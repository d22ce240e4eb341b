//! Reading values out of a YAML tree: every reader returns None after it has said what is wrong, and never stops at the first.

use std::collections::HashSet;

use super::yaml::{Kind, Node, Source, shortened};
use super::{ColumnRef, Literal, Match, Span, Spanned, Sql, TableRef, alias, sql};
use crate::change::Decimal;
use crate::diagnostic::{Diagnostic, Level, nearest};
use crate::schema::TableName;

/// The most mistakes that are told of one file.
const MISTAKES_MAX: usize = 1_000;
/// The longest text that is kept for people, such as a description, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// The longest name of a column or table, in bytes; Postgres has 63.
const NAME_BYTES_MAX: usize = 200;
/// The most columns in one list; a table has no more.
const COLUMNS_MAX: usize = 1_600;
/// The largest compiled regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A file being read and what is wrong with it so far.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) out: Vec<Diagnostic>,
    /// The limit that the rule being read exceeds, if any.
    pub(super) refused: Option<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source<'a>) -> Self {
        Reader {
            source,
            out: Vec::new(),
            refused: None,
        }
    }

    /// Keeps a message; the first beyond the limit says that there are more.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        match self.out.len() {
            0..MISTAKES_MAX => self.out.push(diagnostic),
            MISTAKES_MAX => {
                let message = format!(
                    "more than {MISTAKES_MAX} mistakes in this file; the others are not shown"
                );
                self.out.push(Diagnostic::file(self.source.file(), message));
            }
            _ => {}
        }
    }

    /// Says what is wrong with a node and what to do; always None.
    pub(crate) fn wrong<T>(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Option<T> {
        let problem = self.source.span(node).error(message).with_hint(hint);
        self.push(problem);
        None
    }

    /// A note that a foreign name was understood.
    pub(super) fn note(&mut self, node: &Node, foreign: &str, ours: &str) {
        let note = self
            .source
            .span(node)
            .error(format!("`{}` is called `{ours}` here", shortened(foreign)));
        self.push(
            note.with_hint(format!("write `{ours}`"))
                .with_level(Level::Note),
        );
    }

    pub(super) fn spanned<T>(&self, node: &Node, value: T) -> Spanned<T> {
        Spanned {
            value,
            span: self.source.span(node),
        }
    }

    /// Any scalar but null, as text.
    pub(super) fn text(&mut self, node: &Node) -> Option<Spanned<String>> {
        match node.text() {
            Some(text) if text.len() > TEXT_BYTES_MAX => self.wrong(
                node,
                format!("this text has {} bytes", text.len()),
                format!("write at most {TEXT_BYTES_MAX} bytes"),
            ),
            Some(text) if !node.is_null() && !text.trim().is_empty() => {
                Some(self.spanned(node, text.to_owned()))
            }
            _ => self.wrong(
                node,
                format!("a text is expected here, found {}", node.describe()),
                "write one text",
            ),
        }
    }

    /// A scalar with its place.
    pub(super) fn literal(&mut self, node: &Node) -> Option<Spanned<Literal>> {
        match node.literal() {
            Some(literal) => Some(self.spanned(node, literal)),
            None => self.wrong(
                node,
                format!("a single value is expected here, found {}", node.describe()),
                "write a text, a number, `true`, `false` or `null`",
            ),
        }
    }

    /// A name of a column.
    pub(super) fn column(&mut self, node: &Node) -> Option<ColumnRef> {
        match node.text() {
            Some(text) if text.len() > NAME_BYTES_MAX => self.wrong(
                node,
                "this is too long for the name of a column",
                "write the name of one column",
            ),
            Some(text) if !node.is_null() && !text.trim().is_empty() => {
                Some(self.spanned(node, text.to_owned()))
            }
            _ => self.wrong(
                node,
                format!("a column name is expected here, found {}", node.describe()),
                "write the name of one column",
            ),
        }
    }

    /// One column, or a list of different ones.
    pub(super) fn columns(&mut self, node: &Node) -> Option<Vec<ColumnRef>> {
        let columns = self.list(node, "a column name", Reader::column)?;
        if columns.len() > COLUMNS_MAX {
            let message = format!("{} columns, more than any table has", columns.len());
            return self.wrong(node, message, format!("name at most {COLUMNS_MAX}"));
        }
        let mut seen = HashSet::new();
        let repeated = columns
            .iter()
            .find(|column| !seen.insert(column.value.as_str()));
        if let Some(repeated) = repeated {
            let message = format!("the column `{}` is named twice", shortened(&repeated.value));
            self.push(repeated.span.error(message).with_hint("name it once"));
            return None;
        }
        Some(columns)
    }

    /// One value, or a list of at least one.
    pub(crate) fn list<T>(
        &mut self,
        node: &Node,
        what: &str,
        read: impl Fn(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &node.kind {
            Kind::Sequence(items) if items.is_empty() => self.wrong(
                node,
                "this list is empty",
                format!("give it {what}, or remove it"),
            ),
            Kind::Sequence(items) => {
                let read: Vec<Option<T>> = items.iter().map(|item| read(self, item)).collect();
                read.into_iter().collect()
            }
            Kind::Mapping(_) => self.wrong(
                node,
                format!("{what} or a list is expected here, found a mapping"),
                "write `[a, b]`",
            ),
            Kind::Scalar { .. } => Some(vec![read(self, node)?]),
        }
    }

    /// A table: `orders` or `sales.orders`.
    pub(super) fn table(&mut self, node: &Node) -> Option<TableRef> {
        let Some(text) = node
            .text()
            .filter(|text| !node.is_null() && !text.trim().is_empty())
        else {
            return self.wrong(
                node,
                format!("a table name is expected here, found {}", node.describe()),
                "write `orders` or `sales.orders`",
            );
        };
        let text = alias::dbt_ref(text).unwrap_or(text);
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > 2
            || text.len() > NAME_BYTES_MAX
            || parts.iter().any(|part| part.trim().is_empty())
        {
            let message = format!("`{}` is not the name of a table", shortened(text));
            return self.wrong(
                node,
                message,
                "write `orders`, or `sales.orders` where the schema is not `public`",
            );
        }
        Some(self.spanned(node, TableName::parse(text)))
    }

    /// SQL that is one expression.
    pub(super) fn expression(&mut self, node: &Node) -> Option<Sql> {
        let sql = self.sql_text(node, "an SQL expression")?;
        if let Some(reason) = sql::over_limit(&sql) {
            self.refused.get_or_insert(reason);
            return Some(sql);
        }
        match sql::parse_expression(&sql) {
            Ok(_) => Some(sql),
            Err(problem) => {
                self.push(problem);
                None
            }
        }
    }

    /// SQL that is one query.
    pub(super) fn query(&mut self, node: &Node) -> Option<Sql> {
        let sql = self.sql_text(node, "an SQL query")?;
        if let Some(reason) = sql::over_limit(&sql) {
            self.refused.get_or_insert(reason);
            return Some(sql);
        }
        match sql::parse_query(&sql) {
            Ok(_) => Some(without_semicolon(sql)),
            Err(problem) => {
                self.push(problem);
                None
            }
        }
    }

    fn sql_text(&mut self, node: &Node, what: &str) -> Option<Sql> {
        match node.text() {
            Some(text) if !node.is_null() => Some(Spanned {
                value: text.to_owned(),
                span: self.source.text_span(node),
            }),
            Some(_) => self.wrong(
                node,
                format!("{what} is expected here, found nothing"),
                "write it, or remove the key",
            ),
            None => {
                let hint = "quote SQL that begins with `[` or `{`, or that holds `: `";
                self.wrong(
                    node,
                    format!("{what} is expected here, found {}", node.describe()),
                    hint,
                )
            }
        }
    }

    /// A regular expression that compiles.
    pub(super) fn pattern(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(node)?;
        let Err(error) = regex::RegexBuilder::new(&text.value)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
        else {
            return Some(text);
        };
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            self.refused
                .get_or_insert("this pattern needs too much memory".to_owned());
            return Some(text);
        }
        let problem = pattern_problem(
            &self.source.text_span(node),
            &error,
            text.value.chars().count(),
        );
        self.push(problem);
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match node.literal() {
            Some(Literal::Bool(value)) => Some(value),
            _ => self.wrong(
                node,
                format!(
                    "`true` or `false` is expected here, found {}",
                    node.describe()
                ),
                "write `true` or `false`, without quotes",
            ),
        }
    }

    /// One of some words, with the nearest for a wrong one.
    pub(super) fn word<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = node.text().unwrap_or("");
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let hint = match near(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}", one_of(&all)),
        };
        self.wrong(node, format!("{what} cannot be {}", node.describe()), hint)
    }

    /// A whole number, not negative.
    pub(super) fn count(&mut self, node: &Node) -> Option<u64> {
        match self.integer_text(node).and_then(|text| text.parse().ok()) {
            Some(count) => Some(count),
            None => self.wrong(
                node,
                format!(
                    "a whole number, not negative, is expected here, found {}",
                    node.describe()
                ),
                "write `0`, `1`, `2`, …",
            ),
        }
    }

    /// A whole number.
    pub(super) fn integer(&mut self, node: &Node) -> Option<i64> {
        match self.integer_text(node).and_then(|text| text.parse().ok()) {
            Some(number) => Some(number),
            None => self.wrong(
                node,
                format!("a whole number is expected here, found {}", node.describe()),
                "write a number without a point",
            ),
        }
    }

    fn integer_text<'n>(&self, node: &'n Node) -> Option<&'n str> {
        node.text()
            .filter(|_| !matches!(node.literal(), Some(Literal::Null | Literal::Bool(_))))
    }

    /// A decimal number, as written.
    pub(super) fn decimal(&mut self, node: &Node) -> Option<Spanned<String>> {
        match node.text() {
            Some(text) if Decimal::parse(text).is_some() => {
                Some(self.spanned(node, text.to_owned()))
            }
            _ => self.wrong(
                node,
                format!("a number is expected here, found {}", node.describe()),
                "write a number such as `5` or `0.005`, of at most 38 digits",
            ),
        }
    }

    /// A decimal number that is not negative.
    pub(super) fn tolerance(&mut self, node: &Node) -> Option<Spanned<String>> {
        let number = self.decimal(node)?;
        if number.value.starts_with('-') {
            return self.wrong(
                node,
                "a tolerance cannot be negative",
                "write how far the two may be apart, such as `0.005`",
            );
        }
        Some(number)
    }

    /// A number from 0 to 100, as written.
    pub(super) fn percent(&mut self, node: &Node) -> Option<Spanned<String>> {
        if let Some(number) = node
            .text()
            .and_then(|text| text.strip_suffix('%'))
            .filter(|number| Decimal::parse(number.trim()).is_some())
        {
            return self.wrong(
                node,
                "a percentage is written without `%` here",
                format!("write `{}`", number.trim()),
            );
        }
        let number = self.decimal(node)?;
        match Decimal::parse(&number.value) {
            Some(value) if value.unscaled >= 0 && at_most(&value, "100") => Some(number),
            _ => self.wrong(
                node,
                format!(
                    "a percentage lies between 0 and 100, found {}",
                    node.describe()
                ),
                "write `0.1` for one in a thousand",
            ),
        }
    }

    /// A length of time, in microseconds: `5m`, `1h30m`.
    pub(super) fn duration(&mut self, node: &Node) -> Option<i64> {
        let text = node.text().unwrap_or("");
        match parse_duration(text) {
            Ok(0) => self.wrong(
                node,
                "a duration of nothing",
                "write a duration that is longer than zero, such as `5m`",
            ),
            Ok(us) => Some(us),
            Err(hint) => self.wrong(
                node,
                format!("a duration is expected here, found {}", node.describe()),
                hint,
            ),
        }
    }

    /// Pairs of columns: `{there: here}`; one name or a list where both sides are called the same.
    pub(super) fn matching(&mut self, node: &Node) -> Option<Match> {
        let Kind::Mapping(entries) = &node.kind else {
            return Some(
                self.columns(node)?
                    .into_iter()
                    .map(|column| (column.clone(), column))
                    .collect(),
            );
        };
        if entries.is_empty() {
            return self.wrong(
                node,
                "nothing is matched",
                "write `{order_id: id}`: column there, column of the subject",
            );
        }
        let pairs: Vec<Option<_>> = entries
            .iter()
            .map(|(there, here)| self.column(there).zip(self.column(here)))
            .collect();
        pairs.into_iter().collect()
    }
}

fn at_most(value: &Decimal, limit: &str) -> bool {
    Decimal::parse(limit).and_then(|limit| less(&limit, value)) == Some(false)
}

/// True when `a < b`; None when the digits do not fit.
pub(super) fn less(a: &Decimal, b: &Decimal) -> Option<bool> {
    let scale = a.scale.max(b.scale);
    Some(a.rescale(scale)?.unscaled < b.rescale(scale)?.unscaled)
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Where in the pattern, and what, the regex crate complains about. Its message draws the pattern with a line of carets.
fn pattern_problem(span: &Span, error: &regex::Error, length: usize) -> Diagnostic {
    let text = error.to_string();
    let words = text
        .lines()
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or("not a regular expression");
    let carets = text
        .lines()
        .rev()
        .find(|line| line.contains('^') && line.chars().all(|c| c == ' ' || c == '^'));
    let is_drawn_whole = !text.lines().any(|line| line.starts_with("1: "));
    let place = match carets {
        Some(line) if is_drawn_whole => {
            let offset = line
                .chars()
                .take_while(|c| *c == ' ')
                .count()
                .saturating_sub(4);
            span.within(
                offset.min(length.saturating_sub(1)),
                line.chars().filter(|c| *c == '^').count(),
            )
        }
        _ => span.clone(),
    };
    let hint = if words.contains("look-around") || words.contains("backreference") {
        "look-around and back-references are not there: patterns are matched in linear time"
    } else {
        "the syntax is that of docs.rs/regex; a backslash is safest in single quotes"
    };
    place
        .error(format!("not a regular expression: {words}"))
        .with_hint(hint)
}

const UNITS: [(&str, i64); 6] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
];

/// Microseconds of `1h30m`, or what to write instead.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    const FORMS: &str =
        "write a number and a unit, such as `500ms`, `90s`, `5m`, `1h30m`, `7d` or `2w`";
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "add a unit: `{text}s`, `{text}m`, `{text}h` or `{text}d`",
            text = shortened(text)
        ));
    }
    if let Some(short) = spelled_out(text) {
        return Err(format!("write `{short}`"));
    }
    let (mut rest, mut total, mut largest) = (text, 0i64, i64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let Some((_, us)) = UNITS
            .iter()
            .find(|(name, us)| *name == unit && *us < largest)
        else {
            return Err(FORMS.to_owned());
        };
        let part = number
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(*us));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or("this is longer than any history; write a shorter one")?;
        (rest, largest) = (tail.trim_start(), *us);
    }
    if text.is_empty() {
        Err(FORMS.to_owned())
    } else {
        Ok(total)
    }
}

/// `5 minutes` as `5m`.
fn spelled_out(text: &str) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let short = match unit.trim().to_ascii_lowercase().trim_end_matches('s') {
        "second" | "sec" => "s",
        "minute" | "min" => "m",
        "hour" | "hr" => "h",
        "day" => "d",
        "week" => "w",
        "millisecond" | "msec" => "ms",
        _ => return None,
    };
    (!number.is_empty()).then(|| format!("{}{short}", shortened(number)))
}

/// A query may end with `;`, but is put into other queries without it.
fn without_semicolon(sql: Sql) -> Sql {
    let text = sql.value.trim_end();
    let value = text.strip_suffix(';').unwrap_or(text).to_owned();
    Spanned {
        value,
        span: sql.span,
    }
}

/// The nearest known name; none for texts that are too long to be a name.
pub(crate) fn near<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if wrong.len() > NAME_BYTES_MAX {
        None
    } else {
        nearest(wrong, known)
    }
}

/// True for a text that begins like `2026-03-12`.
pub(super) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes.iter().take(10).enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                *byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        })
}
