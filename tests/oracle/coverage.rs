//! What the generator of histories and rules must have made, counted: every kind of check x operation x change of the key x NULL x
//! composite key.

use std::collections::BTreeSet;

use firstbad::change::Op;
use firstbad::rule::Rule;

use crate::value::V;
use crate::world::{self, Past, Recorded};

/// One thing that happened to the table of a rule.
type Cell = (String, &'static str, bool, bool);

/// What happened to the tables of all rules so far.
#[derive(Default)]
pub(crate) struct Coverage(BTreeSet<Cell>);

fn has_null(rows: &[Vec<V>]) -> bool {
    rows.iter().flatten().any(|value| *value == V::Null)
}

/// The name of an operation; an update that changes the key is one of its own.
fn operation(change: &Recorded) -> &'static str {
    let width = world::primary_key(change.table).len();
    match (change.op, &change.before, &change.after) {
        (Op::Update, Some(before), Some(after)) if before[..width] != after[..width] => {
            "update of the key"
        }
        (op, ..) => op.as_str(),
    }
}

const OPERATIONS: [&str; 5] = [
    "insert",
    "update",
    "update of the key",
    "delete",
    "truncate",
];

impl Coverage {
    /// Counts a rule that was judged over a history.
    pub(crate) fn add(&mut self, kind: &str, rule: &Rule, past: &Past) {
        let Some(table) = &rule.table else {
            return;
        };
        let table = world::table_index(&table.value.name);
        let composite = world::primary_key(table).len() > 1;
        for (state, commit) in past.states.iter().zip(&past.changes) {
            for change in commit.iter().filter(|change| change.table == table) {
                let images: Vec<_> = change.before.iter().chain(&change.after).cloned().collect();
                let null = match change.op {
                    Op::Truncate => has_null(&state[table]),
                    _ => has_null(&images),
                };
                self.0
                    .insert((kind.to_owned(), operation(change), null, composite));
            }
        }
    }

    /// Whether everything happened to rules of this kind.
    pub(crate) fn is_complete(&self, kind: &str) -> bool {
        self.missing(&[kind]).is_empty()
    }

    /// What never happened to rules of these kinds.
    pub(crate) fn missing(&self, kinds: &[&str]) -> Vec<String> {
        let mut missing = Vec::new();
        for kind in kinds {
            for operation in OPERATIONS {
                for (null, composite) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    if !self
                        .0
                        .contains(&((*kind).to_owned(), operation, null, composite))
                    {
                        missing.push(format!(
                            "{kind}: {operation}, NULL {null}, composite key {composite}"
                        ));
                    }
                }
            }
        }
        missing
    }
}
