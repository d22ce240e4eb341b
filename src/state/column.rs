//! One column of a multi-version table: typed vectors, appended to and never rewritten in order.

mod arrow;
mod extend;
mod store;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, LargeBinaryBuilder,
    PrimitiveArray, StringBuilder, new_null_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};

use crate::change::{Cell, DECIMAL_DIGITS_MAX};
use crate::schema::DataType;
use crate::schema::value::canonical_json;
pub(super) use arrow::arrow_type;
use arrow::list_to_arrow;
use store::{Ints, Numbers, Slots, Texts};
pub(in crate::state) use store::{Slot, capacity};

/// The engine's type for numbers of which some are no decimals: bytes in the order of the numbers, see
/// [`Number::put_key`](crate::change::Number). It is the type of nothing else there.
pub const WIDE: ArrowType = ArrowType::LargeBinary;

/// Where a field of type [`WIDE`] says how many digits after the point its decimals have.
const SCALE: &str = "firstbad.scale";

/// How many digits after the point are shown of the decimals among numbers of type [`WIDE`]; None where as many as each has.
pub fn scale_of(field: &Field) -> Option<u8> {
    field.metadata().get(SCALE)?.parse().ok()
}

/// The field with a scale: see [`scale_of`].
pub fn with_scale(field: Field, scale: u8) -> Field {
    field.with_metadata([(SCALE.to_owned(), scale.to_string())].into())
}

/// "No row": the index that stands for an image which does not exist.
pub(super) const NO_ROW: u32 = u32::MAX;

/// Typed storage.
#[derive(Debug)]
enum Data {
    Bool(Vec<bool>),
    Int(Ints),
    Float(Vec<f64>),
    Number(Numbers),
    Text(Texts<String>),
    Bytes(Texts<Vec<u8>>),
    Date(Vec<i32>),
    Micros(Vec<i64>),
    List(Vec<Vec<Cell>>),
    /// Nothing is kept: no version's value is known.
    LeftOut,
}

/// A column's values for every row version of its table.
#[derive(Debug)]
pub(super) struct ColumnVersions {
    data_type: DataType,
    data: Data,
    slots: Slots,
    unknown_count: usize,
    /// Whether some array has more dimensions, or more digits in a number, than the engine has room for.
    has_nested: bool,
}

impl ColumnVersions {
    pub(super) fn new(data_type: DataType) -> Self {
        let data = match &data_type {
            DataType::Bool => Data::Bool(Vec::new()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Data::Int(Ints::new()),
            DataType::Float32 | DataType::Float64 => Data::Float(Vec::new()),
            DataType::Numeric { precision_scale } => {
                let scale = precision_scale.map_or(0, |(_, s)| {
                    u8::try_from(s).unwrap_or(0).min(DECIMAL_DIGITS_MAX)
                });
                Data::Number(Numbers::new(scale))
            }
            DataType::Bytea => Data::Bytes(Texts::new()),
            DataType::Date => Data::Date(Vec::new()),
            DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
                Data::Micros(Vec::new())
            }
            DataType::Array(_) => Data::List(Vec::new()),
            _ => Data::Text(Texts::new()),
        };
        ColumnVersions {
            data_type,
            data,
            slots: Slots::default(),
            unknown_count: 0,
            has_nested: false,
        }
    }

    /// Gives back the room that was kept for more.
    pub(super) fn shrink(&mut self) {
        self.slots.shrink();
        match &mut self.data {
            Data::Bool(values) => values.shrink_to_fit(),
            Data::Int(values) => values.shrink(),
            Data::Float(values) => values.shrink_to_fit(),
            Data::Number(values) => values.shrink(),
            Data::Text(values) => values.shrink(),
            Data::Bytes(values) => values.shrink(),
            Data::Date(values) => values.shrink_to_fit(),
            Data::Micros(values) => values.shrink_to_fit(),
            Data::List(values) => values.shrink_to_fit(),
            Data::LeftOut => {}
        }
    }

    /// The bytes of memory that the column holds on to, beside itself.
    pub(super) fn bytes(&self) -> usize {
        let data = match &self.data {
            Data::Bool(values) => capacity(values),
            Data::Int(values) => values.bytes(),
            Data::Float(values) => capacity(values),
            Data::Number(values) => values.bytes(),
            Data::Text(values) => values.bytes(),
            Data::Bytes(values) => values.bytes(),
            Data::Date(values) => capacity(values),
            Data::Micros(values) => capacity(values),
            Data::List(values) => capacity(values) + values.iter().map(list_bytes).sum::<usize>(),
            Data::LeftOut => 0,
        };
        data + self.slots.bytes()
    }

    /// Shows numbers to the engine as those of any size are shown.
    pub(super) fn widen(&mut self) {
        if let Data::Number(values) = &mut self.data {
            values.widen();
        }
    }

    /// Keeps nothing of the values any more, of those to come neither: none of them is known.
    pub(super) fn leave_out(&mut self) {
        self.data = Data::LeftOut;
        self.slots = Slots::default();
        self.unknown_count = 0;
        self.has_nested = false;
    }

    /// Whether nothing is kept of its values.
    pub(super) fn is_left_out(&self) -> bool {
        matches!(self.data, Data::LeftOut)
    }

    /// Whether some version holds what the engine cannot be shown.
    pub(super) fn has_unknown(&self) -> bool {
        self.unknown_count > 0 || self.has_nested || self.is_left_out()
    }

    /// Whether the engine cannot be shown what a version holds: it is not known, or it is an array in an array, which Postgres has
    /// in the same type and Arrow has not, or an array with a number that has no room there.
    pub(super) fn is_unknown(&self, row: u32) -> bool {
        self.is_missing(row) || (self.has_nested && self.is_nested(row))
    }

    /// Whether nobody said what a version holds.
    pub(super) fn is_missing(&self, row: u32) -> bool {
        self.slot(row as usize) == Slot::Unknown
    }

    fn slot(&self, at: usize) -> Slot {
        match self.data {
            Data::LeftOut => Slot::Unknown,
            _ => self.slots.get(at),
        }
    }

    fn is_nested(&self, row: u32) -> bool {
        match (&self.data, &self.data_type) {
            (Data::List(values), DataType::Array(element)) => {
                !arrow::has_room(element, &values[row as usize])
            }
            _ => false,
        }
    }

    /// Appends a cell. The cell must be of the column's type (readers see to it).
    pub(super) fn push(&mut self, cell: &Cell) {
        match (&mut self.data, cell) {
            (Data::Bool(values), Cell::Bool(value)) => values.push(*value),
            (Data::Int(values), Cell::Int(value)) => values.push(*value),
            (Data::Float(values), Cell::Float(value)) => values.push(*value),
            (Data::Number(values), Cell::Decimal(value)) => values.push(*value),
            (Data::Number(values), Cell::Wide(_)) => values.push_other(cell.clone()),
            (Data::Text(values), Cell::Text(value)) => values.push(value),
            (Data::Bytes(values), Cell::Bytes(value)) => values.push(value),
            (Data::Date(values), Cell::Date(value)) => values.push(*value),
            (Data::Micros(values), Cell::Time(value) | Cell::Timestamp(value)) => {
                values.push(*value)
            }
            (Data::List(values), Cell::List(value)) => values.push(value.clone()),
            (Data::LeftOut, _) => return,
            (data, Cell::Null | Cell::Unknown) => data.push_default(),
            _ => panic!(
                "a cell of another type than its column {}: readers convert by the schema",
                self.data_type
            ),
        }
        self.push_slot(match cell {
            Cell::Null => Slot::Null,
            Cell::Unknown => Slot::Unknown,
            _ => Slot::Value,
        });
        self.note_nested(cell);
    }

    fn note_nested(&mut self, cell: &Cell) {
        if let (Cell::List(cells), DataType::Array(element)) = (cell, &self.data_type) {
            self.has_nested |= !arrow::has_room(element, cells);
        }
    }

    /// Appends what a row version holds once more.
    pub(super) fn push_copy(&mut self, row: u32) {
        let at = row as usize;
        match &mut self.data {
            Data::Bool(values) => values.push(values[at]),
            Data::Int(values) => values.push(values.get(at)),
            Data::Float(values) => values.push(values[at]),
            Data::Number(values) => values.push_copy(at),
            Data::Text(values) => values.push_copy(at),
            Data::Bytes(values) => values.push_copy(at),
            Data::Date(values) => values.push(values[at]),
            Data::Micros(values) => values.push(values[at]),
            Data::List(values) => values.push(values[at].clone()),
            Data::LeftOut => return,
        }
        self.push_slot(self.slots.get(at));
    }

    /// Appends a cell of a row that took the place of a version; a text that did not change is kept once.
    pub(super) fn push_after(&mut self, old: u32, cell: &Cell) {
        let at = old as usize;
        let unchanged = match (&self.data, cell) {
            (Data::Text(values), Cell::Text(text)) => values.get(at) == text,
            (Data::Bytes(values), Cell::Bytes(bytes)) => values.get(at) == bytes.as_slice(),
            _ => false,
        };
        if unchanged && self.slot(at) == Slot::Value {
            self.push_copy(old);
        } else {
            self.push(cell);
        }
    }

    fn push_slot(&mut self, slot: Slot) {
        self.unknown_count += usize::from(slot == Slot::Unknown);
        self.slots.push(slot);
    }

    /// Makes a value known that was not: a later image told what this version held.
    pub(super) fn learn(&mut self, row: u32, cell: &Cell) {
        let at = row as usize;
        if self.is_left_out() || self.slots.get(at) != Slot::Unknown || *cell == Cell::Unknown {
            return;
        }
        match (&mut self.data, cell) {
            (_, Cell::Null) => {}
            (Data::Bool(values), Cell::Bool(value)) => values[at] = *value,
            (Data::Int(values), Cell::Int(value)) => values.set(at, *value),
            (Data::Float(values), Cell::Float(value)) => values[at] = *value,
            (Data::Number(values), Cell::Decimal(_) | Cell::Wide(_)) => values.set(at, cell),
            (Data::Date(values), Cell::Date(value)) => values[at] = *value,
            (Data::Micros(values), Cell::Time(value) | Cell::Timestamp(value)) => {
                values[at] = *value
            }
            (Data::List(values), Cell::List(value)) => values[at] = value.clone(),
            (Data::Text(values), Cell::Text(value)) => values.set(at, value),
            (Data::Bytes(values), Cell::Bytes(value)) => values.set(at, value),
            _ => panic!(
                "a cell of another type than its column {}: readers convert by the schema",
                self.data_type
            ),
        }
        let slot = match cell {
            Cell::Null => Slot::Null,
            _ => Slot::Value,
        };
        self.slots.set(at, slot);
        self.unknown_count -= 1;
        self.note_nested(cell);
    }

    /// The cell of a row version.
    pub(super) fn cell(&self, row: u32) -> Cell {
        let at = row as usize;
        match self.slot(at) {
            Slot::Null => return Cell::Null,
            Slot::Unknown => return Cell::Unknown,
            Slot::Value => {}
        }
        match &self.data {
            Data::Bool(values) => Cell::Bool(values[at]),
            Data::Int(values) => Cell::Int(values.get(at)),
            Data::Float(values) => Cell::Float(values[at]),
            Data::Number(values) => values.get(at),
            Data::Text(values) => Cell::Text(values.get(at).to_owned()),
            Data::Bytes(values) => Cell::Bytes(values.get(at).to_vec()),
            Data::Date(values) => Cell::Date(values[at]),
            Data::Micros(values) if self.data_type == DataType::Time => Cell::Time(values[at]),
            Data::Micros(values) => Cell::Timestamp(values[at]),
            Data::List(values) => Cell::List(values[at].clone()),
            Data::LeftOut => Cell::Unknown,
        }
    }

    /// Whether two values of this type are the same: JSON by its meaning where Postgres has it so.
    pub(super) fn same(&self, row: u32, cell: &Cell) -> bool {
        let at = row as usize;
        match (&self.data, cell, self.slot(at)) {
            (Data::Text(values), Cell::Text(text), Slot::Value) => {
                let own = values.get(at);
                own == text
                    || (self.data_type == DataType::Jsonb
                        && canonical_json(own) == canonical_json(text))
            }
            (Data::Int(values), Cell::Int(value), Slot::Value) => values.get(at) == *value,
            _ => self.cell(row) == *cell,
        }
    }

    /// Whether two versions hold the same value.
    pub(super) fn same_rows(&self, a: u32, b: u32) -> bool {
        let (i, j) = (a as usize, b as usize);
        match (self.slot(i), self.slot(j)) {
            (Slot::Value, Slot::Value) => match &self.data {
                Data::Int(values) => values.get(i) == values.get(j),
                Data::Micros(values) => values[i] == values[j],
                Data::Text(values)
                    if values.same_number(i, j) || values.get(i) == values.get(j) =>
                {
                    true
                }
                _ => self.same(a, &self.cell(b)),
            },
            (left, right) => left == right,
        }
    }

    /// Whether two versions hold the same to the last digit and letter; two that are not known do.
    pub(super) fn identical(&self, a: u32, b: u32) -> bool {
        let (i, j) = (a as usize, b as usize);
        let slots = (self.slot(i), self.slot(j));
        match &self.data {
            _ if slots != (Slot::Value, Slot::Value) => slots.0 == slots.1,
            Data::Float(values) => values[i].to_bits() == values[j].to_bits(),
            Data::Text(values) => values.same_number(i, j) || values.get(i) == values.get(j),
            _ => self.same_rows(a, b),
        }
    }

    /// Feeds the value into a hash, as [`hash_cell`](Self::hash_cell) does, without a copy of it.
    pub(super) fn hash(&self, row: u32, state: &mut impl Hasher) {
        let at = row as usize;
        let kind = |cell: Cell| std::mem::discriminant(&cell);
        match (&self.data, self.slot(at)) {
            (Data::Text(values), Slot::Value) => {
                kind(Cell::Text(String::new())).hash(state);
                self.hash_text(values.get(at), state);
            }
            (Data::Bytes(values), Slot::Value) => {
                kind(Cell::Bytes(Vec::new())).hash(state);
                values.get(at).hash(state);
            }
            (Data::List(values), Slot::Value) => {
                kind(Cell::List(Vec::new())).hash(state);
                values[at].hash(state);
            }
            // These take no memory of their own.
            _ => self.cell(row).hash(state),
        }
    }

    /// Feeds a cell of the column's type into a hash: equal ones by [`same`](Self::same) have equal hashes.
    pub(super) fn hash_cell(&self, cell: &Cell, state: &mut impl Hasher) {
        match cell {
            Cell::Text(text) => {
                std::mem::discriminant(cell).hash(state);
                self.hash_text(text, state);
            }
            cell => cell.hash(state),
        }
    }

    fn hash_text(&self, text: &str, state: &mut impl Hasher) {
        match self.data_type {
            DataType::Jsonb => canonical_json(text).hash(state),
            _ => text.hash(state),
        }
    }

    /// The Arrow type of the column as it stands.
    pub(super) fn arrow_type(&self) -> ArrowType {
        match &self.data {
            Data::Number(values) if values.is_wide() => WIDE,
            Data::Number(values) => decimals(values),
            _ => arrow_type(&self.data_type),
        }
    }

    /// The column for the engine, under a name. Where its numbers have no type that tells a scale, it is written beside it: see
    /// [`scale_of`].
    pub(super) fn field(&self, name: impl Into<String>) -> Field {
        let field = Field::new(name, self.arrow_type(), true);
        match &self.data {
            Data::Number(values) if values.is_wide() => with_scale(field, values.scale()),
            _ => field,
        }
    }

    /// The values of the given row versions; [`NO_ROW`] and cells that are not known become nulls.
    pub(super) fn to_arrow(&self, rows: &[u32]) -> ArrayRef {
        let at = |row: u32| self.holds_value(row).then_some(row as usize);
        macro_rules! build {
            ($builder:expr, $value:expr) => {{
                let mut builder = $builder;
                for &row in rows {
                    builder.append_option(at(row).map($value));
                }
                Arc::new(builder.finish())
            }};
        }
        match &self.data {
            Data::Bool(values) => build!(BooleanBuilder::with_capacity(rows.len()), |i| values[i]),
            Data::Int(Ints::Narrow(values)) => {
                self.primitive::<Int64Type>(rows, |i| i64::from(values[i]))
            }
            Data::Int(Ints::Wide(values)) => self.primitive::<Int64Type>(rows, |i| values[i]),
            Data::Float(values) if self.data_type == DataType::Float32 => {
                self.primitive::<Float32Type>(rows, |i| values[i] as f32)
            }
            Data::Float(values) => self.primitive::<Float64Type>(rows, |i| values[i]),
            Data::Number(values) if values.is_wide() => self.keys(values, rows),
            Data::Number(_) => self.decimals(rows),
            Data::Text(values) => build!(StringBuilder::new(), |i| values.get(i)),
            Data::Bytes(values) => build!(BinaryBuilder::new(), |i| values.get(i)),
            Data::Date(values) => self.primitive::<Date32Type>(rows, |i| values[i]),
            Data::Micros(values) if self.data_type == DataType::Time => {
                self.primitive::<Time64MicrosecondType>(rows, |i| values[i])
            }
            Data::Micros(values) => self.primitive::<TimestampMicrosecondType>(rows, |i| values[i]),
            Data::List(values) => list_to_arrow(
                &self.data_type,
                rows.iter().map(|&row| at(row).map(|i| &values[i])),
            ),
            Data::LeftOut => new_null_array(&self.arrow_type(), rows.len()),
        }
    }

    /// The values of row versions of which none holds a number that is no decimal of the column's scale.
    pub(super) fn decimals(&self, rows: &[u32]) -> ArrayRef {
        let Data::Number(values) = &self.data else {
            unreachable!("only a column of numbers has decimals")
        };
        self.primitive_of::<Decimal128Type>(decimals(values), rows, |row| values.unscaled(row))
    }

    /// Numbers of which some are no decimals of one scale: the bytes of each, which are in the order of the numbers.
    fn keys(&self, values: &Numbers, rows: &[u32]) -> ArrayRef {
        let mut builder = LargeBinaryBuilder::new();
        for &row in rows {
            let cell = self.holds_value(row).then(|| values.get(row as usize));
            builder.append_option(cell.and_then(|cell| cell.number_key()));
        }
        Arc::new(builder.finish())
    }

    /// Whether there is such a row and something is known to be in it.
    fn holds_value(&self, row: u32) -> bool {
        row != NO_ROW && self.slot(row as usize) == Slot::Value
    }

    /// An array of the column's type.
    fn primitive<T: ArrowPrimitiveType>(
        &self,
        rows: &[u32],
        value: impl Fn(usize) -> T::Native,
    ) -> ArrayRef {
        self.primitive_of::<T>(self.arrow_type(), rows, value)
    }

    /// An array; every slot has a value, be it an empty one.
    fn primitive_of<T: ArrowPrimitiveType>(
        &self,
        data_type: ArrowType,
        rows: &[u32],
        value: impl Fn(usize) -> T::Native,
    ) -> ArrayRef {
        let empty = T::Native::default();
        let value = |&row: &u32| {
            if row == NO_ROW {
                empty
            } else {
                value(row as usize)
            }
        };
        let values: Vec<T::Native> = rows.iter().map(value).collect();
        let is_whole = self.slots.all_hold_values() && !rows.contains(&NO_ROW);
        let nulls = (!is_whole).then(|| {
            let held = |at: usize| self.holds_value(rows[at]);
            NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), held))
        });
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        let array = PrimitiveArray::<T>::new(values.into(), nulls);
        Arc::new(array.with_data_type(data_type))
    }
}

/// The type of decimals.
fn decimals(values: &Numbers) -> ArrowType {
    let scale = i8::try_from(values.scale()).unwrap_or(0);
    ArrowType::Decimal128(DECIMAL_DIGITS_MAX, scale)
}

/// The bytes of a list's elements.
fn list_bytes(cells: &Vec<Cell>) -> usize {
    let inside = cells.iter().map(|cell| match cell {
        Cell::Text(text) => text.capacity(),
        Cell::Bytes(bytes) => bytes.capacity(),
        Cell::List(cells) => list_bytes(cells),
        _ => 0,
    });
    capacity(cells) + inside.sum::<usize>()
}

impl Data {
    fn push_default(&mut self) {
        match self {
            Data::Bool(values) => values.push(false),
            Data::Int(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Number(values) => values.push_default(),
            Data::Text(values) => values.push_default(),
            Data::Bytes(values) => values.push_default(),
            Data::Date(values) => values.push(0),
            Data::Micros(values) => values.push(0),
            Data::List(values) => values.push(Vec::new()),
            Data::LeftOut => {}
        }
    }
}
