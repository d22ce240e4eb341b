//! The oracle's verdict on a rule: counting, threshold, `within` and `since`, and the kinds that are neither checks of rows nor
//! of writes (`sql`, `metric`).

use std::collections::BTreeSet;

use firstbad::rule::{Check, Rule, Threshold};
use firstbad::verdict::Verdict;
use serde_json::{Map, Value};

use crate::fragments::{Aggregate, R, condition};
use crate::states::{self, subject};
use crate::value::{UNIT, V, millionths};
use crate::world::{CHILD, LOOSE, PARENT, Past, Row, World, get, net_effects};
use crate::writes;

/// The values that name a violation; the order of keys is that of their values.
pub(crate) type Key = Row;

/// A deliberate mistake, to see that comparing finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    NullIsDuplicate,
    RangeOffByOne,
    ResurrectionInOneCommit,
    GraceIsOpen,
}

/// Where a rule is judged.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) past: &'a Past,
    pub(crate) position: usize,
    pub(crate) state: &'a World,
    pub(crate) now: Option<i64>,
    pub(crate) wrong: Option<Wrong>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        past: &'a Past,
        position: usize,
        now: Option<i64>,
        wrong: Option<Wrong>,
    ) -> Self {
        let now = now.or_else(|| past.now_at(position));
        Context {
            past,
            position,
            state: &past.states[position],
            now,
            wrong,
        }
    }
}

/// What one state (or all writes up to it) has wrong.
pub(crate) enum Found {
    Unknown,
    /// A metric with one point only.
    TooShort,
    Keys {
        names: Vec<String>,
        keys: BTreeSet<Key>,
        judged: u64,
    },
}

/// What is compared with the engine's outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) violations: Option<u64>,
    pub(crate) judged: Option<u64>,
    pub(crate) pending: u64,
    /// Keys in key order.
    pub(crate) keys: Vec<Map<String, Value>>,
}

const UNKNOWN: Answer = Answer {
    verdict: Verdict::Unknown,
    violations: None,
    judged: None,
    pending: 0,
    keys: Vec::new(),
};

/// Judges a rule.
pub(crate) fn judge(rule: &Rule, context: &Context<'_>) -> Answer {
    let since = since(rule);
    let Found::Keys {
        names,
        mut keys,
        judged,
    } = find(rule, context, since)
    else {
        return UNKNOWN;
    };
    let mut pending = 0;
    if !rule.check.judges_writes() && (rule.within_us.is_some() || since > 0) {
        match findings(rule, context, since, keys) {
            Some((found, left)) => (keys, pending) = (found, left),
            None => return UNKNOWN,
        }
    }
    let violations = keys.len() as u64;
    let too_many = match rule.threshold.as_ref().map(|threshold| &threshold.value) {
        None => violations > 0,
        Some(Threshold::Max(max)) => violations > *max,
        Some(Threshold::MaxPercent(percent)) => {
            i128::from(violations) * 100 * UNIT > millionths(percent) * i128::from(judged)
        }
    };
    let object = |key: &Key| names.iter().cloned().zip(key.iter().map(V::json)).collect();
    Answer {
        verdict: if too_many {
            Verdict::Violated
        } else {
            Verdict::Held
        },
        violations: Some(violations),
        judged: Some(judged),
        pending,
        keys: keys.iter().map(object).collect(),
    }
}

/// The commit that `since` names; random rules write `#2`.
pub(crate) fn since(rule: &Rule) -> usize {
    rule.since.as_ref().map_or(0, |since| {
        since
            .value
            .trim_start_matches('#')
            .parse()
            .expect("a commit")
    })
}

/// What is wrong at a position; with checks of writes, from the commit `since` on.
pub(crate) fn find(rule: &Rule, context: &Context<'_>, since: usize) -> Found {
    match &rule.check {
        check if check.judges_writes() => writes::find(rule, context, since),
        Check::Sql { sql } => query(rule, &sql.value, context),
        Check::Metric { .. } => metric(rule, context),
        _ => states::find(rule, context),
    }
}

/// Which of the bad keys are findings, and how many have time left; None where it cannot be known.
fn findings(
    rule: &Rule,
    context: &Context<'_>,
    since: usize,
    bad: BTreeSet<Key>,
) -> Option<(BTreeSet<Key>, u64)> {
    if rule.within_us.is_some() {
        context.now?;
    }
    let bad_at = |position: usize| {
        let state = Context {
            position,
            state: &context.past.states[position],
            ..*context
        };
        match find(rule, &state, 0) {
            Found::Keys { keys, .. } => keys,
            Found::Unknown | Found::TooShort => panic!("rules with `within` or `since` look at no clock here"),
        }
    };
    let before: Vec<BTreeSet<Key>> = (0..context.position).map(bad_at).collect();
    let (mut found, mut pending) = (BTreeSet::new(), 0);
    for key in bad {
        let onset = before
            .iter()
            .rposition(|state| !state.contains(&key))
            .map_or(0, |last_good| last_good + 1);
        if onset < since {
            continue;
        }
        if let Some(within) = rule.within_us {
            // What was there at position 0 began with the first commit.
            let began = context
                .past
                .times
                .get(onset.saturating_sub(1))
                .copied()
                .flatten()?;
            let now = context.now?;
            let overdue = if context.wrong == Some(Wrong::GraceIsOpen) {
                now >= began + within
            } else {
                now > began + within
            };
            if !overdue {
                pending += 1;
                continue;
            }
        }
        found.insert(key);
    }
    Some((found, pending))
}

/// Queries of random rules.
pub(crate) const QUERIES: [(&str, usize); 5] = [
    ("select id, n from parent where n < 3", PARENT),
    (
        "select a, k, s from child where s = 'a' or s is null",
        CHILD,
    ),
    (
        "select s, count(*) as n from loose group by s having count(*) > 1",
        LOOSE,
    ),
    (
        "select commit, ordinal from changes.parent where op = 'delete'",
        PARENT,
    ),
    (
        "select commit, before_n, after_n as n from writes.child where op = 'update'",
        CHILD,
    ),
];

/// The rows that one of the queries returns, with the names of its columns.
fn rows_of(sql: &str, context: &Context<'_>) -> (Vec<&'static str>, Vec<Row>) {
    let state = context.state;
    let int = |number: usize| V::Int(i64::try_from(number).expect("small"));
    let at = QUERIES
        .iter()
        .position(|(have, _)| *have == sql)
        .unwrap_or_else(|| panic!("no query {sql}"));
    let pick = |table: usize, names: &[&str], keep: &dyn Fn(&Row) -> bool| -> Vec<Row> {
        let rows = state[table].iter().filter(|row| keep(row));
        rows.map(|row| {
            names
                .iter()
                .map(|name| get(table, row, name).clone())
                .collect()
        })
        .collect()
    };
    match at {
        0 => {
            let small = |row: &Row| matches!(get(PARENT, row, "n"), V::Int(n) if *n < 3);
            (vec!["id", "n"], pick(PARENT, &["id", "n"], &small))
        }
        1 => {
            let odd = |row: &Row| {
                get(CHILD, row, "s").is_null() || *get(CHILD, row, "s") == V::Text("a".into())
            };
            (vec!["a", "k", "s"], pick(CHILD, &["a", "k", "s"], &odd))
        }
        2 => {
            let all = pick(LOOSE, &["s"], &|_| true);
            let different: BTreeSet<&Row> = all.iter().collect();
            let count = |one: &Row| all.iter().filter(|row| *row == one).count();
            let rows = different.into_iter().filter(|row| count(row) > 1);
            (
                vec!["s", "n"],
                rows.map(|row| vec![row[0].clone(), int(count(row))])
                    .collect(),
            )
        }
        3 => {
            let mut rows = Vec::new();
            for (commit, changes) in (1..).zip(&context.past.changes[..context.position]) {
                for (ordinal, change) in (1..).zip(changes) {
                    if change.table == PARENT && change.op == firstbad::change::Op::Delete {
                        rows.push(vec![int(commit), int(ordinal)]);
                    }
                }
            }
            (vec!["commit", "ordinal"], rows)
        }
        _ => {
            let mut rows = Vec::new();
            for commit in 1..=context.position {
                for effect in net_effects(
                    context.past,
                    CHILD,
                    commit,
                    &["a".to_owned(), "k".to_owned()],
                ) {
                    if let (Some(before), Some(after)) = (&effect.before, &effect.after) {
                        let n = |row: &Row| get(CHILD, row, "n").clone();
                        rows.push(vec![int(commit), n(before), n(after)]);
                    }
                }
            }
            (vec!["commit", "before_n", "n"], rows)
        }
    }
}

fn query(rule: &Rule, sql: &str, context: &Context<'_>) -> Found {
    if !context.past.has_changes && (sql.contains("changes.") || sql.contains("writes.")) {
        return Found::Unknown;
    }
    let (names, mut rows) = rows_of(sql, context);
    let at = |name: &str| {
        names
            .iter()
            .position(|have| *have == name)
            .expect("a column of the query")
    };
    if let Some(filter) = &rule.filter {
        // The conditions used with queries look at `n` only: it is put where they look.
        rows.retain(|row| {
            let mut whole = vec![V::Null; crate::world::columns(PARENT).len()];
            whole[crate::world::column_index(PARENT, "n")] = row[at("n")].clone();
            condition(&filter.value)(R {
                table: PARENT,
                row: &whole,
            }) == Some(true)
        });
    }
    let table = &rule
        .table
        .as_ref()
        .expect("random rules have a table")
        .value
        .name;
    let wanted: Vec<String> = match &rule.key {
        Some(key) => key.iter().map(|column| column.value.clone()).collect(),
        None => crate::world::primary_key(crate::world::table_index(table))
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
    };
    let has_all = !wanted.is_empty() && wanted.iter().all(|name| names.contains(&name.as_str()));
    let names: Vec<String> = if has_all {
        wanted
    } else {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let keys = rows
        .iter()
        .map(|row| names.iter().map(|name| row[at(name)].clone()).collect())
        .collect();
    Found::Keys {
        names,
        keys,
        judged: rows.len() as u64,
    }
}

/// The figure at now, one step before, and so on, as far as the history has commits.
fn metric(rule: &Rule, context: &Context<'_>) -> Found {
    let Check::Metric {
        sql,
        every_us,
        detect,
    } = &rule.check
    else {
        unreachable!("called for `metric`")
    };
    let first = context.past.times.first().copied().flatten();
    let (Some(now), Some(first)) = (context.now, first) else {
        return Found::Unknown;
    };
    let figure = |position: usize| {
        let state = &context.past.states[position];
        let value = if sql.value == "(select count(*) from child)" {
            Some(crate::fragments::Ratio(
                state[CHILD].len() as i128 * UNIT,
                1,
            ))
        } else {
            Aggregate::parse(&sql.value)
                .expect("an aggregate")
                .over(&subject(rule, state).rows)
        };
        value.map(|value| value.0)
    };
    let mut points = Vec::new();
    for step in 0..=i64::from(detect.window.max(1)) {
        let instant = now - every_us * step;
        if instant < first {
            break;
        }
        let position = context
            .past
            .times
            .iter()
            .rposition(|time| time.is_some_and(|time| time <= instant));
        points.push(figure(
            position.map_or(0, |at| at + 1).min(context.position),
        ));
    }
    let Some(Some(last)) = points.first().copied() else {
        return Found::Unknown;
    };
    let earlier: Vec<i128> = points[1..].iter().copied().flatten().collect();
    let Some(previous) = earlier.first().copied() else {
        return Found::TooShort;
    };
    // Twice the figures, so that the middle of two is exact.
    let moved = |from2: i128, percent: &str| {
        let way = (2 * last - from2).abs() * 100 * UNIT;
        if from2 == 0 {
            last != 0
        } else {
            way > millionths(percent) * from2.abs()
        }
    };
    let mut sorted = earlier.clone();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let median2 = if sorted.len() % 2 == 1 {
        2 * sorted[middle]
    } else {
        sorted[middle - 1] + sorted[middle]
    };
    let bad = detect
        .jump_percent
        .as_ref()
        .is_some_and(|percent| moved(2 * previous, &percent.value))
        || detect
            .drift_percent
            .as_ref()
            .is_some_and(|percent| moved(median2, &percent.value));
    let keys = if bad {
        BTreeSet::from([Vec::new()])
    } else {
        BTreeSet::new()
    };
    Found::Keys {
        names: Vec::new(),
        keys,
        judged: subject(rule, context.state).rows.len() as u64,
    }
}
