//! Values of a type, from text and JSON and back.
//!
//! Text is Postgres' own output form, as `COPY`, CSV and logical decoding carry it. No value passes through a double unless its
//! type is one. An error names the type and a fixed reason, never the value (invariant 11).

mod array;
mod interval;
mod json;
mod numeric;
mod print;
mod time;
mod types;

use super::DataType;
use crate::change::{Cell, Number};

pub(crate) use array::write_item;
pub(crate) use interval::interval_text;
pub(crate) use json::canonical as canonical_json;
pub use json::{parse_json, to_json};
pub use print::to_text;
pub use time::{format_timestamp, parse_timestamp};
pub use types::parse_type;
pub(crate) use types::{TypeName, builtin, read_type};

/// A text or JSON value that its column's type does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {expected}: {reason}")]
pub struct ValueError {
    /// The type as Postgres prints it, e.g. `numeric(12,2)`.
    pub expected: String,
    /// What is wrong, without the value.
    pub reason: &'static str,
}

impl ValueError {
    /// An error about a value of a type.
    pub fn new(expected: &DataType, reason: &'static str) -> Self {
        ValueError {
            expected: expected.to_string(),
            reason,
        }
    }
}

/// What the parts of this module say when a value does not fit; [`ValueError`] adds the type.
type Reason = &'static str;

/// Reads a value in Postgres' text form. The text is the value: NULL has no text form (outside of arrays).
///
/// Blanks around numbers, booleans, dates, times and uuids are passed over, as Postgres does. A `numeric` is rounded half away
/// from zero to its declared scale.
pub fn parse_text(data_type: &DataType, text: &str) -> Result<Cell, ValueError> {
    let fail = |reason: Reason| ValueError::new(data_type, reason);
    if text.contains('\0') {
        return Err(fail("holds a NUL character"));
    }
    let cell = match data_type {
        DataType::Bool => parse_bool(text).map(Cell::Bool),
        DataType::Int16 => parse_integer(text, i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => parse_integer(text, i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Int64 => parse_integer(text, i64::MIN, i64::MAX),
        DataType::Float32 => parse_real(text).map(Cell::Float),
        DataType::Float64 => parse_double(text).map(Cell::Float),
        DataType::Numeric { precision_scale } => {
            numeric::parse(text, *precision_scale).map(Cell::from)
        }
        DataType::Varchar(Some(max)) => fit_length(text, *max).map(|t| Cell::Text(t.to_owned())),
        DataType::Char(max) => {
            let kept = text.trim_end_matches(' ');
            let fits = max.is_none_or(|max| within(kept, max));
            fits.then(|| Cell::Text(kept.to_owned())).ok_or(TOO_LONG)
        }
        DataType::Text | DataType::Varchar(None) | DataType::Other(_) => {
            Ok(Cell::Text(text.to_owned()))
        }
        DataType::Bytea => parse_bytea(text).map(Cell::Bytes),
        DataType::Date => time::parse_date(text).map(Cell::Date),
        DataType::Time => time::parse_time(text).map(Cell::Time),
        DataType::Timestamp => time::parse_local(text).map(Cell::Timestamp),
        DataType::TimestampTz => time::parse_instant(text).map(Cell::Timestamp),
        DataType::Uuid => parse_uuid(text).map(Cell::Text),
        DataType::Json => json::well_formed(text).map(|()| Cell::Text(text.to_owned())),
        DataType::Jsonb => json::well_formed(text).map(|()| Cell::Text(json::compact(text))),
        DataType::Enum { labels, .. } => match labels.iter().any(|label| label == text) {
            true => Ok(Cell::Text(text.to_owned())),
            false => Err("no label of this enum"),
        },
        DataType::Array(element) => return array::parse(data_type, element, text),
    };
    cell.map_err(fail)
}

/// Reads a `numeric` of no declared precision.
pub(crate) fn parse_number(text: &str) -> Result<Number, ValueError> {
    let data_type = DataType::Numeric {
        precision_scale: None,
    };
    numeric::parse(text, None).map_err(|reason| ValueError::new(&data_type, reason))
}

const TOO_LONG: Reason = "longer than declared";
const OUT_OF_RANGE: Reason = "out of range";

fn within(text: &str, max_chars: u32) -> bool {
    let max = max_chars as usize;
    text.len() <= max || text.chars().count() <= max
}

/// Postgres drops blanks beyond the declared length and refuses anything else.
fn fit_length(text: &str, max_chars: u32) -> Result<&str, Reason> {
    if within(text, max_chars) {
        return Ok(text);
    }
    let end = text
        .char_indices()
        .nth(max_chars as usize)
        .map_or(text.len(), |(at, _)| at);
    let (kept, excess) = text.split_at(end);
    if excess.bytes().all(|b| b == b' ') {
        Ok(kept)
    } else {
        Err(TOO_LONG)
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
fn parse_bool(text: &str) -> Result<bool, Reason> {
    let word = trim(text).to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err("neither true nor false")
    }
}

fn parse_integer(text: &str, min: i64, max: i64) -> Result<Cell, Reason> {
    let text = trim(text);
    match text.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(Cell::Int(value)),
        Ok(_) => Err(OUT_OF_RANGE),
        Err(_) => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let is_integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            Err(if is_integer {
                OUT_OF_RANGE
            } else {
                "not a whole number"
            })
        }
    }
}

fn parse_double(text: &str) -> Result<f64, Reason> {
    let text = trim(text);
    let value: f64 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    // Rust reads 1e400 as infinity, Postgres refuses it; the same holds for digits that vanish.
    let spelled = !text.bytes().any(|b| b.is_ascii_digit());
    let vanished = value == 0.0 && mantissa_is_nonzero(text);
    if (value.is_infinite() && !spelled) || vanished {
        Err(OUT_OF_RANGE)
    } else {
        Ok(value)
    }
}

fn parse_real(text: &str) -> Result<f64, Reason> {
    let text = trim(text);
    let value: f32 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    let spelled = !text.bytes().any(|b| b.is_ascii_digit());
    let vanished = value == 0.0 && mantissa_is_nonzero(text);
    if (value.is_infinite() && !spelled) || vanished {
        Err(OUT_OF_RANGE)
    } else {
        Ok(f64::from(value))
    }
}

const NOT_A_NUMBER: Reason = "not a number";

fn mantissa_is_nonzero(text: &str) -> bool {
    text.bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| (b'1'..=b'9').contains(&b))
}

/// Lower case with hyphens, from any of the spellings Postgres takes: braces, upper case, hyphens after any four digits.
fn parse_uuid(text: &str) -> Result<String, Reason> {
    const WRONG: Reason = "not a uuid";
    let text = trim(text);
    let text = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or(WRONG)?,
        None => text,
    };
    let mut out = String::with_capacity(36);
    let mut digits = 0;
    let mut after_hyphen = true;
    for c in text.chars() {
        if c == '-' && !after_hyphen && digits % 4 == 0 && digits < 32 {
            after_hyphen = true;
        } else if c.is_ascii_hexdigit() && digits < 32 {
            if matches!(digits, 8 | 12 | 16 | 20) {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
            digits += 1;
            after_hyphen = false;
        } else {
            return Err(WRONG);
        }
    }
    if digits == 32 { Ok(out) } else { Err(WRONG) }
}

/// A uuid's text from its sixteen bytes.
pub(crate) fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn parse_bytea(text: &str) -> Result<Vec<u8>, Reason> {
    match text.strip_prefix("\\x") {
        Some(hex) => parse_hex(hex),
        None => parse_escaped_bytes(text),
    }
}

fn parse_hex(hex: &str) -> Result<Vec<u8>, Reason> {
    const WRONG: Reason = "not an even number of hexadecimal digits";
    let mut out = Vec::with_capacity(hex.len() / 2);
    let mut high: Option<u8> = None;
    for c in hex.chars() {
        if high.is_none() && c.is_ascii_whitespace() {
            continue;
        }
        let digit = c
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
            .ok_or(WRONG)?;
        match high.take() {
            None => high = Some(digit),
            Some(first) => out.push(first << 4 | digit),
        }
    }
    if high.is_some() { Err(WRONG) } else { Ok(out) }
}

/// The format before Postgres 9.0: `\\` and `\ooo`, everything else is itself.
fn parse_escaped_bytes(text: &str) -> Result<Vec<u8>, Reason> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                out.push(b'\\');
                rest = after;
            }
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => return Err("a backslash that begins no escape"),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
