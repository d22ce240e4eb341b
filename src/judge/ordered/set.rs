//! Integer keys, held to be found again.

use datafusion::arrow::array::{Array, Int64Array};
use datafusion::arrow::buffer::BooleanBuffer;
use hashbrown::HashSet;

use super::members::Key;

/// What one entry of a set takes beside its key.
const ENTRY_BYTES: usize = 2;

/// Different keys without NULL.
pub(super) enum Set {
    /// Each packed into 64 bits: how far its values are from the lowest ones of their columns.
    Packed(Vec<Column>, HashSet<u64>),
    /// Whatever they are.
    Wide(HashSet<Box<[i64]>>),
}

/// The values that a column of keys has.
pub(super) struct Column {
    low: i64,
    high: i64,
    bits: u32,
}

impl Column {
    fn of(column: usize, keys: &[Key]) -> Column {
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        for values in keys.iter().map(|key| &key.columns[column]) {
            for value in values.iter().flatten() {
                low = low.min(value);
                high = high.max(value);
            }
        }
        let bits = match low <= high {
            true => u64::BITS - high.abs_diff(low).leading_zeros(),
            false => 0,
        };
        Column { low, high, bits }
    }
}

impl Set {
    /// The bytes that a set of so many keys may take.
    pub(super) fn bytes(rows: usize) -> usize {
        rows * 2 * (size_of::<u64>() + ENTRY_BYTES)
    }

    /// The set of keys of so many columns.
    pub(super) fn of(width: usize, keys: &[Key]) -> Set {
        let columns: Vec<Column> = (0..width).map(|column| Column::of(column, keys)).collect();
        let rows = keys.iter().map(|key| key.rows).sum();
        if columns.iter().map(|column| column.bits).sum::<u32>() <= u64::BITS {
            let mut set = HashSet::with_capacity(rows);
            for key in keys {
                set.extend((0..key.rows).filter_map(|row| packed(&columns, key, row)));
            }
            return Set::Packed(columns, set);
        }
        let mut set = HashSet::with_capacity(rows);
        for key in keys {
            let whole = (0..key.rows).filter(|&row| !key.has_null(row));
            set.extend(whole.map(|row| wide(key, row).collect::<Box<[i64]>>()));
        }
        Set::Wide(set)
    }

    /// Which rows have their key in the set.
    pub(super) fn find(&self, key: &Key) -> BooleanBuffer {
        match self {
            Set::Packed(columns, set) => BooleanBuffer::collect_bool(key.rows, |row| {
                packed(columns, key, row).is_some_and(|key| set.contains(&key))
            }),
            Set::Wide(set) => {
                let mut one = Vec::with_capacity(key.columns.len());
                BooleanBuffer::collect_bool(key.rows, |row| {
                    one.clear();
                    one.extend(wide(key, row));
                    !key.has_null(row) && set.contains(one.as_slice())
                })
            }
        }
    }
}

fn wide(key: &Key, row: usize) -> impl Iterator<Item = i64> {
    key.columns
        .iter()
        .map(move |column: &Int64Array| column.value(row))
}

/// A key in 64 bits; None where it holds a NULL, or a value that no key of the set has.
fn packed(columns: &[Column], key: &Key, row: usize) -> Option<u64> {
    let mut bits: u128 = 0;
    for (column, values) in columns.iter().zip(&key.columns) {
        let value = values.value(row);
        let hidden = key.nulls && values.is_null(row);
        if hidden || value < column.low || value > column.high {
            return None;
        }
        bits = bits << column.bits | u128::from(value.abs_diff(column.low));
    }
    u64::try_from(bits).ok()
}
