//! A schema from what a rule says and its examples hold.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};

use crate::change::Decimal;
use crate::rule::{Case, CaseRow, Check, ColumnRef, Literal, Rule, Sql, sql};
use crate::schema::{Column, DataType, Schema, Table, TableName, value};

/// What is known of a table's columns so far, in order of first mention.
type Columns = Vec<(String, Option<DataType>)>;

/// Tables under construction.
#[derive(Default)]
struct Guess {
    tables: BTreeMap<TableName, Columns>,
}

impl Guess {
    fn table(&mut self, table: &TableName) -> &mut Columns {
        self.tables.entry(table.clone()).or_default()
    }

    /// A column that is mentioned, with its type where that is known.
    fn column(&mut self, table: &TableName, name: &str, data_type: Option<DataType>) {
        let columns = self.table(table);
        match columns.iter_mut().find(|(have, _)| have == name) {
            Some((_, known)) => *known = wider(known.take(), data_type),
            None => columns.push((name.to_owned(), data_type)),
        }
    }

    fn columns(&mut self, table: &TableName, columns: &[ColumnRef]) {
        columns
            .iter()
            .for_each(|column| self.column(table, &column.value, None));
    }

    fn row(&mut self, table: &TableName, row: &CaseRow) {
        for (column, literal) in row {
            self.column(table, &column.value, type_of(literal));
        }
    }

    /// Columns that an expression over one table names; qualified names belong to the table they name.
    fn expression(&mut self, table: &TableName, text: &Sql) {
        let Ok(expr) = sql::parse_expression(text) else {
            return;
        };
        let mut found = Vec::new();
        let _: ControlFlow<()> = visit_expressions(&expr, |node| {
            let folded = |ident: &datafusion::sql::sqlparser::ast::Ident| {
                if ident.quote_style.is_some() {
                    ident.value.clone()
                } else {
                    ident.value.to_lowercase()
                }
            };
            match node {
                Expr::Identifier(ident) => found.push((table.clone(), folded(ident))),
                Expr::CompoundIdentifier(parts) => {
                    let parts: Vec<String> = parts.iter().map(folded).collect();
                    if let Some((column, owner)) = parts.split_last() {
                        found.push((TableName::parse(&owner.join(".")), column.clone()));
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        found
            .into_iter()
            .for_each(|(table, column)| self.column(&table, &column, None));
    }
}

/// A schema for a rule and some of its cases. What these leave open - an empty table, a column that is NULL in every row - has the
/// type (and an empty table of which nothing else is known, the columns) that the rule's other cases give it.
pub(super) fn schema(rule: &Rule, cases: &[&Case]) -> Schema {
    let mut guess = guess(rule, cases);
    let all = self::guess(rule, &rule.cases.iter().collect::<Vec<_>>());
    for (name, columns) in &mut guess.tables {
        if columns.is_empty() {
            *columns = all.tables.get(name).cloned().unwrap_or_default();
        }
        for (column, data_type) in columns
            .iter_mut()
            .filter(|(_, data_type)| data_type.is_none())
        {
            let known = all
                .tables
                .get(name)
                .and_then(|columns| columns.iter().find(|(have, _)| have == column));
            *data_type = known.and_then(|(_, data_type)| data_type.clone());
        }
    }
    let subject = rule.table.as_ref().map(|table| &table.value);
    let tables = guess.tables.into_iter().map(|(name, columns)| {
        let wanted = if Some(&name) == subject {
            rule.key.as_deref().unwrap_or_default()
        } else {
            &[]
        };
        table(name, columns, wanted, default_type(&rule.check))
    });
    Schema {
        tables: tables.collect(),
    }
}

/// What a rule and some of its cases say about tables and their columns.
fn guess(rule: &Rule, cases: &[&Case]) -> Guess {
    let mut guess = Guess::default();
    for case in cases {
        for (table, rows) in &case.given {
            guess.table(&table.value);
            rows.iter().for_each(|row| guess.row(&table.value, row));
        }
        for change in case
            .changes
            .iter()
            .flat_map(|transaction| &transaction.changes)
        {
            guess.table(&change.table.value);
            for row in [&change.key, &change.before, &change.after]
                .into_iter()
                .flatten()
            {
                guess.row(&change.table.value, row);
            }
        }
    }
    if let Some(subject) = rule.table.as_ref().map(|table| table.value.clone()) {
        guess.table(&subject);
        if !matches!(rule.check, Check::Sql { .. }) {
            guess.columns(&subject, rule.key.as_deref().unwrap_or_default());
            [&rule.filter, &rule.impact]
                .into_iter()
                .flatten()
                .for_each(|text| guess.expression(&subject, text));
        }
        mentioned(&mut guess, &subject, &rule.check);
    }
    guess
}

fn table(name: TableName, columns: Columns, key: &[ColumnRef], default: DataType) -> Table {
    let at = |wanted: &str| columns.iter().position(|(have, _)| have == wanted);
    let by_rule: Option<Vec<usize>> = key.iter().map(|column| at(&column.value)).collect();
    let primary_key = match by_rule {
        Some(key) if !key.is_empty() => key,
        _ => at("id").into_iter().collect(),
    };
    let column = |(name, data_type): (String, Option<DataType>)| Column {
        name,
        data_type: data_type.unwrap_or_else(|| default.clone()),
        nullable: true,
    };
    Table {
        name,
        columns: columns.into_iter().map(column).collect(),
        primary_key,
        foreign_keys: Vec::new(),
    }
}

/// The type of a column whose values are all NULL or absent.
fn default_type(check: &Check) -> DataType {
    match check {
        Check::Fresh { .. } | Check::WindowGap { .. } | Check::NoOverlap { .. } => {
            DataType::TimestampTz
        }
        Check::Sequence { .. }
        | Check::Increments { .. }
        | Check::Monotonic { .. }
        | Check::Balance { .. }
        | Check::BalancedTransaction { .. }
        | Check::Aggregate { .. } => DataType::Int64,
        _ => DataType::Text,
    }
}

/// Tables and columns that a check names.
fn mentioned(guess: &mut Guess, subject: &TableName, check: &Check) {
    match check {
        Check::NotNull { columns }
        | Check::NotEmpty { columns }
        | Check::Unique { columns }
        | Check::Immutable { columns }
        | Check::SetOnce { columns } => guess.columns(subject, columns),
        Check::Completeness { column, .. }
        | Check::AcceptedValues { column, .. }
        | Check::RejectedValues { column, .. }
        | Check::Range { column, .. }
        | Check::Length { column, .. }
        | Check::Pattern { column, .. }
        | Check::Formatted { column, .. }
        | Check::Transitions { column, .. }
        | Check::Monotonic { column, .. }
        | Check::Increments { column, .. } => guess.column(subject, &column.value, None),
        Check::Expression { sql, .. } | Check::Metric { sql, .. } => guess.expression(subject, sql),
        Check::References {
            columns,
            to,
            to_columns,
        } => {
            guess.columns(subject, columns);
            guess.columns(&to.value, to_columns);
        }
        Check::Has {
            table,
            matching,
            filter,
            ..
        }
        | Check::HasNo {
            table,
            matching,
            filter,
        } => {
            for (theirs, own) in matching {
                guess.column(&table.value, &theirs.value, None);
                guess.column(subject, &own.value, None);
            }
            filter
                .iter()
                .for_each(|filter| guess.expression(&table.value, filter));
        }
        Check::Sequence { column, per, .. }
        | Check::WindowGap { column, per, .. }
        | Check::Fresh { column, per, .. } => {
            guess.column(subject, &column.value, None);
            guess.columns(subject, per);
        }
        Check::NoOverlap { from, to, per } => {
            guess.columns(subject, &[from.clone(), to.clone()]);
            guess.columns(subject, per);
        }
        Check::RowCount { per, .. } => guess.columns(subject, per),
        Check::Aggregate { sql, per, .. } => {
            guess.expression(subject, sql);
            guess.columns(subject, per);
        }
        Check::Balance {
            left,
            right,
            matching,
            per,
            filter,
            ..
        } => {
            guess.expression(subject, left);
            balance(
                guess,
                subject,
                right,
                matching.as_deref(),
                per,
                filter.as_ref(),
            );
        }
        Check::SameRows {
            other,
            matching,
            columns,
            ..
        } => {
            for (theirs, own) in matching {
                guess.column(&other.value, &theirs.value, None);
                guess.column(subject, &own.value, None);
            }
            for table in [subject, &other.value] {
                guess.columns(table, columns.as_deref().unwrap_or_default());
            }
        }
        Check::SchemaShape { .. } | Check::Sql { .. } => {}
        Check::AppendOnly | Check::NoDelete | Check::NoResurrection | Check::MassChange { .. } => {}
        Check::Touched { column, when } => {
            guess.column(subject, &column.value, None);
            guess.columns(subject, when.as_deref().unwrap_or_default());
        }
        Check::BalancedTransaction { sum, per, filter } => {
            guess.expression(subject, sum);
            guess.columns(subject, per);
            filter
                .iter()
                .for_each(|filter| guess.expression(subject, filter));
        }
    }
}

fn balance(
    guess: &mut Guess,
    subject: &TableName,
    right: &Sql,
    matching: Option<&[(ColumnRef, ColumnRef)]>,
    per: &[ColumnRef],
    filter: Option<&Sql>,
) {
    let before: Vec<TableName> = guess.tables.keys().cloned().collect();
    guess.expression(subject, right);
    // The right side's table is the one its qualified names mention.
    let named = sql::parse_expression(right)
        .ok()
        .map(|expr| expr.to_string())
        .unwrap_or_default();
    let parts = guess
        .tables
        .keys()
        .find(|table| named.contains(&format!("{}.", table.short())) || !before.contains(table))
        .cloned()
        .unwrap_or_else(|| subject.clone());
    for (theirs, own) in matching.unwrap_or_default() {
        guess.column(&parts, &theirs.value, None);
        guess.column(subject, &own.value, None);
    }
    for table in [subject, &parts] {
        guess.columns(table, per);
    }
    filter
        .iter()
        .for_each(|filter| guess.expression(&parts, filter));
}

fn type_of(literal: &Literal) -> Option<DataType> {
    match literal {
        Literal::Null => None,
        Literal::Bool(_) => Some(DataType::Bool),
        Literal::Number(text) if text.parse::<i64>().is_ok() => Some(DataType::Int64),
        Literal::Number(text) if Decimal::parse(text).is_some() => Some(DataType::Numeric {
            precision_scale: None,
        }),
        Literal::Number(_) => Some(DataType::Text),
        Literal::Text(text) => Some(text_type(text)),
    }
}

fn text_type(text: &str) -> DataType {
    let date = |part: &str| {
        chrono::NaiveDate::parse_from_str(part, "%Y-%m-%d").is_ok() && part.len() == 10
    };
    if date(text) {
        return DataType::Date;
    }
    let is_time = text.get(..10).is_some_and(date) && value::parse_timestamp(text).is_some();
    let zoned = text.ends_with('Z') || text.get(10..).is_some_and(|rest| rest.contains(['+', '-']));
    match (is_time, zoned) {
        (true, true) => DataType::TimestampTz,
        (true, false) => DataType::Timestamp,
        (false, _)
            if text.starts_with('[') && serde_json::from_str::<Vec<String>>(text).is_ok() =>
        {
            DataType::Array(Box::new(DataType::Text))
        }
        (false, _) => DataType::Text,
    }
}

/// A type that holds the values of both.
fn wider(a: Option<DataType>, b: Option<DataType>) -> Option<DataType> {
    use DataType::{Date, Int64, Numeric, Text, Timestamp, TimestampTz};
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a @ Numeric { .. }), Some(Int64)) | (Some(Int64), Some(a @ Numeric { .. })) => {
            Some(a)
        }
        (Some(Date), Some(other @ (Timestamp | TimestampTz)))
        | (Some(other @ (Timestamp | TimestampTz)), Some(Date)) => Some(other),
        (Some(Timestamp), Some(TimestampTz)) | (Some(TimestampTz), Some(Timestamp)) => {
            Some(TimestampTz)
        }
        _ => Some(Text),
    }
}
