//! One file, one table: CSV, NDJSON, Parquet and Arrow IPC, compressed or not.
//!
//! Rows come one at a time, in the file's order, as cells of the declared types in the table's column order; memory is bounded by
//! one record or one batch. Whatever is wrong with a file is a located [`Diagnostic`] that never shows a value. This module
//! knows nothing of positions, keys or rules.

mod batch;
mod columnar;
mod csv;
mod infer;
mod ipc_check;
mod ndjson;
mod watch;

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::change::Cell;
use crate::diagnostic::{Diagnostic, nearest};
use crate::schema::value::ValueError;
use crate::schema::{Table, TableName};
use crate::state::StoredRows;

pub use watch::{Watch, Watched};

/// How a table file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// The same with tabs.
    Tsv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, as a file (Feather version 2) or a stream.
    Arrow,
}

impl Format {
    fn of_extension(extension: &str) -> Option<Format> {
        Some(match extension.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "ndjson" | "jsonl" => Format::Ndjson,
            "parquet" => Format::Parquet,
            "arrow" | "ipc" | "feather" => Format::Arrow,
            _ => return None,
        })
    }
}

/// Where a row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOrigin {
    /// 1-based line on which the record begins; in Parquet and Arrow files, which have no lines, the 1-based number of the row.
    pub line: usize,
}

/// Takes the rows of a file; an error stops the reading and is handed on.
pub type Sink<'a> = dyn FnMut(RowOrigin, Vec<Cell>) -> Result<(), Diagnostic> + 'a;

/// Rows of a file: one, or many in the table's columns.
pub enum Part {
    /// One row.
    Row(RowOrigin, Vec<Cell>),
    /// Rows of which the first stands at this place.
    Rows(RowOrigin, StoredRows),
}

/// Takes the rows of a file in parts; an error stops the reading and is handed on.
pub type PartSink<'a> = dyn FnMut(Part) -> Result<(), Diagnostic> + 'a;

/// After this many errors a file is given up.
const ERRORS_MAX: usize = 20;

/// More columns are refused.
const COLUMNS_MAX: usize = 10_000;

/// Why a file was not read.
#[derive(Debug)]
pub enum Failed {
    /// It is wrong.
    Input(Vec<Diagnostic>),
    /// The system could not read it.
    Io(io::Error),
}

impl Failed {
    /// What went wrong, given what was noticed and what the system said below it.
    fn of(found: Vec<Diagnostic>, watch: &Watch) -> Failed {
        match watch.failure() {
            Some(error) => Failed::Io(error),
            None => Failed::Input(found),
        }
    }
}

/// Opens a file for reading, decompressing `.gz` and `.zst`; the watch is told where the system fails.
pub fn open(path: &Path, watch: &Watch) -> io::Result<Box<dyn BufRead + Send>> {
    let file = watch.open(path)?;
    let packed = file.size()?;
    let file = BufReader::with_capacity(1 << 16, file);
    let most = UNPACKED_FREE_BYTES.max(packed.saturating_mul(UNPACKED_RATIO_MAX));
    Ok(match compression(path) {
        Some("gz") => Box::new(BufReader::with_capacity(
            1 << 16,
            Unpacked::new(flate2::bufread::MultiGzDecoder::new(file), most),
        )),
        Some("zst") => Box::new(BufReader::with_capacity(
            1 << 16,
            Unpacked::new(zstd::Decoder::with_buffer(file)?, most),
        )),
        _ => Box::new(file),
    })
}

/// A compressed file may grow to so many times its size; tables and logs grow to a tenth of it.
const UNPACKED_RATIO_MAX: u64 = 500;
/// Up to here nobody asks for the ratio.
const UNPACKED_FREE_BYTES: u64 = 64 << 20;

/// A decompressor that stops where only a decompression bomb goes on.
struct Unpacked<R> {
    inner: R,
    left: u64,
}

impl<R> Unpacked<R> {
    fn new(inner: R, left: u64) -> Self {
        Unpacked { inner, left }
    }
}

impl<R: io::Read> io::Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it unpacks to more than {UNPACKED_RATIO_MAX} times its size"
            ))
        })?;
        Ok(read)
    }
}

fn compression(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    ["gz", "zst"]
        .into_iter()
        .find(|known| extension.eq_ignore_ascii_case(known))
}

/// The table that a file holds by its name, its format, and whether it is compressed: `orders.csv.gz` is `public.orders`,
/// `sales.orders.parquet` is `sales.orders`. None for files that are no tables.
pub fn table_name_of(path: &Path) -> Option<(TableName, Format, bool)> {
    let name = path.file_name()?.to_str()?;
    let compressed = compression(path).is_some();
    let name = if compressed {
        name.rsplit_once('.')?.0
    } else {
        name
    };
    let (stem, extension) = name.rsplit_once('.')?;
    let format = Format::of_extension(extension)?;
    let table = TableName::parse(stem);
    (!table.schema.is_empty() && !table.name.is_empty()).then_some((table, format, compressed))
}

fn format_of(path: &Path) -> Result<(TableName, Format, bool), Diagnostic> {
    table_name_of(path).ok_or_else(|| {
        Diagnostic::file(path, "the name does not say how the table is written")
            .with_hint("known endings: .csv, .tsv, .ndjson, .jsonl, .parquet, .arrow, each also with .gz or .zst")
    })
}

/// Reads the rows of a file into the types of `table`.
///
/// The cells are in the table's column order. Warnings are given back when all rows were read; otherwise the errors, up to a
/// limit, in the order of the file. Rows before an error have been handed to the sink. NULL in a column that is declared NOT NULL
/// is handed on: rules find it.
pub fn read_rows(
    path: &Path,
    table: &Table,
    sink: &mut Sink<'_>,
) -> Result<Vec<Diagnostic>, Failed> {
    let mut cells = |part: Part| match part {
        Part::Row(origin, cells) => sink(origin, cells),
        Part::Rows(origin, rows) => {
            let columns = 0..rows.width();
            (0..rows.len()).try_for_each(|row| {
                let line = origin.line + row;
                let cells = columns.clone().map(|column| rows.cell(table, column, row));
                sink(RowOrigin { line }, cells.collect())
            })
        }
    };
    read_parts(path, table, &mut cells)
}

/// The same, many rows at once where the file has them so.
///
/// # Errors
/// As [`read_rows`].
pub fn read_parts(
    path: &Path,
    table: &Table,
    sink: &mut PartSink<'_>,
) -> Result<Vec<Diagnostic>, Failed> {
    let (_, format, compressed) = format_of(path).map_err(|error| Failed::Input(vec![error]))?;
    let watch = Watch::default();
    let file = Opening {
        path,
        watch: &watch,
    };
    let row = &mut |origin: RowOrigin, cells: Vec<Cell>| sink(Part::Row(origin, cells));
    let read = match format {
        Format::Csv => csv::read_rows(file, b',', table, row),
        Format::Tsv => csv::read_rows(file, b'\t', table, row),
        Format::Ndjson => ndjson::read_rows(file, table, row),
        Format::Parquet | Format::Arrow => {
            columnar::read_rows(file, format, compressed, table, sink)
        }
    };
    read.map_err(|found| Failed::of(found, &watch))
}

/// A file that is to be opened.
#[derive(Clone, Copy)]
struct Opening<'a> {
    path: &'a Path,
    watch: &'a Watch,
}

impl Opening<'_> {
    fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        open(self.path, self.watch)
    }
}

/// The table that a file declares or, for CSV and NDJSON, suggests: types are inferred from the first 100,000 rows, with one
/// warning that says so. Every column may be NULL and there is no primary key.
pub fn read_schema(path: &Path) -> Result<(Table, Vec<Diagnostic>), Failed> {
    let (name, format, compressed) = format_of(path).map_err(|error| Failed::Input(vec![error]))?;
    let watch = Watch::default();
    let file = Opening {
        path,
        watch: &watch,
    };
    let read = match format {
        Format::Csv => infer::csv(file, name, b','),
        Format::Tsv => infer::csv(file, name, b'\t'),
        Format::Ndjson => infer::ndjson(file, name),
        Format::Parquet | Format::Arrow => columnar::read_schema(file, name, format, compressed),
    };
    read.map_err(|error| Failed::of(vec![error], &watch))
}

/// An input error of the file as a whole.
fn cannot_read(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::file(path, format!("the file cannot be read: {error}"))
}

/// A value that does not fit its column.
fn wrong_value(
    path: &Path,
    line: usize,
    column: usize,
    name: &str,
    error: &ValueError,
) -> Diagnostic {
    let message = format!("the value of column `{name}` is {error}");
    Diagnostic::at(path, line, column, message).with_hint(TYPE_HINT)
}

const TYPE_HINT: &str = "if the type is wrong, declare the table in schema.sql";

/// A column that the table does not have.
fn unknown_column(
    path: &Path,
    line: usize,
    column: usize,
    name: &str,
    table: &Table,
) -> Diagnostic {
    let message = format!("table `{}` has no column `{name}`", table.name.short());
    let diagnostic = Diagnostic::at(path, line, column, message);
    match nearest(
        name,
        table.columns.iter().map(|column| column.name.as_str()),
    ) {
        Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// Errors and warnings of one file.
#[derive(Default)]
struct Problems {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Problems {
    /// Keeps an error; false once there are so many that reading on is no use.
    fn error(&mut self, error: Diagnostic) -> bool {
        self.errors.push(error);
        self.errors.len() < ERRORS_MAX
    }

    /// Says which columns the file lacks: NULL where that is allowed, else an error.
    fn missing_columns(&mut self, path: &Path, line: usize, table: &Table, has: &[bool]) {
        let missing = table
            .columns
            .iter()
            .zip(has)
            .filter(|(_, has)| !**has)
            .map(|(column, _)| column);
        let (nullable, required): (Vec<_>, Vec<_>) = missing.partition(|column| column.nullable);
        if !required.is_empty() {
            let names = quoted_names(required.iter().map(|column| column.name.as_str()));
            self.errors.push(Diagnostic::at(
                path,
                line,
                0,
                format!("{names} missing and may not be NULL"),
            ));
        }
        if !nullable.is_empty() {
            let names = quoted_names(nullable.iter().map(|column| column.name.as_str()));
            let warning =
                Diagnostic::at(path, line, 0, format!("{names} missing and read as NULL"));
            self.warnings
                .push(warning.with_level(crate::diagnostic::Level::Warning));
        }
    }

    fn finish(self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        if self.errors.is_empty() {
            Ok(self.warnings)
        } else {
            Err(self.errors)
        }
    }
}

/// "column `a` is" or "columns `a`, `b` are", with the rest counted where there are many.
fn quoted_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 8;
    let all: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if let [one] = all.as_slice() {
        return format!("column {one} is");
    }
    let shown = all.get(..SHOWN_MAX).unwrap_or(&all).join(", ");
    let more = all.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        format!("columns {shown} and {more} more are")
    } else {
        format!("columns {shown} are")
    }
}

#[cfg(test)]
mod columnar_tests;
#[cfg(test)]
mod tests;
