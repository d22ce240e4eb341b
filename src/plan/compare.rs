//! SQL of the checks that compare two sides: a stored figure with its parts, a table with its copy.

use super::scope::{Scope, quote, read};
use super::sides::Sides;
use super::state_checks::{free_name, match_columns, names};
use super::subject::Subject;
use super::{Compiled, Expand, IMPACT};
use crate::rule::{Check, ColumnRef, Match, Rule, Spanned, Sql, TableRef};

pub(super) fn compile<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    rule: &Rule,
) -> Option<Compiled> {
    match &rule.check {
        Check::Balance {
            left,
            right,
            matching,
            per,
            filter,
            tolerance,
        } => {
            let sides = Sides::new(scope, subject, left, right, filter.as_ref())?;
            match matching {
                Some(matching) => {
                    by_match(scope, subject, &sides, left, matching, &tolerance.value)
                }
                None => by_group(scope, subject, &sides, left, per, &tolerance.value),
            }
        }
        Check::SameRows {
            other,
            matching,
            columns,
            tolerance,
        } => same_rows(
            scope,
            subject,
            other,
            matching,
            columns.as_deref(),
            tolerance,
        ),
        other => unreachable!("{} compares nothing", other.kind()),
    }
}

fn differs(left: &str, right: &str, tolerance: &str) -> String {
    if tolerance == "0" {
        format!("{left} <> {right}")
    } else {
        format!("abs({left} - {right}) > {tolerance}")
    }
}

/// A whole and its parts: each row of the subject (or each group of it) against the parts that match it.
fn by_match<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    sides: &Sides<'a>,
    left: &Sql,
    matching: &Match,
    tolerance: &str,
) -> Option<Compiled> {
    let pairs = match_columns(scope, subject, sides.right_table, matching)?;
    let own: Vec<String> = pairs.iter().map(|(_, own)| own.clone()).collect();
    let theirs: Vec<String> = pairs.iter().map(|(theirs, _)| theirs.clone()).collect();
    let parts = parts(sides, &theirs);
    let on: Vec<String> = own
        .iter()
        .enumerate()
        .map(|(at, own)| format!("\"_part\".\"_m{at}\" = {}", subject.column(own)))
        .collect();
    let right = sides.right.joined("\"_part\".\"_right\"");
    let left_value = subject.column("_left");
    let grouped = sides.left_figure.is_some();
    let key = if grouped {
        own.clone()
    } else {
        subject.key.clone()
    };
    let left_name = match &sides.left.columns[..] {
        [only] if !grouped && only.eq_ignore_ascii_case(left.value.trim()) => only.clone(),
        _ => "left".to_owned(),
    };
    let left_name = free_name(&left_name, &key, &[]);
    let evidence: Vec<String> = if grouped {
        Vec::new()
    } else {
        subject.evidence(&[])
    };
    let evidence: Vec<String> = evidence
        .into_iter()
        .filter(|name| *name != left_name)
        .collect();
    let right_name = free_name("parts", &key, &evidence);
    let whole = if grouped {
        let group: Vec<String> = own.iter().map(|name| quote(name)).collect();
        let filter = subject
            .filter
            .as_ref()
            .map_or_else(String::new, |f| format!(" WHERE {}", f.wrapped()));
        format!(
            "(SELECT {group}, {} AS \"_left\" FROM {}{filter} GROUP BY {group}) AS {}",
            sides.left.wrapped(),
            read(subject.table),
            subject.alias,
            group = group.join(", "),
        )
    } else {
        let mut columns: Vec<String> = key.iter().chain(&evidence).cloned().collect();
        columns.extend(
            own.iter()
                .filter(|name| !key.contains(name) && !evidence.contains(name))
                .cloned(),
        );
        subject.derived(
            &columns,
            &[format!("{} AS \"_left\"", sides.left.wrapped())],
        )
    };
    let mut select: Vec<String> = key
        .iter()
        .chain(&evidence)
        .map(|name| subject.column(name))
        .collect();
    select.push(format!("{left_value} AS {}", quote(&left_name)));
    select.push(format!("{right} AS {}", quote(&right_name)));
    let impact = subject.impact.is_some() && !grouped;
    if impact {
        select.push(subject.column(IMPACT));
    }
    let sql = format!(
        "SELECT {} FROM {whole} LEFT JOIN ({parts}) AS \"_part\" ON {} WHERE {left_value} IS NOT NULL AND {}",
        select.join(", "),
        on.join(" AND "),
        differs(&left_value, &right, tolerance),
    );
    let mut evidence = evidence;
    evidence.extend([left_name, right_name]);
    Some(Compiled {
        key,
        evidence,
        sql,
        judged: subject.judged(),
        impact,
        expand: Expand::None,
        members: None,
    })
}

/// The parts of a balance, grouped by the columns that match them to a whole.
fn parts(sides: &Sides<'_>, theirs: &[String]) -> String {
    let columns: Vec<String> = theirs
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{} AS \"_m{at}\"", quote(name)))
        .collect();
    let group: Vec<String> = theirs.iter().map(|name| quote(name)).collect();
    format!(
        "SELECT {}, {} AS \"_right\" FROM {}{} GROUP BY {}",
        columns.join(", "),
        sides.right.filled,
        read(sides.right_table),
        sides.right_where(),
        group.join(", "),
    )
}

/// Both sides grouped by the same columns; a group on one side only counts as 0 on the other.
fn by_group<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    sides: &Sides<'a>,
    left: &Sql,
    per: &[ColumnRef],
    tolerance: &str,
) -> Option<Compiled> {
    let own = scope.columns(subject.table, per);
    let theirs = scope.columns(sides.right_table, per);
    let groups = names(own?);
    theirs?;
    let Some(left_figure) = &sides.left_figure else {
        scope.error(
            &left.span,
            "with `per`, the left side of `balance` must be an aggregate too",
            "write e.g. `sum(total)`",
        );
        return None;
    };
    let list: String = groups
        .iter()
        .map(|name| format!("{}, ", quote(name)))
        .collect();
    let by = if groups.is_empty() {
        String::new()
    } else {
        format!(" GROUP BY {}", list.trim_end_matches(", "))
    };
    let left_where = subject
        .filter
        .as_ref()
        .map_or_else(String::new, |f| format!(" WHERE {}", f.wrapped()));
    // One row a side and group; the outer maxima only bring the two together.
    let union = format!(
        "SELECT {list}{} AS \"_left\", NULL AS \"_right\", 1 AS \"_has_left\", NULL AS \"_has_right\" FROM {}{left_where}{by} \
         UNION ALL SELECT {list}NULL, {}, NULL, 1 FROM {}{}{by}",
        left_figure.raw,
        read(subject.table),
        sides.right.filled,
        read(sides.right_table),
        sides.right_where(),
    );
    let left_value = if left_figure.additive && groups.is_empty() {
        "coalesce(max(\"_left\"), 0)".to_owned()
    } else {
        "CASE WHEN max(\"_has_left\") IS NULL THEN 0 ELSE max(\"_left\") END".to_owned()
    };
    let right_value = if sides.right.additive {
        "coalesce(max(\"_right\"), 0)".to_owned()
    } else {
        "CASE WHEN max(\"_has_right\") IS NULL THEN 0 ELSE max(\"_right\") END".to_owned()
    };
    let left_name = free_name("left", &groups, &[]);
    let right_name = free_name("right", &groups, &[]);
    let sql = format!(
        "SELECT {list}\"_l\" AS {}, \"_r\" AS {} FROM (SELECT {list}{left_value} AS \"_l\", {right_value} AS \"_r\" \
         FROM ({union}) AS \"_sides\"{by}) AS \"_both\" WHERE {}",
        quote(&left_name),
        quote(&right_name),
        differs("\"_l\"", "\"_r\"", tolerance),
    );
    Some(Compiled {
        key: groups,
        evidence: vec![left_name, right_name],
        sql,
        judged: subject.judged(),
        impact: false,
        expand: Expand::None,
        members: None,
    })
}

/// A table and its copy: rows on one side only, and rows that differ.
fn same_rows<'a>(
    scope: &mut Scope<'a>,
    subject: &Subject<'a>,
    other: &TableRef,
    matching: &Match,
    columns: Option<&[ColumnRef]>,
    tolerance: &Spanned<String>,
) -> Option<Compiled> {
    let other = scope.table(other)?;
    let pairs = match_columns(scope, subject, other, matching)?;
    let compared: Vec<String> = match columns {
        Some(columns) => {
            let own = scope.columns(subject.table, columns);
            let theirs = scope.columns(other, columns);
            theirs?;
            names(own?)
        }
        None => {
            let common = subject
                .table
                .columns
                .iter()
                .filter(|column| other.column(&column.name).is_some());
            common.map(|column| column.name.clone()).collect()
        }
    };
    let key: Vec<String> = pairs.iter().map(|(_, own)| own.clone()).collect();
    let compared: Vec<String> = compared
        .into_iter()
        .filter(|name| !key.contains(name))
        .collect();
    let own_select: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{} AS \"_k{at}\"", quote(name)))
        .chain(
            compared
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{} AS \"_a{at}\"", quote(name))),
        )
        .chain(["1 AS \"_here\"".to_owned()])
        .collect();
    let their_select: Vec<String> = pairs
        .iter()
        .enumerate()
        .map(|(at, (name, _))| format!("{} AS \"_j{at}\"", quote(name)))
        .chain(
            compared
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{} AS \"_b{at}\"", quote(name))),
        )
        .chain(["1 AS \"_there\"".to_owned()])
        .collect();
    let filter = subject
        .filter
        .as_ref()
        .map_or_else(String::new, |f| format!(" WHERE {}", f.wrapped()));
    let on: Vec<String> = (0..key.len())
        .map(|at| format!("(\"_own\".\"_k{at}\" IS NOT DISTINCT FROM \"_other\".\"_j{at}\")"))
        .collect();
    let mut different = vec![
        "\"_here\" IS NULL".to_owned(),
        "\"_there\" IS NULL".to_owned(),
    ];
    different.extend(compared.iter().enumerate().map(|(at, name)| {
        let number = subject
            .table
            .column(name)
            .is_some_and(|column| column.data_type.is_number());
        let (a, b) = (format!("\"_a{at}\""), format!("\"_b{at}\""));
        if number && tolerance.value != "0" {
            format!(
                "({a} IS NULL) <> ({b} IS NULL) OR abs({a} - {b}) > {}",
                tolerance.value
            )
        } else {
            format!("({a} IS DISTINCT FROM {b})")
        }
    }));
    let mut output: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(at, name)| {
            format!(
                "CASE WHEN \"_here\" IS NULL THEN \"_j{at}\" ELSE \"_k{at}\" END AS {}",
                quote(name)
            )
        })
        .collect();
    let missing = free_name("missing_in", &key, &[]);
    output.push(format!(
        "CASE WHEN \"_here\" IS NULL THEN {} WHEN \"_there\" IS NULL THEN {} END AS {}",
        super::scope::quote_text(&subject.table.name.short()),
        super::scope::quote_text(&other.name.short()),
        quote(&missing),
    ));
    let mut evidence = vec![missing];
    for (at, name) in compared.iter().enumerate() {
        for (side, table) in [("a", subject.table), ("b", other)] {
            let shown = free_name(&format!("{}.{name}", table.name.short()), &key, &evidence);
            output.push(format!("\"_{side}{at}\" AS {}", quote(&shown)));
            evidence.push(shown);
        }
    }
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {}{filter}) AS \"_own\" FULL JOIN (SELECT {} FROM {}) AS \"_other\" ON {} WHERE {}",
        output.join(", "),
        own_select.join(", "),
        read(subject.table),
        their_select.join(", "),
        read(other),
        on.join(" AND "),
        different.join(" OR "),
    );
    Some(Compiled {
        key,
        evidence,
        sql,
        judged: subject.judged(),
        impact: false,
        expand: Expand::None,
        members: None,
    })
}
