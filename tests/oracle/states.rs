//! The oracle for checks of states: what each kind of CONTRACT section 3 finds, in loops over rows.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use firstbad::rule::{Check, Exclusive, Literal, Rule, Spanned};

use crate::fragments::{Aggregate, R, Ratio, compare, condition, has_format, pattern};
use crate::judge::{Context, Found, Key, Wrong};
use crate::sides;
use crate::value::{UNIT, V, millionths};
use crate::world::{self, Row, columns, data_type, primary_key, project, table_index};

/// The subject of a rule at one state.
pub(crate) struct Subject<'a> {
    pub(crate) table: usize,
    /// Rows after `where`.
    pub(crate) rows: Vec<R<'a>>,
    pub(crate) key: Vec<String>,
}

pub(crate) fn key_names(rule: &Rule, table: usize) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match &rule.key {
        Some(key) => key.iter().map(|column| column.value.clone()).collect(),
        None if primary_key(table).is_empty() => owned(&columns(table)),
        None => owned(primary_key(table)),
    }
}

pub(crate) fn subject<'a>(rule: &Rule, state: &'a world::World) -> Subject<'a> {
    let table = table_index(
        &rule
            .table
            .as_ref()
            .expect("random rules have a table")
            .value
            .name,
    );
    let filter = rule.filter.as_ref().map(|filter| condition(&filter.value));
    let all = state[table].iter().map(|row| R { table, row });
    let rows = all
        .filter(|row| filter.is_none_or(|filter| filter(*row) == Some(true)))
        .collect();
    Subject {
        table,
        rows,
        key: key_names(rule, table),
    }
}

pub(crate) fn texts<T: AsRef<str>>(names: &[Spanned<T>]) -> Vec<String> {
    names
        .iter()
        .map(|name| name.value.as_ref().to_owned())
        .collect()
}

/// A literal of a rule as a value to compare with a column's values.
pub(crate) fn literal(value: &Literal, column: &str) -> Option<V> {
    use firstbad::schema::DataType as T;
    let text = match value {
        Literal::Null => return None,
        Literal::Bool(value) => return Some(V::Bool(*value)),
        Literal::Number(text) | Literal::Text(text) => text,
    };
    let micros = || firstbad::schema::value::parse_timestamp(text).expect("a time");
    Some(match data_type(column) {
        T::Date => V::Date(i32::try_from(micros() / world::DAY).expect("a near date")),
        T::TimestampTz => V::Stamp(micros()),
        _ => V::Text(text.clone()),
    })
}

/// How a value compares with a literal; NULL does not.
fn against(value: &V, given: &Literal, column: &str) -> Option<Ordering> {
    if let (Some(number), Literal::Number(text) | Literal::Text(text)) = (as_number(value), given) {
        return Some(number.cmp(&millionths(text)));
    }
    compare(value, &literal(given, column)?)
}

pub(crate) fn as_number(value: &V) -> Option<i128> {
    matches!(value, V::Int(_) | V::Dec(_))
        .then(|| value.number())
        .flatten()
}

/// Whether a value is one of some literals; NULL is none of them.
pub(crate) fn is_among(value: &V, list: &[Spanned<Literal>], column: &str) -> bool {
    list.iter()
        .any(|one| against(value, &one.value, column) == Some(Ordering::Equal))
}

pub(crate) fn find(rule: &Rule, context: &Context<'_>) -> Found {
    let subject = subject(rule, context.state);
    let judged = subject.rows.len() as u64;
    let found = match &rule.check {
        Check::Unique { columns } => unique(&subject, &texts(columns), context.wrong),
        Check::Completeness {
            column,
            min_percent,
        } => completeness(&subject, &column.value, &min_percent.value),
        Check::Sequence {
            column,
            per,
            step,
            from,
        } => sequence(&subject, &column.value, texts(per), *step, *from),
        Check::WindowGap {
            column,
            every_us,
            per,
            min_rows,
        } => match context.now {
            Some(now) => window_gap(
                &subject,
                (&column.value, *every_us, *min_rows),
                texts(per),
                now,
            ),
            None => return Found::Unknown,
        },
        Check::Balance { .. } => sides::balance(rule, &subject, context),
        Check::SameRows {
            other,
            matching,
            columns,
            tolerance,
        } => {
            let pairs: Vec<(String, String)> = matching
                .iter()
                .map(|(theirs, own)| (theirs.value.clone(), own.value.clone()))
                .collect();
            let columns = columns.as_ref().map(|columns| texts(columns));
            sides::same_rows(
                &subject,
                context,
                &other.value.name,
                &pairs,
                columns,
                &tolerance.value,
            )
        }
        Check::NoOverlap { from, to, per } => {
            no_overlap(&subject, &from.value, &to.value, &texts(per))
        }
        Check::RowCount { min, max, per } => {
            let bound = |count: &Option<u64>| count.map(|count| i128::from(count) * UNIT);
            let rows = Aggregate::parse("count(*)").expect("an aggregate");
            bounded(&subject, &rows, texts(per), [bound(min), bound(max), None])
        }
        Check::Aggregate {
            sql,
            min,
            max,
            equals,
            per,
        } => {
            let bound =
                |text: &Option<Spanned<String>>| text.as_ref().map(|text| millionths(&text.value));
            let aggregate = Aggregate::parse(&sql.value).expect("an aggregate");
            bounded(
                &subject,
                &aggregate,
                texts(per),
                [bound(min), bound(max), bound(equals)],
            )
        }
        Check::Fresh {
            column,
            max_age_us,
            per,
        } => match context.now {
            Some(now) => fresh(&subject, &column.value, *max_age_us, texts(per), now),
            None => return Found::Unknown,
        },
        Check::SchemaShape { columns, strict } => shape(&subject, columns, *strict),
        check => {
            let bad = subject
                .rows
                .iter()
                .filter(|row| is_bad(check, **row, context));
            let keys = bad
                .map(|row| project(row.table, row.row, &subject.key))
                .collect();
            (subject.key.clone(), keys)
        }
    };
    Found::Keys {
        names: found.0,
        keys: found.1,
        judged,
    }
}

/// Checks that look at one row of the subject at a time.
fn is_bad(check: &Check, row: R<'_>, context: &Context<'_>) -> bool {
    match check {
        Check::NotNull { columns } => columns
            .iter()
            .any(|column| row.get(&column.value).is_null()),
        Check::NotEmpty { columns } => columns.iter().any(|column| match row.get(&column.value) {
            V::Null => true,
            V::Text(text) => text.chars().all(char::is_whitespace),
            _ => false,
        }),
        Check::AcceptedValues { column, values } => {
            let value = row.get(&column.value);
            !value.is_null() && !is_among(value, values, &column.value)
        }
        Check::RejectedValues { column, values } => {
            is_among(row.get(&column.value), values, &column.value)
        }
        Check::Range {
            column,
            bounds,
            exclusive,
        } => {
            let value = row.get(&column.value);
            let side = |bound: &Option<Spanned<Literal>>, wrong: Ordering, open: bool| {
                let order = bound
                    .as_ref()
                    .and_then(|bound| against(value, &bound.value, &column.value));
                order.is_some_and(|order| order == wrong || (open && order == Ordering::Equal))
            };
            let open_min = matches!(exclusive, Exclusive::Min | Exclusive::Both);
            let open_max = matches!(exclusive, Exclusive::Max | Exclusive::Both);
            // The deliberate mistake: a bound that is itself out of range.
            let open_max = open_max || context.wrong == Some(Wrong::RangeOffByOne);
            side(&bounds.min, Ordering::Less, open_min)
                || side(&bounds.max, Ordering::Greater, open_max)
        }
        Check::Length { column, min, max } => row.get(&column.value).text().is_some_and(|text| {
            let length = text.chars().count() as u64;
            min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max)
        }),
        Check::Pattern {
            column,
            pattern: text,
        } => row
            .get(&column.value)
            .text()
            .is_some_and(|value| !pattern(&text.value)(&value)),
        Check::Formatted { column, format } => row
            .get(&column.value)
            .text()
            .is_some_and(|value| !has_format(format.as_str(), &value)),
        Check::Expression { sql, strict } => match condition(&sql.value)(row) {
            Some(true) => false,
            Some(false) => true,
            None => *strict,
        },
        Check::References {
            columns,
            to,
            to_columns,
        } => {
            let target = table_index(&to.value.name);
            let own = project(row.table, row.row, &texts(columns));
            let theirs = if to_columns.is_empty() {
                primary_key(target)
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect()
            } else {
                texts(to_columns)
            };
            let there = |other: &Row| {
                let pairs = project(target, other, &theirs).into_iter().zip(&own);
                pairs
                    .into_iter()
                    .all(|(theirs, own)| compare(&theirs, own) == Some(Ordering::Equal))
            };
            !own.contains(&V::Null) && !context.state[target].iter().any(there)
        }
        Check::Has {
            table,
            matching,
            filter,
            min,
            max,
        } => {
            let count =
                children(row, context, &table.value.name, matching, filter.as_ref()).len() as u64;
            count < *min || max.is_some_and(|max| count > max)
        }
        Check::HasNo {
            table,
            matching,
            filter,
        } => !children(row, context, &table.value.name, matching, filter.as_ref()).is_empty(),
        other => unreachable!("{} is judged elsewhere", other.kind()),
    }
}

/// The rows of a table that match a row of the subject; NULL matches nothing.
fn children<'a>(
    row: R<'_>,
    context: &Context<'a>,
    table: &str,
    matching: &firstbad::rule::Match,
    filter: Option<&firstbad::rule::Sql>,
) -> Vec<R<'a>> {
    let table = table_index(table);
    let filter = filter.map(|filter| condition(&filter.value));
    let belongs = |child: &R<'_>| {
        let pair = |(theirs, own): &(Spanned<String>, Spanned<String>)| {
            compare(child.get(&theirs.value), row.get(&own.value)) == Some(Ordering::Equal)
        };
        filter.is_none_or(|filter| filter(*child) == Some(true)) && matching.iter().all(pair)
    };
    context.state[table]
        .iter()
        .map(|row| R { table, row })
        .filter(belongs)
        .collect()
}

/// The rows by group; without columns there is one group, with or without rows.
pub(crate) fn groups<'a>(rows: &[R<'a>], per: &[String]) -> BTreeMap<Row, Vec<R<'a>>> {
    let mut groups: BTreeMap<Row, Vec<R<'a>>> = BTreeMap::new();
    if per.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for row in rows {
        groups
            .entry(project(row.table, row.row, per))
            .or_default()
            .push(*row);
    }
    groups
}

/// The names of key columns, and the keys.
pub(crate) type Keys = (Vec<String>, BTreeSet<Key>);

fn unique(subject: &Subject<'_>, columns: &[String], wrong: Option<Wrong>) -> Keys {
    let groups = groups(&subject.rows, columns).into_iter();
    // The deliberate mistake: NULL counted as a duplicate of NULL.
    let compared = |key: &Row| wrong == Some(Wrong::NullIsDuplicate) || !key.contains(&V::Null);
    let bad = groups
        .filter(|(key, rows)| compared(key) && rows.len() > 1)
        .map(|(key, _)| key);
    (columns.to_vec(), bad.collect())
}

/// One violation of the whole table.
fn whole(bad: bool) -> Keys {
    (
        Vec::new(),
        if bad {
            BTreeSet::from([Vec::new()])
        } else {
            BTreeSet::new()
        },
    )
}

fn completeness(subject: &Subject<'_>, column: &str, min_percent: &str) -> Keys {
    let there = subject
        .rows
        .iter()
        .filter(|row| !row.get(column).is_null())
        .count() as i128;
    whole(there * 100 * UNIT < millionths(min_percent) * subject.rows.len() as i128)
}

fn sequence(
    subject: &Subject<'_>,
    column: &str,
    per: Vec<String>,
    step: i64,
    from: Option<i64>,
) -> Keys {
    let mut keys = BTreeSet::new();
    for (group, rows) in groups(&subject.rows, &per) {
        let number = |row: &R<'_>| match row.get(column) {
            V::Int(value) => Some(*value),
            _ => None,
        };
        let numbers: BTreeSet<i64> = rows.iter().filter_map(number).collect();
        let Some(start) = from.or(numbers.first().copied()) else {
            continue;
        };
        // A number between the steps is no step, but it may be the largest.
        let Some(largest) = numbers.last().copied().filter(|largest| *largest >= start) else {
            continue;
        };
        let mut next = start;
        while next < largest {
            if !numbers.contains(&next) {
                let mut key = group.clone();
                key.push(V::Int(next));
                keys.insert(key);
            }
            next += step;
        }
    }
    let mut names = per;
    names.push(column.to_owned());
    (names, keys)
}

fn window_gap(
    subject: &Subject<'_>,
    (column, every, min_rows): (&str, i64, u64),
    per: Vec<String>,
    now: i64,
) -> Keys {
    let mut keys = BTreeSet::new();
    let zoned = data_type(column) == firstbad::schema::DataType::TimestampTz;
    for (group, rows) in groups(&subject.rows, &per) {
        let times: Vec<i64> = rows
            .iter()
            .filter_map(|row| row.get(column).micros())
            .collect();
        let Some(first) = times.iter().min() else {
            continue;
        };
        let mut window = first.div_euclid(every) * every;
        while window + every <= now {
            let rows = times
                .iter()
                .filter(|time| (window..window + every).contains(time))
                .count() as u64;
            if rows < min_rows {
                let mut key = group.clone();
                key.push(if zoned {
                    V::Stamp(window)
                } else {
                    V::Local(window)
                });
                keys.insert(key);
            }
            window += every;
        }
    }
    let mut names = per;
    names.push("window".to_owned());
    (names, keys)
}

fn no_overlap(subject: &Subject<'_>, from: &str, to: &str, per: &[String]) -> Keys {
    let mut keys = BTreeSet::new();
    for (_, rows) in groups(&subject.rows, per) {
        // NULL begins before everything and ends behind everything.
        let start = |row: &R<'_>| (!row.get(from).is_null(), row.get(from).clone());
        let ends_after = |row: &R<'_>, other: &R<'_>| {
            row.get(to).is_null()
                || other.get(from).is_null()
                || compare(row.get(to), other.get(from)) == Some(Ordering::Greater)
        };
        let full = |row: &&R<'_>| {
            compare(row.get(from), row.get(to)).is_none_or(|order| order == Ordering::Less)
        };
        let mut ranges: Vec<&R<'_>> = rows.iter().filter(full).collect();
        ranges.sort_by_key(|row| (start(row), project(row.table, row.row, &subject.key)));
        for (at, later) in ranges.iter().enumerate() {
            if ranges[..at]
                .iter()
                .any(|earlier| ends_after(earlier, later))
            {
                keys.insert(project(later.table, later.row, &subject.key));
            }
        }
    }
    (subject.key.clone(), keys)
}

/// A figure of each group against `min`, `max` and `equals`.
fn bounded(
    subject: &Subject<'_>,
    aggregate: &Aggregate,
    per: Vec<String>,
    bounds: [Option<i128>; 3],
) -> Keys {
    let [min, max, equals] = bounds.map(|bound| bound.map(|bound| Ratio(bound, 1)));
    let outside = |rows: &[R<'_>]| {
        aggregate.over(rows).is_some_and(|value| {
            min.is_some_and(|min| value.compare(min) == Ordering::Less)
                || max.is_some_and(|max| value.compare(max) == Ordering::Greater)
                || equals.is_some_and(|equals| value.compare(equals) != Ordering::Equal)
        })
    };
    let bad = groups(&subject.rows, &per)
        .into_iter()
        .filter(|(_, rows)| outside(rows));
    let keys = bad.map(|(key, _)| key).collect();
    (per, keys)
}

fn fresh(subject: &Subject<'_>, column: &str, max_age: i64, per: Vec<String>, now: i64) -> Keys {
    let latest = |rows: &[R<'_>]| rows.iter().filter_map(|row| row.get(column).micros()).max();
    let bad = groups(&subject.rows, &per).into_iter();
    let bad = bad.filter(|(_, rows)| latest(rows).is_some_and(|latest| now - latest > max_age));
    let keys = bad.map(|(key, _)| key).collect();
    (per, keys)
}

/// The types of the tables under the names that people give them.
const TYPE_NAMES: [(&str, &[&str]); 6] = [
    ("integer", &["integer", "int", "int4"]),
    ("bigint", &["bigint", "int8"]),
    ("numeric", &["numeric(8,2)", "decimal(8, 2)"]),
    ("boolean", &["boolean", "bool"]),
    ("date", &["date"]),
    ("timestamptz", &["timestamptz", "timestamp with time zone"]),
];

/// Whether a column is of a type, by one of the type's names.
pub(crate) fn is_type(column: &str, name: &str) -> bool {
    use firstbad::schema::DataType as T;
    let own = match data_type(column) {
        T::Int32 => "integer",
        T::Int64 => "bigint",
        T::Numeric { .. } => "numeric",
        T::Bool => "boolean",
        T::Date => "date",
        T::TimestampTz => "timestamptz",
        _ => return name == "text",
    };
    TYPE_NAMES
        .iter()
        .any(|(canonical, names)| *canonical == own && names.contains(&name))
}

fn shape(
    subject: &Subject<'_>,
    wanted: &[(Spanned<String>, Spanned<String>)],
    strict: bool,
) -> Keys {
    let have = columns(subject.table);
    let wrong = |(column, name): &&(Spanned<String>, Spanned<String>)| {
        !have.contains(&column.value.as_str()) || !is_type(&column.value, &name.value)
    };
    let mut keys: BTreeSet<Key> = wanted
        .iter()
        .filter(wrong)
        .map(|(column, _)| vec![V::Text(column.value.clone())])
        .collect();
    if strict {
        let extra = have
            .iter()
            .filter(|name| !wanted.iter().any(|(column, _)| column.value == **name));
        keys.extend(extra.map(|name| vec![V::Text((*name).to_owned())]));
    }
    (vec!["column".to_owned()], keys)
}
