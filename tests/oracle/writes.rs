//! The oracle for checks of writes: net effects are the differences of neighbouring states.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use firstbad::change::Op;
use firstbad::rule::{Check, Literal, Rule, Spanned};

use crate::fragments::{R, compare, condition, scalar};
use crate::judge::{Context, Found, Key, Wrong};
use crate::states::{is_among, key_names, subject};
use crate::value::{UNIT, V, millionths};
use crate::world::{Effect, Past, Row, columns, get, net_effects, primary_key, project};

/// The writes of a rule's subject.
struct Writes<'a> {
    rule: &'a Rule,
    table: usize,
    /// The columns that say which row is which.
    pairing: Vec<String>,
    effects: Vec<Effect>,
    since: usize,
    past: &'a Past,
}

impl Writes<'_> {
    fn get<'r>(&self, row: &'r Row, name: &str) -> &'r V {
        get(self.table, row, name)
    }

    fn passes(&self, row: &Row) -> bool {
        let filter = self
            .rule
            .filter
            .as_ref()
            .map(|filter| condition(&filter.value));
        filter.is_none_or(|filter| {
            filter(R {
                table: self.table,
                row,
            }) == Some(true)
        })
    }

    fn row_key(&self, row: &Row) -> Row {
        project(self.table, row, &self.pairing)
    }

    /// Keys of the writes that are illegal.
    fn events(&self, illegal: impl Fn(&Effect) -> bool) -> (Vec<String>, BTreeSet<Key>) {
        let names = key_names(self.rule, self.table);
        let recent = self
            .effects
            .iter()
            .filter(|effect| effect.commit >= self.since);
        let bad = recent.filter(|effect| self.passes(effect.image()) && illegal(effect));
        let keys = bad
            .map(|effect| project(self.table, effect.image(), &names))
            .collect();
        (names, keys)
    }

    fn updates(&self, illegal: impl Fn(&Row, &Row) -> bool) -> (Vec<String>, BTreeSet<Key>) {
        self.events(|effect| match (&effect.before, &effect.after) {
            (Some(before), Some(after)) => illegal(before, after),
            _ => false,
        })
    }
}

pub(crate) fn find(rule: &Rule, context: &Context<'_>, since: usize) -> Found {
    if !context.past.has_changes {
        return Found::Unknown;
    }
    let subject = subject(rule, context.state);
    let table = subject.table;
    let pairing: Vec<String> = match (&rule.key, primary_key(table)) {
        (Some(_), []) => key_names(rule, table),
        (None, []) => columns(table)
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        (_, key) => key.iter().map(|name| (*name).to_owned()).collect(),
    };
    let effects = (1..=context.position)
        .flat_map(|commit| net_effects(context.past, table, commit, &pairing))
        .collect();
    let writes = Writes {
        rule,
        table,
        pairing,
        effects,
        since,
        past: context.past,
    };
    let (names, keys) = match &rule.check {
        Check::AppendOnly => writes.events(|effect| effect.op() != Op::Insert),
        Check::NoDelete => writes.events(|effect| effect.op() == Op::Delete),
        Check::NoResurrection => no_resurrection(&writes, context.wrong),
        Check::Immutable { columns } => writes.updates(|before, after| {
            columns
                .iter()
                .any(|column| writes.get(before, &column.value) != writes.get(after, &column.value))
        }),
        Check::SetOnce { columns } => writes.updates(|before, after| {
            columns.iter().any(|column| {
                let was = writes.get(before, &column.value);
                !was.is_null() && was != writes.get(after, &column.value)
            })
        }),
        Check::Transitions {
            column,
            allowed,
            initial,
        } => {
            let column = &column.value;
            let legal = |before: Option<&Row>, after: Option<&Row>| match (before, after) {
                (Some(before), Some(after)) => {
                    let (from, to) = (writes.get(before, column), writes.get(after, column));
                    let step = |(start, ends): &(Spanned<Literal>, Vec<Spanned<Literal>>)| {
                        is_value(from, std::slice::from_ref(start), column)
                            && is_value(to, ends, column)
                    };
                    from == to || allowed.iter().any(step)
                }
                (None, Some(after)) => initial
                    .as_ref()
                    .is_none_or(|initial| is_value(writes.get(after, column), initial, column)),
                _ => true,
            };
            // A delete and an insert in one commit are an update: such a row went through no legal steps.
            let replaced = |effect: &Effect, (before, after): &(Option<Row>, Option<Row>)| {
                effect.op() == Op::Update && (before.is_none() || after.is_none())
            };
            writes.events(|effect| {
                !legal(effect.before.as_ref(), effect.after.as_ref())
                    && steps(&writes, effect).iter().any(|step| {
                        !legal(step.0.as_ref(), step.1.as_ref()) || replaced(effect, step)
                    })
            })
        }
        Check::Monotonic {
            column,
            increasing,
            strict,
        } => writes.updates(|before, after| {
            let order = compare(
                writes.get(after, &column.value),
                writes.get(before, &column.value),
            );
            let wrong = if *increasing {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            order.is_some_and(|order| order == wrong || (*strict && order == Ordering::Equal))
        }),
        Check::Increments { column, by } => writes.updates(|before, after| {
            let numbers = writes
                .get(before, &column.value)
                .number()
                .zip(writes.get(after, &column.value).number());
            numbers.is_some_and(|(before, after)| after - before != millionths(&by.value))
        }),
        Check::Touched { column, when } => {
            let others: Vec<String> = match when {
                Some(when) => when.iter().map(|column| column.value.clone()).collect(),
                None => columns(table)
                    .iter()
                    .map(|name| (*name).to_owned())
                    .filter(|name| *name != column.value)
                    .collect(),
            };
            writes.updates(|before, after| {
                let changed = |name: &String| writes.get(before, name) != writes.get(after, name);
                !changed(&column.value) && others.iter().any(changed)
            })
        }
        Check::BalancedTransaction { .. } => balanced(&writes),
        Check::MassChange { .. } => mass_change(&writes),
        other => unreachable!("{} judges no writes", other.kind()),
    };
    Found::Keys {
        names,
        keys,
        judged: subject.rows.len() as u64,
    }
}

/// NULL is a value like any other in steps.
fn is_value(value: &V, list: &[Spanned<Literal>], column: &str) -> bool {
    if value.is_null() {
        list.iter().any(|one| one.value == Literal::Null)
    } else {
        is_among(value, list, column)
    }
}

/// The recorded steps of a row within the commit of an effect.
fn steps(writes: &Writes<'_>, effect: &Effect) -> Vec<(Option<Row>, Option<Row>)> {
    let key = writes.row_key(effect.image());
    let mut steps = Vec::new();
    for change in writes.past.changes[effect.commit - 1]
        .iter()
        .filter(|change| change.table == writes.table)
    {
        let is_own = |row: &Option<Row>| row.as_ref().is_some_and(|row| writes.row_key(row) == key);
        match (is_own(&change.before), is_own(&change.after)) {
            (true, true) => steps.push((change.before.clone(), change.after.clone())),
            (true, false) => steps.push((change.before.clone(), None)),
            (false, true) => steps.push((None, change.after.clone())),
            (false, false) => {}
        }
    }
    steps
}

fn no_resurrection(writes: &Writes<'_>, wrong: Option<Wrong>) -> (Vec<String>, BTreeSet<Key>) {
    writes.events(|effect| {
        let key = writes.row_key(effect.image());
        let earlier = |other: &&Effect| other.op() == Op::Delete && other.commit < effect.commit;
        let same = |other: &Effect| writes.row_key(other.image()) == key;
        let back = effect.op() == Op::Insert && writes.effects.iter().filter(earlier).any(same);
        // The deliberate mistake: a row deleted and inserted in one commit counts as come back.
        let at_once = || {
            let steps = steps(writes, effect);
            let gone = steps.iter().position(|(_, after)| after.is_none());
            gone.is_some_and(|gone| steps[gone..].iter().any(|(before, _)| before.is_none()))
        };
        back || (wrong == Some(Wrong::ResurrectionInOneCommit) && at_once())
    })
}

fn commit_value(commit: usize) -> V {
    V::Int(i64::try_from(commit).expect("few commits"))
}

fn balanced(writes: &Writes<'_>) -> (Vec<String>, BTreeSet<Key>) {
    let Check::BalancedTransaction { sum, per, filter } = &writes.rule.check else {
        unreachable!("called for `balanced_transaction`")
    };
    let per: Vec<String> = per.iter().map(|column| column.value.clone()).collect();
    let value = scalar(&sum.value).expect("a number of a row");
    let inner = filter.as_ref().map(|filter| condition(&filter.value));
    let mut sums: BTreeMap<Key, i128> = BTreeMap::new();
    for effect in writes
        .effects
        .iter()
        .filter(|effect| effect.commit >= writes.since)
    {
        for (image, sign) in [(&effect.before, -1), (&effect.after, 1)] {
            let Some(row) = image else { continue };
            let row_of = R {
                table: writes.table,
                row,
            };
            if !writes.passes(row) || inner.is_some_and(|inner| inner(row_of) != Some(true)) {
                continue;
            }
            let mut key = vec![commit_value(effect.commit)];
            key.extend(project(writes.table, row, &per));
            *sums.entry(key).or_default() += sign * value(row_of).unwrap_or(0);
        }
    }
    let mut names = vec!["commit".to_owned()];
    names.extend(per);
    (
        names,
        sums.into_iter()
            .filter(|(_, sum)| *sum != 0)
            .map(|(key, _)| key)
            .collect(),
    )
}

fn mass_change(writes: &Writes<'_>) -> (Vec<String>, BTreeSet<Key>) {
    let Check::MassChange {
        max_rows,
        max_percent,
        ops,
    } = &writes.rule.check
    else {
        unreachable!("called for `mass_change`")
    };
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for effect in writes
        .effects
        .iter()
        .filter(|effect| effect.commit >= writes.since)
    {
        if ops.contains(&effect.op()) && writes.passes(effect.image()) {
            *counts.entry(effect.commit).or_default() += 1;
        }
    }
    let too_many = |(commit, count): &(usize, u64)| {
        let before = writes.past.states[commit - 1][writes.table].len() as i128;
        let share = |percent: &Spanned<String>| {
            i128::from(*count) * 100 * UNIT > millionths(&percent.value) * before
        };
        max_rows.is_some_and(|max| *count > max) || max_percent.as_ref().is_some_and(share)
    };
    let keys = counts
        .into_iter()
        .filter(too_many)
        .map(|(commit, _)| vec![commit_value(commit)])
        .collect();
    (vec!["commit".to_owned()], keys)
}

/// Whether some columns name at most one row of a table at every position.
pub(crate) fn names_rows(past: &Past, table: usize, key: &[String]) -> bool {
    past.states.iter().all(|state| {
        let different: BTreeSet<Row> = state[table]
            .iter()
            .map(|row| project(table, row, key))
            .collect();
        different.len() == state[table].len()
    })
}
