//! What is wrong with a query that somebody asks: one message, at its place in the query, with the nearest right name.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, Visit, Visitor,
};
use datafusion::sql::sqlparser::parser::ParserError;

use super::JudgeError;
use super::ask::QueryError;
use super::catalog::{CATALOG, View};
use super::positions::Positions;
use crate::diagnostic::{Diagnostic, nearest};
use crate::rule::{Span, Sql, sql};
use crate::schema::Table;

/// How many names a hint lists.
const LISTED_MAX: usize = 24;

const READ: &str = "write one `select`, `with … select` or `values`";

/// A message about a rule's SQL, as a message about a query that stands alone.
pub(super) fn reworded(mut found: Diagnostic) -> Diagnostic {
    found.message = found
        .message
        .replace("rule SQL may only read", "a query may only read")
        .replace("has no value in a rule", "has no value here");
    let about_rules = |hint: &String| {
        ["rule", "key", "violating"]
            .iter()
            .any(|word| hint.contains(word))
    };
    if found.hint.as_ref().is_some_and(about_rules) {
        found.hint = Some(READ.to_owned());
    }
    found
}

/// What the engine's own parser has no words for.
pub(super) fn unparsed(sql: &Sql, parsed: &Query) -> Option<Diagnostic> {
    let table = matches!(parsed.body.as_ref(), SetExpr::Table(_));
    table.then(|| {
        let error = sql.span.error("a query cannot begin with `table`");
        error.with_hint(READ)
    })
}

/// A call that no query may make.
pub(super) fn forbidden(sql: &Sql, reason: &str) -> Diagnostic {
    let name = reason.split('`').nth(1).unwrap_or_default();
    place_of_word(sql, name).error(reason.replace(" in rules", ""))
}

/// The tables that a query names.
#[derive(Default)]
struct Named {
    /// Names that the query gives itself.
    own: BTreeSet<String>,
    tables: Vec<ObjectName>,
    /// Calls where a table should stand.
    calls: Vec<ObjectName>,
}

impl Visitor for Named {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.own.extend(with.map(|cte| folded(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name, args: None, ..
            } => self.tables.push(name.clone()),
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                self.calls.push(name.clone());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn idents(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0.iter().map(ObjectNamePart::as_ident).collect()
}

/// Refuses names of tables and positions that are not there.
pub(super) fn check_names(
    sql: &Sql,
    parsed: &Query,
    positions: &Positions,
) -> Result<(), Diagnostic> {
    let mut named = Named::default();
    let _ = parsed.visit(&mut named);
    if let Some(call) = named.calls.first().and_then(idents) {
        let Some(last) = call.last() else {
            return Ok(());
        };
        let message = format!("`{}` is a call where a table should stand", last.value);
        let error = place(sql, last).error(message);
        return Err(error.with_hint("a query reads the tables of the source and nothing else"));
    }
    for table in &named.tables {
        let Some(parts) = idents(table) else { continue };
        if let [one] = parts.as_slice()
            && named.own.contains(&folded(one))
        {
            continue;
        }
        check_table(sql, &parts, positions)?;
    }
    check_ambiguous(sql, parsed)
}

/// Refuses `orders.id` where two tables in one `from` are called `orders`: the engine would take the first of them.
fn check_ambiguous(sql: &Sql, parsed: &Query) -> Result<(), Diagnostic> {
    struct Each<'s>(&'s Sql);
    impl Each<'_> {
        /// Looks into a part of a query that stands over these tables.
        fn check(&self, from: &[TableWithJoins], part: &impl Visit) -> ControlFlow<Diagnostic> {
            let mut seen = BTreeSet::new();
            let names = exposed(from).into_iter();
            let twice = names.filter(|name| !seen.insert(name.clone())).collect();
            let ControlFlow::Break(ident) = part.visit(&mut References(twice)) else {
                return ControlFlow::Continue(());
            };
            let name = folded(&ident);
            let error = place(self.0, &ident).error(format!("`{name}` stands for two tables here"));
            let hint = format!("name them in `from`: \"#1207\".{name} as earlier");
            ControlFlow::Break(error.with_hint(hint))
        }
    }
    impl Visitor for Each<'_> {
        type Break = Diagnostic;

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Diagnostic> {
            match query.body.as_ref() {
                SetExpr::Select(select) => self.check(&select.from, &query.order_by),
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Diagnostic> {
            self.check(&select.from, select)
        }
    }
    match parsed.visit(&mut Each(sql)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Finds the first column that is named behind one of these tables.
struct References(BTreeSet<String>);

impl References {
    fn check(&self, ident: &Ident) -> ControlFlow<Ident> {
        if self.0.contains(&folded(ident)) {
            ControlFlow::Break(ident.clone())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Visitor for References {
    type Break = Ident;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Ident> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => self.check(&parts[0]),
            Expr::QualifiedWildcard(name, _) => match idents(name).as_deref() {
                Some([one]) => self.check(one),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Ident> {
        for item in &select.projection {
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) = item
                && let Some([one]) = idents(name).as_deref()
            {
                self.check(one)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The names by which the tables of a `from` are known.
fn exposed(from: &[TableWithJoins]) -> Vec<String> {
    let mut names = Vec::new();
    for tables in from {
        let joined = tables.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&tables.relation).chain(joined) {
            match factor {
                TableFactor::Table {
                    alias: Some(alias), ..
                }
                | TableFactor::Derived {
                    alias: Some(alias), ..
                } => {
                    names.push(folded(&alias.name));
                }
                TableFactor::Table { name, .. } => {
                    let last = name.0.last().and_then(ObjectNamePart::as_ident);
                    names.extend(last.map(folded));
                }
                TableFactor::NestedJoin {
                    table_with_joins, ..
                } => {
                    names.extend(exposed(std::slice::from_ref(table_with_joins)));
                }
                _ => {}
            }
        }
    }
    names
}

fn check_table(sql: &Sql, parts: &[&Ident], positions: &Positions) -> Result<(), Diagnostic> {
    let own = positions.own();
    let (view, schema, table) = match parts {
        [table] => (std::sync::Arc::clone(own), "public".to_owned(), table),
        [schema, table] => {
            let name = folded(schema);
            match positions.place(None, &name) {
                Some((view, schema)) => (view, schema, table),
                None => return Err(unknown_place(sql, schema, positions)),
            }
        }
        [position, schema, table] => {
            let view = match folded(position).as_str() {
                CATALOG => std::sync::Arc::clone(own),
                name => match positions.named(name) {
                    Ok(view) => view,
                    Err(_) => return Err(unknown_place(sql, position, positions)),
                },
            };
            let name = folded(schema);
            if !view.has_schema(&name) {
                let message = format!("there is no schema `{name}`");
                return Err(place(sql, schema).error(message).with_hint(schemas(&view)));
            }
            (view, name, table)
        }
        _ => return Ok(()),
    };
    let name = folded(table);
    if view.resolve(&schema, &name).is_some() {
        return Ok(());
    }
    Err(unknown_table(sql, table, &schema, &view))
}

/// Words before a table's name that are neither a schema nor a position.
fn unknown_place(sql: &Sql, ident: &Ident, positions: &Positions) -> Diagnostic {
    let name = folded(ident);
    let view = positions.own();
    let like_position =
        name.starts_with(['#', '-']) || name.starts_with(|c: char| c.is_ascii_digit());
    let snapshots = view.history.first_snapshot.is_some();
    match positions.named(&name) {
        Err(reason) if like_position || snapshots => place(sql, ident).error(reason),
        _ => place(sql, ident)
            .error(format!("there is no schema `{name}`"))
            .with_hint(schemas(view)),
    }
}

fn schemas(view: &View) -> String {
    let mut names: Vec<&str> = vec!["public", "changes", "writes", "firstbad"];
    for table in &view.history.schema.tables {
        if !names.contains(&table.name.schema.as_str()) {
            names.push(&table.name.schema);
        }
    }
    format!(
        "there are {}, and positions in double quotes such as \"#1207\" and \"latest\"",
        names.join(", ")
    )
}

fn unknown_table(sql: &Sql, table: &Ident, schema: &str, view: &View) -> Diagnostic {
    let name = folded(table);
    let shown = match schema {
        "public" => name.clone(),
        schema => format!("{schema}.{name}"),
    };
    let tables = &view.history.schema.tables;
    let known: Vec<String> = match schema {
        "firstbad" => vec!["transactions".to_owned()],
        "public" | "changes" | "writes" | "steps" => {
            tables.iter().map(|table| table.name.short()).collect()
        }
        schema => tables
            .iter()
            .filter(|table| table.name.schema == schema)
            .map(|table| table.name.name.clone())
            .collect(),
    };
    let elsewhere = tables.iter().find(|table| table.name.name == name);
    let near = nearest(&name, known.iter().map(String::as_str));
    // The tables that `changes.` and the like know have one name, with their schema in it.
    let one_name = ["changes", "writes", "steps"].contains(&schema);
    let hint = match (near, elsewhere) {
        (Some(near), _) if one_name || schema != "public" => {
            format!("did you mean `{}`?", quoted(near))
        }
        (Some(near), _) => {
            let found = tables.iter().find(|table| table.name.short() == near);
            format!("did you mean `{}`?", found.map_or(near.to_owned(), in_sql))
        }
        (None, Some(table)) if one_name => {
            format!("did you mean `{}`?", quoted(&table.name.short()))
        }
        (None, Some(table)) => format!("did you mean `{}`?", in_sql(table)),
        (None, None) => listed("the tables are", &known),
    };
    place(sql, table)
        .error(format!("there is no table `{shown}`"))
        .with_hint(hint)
}

/// A name as SQL has it: in quotes where it needs them.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table as SQL names it.
fn in_sql(table: &Table) -> String {
    let name = quoted(&table.name.name);
    match table.name.schema.as_str() {
        "public" => name,
        schema => format!("{}.{name}", quoted(schema)),
    }
}

fn listed(what: &str, names: &[String]) -> String {
    let more = if names.len() > LISTED_MAX {
        ", …"
    } else {
        ""
    };
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(String::as_str).collect();
    format!("{what} {}{more}", shown.join(", "))
}

/// What a failure to plan means.
pub(super) fn planning(sql: &Sql, error: &DataFusionError) -> QueryError {
    let mistake = |diagnostic| QueryError::Mistake(Box::new(diagnostic));
    let root = error.find_root();
    match root {
        DataFusionError::SQL(parse, _)
            if matches!(**parse, ParserError::RecursionLimitExceeded) =>
        {
            mistake(sql.span.error("this SQL is nested too deeply"))
        }
        DataFusionError::ResourcesExhausted(_) => {
            JudgeError::Limit("it needs more memory than --memory-limit allows".into()).into()
        }
        DataFusionError::Execution(_)
        | DataFusionError::ArrowError(_, _)
        | DataFusionError::External(_)
        | DataFusionError::ExecutionJoin(_) => JudgeError::engine(root).into(),
        DataFusionError::SchemaError(schema, _) => mistake(unknown_column(sql, schema)),
        other => mistake(planner_words(sql, &other.strip_backtrace())),
    }
}

fn unknown_column(sql: &Sql, error: &SchemaError) -> Diagnostic {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let mut known: Vec<String> = valid_fields
                .iter()
                .map(|field| field.name.clone())
                .collect();
            known.sort();
            known.dedup();
            if let Some(unknown) = unknown_qualifier(sql, field, valid_fields) {
                return unknown;
            }
            let hint = match nearest(&field.name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "no table is read here: name one after `from`".into(),
                None => listed("the columns are", &known),
            };
            place_of_word(sql, &field.name)
                .error(format!("there is no column `{}`", field.name))
                .with_hint(hint)
        }
        SchemaError::AmbiguousReference { field } => place_of_word(sql, &field.name)
            .error(format!("`{}` stands in more than one table", field.name))
            .with_hint(format!(
                "write its table before it: `orders.{}`",
                field.name
            )),
        other => planner_words(sql, &other.to_string()),
    }
}

/// A column of a table that the query does not read.
fn unknown_qualifier(sql: &Sql, field: &Column, valid: &[Column]) -> Option<Diagnostic> {
    let table = field.relation.as_ref()?.table();
    let mut read: Vec<String> = valid
        .iter()
        .filter_map(|field| Some(field.relation.as_ref()?.table().to_owned()))
        .collect();
    read.sort();
    read.dedup();
    if read.is_empty() || read.iter().any(|name| name == table) {
        return None;
    }
    let error =
        place_of_word(sql, table).error(format!("`{table}` is none of the tables read here"));
    Some(error.with_hint(listed("they are", &read)))
}

/// The planner's own words, at the name they quote.
fn planner_words(sql: &Sql, words: &str) -> Diagnostic {
    let words = words
        .trim_start_matches("Error during planning: ")
        .trim_start_matches("SQL error: ")
        .trim_start_matches("This feature is not implemented: ")
        .trim_start_matches("Invalid function ")
        .replace("firstbad.public.", "")
        .replace("public.", "");
    let mut lines = words.lines();
    let first = lines.next().unwrap_or_default();
    let name = first.split(['\'', '"', '`']).nth(1).unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    let mut letters = first.chars();
    let message = match (words.starts_with('\''), letters.next()) {
        _ if words.contains("OuterReferenceColumn") => {
            let message = "a subquery that reads the row around it cannot be run here";
            return sql.span.error(message).with_hint("write it as a join");
        }
        (true, _) => format!("there is no function `{name}`"),
        (false, Some(letter)) => letter.to_lowercase().chain(letters).collect(),
        (false, None) => "the query cannot be planned".to_owned(),
    };
    let error = place_of_word(sql, name).error(message);
    match lines
        .next()
        .and_then(|hint| hint.strip_prefix("Did you mean '"))
    {
        Some(near) => {
            // The planner names the nearest of all functions, however far it is.
            match nearest(name, [near.trim_end_matches(['?', '\''])]) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error,
            }
        }
        None => error,
    }
}

/// Where an identifier stands.
fn place(sql: &Sql, ident: &Ident) -> Span {
    let quotes = if ident.quote_style.is_some() { 2 } else { 0 };
    sql::place_at(sql, ident.span.start, ident.value.chars().count() + quotes)
}

/// Where a word first stands in a query; the whole query where it does not.
fn place_of_word(sql: &Sql, word: &str) -> Span {
    let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let lower = sql.value.to_ascii_lowercase();
    let wanted = word.to_ascii_lowercase();
    let found = lower.match_indices(&wanted).find(|(at, _)| {
        let before = lower.get(..*at).and_then(|text| text.chars().next_back());
        let after = lower
            .get(at + wanted.len()..)
            .and_then(|text| text.chars().next());
        !in_name(before) && !in_name(after)
    });
    match found.filter(|_| !word.is_empty()) {
        Some((at, _)) => {
            let offset = lower.get(..at).map_or(0, |text| text.chars().count());
            sql.span.within(offset, word.chars().count())
        }
        None => sql.span.clone(),
    }
}
