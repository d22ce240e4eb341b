//! What bad writes did to rows, and what takes that back.

use std::collections::{BTreeMap, BTreeSet};

use super::Wish;
use super::concern::{Concern, Keys};
use crate::change::{Cell, Commit};
use crate::evidence::{Row, row};
use crate::schema::Table;
use crate::schema::value::to_json;
use crate::state::{History, TableVersions, Write};

/// What is done to a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// A lost row is written again, as it was.
    Insert(Row),
    /// Columns get their good values: column, the bad value, the good one.
    Update(Vec<(usize, Cell, Cell)>),
    /// A row that the bad write made is removed.
    Delete,
}

/// One row that is put right.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Undo {
    pub(super) table: usize,
    /// The row as it is; None where it is gone.
    pub(super) now: Option<Row>,
    pub(super) act: Act,
    /// The keys that it is done for, by their number.
    pub(super) keys: BTreeSet<usize>,
    /// Columns that its guard compares, beside those that it changes.
    pub(super) guards: BTreeSet<usize>,
}

impl Undo {
    /// The row as it will be; None where it goes.
    pub(super) fn then(&self) -> Option<Row> {
        match &self.act {
            Act::Insert(row) => Some(row.clone()),
            Act::Delete => None,
            Act::Update(columns) => {
                let mut row = self.now.clone()?;
                for (at, _, good) in columns {
                    row[*at] = good.clone();
                }
                Some(row)
            }
        }
    }
}

/// What a bad write did to a row.
#[derive(Clone, Debug)]
struct Step {
    commit: Commit,
    before: Option<Row>,
    after: Option<Row>,
}

/// A row that bad writes touched.
#[derive(Default)]
struct Touched {
    steps: Vec<Step>,
    keys: BTreeSet<usize>,
    /// The columns that rules judge; None for all.
    judged: Option<BTreeSet<usize>>,
    any: bool,
}

/// Rows that bad writes touched, in the order of tables and keys.
#[derive(Default)]
pub(super) struct Rows(BTreeMap<(usize, String), Touched>);

/// What cannot be put right, and for which keys.
pub(super) type Refused = Vec<(BTreeSet<usize>, String)>;

impl Rows {
    /// Adds what bad writes did to the rows of a rule's keys. `bad` has for each key its number, and the commits that broke it.
    pub(super) fn add(
        &mut self,
        history: &History,
        concern: &Concern,
        keys: &Keys<'_>,
        bad: &[(usize, BTreeSet<Commit>)],
    ) {
        let commits: BTreeSet<Commit> = bad
            .iter()
            .flat_map(|(_, commits)| commits)
            .copied()
            .collect();
        for (number, place) in concern.places.iter().enumerate() {
            let versions = &history.tables[place.table];
            for &commit in &commits {
                for write in versions.writes_of(&(commit..=commit)) {
                    let step = step(versions, &write);
                    let images = [&step.before, &step.after];
                    let found = images.into_iter().flatten();
                    let found: BTreeSet<usize> =
                        found.flat_map(|image| keys.of(number, image)).collect();
                    let found = found
                        .into_iter()
                        .filter(|&key| bad[key].1.contains(&commit));
                    let found: BTreeSet<usize> = found.map(|key| bad[key].0).collect();
                    if !found.is_empty() {
                        self.touch(
                            place.table,
                            &versions.table,
                            step,
                            &found,
                            place.judged.as_ref(),
                        );
                    }
                }
            }
        }
    }

    fn touch(
        &mut self,
        table: usize,
        declared: &Table,
        step: Step,
        keys: &BTreeSet<usize>,
        judged: Option<&BTreeSet<usize>>,
    ) {
        let Some(image) = step.before.as_ref().or(step.after.as_ref()) else {
            return;
        };
        let touched = self.0.entry((table, name(declared, image))).or_default();
        if !touched
            .steps
            .iter()
            .any(|known| known.commit == step.commit)
        {
            touched.steps.push(step);
        }
        touched.keys.extend(keys);
        touched.judged = match (touched.any, touched.judged.take(), judged) {
            (false, _, judged) => judged.cloned(),
            (true, Some(known), Some(more)) => Some(known.union(more).copied().collect()),
            (true, ..) => None,
        };
        touched.any = true;
    }

    /// What puts the rows right, and what cannot be.
    pub(super) fn undos(self, history: &History, wish: Wish) -> (Vec<Undo>, Refused) {
        let (mut undos, mut refused) = (Vec::new(), Refused::new());
        for ((table, _), mut touched) in self.0 {
            touched.steps.sort_by_key(|step| step.commit);
            let versions = &history.tables[table];
            let keys = touched.keys.clone();
            match undo(versions, &touched, wish) {
                Ok(None) => {}
                Ok(Some((act, now, notes))) => {
                    refused.extend(notes.into_iter().map(|note| (keys.clone(), note)));
                    undos.push(Undo {
                        table,
                        guards: guards(&versions.table, &touched, now.as_ref(), &act),
                        now,
                        act,
                        keys,
                    });
                }
                Err(reason) => refused.push((keys, reason)),
            }
        }
        (undos, refused)
    }
}

fn step(versions: &TableVersions, write: &Write) -> Step {
    Step {
        commit: write.commit,
        before: write.before.map(|at| row(versions, at)),
        after: write.after.map(|at| row(versions, at)),
    }
}

/// What tells a row from the others of its table: its primary key, or all of it.
fn name(table: &Table, image: &Row) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let columns = match table.primary_key.is_empty() {
        true => &all,
        false => &table.primary_key,
    };
    let value = |&at: &usize| to_json(&table.columns[at].data_type, &image[at]);
    let values: Vec<serde_json::Value> = columns.iter().map(value).collect();
    serde_json::to_string(&values).expect("JSON values are written without fail")
}

/// What is done to the row, as it is now, and what is left as it is.
type Done = (Act, Option<Row>, Vec<String>);

fn undo(versions: &TableVersions, touched: &Touched, wish: Wish) -> Result<Option<Done>, String> {
    let table = &versions.table;
    let shown = table.name.short();
    let (Some(first), Some(last)) = (touched.steps.first(), touched.steps.last()) else {
        return Ok(None);
    };
    if table.primary_key.is_empty() {
        return Err(format!(
            "{shown} has no primary key: no statement can name the row"
        ));
    }
    let image = first.before.as_ref().or(first.after.as_ref());
    let alive = image.and_then(|cells| versions.alive(cells));
    let now = alive.map(|at| row(versions, at));
    let since = |what: &str| match alive.map(|at| versions.born(at)) {
        Some(commit) => format!("{what} was written again since, last by #{commit}"),
        None => format!("{what} is gone since"),
    };
    match (&first.before, &last.after) {
        (None, None) => Ok(None),
        (Some(_), None) => {
            // What others wrote between two bad writes is newer, and was good.
            let steps = touched.steps.windows(2);
            let unbroken = steps
                .into_iter()
                .all(|pair| pair[0].after == pair[1].before);
            let good = if unbroken {
                &first.before
            } else {
                &last.before
            };
            let Some(good) = good.clone() else {
                return Ok(None);
            };
            match now {
                Some(_) => Err(since(&format!("the lost row of {shown}"))),
                None => Ok(Some((Act::Insert(good), None, Vec::new()))),
            }
        }
        (None, Some(_)) if !wish.delete_inserted => Err(format!(
            "the bad write inserted a row of {shown}: --delete-inserted proposes to delete it"
        )),
        (None, Some(after)) if now.as_ref() == Some(after) => {
            Ok(Some((Act::Delete, now, Vec::new())))
        }
        (None, Some(_)) => Err(since(&format!("the row of {shown} that it inserted"))),
        (Some(_), Some(_)) => {
            let Some(cells) = now else {
                return Err(since(&format!("the row of {shown}")));
            };
            let (columns, notes) = columns(table, touched, &cells, wish, &since);
            if columns.is_empty() {
                return match notes.is_empty() {
                    true => Ok(None),
                    false => Err(notes.join("; ")),
                };
            }
            Ok(Some((Act::Update(columns), Some(cells), notes)))
        }
    }
}

/// Columns that get their good values back, and why others do not.
fn columns(
    table: &Table,
    touched: &Touched,
    now: &Row,
    wish: Wish,
    since: &dyn Fn(&str) -> String,
) -> (Vec<(usize, Cell, Cell)>, Vec<String>) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let judged = touched.judged.as_ref().filter(|_| !wish.whole_rows);
    for (at, column) in table.columns.iter().enumerate() {
        if judged.is_some_and(|judged| !judged.contains(&at)) {
            continue;
        }
        let mut good_and_bad: Option<(&Cell, &Cell)> = None;
        for step in &touched.steps {
            let (Some(before), Some(after)) = (&step.before, &step.after) else {
                continue;
            };
            if before[at] == after[at] {
                continue;
            }
            good_and_bad = match good_and_bad {
                Some((good, bad)) if *bad == before[at] => Some((good, &after[at])),
                // What others wrote between two bad writes is newer, and was good.
                _ => Some((&before[at], &after[at])),
            };
        }
        let Some((good, bad)) = good_and_bad.filter(|(good, bad)| good != bad) else {
            continue;
        };
        let name = format!("{}.{}", table.name.short(), column.name);
        if *good == Cell::Unknown {
            notes.push(format!("what {name} was before is not known"));
        } else if *bad == Cell::Unknown || now[at] != *bad {
            notes.push(since(&name));
        } else {
            out.push((at, bad.clone(), good.clone()));
        }
    }
    (out, notes)
}

/// The columns whose values say that the row is what it was: those that rules read of it, for a row that is removed all of them.
fn guards(table: &Table, touched: &Touched, now: Option<&Row>, act: &Act) -> BTreeSet<usize> {
    let Some(now) = now else {
        return BTreeSet::new();
    };
    let all = || (0..table.columns.len()).collect();
    let mut columns: BTreeSet<usize> = match (act, &touched.judged) {
        (Act::Delete, _) | (_, None) => all(),
        (_, Some(judged)) => judged.clone(),
    };
    if let Act::Update(changed) = act {
        columns.extend(changed.iter().map(|(at, ..)| *at));
    }
    columns.retain(|at| now[*at] != Cell::Unknown && !table.primary_key.contains(at));
    columns
}
