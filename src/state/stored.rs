//! Rows as they are written down: Arrow arrays, and which cells are not known.
//!
//! | type | array |
//! |---|---|
//! | integers | Int64 |
//! | `real`, `double precision` | Float32, Float64 |
//! | `boolean`, `bytea`, `date` | Boolean, Binary, Date32 |
//! | `numeric` | Decimal128: precision 18 where every value of the batch has at most 18 digits, else 38; the column's scale |
//! | | Utf8 where a value of the batch has no place on that scale: Postgres' text; `1e131071` where that has very many zeros |
//! | `time`, `timestamp`, `timestamptz` | Time64, Timestamp, Timestamp in UTC; all in microseconds |
//! | arrays | Utf8: Postgres' literals, `{{1,2},{3,NULL}}` |
//! | all others | Utf8 |

pub(super) mod lists;
mod numbers;
pub(super) mod view;

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder,
    RecordBatch, RecordBatchOptions, StringBuilder, UInt32Array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema};

use super::column::{ColumnVersions, NO_ROW};
use super::versions::TableVersions;
use crate::change::{Cell, Commit, DECIMAL_DIGITS_MAX};
use crate::schema::{DataType, Table};
use view::{Column, Values};

/// Row versions that are put into arrays at once, and the bytes of their texts after which no further one is.
const PIECE_ROWS: usize = 8192;
const PIECE_BYTES: usize = 64 << 20;

/// The latest time of a day, `24:00`, in microseconds.
const TIME_MAX: i64 = 86_400_000_000;

/// Rows of a table, in any order. In a column, texts together are at most 2 GiB.
#[derive(Clone, Debug)]
pub struct StoredRows {
    /// In the table's column order; decimals with 38 digits.
    arrays: Vec<ArrayRef>,
    /// For each column, the cells that are not known, which are null in its array; None where there are none.
    unknown: Vec<Option<BooleanBuffer>>,
    len: usize,
}

/// A batch that holds no rows of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Columns are missing, too many, or in another order.
    #[error("the columns are not those of the table")]
    Columns,
    /// A column's array is of another type.
    #[error("column `{column}` is {found}, which is not how a {expected} is kept")]
    Type {
        /// The column.
        column: String,
        /// The column's type, as Postgres prints it.
        expected: String,
        /// The array's type, as Arrow prints it.
        found: String,
    },
    /// A value that the column's type does not have.
    #[error("column `{0}` holds a value that its type does not have")]
    Value(String),
    /// The last column does not say which cells are not known.
    #[error("the marks of cells that are not known are wrong")]
    Unknown,
}

impl StoredRows {
    /// Some row versions of a table's columns.
    pub(super) fn of_columns(columns: &[ColumnVersions], rows: &[u32]) -> StoredRows {
        let (arrays, unknown) = columns.iter().map(|one| one.stored(rows)).unzip();
        StoredRows {
            arrays,
            unknown,
            len: rows.len(),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Some of the rows, in this order; a row may be taken more than once.
    ///
    /// # Panics
    /// Where a row number is not below [`len`](Self::len).
    pub fn take(&self, rows: &[u32]) -> StoredRows {
        let indices = UInt32Array::from(rows.to_vec());
        let take = |array: &ArrayRef| {
            compute::take(array, &indices, None).expect("the rows are there, and fewer than before")
        };
        let marks = |marks: &Option<BooleanBuffer>| {
            let marks = marks.as_ref()?;
            let taken: BooleanBuffer = rows.iter().map(|&row| marks.value(row as usize)).collect();
            (taken.count_set_bits() > 0).then_some(taken)
        };
        StoredRows {
            arrays: self.arrays.iter().map(take).collect(),
            unknown: self.unknown.iter().map(marks).collect(),
            len: rows.len(),
        }
    }

    /// How many columns they have.
    pub fn width(&self) -> usize {
        self.arrays.len()
    }

    /// Whether a cell is known.
    ///
    /// # Panics
    /// Where there is no such cell.
    pub fn is_known(&self, column: usize, row: usize) -> bool {
        self.unknown[column]
            .as_ref()
            .is_none_or(|marks| !marks.value(row))
    }

    /// Whether some cell is not known.
    pub fn has_unknown(&self) -> bool {
        self.unknown.iter().any(Option::is_some)
    }

    /// Whether two rows hold the same, also in what is not known.
    ///
    /// # Panics
    /// Where the rows are not of this table, or not there.
    pub fn same(&self, row: usize, other: &StoredRows, at: usize, table: &Table) -> bool {
        let columns = 0..self.width();
        columns.into_iter().all(|column| {
            let (a, b) = (self.column(table, column), other.column(table, column));
            a.cell(row) == b.cell(at)
        })
    }

    /// Makes cells of a column not known.
    ///
    /// # Panics
    /// Where there is not one mark for each row.
    pub fn hide(&mut self, column: usize, hidden: &BooleanBuffer) {
        assert_eq!(hidden.len(), self.len, "a mark for each row");
        if hidden.count_set_bits() == 0 {
            return;
        }
        let marks = match &self.unknown[column] {
            Some(marks) => marks | hidden,
            None => hidden.clone(),
        };
        let nulls = BooleanArray::new(marks.clone(), None);
        self.arrays[column] =
            compute::nullif(&self.arrays[column], &nulls).expect("any array can have nulls");
        self.unknown[column] = Some(marks);
    }

    /// The rows from `start` on, without a copy.
    ///
    /// # Panics
    /// Where fewer than `start + len` rows are there.
    pub fn slice(&self, start: usize, len: usize) -> StoredRows {
        let marks = |marks: &Option<BooleanBuffer>| {
            let part = marks.as_ref()?.slice(start, len);
            (part.count_set_bits() > 0).then_some(part)
        };
        StoredRows {
            arrays: self.arrays.iter().map(|a| a.slice(start, len)).collect(),
            unknown: self.unknown.iter().map(marks).collect(),
            len,
        }
    }

    /// All rows of several parts of one table, one part after the other.
    ///
    /// # Panics
    /// Where there are no parts, or they are not of one table.
    pub fn concat(parts: &[&StoredRows]) -> StoredRows {
        let [first, ..] = parts else {
            panic!("at least one part says what the columns are")
        };
        let columns = 0..first.arrays.len();
        let arrays = columns.clone().map(|at| {
            let arrays: Vec<ArrayRef> = parts.iter().map(|part| part.arrays[at].clone()).collect();
            let arrays = numbers::in_one_form(arrays);
            let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
            compute::concat(&arrays).expect("parts of one table with less than 2 GiB of text")
        });
        let marks = columns.clone().map(|at| {
            parts.iter().find(|part| part.unknown[at].is_some())?;
            let mut marks = BooleanBufferBuilder::new(0);
            for part in parts {
                match &part.unknown[at] {
                    Some(some) => marks.append_buffer(some),
                    None => marks.append_n(part.len, false),
                }
            }
            Some(marks.finish())
        });
        StoredRows {
            arrays: arrays.collect(),
            unknown: marks.collect(),
            len: parts.iter().map(|part| part.len).sum(),
        }
    }

    /// The name of the column that says which cells are not known: `_unknown`, behind as many more `_` as make it a name that no
    /// column of the table has.
    pub fn unknown_name(table: &Table) -> String {
        let mut name = "_unknown".to_owned();
        while table.column(&name).is_some() {
            name.insert(0, '_');
        }
        name
    }

    /// The rows as a batch: columns named as the table's, in its order, all nullable. Where some cell is not known, one more column
    /// comes last (see [`unknown_name`](Self::unknown_name)): Binary, one bit a column, the first one in the lowest bit of the first
    /// byte, bits that are left over 0; NULL for a row of which everything is known.
    pub fn to_batch(&self, table: &Table) -> RecordBatch {
        let mut fields = Vec::with_capacity(self.arrays.len() + 1);
        let mut arrays = Vec::with_capacity(self.arrays.len() + 1);
        for (column, array) in table.columns.iter().zip(&self.arrays) {
            let array = numbers::narrowed(array);
            fields.push(Field::new(&column.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        if self.unknown.iter().any(Option::is_some) {
            fields.push(Field::new(
                Self::unknown_name(table),
                ArrowType::Binary,
                true,
            ));
            arrays.push(Arc::new(self.marks()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options)
            .expect("all columns have as many values as there are rows")
    }

    fn marks(&self) -> BinaryArray {
        let mut builder = BinaryBuilder::new();
        let mut bits = vec![0u8; self.arrays.len().div_ceil(8)];
        for row in 0..self.len {
            bits.fill(0);
            for (at, marks) in self.unknown.iter().enumerate() {
                if marks.as_ref().is_some_and(|marks| marks.value(row)) {
                    bits[at / 8] |= 1 << (at % 8);
                }
            }
            builder.append_option(bits.iter().any(|&byte| byte != 0).then_some(&bits));
        }
        builder.finish()
    }

    /// The rows of a batch that [`to_batch`](Self::to_batch) made, or may have made: it may come from anywhere.
    ///
    /// # Errors
    /// What about it is wrong, without a value.
    pub fn from_batch(table: &Table, batch: &RecordBatch) -> Result<StoredRows, Malformed> {
        let schema = batch.schema();
        let (count, names) = (table.columns.len(), schema.fields());
        let marked = batch.num_columns() == count + 1;
        let last = marked.then(|| Self::unknown_name(table));
        let expected = table.columns.iter().map(|column| column.name.as_str());
        let expected = expected.chain(last.as_deref());
        if !expected.eq(names.iter().map(|field| field.name().as_str())) {
            return Err(Malformed::Columns);
        }
        let unknown = match marked {
            true => read_marks(batch.column(count), count)?,
            false => vec![None; count],
        };
        let mut rows = StoredRows {
            arrays: Vec::with_capacity(count),
            unknown,
            len: batch.num_rows(),
        };
        for (at, column) in table.columns.iter().enumerate() {
            let array = batch.column(at);
            check(&column.name, &column.data_type, array)?;
            let hidden = |marks: &BooleanBuffer| marks.set_indices().all(|row| array.is_null(row));
            if !rows.unknown[at].as_ref().is_none_or(hidden) {
                return Err(Malformed::Unknown);
            }
            rows.arrays.push(numbers::widened(array));
        }
        Ok(rows)
    }

    /// The columns by their types.
    ///
    /// # Panics
    /// Where the rows are not of this table.
    pub(super) fn columns<'a>(&'a self, table: &'a Table) -> Vec<Column<'a>> {
        assert_eq!(table.columns.len(), self.arrays.len(), "rows of this table");
        (0..self.arrays.len())
            .map(|at| self.column(table, at))
            .collect()
    }

    /// One column by its type.
    pub(super) fn column<'a>(&'a self, table: &'a Table, at: usize) -> Column<'a> {
        let data_type = &table.columns[at].data_type;
        Column::new(data_type, &self.arrays[at], self.unknown[at].as_ref())
            .expect("the rows are of this table")
    }

    /// The array in which a column keeps numbers: null for every cell that is none.
    pub fn numbers(cells: impl ExactSizeIterator<Item = Cell>) -> ArrayRef {
        numbers::array(cells)
    }

    /// The text in which a column of an array type keeps a list; `data_type` is the array's.
    pub fn list_text(data_type: &DataType, cells: &[Cell]) -> String {
        lists::to_text(data_type, cells)
    }

    /// A cell, for tests and for few of them.
    ///
    /// # Panics
    /// Where the rows are not of this table, or there is no such row.
    pub fn cell(&self, table: &Table, column: usize, row: usize) -> Cell {
        self.column(table, column).cell(row)
    }
}

impl TableVersions {
    /// Row versions in parts that take little memory as arrays.
    pub fn pieces<'a>(&'a self, rows: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
        let mut left = rows;
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |row: &u32| {
                let before = bytes;
                bytes += self
                    .columns
                    .iter()
                    .map(|c| c.text_bytes(*row))
                    .sum::<usize>();
                before < PIECE_BYTES
            };
            let len = left
                .iter()
                .take(PIECE_ROWS)
                .copied()
                .take_while(fits)
                .count();
            let (piece, rest) = left.split_at(len);
            left = rest;
            (len > 0).then_some(piece)
        })
    }

    /// Some row versions, as they are written down, in this order; nulls where there is none.
    ///
    /// # Panics
    /// Where the texts of a column are more than 2 GiB together: see [`pieces`](Self::pieces).
    pub fn stored(&self, rows: &[u32]) -> StoredRows {
        StoredRows::of_columns(&self.columns, rows)
    }

    /// Adds rows of the snapshot (position 0), as [`load`](Self::load) does one by one; column by column. They are entered into the
    /// index by which changes find their rows when the first change comes.
    ///
    /// # Panics
    /// Where the rows are not of this table, or there are 2^32 of them.
    pub fn load_stored(&mut self, rows: &StoredRows) {
        let table = self.table.clone();
        for (at, column) in rows.columns(&table).iter().enumerate() {
            self.columns[at].extend(column, rows.len);
        }
        self.append_lives(rows.len);
    }

    /// The rows at a position, as they are written down, oldest version first.
    pub fn stored_at(&self, position: Commit) -> StoredRows {
        self.stored(&self.visible(position))
    }
}

impl ColumnVersions {
    /// The values of some row versions, and which of them are not known.
    pub(super) fn stored(&self, rows: &[u32]) -> (ArrayRef, Option<BooleanBuffer>) {
        let array = match self.data_type() {
            DataType::Array(_) => self.literals(rows),
            DataType::Numeric { .. } if self.is_left_out() => self.to_arrow(rows),
            DataType::Numeric { .. } if !self.has_others(rows) => self.decimals(rows),
            DataType::Numeric { .. } => numbers::texts(rows.iter().map(|&row| match row {
                NO_ROW => Cell::Null,
                row => self.cell(row),
            })),
            _ => self.to_arrow(rows),
        };
        let marks = self.has_missing().then(|| {
            let marks = rows
                .iter()
                .map(|&row| row != NO_ROW && self.is_missing(row));
            marks.collect::<BooleanBuffer>()
        });
        (array, marks.filter(|marks| marks.count_set_bits() > 0))
    }

    fn literals(&self, rows: &[u32]) -> ArrayRef {
        let mut builder = StringBuilder::new();
        for &row in rows {
            let cell = (row != NO_ROW).then(|| self.cell(row));
            match cell.unwrap_or(Cell::Null) {
                Cell::List(cells) => builder.append_value(lists::to_text(self.data_type(), &cells)),
                _ => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    }
}

/// Which cells are not known, a column.
fn read_marks(array: &ArrayRef, columns: usize) -> Result<Vec<Option<BooleanBuffer>>, Malformed> {
    let array = array.as_binary_opt::<i32>().ok_or(Malformed::Unknown)?;
    let mut marks = vec![vec![false; array.len()]; columns];
    for (row, bits) in array.iter().enumerate() {
        let Some(bits) = bits else { continue };
        let some = bits.iter().any(|&byte| byte != 0);
        let mut set = (0..bits.len() * 8).filter(|at| bits[at / 8] >> (at % 8) & 1 == 1);
        if bits.len() != columns.div_ceil(8) || !some {
            return Err(Malformed::Unknown);
        }
        set.try_for_each(|at| {
            let mark = marks.get_mut(at).ok_or(Malformed::Unknown)?;
            mark[row] = true;
            Ok(())
        })?;
    }
    let buffer = |marks: Vec<bool>| marks.contains(&true).then(|| BooleanBuffer::from(marks));
    Ok(marks.into_iter().map(buffer).collect())
}

/// Fails unless an array holds values of a column's type.
fn check(name: &str, data_type: &DataType, array: &ArrayRef) -> Result<(), Malformed> {
    let Some(column) = Column::new(data_type, array, None) else {
        return Err(Malformed::Type {
            column: name.to_owned(),
            expected: data_type.to_string(),
            found: array.data_type().to_string(),
        });
    };
    let held = || (0..array.len()).filter(|&row| array.is_valid(row));
    let fits = match (&column.values, data_type) {
        (Values::Int(values), DataType::Int16) => {
            held().all(|row| i16::try_from(values[row]).is_ok())
        }
        (Values::Int(values), DataType::Int32) => {
            held().all(|row| i32::try_from(values[row]).is_ok())
        }
        (Values::Decimal(values, scale), _) => {
            let limit = 10u128.pow(u32::from(DECIMAL_DIGITS_MAX));
            let fits = |row: usize| values[row].unsigned_abs() < limit;
            *scale <= DECIMAL_DIGITS_MAX && held().all(fits)
        }
        (Values::Number(values), _) => held().all(|row| view::number(values.value(row)).is_some()),
        (Values::Time(values), _) => held().all(|row| (0..=TIME_MAX).contains(&values[row])),
        (Values::List(values), _) => {
            held().all(|row| lists::parse(data_type, values.value(row)).is_some())
        }
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => Err(Malformed::Value(name.to_owned())),
    }
}

#[cfg(test)]
pub(super) mod tests;
