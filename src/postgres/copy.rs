//! `COPY … TO STDOUT (FORMAT binary)`: cut into rows, and rows into columns.
//!
//! The form is that of Postgres' documentation of COPY, "Binary Format": a signature, flags, an extension; rows with a count of fields and
//! a length before each; a count of -1 at the end. Messages may be cut anywhere.

mod build;

use std::ops::Range;

use super::PostgresError;
pub(super) use build::{Built, Rows};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// A row that has not ended by then is none: Postgres holds no value of more than 1 GiB, and sends a row in one message of at most that.
const ROW_BYTES_MAX: usize = 2 << 30;

/// Where each field of a row stands; None for NULL.
type Fields = Vec<Option<Range<usize>>>;

/// Takes the fields of a row.
pub(super) type Sink<'s> =
    dyn FnMut(&mut dyn Iterator<Item = Option<&[u8]>>) -> Result<(), PostgresError> + 's;

/// A copy that is being received.
#[derive(Debug)]
pub(super) struct Copied {
    /// How many fields a row has.
    width: usize,
    begun: bool,
    ended: bool,
    /// The beginning of what is not whole yet.
    rest: Vec<u8>,
    fields: Fields,
}

impl Copied {
    /// A copy of rows with so many fields.
    pub(super) fn new(width: usize) -> Self {
        Copied {
            width,
            begun: false,
            ended: false,
            rest: Vec::new(),
            fields: Vec::with_capacity(width),
        }
    }

    /// Takes what came, and gives the rows that are whole.
    ///
    /// # Errors
    /// When it is no such copy, or what the sink says.
    pub(super) fn take(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), PostgresError> {
        if self.rest.is_empty() {
            let used = self.rows(bytes, sink)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.rows(&rest, sink)?;
            rest.drain(..used);
            self.rest = rest;
        }
        match self.rest.len() > ROW_BYTES_MAX {
            true => Err(malformed()),
            false => Ok(()),
        }
    }

    /// Fails unless the copy has come to its end.
    pub(super) fn end(&self) -> Result<(), PostgresError> {
        match self.ended && self.rest.is_empty() {
            true => Ok(()),
            false => Err(PostgresError::protocol("a copy ends in the middle")),
        }
    }

    /// The bytes of what is whole.
    fn rows(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<usize, PostgresError> {
        let mut used = 0;
        if !self.begun {
            match header(bytes)? {
                Some(length) => used = length,
                None => return Ok(0),
            }
            self.begun = true;
        }
        loop {
            let left = &bytes[used..];
            if self.ended {
                return match left.is_empty() {
                    true => Ok(used),
                    false => Err(malformed()),
                };
            }
            let Some(count) = left.get(..2) else {
                return Ok(used);
            };
            match i16::from_be_bytes([count[0], count[1]]) {
                -1 => {
                    self.ended = true;
                    used += 2;
                }
                count if usize::try_from(count) == Ok(self.width) => match self.row(left)? {
                    Some(length) => {
                        let fields = self.fields.iter();
                        let mut fields =
                            fields.map(|field| field.clone().map(|range| &left[range]));
                        sink(&mut fields)?;
                        used += length;
                    }
                    None => return Ok(used),
                },
                _ => return Err(malformed()),
            }
        }
    }

    /// Finds the fields of a row; gives its length, or None where it is not whole.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>, PostgresError> {
        self.fields.clear();
        let mut at = 2;
        for _ in 0..self.width {
            let Some(length) = bytes.get(at..at + 4) else {
                return Ok(None);
            };
            at += 4;
            match i32::from_be_bytes([length[0], length[1], length[2], length[3]]) {
                -1 => self.fields.push(None),
                length => {
                    let length = usize::try_from(length).map_err(|_| malformed())?;
                    if bytes.len() - at < length {
                        return Ok(None);
                    }
                    self.fields.push(Some(at..at + length));
                    at += length;
                }
            }
        }
        Ok(Some(at))
    }
}

/// The length of the header; None where it is not whole.
fn header(bytes: &[u8]) -> Result<Option<usize>, PostgresError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(malformed());
    }
    let Some(numbers) = bytes.get(SIGNATURE.len()..HEADER_BYTES) else {
        return Ok(None);
    };
    // The upper half of the flags is for what a reader must understand.
    let extension = u32::from_be_bytes([numbers[4], numbers[5], numbers[6], numbers[7]]);
    if numbers[..2] != [0, 0] || extension > 1 << 16 {
        return Err(malformed());
    }
    let length = HEADER_BYTES + extension as usize;
    Ok((bytes.len() >= length).then_some(length))
}

fn malformed() -> PostgresError {
    PostgresError::protocol("a copy is not in binary form")
}

#[cfg(test)]
mod tests;
