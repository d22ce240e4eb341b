//! The changes of a history directory: read on one thread, applied on another, since either takes about as long.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::SourceError;
use super::files::{entries, only_regular};
use super::tabular::{self, Watch};
use crate::change::Cell;
use crate::diagnostic::Diagnostic;
use crate::schema::{Schema, Table, value};
use crate::state::History;
use crate::timeline::{Entry, Places, Timeline};

/// How many entries are handed on at once, unless they have many changes.
const ENTRIES: usize = 256;
/// How many changes are handed on at once, except where one transaction has more.
const CHANGES: usize = 4_096;
/// How many such parts may wait to be applied.
const WAITING: usize = 2;

/// Applies all change logs of a directory to the state before them.
pub(super) fn replay(
    history: &mut History,
    directory: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), SourceError> {
    let files = entries(directory, is_log)?;
    let schema = history.schema.clone();
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let reader = scope.spawn(|| read(&schema, &files, diagnostics, sender));
        let applied = apply(history, &schema, receiver);
        let read = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What could not be applied stands before what could not be read.
        applied.and(read)
    })
}

fn is_log(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let plain = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name);
    plain.ends_with(".ndjson") || plain.ends_with(".jsonl")
}

/// Entries on their way from the reader to the state.
type Part = Vec<(Places, Entry)>;

/// Entries that were read and not handed on yet.
struct Outbox {
    part: Part,
    changes: usize,
    sender: SyncSender<Part>,
}

impl Outbox {
    fn take(&mut self, places: &Places, entry: Entry) -> Result<(), Diagnostic> {
        self.changes += match &entry {
            Entry::Row { .. } => 1,
            Entry::Transaction(transaction) => transaction.changes.len(),
        };
        self.part.push((places.clone(), entry));
        if self.part.len() >= ENTRIES || self.changes >= CHANGES {
            return self.hand_on();
        }
        Ok(())
    }

    /// The error only ends the reading: who applies has stopped, and says why.
    fn hand_on(&mut self) -> Result<(), Diagnostic> {
        self.changes = 0;
        let sent = self.sender.send(std::mem::take(&mut self.part));
        sent.map_err(|_| Diagnostic::file(Path::new(""), "the reading was ended"))
    }
}

fn read(
    schema: &Schema,
    files: &[PathBuf],
    diagnostics: &mut Vec<Diagnostic>,
    sender: SyncSender<Part>,
) -> Result<(), SourceError> {
    let mut log = Timeline::new(schema);
    let mut outbox = Outbox {
        part: Part::new(),
        changes: 0,
        sender,
    };
    let mut read = Ok(());
    for file in files {
        read = read_file(&mut log, file, diagnostics, &mut outbox);
        if read.is_err() {
            break;
        }
    }
    if read.is_ok() {
        let finished = log.finish(&mut |places, entry| outbox.take(places, entry));
        read = finished.map_err(|error| SourceError::Input(vec![error]));
    }
    let handed_on = outbox.hand_on();
    read.and(handed_on.map_err(|error| SourceError::Input(vec![error])))
}

fn read_file(
    log: &mut Timeline<'_>,
    file: &Path,
    diagnostics: &mut Vec<Diagnostic>,
    outbox: &mut Outbox,
) -> Result<(), SourceError> {
    only_regular(file)?;
    let watch = Watch::default();
    let input = tabular::open(file, &watch).map_err(SourceError::io(file))?;
    let mut sink = |places: &Places, entry| outbox.take(places, entry);
    log.read(input, file, diagnostics, &mut sink)
        .map_err(|error| SourceError::Input(vec![error]).below(file, &watch))
}

fn apply(history: &mut History, schema: &Schema, parts: Receiver<Part>) -> Result<(), SourceError> {
    for part in parts {
        for (places, entry) in part {
            take(history, schema, &places, entry)
                .map_err(|error| SourceError::Input(vec![error]))?;
        }
    }
    Ok(())
}

/// Takes one entry of the timeline into the history.
fn take(
    history: &mut History,
    schema: &Schema,
    places: &Places,
    entry: Entry,
) -> Result<(), Diagnostic> {
    let transaction = match entry {
        Entry::Transaction(transaction) => transaction,
        Entry::Row { table, cells } => return take_row(history, table, &cells, places),
    };
    history.apply(&transaction).map_err(|(at, contradiction)| {
        let change = &transaction.changes[at];
        let table = &schema.tables[change.table];
        let key = shown_key(table, change);
        let message = format!(
            "commit {}, change {}: table {}{key}: {contradiction}",
            transaction.commit,
            at + 1,
            table.name.short(),
        );
        let (file, line) = places.of(at);
        Diagnostic::at(file, line, 0, message).with_hint(
            "the history contradicts itself from here on: a change is missing, repeated or altered",
        )
    })
}

/// Takes a row of position 0 that stands among the changes.
fn take_row(
    history: &mut History,
    table: usize,
    cells: &[Cell],
    places: &Places,
) -> Result<(), Diagnostic> {
    let (file, line) = places.of(0);
    let name = history.schema.tables[table].name.short();
    let wrong = |message: &str| Diagnostic::at(file, line, 0, format!("table {name}: {message}"));
    let versions = &history.tables[table];
    if !versions.begins_partial() {
        return Err(
            wrong("a row of a snapshot among the changes, though there is a snapshot/").with_hint(
                "position 0 is one of the two: remove snapshot/, or the events with `op: r`",
            ),
        );
    }
    if versions.holds_key(cells) {
        return Err(wrong("this row of the snapshot has a key that was there before")
            .with_hint("a recorder that was started again may deliver a row twice; leave the second one out"));
    }
    history.load(table, cells);
    Ok(())
}

/// The key that a change names, for people: ` key {"id":4410}`.
fn shown_key(table: &Table, change: &crate::change::Change) -> String {
    let mut key = serde_json::Map::new();
    for &column in &table.primary_key {
        let images = [&change.key, &change.before, &change.after];
        let cell = images
            .into_iter()
            .flatten()
            .flatten()
            .find(|(at, _)| *at == column)
            .map(|(_, cell)| cell);
        if let Some(cell) = cell {
            let column = &table.columns[column];
            key.insert(column.name.clone(), value::to_json(&column.data_type, cell));
        }
    }
    if key.is_empty() {
        return String::new();
    }
    let text: String = serde_json::Value::Object(key)
        .to_string()
        .chars()
        .take(200)
        .collect();
    format!(", key {}", crate::escape::terminal(&text))
}
