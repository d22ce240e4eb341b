//! Values of Debezium's events.
//!
//! With a schema envelope it is written there how a value is encoded. Without one the declared type and the value itself must say:
//! a number for a timestamp is milliseconds, microseconds or nanoseconds by its magnitude, a text for a numeric is digits or
//! base64 by its characters. What one value leaves open is settled by the others of its column; a column that contradicts
//! itself is refused.

use std::collections::HashMap;

use bigdecimal::num_bigint::BigInt;
use serde_json::value::RawValue;

use super::envelope::Described;
use crate::change::Cell;
use crate::schema::DataType;
use crate::schema::value::{self, ValueError};

/// What stands for a TOAST value that did not change and was not logged (`unavailable.value.placeholder`).
const UNAVAILABLE: &str = "__debezium_unavailable_value";
/// The same as bytes, in base64.
const UNAVAILABLE_BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Reasons, which never hold the value.
const NO_NUMBER: &str = "not a whole number";
const NO_BASE64: &str = "not base64";
const OUT_OF_RANGE: &str = "out of range";
/// What holds the digits of any numeric.
const DECIMAL_BYTES_MAX: usize = 65_536;
const NO_DECIMAL: &str = "not an encoded decimal";
const TWO_UNITS: &str = "two units or encodings in one column; record the events with their schema";

/// How a column's values are encoded, as far as its values have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Millis,
    Micros,
    Nanos,
    Digits,
    Base64,
}

/// Decodes values, and remembers what the values of each column have shown.
#[derive(Default)]
pub(super) struct Decoder {
    columns: HashMap<(usize, usize), Encoding>,
}

/// One column's memory.
struct Memory<'a>(&'a mut HashMap<(usize, usize), Encoding>, (usize, usize));

impl Memory<'_> {
    /// Takes what a value shows: `certain`, or `likely` where it could be something else.
    fn settle(
        &mut self,
        certain: Option<Encoding>,
        likely: Encoding,
    ) -> Result<Encoding, &'static str> {
        match (self.0.get(&self.1).copied(), certain) {
            (Some(known), Some(certain)) if known != certain => Err(TWO_UNITS),
            (Some(known), _) => Ok(known),
            (None, found) => {
                let found = found.unwrap_or(likely);
                self.0.insert(self.1, found);
                Ok(found)
            }
        }
    }
}

impl Decoder {
    /// Reads the value of a column (table and column index); not known where the event says so.
    pub(super) fn cell(
        &mut self,
        column: (usize, usize),
        data_type: &DataType,
        described: Option<&Described>,
        raw: &RawValue,
    ) -> Result<Cell, ValueError> {
        let mut memory = Memory(&mut self.columns, column);
        decode(&mut memory, data_type, described, raw)
    }
}

fn decode(
    memory: &mut Memory<'_>,
    data_type: &DataType,
    described: Option<&Described>,
    raw: &RawValue,
) -> Result<Cell, ValueError> {
    let text = raw.get();
    if text == "null" {
        return Ok(Cell::Null);
    }
    if is_unavailable(data_type, text) {
        return Ok(Cell::Unknown);
    }
    if let DataType::Array(element) = data_type
        && !matches!(**element, DataType::Array(_))
        && let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text)
        && !items.iter().any(|item| item.get().starts_with('['))
    {
        let described = described.and_then(|described| described.items.as_deref());
        let cells = items
            .into_iter()
            .map(|item| decode(memory, element, described, item))
            .collect::<Result<_, _>>()?;
        return Ok(Cell::List(cells));
    }
    let fail = |reason| ValueError::new(data_type, reason);
    let found = match described.and_then(|described| Some((described, described.name.as_deref()?)))
    {
        Some((described, name)) => by_name(described, name, text),
        None => by_type(memory, data_type, described, text),
    };
    match found.map_err(fail)? {
        Some((natural, cell)) => fit(data_type, &natural, cell),
        None => value::parse_json(data_type, text),
    }
}

/// The placeholder of a text, of bytes, of an array of texts, and of an array of numbers (its bytes).
fn is_unavailable(data_type: &DataType, text: &str) -> bool {
    let quoted = |inner: &str| {
        text.strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            == Some(inner)
    };
    if quoted(UNAVAILABLE) || (*data_type == DataType::Bytea && quoted(UNAVAILABLE_BASE64)) {
        return true;
    }
    if !matches!(data_type, DataType::Array(_)) || !text.starts_with('[') {
        return false;
    }
    let texts: Result<Vec<String>, _> = serde_json::from_str(text);
    let numbers: Result<Vec<u8>, _> = serde_json::from_str(text);
    matches!(texts.as_deref(), Ok([one]) if one == UNAVAILABLE)
        || numbers.is_ok_and(|numbers| numbers == UNAVAILABLE.as_bytes())
}

/// A cell of one type as a cell of another, by its text.
fn fit(data_type: &DataType, natural: &DataType, cell: Cell) -> Result<Cell, ValueError> {
    let is_timestamp = |t: &DataType| matches!(t, DataType::Timestamp | DataType::TimestampTz);
    if data_type == natural || (is_timestamp(data_type) && is_timestamp(natural)) {
        return Ok(cell);
    }
    match value::to_text(natural, &cell) {
        Some(text) => value::parse_text(data_type, &text),
        None => Ok(Cell::Null),
    }
}

type Found = Result<Option<(DataType, Cell)>, &'static str>;

/// A value whose meaning the envelope names; None where the plain JSON is the value.
fn by_name(described: &Described, name: &str, text: &str) -> Found {
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let short = name
        .strip_prefix("io.debezium.time.")
        .or(name.strip_prefix("org.apache.kafka.connect.data."));
    match short {
        Some("Date") if is_number => date(text).map(Some),
        Some("Time") if is_number => time(text, Encoding::Millis).map(Some),
        Some("MicroTime") if is_number => time(text, Encoding::Micros).map(Some),
        Some("NanoTime") if is_number => time(text, Encoding::Nanos).map(Some),
        Some("Timestamp") if is_number => timestamp(text, Encoding::Millis).map(Some),
        Some("MicroTimestamp") if is_number => timestamp(text, Encoding::Micros).map(Some),
        Some("NanoTimestamp") if is_number => timestamp(text, Encoding::Nanos).map(Some),
        Some("Decimal") if text.starts_with('"') => {
            let scale = described.parameter("scale").ok_or(NO_DECIMAL)?;
            decimal(&string(text)?, scale).map(Some)
        }
        _ => match name {
            "io.debezium.data.VariableScaleDecimal" if text.starts_with('{') => {
                variable_scale(text).map(Some)
            }
            "io.debezium.data.Bits" if text.starts_with('"') => {
                bits(&string(text)?, described.parameter("length")).map(Some)
            }
            _ => Ok(None),
        },
    }
}

/// A value without a name for its meaning: its declared type and its shape say what it is.
fn by_type(
    memory: &mut Memory<'_>,
    data_type: &DataType,
    described: Option<&Described>,
    text: &str,
) -> Found {
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let is_string = text.starts_with('"');
    match data_type {
        DataType::Date if is_number => date(text).map(Some),
        DataType::Time if is_number => {
            let bounds = [MICROS_PER_DAY / 1000, MICROS_PER_DAY];
            let unit = unit(memory, text, bounds, true)?;
            time(text, unit).map(Some)
        }
        DataType::Timestamp | DataType::TimestampTz if is_number => {
            // Milliseconds up to the year 5138 lie below microseconds from 1973 on, and so do those below nanoseconds.
            let unit = unit(
                memory,
                text,
                [100_000_000_000_000, 100_000_000_000_000_000],
                false,
            )?;
            timestamp(text, unit).map(Some)
        }
        DataType::Numeric { .. } if text.starts_with('{') => variable_scale(text).map(Some),
        DataType::Numeric { precision_scale } if is_string => {
            let text = string(text)?;
            let kind = described.and_then(|described| described.kind.as_deref());
            let encoding = match (kind, precision_scale) {
                (Some("string"), _) | (_, None) => Encoding::Digits,
                (_, Some((_, scale))) => decimal_encoding(memory, &text, *scale)?,
            };
            match (encoding, precision_scale) {
                (Encoding::Base64, Some((_, scale))) => decimal(&text, (*scale).into()).map(Some),
                _ => Ok(None),
            }
        }
        DataType::Bytea if is_string => {
            let bytes = base64(&string(text)?).ok_or(NO_BASE64)?;
            Ok(Some((DataType::Bytea, Cell::Bytes(bytes))))
        }
        _ => Ok(None),
    }
}

/// Whether a text is the digits of a decimal or their bytes in base64, which have no point, no sign and a length divisible by four.
fn decimal_encoding(
    memory: &mut Memory<'_>,
    text: &str,
    scale: i16,
) -> Result<Encoding, &'static str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_digits = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let certain = match is_digits {
        false => Some(Encoding::Base64),
        true if text.contains(['.', '-']) || !text.len().is_multiple_of(4) => {
            Some(Encoding::Digits)
        }
        // A decimal with places is written with its point.
        true if scale > 0 => Some(Encoding::Base64),
        true => None,
    };
    memory.settle(certain, Encoding::Digits)
}

/// The unit of a number of a column: below the first bound milliseconds, below the second microseconds, else nanoseconds. A small
/// number can be of a finer unit, and with `exact` bounds a large one of no coarser.
fn unit(
    memory: &mut Memory<'_>,
    text: &str,
    bounds: [i64; 2],
    may_equal: bool,
) -> Result<Encoding, &'static str> {
    let magnitude = integer(text)?.unsigned_abs();
    let below = |bound: i64| {
        magnitude < bound.unsigned_abs() || (may_equal && magnitude == bound.unsigned_abs())
    };
    let certain = if below(bounds[0]) {
        None
    } else if below(bounds[1]) {
        Some(Encoding::Micros)
    } else {
        Some(Encoding::Nanos)
    };
    // Zero is the same moment in every unit and shows nothing.
    if magnitude == 0 {
        return Ok(Encoding::Micros);
    }
    // Among nanoseconds a number of the size of microseconds is a moment near the beginning of the range.
    let known = memory.0.get(&memory.1).copied();
    if known == Some(Encoding::Nanos) && certain == Some(Encoding::Micros) {
        return Ok(Encoding::Nanos);
    }
    memory.settle(certain, Encoding::Millis)
}

fn integer(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| NO_NUMBER)
}

fn string(text: &str) -> Result<String, &'static str> {
    serde_json::from_str(text).map_err(|_| "malformed JSON")
}

fn micros(text: &str, unit: Encoding) -> Result<i64, &'static str> {
    let number = integer(text)?;
    match unit {
        Encoding::Millis => number.checked_mul(1000).ok_or(OUT_OF_RANGE),
        Encoding::Nanos => Ok(number.div_euclid(1000)),
        _ => Ok(number),
    }
}

fn date(text: &str) -> Result<(DataType, Cell), &'static str> {
    let days = i32::try_from(integer(text)?).map_err(|_| OUT_OF_RANGE)?;
    Ok((DataType::Date, Cell::Date(days)))
}

fn time(text: &str, unit: Encoding) -> Result<(DataType, Cell), &'static str> {
    let micros = micros(text, unit)?;
    if (0..=MICROS_PER_DAY).contains(&micros) {
        Ok((DataType::Time, Cell::Time(micros)))
    } else {
        Err(OUT_OF_RANGE)
    }
}

fn timestamp(text: &str, unit: Encoding) -> Result<(DataType, Cell), &'static str> {
    Ok((DataType::Timestamp, Cell::Timestamp(micros(text, unit)?)))
}

/// `{"scale": 2, "value": "AN3h"}`
fn variable_scale(text: &str) -> Result<(DataType, Cell), &'static str> {
    #[derive(serde::Deserialize)]
    struct Variable {
        scale: i32,
        value: String,
    }
    let Variable { scale, value } = serde_json::from_str(text).map_err(|_| NO_DECIMAL)?;
    decimal(&value, scale)
}

/// A decimal from its unscaled digits, a big-endian two's complement in base64.
fn decimal(text: &str, scale: i32) -> Result<(DataType, Cell), &'static str> {
    let bytes = base64(text)
        .filter(|bytes| !bytes.is_empty())
        .ok_or(NO_BASE64)?;
    if bytes.len() > DECIMAL_BYTES_MAX {
        return Err("more digits than a numeric has");
    }
    let natural = DataType::Numeric {
        precision_scale: None,
    };
    let unscaled = BigInt::from_signed_bytes_be(&bytes);
    let text = format!("{unscaled}e{}", -i64::from(scale));
    let cell = value::parse_text(&natural, &text).map_err(|error| error.reason)?;
    Ok((natural, cell))
}

/// A bit string of so many bits, the least significant byte first.
fn bits(text: &str, length: Option<i32>) -> Result<(DataType, Cell), &'static str> {
    let bytes = base64(text).ok_or(NO_BASE64)?;
    let length = length
        .and_then(|length| usize::try_from(length).ok())
        .map_or(bytes.len() * 8, |length| length.min(bytes.len() * 8));
    let bit = |at: usize| {
        bytes
            .get(at / 8)
            .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    };
    let shown = (0..length).rev().map(|at| if bit(at) { '1' } else { '0' });
    Ok((DataType::Text, Cell::Text(shown.collect())))
}

/// Bytes from base64 in the standard or the URL alphabet, with or without its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    // One digit alone is no byte, and what is left over of the last one is zero.
    (count < 6 && bits == 0).then_some(out)
}
