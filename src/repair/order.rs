//! The order of statements: what is referred to is there before what refers to it, and goes after it.

use std::collections::HashMap;

use super::undo::{Act, Undo};
use crate::change::Cell;
use crate::evidence::Row;
use crate::schema::{ForeignKey, Schema};

/// Puts rows that come before those that refer to them, then what is changed, then rows that go after those that refer to them.
pub(super) fn ordered(undos: Vec<Undo>, schema: &Schema) -> Vec<Undo> {
    let (mut inserts, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for undo in undos {
        match undo.act {
            Act::Insert(_) => inserts.push(undo),
            Act::Update(_) => updates.push(undo),
            Act::Delete => deletes.push(undo),
        }
    }
    let mut inserts = parents_first(inserts, schema);
    let mut deletes = parents_first(deletes, schema);
    deletes.reverse();
    inserts.append(&mut updates);
    inserts.append(&mut deletes);
    inserts
}

/// The row that comes or goes.
fn image(undo: &Undo) -> Option<&Row> {
    match &undo.act {
        Act::Insert(row) => Some(row),
        Act::Update(_) | Act::Delete => undo.now.as_ref(),
    }
}

/// Rows by what references can name them.
type Targets<'a> = HashMap<(usize, Vec<usize>), HashMap<Vec<&'a Cell>, usize>>;

fn parents_first(undos: Vec<Undo>, schema: &Schema) -> Vec<Undo> {
    let parents = parents(&undos, schema);
    let mut order: Vec<usize> = Vec::new();
    let mut seen = vec![false; undos.len()];
    for start in 0..undos.len() {
        // Depth first, without recursion: chains of references may be as long as there are rows.
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.pop() {
            if next == 0 && std::mem::replace(&mut seen[at], true) {
                continue;
            }
            match parents[at].get(next) {
                Some(&parent) => {
                    path.push((at, next + 1));
                    if !seen[parent] {
                        path.push((parent, 0));
                    }
                }
                None => order.push(at),
            }
        }
    }
    let mut undos: Vec<Option<Undo>> = undos.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|at| undos[at].take())
        .collect()
}

/// For each row those of the others that it refers to.
fn parents(undos: &[Undo], schema: &Schema) -> Vec<Vec<usize>> {
    let mut targets: Targets<'_> = HashMap::new();
    let mut parents = vec![Vec::new(); undos.len()];
    for (at, undo) in undos.iter().enumerate() {
        let (table, Some(cells)) = (&schema.tables[undo.table], image(undo)) else {
            continue;
        };
        for key in &table.foreign_keys {
            let Some((to, to_columns)) = target(key, schema) else {
                continue;
            };
            let columns = key.columns.iter().map(|name| table.column_index(name));
            let Some(columns) = columns.collect::<Option<Vec<usize>>>() else {
                continue;
            };
            let named = targets.entry((to, to_columns.clone())).or_insert_with(|| {
                let of = undos
                    .iter()
                    .enumerate()
                    .filter(|(_, undo)| undo.table == to);
                let name = |(at, undo)| {
                    let cells: &Row = image(undo)?;
                    Some((to_columns.iter().map(|&at| &cells[at]).collect(), at))
                };
                of.filter_map(name).collect()
            });
            let value: Vec<&Cell> = columns.iter().map(|&at| &cells[at]).collect();
            let parent = named.get(&value).copied();
            parents[at].extend(parent.filter(|parent| *parent != at));
        }
    }
    parents
}

/// The table and the columns that a reference names.
fn target(key: &ForeignKey, schema: &Schema) -> Option<(usize, Vec<usize>)> {
    let to = schema.table_index(&key.to_table)?;
    let table = &schema.tables[to];
    if key.to_columns.is_empty() {
        return Some((to, table.primary_key.clone()));
    }
    let columns = key.to_columns.iter().map(|name| table.column_index(name));
    Some((to, columns.collect::<Option<_>>()?))
}
