//! The evidence bundle of an incident: all that its store knows of it, as plain data without hidden values.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::course::{self, Moment};
use super::proof::{Proof, proof};
use super::{BadRow, bad_rows};
use crate::bisect::{RowChange, common_of_keys, position};
use crate::change::{Cell, Change, Commit, Image};
use crate::incident::{Incident, RawKey, RuleFacts};
use crate::rule::{Rule, file};
use crate::schema::{TableName, ddl, value};
use crate::spread::{self, Limits, Spread, Start, Summary};
use crate::state::{History, Write};
use crate::store::Store;
use crate::verdict::{At, Factor, redact};

/// The most rows whose story is told.
const ROWS_MAX: usize = 1_000;
/// The most later writes of them.
const LATER_MAX: usize = 1_000;
/// How many commits before and after the first bad write are its neighbours.
const NEIGHBOURS: usize = 10;
/// The most changes of releases that are kept before and after the first bad write.
const RELEASES: usize = 100;

/// What an incident is about.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// Its keys as they are.
    pub keys: &'a [RawKey],
    /// Columns whose values never leave.
    pub hidden: &'a [String],
}

/// All that a store knows of an incident.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The head of the history that was read.
    pub head: At,
    /// Its rules as they were written and judged.
    pub rules: Vec<RuleText>,
    /// The bad rows: before, when they became bad, and now.
    pub rows: Vec<RowStory>,
    /// How many more there are.
    pub rows_left_off: u64,
    /// Writes of these rows after they became bad, in commit order.
    pub later: Vec<LaterWrite>,
    /// How many more there are.
    pub later_left_off: u64,
    /// What the onsets of a rule have in common that good writes have not.
    pub common: Vec<(String, Vec<Factor>)>,
    /// The commits around the first bad write, and it.
    pub neighbours: Vec<Neighbour>,
    /// The same among the commits of its service and version.
    pub same_release: Vec<Neighbour>,
    /// Where a service got another version.
    pub releases: Vec<Release>,
    /// How many keys were bad after which commit.
    pub course: Vec<Moment>,
    /// What was written from the bad rows since.
    pub spread: Summary,
    /// The tables, as DDL.
    pub schema: String,
    /// What the store covers, and what vouches for it.
    pub proof: Proof,
}

/// A rule as it was when it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Its id.
    pub id: String,
    /// Its subject as `schema.name`.
    pub table: Option<String>,
    /// The rule as written.
    pub yaml: Option<String>,
    /// The SQL that judges it.
    pub sql: Option<String>,
}

/// What became of a bad row. Cells that are not known are left out of images.
#[derive(Clone, Debug, PartialEq)]
pub struct RowStory {
    /// The rule.
    pub rule: String,
    /// The table as `schema.name`.
    pub table: String,
    /// The rule's key.
    pub key: Map<String, Value>,
    /// The commit after which it was bad.
    pub onset: At,
    /// The commit that healed it.
    pub healed: Option<Commit>,
    /// The row before the onset.
    pub last_good: Option<Map<String, Value>>,
    /// The row after the onset.
    pub bad: Option<Map<String, Value>>,
    /// The row at the head.
    pub now: Option<Map<String, Value>>,
}

/// A write of a bad row after it became bad. Of an update, the images hold what it changed.
#[derive(Clone, Debug, PartialEq)]
pub struct LaterWrite {
    /// Which commit did it.
    pub at: At,
    /// What it did.
    pub change: RowChange,
}

/// A commit near the first bad write.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The commit.
    pub at: At,
    /// How many changes it made in which table.
    pub changes: Vec<(String, u64)>,
    /// Whether it is the first bad write.
    pub is_first_bad: bool,
}

/// A commit that is the first of another version of its service than the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The commit.
    pub at: At,
    /// The service; empty where contexts name none.
    pub service: String,
    /// Its version.
    pub version: String,
    /// The version before; None for the first that was seen.
    pub before: Option<String>,
}

/// Gathers what a store knows of an incident.
pub fn bundle(store: &Store, history: &History, case: &Case<'_>, limits: Limits) -> Bundle {
    let rows = rows_of(history, case);
    let (_, summary) = spread_of_rows(history, case, &rows, limits);
    let first_bad = case.incident.first_bad.as_ref().map(|(commit, _)| *commit);
    let (later, later_left_off) = later(history, case, &rows);
    let stories = rows.iter().take(ROWS_MAX);
    let stories = stories.map(|row| story(history, case, row));
    let text = |rule: &RuleFacts| RuleText {
        id: rule.id.clone(),
        table: rule.table.clone(),
        yaml: rule.yaml.clone(),
        sql: rule.sql.clone(),
    };
    Bundle {
        head: position(history, history.head()),
        rules: case.incident.rules.iter().map(text).collect(),
        rows: stories.collect(),
        rows_left_off: rows.len().saturating_sub(ROWS_MAX) as u64,
        later,
        later_left_off,
        common: common(history, case),
        neighbours: neighbours(history, first_bad, |_| true),
        same_release: same_release(history, first_bad),
        releases: releases(history, first_bad),
        course: course::course(history, case),
        spread: summary,
        schema: ddl::print(&history.schema),
        proof: proof(store, history, first_bad),
    }
}

/// What was written from an incident's bad rows since, and what it comes to.
pub fn spread_of(history: &History, case: &Case<'_>, limits: Limits) -> (Spread, Summary) {
    spread_of_rows(history, case, &rows_of(history, case), limits)
}

/// A bad row, the rule and key that it stands for, and the commit that healed it.
struct Bad<'a> {
    row: BadRow,
    key: &'a RawKey,
}

/// The table that a rule is about.
fn subject(history: &History, rule: &RuleFacts) -> Option<usize> {
    let name = TableName::parse(rule.table.as_deref()?);
    history.schema.table_index(&name)
}

fn keys_of<'a>(case: &Case<'a>, rule: &str) -> Vec<&'a RawKey> {
    let own = case.keys.iter().filter(|key| key.rule == rule);
    own.collect()
}

/// The bad rows of all rules, by rule and in the order of the keys.
fn rows_of<'a>(history: &History, case: &Case<'a>) -> Vec<Bad<'a>> {
    let mut out = Vec::new();
    for rule in &case.incident.rules {
        let Some(table) = subject(history, rule) else {
            continue;
        };
        let keys = keys_of(case, &rule.id);
        let asked: Vec<_> = keys
            .iter()
            .map(|key| (key.key.clone(), key.onset))
            .collect();
        // A key may stand for no row or for several: both lists are in the order of the keys.
        let mut at = 0;
        for row in bad_rows(history, table, &asked) {
            let same =
                |key: &RawKey| key.key == row.key && key.onset.max(history.first) == row.onset;
            while keys.get(at).is_some_and(|key| !same(key)) {
                at += 1;
            }
            out.extend(keys.get(at).map(|key| Bad { row, key }));
        }
    }
    out
}

fn spread_of_rows(
    history: &History,
    case: &Case<'_>,
    rows: &[Bad<'_>],
    limits: Limits,
) -> (Spread, Summary) {
    let mut starts: Vec<Start> = Vec::new();
    for bad in rows {
        let name = name(history, &bad.row);
        starts.extend(name.map(|name| Start {
            table: bad.row.table,
            name,
            from: bad.row.onset,
            until: bad.key.healed,
        }));
    }
    let known = |start: &Start| (start.table, start.from, start.name.clone());
    let mut met: HashSet<_> = starts.iter().map(known).collect();
    for rule in &case.incident.rules {
        let Some(table) = subject(history, rule) else {
            continue;
        };
        for key in keys_of(case, &rule.id) {
            // What never was, or was gone already, has no row; others may refer to it all the same.
            let start = named(history, table, &key.key).map(|name| Start {
                table,
                name,
                from: key.onset.max(history.first),
                until: key.healed,
            });
            starts.extend(start.filter(|start| met.insert(known(start))));
        }
    }
    let mut links = spread::links_of_schema(&history.schema);
    for rule in case.incident.rules.iter().filter_map(written) {
        spread::add_links(&mut links, spread::links_of_rule(&history.schema, &rule));
    }
    let spread = spread::follow(history, starts, links, limits);
    let summary = spread::summary(history, &spread, case.hidden);
    (spread, summary)
}

/// The rule as it was written, read again.
fn written(facts: &RuleFacts) -> Option<Rule> {
    let table = facts.table.as_deref().map(Value::from);
    let table = table.map_or(String::new(), |table| format!("table: {table}\n"));
    let text = format!("{table}rules:\n{}", facts.yaml.as_deref()?);
    let (rules, _) = file::parse(&text, std::path::Path::new("rule.yaml"));
    rules.into_iter().next()
}

/// What names a bad row.
fn name(history: &History, row: &BadRow) -> Option<Vec<Cell>> {
    let image = row.bad.as_ref().or(row.last_good.as_ref());
    let image = image.or(row.now.as_ref())?;
    let columns = spread::naming(&history.schema.tables[row.table]);
    Some(columns.into_iter().map(|at| image[at].clone()).collect())
}

/// What names the row of a key that is the primary key.
fn named(history: &History, table: usize, key: &Map<String, Value>) -> Option<Vec<Cell>> {
    let table = &history.schema.tables[table];
    if table.primary_key.is_empty() {
        return None;
    }
    let cell = |&at: &usize| {
        let column = &table.columns[at];
        let text = key.get(&column.name)?.to_string();
        value::parse_json(&column.data_type, &text).ok()
    };
    table.primary_key.iter().map(cell).collect()
}

fn image(history: &History, table: usize, row: &[Cell]) -> Map<String, Value> {
    let columns = history.schema.tables[table].columns.iter().zip(row);
    let known = columns.filter(|(_, cell)| **cell != Cell::Unknown);
    known
        .map(|(column, cell)| (column.name.clone(), value::to_json(&column.data_type, cell)))
        .collect()
}

fn story(history: &History, case: &Case<'_>, bad: &Bad<'_>) -> RowStory {
    let row = &bad.row;
    let shown = |image_of: &Option<super::Row>| {
        let cells = image_of.as_ref();
        cells.map(|cells| image(history, row.table, cells))
    };
    let mut story = RowStory {
        rule: bad.key.rule.clone(),
        table: history.schema.tables[row.table].name.to_string(),
        key: row.key.clone(),
        onset: position(history, row.onset),
        healed: bad.key.healed,
        last_good: shown(&row.last_good),
        bad: shown(&row.bad),
        now: shown(&row.now),
    };
    let images = [&mut story.last_good, &mut story.bad, &mut story.now];
    let maps = images.into_iter().flatten().chain([&mut story.key]);
    redact::hide_columns(case.hidden, maps);
    story
}

/// Writes of the bad rows after they became bad: some, and how many more.
fn later(history: &History, case: &Case<'_>, rows: &[Bad<'_>]) -> (Vec<LaterWrite>, u64) {
    let mut names: HashMap<usize, HashMap<Vec<Cell>, Commit>> = HashMap::new();
    for bad in rows {
        if let Some(name) = name(history, &bad.row) {
            let onsets = names.entry(bad.row.table).or_default();
            let onset = onsets.entry(name).or_insert(bad.row.onset);
            *onset = (*onset).min(bad.row.onset);
        }
    }
    let mut found = Vec::new();
    for (&table, onsets) in &names {
        let versions = &history.tables[table];
        let columns = spread::naming(&versions.table);
        for write in versions.writes(history.head()) {
            let Some(row) = write.after.or(write.before) else {
                continue;
            };
            let name: Vec<Cell> = columns.iter().map(|&at| versions.cell(at, row)).collect();
            if onsets.get(&name).is_some_and(|onset| write.commit > *onset) {
                found.push((write.commit, table, row, write));
            }
        }
    }
    found.sort_by_key(|(commit, table, row, _)| (*commit, *table, *row));
    let left_off = found.len().saturating_sub(LATER_MAX) as u64;
    found.truncate(LATER_MAX);
    let shown = found
        .into_iter()
        .map(|(_, table, _, write)| later_write(history, case, table, write));
    (shown.collect(), left_off)
}

/// A write with what it changed.
fn later_write(history: &History, case: &Case<'_>, table: usize, write: Write) -> LaterWrite {
    let versions = &history.tables[table];
    let cells = |row: u32, columns: &[usize]| -> Image {
        let image = columns.iter().map(|&at| (at, versions.cell(at, row)));
        image.filter(|(_, cell)| *cell != Cell::Unknown).collect()
    };
    let changed = |column: &usize| match (write.before, write.after) {
        (Some(before), Some(after)) => !versions.same_value(*column, before, after),
        _ => true,
    };
    let all = 0..versions.table.columns.len();
    let changed: Vec<usize> = all.filter(changed).collect();
    let row = write.after.or(write.before);
    let key = row.map(|row| cells(row, &versions.table.primary_key));
    let change = Change {
        table,
        op: write.op,
        key: key.filter(|key| !key.is_empty()),
        before: write.before.map(|row| cells(row, &changed)),
        after: write.after.map(|row| cells(row, &changed)),
    };
    let mut change = RowChange::new(&history.schema, &change);
    let maps = [&mut change.key, &mut change.before, &mut change.after];
    redact::hide_columns(case.hidden, maps.into_iter().flatten());
    LaterWrite {
        at: position(history, write.commit),
        change,
    }
}

fn common(history: &History, case: &Case<'_>) -> Vec<(String, Vec<Factor>)> {
    let mut out = Vec::new();
    for rule in &case.incident.rules {
        let Some(table) = subject(history, rule) else {
            continue;
        };
        let onset = |key: &&RawKey| {
            let commit = if case.incident.pre_existing {
                0
            } else {
                key.onset
            };
            (key.key.clone(), commit)
        };
        let keys: Vec<_> = keys_of(case, &rule.id).iter().map(onset).collect();
        let mut factors = common_of_keys(history, table, &keys, history.head(), case.hidden);
        for factor in &mut factors {
            let name = factor.factor.split_once(" = ").map(|(name, _)| name);
            if let Some(name) = name.filter(|name| redact::hides_name(case.hidden, name)) {
                factor.factor = format!("{name} = redacted");
            }
        }
        if !factors.is_empty() {
            out.push((rule.id.clone(), factors));
        }
    }
    out
}

/// The commits around one, of those that are wanted, and it.
fn neighbours(
    history: &History,
    around: Option<Commit>,
    wanted: impl Fn(Commit) -> bool,
) -> Vec<Neighbour> {
    let Some(around) = around else {
        return Vec::new();
    };
    let commits = || {
        history
            .commits()
            .map(|(commit, _)| commit)
            .filter(|at| wanted(*at))
    };
    let before = commits().rev().filter(|at| *at < around).take(NEIGHBOURS);
    let mut near: Vec<Commit> = before.collect();
    near.reverse();
    near.extend(commits().filter(|at| *at == around));
    near.extend(commits().filter(|at| *at > around).take(NEIGHBOURS));
    let neighbour = |commit: Commit| {
        let counts = history.recorded_of_tables(commit).into_iter();
        let name = |table: usize| history.schema.tables[table].name.to_string();
        Neighbour {
            at: position(history, commit),
            changes: counts
                .map(|(table, count)| (name(table), count as u64))
                .collect(),
            is_first_bad: commit == around,
        }
    };
    near.into_iter().map(neighbour).collect()
}

/// Service and version of a commit, as its context says.
fn release(history: &History, commit: Commit) -> Option<(String, String)> {
    let context = history.meta(commit)?.context.as_ref()?;
    let text = |name: &str| match context.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Some((text("service").unwrap_or_default(), text("version")?))
}

fn same_release(history: &History, first_bad: Option<Commit>) -> Vec<Neighbour> {
    let Some(own) = first_bad.and_then(|commit| release(history, commit)) else {
        return Vec::new();
    };
    neighbours(history, first_bad, |commit| {
        release(history, commit).as_ref() == Some(&own)
    })
}

/// Where services got another version: the last before the first bad write, and the first after it.
fn releases(history: &History, first_bad: Option<Commit>) -> Vec<Release> {
    let mut last: HashMap<String, String> = HashMap::new();
    let mut out = Vec::new();
    for (commit, _) in history.commits() {
        let Some((service, version)) = release(history, commit) else {
            continue;
        };
        if last.get(&service) == Some(&version) {
            continue;
        }
        let before = last.insert(service.clone(), version.clone());
        out.push(Release {
            at: position(history, commit),
            service,
            version,
            before,
        });
    }
    let until = first_bad.unwrap_or(0);
    let earlier = out.partition_point(|release| release.at.commit.is_some_and(|at| at <= until));
    out.truncate(earlier.saturating_add(RELEASES));
    out.split_off(earlier.saturating_sub(RELEASES))
}
