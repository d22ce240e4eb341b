//! Where histories come from: finds out what a SOURCE is and reads it into a [`History`].

pub mod synthetic;
pub mod tabular;

mod changes;
mod dump;
mod files;
mod live;

pub use live::{Live, is_postgres, live, shown};

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Level};
use crate::postgres::PostgresError;
use crate::state::History;
use crate::store::{self, Store, StoreError};

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The user's files or arguments are wrong.
    #[error("the source is not usable as it is")]
    Input(Vec<Diagnostic>),
    /// The argument is wrong.
    #[error("{message}")]
    Argument {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A program that is needed is not there.
    #[error("{message}")]
    Tool {
        /// What is missing.
        message: String,
        /// What to install.
        hint: &'static str,
    },
    /// A store cannot be read.
    #[error("cannot read the store {}", path.display())]
    Store {
        /// The store.
        path: PathBuf,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// A database cannot be read.
    #[error("cannot read {shown}")]
    Postgres {
        /// The database, without its password.
        shown: String,
        /// Why not.
        #[source]
        source: PostgresError,
    },
    /// The file system failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl SourceError {
    fn argument(message: impl Into<String>, hint: impl Into<String>) -> Self {
        SourceError::Argument {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Why a table file was not read.
    fn reading(path: &Path) -> impl FnOnce(tabular::Failed) -> SourceError {
        let path = path.to_path_buf();
        move |failed| match failed {
            tabular::Failed::Input(found) => SourceError::Input(found),
            tabular::Failed::Io(source) => SourceError::Io { path, source },
        }
    }

    /// What went wrong while a file was read: what was noticed, or that the system failed below it.
    fn below(self, path: &Path, watch: &tabular::Watch) -> SourceError {
        match watch.failure() {
            Some(source) => SourceError::io(path)(source),
            None => self,
        }
    }

    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SourceError {
        let path = path.to_path_buf();
        move |source| SourceError::Io { path, source }
    }
}

/// An opened source.
#[derive(Debug)]
pub struct Opened {
    /// What was read.
    pub history: History,
    /// Warnings and notes about its files.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a SOURCE turned out to be.
#[derive(PartialEq, Eq)]
enum Kind {
    /// `snapshot/` and `changes/`.
    HistoryDirectory,
    /// `snapshots/<name>/`.
    DatedSnapshots,
    /// Table files in a directory or named one by one.
    Files(Vec<PathBuf>),
    /// A series of dumps in order.
    Dumps(Vec<PathBuf>),
    /// One dump.
    Dump(PathBuf),
    /// A store.
    Store(PathBuf),
    /// A database, by its URL, which may hold a password.
    Postgres(String),
}

/// Opens a source: a database, a store, a history directory, a directory of dated snapshots, a directory of table files, data files, or dumps.
///
/// # Errors
/// Whatever is wrong with the arguments, the files, or the file system; nothing is written anywhere.
pub fn open(arguments: &[String]) -> Result<Opened, SourceError> {
    open_as(arguments, true, None)
}

/// Opens a source for the states at some positions: of a store, no more is read than they need, so that its history may begin later and
/// end earlier. Ages count back from `now_us`, in microseconds since the epoch.
///
/// # Errors
/// As [`open`].
pub fn open_around(
    arguments: &[String],
    positions: &[&str],
    now_us: Option<i64>,
) -> Result<Opened, SourceError> {
    open_as(arguments, true, Some((positions, now_us)))
}

/// Opens a source with all of its rows held as versions: no table is left in its file.
///
/// # Errors
/// As [`open`].
pub fn open_held(arguments: &[String]) -> Result<Opened, SourceError> {
    open_as(arguments, false, None)
}

/// Positions by name, and the time from which ages count back.
type Around<'a> = (&'a [&'a str], Option<i64>);

fn open_as(
    arguments: &[String],
    in_place: bool,
    around: Option<Around<'_>>,
) -> Result<Opened, SourceError> {
    let (root, kind) = find_out(arguments)?;
    if let Kind::Store(path) = &kind {
        return open_store(path, around);
    }
    if let Kind::Postgres(url) = &kind {
        return Live::all(url);
    }
    let (schema, mut diagnostics) = match &kind {
        Kind::Dumps(dumps) => dump::schema(&root, dumps)?,
        Kind::Dump(dump) => dump::schema(&root, std::slice::from_ref(dump))?,
        _ => files::schema(&root, &kind)?,
    };
    let mut history = match kind {
        Kind::HistoryDirectory => files::history(&root, schema, &mut diagnostics)?,
        Kind::DatedSnapshots => files::dated(&root, schema, &mut diagnostics)?,
        Kind::Files(paths) => files::single(&paths, schema, &mut diagnostics, in_place)?,
        Kind::Dumps(dumps) => dump::series(&dumps, schema, &mut diagnostics)?,
        Kind::Dump(dump) => dump::single(&dump, schema, &mut diagnostics)?,
        Kind::Store(_) | Kind::Postgres(_) => unreachable!("these were opened above"),
    };
    history.in_place.resize(history.schema.tables.len(), None);
    history.shrink();
    diagnostics.retain(|diagnostic| diagnostic.level != Level::Error);
    Ok(Opened {
        history,
        diagnostics,
    })
}

/// Opens a store with all that it holds, or what some positions need.
fn open_store(path: &Path, around: Option<Around<'_>>) -> Result<Opened, SourceError> {
    let history = Store::reading(path, |store| match around {
        Some((positions, now_us)) => store.history_around(positions, now_us),
        None => store.history(),
    });
    let history = history.map_err(|source| SourceError::Store {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Opened {
        history,
        diagnostics: Vec::new(),
    })
}

/// The store that arguments name; None where they name something else.
pub fn store_of(arguments: &[String]) -> Option<PathBuf> {
    match find_out(arguments) {
        Ok((_, Kind::Store(path))) => Some(path),
        _ => None,
    }
}

/// Whether arguments name a source at all; nothing is read of it.
///
/// # Errors
/// What is wrong with the arguments.
pub fn probe(arguments: &[String]) -> Result<(), SourceError> {
    find_out(arguments).map(|_| ())
}

fn find_out(arguments: &[String]) -> Result<(PathBuf, Kind), SourceError> {
    if arguments.is_empty() {
        return Err(SourceError::argument(
            "no source was named",
            "name a directory, data files or a database",
        ));
    }
    if let Some(url) = arguments.iter().find(|argument| is_postgres(argument)) {
        if arguments.len() > 1 {
            return Err(SourceError::argument(
                "a database is named together with other sources",
                "name one database, or only data files",
            ));
        }
        live::probe(url)?;
        return Ok((PathBuf::from("."), Kind::Postgres(url.clone())));
    }
    let paths: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    all_there(&paths)?;
    match paths.as_slice() {
        [directory] if store::is_store(directory) => {
            Ok((directory.clone(), Kind::Store(directory.clone())))
        }
        [one] if dump::is_dump(one) => Ok((beside(one), Kind::Dump(one.clone()))),
        [directory] if directory.is_dir() => {
            let has = |name: &str| directory.join(name).is_dir();
            let kind = if has("snapshots") {
                Kind::DatedSnapshots
            } else if has("snapshot") || has("changes") {
                Kind::HistoryDirectory
            } else {
                let tables = files::table_files(directory)?;
                match dump::dumps(directory)? {
                    // SQL beside tables is not what is judged.
                    dumps if tables.is_empty() && !dumps.is_empty() => Kind::Dumps(dumps),
                    _ => Kind::Files(tables),
                }
            };
            Ok((directory.clone(), kind))
        }
        several if several.len() > 1 && several.iter().all(|path| dump::is_dump(path)) => {
            Ok((beside(&several[0]), Kind::Dumps(paths)))
        }
        _ => {
            if let Some(directory) = paths.iter().find(|path| path.is_dir()) {
                let message = format!(
                    "`{}` is a directory among files",
                    crate::escape::terminal(&directory.display().to_string())
                );
                return Err(SourceError::argument(
                    message,
                    "name one directory, or only data files",
                ));
            }
            if let Some(other) = paths
                .iter()
                .find(|path| !path.is_file() || tabular::table_name_of(path).is_none())
            {
                let message = format!(
                    "`{}` is no data file",
                    crate::escape::terminal(&other.display().to_string())
                );
                let hint = "data files are .csv, .parquet, .ndjson and .arrow, also with .gz or .zst; a dump is named alone";
                return Err(SourceError::argument(message, hint));
            }
            Ok((PathBuf::from("."), Kind::Files(paths)))
        }
    }
}

/// Refuses arguments that name nothing.
fn all_there(paths: &[PathBuf]) -> Result<(), SourceError> {
    for path in paths {
        if let Err(error) = std::fs::metadata(path) {
            if error.kind() == std::io::ErrorKind::NotFound {
                let message = format!(
                    "there is no `{}`",
                    crate::escape::terminal(&path.display().to_string())
                );
                return Err(SourceError::argument(
                    message,
                    "name a history directory, a directory of table files, or data files",
                ));
            }
            return Err(SourceError::io(path)(error));
        }
    }
    Ok(())
}

/// The directory of a file.
fn beside(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
