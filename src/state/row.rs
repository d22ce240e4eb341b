//! The canonical bytes of a row: what fingerprints are made of.
//!
//! A row is its columns in the order of their names (bytes of UTF-8), each as a tag and its value. Values that are the same by
//! [`Cell`]'s own comparison have the same bytes:
//!
//! | tag | then |
//! |---|---|
//! | 0 not known, 1 NULL | nothing |
//! | 2 boolean | 0 or 1 |
//! | 3 integer, 8 date, 9 time, 10 timestamp | 64 bits, little-endian |
//! | 4 floating-point number | its 64 bits, little-endian, with one zero and one NaN |
//! | 5 decimal | its digits without trailing zeros after the point in 128 bits, little-endian, and its scale |
//! | 6 text, 7 bytes | the length in 64 bits, little-endian, and the bytes; a `jsonb` with sorted keys and plain numbers |
//! | 12 number that is no decimal of 38 digits | the length in 64 bits, little-endian, and the [bytes of its key](super::key) |
//! | 11 list | the number of elements in 64 bits, little-endian, and each as a value |

use super::column::Slot;
use super::stored::StoredRows;
use super::stored::view::{Column, Values};
use crate::change::{Cell, Decimal};
use crate::schema::{DataType, Table, value};

/// Rows of a table, to be written as their canonical bytes.
pub(super) struct RowBytes<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> RowBytes<'a> {
    pub(super) fn new(table: &'a Table, rows: &'a StoredRows) -> Self {
        let order = by_name(table).into_iter();
        RowBytes {
            columns: order.map(|at| rows.column(table, at)).collect(),
        }
    }

    /// Adds the bytes of a row.
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) {
        self.columns.iter().for_each(|column| put(out, column, row));
    }
}

/// A table's columns in the order of their names.
pub(super) fn by_name(table: &Table) -> Vec<usize> {
    let mut order: Vec<usize> = (0..table.columns.len()).collect();
    order.sort_by(|&a, &b| table.columns[a].name.cmp(&table.columns[b].name));
    order
}

/// A length, as everything that is hashed writes it.
pub(super) fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

/// A text and its length.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The bits of a double, the same for both zeros and for every NaN.
pub(super) fn one_of_equal(value: f64) -> u64 {
    const NAN: u64 = 0x7FF8_0000_0000_0000;
    if value.is_nan() {
        NAN
    } else {
        (value + 0.0).to_bits()
    }
}

fn put(out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
    match column.slot(row) {
        Slot::Unknown => return out.push(0),
        Slot::Null => return out.push(1),
        Slot::Value => {}
    }
    match &column.values {
        Values::Bool(values) => out.extend_from_slice(&[2, u8::from(values.value(row))]),
        Values::Int(values) => number(out, 3, values[row]),
        Values::Float32(values) => float(out, f64::from(values[row])),
        Values::Float64(values) => float(out, values[row]),
        Values::Decimal(values, scale) => decimal(out, values[row], *scale),
        Values::Number(_) => put_cell(out, column.data_type, &column.cell(row)),
        Values::Text(values) => tagged_text(out, column.data_type, values.value(row)),
        Values::Bytes(values) => {
            out.push(7);
            bytes(out, values.value(row));
        }
        Values::Date(values) => number(out, 8, i64::from(values[row])),
        Values::Time(values) => number(out, 9, values[row]),
        Values::Timestamp(values) => number(out, 10, values[row]),
        Values::List(_) => list(out, column.data_type, &column.list(row)),
    }
}

fn number(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, value: f64) {
    out.push(4);
    out.extend_from_slice(&one_of_equal(value).to_le_bytes());
}

fn decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    // Most have few digits, and 64 bits are quicker to divide.
    let (digits, left) = match i64::try_from(unscaled) {
        Ok(mut few) => {
            let mut left = scale;
            while left > 0 && few % 10 == 0 {
                (few, left) = (few / 10, left - 1);
            }
            (i128::from(few), left)
        }
        Err(_) => {
            let value = Decimal { unscaled, scale }.normalized();
            (value.unscaled, value.scale)
        }
    };
    out.push(5);
    out.extend_from_slice(&digits.to_le_bytes());
    out.push(left);
}

fn tagged_text(out: &mut Vec<u8>, data_type: &DataType, value: &str) {
    out.push(6);
    match data_type {
        DataType::Jsonb => text(out, &value::canonical_json(value)),
        _ => text(out, value),
    }
}

fn list(out: &mut Vec<u8>, data_type: &DataType, cells: &[Cell]) {
    out.push(11);
    length(out, cells.len());
    let element = match data_type {
        DataType::Array(element) => element,
        other => other,
    };
    cells.iter().for_each(|cell| put_cell(out, element, cell));
}

/// An element of a list.
fn put_cell(out: &mut Vec<u8>, data_type: &DataType, cell: &Cell) {
    match cell {
        Cell::Unknown => out.push(0),
        Cell::Null => out.push(1),
        Cell::Bool(value) => out.extend_from_slice(&[2, u8::from(*value)]),
        Cell::Int(value) => number(out, 3, *value),
        Cell::Float(value) => float(out, *value),
        Cell::Decimal(value) => decimal(out, value.unscaled, value.scale),
        Cell::Wide(value) => {
            let mut key = Vec::new();
            value.put_key(&mut key);
            out.push(12);
            bytes(out, &key);
        }
        Cell::Text(value) => tagged_text(out, data_type, value),
        Cell::Bytes(value) => {
            out.push(7);
            bytes(out, value);
        }
        Cell::Date(value) => number(out, 8, i64::from(*value)),
        Cell::Time(value) => number(out, 9, *value),
        Cell::Timestamp(value) => number(out, 10, *value),
        Cell::List(cells) => list(out, data_type, cells),
    }
}
