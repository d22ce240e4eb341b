//! Firstbad's own format: one transaction a line (CONTRACT section 2).

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::change::{Change, Commit, Image, Op, Transaction, TransactionMeta};
use crate::diagnostic::{Diagnostic, Level, nearest};
use crate::schema::{Schema, Table, TableName, value};

/// A JSON object as it stands: keys and raw values in order, repetitions included. Values stay text until their column's type is
/// known, so none passes through a double.
struct RawObject<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    entries.push((key.0, map.next_value::<&'de RawValue>()?));
                }
                Ok(RawObject(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Where a mistake is.
struct Place<'a> {
    file: &'a Path,
    line: usize,
    commit: Option<u64>,
}

impl Place<'_> {
    fn error(&self, message: impl fmt::Display) -> Diagnostic {
        let message = match self.commit {
            Some(commit) => format!("commit {commit}: {message}"),
            None => message.to_string(),
        };
        Diagnostic::at(self.file, self.line, 0, message)
    }

    fn json(&self, error: &serde_json::Error) -> Diagnostic {
        // serde_json's own text ends with a position inside the line (which is its line 1) and may quote a value.
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "the line ends in the middle of a JSON value",
            serde_json::error::Category::Data => "this is not the JSON of a transaction",
            _ => "this is not valid JSON",
        };
        Diagnostic {
            column: error.column(),
            ..self.error(kind)
        }
    }
}

/// Reads one line.
pub(super) fn transaction(
    text: &str,
    file: &Path,
    line: usize,
    schema: &Schema,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Transaction, Diagnostic> {
    let mut place = Place {
        file,
        line,
        commit: None,
    };
    let object: RawObject<'_> = serde_json::from_str(text).map_err(|error| place.json(&error))?;
    place.commit = object
        .0
        .iter()
        .find(|(key, _)| key == "commit")
        .and_then(|(_, raw)| raw.get().parse().ok());
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

fn field<'a, T: Deserialize<'a>>(
    place: &Place<'_>,
    name: &str,
    expected: &str,
    raw: &'a RawValue,
) -> Result<T, Diagnostic> {
    serde_json::from_str(raw.get()).map_err(|_| place.error(format!("`{name}` is not {expected}")))
}

fn lsn(place: &Place<'_>, raw: &RawValue) -> Result<Option<String>, Diagnostic> {
    let text: Option<String> = field(place, "lsn", "a text", raw)?;
    match text {
        Some(text) if !is_lsn(&text) => Err(place.error("`lsn` is no LSN such as 0/16B3748")),
        text => Ok(text),
    }
}

/// Two hexadecimal numbers of at most 32 bits with a slash between them.
fn is_lsn(text: &str) -> bool {
    let hex = |part: &str| {
        !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    text.split_once('/')
        .is_some_and(|(high, low)| hex(high) && hex(low))
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
    let get = |name: &str| {
        record
            .0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, raw)| *raw)
    };
    for (key, _) in &record.0 {
        let known = ["table", "op", "key", "before", "after"];
        if !known.contains(&&**key) {
            unknown_key(place, key, &known, warnings);
        }
    }
    let text = |name: &str| -> Result<String, Diagnostic> {
        let raw =
            get(name).ok_or_else(|| place.error(format!("change {ordinal} has no `{name}`")))?;
        field(place, name, "a text", raw)
    };
    let name = TableName::parse(&text("table")?);
    let table_index = schema
        .table_index(&name)
        .ok_or_else(|| unknown_table(place, &name, schema))?;
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
        match get(name).filter(|raw| raw.get() != "null") {
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

fn unknown_table(place: &Place<'_>, name: &TableName, schema: &Schema) -> Diagnostic {
    let known: Vec<String> = schema
        .tables
        .iter()
        .map(|table| table.name.short())
        .collect();
    let diagnostic = place.error(format!("unknown table `{}`", shorten(&name.short())));
    match nearest(&name.short(), known.iter().map(String::as_str)) {
        Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
        None => diagnostic.with_hint("add its CREATE TABLE to schema.sql"),
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
        let short = table.name.short();
        let Some(at) = table.column_index(name) else {
            let diagnostic = place.error(format!(
                "table {short}: unknown column `{}` in `{part}`",
                shorten(name)
            ));
            let known = table.columns.iter().map(|column| column.name.as_str());
            return Err(match nearest(name, known) {
                Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
                None => diagnostic.with_hint("schema.sql does not have it"),
            });
        };
        if image.iter().any(|(have, _)| *have == at) {
            return Err(place.error(format!(
                "table {short}: column `{name}` is there twice in `{part}`"
            )));
        }
        let cell = value::parse_json(&table.columns[at].data_type, raw.get()).map_err(|error| {
            place.error(format!(
                "table {short}: column `{name}` in `{part}`: {error}"
            ))
        })?;
        image.push((at, cell));
    }
    Ok(image)
}

/// A foreign name in a message has a limit.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
