//! The schema of files that do not declare one: the narrowest type that every value of a column has.
//!
//! Decimals become `numeric`, never a double; digits with leading zeros are codes and stay text. What is inferred from the first
//! rows may be wrong for later ones, which is then an error of the reading.

use std::collections::HashMap;
use std::path::Path;

use super::csv::Records;
use super::ndjson::{Fault, Lines, read_object};
use super::{COLUMNS_MAX, Opening, cannot_read};
use crate::change::Cell;
use crate::diagnostic::{Diagnostic, Level};
use crate::schema::value::parse_text;
use crate::schema::{Column, DataType, Table, TableName};

/// Types are inferred from this many rows.
const ROWS_MAX: usize = 100_000;

/// The types that all values of a column so far have, as bits in order of preference.
#[derive(Clone, Copy, Default)]
struct Guess {
    seen: bool,
    types: u16,
}

const BIGINT: u16 = 1;
const NUMERIC: u16 = 1 << 1;
const DOUBLE: u16 = 1 << 2;
const BOOLEAN: u16 = 1 << 3;
const DATE: u16 = 1 << 4;
const TIMESTAMP: u16 = 1 << 5;
const TIMESTAMPTZ: u16 = 1 << 6;
const UUID: u16 = 1 << 7;
const JSONB: u16 = 1 << 8;

impl Guess {
    fn narrow(&mut self, types: u16) {
        self.types = if self.seen { self.types & types } else { types };
        self.seen = true;
    }

    fn data_type(self) -> DataType {
        let ordered = [
            (BIGINT, DataType::Int64),
            (
                NUMERIC,
                DataType::Numeric {
                    precision_scale: None,
                },
            ),
            (DOUBLE, DataType::Float64),
            (BOOLEAN, DataType::Bool),
            (DATE, DataType::Date),
            (TIMESTAMP, DataType::Timestamp),
            (TIMESTAMPTZ, DataType::TimestampTz),
            (UUID, DataType::Uuid),
            (JSONB, DataType::Jsonb),
        ];
        let fits = ordered.into_iter().find(|(bit, _)| self.types & bit != 0);
        fits.map_or(DataType::Text, |(_, data_type)| data_type)
    }
}

fn holds(data_type: &DataType, text: &str) -> bool {
    parse_text(data_type, text).is_ok()
}

/// The types of a value in a CSV field.
fn types_of_text(text: &str) -> u16 {
    match text.as_bytes() {
        [b'-', b'0'..=b'9', ..] | [b'0'..=b'9', ..] if is_plain_number(text) => {
            types_of_number(text)
        }
        _ if ["true", "false"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word)) =>
        {
            BOOLEAN
        }
        _ => types_of_string(text),
    }
}

/// True for numbers as programs print them: no leading zeros or blanks, an exponent only behind a decimal point (`12E5` is
/// more likely a code).
fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        fraction.is_some() && all_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
    });
    all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(all_digits)
        && exponent_fits
}

fn types_of_number(text: &str) -> u16 {
    let mut types = 0;
    if holds(&DataType::Int64, text) {
        types |= BIGINT;
    }
    let numeric = DataType::Numeric {
        precision_scale: None,
    };
    // Wider ones are no sign of a numeric: digits in a row may as well be a code, and JSON writes doubles so.
    if matches!(parse_text(&numeric, text), Ok(Cell::Decimal(_))) {
        types |= NUMERIC;
    }
    types
}

/// The types that have no literal of their own in JSON.
fn types_of_string(text: &str) -> u16 {
    let bytes = text.as_bytes();
    if bytes.len() == 36 && bytes.get(8) == Some(&b'-') {
        return if holds(&DataType::Uuid, text) {
            UUID
        } else {
            0
        };
    }
    let dated = bytes.len() >= 10 && bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    if !dated
        || !bytes.iter().take(4).all(u8::is_ascii_digit)
        || !holds(&DataType::TimestampTz, text)
    {
        return 0;
    }
    match bytes.get(10) {
        None => DATE | TIMESTAMP | TIMESTAMPTZ,
        Some(b' ' | b'T' | b't') => {
            let clock = text.get(11..).unwrap_or("");
            if clock
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
            {
                TIMESTAMP
            } else {
                TIMESTAMPTZ
            }
        }
        Some(_) => 0,
    }
}

/// The types of a raw JSON value; None for null.
fn types_of_json(raw: &str) -> Option<u16> {
    Some(match raw.as_bytes().first() {
        Some(b'n') => return None,
        Some(b't' | b'f') => BOOLEAN,
        Some(b'{' | b'[') => JSONB,
        Some(b'"') => match serde_json::from_str::<String>(raw) {
            Ok(text) => types_of_string(&text),
            Err(_) => 0,
        },
        _ => {
            let double = if raw.contains(['.', 'e', 'E']) {
                DOUBLE
            } else {
                0
            };
            types_of_number(raw) | double
        }
    })
}

/// Infers the table of a CSV file.
pub(super) fn csv(
    file: Opening<'_>,
    name: TableName,
    delimiter: u8,
) -> Result<(Table, Vec<Diagnostic>), Diagnostic> {
    let path = file.path;
    let mut records = Records::open(file, delimiter).map_err(|error| cannot_read(path, &error))?;
    let names = records.header(path).map_err(|errors| first(path, errors))?;
    let mut guesses = vec![Guess::default(); names.len()];
    for _ in 0..ROWS_MAX {
        if !records
            .next(names.len() > 1)
            .map_err(|fault| records.fault(path, fault))?
        {
            break;
        }
        if records.len() != names.len() {
            return Err(records.wrong_length(path, names.len()));
        }
        for (at, guess) in guesses.iter_mut().enumerate() {
            if let Some(text) = records.field(at) {
                guess.narrow(types_of_text(&text));
            }
        }
    }
    Ok(inferred(path, name, names, &guesses))
}

/// Infers the table of an NDJSON file; columns stand in the order in which their keys first appear.
pub(super) fn ndjson(
    file: Opening<'_>,
    name: TableName,
) -> Result<(Table, Vec<Diagnostic>), Diagnostic> {
    let path = file.path;
    let mut lines = Lines::open(file).map_err(|error| cannot_read(path, &error))?;
    let (mut names, mut guesses) = (Vec::<String>::new(), Vec::<Guess>::new());
    let mut known = HashMap::<String, usize>::new();
    for _ in 0..ROWS_MAX {
        let Some((number, line)) = lines.next(path)? else {
            break;
        };
        let mut resolve = |key: &str| {
            if let Some(&at) = known.get(key) {
                return Some(at);
            }
            if names.len() >= COLUMNS_MAX {
                return None;
            }
            names.push(key.to_owned());
            known.insert(key.to_owned(), names.len() - 1);
            Some(names.len() - 1)
        };
        let values = read_object(line, &mut resolve).map_err(|fault| {
            let what = match &fault {
                Fault::Malformed(_, what) => (*what).to_owned(),
                Fault::Unknown(..) => "more than 10,000 columns".to_owned(),
                Fault::Repeated(..) => "a key stands twice in one object".to_owned(),
            };
            Diagnostic::at(path, number, fault.column(line), what)
        })?;
        guesses.resize(names.len(), Guess::default());
        for (at, value) in values {
            if let (Some(guess), Some(types)) = (guesses.get_mut(at), types_of_json(value.get())) {
                guess.narrow(types);
            }
        }
    }
    Ok(inferred(path, name, names, &guesses))
}

fn first(path: &Path, errors: Vec<Diagnostic>) -> Diagnostic {
    errors
        .into_iter()
        .next()
        .unwrap_or_else(|| Diagnostic::file(path, "the header cannot be read"))
}

fn inferred(
    path: &Path,
    name: TableName,
    names: Vec<String>,
    guesses: &[Guess],
) -> (Table, Vec<Diagnostic>) {
    let typed = names.into_iter().zip(guesses);
    let columns: Vec<Column> = typed
        .map(|(name, guess)| Column {
            name,
            data_type: guess.data_type(),
            nullable: true,
        })
        .collect();
    let message = format!(
        "the types of table `{}` were inferred from its values, and it has no primary key",
        name.short()
    );
    let hint = format!("declare it in schema.sql: {}", declaration(&name, &columns));
    let warning = Diagnostic::file(path, message)
        .with_level(Level::Warning)
        .with_hint(hint);
    (
        Table {
            name,
            columns,
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
        },
        vec![warning],
    )
}

/// The statement to start from, cut short for wide tables.
fn declaration(name: &TableName, columns: &[Column]) -> String {
    const SHOWN_MAX: usize = 12;
    let quoted = |name: &str| {
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let plain =
            plain && !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
        if plain {
            name.to_owned()
        } else {
            format!("\"{}\"", name.replace('"', "\"\""))
        }
    };
    let shown = columns
        .iter()
        .take(SHOWN_MAX)
        .map(|column| format!("{} {}", quoted(&column.name), column.data_type));
    let mut shown: Vec<String> = shown.collect();
    if columns.len() > SHOWN_MAX {
        shown.push("…".to_owned());
    }
    let schema = if name.schema == "public" {
        String::new()
    } else {
        quoted(&name.schema) + "."
    };
    format!(
        "create table {schema}{} ({});",
        quoted(&name.name),
        shown.join(", ")
    )
}
