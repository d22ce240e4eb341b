//! Dumps of `pg_dump`: one is a state, several in order are dated snapshots.
//!
//! Plain dumps are read as they are, while they stream by; archives (custom, directory and tar formats) are made plain by `pg_restore`.
//! The schema is that of `schema.sql` beside them, else of the last dump. Rows of a partition are rows of its table.

mod load;
mod restore;
mod rows;
mod scan;

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::tabular;
use super::{SourceError, files};
use crate::change::{Cell, TransactionMeta};
use crate::diagnostic::{Diagnostic, any_error};
use crate::schema::{Schema, value};
use crate::state::{History, Origin};
use load::Loader;

/// What an archive begins with.
const CUSTOM: &[u8] = b"PGDMP";
/// The first member of an archive in tar format.
const TAR: &[u8] = b"toc.dat\0";

/// Endings of dumps, apart from `.sql`.
const ENDINGS: [&str; 7] = ["dump", "backup", "pgdump", "pg_dump", "psql", "bak", "tar"];

/// How a dump is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// SQL.
    Plain,
    /// What `pg_restore` reads.
    Archive,
}

/// Whether a path is a dump: by its name, or an archive by what it begins with. `schema.sql` is the schema of others.
pub(super) fn is_dump(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("toc.dat").is_file();
    }
    let is_schema = path.file_name().is_some_and(|name| name == "schema.sql");
    if is_schema || !path.is_file() || tabular::table_name_of(path).is_some() {
        return false;
    }
    has_dump_name(path) || begins_as_archive(path).unwrap_or(false)
}

fn has_dump_name(path: &Path) -> bool {
    name_parts(path)
        .is_some_and(|(_, ending)| ending == "sql" || ENDINGS.contains(&ending.as_str()))
}

/// The name without its endings, and the ending that says how it is written.
fn name_parts(path: &Path) -> Option<(String, String)> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let packed = [".gz", ".zst"]
        .into_iter()
        .find(|packed| lower.ends_with(packed));
    let name = name.get(..name.len() - packed.map_or(0, str::len))?;
    let (stem, ending) = name.rsplit_once('.')?;
    Some((stem.to_owned(), ending.to_ascii_lowercase()))
}

/// The name under which a dump is a position: that of its file without endings, or of its directory.
fn stem(path: &Path) -> String {
    let whole = || {
        path.file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    match name_parts(path) {
        Some((stem, ending))
            if !path.is_dir() && (ending == "sql" || ENDINGS.contains(&ending.as_str())) =>
        {
            stem
        }
        _ => whole(),
    }
}

fn begins_as_archive(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(head.starts_with(CUSTOM) || head.starts_with(TAR))
}

/// The dumps of a directory, in name order.
pub(super) fn dumps(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(SourceError::io(directory))? {
        let path = entry.map_err(SourceError::io(directory))?.path();
        files::only_utf8(&path, |named| has_dump_name(named) || is_dump(&path))?;
        if !is_dump(&path) {
            continue;
        }
        if let Some(other) = found.insert(stem(&path), path.clone()) {
            let message = format!("two dumps of one name: this one and {}", other.display());
            return Err(SourceError::Input(vec![
                Diagnostic::file(&path, message).with_hint("remove or rename one of them"),
            ]));
        }
    }
    Ok(found.into_values().collect())
}

fn format(path: &Path) -> Result<Format, SourceError> {
    if path.is_dir() {
        return Ok(Format::Archive);
    }
    files::only_regular(path)?;
    if begins_as_archive(path).map_err(SourceError::io(path))? {
        return Ok(Format::Archive);
    }
    let mut input =
        tabular::open(path, &tabular::Watch::default()).map_err(SourceError::io(path))?;
    // What cannot be unpacked is told when it is read.
    let head = input.fill_buf().unwrap_or_default();
    if head.starts_with(CUSTOM) || head.starts_with(TAR) {
        let message = "this archive of pg_dump is compressed once more";
        let hint = "unpack it first: pg_restore reads archives only as they were written";
        return Err(SourceError::Input(vec![
            Diagnostic::file(path, message).with_hint(hint),
        ]));
    }
    Ok(Format::Plain)
}

/// Reads a dump from beginning to end.
fn read(
    path: &Path,
    schema_only: bool,
    take: impl FnOnce(&mut dyn BufRead, Place<'_>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    match format(path)? {
        Format::Plain => {
            let watch = tabular::Watch::default();
            let mut input = tabular::open(path, &watch).map_err(SourceError::io(path))?;
            let place = Place {
                path,
                is_own_text: true,
            };
            take(&mut input, place).map_err(|error| error.below(path, &watch))
        }
        Format::Archive => {
            let (mut output, restore) = restore::start(path, schema_only)?;
            let place = Place {
                path,
                is_own_text: false,
            };
            match take(&mut output, place) {
                Ok(()) => restore.finish(path),
                // A damaged archive ends early: what pg_restore says of it comes first.
                Err(error) => {
                    let _ = std::io::copy(&mut output, &mut std::io::sink());
                    restore.finish(path).and(Err(error))
                }
            }
        }
    }
}

/// Where messages point to.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    /// False where lines are those of what `pg_restore` prints.
    is_own_text: bool,
}

impl Place<'_> {
    fn at(&self, line: usize, column: usize, message: String) -> Diagnostic {
        if self.is_own_text {
            return Diagnostic::at(self.path, line, column, message);
        }
        let message = format!("line {line} of what pg_restore prints: {message}");
        Diagnostic::file(self.path, message)
    }

    fn fault(&self, fault: scan::Fault) -> SourceError {
        let diagnostic = self.at(fault.line, 0, fault.message);
        SourceError::Input(vec![match fault.hint {
            Some(hint) => diagnostic.with_hint(hint),
            None => diagnostic,
        }])
    }
}

/// The schema of dumps: `schema.sql` beside them, else what the last one declares.
pub(super) fn schema(
    root: &Path,
    dumps: &[PathBuf],
) -> Result<(Schema, Vec<Diagnostic>), SourceError> {
    let last = dumps.last().expect("a series of dumps is not empty");
    let beside = root.join("schema.sql");
    if let Some(declared) = files::schema_file(&beside)? {
        return Ok(declared);
    }
    let mut found = None;
    read(last, true, |input, place| {
        found = Some(load::declared(input, place)?);
        Ok(())
    })?;
    let (schema, diagnostics) = found.unwrap_or_default();
    if any_error(&diagnostics) {
        return Err(SourceError::Input(diagnostics));
    }
    if schema.tables.is_empty() {
        let diagnostic = Diagnostic::file(last, "this dump declares no table")
            .with_hint("put a schema.sql beside it (`pg_dump --schema-only`)");
        return Err(SourceError::Input(vec![diagnostic]));
    }
    Ok((schema, diagnostics))
}

/// One dump: a single state.
pub(super) fn single(
    dump: &Path,
    schema: Schema,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<History, SourceError> {
    let mut history = History::new(schema, Origin::SingleState, false);
    load_first(&mut history, dump, diagnostics)?;
    Ok(history)
}

/// A series of dumps: the first is position 0, each later one a commit.
pub(super) fn series(
    dumps: &[PathBuf],
    schema: Schema,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<History, SourceError> {
    let mut history = History::new(schema, Origin::DatedSnapshots, false);
    for (at, dump) in dumps.iter().enumerate() {
        let name = stem(dump);
        if at == 0 {
            load_first(&mut history, dump, diagnostics)?;
            history.first_snapshot = Some(name);
        } else {
            load_next(&mut history, dump, name, diagnostics)?;
        }
    }
    Ok(history)
}

/// Loads position 0 row by row.
fn load_first(
    history: &mut History,
    dump: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), SourceError> {
    let schema = history.schema.clone();
    read(dump, false, |input, place| {
        let mut sink = |table: usize, _: usize, cells: Vec<Cell>| {
            history.load(table, &cells);
            Ok(())
        };
        Loader::new(&schema, place, diagnostics, &mut sink).run(input)
    })
}

/// Loads a later dump: its rows are compared with those of the one before, so all of them are needed.
fn load_next(
    history: &mut History,
    dump: &Path,
    name: String,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), SourceError> {
    let schema = history.schema.clone();
    let mut rows: Vec<Vec<Vec<Cell>>> = vec![Vec::new(); schema.tables.len()];
    read(dump, false, |input, place| {
        let mut sink = |table: usize, _: usize, cells: Vec<Cell>| {
            rows[table].push(cells);
            Ok(())
        };
        Loader::new(&schema, place, diagnostics, &mut sink).run(input)
    })?;
    let commit = history.head() + 1;
    for (table, rows) in rows.into_iter().enumerate() {
        history.tables[table]
            .replace(commit, &rows)
            .map_err(|error| {
                let message = format!("table {}: {error}", schema.tables[table].name.short());
                SourceError::Input(vec![Diagnostic::file(dump, message)])
            })?;
    }
    let has_time = name.contains(':') || name.contains('T');
    history.transactions.push(TransactionMeta {
        time: has_time.then(|| value::parse_timestamp(&name)).flatten(),
        snapshot: Some(name),
        ..TransactionMeta::default()
    });
    Ok(())
}
