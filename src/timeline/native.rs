//! Firstbad's own format: one transaction a line (CONTRACT section 2).

use serde_json::value::RawValue;

use super::line::{Place, RawObject, field, parse_lsn, push_cell, shorten, table_of};
use crate::change::{Change, Commit, Image, Op, Transaction, TransactionMeta};
use crate::diagnostic::{Diagnostic, Level, nearest};
use crate::schema::{Schema, Table, TableName, value};

/// Reads one line.
pub(super) fn transaction(
    object: &RawObject<'_>,
    mut place: Place<'_>,
    schema: &Schema,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Transaction, Diagnostic> {
    place.commit = object.raw("commit").and_then(|raw| raw.get().parse().ok());
    let mut meta = TransactionMeta::default();
    let mut changes: Option<Vec<RawObject<'_>>> = None;
    let mut seen: Vec<&str> = Vec::new();
    for (key, raw) in &object.0 {
        if seen.contains(&&**key) {
            return Err(place.error(format!("`{key}` is there twice")));
        }
        seen.push(key);
        match &**key {
            "commit" => {}
            "lsn" => meta.lsn = lsn(&place, raw)?,
            "xid" => meta.xid = field(&place, "xid", "a whole number", raw)?,
            "time" => meta.time = time(&place, raw)?,
            "context" => meta.context = field(&place, "context", "a JSON object", raw)?,
            "changes" => changes = Some(field(&place, "changes", "a list of changes", raw)?),
            other => unknown_key(
                &place,
                other,
                &["commit", "lsn", "xid", "time", "context", "changes"],
                warnings,
            ),
        }
    }
    let Some(commit) = place.commit else {
        let message = "this line has no `commit`: it is no transaction";
        return Err(place
            .error(message)
            .with_hint("a transaction is `{\"commit\": 1, \"changes\": [...]}` on one line"));
    };
    let commit = Commit::try_from(commit)
        .map_err(|_| place.error("the number of this commit is too large"))?;
    let changes = changes.ok_or_else(|| place.error("`changes` is missing"))?;
    let changes = changes
        .iter()
        .enumerate()
        .map(|(at, record)| change(&place, at + 1, record, schema, warnings))
        .collect::<Result<_, _>>()?;
    Ok(Transaction {
        commit,
        meta,
        changes,
    })
}

fn lsn(place: &Place<'_>, raw: &RawValue) -> Result<Option<String>, Diagnostic> {
    let text: Option<String> = field(place, "lsn", "a text", raw)?;
    match text {
        Some(text) if parse_lsn(&text).is_none() => {
            Err(place.error("`lsn` is no LSN such as 0/16B3748"))
        }
        text => Ok(text),
    }
}

fn time(place: &Place<'_>, raw: &RawValue) -> Result<Option<i64>, Diagnostic> {
    let text: Option<String> = field(place, "time", "a text", raw)?;
    let wrong = || place.error("`time` is neither RFC 3339 nor a Postgres timestamp");
    text.map(|text| value::parse_timestamp(&text).ok_or_else(wrong))
        .transpose()
}

/// A key that means nothing is probably misspelt; said once a file and key.
fn unknown_key(place: &Place<'_>, key: &str, known: &[&str], warnings: &mut Vec<Diagnostic>) {
    let message = format!("unknown key `{key}` is not read");
    if warnings
        .iter()
        .any(|have| have.message == message && have.file == place.file)
        || warnings.len() > 100
    {
        return;
    }
    let warning = Diagnostic::at(place.file, place.line, 0, message).with_level(Level::Warning);
    warnings.push(match nearest(key, known.iter().copied()) {
        Some(near) => warning.with_hint(format!("did you mean `{near}`?")),
        None => warning,
    });
}

fn change(
    place: &Place<'_>,
    ordinal: usize,
    record: &RawObject<'_>,
    schema: &Schema,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Change, Diagnostic> {
    for (key, _) in &record.0 {
        let known = ["table", "op", "key", "before", "after"];
        if !known.contains(&&**key) {
            unknown_key(place, key, &known, warnings);
        }
    }
    let text = |name: &str| -> Result<String, Diagnostic> {
        let raw = record
            .raw(name)
            .ok_or_else(|| place.error(format!("change {ordinal} has no `{name}`")))?;
        field(place, name, "a text", raw)
    };
    let name = TableName::parse(&text("table")?);
    let table_index = table_of(place, schema, &name)?;
    let table = &schema.tables[table_index];
    let op = match text("op")?.as_str() {
        "insert" => Op::Insert,
        "update" => Op::Update,
        "delete" => Op::Delete,
        "truncate" => Op::Truncate,
        other => {
            let diagnostic = place.error(format!(
                "table {}: unknown op `{}`",
                name.short(),
                shorten(other)
            ));
            return Err(diagnostic.with_hint("op is insert, update, delete or truncate"));
        }
    };
    let image = |name: &str| -> Result<Option<Image>, Diagnostic> {
        match record.get(name) {
            None => Ok(None),
            Some(raw) => {
                let row: RawObject<'_> = field(place, name, "a JSON object of columns", raw)?;
                image_of(place, table, name, &row).map(Some)
            }
        }
    };
    let change = Change {
        table: table_index,
        op,
        key: image("key")?,
        before: image("before")?,
        after: image("after")?,
    };
    let wrong = match op {
        Op::Insert if change.after.is_none() => Some("an insert needs `after`"),
        Op::Update if change.after.is_none() => Some("an update needs `after`"),
        Op::Delete if change.before.is_none() && change.key.is_none() => {
            Some("a delete needs `key` or `before`")
        }
        _ => None,
    };
    match wrong {
        Some(wrong) => Err(place.error(format!("table {}: {wrong}", name.short()))),
        None => Ok(change),
    }
}

fn image_of(
    place: &Place<'_>,
    table: &Table,
    part: &str,
    row: &RawObject<'_>,
) -> Result<Image, Diagnostic> {
    let mut image: Image = Vec::with_capacity(row.0.len());
    for (name, raw) in &row.0 {
        push_cell(place, table, part, &mut image, name, raw, |at| {
            value::parse_json(&table.columns[at].data_type, raw.get())
        })?;
    }
    Ok(image)
}
