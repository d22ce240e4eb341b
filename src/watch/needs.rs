//! Which tables and columns of a database rules read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::WatchError;
use crate::judge::{Judge, Limits, Options};
use crate::postgres::Catalog;
use crate::rule::Rule;
use crate::state::{History, Origin};

/// What a rule set needs of a database.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Tables of the catalog, in its order.
    pub(crate) tables: Vec<usize>,
    /// For each of them: columns that no rule reads, so that the state need not hold them; none for tables whose changes are read.
    pub(crate) unread: Vec<Vec<usize>>,
    /// What each rule reads, in the order of the rules.
    pub(crate) rules: Vec<RuleReads>,
}

/// What one rule reads: of each table of the catalog the columns, of the state or of its changes.
#[derive(Debug, Default)]
pub(crate) struct RuleReads {
    /// The rule's id.
    pub(crate) rule: String,
    /// Columns by table.
    pub(crate) tables: BTreeMap<usize, BTreeSet<usize>>,
    /// Tables whose changes it reads.
    pub(crate) written: BTreeSet<usize>,
}

/// What rules read, by the catalog.
///
/// # Errors
/// Every mistake in every rule.
pub(crate) fn needs(
    catalog: &Catalog,
    rules: &[Rule],
    limits: &Limits,
) -> Result<Needs, WatchError> {
    let schema = catalog.schema();
    let empty = History::new(schema.clone(), Origin::Changes, false);
    let judge = Judge::new(Arc::new(empty), limits.clone()).map_err(WatchError::Engine)?;
    let options = Options {
        position: 0,
        now_us: None,
        sample: None,
    };
    let prepared = judge.prepare(rules, &options).map_err(WatchError::Rules)?;
    let mut all = RuleReads::default();
    let mut by_rule = Vec::with_capacity(prepared.len());
    for rule in &prepared {
        let own = of_rule(
            catalog,
            rule.rule.table.as_ref().map(|t| &t.value),
            rule.reads(),
        );
        for (at, columns) in &own.tables {
            all.tables.entry(*at).or_default().extend(columns);
        }
        all.written.extend(&own.written);
        by_rule.push(RuleReads {
            rule: rule.rule.id.clone(),
            ..own
        });
    }
    let unread = |at: &usize| -> Vec<usize> {
        let columns = 0..schema.tables[*at].columns.len();
        match all.written.contains(at) {
            true => Vec::new(),
            false => columns
                .filter(|column| !all.tables[at].contains(column))
                .collect(),
        }
    };
    Ok(Needs {
        unread: all.tables.keys().map(unread).collect(),
        tables: all.tables.keys().copied().collect(),
        rules: by_rule,
    })
}

/// What a rule about a table reads, by the names that its plan reads.
fn of_rule(
    catalog: &Catalog,
    subject: Option<&crate::schema::TableName>,
    reads: Vec<(String, Vec<String>)>,
) -> RuleReads {
    let schema = catalog.schema();
    let mut own = RuleReads::default();
    // A rule about the schema reads nothing, and its table is watched all the same.
    if let Some(at) = subject.and_then(|table| schema.table_index(table)) {
        own.tables.entry(at).or_default();
    }
    for (name, columns) in reads {
        let recorded = ["changes.", "writes.", "steps."]
            .iter()
            .any(|schema| name.starts_with(schema));
        let relation = name.split_once('.').map_or("", |(_, relation)| relation);
        let relation = relation
            .split_once('(')
            .map_or(relation, |(table, _)| table);
        for (at, table) in schema.tables.iter().enumerate() {
            if recorded && relation == table.name.short() {
                own.written.insert(at);
                let read = own.tables.entry(at).or_default();
                // The row before and after a change stand side by side.
                let plain = columns.iter().map(|column| {
                    let before = column.strip_prefix("before_");
                    before
                        .or_else(|| column.strip_prefix("after_"))
                        .unwrap_or(column)
                });
                read.extend(plain.filter_map(|column| table.column_index(column)));
            } else if name == table.name.to_string() {
                let places = columns
                    .iter()
                    .filter_map(|column| table.column_index(column));
                own.tables.entry(at).or_default().extend(places);
            }
        }
    }
    own
}
