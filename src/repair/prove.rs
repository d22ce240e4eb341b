//! Proving a repair in memory: it is applied to the state as one transaction, and the rules are judged before and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::undo::{Act, Undo};
use crate::change::{Cell, Change, Image, Op, Transaction, TransactionMeta};
use crate::evidence::Row;
use crate::judge::{Judge, Limits, Options};
use crate::rule::Rule;
use crate::state::History;
use crate::verdict::{Outcome, Verdict, canonical};

/// What judging found of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judged {
    /// The keys that violate it, by their text.
    pub(super) bad: BTreeMap<String, Map<String, Value>>,
    /// Why it could not be judged.
    pub(super) unknown: Option<String>,
}

/// What judging found, by rule.
pub(super) type Verdicts = BTreeMap<String, Judged>;

/// Why nothing can be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The engine.
    #[error("the engine cannot be started")]
    Engine(#[source] std::io::Error),
    /// The repair contradicts the state.
    #[error("the repair does not fit the state: {0}")]
    Contradiction(String),
    /// Rules that do not fit the tables.
    #[error("the rules do not fit the tables")]
    Rules(Vec<crate::diagnostic::Diagnostic>),
}

/// A rule about what is, without what makes it wait, tolerate or forget.
pub(super) fn strict(rule: &Rule) -> Rule {
    Rule {
        within_us: None,
        threshold: None,
        since: None,
        expires: None,
        cases: Vec::new(),
        ..rule.clone()
    }
}

/// What the rules say of the state at the head.
pub(super) fn before(
    history: &History,
    rules: &[Rule],
    limits: &Limits,
) -> Result<Verdicts, ProofError> {
    let history = history.from_the_head();
    let states = rules.iter().filter(|rule| !rule.check.judges_writes());
    judged(history, states.map(strict).collect(), limits)
}

/// What they say when the repair has been made. Rules of writes judge the repair itself, and nothing else.
pub(super) fn after(
    history: &History,
    undos: &[&Undo],
    rules: &[Rule],
    limits: &Limits,
) -> Result<Verdicts, ProofError> {
    let mut state = history.from_the_head();
    let transaction = Transaction {
        commit: state.head() + 1,
        meta: TransactionMeta {
            time: state.now_at(state.head()),
            ..TransactionMeta::default()
        },
        changes: undos
            .iter()
            .filter_map(|undo| change(undo, history))
            .collect(),
    };
    state
        .apply(&transaction)
        .map_err(|(_, error)| ProofError::Contradiction(error.to_string()))?;
    judged(state, rules.iter().map(strict).collect(), limits)
}

/// What an undo is to the state.
fn change(undo: &Undo, history: &History) -> Option<Change> {
    let table = &history.tables[undo.table].table;
    let image = |cells: &Row| -> Image {
        let known = cells.iter().cloned().enumerate();
        known.filter(|(_, cell)| *cell != Cell::Unknown).collect()
    };
    let key = |cells: &Row| -> Image {
        let columns = table.primary_key.iter();
        columns.map(|&at| (at, cells[at].clone())).collect()
    };
    let blank = Change {
        table: undo.table,
        op: Op::Insert,
        key: None,
        before: None,
        after: None,
    };
    Some(match &undo.act {
        Act::Insert(row) => Change {
            after: Some(image(row)),
            ..blank
        },
        Act::Update(columns) => Change {
            op: Op::Update,
            key: Some(key(undo.now.as_ref()?)),
            after: Some(
                columns
                    .iter()
                    .map(|(at, _, good)| (*at, good.clone()))
                    .collect(),
            ),
            ..blank
        },
        Act::Delete => Change {
            op: Op::Delete,
            key: Some(key(undo.now.as_ref()?)),
            ..blank
        },
    })
}

fn judged(history: History, rules: Vec<Rule>, limits: &Limits) -> Result<Verdicts, ProofError> {
    let history = Arc::new(history);
    let options = Options {
        position: history.head(),
        now_us: None,
        sample: None,
    };
    let judge = Judge::new(history, limits.clone()).map_err(ProofError::Engine)?;
    let prepared = judge.prepare(&rules, &options).map_err(ProofError::Rules)?;
    let outcomes = judge.check(prepared, &options, &|_| ());
    Ok(outcomes.into_iter().map(of).collect())
}

fn of(outcome: Outcome) -> (String, Judged) {
    let keys = outcome.sample.into_iter().map(|violation| {
        let text = canonical(&Value::Object(violation.key.clone()));
        (text, violation.key)
    });
    let found = Judged {
        bad: keys.collect(),
        unknown: (outcome.verdict == Verdict::Unknown).then(|| {
            outcome
                .reason
                .unwrap_or_else(|| "it could not be judged".to_owned())
        }),
    };
    (outcome.rule.id, found)
}
