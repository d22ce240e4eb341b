//! What the bad writes of a rule have in common: its onsets, as the comparison of writes wants them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Found;
use crate::change::{Cell, Commit};
use crate::factors::{Onset, Subject, of_onsets};
use crate::schema::value;
use crate::state::History;
use crate::verdict::Factor;

/// What a rule's onsets up to a position have in common that good writes of the same kind have not; nothing for rules without a table.
/// Values of the rule's `redact:` columns and of `columns` are not shown.
pub fn common(
    found: &Found,
    history: &History,
    position: Commit,
    columns: &[String],
) -> Vec<Factor> {
    let Some(rule) = &found.rule else {
        return Vec::new();
    };
    let Some(at) = rule.table.as_ref().and_then(|wanted| {
        let tables = history.schema.tables.iter();
        tables
            .enumerate()
            .find(|(_, table)| table.name == wanted.value)
            .map(|(at, _)| at)
    }) else {
        return Vec::new();
    };
    let redacted = rule.redact.iter().map(|column| &column.value);
    let hidden: Vec<String> = redacted.chain(columns).cloned().collect();
    let onset = |onset: &super::Onset| {
        let commit = if onset.pre_existing { 0 } else { onset.commit };
        (onset.key.clone(), commit)
    };
    let onsets: Vec<_> = found.onsets.iter().map(onset).collect();
    common_of_keys(history, at, &onsets, position, &hidden)
}

/// The same for keys of a rule about a table, each with its onset, 0 for what was bad before. Values of columns with the `hidden` names are
/// not shown.
pub fn common_of_keys(
    history: &History,
    at: usize,
    keys: &[(Map<String, Value>, Commit)],
    position: Commit,
    hidden: &[String],
) -> Vec<Factor> {
    let table = &history.schema.tables[at];
    let columns = hidden.iter().filter_map(|name| table.column_index(name));
    let hidden: Vec<usize> = columns.collect();
    let names: Vec<&String> = keys
        .first()
        .into_iter()
        .flat_map(|(key, _)| key.keys())
        .collect();
    let key: Vec<usize> = names
        .iter()
        .filter_map(|name| table.column_index(name))
        .collect();
    // A key that is more than columns of the subject names no row: then commits are compared.
    let key = if key.len() == names.len() {
        key
    } else {
        Vec::new()
    };
    let cell = |map: &Map<String, Value>, column: usize| {
        let column = &table.columns[column];
        let text = map.get(&column.name)?.to_string();
        value::parse_json(&column.data_type, &text).ok()
    };
    let mut onsets: BTreeMap<(Commit, usize), Onset> = BTreeMap::new();
    for (number, (map, commit)) in keys.iter().enumerate() {
        let commit = *commit;
        let cells: Option<Vec<Cell>> = key.iter().map(|&at| cell(map, at)).collect();
        if let Some(cells) = cells {
            onsets.insert((commit, number), Onset { commit, key: cells });
        }
    }
    let subject = Subject {
        history,
        table: at,
        position,
        key: &key,
        hidden: &hidden,
    };
    let onsets: Vec<Onset> = onsets.into_values().collect();
    let factors = of_onsets(&subject, &onsets, None).into_iter();
    factors
        .map(|factor| Factor {
            factor: factor.factor,
            bad: factor.bad,
            bad_total: factor.bad_total,
            good: factor.good,
            good_total: factor.good_total,
        })
        .collect()
}
