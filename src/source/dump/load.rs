//! The statements of a dump, one after another: what they declare, and the rows that they hold.

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;

use super::Place;
use super::rows::{Field, Holder, Target, copy_fields, holder};
use super::scan::{Fault, Piece, Scanner, not_utf8};
use crate::change::Cell;
use crate::diagnostic::{Diagnostic, Level, counted};
use crate::schema::ddl::lex::{Cursor, Lexer, name_of};
use crate::schema::{Schema, TableName, ddl, value};
use crate::source::SourceError;
use crate::source::files::SCHEMA_BYTES_MAX;

/// Warnings of one dump.
const WARNINGS_MAX: usize = 100;

/// Statements that declare something, as one text whose lines know where they stood.
#[derive(Default)]
struct Declarations {
    text: String,
    lines: Vec<usize>,
    partitions: HashMap<TableName, TableName>,
    search_path: String,
    connected: bool,
}

impl Declarations {
    /// Keeps a statement that declares something.
    fn take(&mut self, text: &str, line: usize) -> Result<(), Fault> {
        if self.text.len() as u64 + text.len() as u64 > SCHEMA_BYTES_MAX {
            let message = format!("the dump declares more than {} MiB", SCHEMA_BYTES_MAX >> 20);
            return Err(Fault::new(line, message));
        }
        for (at, part) in text.split('\n').enumerate() {
            self.text.push_str(part);
            self.text.push('\n');
            self.lines.push(line + at);
        }
        // The semicolon has a line of its own: the statement may end with a comment.
        self.text.push_str(";\n");
        self.lines.push(line);
        self.settings(text, line)
    }

    /// Takes a command to psql. A second database has tables of the same names.
    fn command(&mut self, text: &str, line: usize) -> Result<(), Fault> {
        let word = text.split_whitespace().next().unwrap_or("");
        let connects = word == "\\connect" || word == "\\c";
        if connects && std::mem::replace(&mut self.connected, true) {
            return Err(Fault::new(line, "the dump holds more than one database")
                .with_hint("dump one database, with pg_dump instead of pg_dumpall"));
        }
        Ok(())
    }

    /// What decides how the rest of the dump is read.
    fn settings(&mut self, text: &str, line: usize) -> Result<(), Fault> {
        const LEADING_BYTES: usize = 4096;
        let mut tokens = Vec::new();
        let end = (0..=text.len().min(LEADING_BYTES))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        let leading = &text[..end];
        let mut lexer = Lexer::new(leading);
        while let Ok(Some(token)) = lexer.next() {
            tokens.push(token);
        }
        let mut cursor = Cursor::new(leading, &tokens);
        if cursor.take(&["set"]) {
            let name = cursor.name().map(|(name, _)| name).unwrap_or_default();
            let _ = cursor.take_symbol('=') || cursor.take(&["to"]);
            let first = cursor.bump();
            let set = first
                .map(|token| name_of(leading, token))
                .unwrap_or_default();
            let set = set.trim_matches('\'');
            match name.as_str() {
                "search_path" => set.clone_into(&mut self.search_path),
                "client_encoding" if !is_utf8(set) => {
                    return Err(Fault::new(line, "the dump is not written in UTF-8")
                        .with_hint("write it with `pg_dump --encoding=UTF8`"));
                }
                "standard_conforming_strings" if set != "on" => {
                    return Err(Fault::new(
                        line,
                        "the dump is written with standard_conforming_strings off",
                    )
                    .with_hint(
                        "write it from a database where that setting is on, as it is by default",
                    ));
                }
                _ => {}
            }
            return Ok(());
        }
        if cursor.take(&["alter", "table"]) {
            let _ = cursor.take(&["only"]);
            let parent = self.name(&mut cursor);
            if cursor.take(&["attach", "partition"])
                && let (Some(parent), Some(child)) = (parent, self.name(&mut cursor))
            {
                self.partitions.insert(child, parent);
            }
        } else if cursor.take(&["create"]) {
            let _ = cursor.take(&["unlogged"]);
            if cursor.take(&["table"])
                && let Some(child) = self.name(&mut cursor)
                && cursor.take(&["partition", "of"])
                && let Some(parent) = self.name(&mut cursor)
            {
                self.partitions.insert(child, parent);
            }
        }
        Ok(())
    }

    fn name(&self, cursor: &mut Cursor<'_>) -> Option<TableName> {
        let _ = cursor.take(&["if", "not", "exists"]);
        let (name, schema, _) = cursor.qualified()?;
        let schema = schema.unwrap_or_else(|| self.search_path().to_owned());
        Some(TableName::new(schema, name))
    }

    fn search_path(&self) -> &str {
        match self.search_path.as_str() {
            "" => "public",
            path => path,
        }
    }

    /// The table whose rows those of a partition are.
    fn root<'a>(&'a self, name: &'a TableName) -> &'a TableName {
        const DEPTH_MAX: usize = 100;
        let mut at = name;
        for _ in 0..DEPTH_MAX {
            match self.partitions.get(at) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at
    }
}

fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    // Bytes of no declared encoding are checked one by one.
    matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii")
}

/// Reads on over the rows that a statement announces.
fn skip_rows(scanner: &mut Scanner<&mut dyn BufRead>) -> Result<(), Fault> {
    let mut row = Vec::new();
    while scanner.copy_row(&mut row)? {}
    Ok(())
}

/// What a dump declares.
pub(super) fn declared(
    input: &mut dyn BufRead,
    place: Place<'_>,
) -> Result<(Schema, Vec<Diagnostic>), SourceError> {
    let mut found = Declarations::default();
    let mut scanner = Scanner::new(input);
    let mut read = || -> Result<(), Fault> {
        while let Some(piece) = scanner.next()? {
            let (text, line) = match piece {
                Piece::Statement { text, line } => (text, line),
                Piece::Command { text, line } => {
                    found.command(&text, line)?;
                    continue;
                }
            };
            match holder(&text).map_err(|wrong| Fault::new(line, wrong))? {
                None => found.take(&text, line)?,
                Some(Holder::Copy(_)) => skip_rows(&mut scanner)?,
                Some(Holder::Insert(..)) => {}
            }
        }
        Ok(())
    };
    read().map_err(|fault| place.fault(fault))?;
    let (schema, mut diagnostics) = ddl::parse(&found.text, place.path);
    for diagnostic in &mut diagnostics {
        let line = diagnostic.line.checked_sub(1);
        let line = line.and_then(|line| found.lines.get(line)).copied();
        let moved = place.at(
            line.unwrap_or(0),
            diagnostic.column,
            std::mem::take(&mut diagnostic.message),
        );
        diagnostic.message = moved.message;
        diagnostic.line = moved.line;
        diagnostic.column = moved.column;
        if moved.line == 0 {
            diagnostic.source_line = None;
        }
    }
    Ok((schema, diagnostics))
}

/// Takes rows: table, line and cells.
pub(super) type Sink<'a> = dyn FnMut(usize, usize, Vec<Cell>) -> Result<(), Diagnostic> + 'a;

/// Where the fields of a row go.
struct Fitting {
    table: usize,
    /// For each field the column it is for; None for a column that the schema does not have.
    fields: Vec<Option<usize>>,
    /// A row without its fields: NULL where the dump lacks the column, not known where Postgres computes it.
    blank: Vec<Cell>,
}

/// Reads the rows of one dump.
pub(super) struct Loader<'a> {
    schema: &'a Schema,
    place: Place<'a>,
    warnings: &'a mut Vec<Diagnostic>,
    sink: &'a mut Sink<'a>,
    declarations: Declarations,
    /// The dump's own schema, as far as it was declared when its first rows came.
    own: Option<Schema>,
    warned: BTreeSet<String>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        schema: &'a Schema,
        place: Place<'a>,
        warnings: &'a mut Vec<Diagnostic>,
        sink: &'a mut Sink<'a>,
    ) -> Self {
        Loader {
            schema,
            place,
            warnings,
            sink,
            declarations: Declarations::default(),
            own: None,
            warned: BTreeSet::new(),
        }
    }

    /// Reads the dump to its end.
    pub(super) fn run(mut self, input: &mut dyn BufRead) -> Result<(), SourceError> {
        let mut scanner = Scanner::new(input);
        loop {
            let piece = scanner.next().map_err(|fault| self.place.fault(fault))?;
            match piece {
                None => return Ok(()),
                Some(Piece::Command { text, line }) => self
                    .declarations
                    .command(&text, line)
                    .map_err(|fault| self.wrong(fault)),
                Some(Piece::Statement { text, line }) => self.statement(&text, line, &mut scanner),
            }?;
        }
    }

    fn wrong(&self, fault: Fault) -> SourceError {
        self.place.fault(fault)
    }

    fn statement(
        &mut self,
        text: &str,
        line: usize,
        scanner: &mut Scanner<&mut dyn BufRead>,
    ) -> Result<(), SourceError> {
        let found = holder(text).map_err(|wrong| self.wrong(Fault::new(line, wrong)))?;
        match found {
            None => self
                .declarations
                .take(text, line)
                .map_err(|fault| self.wrong(fault)),
            Some(Holder::Insert(target, rows)) => match self.fit(&target, line) {
                Some(fitting) => {
                    let fitting = fitting.map_err(|fault| self.wrong(fault))?;
                    rows.into_iter()
                        .try_for_each(|row| self.row(&fitting, row, line))
                }
                None => Ok(()),
            },
            Some(Holder::Copy(target)) => match self.fit(&target, line) {
                Some(fitting) => {
                    let fitting = fitting.map_err(|fault| self.wrong(fault))?;
                    self.copy(&fitting, scanner)
                }
                None => skip_rows(scanner).map_err(|fault| self.wrong(fault)),
            },
        }
    }

    fn copy(
        &mut self,
        fitting: &Fitting,
        scanner: &mut Scanner<&mut dyn BufRead>,
    ) -> Result<(), SourceError> {
        let mut line = Vec::new();
        while scanner
            .copy_row(&mut line)
            .map_err(|fault| self.wrong(fault))?
        {
            let number = scanner.line_number();
            if std::str::from_utf8(&line).is_err() {
                return Err(self.wrong(not_utf8(number)));
            }
            // A table without columns has rows without fields.
            let fields = match fitting.fields.is_empty() && line.is_empty() {
                true => Ok(Vec::new()),
                false => copy_fields(&line),
            };
            let fields = fields.map_err(|wrong| self.wrong(Fault::new(number, wrong)))?;
            self.row(fitting, fields, number)?;
        }
        Ok(())
    }

    fn row(&mut self, fitting: &Fitting, row: Vec<Field>, line: usize) -> Result<(), SourceError> {
        let table = &self.schema.tables[fitting.table];
        if row.len() != fitting.fields.len() {
            let message = format!(
                "table {}: {} for {}",
                table.name.short(),
                counted(row.len() as u64, "value"),
                counted(fitting.fields.len() as u64, "column")
            );
            return Err(self.wrong(Fault::new(line, message)));
        }
        let mut cells = fitting.blank.clone();
        for (field, column) in row.into_iter().zip(&fitting.fields) {
            let Some(at) = *column else { continue };
            let column = &table.columns[at];
            cells[at] = match field {
                Field::Null => Cell::Null,
                Field::Default => Cell::Unknown,
                Field::Text(text) => {
                    value::parse_text(&column.data_type, &text).map_err(|error| {
                        let message = format!(
                            "table {}: the value of column `{}` is {error}",
                            table.name.short(),
                            column.name
                        );
                        self.wrong(Fault::new(line, message))
                    })?
                }
            };
        }
        (self.sink)(fitting.table, line, cells).map_err(|error| SourceError::Input(vec![error]))
    }

    /// Finds out where rows go; None for a table that is not read.
    fn fit(&mut self, target: &Target, line: usize) -> Option<Result<Fitting, Fault>> {
        let named = target.name(self.declarations.search_path());
        let name = self.declarations.root(&named).clone();
        let Some(index) = self.schema.table_index(&name) else {
            let message = format!(
                "table `{}` is not in the schema; its rows are not read",
                name.short()
            );
            self.warn(line, message);
            return None;
        };
        if self.own.is_none() {
            self.own = Some(ddl::parse(&self.declarations.text, self.place.path).0);
        }
        let table = &self.schema.tables[index];
        let own = self.own.as_ref().and_then(|own| own.table(&name));
        let names: Vec<String> = match (&target.columns, own) {
            (Some(names), _) => names.clone(),
            (None, own) => {
                let all = own.unwrap_or(table).columns.iter();
                all.map(|column| column.name.clone()).collect()
            }
        };
        let mut fields: Vec<Option<usize>> = Vec::with_capacity(names.len());
        let mut dropped = Vec::new();
        for name in &names {
            let at = table.column_index(name);
            if at.is_some() && fields.contains(&at) {
                let message = format!("column `{name}` is there twice");
                return Some(Err(Fault::new(line, message)));
            }
            if at.is_none() {
                dropped.push(name.clone());
            }
            fields.push(at);
        }
        let mut missing = Vec::new();
        let mut blank = vec![Cell::Null; table.columns.len()];
        for (at, column) in table.columns.iter().enumerate() {
            if fields.contains(&Some(at)) {
                continue;
            }
            // A column that the dump declares and does not dump is computed from others.
            if own.is_some_and(|own| own.column(&column.name).is_some()) {
                blank[at] = Cell::Unknown;
            } else {
                missing.push(column.name.clone());
            }
        }
        let short = table.name.short();
        for name in dropped {
            self.warn(
                line,
                format!("table {short}: column `{name}` is not in the schema and is not read"),
            );
        }
        for name in missing {
            self.warn(
                line,
                format!("table {short}: column `{name}` is missing and read as NULL"),
            );
        }
        Some(Ok(Fitting {
            table: index,
            fields,
            blank,
        }))
    }

    /// Says something once.
    fn warn(&mut self, line: usize, message: String) {
        if self.warned.len() < WARNINGS_MAX && self.warned.insert(message.clone()) {
            let warning = self.place.at(line, 0, message).with_level(Level::Warning);
            self.warnings.push(warning);
        }
    }
}
