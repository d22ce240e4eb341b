//! Parquet and Arrow IPC files.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchReader};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::{FileReader, StreamReader};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{
    COLUMNS_MAX, ERRORS_MAX, Format, Opening, Part, PartSink, Problems, RowOrigin, TYPE_HINT,
    Watched, batch, cannot_read, ipc_check, unknown_column,
};
use crate::change::Cell as Value;
use crate::diagnostic::Diagnostic;
use crate::schema::columnar::{cell_from_array, data_type_of_arrow};
use crate::schema::{Column, Table, TableName};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;
/// A compressed file may not unpack to more than this.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

type Batches = Box<dyn RecordBatchReader>;

/// The table that a file declares: no primary key, every column nullable.
pub(super) fn read_schema(
    file: Opening<'_>,
    name: TableName,
    format: Format,
    compressed: bool,
) -> Result<(Table, Vec<Diagnostic>), Diagnostic> {
    let arrow = open_batches(file, format, compressed)?.schema();
    check_names(file.path, &arrow)?;
    let column = |field: &datafusion::arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        data_type: data_type_of_arrow(field.data_type()),
        nullable: true,
    };
    let columns = arrow.fields().iter().map(column).collect();
    Ok((
        Table {
            name,
            columns,
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
        },
        Vec::new(),
    ))
}

fn check_names(path: &Path, arrow: &SchemaRef) -> Result<(), Diagnostic> {
    let mut seen = std::collections::HashSet::new();
    if arrow.fields().len() > COLUMNS_MAX {
        return Err(Diagnostic::file(path, "more than 10,000 columns"));
    }
    match arrow
        .fields()
        .iter()
        .find(|field| !seen.insert(field.name()))
    {
        Some(field) => Err(Diagnostic::file(
            path,
            format!("two columns are named `{}`", field.name()),
        )),
        None => Ok(()),
    }
}

/// Reads the rows of a file into the types of a table.
pub(super) fn read_rows(
    file: Opening<'_>,
    format: Format,
    compressed: bool,
    table: &Table,
    sink: &mut PartSink<'_>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let path = file.path;
    let mut batches = open_batches(file, format, compressed).map_err(|error| vec![error])?;
    let arrow = batches.schema();
    check_names(path, &arrow).map_err(|error| vec![error])?;
    let mut problems = Problems::default();
    let mut targets = Vec::new();
    let mut has = vec![false; table.columns.len()];
    for field in arrow.fields() {
        match table.column_index(field.name()) {
            Some(at) => {
                has[at] = true;
                targets.push(at);
            }
            None => {
                problems.error(unknown_column(path, 0, 0, field.name(), table));
            }
        }
    }
    problems.missing_columns(path, 0, table, &has);
    if !problems.errors.is_empty() {
        problems.errors.truncate(ERRORS_MAX);
        return problems.finish();
    }
    let mut reader = Rows {
        path,
        table,
        targets,
        row: 0,
        problems,
    };
    while let Some(batch) =
        guarded(path, format, || batches.next().transpose()).map_err(|error| vec![error])?
    {
        if !reader
            .batch(format, &batch, sink)
            .map_err(|error| vec![error])?
        {
            break;
        }
    }
    reader.problems.finish()
}

struct Rows<'t> {
    path: &'t Path,
    table: &'t Table,
    targets: Vec<usize>,
    row: usize,
    problems: Problems,
}

impl Rows<'_> {
    /// Hands the rows of a batch on; false once there are too many errors.
    fn batch(
        &mut self,
        format: Format,
        batch: &RecordBatch,
        sink: &mut PartSink<'_>,
    ) -> Result<bool, Diagnostic> {
        if self.problems.errors.is_empty() {
            let stored = guarded(self.path, format, || {
                Ok::<_, Unreadable>(batch::stored(self.table, &self.targets, batch))
            })?;
            if let Some(rows) = stored {
                let first = RowOrigin { line: self.row + 1 };
                self.row += rows.len();
                return sink(Part::Rows(first, rows)).map(|()| true);
            }
        }
        for at in 0..batch.num_rows() {
            self.row += 1;
            // Arrays of a damaged file may hold offsets that only panic when a value is looked at.
            let cells = guarded(self.path, format, || {
                Ok::<_, Unreadable>(self.cells(batch, at))
            })?;
            match cells {
                Ok(cells) if self.problems.errors.is_empty() => {
                    sink(Part::Row(RowOrigin { line: self.row }, cells))?
                }
                Ok(_) => {}
                Err(error) => {
                    if !self.problems.error(error) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn cells(&self, batch: &RecordBatch, at: usize) -> Result<Vec<Value>, Diagnostic> {
        let mut cells = vec![Value::Null; self.table.columns.len()];
        for (array, &target) in batch.columns().iter().zip(&self.targets) {
            let Some(column) = self.table.columns.get(target) else {
                continue;
            };
            match cell_from_array(&column.data_type, array as &dyn Array, at) {
                Ok(cell) => cells[target] = cell,
                Err(error) => {
                    let message = format!(
                        "row {}: the value of column `{}` is {error}",
                        self.row, column.name
                    );
                    return Err(Diagnostic::file(self.path, message).with_hint(TYPE_HINT));
                }
            }
        }
        Ok(cells)
    }
}

/// Why a columnar file cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
    #[error(transparent)]
    Parquet(#[from] datafusion::parquet::errors::ParquetError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("Feather version 1 is not read; write it as version 2 (Arrow IPC)")]
    Feather1,
}

thread_local! {
    /// True while this thread reads foreign bytes: a panic is then told as a message, and not on stderr as well.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a reader of foreign bytes. The readers check most of what they read, but not all of it: what panics there is a damaged
/// file, not a fault of ours.
fn guarded<T, E: Into<Unreadable>>(
    path: &Path,
    format: Format,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, Diagnostic> {
    let kind = if format == Format::Parquet {
        "Parquet"
    } else {
        "Arrow"
    };
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
    GUARDED.set(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(false);
    match read {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let text = error.into().to_string();
            let line: String = text
                .lines()
                .next()
                .unwrap_or("")
                .chars()
                .take(200)
                .collect();
            Err(Diagnostic::file(
                path,
                format!("the {kind} file cannot be read: {line}"),
            ))
        }
        Err(_) => Err(Diagnostic::file(
            path,
            format!("the {kind} file is damaged"),
        )),
    }
}

fn open_batches(
    file: Opening<'_>,
    format: Format,
    compressed: bool,
) -> Result<Batches, Diagnostic> {
    let path = file.path;
    let file = match compressed {
        true => file
            .watch
            .told(unpack(file))
            .map(|unpacked| file.watch.over(unpacked)),
        false => file.watch.open(path),
    };
    let file = file.map_err(|error| cannot_read(path, &error))?;
    guarded(path, format, || match format {
        Format::Parquet => open_parquet(file),
        _ => open_ipc(file),
    })
}

fn open_parquet(file: Watched) -> Result<Batches, Unreadable> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    Ok(Box::new(builder.with_batch_size(BATCH_ROWS).build()?))
}

fn open_ipc(mut file: Watched) -> Result<Batches, Unreadable> {
    let mut magic = [0; 6];
    let length = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let magic = magic.get(..length).unwrap_or(&[]);
    if magic.starts_with(b"FEA1") {
        return Err(Unreadable::Feather1);
    }
    Ok(if magic == b"ARROW1" {
        ipc_check::check_file(&mut file)?;
        Box::new(FileReader::try_new(BufReader::new(file), None)?)
    } else {
        ipc_check::check_stream(&mut file)?;
        Box::new(StreamReader::try_new(BufReader::new(file), None)?)
    })
}

/// Unpacks a compressed file, since the readers must jump about in it, into a temporary file that vanishes with its handle.
fn unpack(file: Opening<'_>) -> io::Result<File> {
    let mut packed = file.open()?.take(UNPACKED_BYTES_MAX + 1);
    let (mut file, name) = temporary_file()?;
    let copied = io::copy(&mut packed, &mut file);
    // On systems that keep an open file's name the file stays until the temporary directory is cleaned.
    let _ = std::fs::remove_file(name);
    if copied? > UNPACKED_BYTES_MAX {
        return Err(io::Error::other("it unpacks to more than 64 GiB"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn temporary_file() -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name =
            std::env::temp_dir().join(format!("firstbad-{}-{count}.tmp", std::process::id()));
        match options.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, name)),
        }
    }
}
