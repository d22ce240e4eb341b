//! A table for people at a terminal; a record a row where the columns do not fit beside each other.

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use serde_json::Value;

use super::rows::json_row;
use super::{Options, Writer};
use crate::escape;
use crate::judge::{OutputColumn, Sink};
use crate::report::{counted, grouped, paint, table, value};
use crate::schema::DataType;

/// The colour of headings.
const FAINT: &str = "2";

/// A column is cut to no less than so many columns of the terminal; where that does not do, rows become records.
const CUT_TO_MIN: usize = 16;

/// Keeps the first rows and counts the others.
pub(super) struct Text<W: Write> {
    out: W,
    options: Options,
    columns: Vec<OutputColumn>,
    rows: Vec<Vec<Value>>,
    count: u64,
}

impl<W: Write> Text<W> {
    pub(super) fn new(out: W, options: Options) -> Self {
        Text {
            out,
            options,
            columns: Vec::new(),
            rows: Vec::new(),
            count: 0,
        }
    }

    fn columns_of_text(&self) -> Vec<table::Column> {
        let column = |(at, column): (usize, &OutputColumn)| {
            let cells = self.rows.iter().map(|row| value(&row[at])).collect();
            let shown = table::Column::new(escape::terminal(&column.name), cells);
            let whole = shown.width();
            match column.data_type {
                _ if column.data_type.is_number() => shown.right().at_least(whole),
                _ if may_be_cut(&column.data_type) => shown.at_least(whole.min(CUT_TO_MIN)),
                _ => shown.at_least(whole),
            }
        };
        self.columns.iter().enumerate().map(column).collect()
    }

    /// Each row as lines of `name  value`.
    fn records(&self) -> Vec<String> {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| escape::terminal(&column.name))
            .collect();
        let widest = names.iter().map(|name| table::width(name)).max();
        let widest = widest.unwrap_or(0);
        let room = self.options.width.saturating_sub(widest + 4).max(20);
        let mut lines = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let heading = format!("row {}", at + 1);
            lines.push(paint(self.options.color, FAINT, &heading));
            for (name, cell) in names.iter().zip(row) {
                let blanks = " ".repeat(widest - table::width(name));
                let cell = table::cut(&value(cell), room);
                lines.push(format!("  {name}{blanks}  {cell}"));
            }
        }
        lines
    }

    fn foot(&self) -> String {
        let shown = self.rows.len() as u64;
        if shown == self.count {
            return counted(self.count, "row");
        }
        format!(
            "{} of {} rows: --limit all shows the others",
            grouped(shown),
            grouped(self.count)
        )
    }
}

/// Half a number or a time is worse than none.
fn may_be_cut(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text
            | DataType::Varchar(_)
            | DataType::Char(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Bytea
            | DataType::Array(_)
            | DataType::Other(_)
    )
}

impl<W: Write> Sink for Text<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.count += batch.num_rows() as u64;
        let limit = self.options.limit.unwrap_or(usize::MAX);
        for row in 0..batch.num_rows().min(limit.saturating_sub(self.rows.len())) {
            self.rows.push(json_row(&self.columns, batch, row)?);
        }
        Ok(())
    }
}

impl<W: Write> Writer for Text<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let mut columns = self.columns_of_text();
        table::shrink(&mut columns, self.options.width);
        let lines = if table::total(&columns) > self.options.width && !self.rows.is_empty() {
            self.records()
        } else {
            let mut lines = table::lines(&columns);
            if let Some(head) = lines.first_mut() {
                *head = paint(self.options.color, FAINT, head);
            }
            lines
        };
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        writeln!(self.out, "({})", self.foot())?;
        self.out.flush()
    }
}
