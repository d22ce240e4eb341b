//! The ordered transactions of a source, read from files: streamed, one at a time, with bounded memory.
//!
//! [`read`] checks what can be checked on a line by itself and in order (shape, gapless commits, known tables and columns, values of
//! the right type). Whether a change fits the state is the state's business. Every error names file and line, and as far
//! as they are known commit and table.

mod native;

use std::io::BufRead;
use std::path::Path;

use crate::change::{Commit, Transaction};
use crate::diagnostic::Diagnostic;
use crate::schema::Schema;

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 256 << 20;

/// Reads transactions from one file, in order, and hands each with its line number to `sink`. `next` is the commit that must come
/// first; returned is the commit that must come next.
///
/// # Errors
/// The first mistake; what `sink` refuses.
pub fn read(
    mut input: impl BufRead,
    file: &Path,
    schema: &Schema,
    mut next: Commit,
    warnings: &mut Vec<Diagnostic>,
    sink: &mut dyn FnMut(usize, Transaction) -> Result<(), Diagnostic>,
) -> Result<Commit, Diagnostic> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = read_line(&mut input, &mut line).map_err(|error| {
            Diagnostic::at(file, number + 1, 0, format!("cannot be read: {error}"))
        })?;
        if read == 0 {
            return Ok(next);
        }
        number += 1;
        let text = std::str::from_utf8(&line).map_err(|error| {
            Diagnostic::at(
                file,
                number,
                error.valid_up_to() + 1,
                "this line is not valid UTF-8",
            )
        })?;
        if text.trim().is_empty() {
            continue;
        }
        let transaction = native::transaction(text, file, number, schema, warnings)?;
        if transaction.commit != next {
            return Err(out_of_order(file, number, transaction.commit, next));
        }
        sink(number, transaction)?;
        next += 1;
    }
}

fn out_of_order(file: &Path, line: usize, commit: Commit, next: Commit) -> Diagnostic {
    let (message, hint) = if commit >= next {
        let message = format!(
            "commit {commit} follows commit {}: {} missing",
            next - 1,
            gap(next, commit)
        );
        (
            message,
            "`commit` counts from 1 without gaps; a stretch of the history is not here",
        )
    } else if commit + 1 == next {
        (
            format!("commit {commit} is there twice"),
            "remove one of the two lines",
        )
    } else {
        (
            format!("commit {commit} comes after commit {}", next - 1),
            "transactions stand in commit order; files are read in name order",
        )
    };
    Diagnostic::at(file, line, 0, message).with_hint(hint)
}

fn gap(next: Commit, commit: Commit) -> String {
    if commit - next == 1 {
        format!("commit {next} is")
    } else {
        format!("commits {next} to {} are", commit - 1)
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
