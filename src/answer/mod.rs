//! Answers of queries, written as they come: text for people; JSON (`firstbad/sql@1`), JSON Lines, CSV and Parquet for programs.
//!
//! Only `text` keeps rows, and no more than its limit; everything else goes out batch by batch, so that the size of an answer has
//! no limit. Values are hostile (invariant 12): each form escapes them for its own place.

mod rows;
mod text;

use std::io::{self, Write};
use std::str::FromStr;

use crate::judge::Sink;
use crate::verdict::At;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// One document, `firstbad/sql@1`.
    Json,
    /// One object a row.
    Jsonl,
    /// RFC 4180 with a header; NULL is an empty field, the empty text is `""`.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    const ALL: [(&'static str, Format); 5] = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
        ("csv", Format::Csv),
        ("parquet", Format::Parquet),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Format::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| "there are text, json, jsonl, csv and parquet".to_owned())
    }
}

/// What an answer's head and shape depend on.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source as it was named.
    pub source: String,
    /// The position.
    pub at: At,
    /// Columns of the terminal, for text.
    pub width: usize,
    /// Whether the text has colour.
    pub color: bool,
    /// How many rows text shows; None for all.
    pub limit: Option<usize>,
}

/// A writer of one form.
pub trait Writer: Sink {
    /// Writes what follows the last row.
    ///
    /// # Errors
    /// Whatever ends the writing.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// The writer of a form.
pub fn writer<'a>(
    format: Format,
    out: Box<dyn Write + Send + 'a>,
    options: Options,
) -> Box<dyn Writer + 'a> {
    match format {
        Format::Text => Box::new(text::Text::new(out, options)),
        Format::Json => Box::new(rows::Json::new(out, options)),
        Format::Jsonl => Box::new(rows::Jsonl::new(out)),
        Format::Csv => Box::new(rows::Csv::new(out)),
        Format::Parquet => Box::new(rows::Parquet::new(out)),
    }
}
