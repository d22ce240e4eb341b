//! `firstbad/diff@1`, and one object a row. Rows go out as they are made: none is kept.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Row, Side, TableDiff};
use crate::report::{position_json, safe_json};

/// The name of the document's form.
const SCHEMA: &str = "firstbad/diff@1";

fn side(side: &Side<'_>) -> Value {
    json!({"source": side.name, "at": position_json(side.at)})
}

fn line(value: &Value) -> String {
    safe_json(&value.to_string())
}

/// A row as JSON: what the contract names, then what is not known, where something is not.
fn object(row: Row) -> Map<String, Value> {
    let side = |values: Option<Map<String, Value>>| values.map_or(Value::Null, Value::Object);
    let mut out = Map::new();
    out.insert("key".into(), row.key.into());
    out.insert("change".into(), row.change.as_str().into());
    out.insert("a".into(), side(row.a));
    out.insert("b".into(), side(row.b));
    if !row.not_known.is_empty() {
        out.insert("not_known".into(), row.not_known.into());
    }
    out
}

/// Writes the document with up to `sample` rows of each table; None for all.
///
/// # Errors
/// Whatever ends the writing.
pub fn json(
    out: &mut dyn Write,
    (a, b): (&Side<'_>, &Side<'_>),
    tables: &[TableDiff<'_>],
    sample: Option<usize>,
) -> io::Result<()> {
    write!(
        out,
        "{{\"schema\": \"{SCHEMA}\",\n \"a\": {},\n \"b\": {},\n \"tables\": [",
        line(&side(a)),
        line(&side(b))
    )?;
    for (at, diff) in tables.iter().enumerate() {
        let between = if at > 0 { "," } else { "" };
        let name = line(&diff.table.to_string().into());
        write!(
            out,
            "{between}\n  {{\"table\": {name}, \"added\": {}, \"removed\": {}, \"changed\": {}, \"unknown\": {}",
            diff.added, diff.removed, diff.changed, diff.unknown
        )?;
        let (only_a, only_b) = &diff.columns_only;
        write!(
            out,
            ", \"only\": {}, \"key\": {}, \"columns_only\": {}, \"rows\": [",
            line(&diff.only.into()),
            line(&diff.key_names().into()),
            line(&json!({"a": only_a, "b": only_b}))
        )?;
        for (at, row) in diff.rows().take(sample.unwrap_or(usize::MAX)).enumerate() {
            let between = if at > 0 { ",\n    " } else { "\n    " };
            write!(out, "{between}{}", line(&object(row).into()))?;
        }
        out.write_all(b"]}")?;
    }
    let differ = tables.iter().filter(|diff| diff.differs()).count();
    let undecided: u64 = tables.iter().map(|diff| diff.unknown).sum();
    let both = super::fingerprint((a, b), tables).map(|found| found.to_string());
    writeln!(
        out,
        "],\n \"summary\": {{\"tables\": {}, \"differ\": {differ}, \"unknown\": {undecided}, \"fingerprint\": {}}}}}",
        tables.len(),
        line(&both.into())
    )
}

/// Writes one object a row, `table` first.
///
/// # Errors
/// Whatever ends the writing.
pub fn jsonl(
    out: &mut dyn Write,
    tables: &[TableDiff<'_>],
    sample: Option<usize>,
) -> io::Result<()> {
    for diff in tables {
        for row in diff.rows().take(sample.unwrap_or(usize::MAX)) {
            let mut whole = Map::new();
            whole.insert("table".into(), diff.table.to_string().into());
            whole.extend(object(row));
            writeln!(out, "{}", line(&whole.into()))?;
        }
    }
    Ok(())
}
