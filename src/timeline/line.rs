//! What all forms share: a line as a JSON object whose values keep their text, places in it, and images of rows.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::change::{Cell, Image};
use crate::diagnostic::{Diagnostic, nearest};
use crate::schema::value::ValueError;
use crate::schema::{Schema, Table, TableName};

/// A JSON object as it stands: keys and raw values in order, repetitions included. Values stay text until their column's type is
/// known, so none passes through a double.
pub(super) struct RawObject<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// The value of a key; None when the key is absent or its value is null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.raw(name).filter(|raw| raw.get() != "null")
    }

    /// The value of a key, null included.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, raw)| *raw)
    }
}

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

/// A text of a line, borrowed unless it has escapes.
#[derive(Deserialize)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A line, and where a mistake in it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Path,
    pub(super) line: usize,
    /// The text of the line; columns are counted in it.
    pub(super) text: &'a str,
    /// The transaction that the line belongs to, once it is known.
    pub(super) commit: Option<u64>,
}

impl Place<'_> {
    /// A mistake of the whole line.
    pub(super) fn error(&self, message: impl fmt::Display) -> Diagnostic {
        let message = match self.commit {
            Some(commit) => format!("commit {commit}: {message}"),
            None => message.to_string(),
        };
        Diagnostic::at(self.file, self.line, 0, message)
    }

    /// A mistake of one value of the line.
    pub(super) fn at(&self, raw: &RawValue, message: impl fmt::Display) -> Diagnostic {
        let column = (raw.get().as_ptr() as usize)
            .checked_sub(self.text.as_ptr() as usize)
            .and_then(|offset| self.text.get(..offset))
            .map_or(0, |before| before.chars().count() + 1);
        Diagnostic {
            column,
            length: usize::from(column > 0),
            ..self.error(message)
        }
    }

    /// The line as an object.
    pub(super) fn object<'t>(&self, text: &'t str) -> Result<RawObject<'t>, Diagnostic> {
        serde_json::from_str(text).map_err(|error| self.json(&error))
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
            length: usize::from(error.column() > 0),
            ..self.error(kind)
        }
    }
}

/// Reads a value of a line as something; `expected` says as what.
pub(super) fn field<'a, T: Deserialize<'a>>(
    place: &Place<'_>,
    name: &str,
    expected: &str,
    raw: &'a RawValue,
) -> Result<T, Diagnostic> {
    serde_json::from_str(raw.get())
        .map_err(|_| place.at(raw, format!("`{name}` is not {expected}")))
}

/// Reads a value of an object when it is there and not null.
pub(super) fn optional<'a, T: Deserialize<'a>>(
    place: &Place<'_>,
    object: &RawObject<'a>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, Diagnostic> {
    object
        .get(name)
        .map(|raw| field(place, name, expected, raw))
        .transpose()
}

/// Two hexadecimal numbers of at most 32 bits with a slash between them.
pub(super) fn parse_lsn(text: &str) -> Option<u64> {
    let hex = |part: &str| {
        let fits = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| u64::from_str_radix(part, 16).ok()).flatten()
    };
    let (high, low) = text.split_once('/')?;
    Some(hex(high)? << 32 | hex(low)?)
}

/// The table of a name.
pub(super) fn table_of(
    place: &Place<'_>,
    schema: &Schema,
    name: &TableName,
) -> Result<usize, Diagnostic> {
    schema
        .table_index(name)
        .ok_or_else(|| unknown_table(place, name, schema))
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

/// Adds the value of a column to an image; `part` is the name of the image in messages.
pub(super) fn push_cell(
    place: &Place<'_>,
    table: &Table,
    part: &str,
    image: &mut Image,
    name: &str,
    raw: &RawValue,
    read: impl FnOnce(usize) -> Result<Cell, ValueError>,
) -> Result<(), Diagnostic> {
    let short = table.name.short();
    let Some(at) = table.column_index(name) else {
        let message = format!(
            "table {short}: unknown column `{}` in `{part}`",
            shorten(name)
        );
        let diagnostic = place.at(raw, message);
        let known = table.columns.iter().map(|column| column.name.as_str());
        return Err(match nearest(name, known) {
            Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            None => diagnostic.with_hint("schema.sql does not have it"),
        });
    };
    if image.iter().any(|(have, _)| *have == at) {
        let message = format!("table {short}: column `{name}` is there twice in `{part}`");
        return Err(place.at(raw, message));
    }
    let cell = read(at).map_err(|error| {
        let message = format!("table {short}: column `{name}` in `{part}`: {error}");
        place.at(raw, message)
    })?;
    image.push((at, cell));
    Ok(())
}

/// A foreign name in a message has a limit.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
