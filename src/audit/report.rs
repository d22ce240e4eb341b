//! What an audit found, as text and as `firstbad/audit@1`.

use serde_json::{Map, Value, json};

use super::{Audited, Difference};
use crate::report::{VALUE_WIDTH_MAX, counted, grouped, pair, position_json, safe_json, step};

/// How many rows that differ.
pub fn differ(tables: &[Audited]) -> u64 {
    tables.iter().map(|table| table.differ).sum()
}

/// For people: a line a table, then the rows that differ, as many as `sample` says.
pub fn text(tables: &[Audited], sample: Option<usize>) -> String {
    let mut out = String::new();
    for audited in tables {
        let name = crate::escape::terminal(&audited.table.short());
        let rows = counted(audited.rows, "row");
        let lsn = audited
            .at
            .meta
            .lsn
            .as_deref()
            .unwrap_or("an unknown position");
        let verdict = match audited.differ {
            0 => "as the log says".to_owned(),
            1 => "1 differs, and no write explains it".to_owned(),
            some => format!("{} differ, and no write explains them", grouped(some)),
        };
        out += &format!("{name}: {rows} at {lsn}: {verdict}\n");
        for (column, reason) in &audited.passed_over {
            let column = crate::escape::terminal(column);
            out += &format!("  column {column} was not compared: {reason}\n");
        }
        if audited.not_known > 0 {
            let rows = counted(audited.not_known, "row");
            out += &format!("  {rows} with values that the store does not know\n");
        }
        let shown = sample.unwrap_or(usize::MAX);
        for difference in audited.differences.iter().take(shown) {
            out += &line(difference);
        }
        let left = audited.differ.saturating_sub(shown as u64);
        if left > 0 {
            out += &format!("  and {} more\n", grouped(left));
        }
    }
    let found = differ(tables);
    out += &match found {
        0 => format!(
            "{}: nothing that no write explains\n",
            counted(tables.len() as u64, "table")
        ),
        some => format!("{} changed outside the log\n", counted(some, "row")),
    };
    out
}

fn cells(map: &Map<String, Value>) -> String {
    let cells: Vec<String> = map.iter().map(|(name, value)| pair(name, value)).collect();
    cells.join(", ")
}

fn line(difference: &Difference) -> String {
    let key = cells(&difference.key);
    match (&difference.log, &difference.table) {
        (Some(log), Some(table)) => {
            let step = |(name, value): (&String, &Value)| {
                step(name, log.get(name), value, VALUE_WIDTH_MAX)
            };
            let steps: Vec<String> = table.iter().map(step).collect();
            format!("  {key}: {} (log → table)\n", steps.join(", "))
        }
        (Some(log), None) => format!("  {key}: not in the table; the log says {}\n", cells(log)),
        (None, table) => {
            let table = table.as_ref().map(cells).unwrap_or_default();
            format!("  {key}: not in the log; the table says {table}\n")
        }
    }
}

/// For programs.
pub fn json(source: &str, store: &str, tables: &[Audited], sample: Option<usize>) -> String {
    let table = |audited: &Audited| {
        let passed_over = audited.passed_over.iter();
        let passed_over = passed_over.map(|(column, why)| json!({"column": column, "reason": why}));
        let rows = audited
            .differences
            .iter()
            .take(sample.unwrap_or(usize::MAX));
        let rows = rows.map(|row| {
            let mut columns: Vec<&String> = Vec::new();
            if let (Some(_), Some(table)) = (&row.log, &row.table) {
                columns.extend(table.keys());
            }
            json!({
                "what": row.what,
                "key": row.key,
                "columns": columns,
                "log": row.log,
                "table": row.table,
            })
        });
        json!({
            "table": audited.table.to_string(),
            "rows": audited.rows,
            "at": position_json(&audited.at),
            "later_commits": audited.later,
            "passed_over": passed_over.collect::<Vec<Value>>(),
            "not_known": audited.not_known,
            "differ": audited.differ,
            "differences": rows.collect::<Vec<Value>>(),
        })
    };
    let out = json!({
        "schema": "firstbad/audit@1",
        "source": source,
        "store": store,
        "differ": differ(tables),
        "tables": tables.iter().map(table).collect::<Vec<Value>>(),
    });
    let text = serde_json::to_string_pretty(&out).expect("a JSON value can always be written");
    safe_json(&text) + "\n"
}
