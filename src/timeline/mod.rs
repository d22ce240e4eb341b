//! The ordered transactions of a source, read from files: streamed, one at a time, with bounded memory.
//!
//! A [`Timeline`] reads the files of a history one after another, in firstbad's own form, as wal2json (format versions 1 and 2) or as
//! Debezium change events. It finds out which by the shape of the first line, and holds the history to it. It checks what can be
//! checked on a line by itself and in order (shape, gapless commits, whole transactions that come once, known tables and columns,
//! values of the right type). Whether a change fits the state is the state's business. Every error names file, line and, where one
//! value is meant, column, and as far as they are known commit and table.

mod debezium;
mod line;
mod native;
mod pending;
mod wal2json;

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use crate::change::{Cell, Commit, Transaction};
use crate::diagnostic::Diagnostic;
use crate::schema::Schema;

use line::{Place, RawObject};
pub use pending::{CONTEXT_PREFIX, merge_context};
use pending::{Order, Pending};

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 256 << 20;

/// What a reader hands on.
#[derive(Debug, PartialEq)]
pub enum Entry {
    /// A row of the state at position 0 (a snapshot event of Debezium), with cells in the table's column order.
    Row {
        /// Index of the table in the schema.
        table: usize,
        /// The row; columns that the event does not name are not known.
        cells: Vec<Cell>,
    },
    /// The next transaction.
    Transaction(Transaction),
}

/// Where the changes of an entry stand: one line for all, or a line each.
#[derive(Clone, Debug)]
pub struct Places(Vec<(Arc<Path>, usize)>);

impl Places {
    /// File and line of a change, by its index in the transaction.
    pub fn of(&self, change: usize) -> (&Path, usize) {
        match self.0.get(change).or(self.0.last()) {
            Some((file, line)) => (file, *line),
            None => (Path::new(""), 0),
        }
    }
}

/// Takes entries in order; what it refuses ends the reading.
pub type Sink<'a> = dyn FnMut(&Places, Entry) -> Result<(), Diagnostic> + 'a;

/// How a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Native,
    Wal2Json1,
    Wal2Json2,
    Debezium,
}

impl Form {
    /// The form of a line by its keys; None for a line that any form, or none, may have.
    fn of(object: &RawObject<'_>) -> Option<Form> {
        let has = |name: &str| object.raw(name).is_some();
        if has("commit") || has("changes") {
            Some(Form::Native)
        } else if has("change") {
            Some(Form::Wal2Json1)
        } else if has("action") {
            Some(Form::Wal2Json2)
        } else if debezium::is_event(object) {
            Some(Form::Debezium)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Native => "firstbad's own form",
            Form::Wal2Json1 => "wal2json, format version 1",
            Form::Wal2Json2 => "wal2json, format version 2",
            Form::Debezium => "Debezium",
        }
    }
}

/// Reads the files of one history in order.
pub struct Timeline<'s> {
    schema: &'s Schema,
    form: Option<Form>,
    order: Order,
    wal2json: Option<Pending>,
    debezium: debezium::Reader,
}

impl<'s> Timeline<'s> {
    /// A timeline of which nothing was read yet.
    pub fn new(schema: &'s Schema) -> Self {
        Timeline {
            schema,
            form: None,
            order: Order::new(),
            wal2json: None,
            debezium: debezium::Reader::default(),
        }
    }

    /// The commit that must come next.
    pub fn next_commit(&self) -> Commit {
        self.order.next
    }

    /// Reads one file; a transaction may go on in the next one, where its form has a line a change.
    ///
    /// # Errors
    /// The first mistake; what `sink` refuses.
    pub fn read(
        &mut self,
        mut input: impl BufRead,
        file: &Path,
        warnings: &mut Vec<Diagnostic>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Diagnostic> {
        let name: Arc<Path> = Arc::from(file);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let read = read_line(&mut input, &mut line).map_err(|error| {
                Diagnostic::at(file, number + 1, 0, format!("cannot be read: {error}"))
            })?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            let text = std::str::from_utf8(&line).map_err(|error| {
                let column = error.valid_up_to() + 1;
                Diagnostic::at(file, number, column, "this line is not valid UTF-8")
            })?;
            self.line(text, &name, number, warnings, sink)?;
        }
    }

    fn line(
        &mut self,
        text: &str,
        file: &Arc<Path>,
        number: usize,
        warnings: &mut Vec<Diagnostic>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Diagnostic> {
        let place = Place {
            file,
            line: number,
            text,
            commit: None,
        };
        let bare = text.trim();
        // Debezium follows each delete with an event that has no value.
        let is_tombstone = bare == "null" && self.form.is_none_or(|form| form == Form::Debezium);
        if bare.is_empty() || is_tombstone {
            return Ok(());
        }
        let object = place.object(text)?;
        let form = self.settle(&place, &object)?;
        let at = (file, number);
        let numbered = Place {
            commit: Some(self.order.next.into()),
            ..place
        };
        match form {
            Form::Native => {
                let transaction = native::transaction(&object, place, self.schema, warnings)?;
                self.order.native(&place, transaction.commit)?;
                sink(
                    &Places(vec![(file.clone(), number)]),
                    Entry::Transaction(transaction),
                )
            }
            Form::Wal2Json1 => {
                let read = wal2json::version_1(&object, numbered, at, self.schema, warnings)?;
                self.order.hand_on(&numbered, read, sink)
            }
            Form::Wal2Json2 => {
                let open = &mut self.wal2json;
                match wal2json::version_2(&object, numbered, at, self.schema, open, warnings)? {
                    Some(read) => self.order.hand_on(&numbered, read, sink),
                    None => Ok(()),
                }
            }
            Form::Debezium => {
                let to = debezium::Takers {
                    schema: self.schema,
                    order: &mut self.order,
                    warnings,
                    sink,
                };
                self.debezium.line(&object, numbered, at, to)
            }
        }
    }

    /// The form that the line is to be read in: one history has one form.
    fn settle(&mut self, place: &Place<'_>, object: &RawObject<'_>) -> Result<Form, Diagnostic> {
        let found = Form::of(object);
        match (self.form, found) {
            (Some(form), Some(found)) if form != found => {
                let message = format!(
                    "this line is {}, the history so far is {}",
                    found.name(),
                    form.name()
                );
                Err(place.error(message).with_hint(
                    "a history has one form; put the other one into a directory of its own",
                ))
            }
            (Some(form), _) => Ok(form),
            // What has no shape at all is told what a transaction looks like.
            (None, found) => {
                self.form = found;
                Ok(found.unwrap_or(Form::Native))
            }
        }
    }

    /// Hands on what was still open when the last file ended.
    ///
    /// # Errors
    /// A transaction that has no end; what `sink` refuses.
    pub fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), Diagnostic> {
        if let Some(open) = &self.wal2json {
            return Err(open.unfinished());
        }
        self.debezium.flush(&mut self.order, sink)
    }
}

/// Reads up to and including the next line feed, at most [`LINE_BYTES_MAX`] bytes.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    use std::io::Read;
    let limit = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let read = input.by_ref().take(limit).read_until(b'\n', line)?;
    if read > LINE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "a line longer than {} MiB",
            LINE_BYTES_MAX >> 20
        )));
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
