//! The changes of first bad writes, as the store of their incidents has them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::bisect::RowChange;
use crate::change::{Change, Commit, Image, Transaction};
use crate::schema::Schema;
use crate::store::{Store, StoreError, Stretch};
use crate::verdict::redact;

/// The changes of a transaction: some of them, and how many more there are.
pub type Changes = (Vec<RowChange>, u64);

/// The changes of commits as their store has them, with the named columns hidden; at most `most` of each. What is missing the store has not
/// recorded yet, or does not keep any more. Every segment is read once.
///
/// # Errors
/// When the store is damaged.
pub fn changes(
    store: &Store,
    wanted: &[(Commit, &[String])],
    most: usize,
) -> Result<Vec<Option<Changes>>, StoreError> {
    let segments = &store.ledger().segments;
    let mut places: BTreeMap<Commit, Vec<usize>> = BTreeMap::new();
    for (at, (commit, _)) in wanted.iter().enumerate() {
        let stretch = segments.range(..=*commit).next_back();
        let holds = |stretch: &Stretch| stretch.to >= *commit && !stretch.unseen;
        if let Some((from, _)) = stretch.filter(|(_, stretch)| holds(stretch)) {
            places.entry(*from).or_default().push(at);
        }
    }
    let mut out = vec![None; wanted.len()];
    for (from, ats) in places {
        let Some(stretch) = segments.get(&from) else {
            continue;
        };
        let transactions = store.transactions(stretch)?;
        for at in ats {
            let (commit, columns) = wanted[at];
            let found = transactions.iter().find(|one| one.commit == commit);
            out[at] = found.map(|transaction| shown(store, transaction, columns, most));
        }
    }
    Ok(out)
}

fn shown(store: &Store, transaction: &Transaction, columns: &[String], most: usize) -> Changes {
    let schema = &store.format().schema;
    let some = transaction.changes.iter().take(most);
    let mut some: Vec<RowChange> = some
        .map(|change| {
            let named = named(schema, change);
            RowChange::new(schema, &named)
        })
        .collect();
    for change in &mut some {
        let maps = [&mut change.key, &mut change.before, &mut change.after];
        redact::hide_columns(columns, maps.into_iter().flatten());
    }
    let left = transaction.changes.len().saturating_sub(most);
    (some, left as u64)
}

/// A change with the key of its row before it, or after it where the row is new or keeps its key.
fn named<'a>(schema: &Schema, change: &'a Change) -> Cow<'a, Change> {
    let columns = &schema.tables[change.table].primary_key;
    if change.key.is_some() || columns.is_empty() {
        return Cow::Borrowed(change);
    }
    let of = |image: &Image| -> Option<Image> {
        let cell = |at: &usize| image.iter().find(|(column, _)| column == at).cloned();
        columns.iter().map(cell).collect()
    };
    let images = [&change.before, &change.after];
    let key = images.into_iter().flatten().find_map(of);
    Cow::Owned(Change {
        key,
        ..change.clone()
    })
}
