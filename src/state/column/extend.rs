//! Many values at once, from rows as they are written down.

use super::store::Slot;
use super::{ColumnVersions, Data, NO_ROW};
use crate::change::{Cell, Decimal};
use crate::schema::DataType;
use crate::state::stored::view::{Column, Values};

impl ColumnVersions {
    pub(in crate::state) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether there are versions that nobody said what they hold.
    pub(in crate::state) fn has_missing(&self) -> bool {
        self.unknown_count > 0 || self.is_left_out()
    }

    /// Whether some of these versions hold a number that is no decimal of the column's scale.
    pub(in crate::state) fn has_others(&self, rows: &[u32]) -> bool {
        match &self.data {
            Data::Number(values) if values.has_others() => {
                let mut rows = rows.iter().filter(|&&row| row != NO_ROW);
                rows.any(|&row| values.is_other(row as usize))
            }
            _ => false,
        }
    }

    /// The bytes of a text, or of bytes.
    pub(in crate::state) fn text_bytes(&self, row: u32) -> usize {
        match &self.data {
            Data::Text(values) => values.get(row as usize).len(),
            Data::Bytes(values) => values.get(row as usize).len(),
            _ => 0,
        }
    }

    /// Appends the first `count` values of a stored column.
    ///
    /// # Panics
    /// Where the column is of another type.
    pub(in crate::state) fn extend(&mut self, column: &Column<'_>, count: usize) {
        debug_assert_eq!(&self.data_type, column.data_type);
        if self.is_left_out() {
            return;
        }
        let held = |row: &usize| column.is_full() || column.slot(*row) == Slot::Value;
        macro_rules! extend {
            ($to:expr, $values:expr) => {{
                $to.reserve(count);
                for row in 0..count {
                    $to.push(if held(&row) {
                        $values(row)
                    } else {
                        Default::default()
                    });
                }
            }};
        }
        match (&mut self.data, &column.values) {
            (Data::Bool(to), Values::Bool(values)) => extend!(to, |row| values.value(row)),
            (Data::Int(to), Values::Int(values)) => extend!(to, |row: usize| values[row]),
            (Data::Float(to), Values::Float32(values)) => {
                extend!(to, |row: usize| f64::from(values[row]))
            }
            (Data::Float(to), Values::Float64(values)) => extend!(to, |row: usize| values[row]),
            (Data::Date(to), Values::Date(values)) => extend!(to, |row: usize| values[row]),
            (Data::Micros(to), Values::Time(values) | Values::Timestamp(values)) => {
                extend!(to, |row: usize| values[row])
            }
            (Data::List(to), Values::List(_)) => extend!(to, |row| column.list(row)),
            (Data::Text(to), Values::Text(values)) => {
                to.reserve(count);
                (0..count).for_each(|row| to.push(if held(&row) { values.value(row) } else { "" }));
            }
            (Data::Bytes(to), Values::Bytes(values)) => {
                to.reserve(count);
                (0..count)
                    .for_each(|row| to.push(if held(&row) { values.value(row) } else { &[] }));
            }
            (Data::Number(to), Values::Decimal(values, scale)) => {
                to.reserve(count);
                for row in 0..count {
                    if !held(&row) {
                        to.push_default();
                        continue;
                    }
                    let value = Decimal {
                        unscaled: values[row],
                        scale: *scale,
                    };
                    to.push(value);
                }
            }
            (Data::Number(to), Values::Number(_)) => {
                to.reserve(count);
                for row in 0..count {
                    match column.cell(row) {
                        Cell::Decimal(value) => to.push(value),
                        other @ Cell::Wide(_) => to.push_other(other),
                        _ => to.push_default(),
                    }
                }
            }
            _ => panic!("rows of another table: they are read by its schema"),
        }
        self.extend_slots(column, count);
    }

    fn extend_slots(&mut self, column: &Column<'_>, count: usize) {
        if column.is_full() {
            self.slots.push_values(count);
        } else {
            (0..count).for_each(|row| self.push_slot(column.slot(row)));
        }
        if let Data::List(lists) = &self.data {
            let first = lists.len() - count;
            let DataType::Array(element) = &self.data_type else {
                unreachable!("lists are only kept for array types")
            };
            self.has_nested |= lists[first..]
                .iter()
                .any(|cells| !super::arrow::has_room(element, cells));
        }
    }
}
