//! `firstbad.yaml`: what every run in a directory has in common, so that it need not be said each time.
//!
//! The file is read like rule files: with positions, every mistake at once as a [`Diagnostic`], bombs bounded. Its texts may hold
//! variables of the environment, `${NAME}`, for secrets. Their values are in [`Text::value`] and [`Variable`] only: no message holds
//! them, `Debug` does not show them, and [`Mask`] takes them out of whatever else is to be shown.
//!
//! ```yaml
//! source: testdata/shop
//! store: .firstbad
//! rules: [rules/]
//! retention: {age: 90d, size: 20GB}
//! segments: {max_changes: 500000, max_bytes: 64MB, max_age: 5m}
//! snapshots: {every_changes: 1000000}
//! limits: {rule_timeout: 60s, memory: 4GiB}
//! quarantine: {rules: [paid-order-without-shipment], max_rows: 100, database: "${QUARANTINE_URL}"}
//! alerts: [{name: ops, slack: "${SLACK_URL}"}]
//! ```

mod alerts;
#[cfg(test)]
mod alerts_tests;
mod mask;
mod quiet;
mod read;
mod size;
#[cfg(test)]
mod tests;
mod variables;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use alerts::{Address, CHANGES, Email, Secret, Security, Sink, Template, To};
pub use mask::Mask;
pub use quiet::Quiet;
pub use size::parse_size;

use crate::diagnostic::Diagnostic;
use crate::rule::Span;

/// The name of the file in the current directory that is read without being asked for.
pub const FILE_NAME: &str = "firstbad.yaml";
/// The name of the default store.
pub const STORE_NAME: &str = ".firstbad";
/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 64 << 10;

/// What the file says; all empty where there is no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The file as the user named it; None where there is none.
    pub file: Option<PathBuf>,
    /// `source`: where data is read from, in the place of SOURCE; empty where it is left out.
    pub source: Vec<Text>,
    /// `store`: where what is recorded goes.
    pub store: Option<Text>,
    /// `rules`: rule files and directories, in the place of `--rules`; empty where it is left out.
    pub rules: Vec<Text>,
    /// `retention`: what a store keeps.
    pub retention: Retention,
    /// `segments`: when a segment of a store is sealed.
    pub segments: Segments,
    /// `snapshots`: when a store makes a snapshot by itself.
    pub snapshots: Snapshots,
    /// `limits`: what judging may cost.
    pub limits: Limits,
    /// `quarantine`: whose rows a watcher sets apart by itself, and where rows are set apart.
    pub quarantine: Quarantine,
    /// `alerts`: who is told of incidents.
    pub alerts: Vec<Sink>,
    /// The variables of the environment whose values went into the above, each once.
    pub variables: Vec<Variable>,
}

/// What a store keeps: the newest changes and snapshots that are within both bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `age`: not older than this; longer than zero.
    pub age: Option<Duration>,
    /// `size`: not more than this, in bytes; at least 1.
    pub size_bytes: Option<u64>,
}

/// When a segment is sealed: as soon as one of these is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// `max_changes`: rows changed; at least 1.
    pub max_changes: Option<u64>,
    /// `max_bytes`: size in bytes; at least 1.
    pub max_bytes: Option<u64>,
    /// `max_age`: time since its first change; longer than zero.
    pub max_age: Option<Duration>,
}

/// When a store makes a snapshot by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// `every_changes`: after so many changed rows; 0 (or `null` in the file) is never: only `firstbad snapshot` makes one.
    /// None where it is left out.
    pub every_changes: Option<u64>,
}

/// What judging may cost, where no flag says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `rule_timeout`: the longest that one rule may take; longer than zero.
    pub rule_timeout: Option<Duration>,
    /// `memory`: the most memory to use, in bytes; at least 1.
    pub memory_bytes: Option<u64>,
}

/// Setting rows apart: by whoever asks for it, and by a watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// `rules`: ids of the rules whose rows a watcher sets apart by itself; none where it is left out.
    pub rules: Vec<Text>,
    /// `max_rows`: the most rows of an incident that it sets apart; at least 1.
    pub rows_max: Option<u64>,
    /// `database`: the URL of the database, as the role that may set rows apart.
    pub database: Option<Text>,
}

/// A path or URL of the file, with its variables replaced. `Debug` and `Display` show the names of the variables, not their values.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    value: String,
    shown: String,
    span: Span,
}

impl Text {
    /// What is meant: a URL, or a path that leads there from the current directory. It may hold secrets: show [`Text::shown`].
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The same for people: `${NAME}` stands where the value of a variable is.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// An error at its place. A line with a password in a URL is not shown.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        read::without_password(self.span.error(message))
    }

    /// Where it stands in the file.
    pub fn span(&self) -> &Span {
        &self.span
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A variable of the environment. `Debug` shows its name only.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}}}", self.name)
    }
}

impl Config {
    /// The store of a run: the one that was given, else that of the file, else `.firstbad` beside the file, or in the current
    /// directory where there is no file. A path, or a URL once stores can be elsewhere.
    pub fn store_or(&self, given: Option<PathBuf>) -> PathBuf {
        let named = || {
            self.store
                .as_ref()
                .map(|store| PathBuf::from(store.value()))
        };
        let beside = || match &self.file {
            Some(file) => file.with_file_name(STORE_NAME),
            None => PathBuf::from(STORE_NAME),
        };
        given.or_else(named).unwrap_or_else(beside)
    }

    /// What takes the values of variables out of messages.
    pub fn mask(&self) -> Mask {
        Mask::of(self)
    }
}

/// The file that is read without being asked for: `firstbad.yaml` in this directory, if there is anything of that name. Directories
/// above are not searched: a run depends on nothing that its user does not see where he stands.
pub fn find(directory: &Path) -> Option<PathBuf> {
    let file = directory.join(FILE_NAME);
    file.symlink_metadata().is_ok().then_some(file)
}

/// Reads a file; variables are those of the environment.
///
/// # Errors
/// Everything that is wrong with it, in the order of its lines: it cannot be read, is larger than [`FILE_BYTES_MAX`], is no YAML, has
/// keys that do not exist, values of the wrong type, variables that are not set. No message holds the value of a variable.
pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    let text = read::text(path).map_err(|problem| vec![problem])?;
    parse(&text, path, &|name| std::env::var_os(name))
}

/// Reads a file from its text. `file` is its name in messages, and paths are relative to its directory; `variable` is the environment.
///
/// # Errors
/// As [`load`].
pub fn parse(
    text: &str,
    file: &Path,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, Vec<Diagnostic>> {
    read::config(text, file, variable)
}
