//! Which rows a key of a rule is about: those of its subject, and those of other tables that the rule looks up for it.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use crate::change::Cell;
use crate::judge::{Prepared, Reads};
use crate::rule::{Check, ColumnRef, Match};
use crate::schema::value::to_json;
use crate::schema::{Schema, Table};
use crate::state::History;

/// How a row of a table is known to belong to a key.
#[derive(Clone, Debug, PartialEq)]
enum By {
    /// Its columns hold the values that the key has under these names.
    Key(Vec<(usize, String)>),
    /// Its columns hold the values of these columns of the subject's row.
    Subject(Vec<(usize, usize)>),
    /// It was written by the commit that the key names.
    Commit,
}

/// Rows of one table that belong to keys of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) table: usize,
    by: By,
    /// The columns that the rule judges them by; None for the whole row.
    pub(super) judged: Option<BTreeSet<usize>>,
}

/// What a rule's keys are about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Concern {
    pub(super) places: Vec<Place>,
    /// The table whose rows the key names, with the columns.
    subject: (usize, Vec<(usize, String)>),
}

/// What a rule's keys are about.
///
/// # Errors
/// Why its keys name no rows.
pub(super) fn concern(
    prepared: &Prepared,
    reads: &Reads,
    schema: &Schema,
    whole_rows: bool,
) -> Result<Concern, String> {
    let key = prepared.key();
    let check = &prepared.rule.check;
    let named = prepared.rule.table.as_ref().map(|table| &table.value);
    let about_commits = matches!(
        check,
        Check::MassChange { .. } | Check::BalancedTransaction { .. }
    );
    let columns = |table: &Table| -> Option<Vec<(usize, String)>> {
        let names = key
            .iter()
            .filter(|name| !about_commits || *name != "commit");
        names
            .map(|name| Some((table.column_index(name)?, name.clone())))
            .collect()
    };
    let fits = |&at: &usize| columns(&schema.tables[at]).is_some();
    let subject = match named {
        Some(name) => schema.table_index(name).filter(fits),
        // A query without a table: the one that it reads and that has the key's columns.
        None => {
            let tables = reads.tables();
            let mut tables = tables.into_iter().filter(fits);
            tables.next().filter(|_| tables.next().is_none())
        }
    };
    let subject = subject.ok_or("its keys are no rows of a table")?;
    let columns = columns(&schema.tables[subject]).expect("looked at above");
    if columns.is_empty() && !about_commits {
        return Err("it is about a table as a whole, so that no row is named".to_owned());
    }
    let mut finder = Finder {
        reads,
        schema,
        subject,
        whole_rows: whole_rows || about_commits || judges_whole_rows(check),
        places: Vec::new(),
    };
    let by = match columns.is_empty() {
        true => By::Commit,
        false => By::Key(columns.clone()),
    };
    finder.look(check, by);
    Ok(Concern {
        places: finder.places,
        subject: (subject, columns),
    })
}

fn judges_whole_rows(check: &Check) -> bool {
    matches!(
        check,
        Check::AppendOnly | Check::NoDelete | Check::NoResurrection
    )
}

struct Finder<'a> {
    reads: &'a Reads,
    schema: &'a Schema,
    subject: usize,
    whole_rows: bool,
    places: Vec<Place>,
}

impl Finder<'_> {
    fn look(&mut self, check: &Check, by: By) {
        match check {
            // The row that lacks something is not what was lost: only what ties them together can have been.
            Check::Has {
                table, matching, ..
            } => {
                let own: Vec<&ColumnRef> = matching.iter().map(|(_, own)| own).collect();
                self.subject_by(by, Some(&own));
                self.matched(self.schema.table_index(&table.value), matching);
            }
            Check::References {
                columns,
                to,
                to_columns,
            } => {
                self.subject_by(by, Some(&columns.iter().collect::<Vec<_>>()));
                let pairs = to_columns.iter().cloned().zip(columns.iter().cloned());
                let to = self.schema.table_index(&to.value);
                self.matched(to, &pairs.collect());
            }
            Check::HasNo {
                table, matching, ..
            } => {
                self.subject_by(by, None);
                self.matched(self.schema.table_index(&table.value), matching);
            }
            Check::SameRows {
                other, matching, ..
            } => {
                self.subject_by(by, None);
                self.matched(self.schema.table_index(&other.value), matching);
            }
            Check::Balance {
                matching: Some(matching),
                ..
            } => {
                self.subject_by(by, None);
                let others = self.reads.tables().into_iter();
                let mut others = others.filter(|at| *at != self.subject);
                let part = others.next().unwrap_or(self.subject);
                self.matched(Some(part), matching);
            }
            _ => self.subject_by(by, None),
        }
    }

    fn subject_by(&mut self, by: By, only: Option<&[&ColumnRef]>) {
        let table = &self.schema.tables[self.subject];
        let only = only.map(|only| {
            let columns = only.iter().filter_map(|one| table.column_index(&one.value));
            columns.collect::<BTreeSet<usize>>()
        });
        let judged = match only {
            Some(only) if !self.whole_rows => Some(only),
            _ => self.judged(self.subject),
        };
        self.places.push(Place {
            table: self.subject,
            by,
            judged,
        });
    }

    /// Rows of another table whose columns hold what the subject's row holds in its own.
    fn matched(&mut self, table: Option<usize>, matching: &Match) {
        let Some(table) = table else { return };
        let (other, subject) = (
            &self.schema.tables[table],
            &self.schema.tables[self.subject],
        );
        let pairs = matching.iter().map(|(theirs, own)| {
            let theirs = other.column_index(&theirs.value)?;
            Some((theirs, subject.column_index(&own.value)?))
        });
        // Rules with columns that are not there were refused.
        if let Some(pairs) = pairs.collect() {
            self.places.push(Place {
                table,
                by: By::Subject(pairs),
                judged: self.judged(table),
            });
        }
    }

    fn judged(&self, table: usize) -> Option<BTreeSet<usize>> {
        let reads = [&self.reads.state, &self.reads.written];
        let columns = reads.iter().filter_map(|reads| reads.get(&table));
        (!self.whole_rows).then(|| columns.flatten().copied().collect())
    }
}

/// Keys of a rule, to be found by rows.
pub(super) struct Keys<'a> {
    concern: &'a Concern,
    schema: &'a Schema,
    /// For each place: keys by the text of the values that its rows hold.
    by_values: Vec<HashMap<String, Vec<usize>>>,
    count: usize,
}

impl<'a> Keys<'a> {
    pub(super) fn new(
        history: &'a History,
        concern: &'a Concern,
        keys: &[&Map<String, Value>],
    ) -> Keys<'a> {
        let schema = &history.schema;
        let (subject, columns) = &concern.subject;
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, key) in keys.iter().enumerate() {
            let values = columns.iter().map(|(_, name)| key.get(name).cloned());
            let values: Vec<Value> = values.map(Option::unwrap_or_default).collect();
            by_key.entry(text(&values)).or_default().push(at);
        }
        let by_values = concern.places.iter().map(|place| match &place.by {
            By::Key(_) => by_key.clone(),
            By::Commit => HashMap::new(),
            By::Subject(pairs) => {
                let own: Vec<usize> = pairs.iter().map(|(_, own)| *own).collect();
                let named: Vec<usize> = columns.iter().map(|(at, _)| *at).collect();
                by_subject(history, *subject, &named, &own, &by_key)
            }
        });
        Keys {
            by_values: by_values.collect(),
            concern,
            schema,
            count: keys.len(),
        }
    }

    /// The keys that a row belongs to at a place, by their number.
    pub(super) fn of(&self, place: usize, cells: &[Cell]) -> Vec<usize> {
        let found = &self.concern.places[place];
        let columns: Vec<usize> = match &found.by {
            By::Key(columns) => columns.iter().map(|(at, _)| *at).collect(),
            By::Subject(pairs) => pairs.iter().map(|(theirs, _)| *theirs).collect(),
            By::Commit => return (0..self.count).collect(),
        };
        let table = &self.schema.tables[found.table];
        let values = values(table, &columns, |at| cells[at].clone());
        let keys = self.by_values[place].get(&text(&values));
        keys.cloned().unwrap_or_default()
    }
}

/// Keys by what the rows that they name hold, or ever held, in some columns.
fn by_subject(
    history: &History,
    subject: usize,
    named: &[usize],
    own: &[usize],
    by_key: &HashMap<String, Vec<usize>>,
) -> HashMap<String, Vec<usize>> {
    let versions = &history.tables[subject];
    let table = &versions.table;
    let mut out: HashMap<String, Vec<usize>> = HashMap::new();
    for at in 0..versions.version_count() {
        let at = u32::try_from(at).expect("fewer than 2^32 row versions");
        let cell = |column: usize| versions.cell(column, at);
        let Some(keys) = by_key.get(&text(&values(table, named, cell))) else {
            continue;
        };
        let held = values(table, own, cell);
        // NULL matches nothing.
        if held.iter().any(Value::is_null) {
            continue;
        }
        let known = out.entry(text(&held)).or_default();
        for key in keys {
            if !known.contains(key) {
                known.push(*key);
            }
        }
    }
    out
}

fn values(table: &Table, columns: &[usize], cell: impl Fn(usize) -> Cell) -> Vec<Value> {
    let value = |&at: &usize| to_json(&table.columns[at].data_type, &cell(at));
    columns.iter().map(value).collect()
}

fn text(values: &[Value]) -> String {
    serde_json::to_string(values).expect("JSON values are written without fail")
}
