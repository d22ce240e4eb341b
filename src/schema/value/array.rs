//! Array literals: `{a,"b,c",NULL,{…}}`.

use super::{Reason, ValueError, parse_text};
use crate::change::Cell;
use crate::schema::DataType;

/// Postgres allows no more dimensions; it also bounds the recursion.
pub(super) const DIMENSIONS_MAX: usize = 6;

const MALFORMED: Reason = "malformed array";
pub(super) const RAGGED: Reason = "sub-arrays of different lengths";
pub(super) const TOO_DEEP: Reason = "more than 6 dimensions";

/// Reads an array literal; sub-arrays become lists in lists.
pub(super) fn parse(whole: &DataType, element: &DataType, text: &str) -> Result<Cell, ValueError> {
    let fail = |reason: Reason| ValueError::new(whole, reason);
    let mut reader = Reader {
        whole,
        element,
        rest: skip_bounds(super::trim(text))
            .ok_or(MALFORMED)
            .map_err(fail)?,
    };
    let cells = reader.list(1)?;
    if reader.rest.trim_start().is_empty() {
        Ok(cells)
    } else {
        Err(fail(MALFORMED))
    }
}

/// Passes over explicit bounds: `[0:2]={1,2,3}`.
fn skip_bounds(text: &str) -> Option<&str> {
    if !text.starts_with('[') {
        return Some(text);
    }
    let (bounds, rest) = text.split_once('=')?;
    let allowed =
        |b: u8| b.is_ascii_digit() || matches!(b, b'[' | b']' | b':' | b'-' | b'+' | b' ');
    bounds.bytes().all(allowed).then(|| rest.trim_start())
}

struct Reader<'a> {
    whole: &'a DataType,
    element: &'a DataType,
    rest: &'a str,
}

impl Reader<'_> {
    fn fail<T>(&self, reason: Reason) -> Result<T, ValueError> {
        Err(ValueError::new(self.whole, reason))
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self
            .rest
            .trim_start_matches(|c: char| c.is_ascii_whitespace());
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn list(&mut self, depth: usize) -> Result<Cell, ValueError> {
        if depth > DIMENSIONS_MAX {
            return self.fail(TOO_DEEP);
        }
        if !self.take('{') {
            return self.fail(MALFORMED);
        }
        let mut cells = Vec::new();
        if self.take('}') {
            return Ok(Cell::List(cells));
        }
        loop {
            cells.push(self.item(depth)?);
            if self.take('}') {
                break;
            }
            if !self.take(',') {
                return self.fail(MALFORMED);
            }
        }
        if is_ragged(&cells) {
            self.fail(RAGGED)
        } else {
            Ok(Cell::List(cells))
        }
    }

    fn item(&mut self, depth: usize) -> Result<Cell, ValueError> {
        if self.take('"') {
            let text = self.quoted()?;
            return parse_text(self.element, &text);
        }
        if self.rest.starts_with('{') {
            return self.list(depth + 1);
        }
        let text = self.bare()?;
        if text.eq_ignore_ascii_case("null") {
            Ok(Cell::Null)
        } else {
            parse_text(self.element, &text)
        }
    }

    fn quoted(&mut self) -> Result<String, ValueError> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or("");
                    return Ok(out);
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c => out.push(c),
            }
        }
        self.fail(MALFORMED)
    }

    fn bare(&mut self) -> Result<String, ValueError> {
        let mut out = String::new();
        let mut kept = 0;
        let mut chars = self.rest.char_indices();
        let end = loop {
            match chars.next() {
                None | Some((_, '"' | '{')) => return self.fail(MALFORMED),
                Some((at, ',' | '}')) => break at,
                Some((_, '\\')) => {
                    out.extend(chars.next().map(|(_, c)| c));
                    kept = out.len();
                }
                Some((_, c)) => {
                    out.push(c);
                    if !c.is_ascii_whitespace() {
                        kept = out.len();
                    }
                }
            }
        };
        self.rest = self.rest.get(end..).unwrap_or("");
        out.truncate(kept);
        if out.is_empty() {
            self.fail(MALFORMED)
        } else {
            Ok(out)
        }
    }
}

/// True where lists and values are mixed or lists differ in length.
pub(super) fn is_ragged(cells: &[Cell]) -> bool {
    let length = |cell: &Cell| match cell {
        Cell::List(items) => Some(items.len()),
        _ => None,
    };
    cells
        .windows(2)
        .any(|pair| length(&pair[0]) != length(&pair[1]))
}

/// The literal of a list whose elements have the texts that `element` gives.
pub(super) fn write(cells: &[Cell], element: &dyn Fn(&Cell) -> Option<String>, out: &mut String) {
    out.push('{');
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match cell {
            Cell::List(items) => write(items, element, out),
            cell => match element(cell) {
                None => out.push_str("NULL"),
                Some(text) => write_item(&text, out),
            },
        }
    }
    out.push('}');
}

/// Adds an element of a literal, in quotes where it would be read as something else.
pub(crate) fn write_item(text: &str, out: &mut String) {
    let special = |c: char| {
        matches!(c, '{' | '}' | '"' | ',' | '\\') || c.is_ascii_whitespace() || c == '\u{b}'
    };
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}
