//! A state as files for other programs: `<table>.csv` and `<table>.parquet` in a directory of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use datafusion::parquet::arrow::ArrowWriter;

use crate::change::Commit;
use crate::schema::{Table, columnar, value};
use crate::state::{History, Relation, Rows};

/// How many names are tried for a fresh directory.
const NAMES_MAX: u32 = 10_000;

/// A state in files; they are removed with it.
pub(super) struct State {
    directory: PathBuf,
    not_known: BTreeSet<String>,
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl State {
    /// Writes the state at a position into a fresh directory. The error names the directory.
    pub(super) fn write(
        history: &History,
        position: Commit,
    ) -> Result<State, (PathBuf, io::Error)> {
        let mut state = State {
            directory: fresh_directory()?,
            not_known: BTreeSet::new(),
        };
        for (at, table) in history.schema.tables.iter().enumerate() {
            let rows = history.rows(at, &Relation::State, position);
            let names = table.columns.iter().zip(&rows.unknown);
            state.not_known.extend(
                names
                    .filter(|(_, unknown)| **unknown > 0)
                    .map(|(column, _)| format!("{}.{}", table.name.short(), column.name)),
            );
            let stem = file_name(&table.name.short());
            write_csv(&state.directory.join(format!("{stem}.csv")), table, &rows)
                .and_then(|()| {
                    write_parquet(&state.directory.join(format!("{stem}.parquet")), &rows)
                })
                .map_err(|error| (state.directory.clone(), error))?;
        }
        Ok(state)
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// Columns with cells that are not known; the files have NULL there.
    pub(super) fn not_known(&self) -> &BTreeSet<String> {
        &self.not_known
    }
}

/// A directory that was not there before and that nobody else may read.
fn fresh_directory() -> Result<PathBuf, (PathBuf, io::Error)> {
    let parent = std::env::temp_dir();
    for number in 0..NAMES_MAX {
        let path = parent.join(format!("firstbad-{}-{number}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err((path, error)),
        }
    }
    Err((parent, io::Error::from(io::ErrorKind::AlreadyExists)))
}

/// A table's name as the name of a file: what could lead elsewhere is written as `%2F`.
fn file_name(table: &str) -> String {
    let mut out = String::new();
    for (at, c) in table.chars().enumerate() {
        if c.is_control() || "/\\:%".contains(c) || (at == 0 && c == '.') {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// RFC 4180 with a header, values as Postgres prints them; NULL is an empty field, the empty text is `""`.
fn write_csv(path: &Path, table: &Table, rows: &Rows) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let header: Vec<String> = table
        .columns
        .iter()
        .map(|column| field(Some(&column.name)))
        .collect();
    writeln!(out, "{}", header.join(","))?;
    for row in 0..rows.batch.num_rows() {
        for (at, (column, array)) in table.columns.iter().zip(rows.batch.columns()).enumerate() {
            let cell = columnar::cell_from_array(&column.data_type, array, row)
                .map_err(io::Error::other)?;
            let text = value::to_text(&column.data_type, &cell);
            let comma = if at > 0 { "," } else { "" };
            write!(out, "{comma}{}", field(text.as_deref()))?;
        }
        writeln!(out)?;
    }
    out.flush()
}

fn field(text: Option<&str>) -> String {
    let Some(text) = text else {
        return String::new();
    };
    let plain = !text.is_empty() && text.trim() == text && !text.contains([',', '"', '\n', '\r']);
    if plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

fn write_parquet(path: &Path, rows: &Rows) -> io::Result<()> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, rows.batch.schema(), None)
        .map_err(io::Error::other)?;
    writer.write(&rows.batch).map_err(io::Error::other)?;
    writer.close().map_err(io::Error::other)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        assert_eq!(file_name("orders"), "orders");
        assert_eq!(file_name("../etc/x"), "%2E.%2Fetc%2Fx");
        assert_eq!(file_name("a\u{0}b%"), "a%00b%25");
    }

    #[test]
    fn null_and_the_empty_text_differ() {
        assert_eq!(field(None), "");
        assert_eq!(field(Some("")), "\"\"");
        assert_eq!(field(Some("a, \"b\"")), "\"a, \"\"b\"\"\"");
        assert_eq!(field(Some(" a")), "\" a\"");
    }
}
