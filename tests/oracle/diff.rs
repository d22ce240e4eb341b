//! Differences against the states themselves: what `diff` finds between two positions, applied to the rows of the first, gives the rows
//! of the second; it is no more than the states say; and two sources that hold these states as files differ in the same rows.
//!
//! `FIRSTBAD_SEED` replays one history (a failure prints it), `FIRSTBAD_DIFFS` says how many tables are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firstbad::diff::{self, Change, Request, Row, Side, TableDiff};
use firstbad::schema::TableName;
use firstbad::source;
use firstbad::state::History;
use firstbad::verdict::At;
use serde_json::{Map, Value};

use crate::number;
use crate::rng::Rng;
use crate::value::{V, date_text, stamp_text};
use crate::world::{self, TABLES, World};

const FIRST_SEED: u64 = 20_260_501;
const COMPARISONS: usize = 6_000;
const COMMITS_MAX: usize = 12;
/// Pairs of positions of one history.
const PAIRS: usize = 4;

/// A row by its columns' names.
type Object = Map<String, Value>;

/// Ways to apply differences that are wrong, each of which must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// Rows that are equal are added once.
    AddedOnce,
    /// Rows that went away stay.
    RemovedStays,
    /// A value that became NULL stays as it was.
    NullStays,
    /// Of a changed row only the first column changes.
    FirstColumn,
}

const WRONG: [Wrong; 4] = [
    Wrong::AddedOnce,
    Wrong::RemovedStays,
    Wrong::NullStays,
    Wrong::FirstColumn,
];

/// What has to come up among the random histories.
const MUST_OCCUR: [&str; 12] = [
    "added",
    "removed",
    "changed",
    "the same",
    "no key",
    "equal rows",
    "to NULL",
    "from NULL",
    "backwards",
    "composite key",
    "own key",
    "several of one key",
];

/// Rows of a table as JSON.
fn objects(rows: &[world::Row], table: usize) -> Vec<Object> {
    let names = world::columns(table);
    let object = |row: &world::Row| {
        let cells = names.iter().map(|name| (*name).to_owned());
        cells.zip(row.iter().map(V::json)).collect()
    };
    rows.iter().map(object).collect()
}

/// The state with some rows of the table that has no key written several times.
fn repeated(rng: &mut Rng, state: &World) -> World {
    let mut state = state.clone();
    let rows = &mut state[world::LOOSE];
    for row in rows.clone() {
        rows.extend(vec![row; rng.below(3)]);
    }
    state
}

/// The rows in one order.
fn sorted(rows: &[Object]) -> Vec<String> {
    let text = |row: &Object| Value::Object(row.clone()).to_string();
    let mut rows: Vec<String> = rows.iter().map(text).collect();
    rows.sort();
    rows
}

/// Applies differences to rows; None where one of them names a row that is not there.
fn applied(rows: &[Object], found: &[Row], wrong: Option<Wrong>) -> Option<Vec<Object>> {
    let mut rows = rows.to_vec();
    let mut added: Vec<Object> = Vec::new();
    for row in found {
        let holds = |have: &Object, cells: &Object| {
            cells
                .iter()
                .all(|(name, cell)| have.get(name) == Some(cell))
        };
        match (row.change, &row.a, &row.b) {
            (Change::Added, None, Some(come)) => {
                if wrong != Some(Wrong::AddedOnce) || !added.contains(come) {
                    added.push(come.clone());
                }
            }
            (Change::Removed, Some(gone), None) => {
                let at = rows.iter().position(|have| have == gone)?;
                if wrong != Some(Wrong::RemovedStays) {
                    rows.remove(at);
                }
            }
            (Change::Changed, Some(old), Some(new)) => {
                let found = |have: &Object| holds(have, &row.key) && holds(have, old);
                let have = rows.iter_mut().find(|have| found(have))?;
                let most = match wrong {
                    Some(Wrong::FirstColumn) => 1,
                    _ => usize::MAX,
                };
                for (name, cell) in new.iter().take(most) {
                    // Every column that is shown differs.
                    (old.get(name)? != cell).then_some(())?;
                    if wrong != Some(Wrong::NullStays) || !cell.is_null() {
                        have.insert(name.clone(), cell.clone());
                    }
                }
            }
            _ => return None,
        }
    }
    rows.extend(added);
    Some(rows)
}

/// Added, removed and changed rows, counted from the states: in every group of one key, equal rows are the same row, and of the others
/// as many as there are on both sides are changed.
fn counted(a: &[Object], b: &[Object], key: &[String]) -> [u64; 3] {
    let mut groups: BTreeMap<String, [Vec<&Object>; 2]> = BTreeMap::new();
    for (side, rows) in [a, b].into_iter().enumerate() {
        for row in rows {
            let name: Vec<&Value> = key.iter().map(|name| &row[name]).collect();
            let name = serde_json::to_string(&name).expect("values are JSON");
            groups.entry(name).or_default()[side].push(row);
        }
    }
    let mut counts = [0; 3];
    for [gone, mut come] in groups.into_values() {
        let mut left = 0;
        for row in gone {
            match come.iter().position(|other| *other == row) {
                Some(at) => _ = come.remove(at),
                None => left += 1,
            }
        }
        let (gone, come) = (left, come.len() as u64);
        let both: u64 = come.min(gone);
        for (count, more) in counts.iter_mut().zip([come - both, gone - both, both]) {
            *count += more;
        }
    }
    counts
}

fn compare<'a>(a: &Side<'a>, b: &Side<'a>, request: &Request) -> Vec<TableDiff<'a>> {
    diff::compare(a, b, request).expect("the request fits")
}

fn side<'a>(history: &'a History, position: usize, at: &'a At) -> Side<'a> {
    Side {
        name: "random",
        history,
        position: u32::try_from(position).expect("few commits"),
        at,
    }
}

/// A value as CSV or NDJSON has it.
fn written(value: &V, csv: bool) -> String {
    if !csv {
        return value.json().to_string();
    }
    match value {
        V::Null => String::new(),
        V::Bool(value) => value.to_string(),
        V::Int(_) | V::Dec(_) => value.text().expect("a number"),
        V::Text(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        V::Date(days) => date_text(*days),
        V::Stamp(micros) => stamp_text(*micros) + "Z",
        V::Local(micros) => stamp_text(*micros),
    }
}

/// Writes a state as a directory of table files, rows in random order.
fn write_state(rng: &mut Rng, directory: &Path, state: &World) {
    std::fs::create_dir_all(directory).expect("a directory can be made");
    let mut ddl = String::new();
    for table in &world::schema().tables {
        let mut parts: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("\"{}\" {}", column.name, column.data_type))
            .collect();
        if !table.primary_key.is_empty() {
            let key: Vec<String> = table
                .primary_key_names()
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect();
            parts.push(format!("primary key ({})", key.join(", ")));
        }
        ddl += &format!("create table {} ({});\n", table.name.name, parts.join(", "));
    }
    std::fs::write(directory.join("schema.sql"), ddl).expect("a file can be written");
    for (table, rows) in state.iter().enumerate() {
        let names = world::columns(table);
        let csv = rng.chance(50);
        let mut text = if csv {
            names.join(",") + "\n"
        } else {
            String::new()
        };
        for row in rng.some(rows, rows.len(), rows.len()) {
            let cells: Vec<String> = row.iter().map(|value| written(value, csv)).collect();
            text += &if csv {
                cells.join(",")
            } else {
                let members = names.iter().zip(&cells);
                let members: Vec<String> = members
                    .map(|(name, cell)| format!("\"{name}\": {cell}"))
                    .collect();
                format!("{{{}}}", members.join(", "))
            };
            text.push('\n');
        }
        let file = format!("{}.{}", TABLES[table], if csv { "csv" } else { "ndjson" });
        std::fs::write(directory.join(file), text).expect("a file can be written");
    }
}

/// States that were written as files and read again.
fn read_again(rng: &mut Rng, states: [&World; 2]) -> [History; 2] {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut number = 0;
    states.map(|state| {
        number += 1;
        let directory = place.path().join(number.to_string());
        write_state(rng, &directory, state);
        let argument = directory.to_string_lossy().into_owned();
        match source::open_held(&[argument]) {
            Ok(opened) => opened.history,
            Err(error) => panic!("the written state cannot be read: {error:?}"),
        }
    })
}

/// Counts of what occurred, and which wrong ways were noticed.
#[derive(Default)]
struct Seen {
    occurred: BTreeMap<&'static str, usize>,
    caught: BTreeSet<Wrong>,
    compared: usize,
}

impl Seen {
    fn note(&mut self, facts: &[(&'static str, bool)]) {
        for (what, _) in facts.iter().filter(|(_, occurred)| *occurred) {
            *self.occurred.entry(what).or_default() += 1;
        }
    }

    /// Compares one table; says what is wrong, if anything.
    fn table(
        &mut self,
        diff: &TableDiff<'_>,
        a: &[Object],
        b: &[Object],
        own_key: bool,
    ) -> Result<(), String> {
        self.compared += 1;
        let rows: Vec<Row> = diff.rows().collect();
        let table = world::table_index(&diff.table.name);
        let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let key = names(diff.key_names());
        let counts = [diff.added, diff.removed, diff.changed];
        let expected = counted(a, b, &key);
        if counts != expected || diff.unknown > 0 {
            return Err(format!(
                "{counts:?} and {} unknown, not {expected:?}",
                diff.unknown
            ));
        }
        let mut by_change = [0; 3];
        rows.iter()
            .for_each(|row| by_change[row.change as usize] += 1);
        if by_change != counts {
            return Err(format!("{by_change:?} rows are listed of {counts:?}"));
        }
        // Which of several rows of one key was changed cannot be told from the values that are shown.
        let unique = |rows: &[Object]| {
            let key = |row: &Object| {
                key.iter()
                    .map(|name| row[name].to_string())
                    .collect::<Vec<_>>()
            };
            rows.iter().map(key).collect::<BTreeSet<_>>().len() == rows.len()
        };
        let whole = key.len() == world::columns(table).len();
        let several = !(whole || unique(a) && unique(b));
        if !several {
            let found = applied(a, &rows, None).map(|rows| sorted(&rows));
            if found.as_ref() != Some(&sorted(b)) {
                return Err(format!("applied: {found:?}"));
            }
            for wrong in WRONG {
                if applied(a, &rows, Some(wrong)).map(|rows| sorted(&rows)) != found {
                    self.caught.insert(wrong);
                }
            }
        }
        let nulls = |here: fn(&Row) -> &Option<Object>| {
            let cells = rows.iter().filter(|row| row.change == Change::Changed);
            cells
                .filter_map(here_of(here))
                .any(|row| row.values().any(Value::is_null))
        };
        self.note(&[
            ("added", diff.added > 0),
            ("removed", diff.removed > 0),
            ("changed", diff.changed > 0),
            ("the same", rows.is_empty()),
            ("no key", whole && !rows.is_empty()),
            ("equal rows", rows.windows(2).any(|pair| pair[0] == pair[1])),
            ("to NULL", nulls(|row| &row.b)),
            ("from NULL", nulls(|row| &row.a)),
            (
                "composite key",
                !own_key && !whole && key.len() > 1 && diff.changed > 0,
            ),
            ("own key", own_key && !several && !rows.is_empty()),
            ("several of one key", several && !rows.is_empty()),
        ]);
        Ok(())
    }
}

/// A closure out of a function pointer to one side of a row.
fn here_of(here: fn(&Row) -> &Option<Object>) -> impl Fn(&Row) -> Option<&Object> {
    move |row| here(row).as_ref()
}

/// Mostly all tables by their own keys, sometimes one by other columns.
fn request(rng: &mut Rng) -> Request {
    if rng.chance(60) {
        return Request::default();
    }
    let table = rng.below(TABLES.len());
    let names = world::columns(table);
    let key = rng.some(&names, 1, 3).into_iter().map(str::to_owned);
    Request {
        tables: vec![TableName::new("public", TABLES[table])],
        key: Some(key.collect()),
        files: false,
    }
}

/// Compares pairs of positions of one random history; what disagrees is told.
fn history(seed: u64, seen: &mut Seen, disagreements: &mut Vec<String>) {
    let mut rng = Rng::new(seed);
    let (past, history) = world::history_of(&mut rng, COMMITS_MAX);
    let at = At::default();
    for _ in 0..PAIRS {
        let (a, b) = (rng.below(past.head() + 1), rng.below(past.head() + 1));
        let request = request(&mut rng);
        let found = compare(&side(&history, a, &at), &side(&history, b, &at), &request);
        let told = |table: &str, what: &str| {
            format!(
                "FIRSTBAD_SEED={seed}: {table} between #{a} and #{b} by {:?}: {what}",
                request.key
            )
        };
        for diff in &found {
            let table = world::table_index(&diff.table.name);
            let rows = [a, b].map(|at| objects(&past.states[at][table], table));
            let own_key = request.key.is_some();
            seen.note(&[("backwards", a > b && diff.differs())]);
            if let Err(what) = seen.table(diff, &rows[0], &rows[1], own_key) {
                disagreements.push(told(&diff.table.name, &what));
            }
        }
        // Rows of one key are paired in their order, which files do not keep.
        if request.key.is_some() {
            continue;
        }
        let states = [&past.states[a], &past.states[b]];
        let histories = read_again(&mut rng, states);
        let [left, right] = histories.each_ref().map(|history| side(history, 0, &at));
        for (diff, other) in found.iter().zip(compare(&left, &right, &request)) {
            seen.compared += 1;
            let (here, files): (Vec<Row>, Vec<Row>) =
                (diff.rows().collect(), other.rows().collect());
            if here != files {
                let what = format!("files say {files:?}\npositions {here:?}");
                disagreements.push(told(&diff.table.name, &what));
            }
        }
        let [rows_a, rows_b] = states.map(|state| repeated(&mut rng, state));
        let histories = read_again(&mut rng, [&rows_a, &rows_b]);
        let [left, right] = histories.each_ref().map(|history| side(history, 0, &at));
        for diff in compare(&left, &right, &request) {
            let table = world::table_index(&diff.table.name);
            let rows = [&rows_a, &rows_b].map(|state| objects(&state[table], table));
            if let Err(what) = seen.table(&diff, &rows[0], &rows[1], false) {
                disagreements.push(told(&diff.table.name, &format!("repeated: {what}")));
            }
        }
    }
}

#[test]
fn differences_make_one_state_of_the_other() {
    let most = number("FIRSTBAD_DIFFS")
        .map_or(COMPARISONS, |most| usize::try_from(most).expect("a count"));
    let mut seen = Seen::default();
    let mut disagreements = Vec::new();
    let replayed = number("FIRSTBAD_SEED");
    for seed in replayed.map_or(FIRST_SEED..u64::MAX, |seed| seed..seed + 1) {
        history(seed, &mut seen, &mut disagreements);
        if seen.compared >= most {
            break;
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements in {} comparisons\n{}",
        disagreements.len(),
        seen.compared,
        disagreements[..disagreements.len().min(3)].join("\n\n")
    );
    if replayed.is_some() {
        return;
    }
    let missing: Vec<&str> = MUST_OCCUR
        .into_iter()
        .filter(|what| !seen.occurred.contains_key(what))
        .collect();
    assert!(
        missing.is_empty(),
        "never occurred: {missing:?} in {:?}",
        seen.occurred
    );
    let missed: Vec<Wrong> = WRONG
        .into_iter()
        .filter(|wrong| !seen.caught.contains(wrong))
        .collect();
    assert!(
        missed.is_empty(),
        "applied wrongly on purpose, and not noticed: {missed:?}"
    );
}
