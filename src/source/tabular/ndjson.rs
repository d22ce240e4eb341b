//! One JSON object a line. Values are taken as their raw text, so that no number passes through a double.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Opening, Problems, RowOrigin, Sink, cannot_read, unknown_column, wrong_value};
use crate::change::Cell;
use crate::diagnostic::Diagnostic;
use crate::schema::Table;
use crate::schema::value::parse_json;

/// A longer line is refused.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Reads the lines of a file one after another into the same memory.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    bytes: Vec<u8>,
    number: usize,
}

impl Lines {
    pub(super) fn open(file: Opening<'_>) -> io::Result<Lines> {
        Ok(Lines {
            input: file.open()?,
            bytes: Vec::new(),
            number: 0,
        })
    }

    /// The next line that is not blank, with its number; None at the end.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<(usize, &str)>, Diagnostic> {
        loop {
            self.bytes.clear();
            self.number += 1;
            let room = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
            let read = (&mut self.input)
                .take(room)
                .read_until(b'\n', &mut self.bytes);
            if read.map_err(|error| cannot_read(path, &error))? == 0 {
                return Ok(None);
            }
            if self.bytes.len() > LINE_BYTES_MAX {
                return Err(Diagnostic::at(
                    path,
                    self.number,
                    0,
                    "a line of more than 64 MiB",
                ));
            }
            if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
            if !self.bytes.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        let number = self.number;
        std::str::from_utf8(&self.bytes)
            .map(|line| Some((number, line)))
            .map_err(|error| {
                let before =
                    String::from_utf8_lossy(self.bytes.get(..error.valid_up_to()).unwrap_or(&[]));
                Diagnostic::at(
                    path,
                    self.number,
                    before.chars().count() + 1,
                    "bytes that are not UTF-8",
                )
            })
    }
}

/// Why a line is no row; the place is a byte of the line.
pub(super) enum Fault {
    /// The line is not one JSON object.
    Malformed(usize, &'static str),
    /// The object has the key of this column twice.
    Repeated(usize, usize),
    /// The object has a key that is no column.
    Unknown(usize, String),
}

impl Fault {
    /// The 1-based column of the fault.
    pub(super) fn column(&self, line: &str) -> usize {
        let byte = match self {
            Fault::Malformed(byte, _) | Fault::Unknown(byte, _) => byte,
            Fault::Repeated(byte, _) => byte,
        };
        column_of(line, *byte)
    }
}

fn column_of(line: &str, byte: usize) -> usize {
    let before = line.as_bytes().get(..byte).unwrap_or(line.as_bytes());
    before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1
}

/// The values of an object by column: `resolve` gives each key's column.
pub(super) fn read_object<'l>(
    line: &'l str,
    resolve: &mut dyn FnMut(&str) -> Option<usize>,
) -> Result<Vec<(usize, &'l RawValue)>, Fault> {
    const HINT: &str = "not a JSON object; every line must hold one";
    let start = line.len() - line.trim_start().len();
    if !line.trim_start().starts_with('{') {
        return Err(Fault::Malformed(start, HINT));
    }
    let mut found = Vec::new();
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(line);
    let visitor = ObjectVisitor {
        line,
        resolve,
        found: &mut found,
        fault: &mut fault,
    };
    let read = json.deserialize_map(visitor).and_then(|()| json.end());
    match (fault, read) {
        (Some(fault), _) => Err(fault),
        (None, Ok(())) => Ok(found),
        // The parser's own words may quote the text.
        (None, Err(error)) => Err(Fault::Malformed(
            error.column().saturating_sub(1),
            "malformed JSON",
        )),
    }
}

struct ObjectVisitor<'v, 'l> {
    line: &'l str,
    resolve: &'v mut dyn FnMut(&str) -> Option<usize>,
    found: &'v mut Vec<(usize, &'l RawValue)>,
    fault: &'v mut Option<Fault>,
}

impl<'l> Visitor<'l> for ObjectVisitor<'_, 'l> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key_seed(Key {
            resolve: &mut *self.resolve,
        })? {
            let value: &'l RawValue = map.next_value()?;
            if self.fault.is_some() {
                continue;
            }
            match key {
                Ok(column) if seen.insert(column) => self.found.push((column, value)),
                Ok(column) => *self.fault = Some(Fault::Repeated(offset(self.line, value), column)),
                Err(name) => *self.fault = Some(Fault::Unknown(offset(self.line, value), name)),
            }
        }
        Ok(())
    }
}

/// The byte of the line at which a value that was borrowed from it begins.
fn offset(line: &str, value: &RawValue) -> usize {
    (value.get().as_ptr() as usize).saturating_sub(line.as_ptr() as usize)
}

struct Key<'v> {
    resolve: &'v mut dyn FnMut(&str) -> Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.resolve)(name).ok_or_else(|| name.to_owned()))
    }
}

/// Reads the rows of a file into the types of a table.
pub(super) fn read_rows(
    file: Opening<'_>,
    table: &Table,
    sink: &mut Sink<'_>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let path = file.path;
    let mut lines = Lines::open(file).map_err(|error| vec![cannot_read(path, &error)])?;
    let columns = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| (column.name.as_str(), at))
        .collect();
    let mut reader = Rows {
        path,
        table,
        columns,
        left_out: vec![false; table.columns.len()],
    };
    let mut problems = Problems::default();
    loop {
        let (number, line) = match lines.next(path) {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                problems.error(error);
                return problems.finish();
            }
        };
        match reader.row(number, line) {
            Ok(cells) if problems.errors.is_empty() => {
                sink(RowOrigin { line: number }, cells).map_err(|error| vec![error])?;
            }
            Ok(_) => {}
            Err(error) => {
                if !problems.error(error) {
                    return problems.finish();
                }
            }
        }
    }
    let has: Vec<bool> = reader.left_out.iter().map(|left_out| !left_out).collect();
    problems.missing_columns(path, 0, table, &has);
    problems.finish()
}

struct Rows<'t> {
    path: &'t Path,
    table: &'t Table,
    columns: HashMap<&'t str, usize>,
    /// Columns that some row did not name.
    left_out: Vec<bool>,
}

impl Rows<'_> {
    fn row(&mut self, number: usize, line: &str) -> Result<Vec<Cell>, Diagnostic> {
        let values = read_object(line, &mut |name| self.columns.get(name).copied())
            .map_err(|fault| self.fault(number, line, &fault))?;
        let mut cells: Vec<Option<Cell>> = vec![None; self.table.columns.len()];
        for (at, value) in values {
            let (Some(column), Some(cell)) = (self.table.columns.get(at), cells.get_mut(at)) else {
                continue;
            };
            match parse_json(&column.data_type, value.get()) {
                Ok(found) => *cell = Some(found),
                Err(error) => {
                    let place = column_of(line, offset(line, value));
                    return Err(wrong_value(self.path, number, place, &column.name, &error));
                }
            }
        }
        for ((cell, column), left_out) in cells
            .iter()
            .zip(&self.table.columns)
            .zip(&mut self.left_out)
        {
            if cell.is_none() && !column.nullable {
                let message = format!("column `{}` is missing and may not be NULL", column.name);
                return Err(Diagnostic::at(self.path, number, 0, message));
            }
            *left_out |= cell.is_none();
        }
        Ok(cells
            .into_iter()
            .map(|cell| cell.unwrap_or(Cell::Null))
            .collect())
    }

    fn fault(&self, number: usize, line: &str, fault: &Fault) -> Diagnostic {
        let place = fault.column(line);
        match fault {
            Fault::Malformed(_, what) => Diagnostic::at(self.path, number, place, *what),
            Fault::Unknown(_, name) => unknown_column(self.path, number, place, name, self.table),
            Fault::Repeated(_, at) => {
                let name = self
                    .table
                    .columns
                    .get(*at)
                    .map_or("", |column| column.name.as_str());
                Diagnostic::at(
                    self.path,
                    number,
                    place,
                    format!("key `{name}` stands twice in one object"),
                )
            }
        }
    }
}
