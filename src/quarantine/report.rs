//! A plan and what became of it, as text, as `firstbad/quarantine@1` and as SQL.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::server::rows_json;
use super::{Passed, Plan, Planned, Reason, Released};
use crate::report::{counted, grouped, pair, safe_json, shown_cut};
use crate::schema::TableName;

/// The most rows and keys that are shown to people, each.
const SHOWN: usize = 50;
/// The most columns of a row that are shown to people.
const COLUMNS_SHOWN: usize = 8;

/// What is told of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What would be done.
    Plan,
    /// What was done.
    Applied,
}

/// For people.
pub fn text(plan: &Plan, told: Told) -> String {
    let mut out = headline(plan, told);
    let mut tables: BTreeMap<&TableName, Vec<&Planned>> = BTreeMap::new();
    for row in plan.rows.iter().take(SHOWN) {
        tables.entry(&row.table).or_default().push(row);
    }
    for (table, rows) in tables {
        let _ = writeln!(out, "\n{}", shown_cut(&table.short(), 120));
        for row in rows {
            out += &row_line(row);
        }
    }
    more(&mut out, plan.rows.len());
    let passed: Vec<&Passed> = plan.passed_over().collect();
    if !passed.is_empty() {
        out += "\npassed over\n";
    }
    for one in passed.iter().take(SHOWN) {
        let table = one.table.as_ref().map(TableName::short);
        let table = table.map_or(String::new(), |table| {
            format!("{} ", shown_cut(&table, 120))
        });
        let key = match one.key.is_empty() {
            true => shown_cut(&one.rule, 100),
            false => cells(&one.key, usize::MAX),
        };
        let _ = writeln!(out, "  {table}{key}: {}", one.reason.text());
    }
    more(&mut out, passed.len());
    if plan.incomplete {
        out += "\nThe incident has more keys than are kept: their rows are not known.\n";
    }
    if told == Told::Plan {
        out += "\nNothing was changed.";
        out += match plan.compared {
            true => "\n",
            false => {
                " The rows are as the store knows them: name the database to compare them with it.\n"
            }
        };
    }
    out
}

fn headline(plan: &Plan, told: Told) -> String {
    let already = plan.rows.len() as u64 - plan.new_rows();
    let rows = counted(plan.new_rows(), "row");
    let are = if plan.new_rows() == 1 { "is" } else { "are" };
    let mut out = match told {
        Told::Plan => format!("{}: {rows} would be set apart", plan.incident),
        Told::Applied => format!("{}: {rows} {are} set apart", plan.incident),
    };
    if already > 0 {
        let _ = write!(out, ", {} already", grouped(already));
    }
    let passed = plan.passed_over().count() as u64;
    if passed > 0 {
        let _ = write!(out, ", {} passed over", grouped(passed));
    }
    let healed = plan.passed.len() as u64 - passed;
    if healed > 0 {
        let _ = write!(out, ", {} good again", grouped(healed));
    }
    let _ = writeln!(out, " (rows as of #{})", plan.head);
    out
}

fn row_line(row: &Planned) -> String {
    let since = match row.onset {
        0 => "bad before".to_owned(),
        onset => format!("since #{onset}"),
    };
    let mut out = format!("  {}  {since}", cells(&row.shown_key, usize::MAX));
    if row.rules.len() > 1 {
        let _ = write!(out, "  {}", shown_cut(&row.rules.join(", "), 120));
    }
    if !row.shown.is_empty() {
        let _ = write!(out, "  {}", cells(&row.shown, COLUMNS_SHOWN));
    }
    if row.already {
        out += "  (already)";
    }
    out + "\n"
}

fn cells(map: &Map<String, Value>, most: usize) -> String {
    let shown = map.iter().take(most).map(|(name, value)| pair(name, value));
    let mut cells: Vec<String> = shown.collect();
    if map.len() > most {
        cells.push("…".into());
    }
    cells.join(", ")
}

fn more(out: &mut String, all: usize) {
    if all > SHOWN {
        let _ = writeln!(out, "  and {} more", grouped((all - SHOWN) as u64));
    }
}

/// What was let go, for people.
pub fn released_text(what: &str, released: &[Released]) -> String {
    let rows: u64 = released.iter().map(|one| one.rows).sum();
    if rows == 0 {
        return format!("{what}: nothing was set apart\n");
    }
    let of = |one: &Released| {
        let table = shown_cut(&one.table.short(), 120);
        format!("{} of {table}", grouped(one.rows))
    };
    let tables: Vec<String> = released.iter().map(of).collect();
    let are = if rows == 1 { "is" } else { "are" };
    let rows = counted(rows, "row");
    format!("{what}: {rows} {are} released: {}\n", tables.join(", "))
}

fn document(verb: &str, incident: Option<&str>, store: &str) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("schema".into(), "firstbad/quarantine@1".into());
    out.insert("verb".into(), verb.into());
    out.insert("incident".into(), incident.into());
    out.insert("store".into(), store.into());
    out
}

fn printed(out: Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(&Value::Object(out));
    safe_json(&text.expect("a JSON value can always be written")) + "\n"
}

/// For programs.
pub fn json(plan: &Plan, told: Told, store: &str) -> String {
    let verb = match told {
        Told::Plan => "plan",
        Told::Applied => "apply",
    };
    let mut out = document(verb, Some(&plan.incident), store);
    out.insert("at".into(), json!({"commit": plan.head}));
    out.insert("compared".into(), plan.compared.into());
    out.insert("incomplete".into(), plan.incomplete.into());
    out.insert("set_apart".into(), plan.new_rows().into());
    let already = plan.rows.len() as u64 - plan.new_rows();
    out.insert("already".into(), already.into());
    let row = |row: &Planned| {
        json!({
            "table": row.table.to_string(),
            "key": row.shown_key,
            "rules": row.rules,
            "commit": row.onset,
            "row": row.shown,
            "already": row.already,
        })
    };
    out.insert("rows".into(), plan.rows.iter().map(row).collect());
    let passed = |one: &Passed| {
        json!({
            "table": one.table.as_ref().map(ToString::to_string),
            "key": one.key,
            "rule": one.rule,
            "reason": one.reason.as_str(),
        })
    };
    let passed: Vec<Value> = plan.passed.iter().map(passed).collect();
    out.insert("passed_over".into(), passed.into());
    printed(out)
}

/// What was let go, for programs.
pub fn released_json(incident: Option<&str>, store: &str, released: &[Released]) -> String {
    let mut out = document("release", incident, store);
    let rows: u64 = released.iter().map(|one| one.rows).sum();
    out.insert("released".into(), rows.into());
    let table = |one: &Released| json!({"table": one.table.to_string(), "rows": one.rows});
    out.insert("tables".into(), released.iter().map(table).collect());
    printed(out)
}

/// A text as it stands in SQL, whatever the server's settings are.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

/// What `apply` does, as SQL for whoever wants to do it himself. Hidden columns are not compared; a row whose key is hidden is left out.
pub fn sql(plan: &Plan) -> String {
    let rows = counted(plan.rows.len() as u64, "row");
    let mut out = format!("-- {}: {rows} to be set apart\nbegin;\n", plan.incident);
    let mut tables: BTreeMap<&TableName, Vec<Planned>> = BTreeMap::new();
    let mut left_out = 0;
    for row in &plan.rows {
        match without_hidden(row) {
            Some(shown) => tables.entry(&row.table).or_default().push(shown),
            None => left_out += 1,
        }
    }
    for (table, rows) in &tables {
        let rows: Vec<String> = rows_json(rows)
            .iter()
            .map(|row| safe_json(&row.to_string()))
            .collect();
        let words = [
            &plan.store,
            &plan.incident,
            &table.schema,
            &table.name,
            &format!("[{}]", rows.join(",\n ")),
        ];
        let words: Vec<String> = words.iter().map(|word| literal(word)).collect();
        let _ = writeln!(
            out,
            "select place, outcome from firstbad.quarantine_rows({}, true);",
            words.join(", ")
        );
    }
    if left_out > 0 {
        let rows = counted(left_out, "row");
        let _ = writeln!(
            out,
            "-- {rows} left out: the rule hides the key; `firstbad quarantine apply` knows it"
        );
    }
    out + "commit;\n"
}

/// A row without the values that its rules hide; None where its key is one of them.
fn without_hidden(row: &Planned) -> Option<Planned> {
    let is_hidden = |name: &String, shown: &Map<String, Value>, texts: &Map<String, Value>| {
        // What hiding has changed is a mark in the place of a value.
        let mark = shown.get(name).and_then(Value::as_str);
        let is_mark = mark.is_some_and(|mark| mark.starts_with("redacted:"));
        row.hidden.contains(name) || (is_mark && texts.get(name).and_then(Value::as_str) != mark)
    };
    if row
        .key
        .keys()
        .any(|name| is_hidden(name, &row.shown_key, &row.key))
    {
        return None;
    }
    let mut out = row.clone();
    out.image.retain(|name, _| {
        !is_hidden(name, &row.shown, &row.image) && !is_hidden(name, &row.shown_key, &row.image)
    });
    Some(out)
}

/// How many of the keys that are passed over have each reason, in words.
pub(super) fn reasons(plan: &Plan) -> String {
    let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
    for one in plan.passed_over() {
        *counts.entry(one.reason).or_default() += 1;
    }
    let words = counts
        .iter()
        .map(|(reason, count)| format!("{} because {}", grouped(*count), reason.text()));
    words.collect::<Vec<_>>().join(", ")
}
