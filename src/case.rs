//! Running the examples inside rule files.
//!
//! A case is a small history: given rows, then transactions. Types come from a schema where one is known; otherwise they are inferred
//! from the literals, and the key of a table is the rule's `key`, else `id`, else the whole row.

mod infer;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::change::{Cell, Change, Commit, Decimal, Image, Transaction, TransactionMeta};
use crate::diagnostic::Diagnostic;
use crate::judge::{Judge, Limits, Options};
use crate::rule::{Case, CaseChange, CaseRow, Expectation, Literal, Rule, Span, Spanned, TableRef};
use crate::schema::{DataType, Schema, Table, value};
use crate::state::{History, Origin};
use crate::verdict::{Outcome, Verdict};

/// What came of one case.
#[derive(Debug)]
pub enum CaseResult {
    /// What was expected.
    Passed,
    /// Something else; the texts say what.
    Failed {
        /// What the case expects.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The case itself is wrong.
    Broken(Vec<Diagnostic>),
}

/// Runs one case of a rule, against a known schema or an inferred one.
pub fn run(rule: &Rule, case: &Case, schema: Option<&Schema>) -> CaseResult {
    match judged(rule, case, schema) {
        Ok((outcome, schema)) => compare(rule, case, &outcome, &schema),
        Err(diagnostics) => CaseResult::Broken(diagnostics),
    }
}

/// The schema that a rule and its cases suggest, for planning without data.
pub fn inferred_schema(rule: &Rule) -> Schema {
    infer::schema(rule, &rule.cases.iter().collect::<Vec<_>>())
}

fn judged(
    rule: &Rule,
    case: &Case,
    schema: Option<&Schema>,
) -> Result<(Outcome, Schema), Vec<Diagnostic>> {
    let schema = schema
        .cloned()
        .unwrap_or_else(|| infer::schema(rule, &[case]));
    let history = Arc::new(history(case, &schema)?);
    let one = |error: Diagnostic| vec![error];
    let now_us = match &case.now {
        Some(now) => Some(value::parse_timestamp(&now.value).ok_or_else(|| {
            one(now
                .span
                .error("`now` is no time")
                .with_hint("write RFC 3339"))
        })?),
        None => None,
    };
    let options = Options {
        position: history.head(),
        now_us,
        sample: None,
    };
    let judge = Judge::new(history, Limits::default()).map_err(|error| {
        one(case
            .span
            .error(format!("the engine cannot be started: {error}")))
    })?;
    let prepared = judge.prepare(std::slice::from_ref(rule), &options)?;
    let outcome = judge
        .check(prepared, &options, &|_| {})
        .pop()
        .expect("one rule, one outcome");
    Ok((outcome, schema))
}

fn history(case: &Case, schema: &Schema) -> Result<History, Vec<Diagnostic>> {
    let origin = if case.changes.is_empty() {
        Origin::SingleState
    } else {
        Origin::Changes
    };
    let mut history = History::new(schema.clone(), origin, false);
    let mut wrong = Vec::new();
    for (table, rows) in &case.given {
        let Some((at, declared)) = table_of(table, schema, &mut wrong) else {
            continue;
        };
        for row in rows {
            let Some(image) = image(row, declared, &mut wrong) else {
                continue;
            };
            let mut cells = vec![Cell::Null; declared.columns.len()];
            image
                .into_iter()
                .for_each(|(column, cell)| cells[column] = cell);
            history.load(at, &cells);
        }
    }
    for (at, transaction) in (1..).zip(&case.changes) {
        let changes: Vec<Change> = transaction
            .changes
            .iter()
            .filter_map(|change| change_of(change, schema, &mut wrong))
            .collect();
        let time = transaction
            .time
            .as_ref()
            .and_then(|time| time_of(time, &mut wrong));
        if !wrong.is_empty() {
            break;
        }
        let meta = TransactionMeta {
            time,
            ..TransactionMeta::default()
        };
        apply(
            &mut history,
            Transaction {
                commit: at,
                meta,
                changes,
            },
            &transaction.span,
            &mut wrong,
        );
    }
    if wrong.is_empty() {
        Ok(history)
    } else {
        Err(wrong)
    }
}

fn apply(
    history: &mut History,
    transaction: Transaction,
    span: &Span,
    wrong: &mut Vec<Diagnostic>,
) {
    let commit: Commit = transaction.commit;
    if let Err((at, contradiction)) = history.apply(&transaction) {
        wrong.push(span.error(format!(
            "transaction {commit}, change {}: {contradiction}",
            at + 1
        )));
    }
}

fn time_of(time: &Spanned<String>, wrong: &mut Vec<Diagnostic>) -> Option<i64> {
    let micros = value::parse_timestamp(&time.value);
    if micros.is_none() {
        wrong.push(
            time.span
                .error("`time` is no time")
                .with_hint("write RFC 3339, e.g. 2026-03-12T16:03:51Z"),
        );
    }
    micros
}

fn table_of<'s>(
    table: &TableRef,
    schema: &'s Schema,
    wrong: &mut Vec<Diagnostic>,
) -> Option<(usize, &'s Table)> {
    let at = schema.table_index(&table.value);
    if at.is_none() {
        wrong.push(
            table
                .span
                .error(format!("unknown table `{}`", table.value.short())),
        );
    }
    at.map(|at| (at, &schema.tables[at]))
}

fn change_of(change: &CaseChange, schema: &Schema, wrong: &mut Vec<Diagnostic>) -> Option<Change> {
    let (table, declared) = table_of(&change.table, schema, wrong)?;
    let mut side = |row: &Option<CaseRow>| row.as_ref().map(|row| image(row, declared, wrong));
    let (key, before, after) = (side(&change.key), side(&change.before), side(&change.after));
    let flat = |side: Option<Option<Image>>| side.map_or(Some(None), |image| image.map(Some));
    let mut after = flat(after)?;
    if change.op == crate::change::Op::Insert {
        // In an example, a column of a new row that is not mentioned is NULL: nobody writes them all.
        let image = after.get_or_insert_default();
        for column in 0..declared.columns.len() {
            if !image.iter().any(|(at, _)| *at == column) {
                image.push((column, Cell::Null));
            }
        }
    }
    Some(Change {
        table,
        op: change.op,
        key: flat(key)?,
        before: flat(before)?,
        after,
    })
}

fn image(row: &CaseRow, table: &Table, wrong: &mut Vec<Diagnostic>) -> Option<Image> {
    let before = wrong.len();
    let mut image = Vec::new();
    for (column, literal) in row {
        let Some(at) = table.column_index(&column.value) else {
            let message = format!(
                "unknown column `{}` in table `{}`",
                column.value,
                table.name.short()
            );
            wrong.push(column.span.error(message));
            continue;
        };
        match cell(literal, &table.columns[at].data_type) {
            Some(cell) => image.push((at, cell)),
            None => {
                let message = format!(
                    "this is no value of `{}` ({})",
                    column.value, table.columns[at].data_type
                );
                wrong.push(column.span.error(message));
            }
        }
    }
    (wrong.len() == before).then_some(image)
}

fn cell(literal: &Literal, data_type: &DataType) -> Option<Cell> {
    match literal {
        Literal::Null => Some(Cell::Null),
        Literal::Bool(value) => {
            value::parse_text(data_type, if *value { "true" } else { "false" }).ok()
        }
        Literal::Number(text) => value::parse_text(data_type, text).ok(),
        Literal::Text(text) => {
            // A list or mapping in YAML arrives as JSON text.
            let json = matches!(data_type, DataType::Array(_)) && text.starts_with('[');
            if json {
                value::parse_json(data_type, text).ok()
            } else {
                value::parse_text(data_type, text).ok()
            }
        }
    }
}

fn compare(rule: &Rule, case: &Case, outcome: &Outcome, schema: &Schema) -> CaseResult {
    let found_keys: Vec<&Map<String, Value>> = outcome
        .sample
        .iter()
        .map(|violation| &violation.key)
        .collect();
    let same = match &case.expect {
        Expectation::Held => outcome.verdict == Verdict::Held,
        Expectation::Unknown => outcome.verdict == Verdict::Unknown,
        Expectation::Violated => outcome.verdict == Verdict::Violated,
        Expectation::ViolatedKeys(keys) => {
            outcome.verdict == Verdict::Violated && same_keys(rule, keys, &found_keys, schema)
        }
    };
    if same {
        return CaseResult::Passed;
    }
    let expected = match &case.expect {
        Expectation::Held => "held".to_owned(),
        Expectation::Unknown => "unknown".to_owned(),
        Expectation::Violated => "violated".to_owned(),
        Expectation::ViolatedKeys(keys) => {
            let keys: Vec<String> = keys.iter().map(shown_row).collect();
            format!("violated by {}", keys.join(", "))
        }
    };
    let found = match (outcome.verdict, &outcome.reason) {
        (Verdict::Violated, _) => {
            let keys: Vec<String> = found_keys
                .iter()
                .map(|key| Value::Object((*key).clone()).to_string())
                .collect();
            format!("violated by {}", keys.join(", "))
        }
        (verdict, Some(reason)) => format!("{}: {reason}", verdict.as_str()),
        (verdict, None) => verdict.as_str().to_owned(),
    };
    CaseResult::Failed { expected, found }
}

/// Whether the expected and the found keys are the same, in any order.
fn same_keys(
    rule: &Rule,
    expected: &[CaseRow],
    found: &[&Map<String, Value>],
    schema: &Schema,
) -> bool {
    let table = rule
        .table
        .as_ref()
        .and_then(|table| schema.table(&table.value));
    let mut left: Vec<&Map<String, Value>> = found.to_vec();
    for row in expected {
        let same = |key: &&Map<String, Value>| {
            key.len() == row.len()
                && row.iter().all(|(column, literal)| {
                    let data_type = table
                        .and_then(|table| table.column(&column.value))
                        .map(|column| &column.data_type);
                    key.get(&column.value)
                        .is_some_and(|have| same_value(literal, have, data_type))
                })
        };
        match left.iter().position(same) {
            Some(at) => _ = left.remove(at),
            None => return false,
        }
    }
    left.is_empty()
}

fn same_value(literal: &Literal, found: &Value, data_type: Option<&DataType>) -> bool {
    if let Some(data_type) = data_type
        && let Some(cell) = cell(literal, data_type)
        && value::to_json(data_type, &cell) == *found
    {
        return true;
    }
    match (literal, found) {
        (Literal::Null, Value::Null) => true,
        (Literal::Bool(literal), Value::Bool(found)) => literal == found,
        (Literal::Number(literal) | Literal::Text(literal), found) => {
            let found = match found {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let number = || {
                Decimal::parse(literal)
                    .zip(Decimal::parse(&found))
                    .is_some_and(|(a, b)| a == b)
            };
            let time = || {
                value::parse_timestamp(literal)
                    .zip(value::parse_timestamp(&found))
                    .is_some_and(|(a, b)| a == b)
            };
            *literal == found || number() || time()
        }
        _ => false,
    }
}

fn shown_row(row: &CaseRow) -> String {
    let entries: Vec<String> = row
        .iter()
        .map(|(column, literal)| {
            let value = match literal {
                Literal::Null => "null".to_owned(),
                Literal::Bool(value) => value.to_string(),
                Literal::Number(text) => text.clone(),
                Literal::Text(text) => format!("{text:?}"),
            };
            format!("{:?}:{value}", column.value)
        })
        .collect();
    format!("{{{}}}", entries.join(","))
}
