//! Evidence and spread for people at a terminal.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::bisect::text::change_lines;
use super::super::table::{self, Column};
use super::super::{counted, grouped, pair, shown_cut, step};
use crate::evidence::{Bundle, RowStory};
use crate::schema::value::format_timestamp;
use crate::spread::{Example, Summary};

/// The most rows, later writes and factors that are shown to people.
const ROWS: usize = 10;
const LATER: usize = 10;
const FACTORS: usize = 6;
/// One value of several on a line is cut after so many columns.
const VALUE: usize = 32;

/// The sections that evidence adds to an incident; each begins with an empty line.
pub fn bundle(bundle: &Bundle, width: usize) -> String {
    let mut out = String::new();
    rows(&mut out, bundle, width);
    later(&mut out, bundle, width);
    let common = bundle
        .common
        .iter()
        .filter(|(_, factors)| !factors.is_empty());
    for (rule, factors) in common {
        let _ = writeln!(
            out,
            "\nbad writes of {} have in common",
            shown_cut(rule, 100)
        );
        for factor in factors.iter().take(FACTORS) {
            let text = format!(
                "{}: {} of {} bad, {} of {} good",
                shown_cut(&factor.factor, 100),
                grouped(factor.bad),
                grouped(factor.bad_total),
                grouped(factor.good),
                grouped(factor.good_total)
            );
            lines(&mut out, &text, width);
        }
    }
    out.push('\n');
    out += &spread(&bundle.spread, width);
    out
}

/// A text in lines of a width, indented, those after the first a little more.
fn lines(out: &mut String, text: &str, width: usize) {
    for (at, line) in table::wrap(text, width.saturating_sub(4))
        .iter()
        .enumerate()
    {
        let indent = if at == 0 { 2 } else { 4 };
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

fn short(table: &str) -> String {
    shown_cut(table.strip_prefix("public.").unwrap_or(table), 60)
}

fn pairs(map: &Map<String, Value>) -> String {
    let pairs = map.iter().map(|(name, cell)| pair(name, cell));
    pairs.collect::<Vec<_>>().join(", ")
}

fn rows(out: &mut String, bundle: &Bundle, width: usize) {
    if bundle.rows.is_empty() {
        return;
    }
    *out += "\nwhat became of the rows\n";
    for row in bundle.rows.iter().take(ROWS) {
        lines(out, &row_text(row), width);
    }
    let more = bundle.rows.len().saturating_sub(ROWS) as u64 + bundle.rows_left_off;
    if more > 0 {
        let _ = writeln!(out, "  … and {} more", grouped(more));
    }
}

/// `orders id = 4410, #2: status placed → paid; since then total 99.95 → 0.00`
fn row_text(row: &RowStory) -> String {
    let onset = row
        .onset
        .commit
        .map_or(String::new(), |at| format!(", #{at}"));
    let mut out = format!("{} {}{onset}: ", short(&row.table), pairs(&row.key));
    out += &match (&row.last_good, &row.bad) {
        (Some(good), Some(bad)) => {
            let steps = steps(good, bad, &row.key);
            match steps.is_empty() {
                true => format!("not written itself; {}", beyond_key(bad, &row.key)),
                false => steps,
            }
        }
        (None, Some(bad)) => format!("came as {}", beyond_key(bad, &row.key)),
        (Some(good), None) => format!("went; it was {}", beyond_key(good, &row.key)),
        (None, None) => "was not there".to_owned(),
    };
    match (&row.bad, &row.now) {
        (Some(_), None) => out += "; it is gone now",
        (None, Some(now)) => _ = write!(out, "; now {}", beyond_key(now, &row.key)),
        (Some(bad), Some(now)) => {
            let since = steps(bad, now, &row.key);
            if !since.is_empty() {
                let _ = write!(out, "; since then {since}");
            }
        }
        (None, None) => {}
    }
    if let Some(healed) = row.healed {
        let _ = write!(out, "; healed by #{healed}");
    }
    out
}

/// What is different in two images of a row.
fn steps(old: &Map<String, Value>, new: &Map<String, Value>, key: &Map<String, Value>) -> String {
    let changed = new
        .iter()
        .filter(|(name, cell)| !key.contains_key(*name) && old.get(*name) != Some(*cell));
    let steps: Vec<String> = changed
        .map(|(name, cell)| step(name, old.get(name), cell, VALUE))
        .collect();
    some(steps)
}

fn beyond_key(image: &Map<String, Value>, key: &Map<String, Value>) -> String {
    let cells = image.iter().filter(|(name, _)| !key.contains_key(*name));
    let cells: Vec<String> = cells.map(|(name, cell)| pair(name, cell)).collect();
    match cells.is_empty() {
        true => "its key alone".to_owned(),
        false => some(cells),
    }
}

/// The first of many items on one line.
fn some(items: Vec<String>) -> String {
    const ITEMS: usize = 8;
    let more = items.len().saturating_sub(ITEMS);
    let shown: Vec<String> = items.into_iter().take(ITEMS).collect();
    let more = match more {
        0 => String::new(),
        more => format!(", … and {more} more"),
    };
    shown.join(", ") + &more
}

fn later(out: &mut String, bundle: &Bundle, width: usize) {
    if bundle.later.is_empty() {
        return;
    }
    *out += "\nlater writes of these rows\n";
    for write in bundle.later.iter().take(LATER) {
        let commit = write
            .at
            .commit
            .map_or(String::new(), |at| format!("#{at} "));
        for line in change_lines(&write.change, width.saturating_sub(4 + commit.len())) {
            let _ = writeln!(out, "  {commit}{line}");
        }
    }
    let more = bundle.later.len().saturating_sub(LATER) as u64 + bundle.later_left_off;
    if more > 0 {
        let _ = writeln!(out, "  … and {} more", grouped(more));
    }
}

/// What spread comes to.
pub fn spread(summary: &Summary, width: usize) -> String {
    let bad = counted(summary.starts, "bad row");
    if summary.rows == 0 {
        let mut out = format!(
            "no spread: nothing was written from {bad} up to #{}\n",
            summary.until
        );
        notes(&mut out, summary, width);
        return out;
    }
    let tables = counted(summary.tables.len() as u64, "table");
    let rows = counted(summary.rows, "row");
    let mut out = format!(
        "spread: {rows} in {tables} from {bad}, up to #{}\n",
        summary.until
    );
    let column = |heading: &str, cell: &dyn Fn(&crate::spread::TablePart) -> String| {
        Column::new(heading, summary.tables.iter().map(cell).collect())
    };
    let dated = |(commit, time): (u32, Option<i64>)| {
        let time = time.map_or(String::new(), |time| {
            format!(" {}", format_timestamp(time).replace('T', " "))
        });
        format!("#{commit}{time}")
    };
    let example =
        |part: &crate::spread::TablePart| part.examples.first().map_or(String::new(), path_text);
    let mut columns = [
        column("table", &|part| short(&part.table)).kept(),
        column("rows", &|part| grouped(part.rows)).kept().right(),
        column("first", &|part| dated(part.first)),
        column("last", &|part| dated(part.last)),
        column("for example", &example).at_least(20),
    ];
    table::shrink(&mut columns, width.saturating_sub(2));
    for line in table::lines(&columns) {
        let _ = writeln!(out, "  {line}");
    }
    notes(&mut out, summary, width);
    out
}

/// A derived row on one line: the commit and the path to it.
pub fn spread_row(example: &Example) -> String {
    format!("  #{}  {}\n", example.commit, path_text(example))
}

/// `orders id = 17 ← payments id = 70 → accounts id = 5`: an arrow points to the row that is referred to.
pub(in crate::report) fn path_text(example: &Example) -> String {
    let mut out = String::new();
    for step in &example.path {
        if step.link.is_some() {
            out += if step.up { " → " } else { " ← " };
        }
        let _ = write!(out, "{} {}", short(&step.table), pairs(&step.key));
    }
    out
}

/// What was passed over, and what was left out.
fn notes(out: &mut String, summary: &Summary, width: usize) {
    for (table, key, link, rows) in summary.hubs.iter().take(ROWS) {
        let rows = counted(*rows, "row");
        let link = shown_cut(link, 120);
        let text = format!(
            "{} {} is a hub: {rows} that refer to it ({link}) were written since and are not followed",
            short(table),
            pairs(key)
        );
        lines(out, &text, width);
    }
    let more = summary.hubs.len().saturating_sub(ROWS) as u64;
    if more > 0 {
        let _ = writeln!(out, "  … and {}", counted(more, "more hub"));
    }
    for left in &summary.cut {
        lines(out, left, width);
    }
}
