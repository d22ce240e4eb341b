//! CSV as RFC 4180 has it, with one addition: an unquoted empty field is NULL and `""` is the empty string, which is why no
//! ready-made reader would do.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::path::Path;

use super::{
    COLUMNS_MAX, Opening, Problems, RowOrigin, Sink, cannot_read, unknown_column, wrong_value,
};
use crate::change::Cell;
use crate::diagnostic::Diagnostic;
use crate::schema::Table;
use crate::schema::value::parse_text;

/// A record of more bytes is refused.
const RECORD_BYTES_MAX: usize = 16 << 20;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a record could not be read.
pub(super) enum Fault {
    /// The file could not be read.
    Io(io::Error),
    /// The text at this byte of the record is wrong.
    At(usize, &'static str),
}

/// One field as a range of the record's bytes, without its quotes.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    quoted: bool,
    /// Holds doubled quotes.
    doubled: bool,
}

/// Reads records one after another into the same memory.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    delimiter: u8,
    record: Vec<u8>,
    fields: Vec<Field>,
    /// 1-based line on which the record begins.
    pub(super) line: usize,
    next_line: usize,
}

impl Records {
    pub(super) fn open(file: Opening<'_>, delimiter: u8) -> io::Result<Records> {
        let input = file.open()?;
        Ok(Records {
            input,
            delimiter,
            record: Vec::new(),
            fields: Vec::new(),
            line: 0,
            next_line: 1,
        })
    }

    /// Moves to the next record; false at the end. Empty lines are passed over once the header has named several columns.
    pub(super) fn next(&mut self, skip_empty: bool) -> Result<bool, Fault> {
        loop {
            if !self.read_record()? {
                return Ok(false);
            }
            let is_empty = matches!(self.fields.as_slice(), [field] if field.start == field.end && !field.quoted);
            if !(is_empty && skip_empty) {
                return Ok(true);
            }
        }
    }

    fn read_record(&mut self) -> Result<bool, Fault> {
        self.record.clear();
        self.fields.clear();
        self.line = self.next_line;
        let mut scan = Scan {
            at: 0,
            quote: None,
            resume: 0,
            doubled: false,
        };
        loop {
            let before = self.record.len();
            let room = u64::try_from(RECORD_BYTES_MAX + 1 - before).unwrap_or(0);
            (&mut self.input)
                .take(room)
                .read_until(b'\n', &mut self.record)
                .map_err(Fault::Io)?;
            if self.record.len() > RECORD_BYTES_MAX {
                return Err(Fault::At(
                    scan.quote.unwrap_or(0),
                    "a record of more than 16 MiB (is a quote never closed?)",
                ));
            }
            if self.record.len() == before {
                return match scan.quote {
                    Some(open) => Err(Fault::At(open, "a quote that is never closed")),
                    None => Ok(false),
                };
            }
            if self.line == 1 && before == 0 {
                scan.at = self.skip_byte_order_mark()?;
            }
            self.next_line += usize::from(self.record.ends_with(b"\n"));
            if scan.run(&self.record, self.delimiter, &mut self.fields)? {
                break;
            }
        }
        match (
            std::str::from_utf8(&self.record),
            self.record.iter().position(|&byte| byte == 0),
        ) {
            (_, Some(at)) => Err(Fault::At(at, "a NUL character")),
            (Err(error), None) => Err(Fault::At(error.valid_up_to(), "bytes that are not UTF-8")),
            (Ok(_), None) => Ok(true),
        }
    }

    fn skip_byte_order_mark(&self) -> Result<usize, Fault> {
        if self.record.starts_with(b"\xff\xfe") || self.record.starts_with(b"\xfe\xff") {
            return Err(Fault::At(0, "UTF-16 text; the file must be UTF-8"));
        }
        Ok(if self.record.starts_with(BOM) {
            BOM.len()
        } else {
            0
        })
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The text of a field; None for NULL.
    pub(super) fn field(&self, at: usize) -> Option<Cow<'_, str>> {
        let field = self.fields.get(at)?;
        if field.start == field.end && !field.quoted {
            return None;
        }
        // The record was found to be UTF-8, and fields end at ASCII characters.
        let text = std::str::from_utf8(self.record.get(field.start..field.end)?).ok()?;
        Some(if field.doubled {
            Cow::Owned(text.replace("\"\"", "\""))
        } else {
            Cow::Borrowed(text)
        })
    }

    /// Line and column, both 1-based, of a byte of the record.
    pub(super) fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.record.get(..byte).unwrap_or(&self.record);
        let line = self.line + before.iter().filter(|&&byte| byte == b'\n').count();
        let start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let in_line = before.get(start..).unwrap_or(&[]);
        let in_line = if line == 1 {
            in_line.strip_prefix(BOM).unwrap_or(in_line)
        } else {
            in_line
        };
        // Bytes that continue a character are not counted.
        (
            line,
            in_line.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1,
        )
    }

    /// Where a field begins, its opening quote included.
    pub(super) fn place_of_field(&self, at: usize) -> (usize, usize) {
        let start = self
            .fields
            .get(at)
            .map_or(0, |field| field.start - usize::from(field.quoted));
        self.place(start)
    }

    pub(super) fn fault(&self, path: &Path, fault: Fault) -> Diagnostic {
        match fault {
            Fault::Io(error) => cannot_read(path, &error),
            Fault::At(byte, what) => {
                let (line, column) = self.place(byte);
                Diagnostic::at(path, line, column, what)
            }
        }
    }

    /// Reads the header: the columns' names, each with a message if it cannot be one.
    pub(super) fn header(&mut self, path: &Path) -> Result<Vec<String>, Vec<Diagnostic>> {
        match self.next(true) {
            Ok(true) => {}
            Ok(false) => {
                let hint = "the first line must name the columns";
                return Err(vec![
                    Diagnostic::file(path, "the file has no header").with_hint(hint),
                ]);
            }
            Err(fault) => return Err(vec![self.fault(path, fault)]),
        }
        let (mut names, mut errors) = (Vec::<String>::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        for at in 0..self.len() {
            let (line, column) = self.place_of_field(at);
            let mut error =
                |message: String| errors.push(Diagnostic::at(path, line, column, message));
            let name = self.field(at).unwrap_or_default().into_owned();
            if name.is_empty() {
                error(format!("column {} has no name", at + 1));
            } else if !seen.insert(name.clone()) {
                error(format!("two columns are named `{name}`"));
            }
            names.push(name);
        }
        errors.truncate(super::ERRORS_MAX);
        if errors.is_empty() {
            Ok(names)
        } else {
            Err(errors)
        }
    }

    /// The message about a record that has not as many fields as the header.
    pub(super) fn wrong_length(&self, path: &Path, expected: usize) -> Diagnostic {
        let found = self.len();
        let (line, column) = if found > expected {
            self.place_of_field(expected)
        } else {
            (self.line, 0)
        };
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let message = format!(
            "{found} field{} where the header has {expected}",
            plural(found)
        );
        Diagnostic::at(path, line, column, message)
    }
}

/// The state in which a record's end may leave an open quote.
struct Scan {
    /// Where the current field begins.
    at: usize,
    /// Where the current field's quote opened.
    quote: Option<usize>,
    /// How far the inside of the quote was searched.
    resume: usize,
    doubled: bool,
}

impl Scan {
    /// Cuts the record into fields; false when a quote is still open at its end.
    fn run(
        &mut self,
        record: &[u8],
        delimiter: u8,
        fields: &mut Vec<Field>,
    ) -> Result<bool, Fault> {
        loop {
            if fields.len() >= COLUMNS_MAX {
                return Err(Fault::At(self.at, "more than 10,000 columns"));
            }
            let end = match self.quote {
                Some(open) => {
                    let Some(end) = self.closing_quote(record) else {
                        return Ok(false);
                    };
                    fields.push(Field {
                        start: open + 1,
                        end,
                        quoted: true,
                        doubled: self.doubled,
                    });
                    (self.quote, self.doubled) = (None, false);
                    end + 1
                }
                None if record.get(self.at) == Some(&b'"') => {
                    self.quote = Some(self.at);
                    self.resume = self.at + 1;
                    continue;
                }
                None => {
                    let rest = record.get(self.at..).unwrap_or(&[]);
                    let special =
                        |&byte: &u8| byte == delimiter || matches!(byte, b'\n' | b'\r' | b'"');
                    let end = self.at + rest.iter().position(special).unwrap_or(rest.len());
                    fields.push(Field {
                        start: self.at,
                        end,
                        quoted: false,
                        doubled: false,
                    });
                    end
                }
            };
            match record.get(end) {
                Some(&byte) if byte == delimiter => self.at = end + 1,
                None | Some(b'\n') => return Ok(true),
                Some(b'\r') if matches!(record.get(end + 1), None | Some(b'\n')) => {
                    return Ok(true);
                }
                Some(b'\r') => {
                    return Err(Fault::At(
                        end,
                        "a carriage return without a line feed outside of quotes",
                    ));
                }
                Some(b'"') => return Err(Fault::At(end, "a quote inside an unquoted field")),
                Some(_) => return Err(Fault::At(end, "text after a closing quote")),
            }
        }
    }

    /// The position of the quote that closes the field, if it is there already.
    fn closing_quote(&mut self, record: &[u8]) -> Option<usize> {
        loop {
            let found = record
                .get(self.resume..)?
                .iter()
                .position(|&byte| byte == b'"');
            let Some(found) = found else {
                self.resume = record.len();
                return None;
            };
            let at = self.resume + found;
            if record.get(at + 1) != Some(&b'"') {
                return Some(at);
            }
            self.doubled = true;
            self.resume = at + 2;
        }
    }
}

/// Reads the rows of a file into the types of a table.
pub(super) fn read_rows(
    file: Opening<'_>,
    delimiter: u8,
    table: &Table,
    sink: &mut Sink<'_>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let path = file.path;
    let mut records =
        Records::open(file, delimiter).map_err(|error| vec![cannot_read(path, &error)])?;
    let names = records.header(path)?;
    let mut problems = Problems::default();
    let mut targets = Vec::with_capacity(names.len());
    let mut has = vec![false; table.columns.len()];
    for (at, name) in names.iter().enumerate() {
        match table.column_index(name) {
            Some(index) => {
                has[index] = true;
                targets.push(index);
            }
            None => {
                let (line, column) = records.place_of_field(at);
                problems.error(unknown_column(path, line, column, name, table));
            }
        }
    }
    problems.missing_columns(path, records.line, table, &has);
    if !problems.errors.is_empty() {
        problems.errors.truncate(super::ERRORS_MAX);
        return problems.finish();
    }
    let skip_empty = targets.len() > 1;
    loop {
        match records.next(skip_empty) {
            Ok(true) => {}
            Ok(false) => return problems.finish(),
            Err(fault) => {
                problems.error(records.fault(path, fault));
                return problems.finish();
            }
        }
        match read_row(path, &records, table, &targets) {
            Ok(cells) if problems.errors.is_empty() => {
                sink(RowOrigin { line: records.line }, cells).map_err(|error| vec![error])?;
            }
            Ok(_) => {}
            Err(error) => {
                if !problems.error(error) {
                    return problems.finish();
                }
            }
        }
    }
}

fn read_row(
    path: &Path,
    records: &Records,
    table: &Table,
    targets: &[usize],
) -> Result<Vec<Cell>, Diagnostic> {
    if records.len() != targets.len() {
        return Err(records.wrong_length(path, targets.len()));
    }
    let mut cells = vec![Cell::Null; table.columns.len()];
    for (at, &target) in targets.iter().enumerate() {
        let (Some(text), Some(column)) = (records.field(at), table.columns.get(target)) else {
            continue;
        };
        match parse_text(&column.data_type, &text) {
            Ok(cell) => cells[target] = cell,
            Err(error) => {
                let (line, place) = records.place_of_field(at);
                return Err(wrong_value(path, line, place, &column.name, &error));
            }
        }
    }
    Ok(cells)
}
