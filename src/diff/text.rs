//! Differences for people: how many in which table, then the rows, as `git diff --stat` and `git diff` have it.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Change, Row, Side, TableDiff};
use crate::escape;
use crate::report::table::{self, Column};
use crate::report::{counted, grouped, value};

/// How the text looks.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Whether marks have colour.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// How many rows of a table are shown; None for all.
    pub sample: Option<usize>,
}

/// Writes the text.
///
/// # Errors
/// Whatever ends the writing.
pub fn text(
    out: &mut dyn Write,
    (a, b): (&Side<'_>, &Side<'_>),
    tables: &[TableDiff<'_>],
    looks: &Looks,
) -> io::Result<()> {
    let differing: Vec<&TableDiff<'_>> = tables
        .iter()
        .filter(|diff| diff.differs() || diff.unknown > 0 || diff.only.is_some())
        .collect();
    writeln!(out, "a  {}", side(a))?;
    writeln!(out, "b  {}\n", side(b))?;
    if !differing.is_empty() {
        for line in statistics(&differing, looks) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
    }
    for diff in differing.iter().filter(|diff| diff.differs()) {
        rows(out, diff, looks)?;
    }
    let differ = tables.iter().filter(|diff| diff.differs()).count();
    let verb = if differ == 1 { "differs" } else { "differ" };
    let mut summary = format!(
        "{differ} of {} {verb}",
        counted(tables.len() as u64, "table")
    );
    let undecided: u64 = tables.iter().map(|diff| diff.unknown).sum();
    if undecided > 0 {
        let rows = counted(undecided, "row");
        summary.push_str(&format!("; of {rows} it is not known"));
    }
    writeln!(out, "{summary}")?;
    match super::fingerprint((a, b), tables) {
        Some(fingerprint) => writeln!(out, "fingerprint of both: {fingerprint}"),
        None => Ok(()),
    }
}

fn side(side: &Side<'_>) -> String {
    let mut shown = escape::terminal(side.name);
    if let Some(commit) = side.at.commit {
        shown.push_str(&format!(" at #{commit}"));
        let snapshot = side.at.meta.snapshot.as_deref();
        let snapshot = snapshot.or_else(|| {
            let first = side.history.first_snapshot.as_deref();
            first.filter(|_| commit == 0)
        });
        let more: Vec<String> = [snapshot.map(escape::terminal), side.at.time_text()]
            .into_iter()
            .flatten()
            .collect();
        if !more.is_empty() {
            shown.push_str(&format!(" ({})", more.join(", ")));
        }
    }
    shown
}

fn statistics(tables: &[&TableDiff<'_>], looks: &Looks) -> Vec<String> {
    let numbers = |heading: &str, number: &dyn Fn(&TableDiff<'_>) -> u64| {
        let cells = tables.iter().map(|diff| grouped(number(diff))).collect();
        Column::new(heading, cells).right()
    };
    let names = tables
        .iter()
        .map(|diff| escape::terminal(&diff.table.short()));
    let mut columns = vec![
        Column::new("table", names.collect()),
        numbers("added", &|diff| diff.added),
        numbers("removed", &|diff| diff.removed),
        numbers("changed", &|diff| diff.changed),
    ];
    if tables.iter().any(|diff| diff.unknown > 0) {
        columns.push(numbers("not known", &|diff| diff.unknown));
    }
    let notes: Vec<String> = tables.iter().map(|diff| note(diff)).collect();
    if notes.iter().any(|note| !note.is_empty()) {
        columns.push(Column::new("", notes).at_least(12));
    }
    table::shrink(&mut columns, looks.width.saturating_sub(2));
    let lines = table::lines(&columns).into_iter();
    lines.map(|line| format!("  {line}")).collect()
}

/// What else there is to say about a table.
fn note(diff: &TableDiff<'_>) -> String {
    if let Some(side) = diff.only {
        return format!("only in {side}");
    }
    let (only_a, only_b) = &diff.columns_only;
    let mut notes = Vec::new();
    for (side, names) in [("a", only_a), ("b", only_b)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| escape::terminal(name)).collect();
            notes.push(format!("only in {side}: {}", names.join(", ")));
        }
    }
    notes.join("; ")
}

fn rows(out: &mut dyn Write, diff: &TableDiff<'_>, looks: &Looks) -> io::Result<()> {
    let total = diff.added + diff.removed + diff.changed;
    if looks.sample == Some(0) {
        return Ok(());
    }
    writeln!(out, "{}", escape::terminal(&diff.table.short()))?;
    let whole = diff.key.len() == diff.pairs.len();
    let mut shown = 0u64;
    for row in diff.rows().take(looks.sample.unwrap_or(usize::MAX)) {
        shown += 1;
        for line in lines(&row, whole, looks) {
            writeln!(out, "{line}")?;
        }
    }
    if shown < total {
        writeln!(out, "  … and {} more: --sample all", grouped(total - shown))?;
    }
    writeln!(out)
}

/// A row: its mark, its key, and what is in it or what became of it.
fn lines(row: &Row, whole: bool, looks: &Looks) -> Vec<String> {
    let (mark, color) = match row.change {
        Change::Added => ('+', 32),
        Change::Removed => ('-', 31),
        Change::Changed => ('~', 33),
    };
    let mark = if looks.color {
        format!("\u{1b}[{color}m{mark}\u{1b}[0m")
    } else {
        mark.to_string()
    };
    let room = looks.width.saturating_sub(4).max(20);
    let key = pairs(&row.key, &Map::new());
    let (Some(a), Some(b)) = (&row.a, &row.b) else {
        let values = row.a.as_ref().or(row.b.as_ref());
        let mut text = key;
        if let Some(values) = values.filter(|_| !whole) {
            let rest = pairs(values, &row.key);
            if !rest.is_empty() {
                text = format!("{text}: {rest}");
            }
        }
        return vec![format!("  {mark} {}", table::cut(&text, room))];
    };
    let mut steps: Vec<String> = a
        .iter()
        .map(|(name, old)| {
            let new = b.get(name).map_or_else(String::new, value);
            format!("{} {} -> {new}", escape::terminal(name), value(old))
        })
        .collect();
    if !row.not_known.is_empty() {
        let names: Vec<String> = row
            .not_known
            .iter()
            .map(|name| escape::terminal(name))
            .collect();
        steps.push(format!("not known: {}", names.join(", ")));
    }
    let one = format!("{key}: {}", steps.join(", "));
    if table::width(&one) <= room {
        return vec![format!("  {mark} {one}")];
    }
    let mut lines = vec![format!("  {mark} {}", table::cut(&key, room))];
    let more = steps.iter().map(|step| {
        let step = table::cut(step, room.saturating_sub(2));
        format!("      {step}")
    });
    lines.extend(more);
    lines
}

/// `id = 4410, status = paid`, without what `beyond` holds already.
fn pairs(values: &Map<String, Value>, beyond: &Map<String, Value>) -> String {
    let one =
        |(name, cell): (&String, &Value)| format!("{} = {}", escape::terminal(name), value(cell));
    let wanted = values
        .iter()
        .filter(|(name, _)| !beyond.contains_key(*name));
    wanted.map(one).collect::<Vec<_>>().join(", ")
}
