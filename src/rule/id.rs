//! Ids of rules: the form of written ones, and those derived from table, columns and the wrong.

use super::{Check, ColumnRef, Format, Sql, TableName};

/// The longest written id, in characters.
pub(super) const ID_CHARS_MAX: usize = 100;

/// True for kebab-case: lower-case letters and digits in parts joined by single hyphens.
pub(super) fn is_kebab(id: &str) -> bool {
    id.len() <= ID_CHARS_MAX
        && id.split('-').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

/// The nearest kebab-case id, when there is one.
pub(super) fn to_kebab(text: &str) -> Option<String> {
    let mut out = String::new();
    for c in text.chars().take(ID_CHARS_MAX) {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c.to_ascii_lowercase()),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    let out = out.trim_end_matches('-').to_owned();
    is_kebab(&out).then_some(out)
}

/// `<table>.<columns joined with ->.<wrong>`, the columns where the check has some, the table where the rule has one.
pub(super) fn derive(table: Option<&TableName>, check: &Check) -> String {
    let columns = columns(check).join("-");
    let parts = [
        table.map(TableName::short).unwrap_or_default(),
        columns,
        wrong(check),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| plain(part))
        .collect();
    parts.join(".")
}

/// Ids travel into files and URLs: whatever is no letter, digit, point, underscore or hyphen becomes a hyphen.
fn plain(part: &str) -> String {
    part.chars()
        .take(ID_CHARS_MAX)
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .collect()
}

fn columns(check: &Check) -> Vec<&str> {
    match check {
        Check::NotNull { columns }
        | Check::NotEmpty { columns }
        | Check::Unique { columns }
        | Check::Immutable { columns }
        | Check::SetOnce { columns }
        | Check::References { columns, .. } => {
            columns.iter().map(|column| column.value.as_str()).collect()
        }
        Check::Completeness { column, .. }
        | Check::AcceptedValues { column, .. }
        | Check::RejectedValues { column, .. }
        | Check::Range { column, .. }
        | Check::Length { column, .. }
        | Check::Pattern { column, .. }
        | Check::Formatted { column, .. }
        | Check::Sequence { column, .. }
        | Check::WindowGap { column, .. }
        | Check::Fresh { column, .. }
        | Check::Transitions { column, .. }
        | Check::Monotonic { column, .. }
        | Check::Increments { column, .. }
        | Check::Touched { column, .. } => one(column),
        Check::NoOverlap { from, to, .. } => vec![&from.value, &to.value],
        Check::Balance { left: sql, .. } | Check::BalancedTransaction { sum: sql, .. } => {
            name_in(sql)
        }
        _ => Vec::new(),
    }
}

fn one(column: &ColumnRef) -> Vec<&str> {
    vec![&column.value]
}

/// SQL that is no more than a column's name.
fn name_in(sql: &Sql) -> Vec<&str> {
    let text = sql.value.trim();
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_name { vec![text] } else { Vec::new() }
}

fn wrong(check: &Check) -> String {
    let word = match check {
        Check::NotNull { .. } => "null",
        Check::NotEmpty { .. } => "empty",
        Check::Completeness { .. } => "incomplete",
        Check::Unique { .. } => "duplicate",
        Check::AcceptedValues { .. } => "unaccepted",
        Check::RejectedValues { .. } => "rejected",
        Check::Range { .. } => "out-of-range",
        Check::Length { .. } => "bad-length",
        Check::Pattern { .. } => "mismatch",
        Check::Formatted { format, .. } => return not_format(*format),
        Check::Expression { .. } => "expression",
        Check::References { .. } => "dangling",
        Check::Has { table, .. } => return format!("missing-{}", table.value.short()),
        Check::HasNo { table, .. } => return format!("unwanted-{}", table.value.short()),
        Check::Sequence { .. } | Check::WindowGap { .. } => "gap",
        Check::Balance { .. } => "unbalanced",
        Check::SameRows { .. } => "different",
        Check::NoOverlap { .. } => "overlap",
        Check::RowCount { .. } => "row-count",
        Check::Aggregate { .. } => "aggregate",
        Check::Fresh { .. } => "stale",
        Check::SchemaShape { .. } => "shape",
        Check::Metric { .. } => "metric",
        Check::Sql { .. } => "sql",
        Check::AppendOnly => "written",
        Check::NoDelete => "deleted",
        Check::NoResurrection => "resurrected",
        Check::Immutable { .. } => "changed",
        Check::SetOnce { .. } => "changed-after-set",
        Check::Transitions { .. } => "illegal-step",
        Check::Monotonic { .. } => "backwards",
        Check::Increments { .. } => "skipped",
        Check::Touched { .. } => "untouched",
        Check::BalancedTransaction { .. } => "unbalanced-commit",
        Check::MassChange { .. } => "mass-change",
    };
    word.to_owned()
}

fn not_format(format: Format) -> String {
    format!("not-{}", format.as_str().replace('_', "-"))
}
