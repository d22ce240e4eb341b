//! One row put right, as SQL that changes exactly this row, or ends the transaction.

use std::fmt::Write as _;

use super::Generated;
use super::quote::{holds, literal, text_literal};
use super::undo::{Act, Undo};
use crate::change::Cell;
use crate::escape::terminal;
use crate::evidence::Row;
use crate::postgres::catalog::{quoted, quoted_table};
use crate::schema::Table;

/// A statement of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The table, as `schema.name`.
    pub table: String,
    /// What it does: insert, update or delete.
    pub op: &'static str,
    /// The SQL: a block that changes exactly one row, or raises an exception.
    pub sql: String,
    /// The keys that it is for, as indexes into the repair's.
    pub keys: Vec<usize>,
}

/// The settings under which values are compared by their text: those under which they were recorded.
pub(super) const SETTINGS: &str = "set local client_encoding = 'UTF8';
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local timezone = 'UTC';
set local extra_float_digits = 1;
set local bytea_output = 'hex';
set local xmlbinary = 'base64';
set local lc_monetary = 'C';
";

/// The `number`-th statement, from 1.
pub(super) fn statement(
    undo: &Undo,
    table: &Table,
    number: usize,
    generated: &Generated,
) -> Statement {
    let name = quoted_table(&table.name);
    let (op, body) = match &undo.act {
        Act::Insert(row) => ("insert", insert(&name, table, row, generated)),
        Act::Update(columns) => {
            let set = columns.iter().map(|(at, _, good)| {
                let column = &table.columns[*at];
                let good = literal(&column.data_type, good);
                format!("{} = {good}", quoted(&column.name))
            });
            let set: Vec<String> = set.collect();
            let set = set.join(",\n         ");
            (
                "update",
                format!(
                    "  update {name}\n     set {set}\n   where {};\n",
                    guard(undo, table)
                ),
            )
        }
        Act::Delete => (
            "delete",
            format!("  delete from {name}\n   where {};\n", guard(undo, table)),
        ),
    };
    let shown = format!("firstbad: statement {number}: ");
    let was = format!(
        "{shown}no row of {} is what it was, so nothing is changed",
        terminal(&table.name.short())
    );
    let mut out = String::new();
    if undo.act == Act::Delete {
        out += &cascades(&name, &shown);
    }
    let _ = write!(
        out,
        "{body}  get diagnostics firstbad_rows = row_count;\n  if firstbad_rows <> 1 then\n    raise exception using message = {};\n  end if;\n",
        text_literal(&was)
    );
    Statement {
        table: table.name.to_string(),
        op,
        sql: block(&out),
        keys: undo.keys.iter().copied().collect(),
    }
}

fn insert(name: &str, table: &Table, row: &Row, generated: &Generated) -> String {
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (column, cell) in table.columns.iter().zip(row) {
        if !generated.has(&table.name, &column.name) {
            columns.push(quoted(&column.name));
            values.push(literal(&column.data_type, cell));
        }
    }
    // Identity columns get back the values that they had.
    format!(
        "  insert into {name} ({})\n  overriding system value\n  values ({});\n",
        columns.join(", "),
        values.join(", ")
    )
}

/// The row that is meant, as it was.
fn guard(undo: &Undo, table: &Table) -> String {
    let Some(now) = &undo.now else {
        return "false".to_owned();
    };
    let key = table.primary_key.iter();
    let others = undo
        .guards
        .iter()
        .filter(|at| !table.primary_key.contains(at));
    let known = key.chain(others).filter(|at| now[**at] != Cell::Unknown);
    let parts = known.map(|&at| holds(&table.columns[at], &now[at]));
    parts.collect::<Vec<_>>().join("\n     and ")
}

/// A row that is removed takes no others with it.
fn cascades(name: &str, shown: &str) -> String {
    let said = format!(
        "{shown}deleting the row could delete or change rows that refer to it: do that by hand"
    );
    format!(
        "  if exists (select from pg_catalog.pg_constraint where confrelid = {}::regclass and contype = 'f' and confdeltype in ('c', 'n', 'd')) then\n    raise exception using message = {};\n  end if;\n",
        text_literal(name),
        text_literal(&said)
    )
}

/// A block in quotes that nothing inside of it ends.
fn block(body: &str) -> String {
    let mut number = 0_u32;
    let mut quote = "$firstbad$".to_owned();
    while body.contains(&quote) {
        number += 1;
        quote = format!("$firstbad{number}$");
    }
    format!(
        "do {quote}\n#variable_conflict use_column\ndeclare firstbad_rows bigint;\nbegin\n{body}end\n{quote};\n"
    )
}
