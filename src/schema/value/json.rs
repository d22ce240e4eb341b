//! Values from and to JSON, in the shapes that CONTRACT sections 2 and 4 promise.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::{Reason, ValueError, array, numeric, parse_text, print, time};
use crate::change::{self, Cell};
use crate::schema::DataType;

const MALFORMED: Reason = "malformed JSON";
/// The largest integer that every JSON reader keeps exact.
const INTEGER_MAX: i64 = 1 << 53;

/// Fails unless the text is one JSON value and nothing else.
pub(super) fn well_formed(text: &str) -> Result<(), Reason> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|_| MALFORMED)
}

/// The same JSON without blanks between its parts; keys, their order and numbers stay as they were written.
pub(super) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// Objects and arrays nested deeper than this are compared by their text.
const CANONICAL_DEPTH_MAX: usize = 128;

/// One text for all documents that `jsonb` takes for equal: keys sorted, of repeated keys the last one, strings with the same escapes,
/// numbers by all of their digits. What cannot be read stays as it is.
pub(crate) fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    match write_canonical(text, 0, &mut out) {
        Some(()) => out,
        None => text.to_owned(),
    }
}

fn write_canonical(raw: &str, depth: usize, out: &mut String) -> Option<()> {
    let raw = raw.trim_matches([' ', '\t', '\r', '\n']);
    let quoted = |text: String| Value::String(text).to_string();
    match raw.as_bytes().first()? {
        b'{' | b'[' if depth >= CANONICAL_DEPTH_MAX => return None,
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(&quoted(key));
                out.push(':');
                write_canonical(value.get(), depth + 1, out)?;
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            out.push('[');
            for (at, item) in items.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_canonical(item.get(), depth + 1, out)?;
            }
            out.push(']');
        }
        b'"' => out.push_str(&quoted(serde_json::from_str(raw).ok()?)),
        b'-' | b'0'..=b'9' => write_number(raw, out)?,
        _ => out.push_str(raw),
    }
    Some(())
}

/// A number as its digits without zeros around them, and the power of ten that they are multiplied with.
fn write_number(raw: &str, out: &mut String) -> Option<()> {
    let (mantissa, exponent) = match raw.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (raw, 0),
    };
    let digits = mantissa.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let power = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(dropped)?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        out.push('0');
        return Some(());
    }
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    out.push_str(&format!("{sign}{kept}e{power}"));
    Some(())
}

/// Reads the raw text of one JSON value. Numbers are read from their digits; strings are read as [`parse_text`] reads them,
/// also for `json` columns, whose documents therefore come either bare or as text in a string.
pub fn parse_json(data_type: &DataType, raw_json: &str) -> Result<Cell, ValueError> {
    parse_nested(data_type, raw_json, 0)
}

fn parse_nested(data_type: &DataType, raw: &str, depth: usize) -> Result<Cell, ValueError> {
    let fail = |reason: Reason| Err(ValueError::new(data_type, reason));
    let raw = raw.trim_matches([' ', '\t', '\r', '\n']);
    match raw.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(raw) {
            Ok(text) => parse_text(data_type, &text),
            Err(_) => fail(MALFORMED),
        },
        Some(b'-' | b'0'..=b'9') => parse_number(data_type, raw),
        Some(b'n') if raw == "null" => Ok(Cell::Null),
        Some(b't' | b'f') if raw == "true" || raw == "false" => match data_type {
            DataType::Bool => Ok(Cell::Bool(raw == "true")),
            _ if takes_any_json(data_type) => parse_text(data_type, raw),
            _ => fail("a JSON boolean"),
        },
        Some(b'[') if matches!(data_type, DataType::Array(_)) => parse_list(data_type, raw, depth),
        Some(b'[' | b'{') => match well_formed(raw) {
            Ok(()) if takes_any_json(data_type) => parse_text(data_type, &compact(raw)),
            Ok(()) => fail("a JSON array or object"),
            Err(reason) => fail(reason),
        },
        _ => fail(MALFORMED),
    }
}

fn takes_any_json(data_type: &DataType) -> bool {
    use DataType::{Json, Jsonb, Other, Text, Varchar};
    matches!(data_type, Text | Varchar(_) | Json | Jsonb | Other(_))
}

fn parse_list(data_type: &DataType, raw: &str, depth: usize) -> Result<Cell, ValueError> {
    let fail = |reason: Reason| Err(ValueError::new(data_type, reason));
    let DataType::Array(element) = data_type else {
        return fail("a JSON array");
    };
    if depth >= array::DIMENSIONS_MAX {
        return fail(array::TOO_DEEP);
    }
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return fail(MALFORMED);
    };
    let mut cells = Vec::with_capacity(items.len());
    for item in items {
        let item = item.get();
        // An array inside an array is a further dimension, except where the elements are documents themselves.
        let deeper =
            item.starts_with('[') && !matches!(**element, DataType::Json | DataType::Jsonb);
        let item_type = if deeper { data_type } else { element };
        cells.push(parse_nested(item_type, item, depth + 1)?);
    }
    if array::is_ragged(&cells) {
        fail(array::RAGGED)
    } else {
        Ok(Cell::List(cells))
    }
}

fn parse_number(data_type: &DataType, raw: &str) -> Result<Cell, ValueError> {
    if well_formed(raw).is_err() {
        return Err(ValueError::new(data_type, MALFORMED));
    }
    let is_integer = matches!(
        data_type,
        DataType::Int16 | DataType::Int32 | DataType::Int64
    );
    if is_integer && raw.contains(['.', 'e', 'E']) {
        let whole = match numeric::parse(raw, None) {
            Ok(change::Number::Decimal(decimal)) => decimal.normalized().rescale(0),
            _ => None,
        };
        return match whole {
            Some(whole) => parse_text(data_type, &whole.to_string()),
            None => Err(ValueError::new(data_type, "not a whole number")),
        };
    }
    match data_type {
        DataType::Bool
        | DataType::Bytea
        | DataType::Date
        | DataType::Time
        | DataType::Timestamp
        | DataType::TimestampTz
        | DataType::Uuid => Err(ValueError::new(data_type, "a JSON number")),
        _ => parse_text(data_type, raw),
    }
}

/// The value as firstbad's JSON shows it: integers up to 2^53 are numbers, wider ones and decimals are strings, times are
/// RFC 3339, bytea is `\x…`, json is a string; NULL and what is not known are null.
pub fn to_json(data_type: &DataType, cell: &Cell) -> Value {
    match cell {
        Cell::Unknown | Cell::Null => Value::Null,
        Cell::Bool(value) => Value::Bool(*value),
        Cell::Int(value) if (-INTEGER_MAX..=INTEGER_MAX).contains(value) => Value::from(*value),
        Cell::Int(value) => Value::String(value.to_string()),
        Cell::Float(value) => float_json(data_type, *value),
        Cell::Decimal(value) => Value::String(value.to_string()),
        Cell::Wide(value) => Value::String(value.to_string()),
        Cell::Text(value) => Value::String(value.clone()),
        Cell::Bytes(value) => Value::String(print::hex_text(value)),
        Cell::Date(value) => Value::String(time::date_text(*value)),
        Cell::Time(value) => Value::String(time::clock_text(*value, time::Fraction::Thousands)),
        Cell::Timestamp(value) => {
            let zone = if *data_type == DataType::TimestampTz {
                "Z"
            } else {
                ""
            };
            Value::String(time::rfc3339(*value, zone))
        }
        Cell::List(cells) => {
            let element = |cell: &Cell| match (data_type, cell) {
                (_, Cell::List(_)) => to_json(data_type, cell),
                (DataType::Array(element), cell) => to_json(element, cell),
                (other, cell) => to_json(other, cell),
            };
            Value::Array(cells.iter().map(element).collect())
        }
    }
}

fn float_json(data_type: &DataType, value: f64) -> Value {
    let text = print::float_text(data_type, value);
    // A real is shown by its own shortest digits, not by those of the double nearest to it.
    let shown = if *data_type == DataType::Float32 {
        text.parse().unwrap_or(value)
    } else {
        value
    };
    Number::from_f64(shown).map_or(Value::String(text), Value::Number)
}
