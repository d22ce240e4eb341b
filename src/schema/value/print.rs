//! Cells as Postgres prints them.

use super::{array, time};
use crate::change::Cell;
use crate::schema::DataType;

/// The value's text as Postgres prints it (DateStyle ISO, time zone UTC); None for NULL and for what is not known.
pub fn to_text(data_type: &DataType, cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Unknown | Cell::Null => return None,
        Cell::Bool(true) => "t".to_owned(),
        Cell::Bool(false) => "f".to_owned(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => float_text(data_type, *value),
        Cell::Decimal(value) => value.to_string(),
        Cell::Wide(value) => value.to_string(),
        Cell::Text(value) => value.clone(),
        Cell::Bytes(value) => hex_text(value),
        Cell::Date(value) => time::date_text(*value),
        Cell::Time(value) => time::clock_text(*value, time::Fraction::Needed),
        Cell::Timestamp(value) => {
            let zone = if *data_type == DataType::TimestampTz {
                "+00"
            } else {
                ""
            };
            time::postgres_text(*value, zone)
        }
        Cell::List(cells) => {
            let element = match data_type {
                DataType::Array(element) => element,
                other => other,
            };
            let mut out = String::new();
            array::write(cells, &|cell| to_text(element, cell), &mut out);
            out
        }
    })
}

/// `\x` and two digits a byte.
pub(super) fn hex_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("\\x");
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(if nibble < 10 {
                b'0' + nibble
            } else {
                b'a' + nibble - 10
            }));
        }
    }
    out
}

/// The shortest digits that read back as the same number, in Postgres' layout: an exponent of at least two digits, from the
/// precision of the type upwards and below 1e-4.
pub(super) fn float_text(data_type: &DataType, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (scientific, plain_max) = match data_type {
        DataType::Float32 => (format!("{:e}", value as f32), 6),
        _ => (format!("{value:e}"), 15),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..plain_max).contains(&exponent) {
        return match data_type {
            DataType::Float32 => (value as f32).to_string(),
            _ => value.to_string(),
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
