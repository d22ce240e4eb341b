//! Arrays as text, exactly: Postgres' own literals.
//!
//! Arrow's lists have no room for what one Postgres type holds (any number of dimensions), and a plain `numeric` in them has no scale of
//! its own. Beyond Postgres, lists may be ragged (files can hold such), and a date or time that has no text is `#` and its number.

use crate::change::Cell;
use crate::schema::value::write_item;
use crate::schema::{DataType, value};

/// Lists in lists deeper than this are refused: deeper ones cannot be read from any source.
const DEPTH_MAX: usize = 64;

/// The type of what stands in an array, however many dimensions it is declared with.
pub(in crate::state) fn innermost(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Array(element) => innermost(element),
        other => other,
    }
}

/// The literal of a list; `data_type` is the array's or that of its elements.
pub(in crate::state) fn to_text(data_type: &DataType, cells: &[Cell]) -> String {
    let mut out = String::new();
    write(innermost(data_type), cells, &mut out);
    out
}

fn write(element: &DataType, cells: &[Cell], out: &mut String) {
    out.push('{');
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match cell {
            Cell::List(cells) => write(element, cells, out),
            Cell::Null | Cell::Unknown => out.push_str("NULL"),
            cell => write_item(&item_text(element, cell), out),
        }
    }
    out.push('}');
}

fn item_text(element: &DataType, cell: &Cell) -> String {
    let text = value::to_text(element, cell).unwrap_or_default();
    let number = match cell {
        Cell::Date(days) => i64::from(*days),
        Cell::Time(micros) | Cell::Timestamp(micros) => *micros,
        _ => return text,
    };
    match value::parse_text(element, &text) {
        Ok(again) if again == *cell => text,
        _ => format!("#{number}"),
    }
}

/// Reads what [`to_text`] wrote, and nothing else; None for any other text.
pub(in crate::state) fn parse(data_type: &DataType, text: &str) -> Option<Vec<Cell>> {
    let mut reader = Reader {
        element: innermost(data_type),
        rest: text,
    };
    let cells = reader.list(0)?;
    reader.rest.is_empty().then_some(cells)
}

struct Reader<'a> {
    element: &'a DataType,
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Cell>> {
        let mut cells = Vec::new();
        if depth >= DEPTH_MAX || !self.take('{') {
            return None;
        }
        if self.take('}') {
            return Some(cells);
        }
        loop {
            cells.push(self.item(depth)?);
            if self.take('}') {
                return Some(cells);
            }
            if !self.take(',') {
                return None;
            }
        }
    }

    fn item(&mut self, depth: usize) -> Option<Cell> {
        if self.rest.starts_with('{') {
            return self.list(depth + 1).map(Cell::List);
        }
        if self.take('"') {
            let text = self.quoted()?;
            return cell(self.element, &text);
        }
        let end = self.rest.find([',', '}'])?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        match text {
            "" => None,
            "NULL" => Some(Cell::Null),
            text => cell(self.element, text),
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(out);
                }
                (_, '\\') => out.push(chars.next()?.1),
                (_, c) => out.push(c),
            }
        }
    }
}

/// An element from its text. Texts and decimals are taken as they stand: what a column declares was seen to when they were read.
fn cell(element: &DataType, text: &str) -> Option<Cell> {
    match element {
        DataType::Numeric { .. } => super::view::number(text),
        DataType::Bool
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Bytea => value::parse_text(element, text).ok(),
        DataType::Date | DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
            match text.strip_prefix('#') {
                None => value::parse_text(element, text).ok(),
                Some(number) => {
                    let number: i64 = number.parse().ok()?;
                    Some(match element {
                        DataType::Date => Cell::Date(i32::try_from(number).ok()?),
                        DataType::Time => Cell::Time(number),
                        _ => Cell::Timestamp(number),
                    })
                }
            }
        }
        _ => Some(Cell::Text(text.to_owned())),
    }
}
