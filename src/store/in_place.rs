//! A snapshot's tables, read chunk by chunk where they lie instead of being loaded.
//!
//! A chunk's file is compared with its hash once, and kept in memory as it is, packed; when [`KEPT_BYTES_MAX`] are kept, the others are
//! read and compared again whenever they are needed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options, concat};
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef,
};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::Store;
use super::error::StoreError;
use super::manifest::{Chunk, TableManifest};
use super::segment::Unreadable;
use super::snapshot::parallel;
use crate::change::{Commit, DECIMAL_DIGITS_MAX};
use crate::schema::{DataType, Table};
use crate::state::{Bounds, Chunks, Fingerprint, History, InPlace, NotRead, arrow_schema};

/// How many bytes of chunks' files one history keeps in memory.
const KEPT_BYTES_MAX: u64 = 512 << 20;

impl Store {
    /// The state of a snapshot, as [`history_of`](Self::history_of) its position and nothing else, but read in place: tables of which
    /// some cell is not known, tables with arrays, and those whose numbers are not all decimals of one scale are loaded, the others are
    /// not.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; [`StoreError::Refused`] when there is no snapshot at this position.
    pub fn history_in_place(&self, at: Commit) -> Result<History, StoreError> {
        if !self.ledger().snapshots.contains_key(&at) {
            return Err(StoreError::refused(
                format!("the store has no snapshot at #{at}"),
                "`firstbad snapshot SOURCE --store DIR` makes one of the source's last state",
            ));
        }
        let manifest = self.manifest(at)?;
        let mut history = self.beginning(at, &manifest);
        let shared = Arc::new(Shared {
            store: self.clone(),
            room: AtomicU64::new(KEPT_BYTES_MAX),
        });
        for (number, table) in manifest.tables.into_iter().enumerate() {
            let declared = &self.format().schema.tables[number];
            let loaded = has_arrays(declared) || table.chunks.iter().any(|chunk| chunk.unknown);
            if loaded {
                self.load(&mut history, number, &table)?;
            } else {
                match StoredTable::new(&shared, declared, &table)? {
                    Some(chunks) => {
                        history.in_place[number] = Some(InPlace::Chunks(Arc::new(chunks)));
                    }
                    None => self.load(&mut history, number, &table)?,
                }
            }
        }
        history.shrink();
        Ok(history)
    }
}

fn has_arrays(table: &Table) -> bool {
    let is_array = |data_type: &DataType| matches!(data_type, DataType::Array(_));
    table
        .columns
        .iter()
        .any(|column| is_array(&column.data_type))
}

/// What the tables of a history share.
struct Shared {
    store: Store,
    /// How many bytes may still be kept.
    room: AtomicU64,
}

/// A table of a snapshot.
struct StoredTable {
    shared: Arc<Shared>,
    table: Table,
    manifest: TableManifest,
    schema: SchemaRef,
    /// What each chunk's file says of itself.
    metadata: Vec<ArrowReaderMetadata>,
    /// The row groups of all chunks.
    parts: Vec<(usize, u64)>,
    /// The files that are kept, by chunk. Whoever needs one that is not there holds its place until it is.
    kept: Vec<Mutex<Option<Bytes>>>,
}

impl fmt::Debug for StoredTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTable")
            .field("table", &self.table.name)
            .field("chunks", &self.manifest.chunks.len())
            .finish_non_exhaustive()
    }
}

impl StoredTable {
    /// A table whose chunks are all there and have its columns; None where some number is no decimal of its column's scale.
    fn new(
        shared: &Arc<Shared>,
        table: &Table,
        manifest: &TableManifest,
    ) -> Result<Option<StoredTable>, StoreError> {
        let mut stored = StoredTable {
            shared: Arc::clone(shared),
            table: table.clone(),
            schema: Arc::new(arrow_schema(table)),
            metadata: Vec::new(),
            parts: Vec::new(),
            kept: manifest.chunks.iter().map(|_| Mutex::default()).collect(),
            manifest: manifest.clone(),
        };
        stored.metadata = parallel(stored.kept.len(), |at| stored.metadata(at))?;
        let chunks = stored.metadata.iter().enumerate();
        let (mut scales, mut parts) = (Vec::new(), Vec::new());
        for (at, metadata) in chunks {
            match stored.scales(at, metadata)? {
                Some(found) => scales.push(found),
                None => return Ok(None),
            }
            let groups = metadata.metadata().row_groups().iter();
            parts.extend(groups.map(|group| (at, group.num_rows().unsigned_abs())));
        }
        stored.parts = parts;
        stored.schema = Arc::new(with_scales(table, &scales));
        Ok(stored.has_room().then_some(stored))
    }

    /// Whether all decimals have room for their digits on the scale of their column.
    fn has_room(&self) -> bool {
        let is_decimal = |at: &usize| {
            matches!(
                self.schema.field(*at).data_type(),
                ArrowType::Decimal128(_, 1..)
            )
        };
        let mut decimals = (0..self.schema.fields().len()).filter(is_decimal);
        decimals.all(|at| self.known(at).is_ok())
    }

    /// The scales of a chunk's decimals, a column; None where it holds none. Looks at the chunk's columns on the way; None where numbers
    /// of one are texts.
    fn scales(
        &self,
        at: usize,
        metadata: &ArrowReaderMetadata,
    ) -> Result<Option<Vec<Option<i8>>>, StoreError> {
        let found = metadata.schema();
        let groups = metadata.metadata().row_groups();
        let same = |(expected, found): (&Arc<Field>, &Arc<Field>)| {
            let decimals = |one: &ArrowType| matches!(one, ArrowType::Decimal128(_, 0..));
            let (a, b) = (expected.data_type(), found.data_type());
            let is_text = decimals(a) && *b == ArrowType::Utf8;
            expected.name() == found.name() && (a == b || (decimals(a) && decimals(b)) || is_text)
        };
        let rows: i64 = groups.iter().map(|group| group.num_rows()).sum();
        let expected = self.schema.fields();
        if expected.len() != found.fields().len()
            || !expected.iter().zip(found.fields()).all(same)
            || u64::try_from(rows) != Ok(self.manifest.chunks[at].rows)
        {
            return Err(self.damaged(at, "it does not hold the rows that the manifest names"));
        }
        let mut both = expected.iter().zip(found.fields());
        if both.any(|(expected, found)| {
            expected.data_type().is_decimal() && !found.data_type().is_decimal()
        }) {
            return Ok(None);
        }
        let has_values = |column: usize| {
            groups.iter().any(|group| {
                let statistics = group.column(column).statistics();
                let nulls = statistics.and_then(|statistics| statistics.null_count_opt());
                nulls.is_none_or(|nulls| i64::try_from(nulls) != Ok(group.num_rows()))
            })
        };
        let scale = |(column, field): (usize, &Arc<Field>)| match field.data_type() {
            ArrowType::Decimal128(_, scale) if has_values(column) => Some(*scale),
            _ => None,
        };
        Ok(Some(found.fields().iter().enumerate().map(scale).collect()))
    }

    /// A chunk's file: every byte was compared before Parquet sees the first.
    fn file(&self, at: usize) -> Result<Bytes, StoreError> {
        let mut place = self.kept[at].lock().expect("no holder panics");
        if let Some(kept) = place.as_ref() {
            return Ok(kept.clone());
        }
        let affects = self.affects();
        let sealed = self.manifest.chunks[at].sealed();
        let vouched = self.shared.store.fetch_for(&sealed, &affects)?;
        let bytes = Bytes::from(vouched.into_bytes());
        let room = |room: u64| room.checked_sub(sealed.bytes);
        let room = self
            .shared
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        if room.is_ok() {
            *place = Some(bytes.clone());
        }
        Ok(bytes)
    }

    fn metadata(&self, at: usize) -> Result<ArrowReaderMetadata, StoreError> {
        // Without page indexes: chunks are read whole.
        ArrowReaderMetadata::load(&self.file(at)?, ArrowReaderOptions::new())
            .map_err(|error| self.damaged(at, &error.to_string()))
    }

    fn decode(&self, at: usize, file: Bytes, columns: &[usize]) -> Result<RecordBatch, Unreadable> {
        let chunk: &Chunk = &self.manifest.chunks[at];
        let metadata = self.metadata[at].clone();
        let rows = usize::try_from(chunk.rows).map_err(|_| Unreadable("too many rows".into()))?;
        let schema = Arc::new(self.schema.project(columns)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        if columns.is_empty() {
            return Ok(RecordBatch::try_new_with_options(
                schema,
                Vec::new(),
                &options,
            )?);
        }
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()?;
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>()?;
        let [batch] = batches.as_slice() else {
            return Err(Unreadable("its rows are not in one piece".into()));
        };
        // Parquet keeps the file's order.
        let mut in_order = columns.to_vec();
        in_order.sort_unstable();
        in_order.dedup();
        let array = |(field, column): (&Arc<Field>, &usize)| {
            let place = in_order.binary_search(column).expect("it was asked for");
            on_scale(batch.column(place), field.data_type())
        };
        let arrays = schema.fields().iter().zip(columns).map(array);
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, Unreadable>>()?;
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }

    /// The bounds of a column, as far as all of them are there.
    fn known(&self, column: usize) -> Result<Bounds, Unreadable> {
        let field = self.schema.field(column);
        let (mut min, mut max, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for metadata in &self.metadata {
            let (own, parquet) = (metadata.schema(), metadata.parquet_schema());
            let groups = metadata.metadata().row_groups();
            let known = StatisticsConverter::try_new(field.name(), own, parquet)?;
            min.push(on_scale(&known.row_group_mins(groups)?, field.data_type())?);
            max.push(on_scale(
                &known.row_group_maxes(groups)?,
                field.data_type(),
            )?);
            nulls.extend(&known.row_group_null_counts(groups)?);
        }
        let all = |parts: &[ArrayRef]| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts)
        };
        Ok(Bounds {
            min: all(&min)?,
            max: all(&max)?,
            nulls: nulls.into(),
        })
    }

    fn affects(&self) -> String {
        format!("rows of {}", self.table.name.short())
    }

    fn damaged(&self, at: usize, problem: &str) -> StoreError {
        let sealed = self.manifest.chunks[at].sealed();
        StoreError::damaged(sealed.path, (0, sealed.bytes), problem, self.affects())
    }
}

/// The columns of a table whose decimals have the largest of these scales, and at least the declared one.
fn with_scales(table: &Table, scales: &[Vec<Option<i8>>]) -> ArrowSchema {
    let schema = arrow_schema(table);
    let field = |(at, field): (usize, &Arc<Field>)| {
        let declared = match &table.columns[at].data_type {
            DataType::Numeric { precision_scale } => {
                let declared = precision_scale.and_then(|(_, scale)| i8::try_from(scale).ok());
                declared.unwrap_or(0).clamp(0, DECIMAL_DIGITS_MAX as i8)
            }
            _ => return field.as_ref().clone(),
        };
        let found = scales.iter().filter_map(|chunk| chunk[at]).max();
        let scale = found.map_or(declared, |found| found.max(declared));
        let decimals = ArrowType::Decimal128(DECIMAL_DIGITS_MAX, scale);
        Field::new(field.name(), decimals, true)
    };
    let fields = schema.fields().iter().enumerate().map(field);
    ArrowSchema::new(fields.collect::<Vec<_>>())
}

/// Decimals on another scale, exactly; what is of the type already, as it is.
fn on_scale(array: &ArrayRef, to: &ArrowType) -> Result<ArrayRef, Unreadable> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let error = |_| Unreadable("numbers have too many digits on one scale".into());
    cast_with_options(array, to, &options).map_err(error)
}

impl Chunks for StoredTable {
    fn table(&self) -> &Table {
        &self.table
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn count(&self) -> usize {
        self.manifest.chunks.len()
    }

    fn rows(&self, chunk: usize) -> u64 {
        self.manifest.chunks[chunk].rows
    }

    fn parts(&self) -> &[(usize, u64)] {
        &self.parts
    }

    fn bounds(&self, column: usize) -> Option<Bounds> {
        let known = !self.schema.field(column).data_type().is_floating() && !self.parts.is_empty();
        known.then(|| self.known(column).ok()).flatten()
    }

    fn read(&self, chunk: usize, columns: &[usize]) -> Result<RecordBatch, NotRead> {
        let read = self.decode(chunk, self.file(chunk)?, columns);
        Ok(read.map_err(|error| self.damaged(chunk, &error.to_string()))?)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.manifest.fingerprint.into()
    }
}
