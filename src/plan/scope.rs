//! Meeting the schema: tables and columns that a rule names, SQL fragments, keys, with located messages for what is not there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, visit_expressions, visit_expressions_mut,
};

use crate::change::Cell;
use crate::diagnostic::{Diagnostic, nearest};
use crate::rule::{ColumnRef, Literal, Rule, Spanned, Sql, TableRef, sql};
use crate::schema::{Column, DataType, Schema, Table, value};

/// A quoted identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted string.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table as it is read: `"public"."orders" AS "orders"`.
pub(super) fn read(table: &Table) -> String {
    format!(
        "{}.{} AS {}",
        quote(&table.name.schema),
        quote(&table.name.name),
        quote(&table.name.name)
    )
}

/// An SQL fragment of a rule with what was found in it.
#[derive(Clone, Debug)]
pub(super) struct Fragment {
    /// The text as written, on lines of its own so that a comment in it ends with it.
    pub(super) text: String,
    /// The parsed expression.
    pub(super) expr: Expr,
    /// The columns of its table that it names, in order of first mention.
    pub(super) columns: Vec<String>,
}

impl Fragment {
    /// The fragment in parentheses.
    pub(super) fn wrapped(&self) -> String {
        if self.text.contains("--") || self.text.contains('\n') {
            format!("({}\n)", self.text)
        } else {
            format!("({})", self.text)
        }
    }

    /// The same expression over columns that carry a prefix (`before_`, `after_`).
    pub(super) fn prefixed(&self, prefix: &str) -> String {
        let mut expr = self.expr.clone();
        let columns = &self.columns;
        let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |node| {
            let name = match node {
                Expr::Identifier(ident) => folded(ident),
                Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
                _ => return ControlFlow::Continue(()),
            };
            if columns.contains(&name) {
                *node = Expr::Identifier(Ident::with_quote('"', format!("{prefix}{name}")));
            }
            ControlFlow::Continue(())
        });
        format!("({expr})")
    }
}

/// The name that an identifier means: unquoted ones are folded to lower case.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_lowercase()
    }
}

/// A rule's way to the schema. Collects what is wrong; a `None` always has a message.
pub(super) struct Scope<'a> {
    pub(super) schema: &'a Schema,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Scope {
            schema,
            diagnostics: Vec::new(),
        }
    }

    /// The subject of a rule that needs one.
    pub(super) fn subject(&mut self, rule: &Rule) -> Option<&'a Table> {
        match &rule.table {
            Some(table) => self.table(table),
            None => {
                let message = format!("rule `{}` has no table", rule.id);
                self.diagnostics.push(
                    rule.span
                        .error(message)
                        .with_hint("add `table:` to the rule or to the file"),
                );
                None
            }
        }
    }

    pub(super) fn table(&mut self, table: &TableRef) -> Option<&'a Table> {
        let found = self.schema.table(&table.value);
        if found.is_none() {
            let known: Vec<String> = self.schema.tables.iter().map(|t| t.name.short()).collect();
            let message = format!("unknown table `{}`", table.value.short());
            self.diagnostics
                .push(table.span.error(message).with_hint(hint_among(
                    &table.value.short(),
                    &known,
                    "tables",
                )));
        }
        found
    }

    pub(super) fn column(&mut self, table: &'a Table, column: &ColumnRef) -> Option<&'a Column> {
        let found = table.column(&column.value);
        if found.is_none() {
            let message = format!(
                "unknown column `{}` in table `{}`",
                column.value,
                table.name.short()
            );
            let known: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
            self.diagnostics
                .push(column.span.error(message).with_hint(hint_among(
                    &column.value,
                    &known,
                    "columns",
                )));
        }
        found
    }

    /// All columns, or None when one is missing.
    pub(super) fn columns(
        &mut self,
        table: &'a Table,
        columns: &[ColumnRef],
    ) -> Option<Vec<&'a Column>> {
        let found: Vec<_> = columns
            .iter()
            .map(|column| self.column(table, column))
            .collect();
        found.into_iter().collect()
    }

    /// An expression over one table's columns.
    pub(super) fn fragment(&mut self, table: &'a Table, text: &Sql) -> Option<Fragment> {
        let expr = match sql::parse_expression(text) {
            Ok(expr) => expr,
            Err(error) => {
                self.diagnostics.push(error);
                return None;
            }
        };
        let mut columns: Vec<String> = Vec::new();
        let mut missing: Vec<Ident> = Vec::new();
        let nested = has_query(&expr);
        let _: ControlFlow<()> = visit_expressions(&expr, |node| {
            let ident = match node {
                Expr::Identifier(ident) => ident,
                Expr::CompoundIdentifier(parts) if parts.len() >= 2 => {
                    let owner = &parts[parts.len() - 2];
                    if folded(owner) != table.name.name {
                        return ControlFlow::Continue(());
                    }
                    &parts[parts.len() - 1]
                }
                _ => return ControlFlow::Continue(()),
            };
            let name = folded(ident);
            if table.column(&name).is_none() {
                missing.push(ident.clone());
            } else if !columns.contains(&name) {
                columns.push(name);
            }
            ControlFlow::Continue(())
        });
        // Inside subqueries other tables are in scope; there the planner decides.
        if !nested && !missing.is_empty() {
            let known: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
            for ident in missing {
                let message = format!(
                    "unknown column `{}` in table `{}`",
                    folded(&ident),
                    table.name.short()
                );
                let diagnostic = locate_ident(text, &ident).error(message);
                self.diagnostics.push(diagnostic.with_hint(hint_among(
                    &folded(&ident),
                    &known,
                    "columns",
                )));
            }
            return None;
        }
        Some(Fragment {
            text: text.value.trim().to_owned(),
            expr,
            columns,
        })
    }

    pub(super) fn optional_fragment(
        &mut self,
        table: &'a Table,
        text: Option<&Sql>,
    ) -> Option<Option<Fragment>> {
        match text {
            None => Some(None),
            Some(text) => self.fragment(table, text).map(Some),
        }
    }

    /// A literal as SQL for comparing with a column of the given type.
    pub(super) fn literal(
        &mut self,
        literal: &Spanned<Literal>,
        column: &Column,
    ) -> Option<String> {
        let text = match &literal.value {
            Literal::Null => return Some("NULL".into()),
            Literal::Bool(value) => value.to_string(),
            Literal::Number(text) | Literal::Text(text) => text.clone(),
        };
        // A number is compared as it is written: rounded to the column's scale it would be another one.
        let data_type = match &column.data_type {
            DataType::Numeric { .. } => &DataType::Numeric {
                precision_scale: None,
            },
            other => other,
        };
        match literal_sql(&text, data_type) {
            Some(sql) => Some(sql),
            None => {
                let message = format!(
                    "`{text}` is no value of column `{}` ({})",
                    column.name, column.data_type
                );
                let hint = match &column.data_type {
                    DataType::Enum { labels, .. } => hint_among(&text, labels, "labels"),
                    other => format!("write a value of type {other}"),
                };
                self.diagnostics
                    .push(literal.span.error(message).with_hint(hint));
                None
            }
        }
    }

    /// The columns that name a violation: `key:`, else the primary key, else all columns.
    pub(super) fn key(&mut self, rule: &Rule, table: &'a Table) -> Option<Vec<String>> {
        if let Some(key) = &rule.key {
            return Some(
                self.columns(table, key)?
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
            );
        }
        if table.primary_key.is_empty() {
            return Some(
                table
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
            );
        }
        Some(table.primary_key_names())
    }

    pub(super) fn error(
        &mut self,
        span: &crate::rule::Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.diagnostics.push(span.error(message).with_hint(hint));
    }
}

/// The text of a value as SQL for comparing with a column of a type; None when it is no value of the type.
pub(super) fn literal_sql(text: &str, data_type: &DataType) -> Option<String> {
    let cell = value::parse_text(data_type, text).ok()?;
    let text = value::to_text(data_type, &cell)?;
    Some(match data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Numeric { .. } => {
            if matches!(cell, Cell::Wide(_)) {
                // The engine has no such literals, and reads them from texts.
                quote_text(&text)
            } else if text.starts_with('-') {
                format!("({text})")
            } else {
                text
            }
        }
        DataType::Float32 | DataType::Float64 => {
            format!("CAST({} AS double precision)", quote_text(&text))
        }
        DataType::Bool => {
            if text == "t" || text == "true" {
                "true".into()
            } else {
                "false".into()
            }
        }
        _ => quote_text(&text),
    })
}

fn hint_among(wrong: &str, known: &[String], what: &str) -> String {
    match nearest(wrong, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.len() <= 24 => format!("known {what}: {}", known.join(", ")),
        None => format!(
            "known {what}: {}, … ({} in all)",
            known[..24].join(", "),
            known.len()
        ),
    }
}

fn has_query(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |node| match node {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Where an identifier stands in the rule file.
fn locate_ident(text: &Sql, ident: &Ident) -> crate::rule::Span {
    let start = ident.span.start;
    if start.line == 0 {
        return text.span.clone();
    }
    let before: usize = text
        .value
        .split_inclusive('\n')
        .take(usize::try_from(start.line).unwrap_or(1) - 1)
        .map(|line| line.chars().count())
        .sum();
    let offset = before + usize::try_from(start.column).unwrap_or(1).saturating_sub(1);
    text.span.within(offset, ident.value.chars().count())
}

/// Functions of SQL that a rule must not call, with the reason: what they cost cannot be bounded.
const COSTLY: [&str; 9] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "generate_series",
    "range",
    "array_resize",
    "list_resize",
];
/// Functions whose answer changes without a write.
const UNSTEADY: [&str; 5] = ["random", "uuid", "rand", "gen_random_uuid", "version"];

/// The first function that a query or expression must not call, or what else it must not hold.
pub(super) fn forbidden_function(query: &Query) -> Option<String> {
    forbidden(|visit| {
        let _: ControlFlow<()> = visit_expressions(query, |node| {
            visit(node);
            ControlFlow::Continue(())
        });
    })
    .or_else(|| forbidden_table_function(query))
    .or_else(|| super::unsound::unsound(query))
}

fn forbidden(walk: impl FnOnce(&mut dyn FnMut(&Expr))) -> Option<String> {
    let mut found = None;
    walk(&mut |node| {
        let Expr::Function(function) = node else {
            return;
        };
        let Some(name) = function.name.0.last().and_then(|part| part.as_ident()) else {
            return;
        };
        let name = name.value.to_lowercase();
        if found.is_none() && COSTLY.contains(&name.as_str()) {
            found = Some(format!(
                "`{name}` is not allowed in rules: the size of its result has no limit"
            ));
        } else if found.is_none() && UNSTEADY.contains(&name.as_str()) {
            found = Some(format!(
                "`{name}` is not allowed in rules: its answer changes without a write"
            ));
        }
    });
    found
}

fn forbidden_table_function(query: &Query) -> Option<String> {
    use datafusion::sql::sqlparser::ast::visit_relations;
    let mut found = None;
    let _: ControlFlow<()> = visit_relations(query, |name| {
        let last = name
            .0
            .last()
            .and_then(|part| part.as_ident())
            .map(|ident| ident.value.to_lowercase());
        if let Some(name) = last.filter(|name| COSTLY.contains(&name.as_str())) {
            found = Some(format!(
                "`{name}` is not allowed in rules: the size of its result has no limit"
            ));
        }
        ControlFlow::Continue(())
    });
    found
}
