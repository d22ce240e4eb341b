//! SQL of the checks that look at rows in order: numbers, times, ranges.

use super::scope::{Fragment, Scope, quote, read};
use super::state_checks::{free_name, names, refs};
use super::subject::Subject;
use super::{Compiled, Expand, IMPACT};
use crate::rule::ColumnRef;
use crate::schema::{Column, DataType, Table};

pub(super) fn sequence<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    per: &[ColumnRef],
    step: i64,
    from: Option<i64>,
) -> Option<Compiled> {
    let span = &column.span;
    let column = scope.column(subject.table, column)?;
    let groups = names(scope.columns(subject.table, per)?);
    let whole = matches!(
        column.data_type,
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Numeric { .. }
    );
    if !whole {
        let message = format!(
            "`sequence` needs a column of whole numbers, `{}` is {}",
            column.name, column.data_type
        );
        scope.error(span, message, "name an integer column");
        return None;
    }
    let name = subject.column(&column.name);
    let mut conditions: Vec<String> = subject.filter.iter().map(Fragment::wrapped).collect();
    conditions.push(format!("{name} IS NOT NULL"));
    conditions.extend(from.map(|from| format!("{name} >= ({from})")));
    if matches!(column.data_type, DataType::Numeric { .. }) {
        // A fraction is no number of the sequence, and must not be rounded to one.
        conditions.push(format!("CAST({name} AS bigint) = {name}"));
    }
    let list: String = groups
        .iter()
        .map(|group| format!("{}, ", subject.column(group)))
        .collect();
    let outer: String = groups
        .iter()
        .map(|group| format!("{}, ", quote(group)))
        .collect();
    let partition = if groups.is_empty() {
        String::new()
    } else {
        format!("PARTITION BY {} ", outer.trim_end_matches(", "))
    };
    let start = from.map_or_else(
        || format!("min(\"_next\") OVER ({})", partition.trim_end()),
        |from| format!("CAST(({from}) AS bigint)"),
    );
    let previous = format!("lag(\"_next\") OVER ({partition}ORDER BY \"_next\")");
    // `from` itself may be missing: then the gap begins with it.
    let at_start = from.map_or(String::new(), |from| {
        format!(" OR (\"_previous\" IS NULL AND \"_next\" > ({from}))")
    });
    let sql = format!(
        "SELECT {outer}\"_previous\", \"_next\", \"_start\" FROM (SELECT {outer}\"_next\", {previous} AS \"_previous\", \
         {start} AS \"_start\" FROM (SELECT DISTINCT {list}CAST({name} AS bigint) AS \"_next\" FROM {} WHERE {}) AS \"_values\") \
         AS \"_gaps\" WHERE \"_next\" > \"_previous\" + 1{at_start}",
        read(subject.table),
        conditions.join(" AND ")
    );
    let mut compiled = subject.grouped(sql, groups, &["_previous", "_next", "_start"]);
    compiled.expand = Expand::Sequence {
        column: column.name.clone(),
        step,
    };
    Some(compiled)
}

/// A date or timestamp as whole microseconds since the epoch.
pub(super) fn micros(column: &str, data_type: &DataType) -> String {
    let stamp = match data_type {
        DataType::TimestampTz | DataType::Timestamp => column.to_owned(),
        _ => format!("CAST({column} AS timestamp)"),
    };
    format!("CAST(arrow_cast({stamp}, 'Timestamp(Microsecond, None)') AS bigint)")
}

pub(super) fn time_column<'a>(
    scope: &mut Scope<'a>,
    table: &'a Table,
    column: &ColumnRef,
    kind: &str,
) -> Option<&'a Column> {
    let found = scope.column(table, column)?;
    if matches!(
        found.data_type,
        DataType::Timestamp | DataType::TimestampTz | DataType::Date
    ) {
        return Some(found);
    }
    let message = format!(
        "`{kind}` needs a date or timestamp, `{}` is {}",
        found.name, found.data_type
    );
    scope.error(&column.span, message, "name a timestamp column");
    None
}

pub(super) fn window_gap<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    column: &ColumnRef,
    every_us: i64,
    per: &[ColumnRef],
    min_rows: u64,
) -> Option<Compiled> {
    let column = time_column(scope, subject.table, column, "window_gap")?;
    let groups = names(scope.columns(subject.table, per)?);
    let name = subject.column(&column.name);
    let mut conditions: Vec<String> = subject.filter.iter().map(Fragment::wrapped).collect();
    conditions.push(format!("{name} IS NOT NULL"));
    let list: String = groups
        .iter()
        .map(|group| format!("{}, ", quote(group)))
        .collect();
    let qualified: String = groups
        .iter()
        .map(|group| format!("{}, ", subject.column(group)))
        .collect();
    let partition = if groups.is_empty() {
        String::new()
    } else {
        format!("PARTITION BY {} ", list.trim_end_matches(", "))
    };
    // Floor division: times before the epoch belong to the window that starts before them.
    let start = format!("\"_us\" - ((\"_us\" % {every_us}) + {every_us}) % {every_us}");
    let now = "CAST(arrow_cast(now(), 'Timestamp(Microsecond, None)') AS bigint)";
    let end = format!("({now} - (({now} % {every_us}) + {every_us}) % {every_us})");
    let sql = format!(
        "SELECT {list}\"_window\", \"_rows\", \"_until\" FROM (SELECT {list}\"_window\", \"_rows\", \
         least(coalesce(lead(\"_window\") OVER ({partition}ORDER BY \"_window\"), {end}), {end}) AS \"_until\" \
         FROM (SELECT {list}\"_window\", count(*) AS \"_rows\" FROM (SELECT {list}{start} AS \"_window\" FROM \
         (SELECT {qualified}{} AS \"_us\" FROM {} WHERE {}) AS \"_t\") AS \"_w\" GROUP BY {list}\"_window\") AS \"_c\") AS \"_g\" \
         WHERE (\"_rows\" < {min_rows} AND \"_window\" + {every_us} <= {now}) OR \"_until\" - \"_window\" > {every_us}",
        micros(&name, &column.data_type),
        read(subject.table),
        conditions.join(" AND ")
    );
    let mut compiled = subject.grouped(sql, groups, &["_window", "_rows", "_until"]);
    let zoned = column.data_type == DataType::TimestampTz;
    compiled.expand = Expand::Windows {
        every_us,
        min_rows,
        zoned,
    };
    Some(compiled)
}

pub(super) fn no_overlap<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    from: &ColumnRef,
    to: &ColumnRef,
    per: &[ColumnRef],
) -> Option<Compiled> {
    let from = scope.column(subject.table, from);
    let to = scope.column(subject.table, to);
    let groups = names(scope.columns(subject.table, per)?);
    let (from, to) = (from?.name.clone(), to?.name.clone());
    let mut shown = vec![from.clone(), to.clone()];
    shown.extend(groups.iter().cloned());
    let evidence = subject.evidence(&refs(&shown));
    let mut columns: Vec<String> = subject.key.iter().chain(&evidence).cloned().collect();
    columns.extend(
        shown
            .iter()
            .filter(|name| !subject.key.contains(name) && !evidence.contains(name))
            .cloned(),
    );
    let [latest, open, before] =
        ["_latest", "_open", "_before"].map(|name| quote(&free_name(name, &columns, &[])));
    let (start, end) = (subject.column(&from), subject.column(&to));
    let partition: String = if groups.is_empty() {
        String::new()
    } else {
        format!(
            "PARTITION BY {} ",
            groups
                .iter()
                .map(|g| subject.column(g))
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    let order: String = subject
        .key
        .iter()
        .map(|key| format!(", {} ASC NULLS LAST", subject.column(key)))
        .collect();
    let window = format!(
        "({partition}ORDER BY {start} ASC NULLS FIRST{order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    );
    let mut select: Vec<String> = columns.iter().map(|name| subject.column(name)).collect();
    select.extend(subject.impact_column());
    let mut output: Vec<String> = subject
        .key
        .iter()
        .chain(&evidence)
        .map(|name| quote(name))
        .collect();
    if subject.impact.is_some() {
        output.push(quote(IMPACT));
    }
    let inner = format!(
        "SELECT {}, max({end}) OVER {window} AS {latest}, \
         max(CASE WHEN {end} IS NULL THEN 1 ELSE 0 END) OVER {window} AS {open}, count(*) OVER {window} AS {before} \
         FROM {} WHERE {start} IS NULL OR {end} IS NULL OR {start} < {end}",
        select.join(", "),
        subject.derived(&columns, &[]),
    );
    let sql = format!(
        "SELECT {} FROM ({inner}) AS \"_ranges\" WHERE {before} > 0 AND ({open} = 1 OR {from} IS NULL OR {latest} > {from})",
        output.join(", "),
        from = quote(&from),
    );
    Some(subject.compiled(sql, evidence))
}
