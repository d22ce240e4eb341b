//! Differences for people: how many in which table, then the rows, as `git diff --stat` and `git diff` have it.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Change, Row, Side, TableDiff};
use crate::escape;
use crate::report::table::{self, Column};
use crate::report::{VALUE_WIDTH_MAX, counted, grouped, paint, pair, position, source_shown, step};

/// As many columns of a terminal are shown of one row.
const ROW_WIDTH_MAX: usize = 600;
/// Colours: marks, headings, names.
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const FAINT: &str = "2";
const BOLD: &str = "1";

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
        for (at, line) in statistics(&differing, looks).iter().enumerate() {
            let line = if at == 0 {
                paint(looks.color, FAINT, line)
            } else {
                line.clone()
            };
            writeln!(out, "  {line}")?;
        }
        writeln!(out)?;
    }
    for diff in differing.iter().filter(|diff| diff.differs()) {
        rows(out, diff, looks)?;
    }
    let differ = tables.iter().filter(|diff| diff.differs()).count();
    let one = differ == 1 || tables.len() == 1;
    let verb = if one { "differs" } else { "differ" };
    let mut summary = format!(
        "{differ} of {} {verb}",
        counted(tables.len() as u64, "table")
    );
    let undecided: u64 = tables.iter().map(|diff| diff.unknown).sum();
    if undecided > 0 {
        let rows = counted(undecided, "row");
        summary.push_str(&format!(
            "; {rows} could not be compared: not all values are known"
        ));
    }
    writeln!(out, "{summary}")?;
    match super::fingerprint((a, b), tables) {
        Some(fingerprint) => writeln!(out, "fingerprint of both: {fingerprint}"),
        None => Ok(()),
    }
}

/// `testdata/shop at #2651, 2026-03-12 15:54:41.423Z`.
fn side(side: &Side<'_>) -> String {
    let mut shown = escape::terminal(&source_shown(side.name));
    if let Some(position) = position(side.at) {
        shown.push_str(&format!(" at {position}"));
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
    table::lines(&columns)
}

/// What else there is to say about a table.
fn note(diff: &TableDiff<'_>) -> String {
    if let Some(side) = diff.only {
        return format!("only in {side}");
    }
    let (only_a, only_b) = &diff.columns_only;
    let mut notes = Vec::new();
    if !diff.keyed {
        notes.push("no key: whole rows".to_owned());
    }
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
    let name = escape::terminal(&diff.table.short());
    writeln!(out, "{}", paint(looks.color, BOLD, &name))?;
    let mut shown = 0u64;
    for row in diff.rows().take(looks.sample.unwrap_or(usize::MAX)) {
        shown += 1;
        for line in lines(&row, looks) {
            writeln!(out, "{line}")?;
        }
    }
    if shown < total {
        writeln!(out, "  … and {} more: --sample all", grouped(total - shown))?;
    }
    writeln!(out)
}

/// A row: its mark, its key, and what is in it or what became of it.
fn lines(row: &Row, looks: &Looks) -> Vec<String> {
    let (mark, color) = match row.change {
        Change::Added => ("+", GREEN),
        Change::Removed => ("-", RED),
        Change::Changed => ("~", YELLOW),
    };
    let room = looks.width.saturating_sub(6).max(34);
    let not_known = (!row.not_known.is_empty()).then(|| {
        let names = row.not_known.iter().map(|name| escape::terminal(name));
        format!("not known: {}", names.collect::<Vec<_>>().join(", "))
    });
    let lines = match (&row.a, &row.b) {
        (Some(a), Some(b)) => changed(row, (a, b), not_known, room),
        (image, other) => {
            let image = image.as_ref().or(other.as_ref());
            whole(row, image, not_known, room)
        }
    };
    let begin = paint(looks.color, color, mark);
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let more = lines.map(|line| format!("      {line}"));
    [format!("  {begin} {first}")]
        .into_iter()
        .chain(more)
        .collect()
}

/// `id = 5521: order_id = 4410, amount = 99.95`; only the key where there is nothing else.
fn whole(
    row: &Row,
    image: Option<&Map<String, Value>>,
    not_known: Option<String>,
    room: usize,
) -> Vec<String> {
    let beyond = image.into_iter().flatten();
    let beyond = beyond.filter(|(name, _)| !row.key.contains_key(*name));
    let items: Vec<String> = beyond
        .map(|(name, cell)| pair(name, cell))
        .chain(not_known)
        .collect();
    if items.is_empty() {
        return table::bounded_flow("", &key(row), room, ROW_WIDTH_MAX);
    }
    let begin = format!("{}:", key(row).join(", "));
    table::bounded_flow(&begin, &items, room, ROW_WIDTH_MAX)
}

/// `id = 4410: status placed → paid` where that fits on a line, else one column a line.
fn changed(
    row: &Row,
    (a, b): (&Map<String, Value>, &Map<String, Value>),
    not_known: Option<String>,
    room: usize,
) -> Vec<String> {
    let steps = |most: &dyn Fn(&str) -> usize| -> Vec<String> {
        let steps = b
            .iter()
            .map(|(name, new)| step(name, a.get(name), new, most(name)));
        steps.chain(not_known.clone()).collect()
    };
    let begin = format!("{}:", key(row).join(", "));
    let one = format!("{begin} {}", steps(&|_| VALUE_WIDTH_MAX).join(", "));
    if table::width(&one) <= room {
        return vec![one];
    }
    // Both values have half of what the name leaves.
    let half = |name: &str| {
        let name = table::width(&escape::terminal(name)).min(60);
        (room.saturating_sub(name + 4) / 2).max(10)
    };
    let mut lines = table::wrap(&begin, room);
    for step in steps(&half) {
        lines.extend(table::wrap(&step, room));
    }
    lines
}

fn key(row: &Row) -> Vec<String> {
    let pairs = row.key.iter();
    pairs.map(|(name, cell)| pair(name, cell)).collect()
}
