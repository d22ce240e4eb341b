//! What the logical decoding plugin wal2json writes, in its two format versions.
//!
//! Version 1 has one object a transaction (`{"xid": …, "nextlsn": …, "timestamp": …, "change": […]}`), version 2 a line each for
//! begin, change, message and commit (`{"action": "I", …}`). Values are JSON numbers, booleans and null, or Postgres' text in a string;
//! bytea is hexadecimal without `\x`. A column that is left out (an unchanged TOAST value, a column outside the replica identity) is
//! not known; only the old row of a table without a primary key is whole, without its NULLs. Source: <https://github.com/eulerto/wal2json>.

use serde_json::value::RawValue;

use super::line::{Key, Place, RawObject, field, optional, push_cell, shorten, table_of};
use super::pending::{At, Pending, checked_lsn};
use crate::change::{Cell, Change, Image, Op};
use crate::diagnostic::Diagnostic;
use crate::schema::value::ValueError;
use crate::schema::{DataType, Schema, Table, TableName, value};

/// Reads a transaction of format version 1.
pub(super) fn version_1(
    object: &RawObject<'_>,
    place: Place<'_>,
    at: At<'_>,
    schema: &Schema,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Pending, Diagnostic> {
    let mut read = Pending::new(at);
    read.meta.xid = optional(&place, object, "xid", "a whole number")?;
    read.meta.lsn = optional(&place, object, "nextlsn", "a text")?
        .map(|text| checked_lsn(&place, "nextlsn", text))
        .transpose()?;
    read.meta.time = time(&place, object)?;
    let changes: Vec<RawObject<'_>> =
        optional(&place, object, "change", "a list of changes")?.unwrap_or_default();
    for (index, record) in changes.iter().enumerate() {
        let kind: Key<'_> = required(&place, record, "kind", index + 1)?;
        if kind.0 == "message" {
            message(record, &place, &mut read, warnings)?;
            continue;
        }
        let op = match &*kind.0 {
            "insert" => Op::Insert,
            "update" => Op::Update,
            "delete" => Op::Delete,
            "truncate" => Op::Truncate,
            other => {
                let message = format!("change {}: unknown kind `{}`", index + 1, shorten(other));
                return Err(place.error(message));
            }
        };
        let change = change_1(&place, record, index + 1, op, schema)?;
        read.push(at, change);
    }
    Ok(read)
}

fn required<'a, T: serde::Deserialize<'a>>(
    place: &Place<'_>,
    record: &RawObject<'a>,
    name: &str,
    ordinal: usize,
) -> Result<T, Diagnostic> {
    optional(place, record, name, "a text")?
        .ok_or_else(|| place.error(format!("change {ordinal} has no `{name}`")))
}

fn time(place: &Place<'_>, object: &RawObject<'_>) -> Result<Option<i64>, Diagnostic> {
    let text: Option<Key<'_>> = optional(place, object, "timestamp", "a text")?;
    let wrong = || place.error("`timestamp` is no Postgres timestamp");
    text.map(|text| value::parse_timestamp(&text.0).ok_or_else(wrong))
        .transpose()
}

fn table(
    place: &Place<'_>,
    record: &RawObject<'_>,
    ordinal: usize,
    schema: &Schema,
) -> Result<usize, Diagnostic> {
    let name: Key<'_> = required(place, record, "table", ordinal)?;
    let own: Option<Key<'_>> = optional(place, record, "schema", "a text")?;
    let own = own.map_or("public".to_owned(), |own| own.0.into_owned());
    table_of(place, schema, &TableName::new(own, name.0))
}

fn change_1(
    place: &Place<'_>,
    record: &RawObject<'_>,
    ordinal: usize,
    op: Op,
    schema: &Schema,
) -> Result<Change, Diagnostic> {
    let index = table(place, record, ordinal, schema)?;
    let declared = &schema.tables[index];
    let after = match op {
        Op::Insert | Op::Update => Some(image_1(place, declared, record, "column")?),
        Op::Delete | Op::Truncate => None,
    };
    let old: Option<RawObject<'_>> = optional(place, record, "oldkeys", "a JSON object")?;
    let before = match &old {
        Some(old) if op != Op::Insert => Some(image_1(place, declared, old, "key")?),
        _ => None,
    };
    finish(place, declared, index, op, before, after)
}

/// The image in `columnnames` and `columnvalues`, or `keynames` and `keyvalues`.
fn image_1(
    place: &Place<'_>,
    table: &Table,
    record: &RawObject<'_>,
    prefix: &str,
) -> Result<Image, Diagnostic> {
    let (names_key, values_key) = (format!("{prefix}names"), format!("{prefix}values"));
    let names: Vec<Key<'_>> =
        optional(place, record, &names_key, "a list of names")?.unwrap_or_default();
    let values: Vec<&RawValue> =
        optional(place, record, &values_key, "a list of values")?.unwrap_or_default();
    if names.len() != values.len() {
        return Err(place.error(format!(
            "table {}: {} `{names_key}` and {} `{values_key}`",
            table.name.short(),
            names.len(),
            values.len()
        )));
    }
    let mut image = Image::with_capacity(names.len());
    for (name, raw) in names.iter().zip(values) {
        push_cell(place, table, &values_key, &mut image, &name.0, raw, |at| {
            cell(&table.columns[at].data_type, raw)
        })?;
    }
    Ok(image)
}

fn cell(data_type: &DataType, raw: &RawValue) -> Result<Cell, ValueError> {
    if *data_type == DataType::Bytea
        && let Ok(Key(hex)) = serde_json::from_str(raw.get())
    {
        let text = if hex.starts_with("\\x") {
            hex
        } else {
            format!("\\x{hex}").into()
        };
        return value::parse_text(data_type, &text);
    }
    value::parse_json(data_type, raw.get())
}

/// A change, if it says which row it means.
fn finish(
    place: &Place<'_>,
    declared: &Table,
    table: usize,
    op: Op,
    mut before: Option<Image>,
    after: Option<Image>,
) -> Result<Change, Diagnostic> {
    if let Some(before) = before.as_mut().filter(|_| declared.primary_key.is_empty()) {
        // The old row is there as a whole, but the plugin leaves its NULLs out.
        for column in 0..declared.columns.len() {
            if !before.iter().any(|(named, _)| *named == column) {
                before.push((column, Cell::Null));
            }
        }
    }
    if op == Op::Delete && before.as_ref().is_none_or(Vec::is_empty) {
        let message = format!(
            "table {}: a delete that does not say which row",
            declared.name.short()
        );
        let hint =
            "the table has no replica identity: give it a primary key, or REPLICA IDENTITY FULL";
        return Err(place.error(message).with_hint(hint));
    }
    Ok(Change {
        table,
        op,
        key: None,
        before,
        after,
    })
}

fn message(
    record: &RawObject<'_>,
    place: &Place<'_>,
    read: &mut Pending,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let transactional: Option<bool> = optional(place, record, "transactional", "true or false")?;
    let prefix: Option<Key<'_>> = optional(place, record, "prefix", "a text")?;
    let content: Option<Key<'_>> = optional(place, record, "content", "a text")?;
    if let (true, Some(prefix), Some(content)) = (transactional.unwrap_or(true), prefix, content) {
        read.message(place, &prefix.0, &content.0, warnings);
    }
    Ok(())
}

/// Reads a line of format version 2; gives the transaction that it ends.
pub(super) fn version_2(
    object: &RawObject<'_>,
    place: Place<'_>,
    at: At<'_>,
    schema: &Schema,
    open: &mut Option<Pending>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<Pending>, Diagnostic> {
    let action: Option<Key<'_>> = optional(&place, object, "action", "a text")?;
    let action = action.ok_or_else(|| place.error("this line has no `action`"))?;
    let op = match &*action.0 {
        "B" => {
            return match open {
                Some(_) => Err(place
                    .error("a transaction begins within another")
                    .with_hint("the commit (`\"action\": \"C\"`) of the one before is missing")),
                None => {
                    let mut read = Pending::new(at);
                    attributes(&place, object, &mut read)?;
                    *open = Some(read);
                    Ok(None)
                }
            };
        }
        "C" => {
            let mut read = open.take().ok_or_else(|| outside(&place))?;
            attributes(&place, object, &mut read)?;
            return Ok(Some(read));
        }
        "M" => {
            // Messages outside of transactions say nothing about one.
            if let Some(read) = open {
                message(object, &place, read, warnings)?;
            }
            return Ok(None);
        }
        "I" => Op::Insert,
        "U" => Op::Update,
        "D" => Op::Delete,
        "T" => Op::Truncate,
        other => {
            let message = format!("unknown action `{}`", shorten(other));
            return Err(place
                .error(message)
                .with_hint("action is B, C, I, U, D, T or M"));
        }
    };
    let read = open.as_mut().ok_or_else(|| outside(&place))?;
    same_xid(&place, object, read)?;
    let index = table(&place, object, read.changes.len() + 1, schema)?;
    let declared = &schema.tables[index];
    let image = |name: &str, wanted: bool| match object.get(name).filter(|_| wanted) {
        Some(raw) => image_2(&place, declared, name, raw).map(Some),
        None => Ok(None),
    };
    let after = image("columns", matches!(op, Op::Insert | Op::Update))?;
    let before = image("identity", matches!(op, Op::Update | Op::Delete))?;
    let change = finish(&place, declared, index, op, before, after.or(empty(op)))?;
    read.push(at, change);
    Ok(None)
}

/// An insert or update that names no column has an image all the same.
fn empty(op: Op) -> Option<Image> {
    matches!(op, Op::Insert | Op::Update).then(Image::new)
}

fn outside(place: &Place<'_>) -> Diagnostic {
    place
        .error("this line stands outside of a transaction")
        .with_hint(
            "record with the option include-transaction, and from the beginning of a transaction",
        )
}

fn same_xid(
    place: &Place<'_>,
    object: &RawObject<'_>,
    read: &mut Pending,
) -> Result<(), Diagnostic> {
    let xid: Option<u64> = optional(place, object, "xid", "a whole number")?;
    match (read.meta.xid, xid) {
        (Some(open), Some(xid)) if open != xid => Err(place
            .error(format!(
                "a line of transaction {xid} within transaction {open}"
            ))
            .with_hint("the lines of a transaction stand together")),
        (None, Some(xid)) => {
            read.meta.xid = Some(xid);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What the begin and the commit say about the transaction; `lsn` is the start of the commit record.
fn attributes(
    place: &Place<'_>,
    object: &RawObject<'_>,
    read: &mut Pending,
) -> Result<(), Diagnostic> {
    same_xid(place, object, read)?;
    for name in ["lsn", "nextlsn"] {
        if read.meta.lsn.is_none() {
            read.meta.lsn = optional(place, object, name, "a text")?
                .map(|text| checked_lsn(place, name, text))
                .transpose()?;
        }
    }
    if let Some(time) = time(place, object)? {
        read.meta.time = Some(time);
    }
    Ok(())
}

fn image_2(
    place: &Place<'_>,
    table: &Table,
    part: &str,
    raw: &RawValue,
) -> Result<Image, Diagnostic> {
    let columns: Vec<RawObject<'_>> = field(place, part, "a list of columns", raw)?;
    let mut image = Image::with_capacity(columns.len());
    for column in &columns {
        let name: Option<Key<'_>> = optional(place, column, "name", "a text")?;
        let (Some(name), Some(raw)) = (name, column.raw("value")) else {
            let short = table.name.short();
            let message = format!("table {short}: a column in `{part}` without `name` or `value`");
            return Err(place.at(raw, message));
        };
        push_cell(place, table, part, &mut image, &name.0, raw, |at| {
            cell(&table.columns[at].data_type, raw)
        })?;
    }
    Ok(image)
}
