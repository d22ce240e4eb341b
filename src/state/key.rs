//! The canonical order of rows: that of the bytes of their keys.
//!
//! A row's key is its identity: its primary key, or all of its columns in the order of their names where there is none. As bytes it is,
//! for each of these columns, a tag and what follows it:
//!
//! | tag | then |
//! |---|---|
//! | 1 value | see below |
//! | 2 list | its elements, each as a tag and what follows it; then 0 |
//! | 3 NULL | nothing |
//! | 4 not known | nothing |
//!
//! * A boolean is one byte, 0 or 1. Integers, times and timestamps are 64 bits, a date is 32, big-endian, the sign bit flipped.
//! * A floating-point number is the 64 bits of the double, with one zero and one NaN; all bits flipped where it is negative, else the first.
//! * A text or bytes are themselves, `00` written as `00 FF`, then `00 00`. A `jsonb` is the text that all documents of its meaning share.
//! * A decimal is one byte for sign and size, and sixteen for its digits. With `v = ±0.d₁d₂… * 10^e` and `d₁` not 0, the first is
//!   `0x81 + (e + 37)` for positive and `0x7F - (e + 37)` for negative numbers; zero is `0x80` and nothing else. The others are the digits
//!   as a whole number of 38 digits, zeros added on the right, big-endian, all bits flipped for negative numbers. Numbers of more digits,
//!   infinities and what is no number are told apart by bytes that no such number has: see [`Number::put_key`](crate::change::Number).
//!
//! So the order of the bytes is the order of the values (a text's by its bytes, NULL last), and keys are the same where their cells are
//! (`1.50` is `1.5`, NULL is NULL). The order is what chunks of a store are cut by: it must never change.

use super::column::Slot;
use super::row::{RowBytes, by_name, one_of_equal};
use super::stored::StoredRows;
use super::stored::view::{Column, Values};
use crate::change::{Cell, Decimal};
use crate::schema::{DataType, Table, value};

const VALUE: u8 = 1;
const LIST: u8 = 2;
const NULL: u8 = 3;
const UNKNOWN: u8 = 4;

/// The canonical keys of rows, one after the other in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// The keys of rows of a table, in the order of the rows.
    ///
    /// # Panics
    /// Where the rows are not of this table.
    pub fn of(table: &Table, rows: &StoredRows) -> Keys {
        let mut keys = Keys::default();
        keys.extend(table, rows);
        keys
    }

    /// Adds the keys of more rows of the same table.
    ///
    /// # Panics
    /// Where the rows are not of this table.
    pub fn extend(&mut self, table: &Table, rows: &StoredRows) {
        let columns: Vec<Column<'_>> = identity(table)
            .into_iter()
            .map(|at| rows.column(table, at))
            .collect();
        self.push_all(&columns, rows.len());
    }

    /// Adds keys whose columns are these.
    pub(super) fn push_all(&mut self, columns: &[Column<'_>], count: usize) {
        self.ends.reserve(count);
        for row in 0..count {
            for column in columns {
                put(&mut self.bytes, column, row);
            }
            self.ends.push(self.bytes.len());
        }
    }

    /// Adds keys behind the others.
    pub fn append(&mut self, other: &Keys) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of a row.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }

    /// All keys, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// The keys of some rows, in this order.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn take(&self, rows: &[u32]) -> Keys {
        let mut taken = Keys::default();
        for &row in rows {
            taken.bytes.extend_from_slice(self.get(row as usize));
            taken.ends.push(taken.bytes.len());
        }
        taken
    }
}

/// The columns that are a row's key, in key order. The order in which a table has its columns says nothing.
pub(super) fn identity(table: &Table) -> Vec<usize> {
    match table.primary_key.as_slice() {
        [] => by_name(table),
        key => key.to_vec(),
    }
}

/// Row numbers in canonical order: by their keys, and rows of equal keys (a snapshot may hold such) by their canonical bytes.
/// Rows that are in order already cost one comparison each.
///
/// # Panics
/// Where the keys are not those of the rows, or there are 2^32 rows or more.
pub fn sorted(table: &Table, rows: &StoredRows, keys: &Keys) -> Vec<u32> {
    assert_eq!(rows.len(), keys.len(), "a key for each row");
    let bytes = RowBytes::new(table, rows);
    sorted_by(table, keys, |run| {
        let bytes_of = |&row: &u32| {
            let mut out = Vec::new();
            bytes.put(row as usize, &mut out);
            out
        };
        run.iter().map(bytes_of).collect()
    })
}

/// The same, where the canonical bytes of rows with equal keys have to be asked for.
pub(super) fn sorted_by(
    table: &Table,
    keys: &Keys,
    bytes_of: impl Fn(&[u32]) -> Vec<Vec<u8>>,
) -> Vec<u32> {
    let count = u32::try_from(keys.len()).expect("fewer than 2^32 rows");
    let key = |row: u32| keys.get(row as usize);
    let mut order: Vec<u32> = if keys.iter().is_sorted() {
        (0..count).collect()
    } else {
        let mut order: Vec<(u64, u32)> = (0..count).map(|row| (prefix(key(row)), row)).collect();
        order.sort_unstable_by(|(a, i), (b, j)| {
            a.cmp(b)
                .then_with(|| key(*i).cmp(key(*j)))
                .then_with(|| i.cmp(j))
        });
        order.into_iter().map(|(_, row)| row).collect()
    };
    // Where all columns are the key, rows of equal keys are equal.
    if !table.primary_key.is_empty() {
        let same = |a: &u32, b: &u32| key(*a) == key(*b);
        for run in order.chunk_by_mut(same).filter(|run| run.len() > 1) {
            let mut tied: Vec<(Vec<u8>, u32)> =
                bytes_of(run).into_iter().zip(run.to_vec()).collect();
            tied.sort_unstable();
            for (place, (_, row)) in run.iter_mut().zip(tied) {
                *place = row;
            }
        }
    }
    order
}

/// The first bytes of a key as a number of the same order.
fn prefix(key: &[u8]) -> u64 {
    let mut first = [0u8; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

fn put(out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
    match column.slot(row) {
        Slot::Null => return out.push(NULL),
        Slot::Unknown => return out.push(UNKNOWN),
        Slot::Value => {}
    }
    match &column.values {
        Values::List(_) => return put_list(out, &column.list(row), column.data_type),
        _ => out.push(VALUE),
    }
    match &column.values {
        Values::Bool(values) => out.push(u8::from(values.value(row))),
        Values::Int(values) | Values::Time(values) | Values::Timestamp(values) => {
            put_int(out, values[row]);
        }
        Values::Float32(values) => put_float(out, f64::from(values[row])),
        Values::Float64(values) => put_float(out, values[row]),
        Values::Decimal(values, scale) => {
            let value = Decimal {
                unscaled: values[row],
                scale: *scale,
            };
            value.put_key(out);
        }
        Values::Number(_) => match column.cell(row) {
            Cell::Decimal(value) => value.put_key(out),
            Cell::Wide(value) => value.put_key(out),
            _ => unreachable!("a number is a decimal or wide"),
        },
        Values::Text(values) => put_text(out, values.value(row), column.data_type),
        Values::Bytes(values) => put_bytes(out, values.value(row)),
        Values::Date(values) => put_date(out, values[row]),
        Values::List(_) => unreachable!("lists are written above"),
    }
}

fn put_list(out: &mut Vec<u8>, cells: &[Cell], data_type: &DataType) {
    out.push(LIST);
    let element = match data_type {
        DataType::Array(element) => element,
        other => other,
    };
    cells.iter().for_each(|cell| put_cell(out, cell, element));
    out.push(0);
}

/// An element of a list.
fn put_cell(out: &mut Vec<u8>, cell: &Cell, data_type: &DataType) {
    match cell {
        Cell::Null => return out.push(NULL),
        Cell::Unknown => return out.push(UNKNOWN),
        Cell::List(cells) => return put_list(out, cells, data_type),
        _ => out.push(VALUE),
    }
    match cell {
        Cell::Bool(value) => out.push(u8::from(*value)),
        Cell::Int(value) | Cell::Time(value) | Cell::Timestamp(value) => put_int(out, *value),
        Cell::Float(value) => put_float(out, *value),
        Cell::Decimal(value) => value.put_key(out),
        Cell::Wide(value) => value.put_key(out),
        Cell::Text(value) => put_text(out, value, data_type),
        Cell::Bytes(value) => put_bytes(out, value),
        Cell::Date(value) => put_date(out, *value),
        Cell::Unknown | Cell::Null | Cell::List(_) => unreachable!("written above"),
    }
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

fn put_date(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&(value ^ i32::MIN).to_be_bytes());
}

fn put_float(out: &mut Vec<u8>, value: f64) {
    let bits = one_of_equal(value);
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str, data_type: &DataType) {
    match data_type {
        DataType::Jsonb => put_bytes(out, value::canonical_json(text).as_bytes()),
        _ => put_bytes(out, text.as_bytes()),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&rest[..=at]);
        out.push(0xFF);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests;
