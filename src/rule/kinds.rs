//! The check kinds: the form of each, and how it is read.

use super::fields::{Fields, Form};
use super::read::{Reader, one_of};
use super::yaml::{Kind, Node};
use super::{Check, ColumnRef, Literal, Spanned, states, writes};
use crate::change::Op;

/// Arguments that are understood for the sake of other tools, and not offered.
pub(super) const FOREIGN: [&str; 2] = ["at_least", "field"];

macro_rules! forms {
    ($($name:literal: [$($argument:literal),*], $example:literal;)*) => {
        /// Every check kind by name.
        pub(super) const NAMES: [&str; FORMS.len()] = {
            let mut names = [""; FORMS.len()];
            let mut at = 0;
            while at < FORMS.len() {
                names[at] = FORMS[at].name;
                at += 1;
            }
            names
        };
        static FORMS: &[Form] = &[$(Form { name: $name, arguments: &[$($argument),*], example: $example }),*];
    };
}

forms! {
    "not_null": ["column", "columns"], "not_null: [id, status]";
    "not_empty": ["column", "columns"], "not_empty: [name]";
    "completeness": ["column", "min_percent", "at_least"], "completeness: {column: email, min_percent: 95}";
    "unique": ["column", "columns"], "unique: [order_id, line_no]";
    "accepted_values": ["column", "values"], "accepted_values: {column: status, values: [draft, paid]}";
    "rejected_values": ["column", "values"], "rejected_values: {column: email, values: [none, test]}";
    "range": ["column", "min", "max", "exclusive"], "range: {column: total, min: 0, max: 100}";
    "length": ["column", "min", "max"], "length: {column: name, min: 1, max: 80}";
    "matches": ["column", "pattern", "format"], "matches: {column: sku, pattern: '^[A-Z]{2}-[0-9]+$'}";
    "expression": ["sql", "null"], "expression: ship_date >= order_date";
    "references": ["column", "columns", "to", "field"], "references: {column: customer_id, to: customers.id}";
    "has": ["table", "match", "where", "min", "max"], "has: {table: shipments, match: {order_id: id}}";
    "has_no": ["table", "match", "where"], "has_no: {table: shipments, match: {order_id: id}}";
    "sequence": ["column", "per", "step", "from"], "sequence: {column: number, per: [series], step: 1}";
    "window_gap": ["column", "every", "per", "min_rows"], "window_gap: {column: created_at, every: 1h}";
    "balance": ["left", "right", "match", "per", "where", "tolerance"],
        "balance: {left: total, right: sum(order_lines.amount), match: {order_id: id}}";
    "same_rows": ["as", "match", "columns", "tolerance"], "same_rows: {as: orders_copy, match: {id: id}}";
    "no_overlap": ["from", "to", "per"], "no_overlap: {from: starts_at, to: ends_at, per: [room_id]}";
    "row_count": ["min", "max", "per"], "row_count: {min: 1}";
    "aggregate": ["sql", "min", "max", "equals", "per"], "aggregate: {sql: avg(total), min: 10, max: 500}";
    "fresh": ["column", "max_age", "per"], "fresh: {column: created_at, max_age: 1h}";
    "schema": ["columns", "strict"], "schema: {columns: {id: bigint, status: text}}";
    "metric": ["sql", "every", "detect"], "metric: {sql: avg(total), every: 1d, detect: {jump_percent: 20}}";
    "sql": ["sql"], "sql: select id from orders where total < 0";
    "append_only": [], "append_only: true";
    "no_delete": [], "no_delete: true";
    "no_resurrection": [], "no_resurrection: true";
    "immutable": ["column", "columns"], "immutable: [customer_id]";
    "set_once": ["column", "columns"], "set_once: [shipped_at]";
    "transitions": ["column", "allowed", "initial"], "transitions: {column: status, allowed: {draft: [placed], placed: [paid]}}";
    "monotonic": ["column", "direction", "strict"], "monotonic: {column: version}";
    "increments": ["column", "by"], "increments: {column: version, by: 1}";
    "touched": ["column", "when"], "touched: {column: updated_at}";
    "balanced_transaction": ["sum", "per", "where"], "balanced_transaction: {sum: amount, per: [currency]}";
    "mass_change": ["max_rows", "max_percent", "ops"], "mass_change: {max_rows: 1000}";
}

fn form(kind: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name == kind)
}

/// True when the check kind has an argument of this name, or knows a foreign one.
pub(super) fn has_argument(kind: &str, name: &str) -> bool {
    form(kind).is_some_and(|form| form.arguments.contains(&name))
        || super::alias::argument(kind, name).is_some()
}

/// How a check kind is written.
pub(super) fn example(kind: &str) -> &'static str {
    form(kind).map_or("", |form| form.example)
}

/// Reads the check below its key; None after everything wrong with it was said.
pub(super) fn read(
    reader: &mut Reader<'_>,
    kind: &'static str,
    key: &Node,
    value: &Node,
) -> Option<Check> {
    let form = form(kind)?;
    if value.is_null() {
        return reader.wrong(
            key,
            format!("`{kind}` has no value"),
            format!("write `{}`", form.example),
        );
    }
    match kind {
        "append_only" | "no_delete" | "no_resurrection" => return switch(reader, kind, value),
        "sql" if value.text().is_some() => {
            return Some(Check::Sql {
                sql: reader.query(value)?,
            });
        }
        "expression" if value.text().is_some() => {
            return Some(Check::Expression {
                sql: reader.expression(value)?,
                strict: false,
            });
        }
        _ => {}
    }
    if !matches!(value.kind, Kind::Mapping(_)) {
        return shorthand(reader, kind, form, value);
    }
    let fields = Fields::open(reader, form, key, value)?;
    let check = arguments(reader, kind, &fields);
    if fields.broken { None } else { check }
}

/// `append_only: true`
fn switch(reader: &mut Reader<'_>, kind: &str, value: &Node) -> Option<Check> {
    match (value.literal(), kind) {
        (Some(Literal::Bool(true)), "append_only") => Some(Check::AppendOnly),
        (Some(Literal::Bool(true)), "no_delete") => Some(Check::NoDelete),
        (Some(Literal::Bool(true)), _) => Some(Check::NoResurrection),
        (Some(Literal::Bool(false)), _) => reader.wrong(
            value,
            format!("`{kind}: false` judges nothing"),
            "remove the rule",
        ),
        _ => reader.wrong(
            value,
            format!("`{kind}` is `true` or absent, found {}", value.describe()),
            format!("write `{kind}: true`"),
        ),
    }
}

/// Checks of columns written as one column or a list of them.
fn shorthand(reader: &mut Reader<'_>, kind: &str, form: &Form, value: &Node) -> Option<Check> {
    match kind {
        "not_null" | "not_empty" | "unique" | "immutable" | "set_once" => {
            of_columns(kind, reader.columns(value)?)
        }
        "monotonic" if value.text().is_some() => Some(Check::Monotonic {
            column: reader.column(value)?,
            increasing: true,
            strict: false,
        }),
        "increments" if value.text().is_some() => {
            let column = reader.column(value)?;
            let by = Spanned {
                value: "1".to_owned(),
                span: column.span.clone(),
            };
            Some(Check::Increments { column, by })
        }
        "touched" if value.text().is_some() => Some(Check::Touched {
            column: reader.column(value)?,
            when: None,
        }),
        _ => {
            let message = format!("`{kind}` needs a mapping, found {}", value.describe());
            reader.wrong(value, message, format!("write `{}`", form.example))
        }
    }
}

fn of_columns(kind: &str, columns: Vec<ColumnRef>) -> Option<Check> {
    Some(match kind {
        "not_null" => Check::NotNull { columns },
        "not_empty" => Check::NotEmpty { columns },
        "unique" => Check::Unique { columns },
        "immutable" => Check::Immutable { columns },
        "set_once" => Check::SetOnce { columns },
        _ => return None,
    })
}

fn arguments(r: &mut Reader<'_>, kind: &str, f: &Fields<'_>) -> Option<Check> {
    match kind {
        "not_null" | "not_empty" | "unique" | "immutable" | "set_once" => {
            of_columns(kind, f.column_or_columns(r)?)
        }
        _ if WRITES.contains(&kind) => writes::read(r, kind, f),
        _ => states::read(r, kind, f),
    }
}

const WRITES: [&str; 6] = [
    "transitions",
    "monotonic",
    "increments",
    "touched",
    "balanced_transaction",
    "mass_change",
];

/// The kinds of changes by name.
pub(super) const OPS: [(&str, Op); 4] = [
    ("insert", Op::Insert),
    ("update", Op::Update),
    ("delete", Op::Delete),
    ("truncate", Op::Truncate),
];

/// Names joined for a message: `a` and `b`.
pub(super) fn two_or_more(kinds: &[&str]) -> String {
    let words: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
    one_of(&words).replacen(" or ", " and ", 1)
}
