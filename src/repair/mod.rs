//! The SQL that would put good values back where bad writes were, proved in memory before anybody sees it, and never run unasked.
//!
//! ```text
//! keys of an incident -> concern (which rows they are about) -> undo (what bad writes did to them, and what takes it back)
//!                                                                 -> prove (rules judged before and after) -> statements
//! ```
//!
//! Only what is known is put back: a value that was written again since, or was never recorded, is refused with the reason. Every
//! statement changes exactly the row that it means, as it was, or ends the transaction.

mod concern;
mod order;
mod prove;
mod quote;
mod script;
mod statement;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::change::{Cell, Commit};
use crate::judge::{Judge, Limits, Options, Prepared, Reads};
use crate::rule::{Check, Rule};
use crate::schema::TableName;
use crate::state::History;
use crate::verdict::canonical;
use concern::{Concern, Keys, concern};
use prove::{Verdicts, after, before};
use undo::{Act, Refused, Rows, Undo};

pub use prove::ProofError;
pub use script::{About, pitr};
pub use statement::Statement;

/// So often what a proof refuses is left out and the rest proved again.
const ROUNDS_MAX: usize = 8;

/// A key of an incident that is bad.
#[derive(Clone, Debug, PartialEq)]
pub struct BadKey {
    /// The rule.
    pub rule: String,
    /// The key.
    pub key: Map<String, Value>,
    /// The commits that broke it; none where it was bad before anybody watched.
    pub onsets: BTreeSet<Commit>,
}

/// What may be proposed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Deleting rows that bad writes inserted.
    pub delete_inserted: bool,
    /// Putting back every column that a bad write changed, not only those that the rules judge.
    pub whole_rows: bool,
}

/// Columns whose values the server computes, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated(BTreeMap<String, BTreeSet<String>>);

impl Generated {
    /// From pairs of a table, as `schema.name`, and a column.
    pub fn new(columns: impl IntoIterator<Item = (String, String)>) -> Generated {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (table, column) in columns {
            all.entry(table).or_default().insert(column);
        }
        Generated(all)
    }

    /// Whether the server computes a column.
    pub fn has(&self, table: &TableName, column: &str) -> bool {
        let columns = self.0.get(&table.to_string());
        columns.is_some_and(|columns| columns.contains(column))
    }
}

/// What a repair is made of.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The history of the store, whole.
    pub history: &'a History,
    /// All rules: those of the incident, and those that must hold as well.
    pub rules: &'a [Rule],
    /// The keys.
    pub keys: &'a [BadKey],
    /// What may be proposed.
    pub wish: Wish,
    /// Columns whose values must not be shown.
    pub redact: &'a [String],
    /// Columns that the server computes.
    pub generated: &'a Generated,
    /// What judging may cost.
    pub limits: &'a Limits,
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRepair {
    /// The key.
    pub key: BadKey,
    /// Why it is not put right; None where it is.
    pub refused: Option<String>,
    /// Whether the reason is that something is not known, rather than that it cannot be.
    pub unknown: bool,
    /// What is left as it is.
    pub notes: Vec<String>,
}

/// A repair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repair {
    /// The keys, as they were asked for.
    pub keys: Vec<KeyRepair>,
    /// The statements, in the order in which they run.
    pub statements: Vec<Statement>,
    /// What the repair itself is to rules of writes: the rule, and how many keys.
    pub events: Vec<(String, usize)>,
    /// Rules that could not be judged afterwards, nor before, and why.
    pub unjudged: Vec<(String, String)>,
}

impl Repair {
    /// The exit code: 0 where every key is put right, 1 where some are refused, 4 where something is not known.
    pub fn exit_code(&self) -> u8 {
        let refused = || self.keys.iter().filter(|key| key.refused.is_some());
        match (refused().next(), refused().all(|key| key.unknown)) {
            (None, _) => 0,
            (Some(_), true) => 4,
            (Some(_), false) => 1,
        }
    }
}

/// Finds the SQL that puts keys right.
///
/// # Errors
/// Why rules cannot be judged at all.
pub fn repair(ask: &Ask<'_>) -> Result<Repair, ProofError> {
    let mut work = Work::new(ask)?;
    let mut undos = work.undos();
    work.hide(&mut undos);
    let Aside { events, unjudged } = work.prove(&mut undos)?;
    let undos = order::ordered(work.wanted(undos), &ask.history.schema);
    let statement = |(at, undo): (usize, &Undo)| {
        let table = &ask.history.schema.tables[undo.table];
        statement::statement(undo, table, at + 1, ask.generated)
    };
    Ok(Repair {
        statements: undos.iter().enumerate().map(statement).collect(),
        keys: work.keys,
        events,
        unjudged,
    })
}

/// What a proof says beside what it refuses; as in [`Repair`].
#[derive(Default)]
struct Aside {
    events: Vec<(String, usize)>,
    unjudged: Vec<(String, String)>,
}

/// A rule with what its keys are about.
struct Known {
    rule: Rule,
    concern: Result<Concern, String>,
    tables: BTreeSet<usize>,
}

struct Work<'a> {
    ask: &'a Ask<'a>,
    rules: BTreeMap<String, Known>,
    keys: Vec<KeyRepair>,
}

impl<'a> Work<'a> {
    fn new(ask: &'a Ask<'a>) -> Result<Self, ProofError> {
        let schema = &ask.history.schema;
        // Planning needs no rows.
        let empty = History::new(schema.clone(), ask.history.origin, false);
        let judge = Judge::new(Arc::new(empty), ask.limits.clone()).map_err(ProofError::Engine)?;
        let options = Options {
            position: 0,
            now_us: None,
            sample: None,
        };
        let mut prepared = Vec::new();
        for rule in ask.rules {
            let strict = prove::strict(rule);
            match judge.prepare(std::slice::from_ref(&strict), &options) {
                Ok(found) => prepared.extend(found),
                Err(wrong) if ask.keys.iter().any(|key| key.rule == rule.id) => {
                    return Err(ProofError::Rules(wrong));
                }
                // A rule about tables that nobody watches has no say here.
                Err(_) => {}
            }
        }
        let known = |prepared: &Prepared| {
            let reads: Reads = judge.reads(std::slice::from_ref(prepared), &options);
            let subject = prepared.rule.table.as_ref();
            let subject = subject.and_then(|table| schema.table_index(&table.value));
            let known = Known {
                concern: concern(prepared, &reads, schema, ask.wish.whole_rows),
                tables: reads.tables().into_iter().chain(subject).collect(),
                rule: prepared.rule.clone(),
            };
            (prepared.rule.id.clone(), known)
        };
        let key = |key: &BadKey| KeyRepair {
            key: key.clone(),
            refused: None,
            unknown: false,
            notes: Vec::new(),
        };
        Ok(Work {
            rules: prepared.iter().map(known).collect(),
            keys: ask.keys.iter().map(key).collect(),
            ask,
        })
    }

    /// What would put the keys right, as far as the history knows.
    fn undos(&mut self) -> Vec<Undo> {
        let mut rows = Rows::default();
        let history = self.ask.history;
        let mut by_rule: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, key) in self.keys.iter_mut().enumerate() {
            match refusal(history, &key.key) {
                Some(reason) => key.refused = Some(reason),
                None => by_rule.entry(key.key.rule.clone()).or_default().push(at),
            }
        }
        for (rule, numbers) in by_rule {
            let reason = match self.rules.get(&rule).map(|known| &known.concern) {
                Some(Ok(concern)) => {
                    let own: Vec<&Map<String, Value>> =
                        numbers.iter().map(|&at| &self.keys[at].key.key).collect();
                    let keys = Keys::new(history, concern, &own);
                    let bad: Vec<(usize, BTreeSet<Commit>)> = numbers
                        .iter()
                        .map(|&at| (at, self.keys[at].key.onsets.clone()))
                        .collect();
                    rows.add(history, concern, &keys, &bad);
                    continue;
                }
                Some(Err(reason)) => reason.clone(),
                None => "its rule is not among the rules".to_owned(),
            };
            for at in numbers {
                self.keys[at].refused = Some(reason.clone());
            }
        }
        let (undos, refused) = rows.undos(history, self.ask.wish);
        self.note(refused);
        for at in 0..self.keys.len() {
            let has_any = undos.iter().any(|undo| undo.keys.contains(&at));
            if self.keys[at].refused.is_none() && !has_any {
                self.refuse(at, &self.nothing_left(at));
            }
        }
        undos
    }

    /// Keeps why rows stay as they are, for the keys that they belong to.
    fn note(&mut self, refused: Refused) {
        for (keys, reason) in refused {
            for at in keys {
                let notes = &mut self.keys[at].notes;
                if !notes.contains(&reason) {
                    notes.push(reason.clone());
                }
            }
        }
    }

    /// Why nothing was found that could be put back, where no row says more.
    fn nothing_left(&self, at: usize) -> String {
        let known = self.rules.get(&self.keys[at].key.rule);
        match known.map(|known| &known.rule.check) {
            Some(Check::Has { .. } | Check::SameRows { .. } | Check::Sequence { .. }) => {
                "what is missing was never written: nobody knows its values".to_owned()
            }
            _ => "the bad write replaced nothing that is known: there is nothing to put back"
                .to_owned(),
        }
    }

    /// Refuses a key; what was noted about its rows is the better reason.
    fn refuse(&mut self, at: usize, reason: &str) {
        let key = &mut self.keys[at];
        let notes = std::mem::take(&mut key.notes);
        key.refused = Some(match notes.is_empty() {
            true => reason.to_owned(),
            false => notes.join("; "),
        });
    }

    /// Refuses what would need a value that must not be shown, or that is not known.
    fn hide(&mut self, undos: &mut Vec<Undo>) {
        let mut refused = Refused::new();
        undos.retain_mut(|undo| {
            let table = &self.ask.history.schema.tables[undo.table];
            let is_hidden = |at: usize| self.ask.redact.contains(&table.columns[at].name);
            let shown = |at: usize| format!("{}.{}", table.name.short(), table.columns[at].name);
            undo.guards.retain(|at| !is_hidden(*at));
            let hidden = |at: usize| {
                format!(
                    "{} is redacted: --show-redacted writes its value into the SQL",
                    shown(at)
                )
            };
            let wrong = match &undo.act {
                Act::Insert(row) => row.iter().enumerate().find_map(|(at, cell)| {
                    let name = &table.columns[at].name;
                    match cell {
                        _ if self.ask.generated.has(&table.name, name) => None,
                        Cell::Unknown => Some(format!("the value of {} is not known", shown(at))),
                        Cell::Null => None,
                        _ => is_hidden(at).then(|| hidden(at)),
                    }
                }),
                Act::Update(columns) => {
                    let columns = columns.iter().map(|(at, ..)| *at);
                    let mut named = columns.chain(table.primary_key.iter().copied());
                    named.find(|at| is_hidden(*at)).map(hidden)
                }
                Act::Delete => table
                    .primary_key
                    .iter()
                    .copied()
                    .find(|at| is_hidden(*at))
                    .map(hidden),
            };
            match wrong {
                None => true,
                Some(reason) => {
                    refused.push((undo.keys.clone(), reason));
                    false
                }
            }
        });
        self.note(refused);
        self.refuse_without(undos);
    }

    /// Refuses keys for which nothing is left to be done.
    fn refuse_without(&mut self, undos: &[Undo]) {
        for at in 0..self.keys.len() {
            let has_any = undos.iter().any(|undo| undo.keys.contains(&at));
            if self.keys[at].refused.is_none() && !has_any {
                self.refuse(at, "there is nothing to put back");
            }
        }
    }

    /// The rows of keys that are not refused.
    fn wanted(&self, undos: Vec<Undo>) -> Vec<Undo> {
        let is_open = |at: &usize| self.keys[*at].refused.is_none();
        let mut wanted = undos;
        wanted
            .iter_mut()
            .for_each(|undo| undo.keys.retain(&is_open));
        wanted.retain(|undo| !undo.keys.is_empty());
        wanted
    }

    /// Judges the rules before and after, and refuses what does not make its key good or makes others bad, until the rest holds.
    fn prove(&mut self, undos: &mut Vec<Undo>) -> Result<Aside, ProofError> {
        let (history, limits) = (self.ask.history, self.ask.limits);
        *undos = self.wanted(std::mem::take(undos));
        if undos.is_empty() {
            return Ok(Aside::default());
        }
        let rules = self.touched(undos);
        let was = before(history, &rules, limits)?;
        for round in 0.. {
            let acts: Vec<&Undo> = undos.iter().collect();
            let now = after(history, &acts, &rules, limits)?;
            let is_last = round + 1 == ROUNDS_MAX;
            if !self.refuse_unproved(undos, &was, &now, is_last) {
                return Ok(summary(&rules, &was, &now));
            }
            *undos = self.wanted(std::mem::take(undos));
            if undos.is_empty() {
                break;
            }
        }
        Ok(Aside::default())
    }

    /// The rules that read what is put right.
    fn touched(&self, undos: &[Undo]) -> Vec<Rule> {
        let tables: BTreeSet<usize> = undos.iter().map(|undo| undo.table).collect();
        let known = self.rules.values();
        let touched = known.filter(|known| !known.tables.is_disjoint(&tables));
        touched.map(|known| known.rule.clone()).collect()
    }

    /// Whether anything was refused.
    fn refuse_unproved(
        &mut self,
        undos: &[Undo],
        was: &Verdicts,
        now: &Verdicts,
        is_last: bool,
    ) -> bool {
        let mut refused: Vec<(usize, String, bool)> = Vec::new();
        for (at, key) in self.keys.iter().enumerate() {
            let rule = self.rules.get(&key.key.rule);
            let is_event = rule.is_some_and(|known| known.rule.check.judges_writes());
            if key.refused.is_some() || is_event {
                continue;
            }
            let text = canonical(&Value::Object(key.key.key.clone()));
            match now.get(&key.key.rule) {
                Some(found) => match &found.unknown {
                    Some(reason) => refused.push((
                        at,
                        format!("whether it would be good is not known: {reason}"),
                        true,
                    )),
                    None if found.bad.contains_key(&text) => {
                        refused.push((at, "what is known does not make it good".to_owned(), false));
                    }
                    None => {}
                },
                None => refused.push((
                    at,
                    "its rule does not read what would be put back".to_owned(),
                    false,
                )),
            }
        }
        for (rule, found) in now {
            let (Some(known), Some(before)) = (self.rules.get(rule), was.get(rule)) else {
                continue;
            };
            if let (Some(reason), None) = (&found.unknown, &before.unknown) {
                let said = format!("afterwards rule {rule} could not be judged: {reason}");
                refused.extend(self.open().map(|at| (at, said.clone(), true)));
                continue;
            }
            let new = found
                .bad
                .iter()
                .filter(|(text, _)| !before.bad.contains_key(*text));
            let new: Vec<&Map<String, Value>> = new.map(|(_, key)| key).collect();
            if !new.is_empty() && before.unknown.is_none() {
                let said = format!("it would violate {rule}");
                let to_blame = self.to_blame(known, &new, undos, is_last);
                refused.extend(to_blame.into_iter().map(|at| (at, said.clone(), false)));
            }
        }
        for (at, reason, unknown) in &refused {
            let key = &mut self.keys[*at];
            if key.refused.is_some() {
                continue;
            }
            let notes = std::mem::take(&mut key.notes);
            let parts = std::iter::once(reason.clone()).chain(notes);
            key.refused = Some(parts.collect::<Vec<_>>().join("; "));
            key.unknown = *unknown;
        }
        !refused.is_empty()
    }

    /// The keys that are not refused.
    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        let keys = self.keys.iter().enumerate();
        keys.filter(|(_, key)| key.refused.is_none())
            .map(|(at, _)| at)
    }

    /// The keys whose rows a rule's new violations are about; all of them where that cannot be told.
    fn to_blame(
        &self,
        rule: &Known,
        new: &[&Map<String, Value>],
        undos: &[Undo],
        all: bool,
    ) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        if let (Ok(concern), false) = (&rule.concern, all) {
            let keys = Keys::new(self.ask.history, concern, new);
            for undo in undos {
                for (number, place) in concern.places.iter().enumerate() {
                    let is_there = place.table == undo.table;
                    let images = [undo.now.clone(), undo.then()];
                    let mut images = images.iter().flatten();
                    if is_there && images.any(|image| !keys.of(number, image).is_empty()) {
                        found.extend(undo.keys.iter().copied());
                    }
                }
            }
        }
        match found.is_empty() {
            true => self.open().collect(),
            false => found,
        }
    }
}

/// Why a key cannot be looked at.
fn refusal(history: &History, key: &BadKey) -> Option<String> {
    if key.onsets.is_empty() {
        return Some("it was bad before anybody watched: no good value was seen".to_owned());
    }
    key.onsets.iter().find_map(|onset| {
        if *onset <= history.first {
            return Some(format!("what #{onset} did is no longer in the store"));
        }
        if *onset > history.head() {
            return Some(format!("#{onset} is not in the store yet"));
        }
        let gap = history.unseen_at(*onset)?;
        Some(format!("what #{onset} did was not seen: {}", gap.hidden()))
    })
}

/// What the repair itself is to rules of writes, and which rules could not be judged.
fn summary(rules: &[Rule], was: &Verdicts, now: &Verdicts) -> Aside {
    let (mut events, mut unjudged) = (Vec::new(), Vec::new());
    for rule in rules {
        let Some(found) = now.get(&rule.id) else {
            continue;
        };
        if rule.check.judges_writes() && !found.bad.is_empty() {
            events.push((rule.id.clone(), found.bad.len()));
        }
        let before = was.get(&rule.id).and_then(|before| before.unknown.as_ref());
        if let Some(reason) = found.unknown.as_ref().or(before) {
            unjudged.push((rule.id.clone(), reason.clone()));
        }
    }
    Aside { events, unjudged }
}
