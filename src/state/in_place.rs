//! Tables that are read where they lie, instead of being held as row versions: only their rows at one position can be asked for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};

use super::Fingerprint;
use super::column::arrow_type;
use super::key::identity;
use crate::schema::{DataType, Table};

/// Where a table that is not held lies.
#[derive(Clone, Debug)]
pub enum InPlace {
    /// In Parquet files, in no order.
    Files(Vec<PathBuf>),
    /// In chunks in key order.
    Chunks(Arc<dyn Chunks>),
}

/// Why rows could not be read; it holds no value of a row.
pub type NotRead = Box<dyn std::error::Error + Send + Sync>;

/// What is known of a column's values without reading them, a value for each part of the table.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// None of the values is below; NULL where that is not known.
    pub min: ArrayRef,
    /// None of the values is above; NULL where that is not known.
    pub max: ArrayRef,
    /// How many are NULL.
    pub nulls: UInt64Array,
}

/// Rows of a table in canonical order (see [`Keys`](super::Keys)), cut into chunks of which each can be read by itself. All cells are
/// known, and no column is an array.
pub trait Chunks: fmt::Debug + Send + Sync {
    /// The table.
    fn table(&self) -> &Table;

    /// The columns of all batches, in the table's order: [`arrow_schema`] with the largest scale that decimals of a column have.
    fn schema(&self) -> SchemaRef;

    /// How many chunks there are.
    fn count(&self) -> usize;

    /// How many rows a chunk has.
    ///
    /// # Panics
    /// Where there is no such chunk.
    fn rows(&self, chunk: usize) -> u64;

    /// The parts that [`bounds`](Self::bounds) are about, which are chunks or pieces of them: the chunk and the rows of each.
    fn parts(&self) -> &[(usize, u64)];

    /// What is known of a column; None where that is nothing, as for floating-point numbers, of which bounds do not tell NaN.
    fn bounds(&self, column: usize) -> Option<Bounds>;

    /// Some columns of a chunk, in this order.
    ///
    /// # Errors
    /// When its bytes cannot be read, or are not the right ones.
    ///
    /// # Panics
    /// Where there is no such chunk or column.
    fn read(&self, chunk: usize, columns: &[usize]) -> Result<RecordBatch, NotRead>;

    /// The fingerprint of all rows.
    fn fingerprint(&self) -> Fingerprint;
}

/// How the columns of a table are shown to the engine; decimals with their declared scale.
pub fn arrow_schema(table: &Table) -> ArrowSchema {
    let field = |column: &crate::schema::Column| {
        Field::new(&column.name, arrow_type(&column.data_type), true)
    };
    ArrowSchema::new(table.columns.iter().map(field).collect::<Vec<_>>())
}

/// The columns by which rows in canonical order are ordered for the engine too, ascending and NULL last: the key's as far as the engine
/// compares their values as their canonical bytes are compared. It does not for floating-point numbers (two zeros), `jsonb` (which is
/// ordered by its meaning) and arrays.
pub fn engine_order(table: &Table) -> Vec<usize> {
    let same = |&at: &usize| {
        !matches!(
            table.columns[at].data_type,
            DataType::Float32 | DataType::Float64 | DataType::Jsonb | DataType::Array(_)
        )
    };
    identity(table).into_iter().take_while(same).collect()
}
