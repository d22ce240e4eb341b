//! SQL of the checks that judge one state, one function a kind. Every query returns one row a violation (or a gap that
//! [`Expand`](super::Expand) turns into violations), key columns first.

use super::ordered_checks::{micros, no_overlap, sequence, time_column, window_gap};
use super::scope::{Fragment, Scope, literal_sql, quote, quote_text, read};
use super::subject::Subject;
use super::{Compiled, IMPACT};
use crate::rule::{
    Bounds, Check, ColumnRef, Exclusive, Format, Literal, Match, Rule, Spanned, Sql, TableRef,
};
use crate::schema::{Column, DataType, Table};

/// Compiles a check of states. None when something is wrong (the messages are in `scope`) .
pub(super) fn compile<'a>(scope: &mut Scope<'a>, rule: &Rule) -> Option<Compiled> {
    let subject = Subject::new(scope, rule);
    let subject = subject?;
    let table = subject.table;
    match &rule.check {
        Check::NotNull { columns } => {
            let names = names(scope.columns(table, columns)?);
            let condition = any_of(
                names
                    .iter()
                    .map(|name| format!("{} IS NULL", subject.column(name))),
            );
            Some(subject.rows(&refs(&names), &condition))
        }
        Check::NotEmpty { columns } => {
            let columns = scope.columns(table, columns)?;
            let condition = any_of(columns.iter().map(|column| empty(&subject, column)));
            let names = names(columns);
            Some(subject.rows(&refs(&names), &condition))
        }
        Check::Completeness {
            column,
            min_percent,
        } => {
            let name = subject.column(&scope.column(table, column)?.name);
            Some(completeness(&subject, &name, min_percent))
        }
        Check::Unique { columns } => {
            let names = names(scope.columns(table, columns)?);
            Some(unique(&subject, &names))
        }
        Check::AcceptedValues { column, values } => {
            values_check(scope, &subject, column, values, "NOT IN")
        }
        Check::RejectedValues { column, values } => {
            values_check(scope, &subject, column, values, "IN")
        }
        Check::Range {
            column,
            bounds,
            exclusive,
        } => range(scope, &subject, column, bounds, *exclusive),
        Check::Length { column, min, max } => length(scope, &subject, column, *min, *max),
        Check::Pattern { column, pattern } => {
            let column = scope.column(table, column)?;
            let value = as_text(&subject.column(&column.name), &column.data_type);
            let condition = format!("NOT regexp_like({value}, {})", quote_text(&pattern.value));
            Some(subject.rows(&[&column.name], &condition))
        }
        Check::Formatted { column, format } => {
            let column = scope.column(table, column)?;
            Some(subject.rows(&[&column.name], &formatted(&subject, column, *format)))
        }
        Check::Expression { sql, strict } => {
            let fragment = scope.fragment(table, sql)?;
            let test = if *strict { "IS NOT TRUE" } else { "IS FALSE" };
            Some(subject.rows(
                &refs(&fragment.columns),
                &format!("{} {test}", fragment.wrapped()),
            ))
        }
        Check::References {
            columns,
            to,
            to_columns,
        } => references(scope, &subject, columns, to, to_columns),
        Check::Has {
            table,
            matching,
            filter,
            min,
            max,
        } => has(
            scope,
            &subject,
            (table, matching, filter.as_ref()),
            *min,
            *max,
        ),
        Check::HasNo {
            table,
            matching,
            filter,
        } => has(
            scope,
            &subject,
            (table, matching, filter.as_ref()),
            0,
            Some(0),
        ),
        Check::Sequence {
            column,
            per,
            step,
            from,
        } => sequence(scope, &subject, column, per, *step, *from),
        Check::WindowGap {
            column,
            every_us,
            per,
            min_rows,
        } => window_gap(scope, &subject, column, *every_us, per, *min_rows),
        Check::NoOverlap { from, to, per } => no_overlap(scope, &subject, from, to, per),
        Check::RowCount { min, max, per } => {
            let bound = |value: &Option<u64>| value.map(|value| value.to_string());
            let conditions = bounds_sql("count(*)", bound(min), bound(max), None);
            let columns = scope.columns(table, per)?;
            Some(aggregate(
                &subject,
                "count(*)",
                "rows",
                &names(columns),
                &conditions,
            ))
        }
        Check::Aggregate {
            sql,
            min,
            max,
            equals,
            per,
        } => {
            let fragment = scope.fragment(table, sql)?;
            let value = fragment.wrapped();
            let text =
                |bound: &Option<Spanned<String>>| bound.as_ref().map(|bound| bound.value.clone());
            let conditions = bounds_sql(&value, text(min), text(max), text(equals));
            let columns = scope.columns(table, per)?;
            Some(aggregate(
                &subject,
                &value,
                "value",
                &names(columns),
                &conditions,
            ))
        }
        Check::Fresh {
            column,
            max_age_us,
            per,
        } => fresh(scope, &subject, column, *max_age_us, per),
        Check::Balance { .. } | Check::SameRows { .. } => {
            super::compare::compile(scope, &subject, rule)
        }
        other => unreachable!("{} is compiled elsewhere", other.kind()),
    }
}

pub(super) fn names(columns: Vec<&Column>) -> Vec<String> {
    columns
        .into_iter()
        .map(|column| column.name.clone())
        .collect()
}

pub(super) fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn any_of(conditions: impl Iterator<Item = String>) -> String {
    conditions.collect::<Vec<_>>().join(" OR ")
}

/// True for types whose values are text in the engine.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text
            | DataType::Varchar(_)
            | DataType::Char(_)
            | DataType::Uuid
            | DataType::Json
            | DataType::Jsonb
            | DataType::Enum { .. }
            | DataType::Other(_)
    )
}

fn as_text(column: &str, data_type: &DataType) -> String {
    if is_text(data_type) {
        column.to_owned()
    } else {
        format!("CAST({column} AS text)")
    }
}

fn empty(subject: &Subject<'_>, column: &Column) -> String {
    let name = subject.column(&column.name);
    match &column.data_type {
        data_type if is_text(data_type) => {
            format!("{name} IS NULL OR NOT regexp_like({name}, '\\S')")
        }
        DataType::Bytea => format!("{name} IS NULL OR octet_length({name}) = 0"),
        DataType::Array(_) => format!("{name} IS NULL OR coalesce(cardinality({name}), 0) = 0"),
        _ => format!("{name} IS NULL"),
    }
}

fn completeness(subject: &Subject<'_>, column: &str, min_percent: &Spanned<String>) -> Compiled {
    let sql = format!(
        "SELECT count(*) AS \"rows\", count(*) - count({column}) AS \"missing\" FROM {}{} \
         HAVING count({column}) * 100 < {} * count(*)",
        read(subject.table),
        subject.where_clause(),
        min_percent.value
    );
    subject.grouped(sql, Vec::new(), &["rows", "missing"])
}

fn unique(subject: &Subject<'_>, columns: &[String]) -> Compiled {
    let list = columns
        .iter()
        .map(|name| subject.column(name))
        .collect::<Vec<_>>()
        .join(", ");
    let present: Vec<String> = columns
        .iter()
        .map(|name| format!("{} IS NOT NULL", subject.column(name)))
        .collect();
    let mut conditions: Vec<String> = subject.filter.iter().map(Fragment::wrapped).collect();
    conditions.extend(present);
    let impact = subject.impact.as_ref();
    let impact_sql = impact.map_or_else(String::new, |impact| {
        format!(", sum({}) AS {}", impact.wrapped(), quote(IMPACT))
    });
    let from = format!("{} WHERE {}", read(subject.table), conditions.join(" AND "));
    let count = free_name("count", columns, &[]);
    let sql = format!(
        "SELECT {list}, count(*) AS {}{impact_sql} FROM {from} GROUP BY {list} HAVING count(*) > 1",
        quote(&count)
    );
    let mut compiled = subject.grouped(sql, columns.to_vec(), &[&count]);
    compiled.impact = impact.is_some();
    let rows: Vec<String> = subject
        .key
        .iter()
        .map(|name| subject.column(name))
        .collect();
    if subject.key != columns {
        let aliased: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(at, row)| format!("{row} AS \"_row{at}\""))
            .collect();
        compiled.members = Some(super::Members {
            sql: format!("SELECT {list}, {} FROM {from}", aliased.join(", ")),
            columns: subject.key.clone(),
        });
    }
    compiled
}

fn values_check<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    values: &[Spanned<Literal>],
    operator: &str,
) -> Option<Compiled> {
    let column = scope.column(subject.table, column)?;
    let given = values.iter().filter(|value| value.value != Literal::Null);
    let list: Vec<_> = given.map(|value| scope.literal(value, column)).collect();
    let list: Vec<String> = list.into_iter().collect::<Option<_>>()?;
    let name = subject.column(&column.name);
    let condition = match (list.is_empty(), operator) {
        (true, "IN") => "false".to_owned(),
        (true, _) => format!("{name} IS NOT NULL"),
        (false, _) => format!("{name} {operator} ({})", list.join(", ")),
    };
    Some(subject.rows(&[&column.name], &condition))
}

fn range<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    bounds: &Bounds,
    exclusive: Exclusive,
) -> Option<Compiled> {
    let column = scope.column(subject.table, column)?;
    let name = subject.column(&column.name);
    let mut conditions = Vec::new();
    if let Some(min) = &bounds.min {
        let operator = if matches!(exclusive, Exclusive::Min | Exclusive::Both) {
            "<="
        } else {
            "<"
        };
        conditions.push(format!(
            "{name} {operator} {}",
            bound_literal(scope, min, column)?
        ));
    }
    if let Some(max) = &bounds.max {
        let operator = if matches!(exclusive, Exclusive::Max | Exclusive::Both) {
            ">="
        } else {
            ">"
        };
        conditions.push(format!(
            "{name} {operator} {}",
            bound_literal(scope, max, column)?
        ));
    }
    Some(subject.rows(&[&column.name], &conditions.join(" OR ")))
}

/// A bound of a range: for numbers any decimal will do, whatever the column's precision.
fn bound_literal(
    scope: &mut Scope<'_>,
    literal: &Spanned<Literal>,
    column: &Column,
) -> Option<String> {
    let numeric = matches!(
        column.data_type,
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Numeric { .. }
    );
    if let (true, Literal::Number(text) | Literal::Text(text)) = (numeric, &literal.value) {
        let anything = DataType::Numeric {
            precision_scale: None,
        };
        if let Some(sql) = literal_sql(text, &anything) {
            return Some(sql);
        }
    }
    scope.literal(literal, column)
}

fn length<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    min: Option<u64>,
    max: Option<u64>,
) -> Option<Compiled> {
    let column = scope.column(subject.table, column)?;
    let name = subject.column(&column.name);
    let size = match &column.data_type {
        DataType::Bytea => format!("octet_length({name})"),
        DataType::Array(_) => format!("coalesce(cardinality({name}), 0)"),
        data_type => format!("character_length({})", as_text(&name, data_type)),
    };
    let text = |bound: Option<u64>| bound.map(|bound| bound.to_string());
    let outside = bounds_sql(&size, text(min), text(max), None);
    Some(subject.rows(
        &[&column.name],
        &format!("{name} IS NOT NULL AND ({outside})"),
    ))
}

fn formatted(subject: &Subject<'_>, column: &Column, format: Format) -> String {
    let value = as_text(&subject.column(&column.name), &column.data_type);
    format!("NOT has_format({value}, {})", quote_text(format.as_str()))
}

/// `value < min OR value > max OR value <> equals`.
fn bounds_sql(
    value: &str,
    min: Option<String>,
    max: Option<String>,
    equals: Option<String>,
) -> String {
    let side = |operator: &str, bound: Option<String>| {
        bound.map(|bound| format!("{value} {operator} ({bound})"))
    };
    [side("<", min), side(">", max), side("<>", equals)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" OR ")
}

fn references<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    columns: &[ColumnRef],
    to: &TableRef,
    to_columns: &[ColumnRef],
) -> Option<Compiled> {
    let own = scope.columns(subject.table, columns);
    let target = scope.table(to)?;
    let own = names(own?);
    let theirs = if to_columns.is_empty() {
        target.primary_key_names()
    } else {
        names(scope.columns(target, to_columns)?)
    };
    if theirs.len() != own.len() {
        let message = format!(
            "{} column(s) refer to {} column(s) of `{}`",
            own.len(),
            theirs.len(),
            target.name.short()
        );
        scope.error(
            &to.span,
            message,
            "name as many columns on both sides: `to: {table: customers, columns: [id]}`",
        );
        return None;
    }
    let pairs: Vec<String> = own
        .iter()
        .zip(&theirs)
        .map(|(a, b)| format!("\"_to\".{} = {}", quote(b), subject.column(a)))
        .collect();
    let present: Vec<String> = own
        .iter()
        .map(|name| format!("{} IS NOT NULL", subject.column(name)))
        .collect();
    let condition = format!(
        "{} AND NOT EXISTS (SELECT 1 FROM {}.{} AS \"_to\" WHERE {})",
        present.join(" AND "),
        quote(&target.name.schema),
        quote(&target.name.name),
        pairs.join(" AND ")
    );
    Some(subject.rows(&refs(&own), &condition))
}

/// The columns of a match: on the other side, on the subject.
pub(super) fn match_columns<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    other: &'a Table,
    matching: &Match,
) -> Option<Vec<(String, String)>> {
    let pairs: Vec<_> = matching
        .iter()
        .map(|(theirs, own)| {
            (
                scope.column(other, theirs),
                scope.column(subject.table, own),
            )
        })
        .collect();
    pairs
        .into_iter()
        .map(|(theirs, own)| Some((theirs?.name.clone(), own?.name.clone())))
        .collect()
}

fn has<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    (child, matching, filter): (&TableRef, &Match, Option<&Sql>),
    min: u64,
    max: Option<u64>,
) -> Option<Compiled> {
    let child = scope.table(child)?;
    let filter = scope.optional_fragment(child, filter);
    let pairs = match_columns(scope, subject, child, matching)?;
    let child_filter =
        filter?.map_or_else(String::new, |filter| format!(" WHERE {}", filter.wrapped()));
    let own: Vec<String> = pairs.iter().map(|(_, own)| own.clone()).collect();
    let theirs: Vec<String> = pairs
        .iter()
        .enumerate()
        .map(|(at, (theirs, _))| format!("{} AS \"_m{at}\"", quote(theirs)))
        .collect();
    let children = format!(
        "SELECT {} FROM {}{child_filter}",
        theirs.join(", "),
        read(child)
    );
    if (min, max) == (1, None) || (min, max) == (0, Some(0)) {
        let on: Vec<String> = own
            .iter()
            .enumerate()
            .map(|(at, own)| format!("\"_child\".\"_m{at}\" = {}", subject.column(own)))
            .collect();
        let not = if min == 1 { "NOT " } else { "" };
        let condition = format!(
            "{not}EXISTS (SELECT 1 FROM ({children}) AS \"_child\" WHERE {})",
            on.join(" AND ")
        );
        return Some(subject.rows(&refs(&own), &condition));
    }
    let evidence = subject.evidence(&refs(&own));
    let mut columns: Vec<String> = subject.key.iter().chain(&evidence).cloned().collect();
    columns.extend(
        own.iter()
            .filter(|name| !subject.key.contains(name) && !evidence.contains(name))
            .cloned(),
    );
    let group: Vec<String> = (0..own.len()).map(|at| format!("\"_m{at}\"")).collect();
    let on: Vec<String> = own
        .iter()
        .enumerate()
        .map(|(at, own)| format!("\"_child\".\"_m{at}\" = {}", subject.column(own)))
        .collect();
    let found = "coalesce(\"_child\".\"_n\", 0)";
    let mut select: Vec<String> = subject
        .key
        .iter()
        .chain(&evidence)
        .map(|name| subject.column(name))
        .collect();
    let found_name = free_name("found", &subject.key, &evidence);
    select.push(format!("{found} AS {}", quote(&found_name)));
    select.extend(subject.impact_column());
    let outside = bounds_sql(
        found,
        (min > 0).then(|| min.to_string()),
        max.map(|max| max.to_string()),
        None,
    );
    let sql = format!(
        "SELECT {} FROM {} LEFT JOIN (SELECT {group}, count(*) AS \"_n\" FROM ({children}) AS \"_c\" GROUP BY {group}) \
         AS \"_child\" ON {} WHERE {}",
        select.join(", "),
        subject.derived(&columns, &[]),
        on.join(" AND "),
        if outside.is_empty() {
            "false"
        } else {
            &outside
        },
        group = group.join(", "),
    );
    let mut evidence = evidence;
    evidence.push(found_name);
    Some(subject.compiled(sql, evidence))
}

/// A name for a computed column that no other output column has.
pub(super) fn free_name(wanted: &str, key: &[String], evidence: &[String]) -> String {
    let mut name = wanted.to_owned();
    while key.contains(&name) || evidence.contains(&name) {
        name.push('_');
    }
    name
}

fn aggregate(
    subject: &Subject<'_>,
    value: &str,
    shown: &str,
    groups: &[String],
    outside: &str,
) -> Compiled {
    let shown = free_name(shown, groups, &[]);
    let select: String = groups
        .iter()
        .map(|group| format!("{}, ", subject.column(group)))
        .collect();
    let group = if groups.is_empty() {
        String::new()
    } else {
        format!(" GROUP BY {}", select.trim_end_matches(", "))
    };
    let sql = format!(
        "SELECT {select}{value} AS {} FROM {}{}{group} HAVING {outside}",
        quote(&shown),
        read(subject.table),
        subject.where_clause(),
    );
    subject.grouped(sql, groups.to_vec(), &[&shown])
}

fn fresh<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    max_age_us: i64,
    per: &[ColumnRef],
) -> Option<Compiled> {
    let column = time_column(scope, subject.table, column, "fresh")?;
    let groups = names(scope.columns(subject.table, per)?);
    let latest = format!("max({})", subject.column(&column.name));
    let now = "CAST(arrow_cast(now(), 'Timestamp(Microsecond, None)') AS bigint)";
    let outside = format!(
        "{now} - {} > {max_age_us}",
        micros(&latest, &column.data_type)
    );
    Some(aggregate(subject, &latest, "latest", &groups, &outside))
}
