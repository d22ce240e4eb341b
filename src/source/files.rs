//! Histories, dated snapshots and tables in files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::tabular::{self, Format, Part};
use super::{Kind, SourceError};
use crate::change::{Cell, TransactionMeta};
use crate::diagnostic::{Diagnostic, any_error, nearest};
use crate::schema::{DataType, Schema, Table, TableName, ddl, value};
use crate::state::{History, InPlace, Origin};

/// The largest `schema.sql` that is read.
pub(super) const SCHEMA_BYTES_MAX: u64 = 64 << 20;

/// Table files of a directory, in name order; files of other kinds are left alone.
pub(super) fn table_files(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(SourceError::io(directory))? {
        let path = entry.map_err(SourceError::io(directory))?.path();
        only_utf8(&path, |path| tabular::table_name_of(path).is_some())?;
        if tabular::table_name_of(&path).is_some() {
            only_regular(&path)?;
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Refuses what has a data file's name and is none: left out, its table would seem to be empty; opened, a pipe would never end.
pub(super) fn only_regular(path: &Path) -> Result<(), SourceError> {
    if path.is_file() {
        return Ok(());
    }
    let what = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => "this is a directory, not a data file",
        Ok(_) => "this is no regular file (a pipe, a device or a socket)",
        Err(error) if leads_nowhere(path, &error) => "this link leads nowhere",
        Err(error) => return Err(SourceError::io(path)(error)),
    };
    Err(SourceError::Input(vec![
        Diagnostic::file(path, what).with_hint("remove it, or put the data itself here"),
    ]))
}

/// Whether a path is a link to nothing, or to itself, rather than one that must not be followed.
fn leads_nowhere(path: &Path, error: &std::io::Error) -> bool {
    path.is_symlink() && error.kind() != ErrorKind::PermissionDenied
}

/// Refuses a name that is not UTF-8 where a file of such a name would be read: `is_read` tells by the name with the wrong bytes
/// replaced. Left out, its rows would be missing without a word; read, no table could be named after it.
pub(super) fn only_utf8(path: &Path, is_read: impl Fn(&Path) -> bool) -> Result<(), SourceError> {
    let name = path.file_name().unwrap_or_default();
    if name.to_str().is_some() || !is_read(&path.with_file_name(&*name.to_string_lossy())) {
        return Ok(());
    }
    let shown = crate::escape::os(name);
    let message = format!("the name `{shown}` is not UTF-8");
    Err(SourceError::Input(vec![
        Diagnostic::file(path, message).with_hint("rename it: its name is read as UTF-8"),
    ]))
}

/// Directories or files below one, in name order.
pub(super) fn entries(
    directory: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, SourceError> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(SourceError::io(directory))? {
        let path = entry.map_err(SourceError::io(directory))?.path();
        only_utf8(&path, |named| wanted(&path) || wanted(named))?;
        if wanted(&path) {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// The schema of a source: `schema.sql`, else what its files say.
pub(super) fn schema(root: &Path, kind: &Kind) -> Result<(Schema, Vec<Diagnostic>), SourceError> {
    let mut files = match kind {
        Kind::HistoryDirectory if root.join("snapshot").is_dir() => {
            table_files(&root.join("snapshot"))?
        }
        Kind::HistoryDirectory => Vec::new(),
        Kind::DatedSnapshots => {
            let mut all = Vec::new();
            for snapshot in entries(&root.join("snapshots"), Path::is_dir)? {
                all.extend(table_files(&snapshot)?);
            }
            all
        }
        Kind::Files(files) => files.clone(),
        Kind::Dumps(_) | Kind::Dump(_) | Kind::Store(_) | Kind::Postgres(_) => Vec::new(),
    };
    let path = match kind {
        // Files that are named one by one have the schema beside them, if any.
        Kind::Files(files) => match files.first().and_then(|file| file.parent()) {
            Some(parent) => parent.join("schema.sql"),
            None => root.join("schema.sql"),
        },
        _ => root.join("schema.sql"),
    };
    if let Some(declared) = schema_file(&path)? {
        return Ok(declared);
    }
    if files.is_empty() {
        let shown = crate::escape::terminal(&root.display().to_string());
        return Err(SourceError::argument(
            format!("`{shown}` holds neither tables nor a schema.sql"),
            "a history directory has schema.sql, snapshot/ and changes/; a directory of tables has orders.csv, orders.parquet, …",
        ));
    }
    files.dedup();
    from_files(&files)
}

/// The schema that a `schema.sql` declares; None where there is no such file.
pub(super) fn schema_file(path: &Path) -> Result<Option<(Schema, Vec<Diagnostic>)>, SourceError> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    only_regular(path)?;
    let size = std::fs::metadata(path)
        .map_err(SourceError::io(path))?
        .len();
    if size > SCHEMA_BYTES_MAX {
        let message = format!("schema.sql is larger than {} MiB", SCHEMA_BYTES_MAX >> 20);
        return Err(SourceError::Input(vec![Diagnostic::file(path, message)]));
    }
    let bytes = std::fs::read(path).map_err(SourceError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let message = "this file is not valid UTF-8";
        SourceError::Input(vec![Diagnostic::file(path, message)])
    })?;
    let (schema, diagnostics) = ddl::parse(&text, path);
    if any_error(&diagnostics) {
        Err(SourceError::Input(diagnostics))
    } else {
        Ok(Some((schema, diagnostics)))
    }
}

/// A schema from table files: the first file of a table says its columns, later ones may add more.
fn from_files(files: &[PathBuf]) -> Result<(Schema, Vec<Diagnostic>), SourceError> {
    let mut tables: BTreeMap<TableName, Table> = BTreeMap::new();
    let mut warnings = Vec::new();
    for file in files {
        let (table, found) = tabular::read_schema(file).map_err(SourceError::reading(file))?;
        let known = tables.contains_key(&table.name);
        let entry = tables
            .entry(table.name.clone())
            .or_insert_with(|| table.clone());
        for column in &table.columns {
            if entry.column(&column.name).is_none() {
                entry.columns.push(column.clone());
            }
        }
        if !known {
            warnings.extend(found);
        }
    }
    Ok((
        Schema {
            tables: tables.into_values().collect(),
        },
        warnings,
    ))
}

/// The table that a file belongs to; a second file for the same table is an error.
fn table_of(
    file: &Path,
    schema: &Schema,
    taken: &mut BTreeMap<usize, PathBuf>,
) -> Result<(usize, Format), SourceError> {
    let (name, format, _) = tabular::table_name_of(file).expect("only table files are asked for");
    let Some(table) = schema.table_index(&name) else {
        let known: Vec<String> = schema
            .tables
            .iter()
            .map(|table| table.name.short())
            .collect();
        let diagnostic =
            Diagnostic::file(file, format!("schema.sql has no table `{}`", name.short()));
        return Err(SourceError::Input(vec![match nearest(
            &name.short(),
            known.iter().map(String::as_str),
        ) {
            Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            None => {
                diagnostic.with_hint("add its CREATE TABLE to schema.sql, or move the file away")
            }
        }]));
    };
    if let Some(other) = taken.insert(table, file.to_path_buf()) {
        let message = format!(
            "table `{}` has two files: this one and {}",
            name.short(),
            other.display()
        );
        return Err(SourceError::Input(vec![
            Diagnostic::file(file, message).with_hint("remove one of them"),
        ]));
    }
    Ok((table, format))
}

fn load(
    history: &mut History,
    table: usize,
    file: &Path,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), SourceError> {
    let declared = history.schema.tables[table].clone();
    let found = tabular::read_parts(file, &declared, &mut |part| {
        match part {
            Part::Row(_, cells) => history.load(table, &cells),
            Part::Rows(_, rows) => history.tables[table].load_stored(&rows),
        }
        Ok(())
    });
    warnings.extend(found.map_err(SourceError::reading(file))?);
    Ok(())
}

/// A history directory.
pub(super) fn history(
    root: &Path,
    schema: Schema,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<History, SourceError> {
    let snapshot = root.join("snapshot");
    let partial_start = !snapshot.is_dir();
    let changes = root.join("changes");
    let origin = if changes.is_dir() {
        Origin::Changes
    } else {
        Origin::SnapshotOnly
    };
    let mut history = History::new(schema, origin, partial_start);
    if snapshot.is_dir() {
        let mut taken = BTreeMap::new();
        for file in table_files(&snapshot)? {
            let (table, _) = table_of(&file, &history.schema, &mut taken)?;
            load(&mut history, table, &file, diagnostics)?;
        }
    }
    if changes.is_dir() {
        super::changes::replay(&mut history, &changes, diagnostics)?;
    }
    Ok(history)
}

/// Dated snapshots: the first is position 0, each later one a commit.
pub(super) fn dated(
    root: &Path,
    schema: Schema,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<History, SourceError> {
    let directory = root.join("snapshots");
    let mut history = History::new(schema, Origin::DatedSnapshots, false);
    for (at, snapshot) in entries(&directory, Path::is_dir)?.into_iter().enumerate() {
        let name = snapshot
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut taken = BTreeMap::new();
        let mut files: BTreeMap<usize, PathBuf> = BTreeMap::new();
        for file in table_files(&snapshot)? {
            let (table, _) = table_of(&file, &history.schema, &mut taken)?;
            files.insert(table, file);
        }
        if at == 0 {
            history.first_snapshot = Some(name);
            for (table, file) in files {
                load(&mut history, table, &file, diagnostics)?;
            }
            continue;
        }
        let commit = history.head() + 1;
        for table in 0..history.schema.tables.len() {
            let rows = match files.get(&table) {
                Some(file) => rows(&history.schema.tables[table], file, diagnostics)?,
                None => Vec::new(),
            };
            history.tables[table]
                .replace(commit, &rows)
                .map_err(|error| {
                    SourceError::Input(vec![Diagnostic::file(
                        files.get(&table).unwrap_or(&snapshot),
                        error.to_string(),
                    )])
                })?;
        }
        let time = if name.contains(':') || name.contains('T') {
            value::parse_timestamp(&name)
        } else {
            None
        };
        history.transactions.push(TransactionMeta {
            time,
            snapshot: Some(name),
            ..TransactionMeta::default()
        });
    }
    if history.first_snapshot.is_none() {
        let shown = crate::escape::terminal(&directory.display().to_string());
        return Err(SourceError::argument(
            format!("`{shown}` holds no snapshot"),
            "each snapshot is a directory of table files: snapshots/2026-03-12/orders.csv",
        ));
    }
    Ok(history)
}

fn rows(
    table: &Table,
    file: &Path,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Vec<Vec<Cell>>, SourceError> {
    let mut rows = Vec::new();
    let found = tabular::read_rows(file, table, &mut |_, cells| {
        rows.push(cells);
        Ok(())
    });
    warnings.extend(found.map_err(SourceError::reading(file))?);
    Ok(rows)
}

/// Tables in files, one state. Parquet is read in place where that is allowed, everything else is loaded.
pub(super) fn single(
    files: &[PathBuf],
    schema: Schema,
    diagnostics: &mut Vec<Diagnostic>,
    in_place: bool,
) -> Result<History, SourceError> {
    let mut history = History::new(schema, Origin::SingleState, false);
    let mut taken = BTreeMap::new();
    for file in files {
        let (table, format) = table_of(file, &history.schema, &mut taken)?;
        if in_place
            && format == Format::Parquet
            && file
                .extension()
                .is_some_and(|extension| extension == "parquet")
        {
            let (found, _) = tabular::read_schema(file).map_err(SourceError::reading(file))?;
            if readable_in_place(&history.schema.tables[table], &found) {
                history.in_place[table] = Some(InPlace::Files(vec![file.clone()]));
                continue;
            }
        }
        load(&mut history, table, file, diagnostics)?;
    }
    Ok(history)
}

/// Whether a file's columns are those of the table, of the same kinds, so that no value needs to be converted.
fn readable_in_place(table: &Table, found: &Table) -> bool {
    let kind = |data_type: &DataType| match data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => 0,
        DataType::Float32 | DataType::Float64 => 1,
        DataType::Numeric { .. } => 2,
        DataType::Bool => 3,
        DataType::Date => 5,
        DataType::Time => 6,
        DataType::Timestamp => 7,
        DataType::TimestampTz => 8,
        DataType::Array(_) => 9,
        DataType::Text | DataType::Varchar(_) | DataType::Enum { .. } => 10,
        // Bytes of one Arrow type are numbers to the engine.
        DataType::Bytea
        | DataType::Char(_)
        | DataType::Uuid
        | DataType::Json
        | DataType::Jsonb
        | DataType::Other(_) => 11,
    };
    table.columns.len() == found.columns.len()
        && table.columns.iter().all(|column| {
            found.column(&column.name).is_some_and(|have| {
                kind(&have.data_type) == kind(&column.data_type) && kind(&column.data_type) != 11
            })
        })
}
