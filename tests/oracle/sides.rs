//! The oracle for the checks that compare two sides: `balance` and `same_rows`.

use std::collections::BTreeSet;

use firstbad::rule::{Check, Rule};

use crate::fragments::{Aggregate, R, Ratio, condition, scalar};
use crate::judge::Context;
use crate::states::{Keys, Subject, as_number, groups, texts};
use crate::value::{UNIT, V, millionths};
use crate::world::{self, Row, column_index, columns, project, table_index};

/// An aggregate, and a whole number that is added to it.
struct Figure {
    aggregate: Aggregate,
    beside: i128,
}

impl Figure {
    fn parse(text: &str) -> Figure {
        let (call, beside) = match text.rsplit_once(") ") {
            Some((call, beside)) => (format!("{call})"), beside.replace(' ', "")),
            None => (text.to_owned(), "0".to_owned()),
        };
        Figure {
            aggregate: Aggregate::parse(&call).expect("an aggregate"),
            beside: beside.parse().expect("a whole number"),
        }
    }

    fn plus(&self, value: Ratio) -> Ratio {
        Ratio(value.0 + self.beside * UNIT * value.1, value.1)
    }

    fn over(&self, rows: &[R<'_>]) -> Option<Ratio> {
        self.aggregate.over(rows).map(|value| self.plus(value))
    }

    /// Sums and counts of nothing are 0.
    fn of_parts(&self, parts: &[R<'_>]) -> Option<Ratio> {
        let nothing = self.aggregate.is_additive().then_some(Ratio::ZERO);
        let value = self.aggregate.over(parts).or(nothing);
        value.map(|value| self.plus(value))
    }
}

pub(crate) fn balance(rule: &Rule, subject: &Subject<'_>, context: &Context<'_>) -> Keys {
    let Check::Balance {
        left,
        right,
        matching,
        per,
        filter,
        tolerance,
    } = &rule.check
    else {
        unreachable!("called for `balance`")
    };
    let right = Figure::parse(&right.value);
    let table = right
        .aggregate
        .table
        .as_deref()
        .map_or(subject.table, table_index);
    let filter = filter.as_ref().map(|filter| condition(&filter.value));
    let parts: Vec<R<'_>> = context.state[table]
        .iter()
        .map(|row| R { table, row })
        .filter(|row| filter.is_none_or(|filter| filter(*row) == Some(true)))
        .collect();
    let right_of = |parts: &[R<'_>]| right.of_parts(parts);
    let tolerance = millionths(&tolerance.value);
    let differs = |left: Option<Ratio>, right: Option<Ratio>| {
        left.zip(right)
            .is_some_and(|(left, right)| left.differs(right, tolerance))
    };
    let mut keys = BTreeSet::new();
    let Some(matching) = matching else {
        let per = texts(per);
        let left = Figure::parse(&left.value);
        let (wholes, parts) = (groups(&subject.rows, &per), groups(&parts, &per));
        let all: BTreeSet<&Row> = wholes.keys().chain(parts.keys()).collect();
        for group in all {
            let left = wholes
                .get(group)
                .map_or(Some(Ratio::ZERO), |rows| left.over(rows));
            let right = parts
                .get(group)
                .map_or(Some(Ratio::ZERO), |rows| right_of(rows));
            if differs(left, right) {
                keys.insert(group.clone());
            }
        }
        return (per, keys);
    };
    let (theirs, own): (Vec<_>, Vec<_>) = matching.iter().cloned().unzip();
    let (theirs, own) = (texts(&theirs), texts(&own));
    let parts_of = |whole: &Row| -> Vec<R<'_>> {
        let same = |part: &&R<'_>| {
            !whole.contains(&V::Null) && project(table, part.row, &theirs) == *whole
        };
        parts.iter().filter(same).copied().collect()
    };
    if let Some(value) = scalar(&left.value) {
        for row in &subject.rows {
            let whole = project(row.table, row.row, &own);
            if differs(
                value(*row).map(|left| Ratio(left, 1)),
                right_of(&parts_of(&whole)),
            ) {
                keys.insert(project(row.table, row.row, &subject.key));
            }
        }
        return (subject.key.clone(), keys);
    }
    let left = Figure::parse(&left.value);
    for (whole, rows) in groups(&subject.rows, &own) {
        if differs(left.over(&rows), right_of(&parts_of(&whole))) {
            keys.insert(whole);
        }
    }
    (own, keys)
}

pub(crate) fn same_rows(
    subject: &Subject<'_>,
    context: &Context<'_>,
    other: &str,
    pairs: &[(String, String)],
    columns: Option<Vec<String>>,
    tolerance: &str,
) -> Keys {
    let other = table_index(other);
    let (theirs, own): (Vec<String>, Vec<String>) = pairs.iter().cloned().unzip();
    let common = || {
        let both = columns_of(subject.table)
            .into_iter()
            .filter(|name| world::columns(other).contains(&name.as_str()));
        both.collect()
    };
    let compared: Vec<String> = columns
        .unwrap_or_else(common)
        .into_iter()
        .filter(|name| !own.contains(name))
        .collect();
    let tolerance = millionths(tolerance);
    let differs = |a: &V, b: &V| match as_number(a).zip(as_number(b)) {
        Some((a, b)) => (a - b).abs() > tolerance,
        None => a != b,
    };
    let mut keys = BTreeSet::new();
    for row in &subject.rows {
        let key = project(subject.table, row.row, &own);
        let partners: Vec<&Row> = context.state[other]
            .iter()
            .filter(|there| project(other, there, &theirs) == key)
            .collect();
        let different = |there: &&Row| {
            compared
                .iter()
                .any(|name| differs(row.get(name), &there[column_index(other, name)]))
        };
        if partners.is_empty() || partners.iter().any(different) {
            keys.insert(key);
        }
    }
    for there in &context.state[other] {
        let key = project(other, there, &theirs);
        if !subject
            .rows
            .iter()
            .any(|row| project(subject.table, row.row, &own) == key)
        {
            keys.insert(key);
        }
    }
    (own, keys)
}

fn columns_of(table: usize) -> Vec<String> {
    columns(table)
        .iter()
        .map(|name| (*name).to_owned())
        .collect()
}
