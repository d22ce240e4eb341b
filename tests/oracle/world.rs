//! Random tables and histories, held twice: as the oracle's plain rows and as the engine's [`History`].

use firstbad::change::{Change, Op, Transaction, TransactionMeta};
use firstbad::schema::{Column, DataType, Schema, Table, TableName};
use firstbad::state::{History, Origin};

use crate::rng::Rng;
use crate::value::V;

pub(crate) type Row = Vec<V>;
/// The rows of every table.
pub(crate) type World = Vec<Vec<Row>>;

pub(crate) const PARENT: usize = 0;
pub(crate) const CHILD: usize = 1;
pub(crate) const LOOSE: usize = 2;
pub(crate) const COPY: usize = 3;
pub(crate) const TABLES: [&str; 4] = ["parent", "child", "loose", "copy"];
/// Columns that every table has behind its key columns.
pub(crate) const COMMON: [&str; 10] = ["n", "q", "s", "b", "d", "t", "u", "r", "v", "w"];

pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Texts with everything that a text can have: blanks of several kinds, quotes, accents, shapes of known formats.
pub(crate) const TEXTS: [&str; 24] = [
    "",
    " ",
    "\u{a0}\t",
    "\u{200b}",
    "a",
    "A",
    "b",
    "ab",
    "it's",
    "ä",
    "日本",
    "😀x",
    "draft",
    "placed",
    "paid",
    "42",
    "-7",
    "4.20",
    "EUR",
    "DE",
    "ann@example.org",
    "2026-03-12",
    "10.0.0.1",
    "a b",
];

/// The columns before the common ones.
pub(crate) fn own_columns(table: usize) -> &'static [&'static str] {
    match table {
        CHILD => &["a", "k"],
        LOOSE => &["id", "k"],
        _ => &["id"],
    }
}

/// All columns of a table.
pub(crate) fn columns(table: usize) -> Vec<&'static str> {
    own_columns(table).iter().chain(&COMMON).copied().collect()
}

/// The columns of the primary key.
pub(crate) fn primary_key(table: usize) -> &'static [&'static str] {
    if table == LOOSE {
        &[]
    } else {
        own_columns(table)
    }
}

pub(crate) fn table_index(name: &str) -> usize {
    TABLES
        .iter()
        .position(|table| *table == name)
        .unwrap_or_else(|| panic!("no table {name}"))
}

pub(crate) fn column_index(table: usize, name: &str) -> usize {
    columns(table)
        .iter()
        .position(|column| *column == name)
        .unwrap_or_else(|| panic!("no column {name}"))
}

/// A value of a row by its column's name.
pub(crate) fn get<'a>(table: usize, row: &'a [V], name: &str) -> &'a V {
    &row[column_index(table, name)]
}

/// Values of a row by their columns' names.
pub(crate) fn project(table: usize, row: &[V], names: &[String]) -> Row {
    names
        .iter()
        .map(|name| get(table, row, name).clone())
        .collect()
}

/// A column's type, by name: the same in every table.
pub(crate) fn data_type(name: &str) -> DataType {
    match name {
        "id" | "a" | "n" | "r" => DataType::Int32,
        "v" | "w" => DataType::Int64,
        "q" => DataType::Numeric {
            precision_scale: Some((8, 2)),
        },
        "b" => DataType::Bool,
        "d" => DataType::Date,
        "t" | "u" => DataType::TimestampTz,
        _ => DataType::Text,
    }
}

pub(crate) fn schema() -> Schema {
    let table = |at: usize| Table {
        name: TableName::new("public", TABLES[at]),
        columns: columns(at)
            .into_iter()
            .map(|name| Column {
                name: name.to_owned(),
                data_type: data_type(name),
                nullable: !primary_key(at).contains(&name),
            })
            .collect(),
        primary_key: (0..primary_key(at).len()).collect(),
        foreign_keys: Vec::new(),
    };
    Schema {
        tables: (0..TABLES.len()).map(table).collect(),
    }
}

/// A random value of a column; few different ones, so that they collide.
pub(crate) fn value(rng: &mut Rng, name: &str, null_percent: usize) -> V {
    if rng.chance(null_percent) {
        return V::Null;
    }
    match name {
        "id" | "a" | "r" => V::Int(rng.between(-1, 8)),
        "k" => V::Text((*rng.pick(&["", "x", "y", "ä"])).to_owned()),
        "n" => V::Int(*rng.pick(&[-3, -1, 0, 0, 1, 1, 2, 3, 5, 6, 9])),
        "v" => V::Int(rng.between(-2, 6)),
        "w" => V::Int(*rng.pick(&[0, 1, 2, 3, 4, 7, 10, -5])),
        "q" => V::Dec(*rng.pick(&[-250, -1, 0, 50, 100, 100, 101, 150, 300, 900])),
        "b" => V::Bool(rng.chance(50)),
        "d" => V::Date(i32::try_from(rng.between(-3, 3)).expect("small")),
        "t" | "u" => V::Stamp(stamp(rng)),
        _ => V::Text((*rng.pick(&TEXTS)).to_owned()),
    }
}

/// A time within two days of the epoch, mostly on the half hour.
pub(crate) fn stamp(rng: &mut Rng) -> i64 {
    let odd = if rng.chance(20) {
        *rng.pick(&[1, -1, 1000, 500_000])
    } else {
        0
    };
    rng.between(-48 * 2, 48 * 2) * (HOUR / 2) + odd
}

pub(crate) fn row(rng: &mut Rng, table: usize, nulls: usize) -> Row {
    let key = primary_key(table);
    columns(table)
        .iter()
        .map(|name| value(rng, name, if key.contains(name) { 0 } else { nulls }))
        .collect()
}

/// A recorded change of one row (or of a whole table, with neither image).
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) table: usize,
    pub(crate) op: Op,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

/// A history, as the oracle has it.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// The state at every position.
    pub(crate) states: Vec<World>,
    /// What was recorded in each commit.
    pub(crate) changes: Vec<Vec<Recorded>>,
    /// Times of the commits.
    pub(crate) times: Vec<Option<i64>>,
    pub(crate) has_changes: bool,
}

impl Past {
    pub(crate) fn head(&self) -> usize {
        self.changes.len()
    }

    /// The time of the last commit up to a position.
    pub(crate) fn now_at(&self, position: usize) -> Option<i64> {
        self.times[..position].iter().rev().find_map(|time| *time)
    }
}

/// The net effect of a commit on a row.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) commit: usize,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

impl Effect {
    pub(crate) fn op(&self) -> Op {
        match (&self.before, &self.after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        }
    }

    /// The row before the write, or after it where the row is new.
    pub(crate) fn image(&self) -> &Row {
        self.before
            .as_ref()
            .or(self.after.as_ref())
            .expect("an effect has an image")
    }
}

/// The net effects of one commit on a table, from the two states around it; rows are told apart by some columns.
pub(crate) fn net_effects(
    past: &Past,
    table: usize,
    commit: usize,
    pairing: &[String],
) -> Vec<Effect> {
    let mut old = past.states[commit - 1][table].clone();
    let mut new = past.states[commit][table].clone();
    // What is the same on both sides is no effect.
    new.retain(|row| match old.iter().position(|have| have == row) {
        Some(at) => {
            old.remove(at);
            false
        }
        None => true,
    });
    let mut effects = Vec::new();
    for after in new {
        let key = project(table, &after, pairing);
        let before = old
            .iter()
            .position(|row| project(table, row, pairing) == key)
            .map(|at| old.remove(at));
        effects.push(Effect {
            commit,
            before,
            after: Some(after),
        });
    }
    effects.extend(old.into_iter().map(|before| Effect {
        commit,
        before: Some(before),
        after: None,
    }));
    effects
}

/// A random history in both forms.
pub(crate) fn history(rng: &mut Rng) -> (Past, History) {
    history_of(rng, 9)
}

/// A random history of fewer than so many transactions.
pub(crate) fn history_of(rng: &mut Rng, most: usize) -> (Past, History) {
    let schema = schema();
    let nulls = *rng.pick(&[0, 0, 15, 40]);
    let mut world: World = (0..TABLES.len())
        .map(|table| rows(rng, table, nulls))
        .collect();
    if rng.chance(60) {
        // A copy that is nearly one.
        world[COPY] = world[PARENT].clone();
        for row in &mut world[COPY] {
            if rng.chance(25) {
                let name = *rng.pick(&COMMON);
                row[column_index(COPY, name)] = value(rng, name, nulls);
            }
        }
        if rng.chance(40) {
            world[COPY].pop();
        }
    }
    let has_changes = !rng.chance(8);
    let origin = if has_changes {
        Origin::Changes
    } else {
        Origin::SingleState
    };
    let mut engine = History::new(schema, origin, false);
    for (table, rows) in world.iter().enumerate() {
        for row in rows {
            let cells: Vec<_> = row.iter().map(V::cell).collect();
            engine.load(table, &cells);
        }
    }
    let mut past = Past {
        states: vec![world],
        changes: Vec::new(),
        times: Vec::new(),
        has_changes,
    };
    let commits = if has_changes { rng.below(most) } else { 0 };
    let timed = !rng.chance(15);
    let mut time = rng.between(-96, 48) * (HOUR / 2);
    for commit in 1..=commits {
        time += *rng.pick(&[0, HOUR / 2, HOUR, 2 * HOUR, 5 * HOUR, DAY, 1]);
        transaction(
            rng,
            &mut past,
            &mut engine,
            commit,
            timed.then_some(time),
            nulls,
        );
    }
    // What the columns of numbers are to the engine changes no verdict.
    let rows: usize = past.states[0].iter().map(Vec::len).sum();
    for table in 0..engine.tables.len() {
        if (rows + table) % 5 < 1 + rows % 2 {
            engine.widen(table);
        }
    }
    (past, engine)
}

fn rows(rng: &mut Rng, table: usize, nulls: usize) -> Vec<Row> {
    if rng.chance(12) {
        return Vec::new();
    }
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..rng.below(13) {
        let row = row(rng, table, nulls);
        if !is_taken(&rows, table, &row) {
            rows.push(row);
        }
    }
    rows
}

fn is_taken(rows: &[Row], table: usize, row: &Row) -> bool {
    let width = primary_key(table).len();
    width > 0 && rows.iter().any(|have| have[..width] == row[..width])
}

fn transaction(
    rng: &mut Rng,
    past: &mut Past,
    engine: &mut History,
    commit: usize,
    time: Option<i64>,
    nulls: usize,
) {
    let mut world = past.states[commit - 1].clone();
    let mut recorded: Vec<Recorded> = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    let wanted = 1 + rng.below(7);
    // Most transactions stay with one table, so that they meet the same rows again.
    let home = rng.below(TABLES.len());
    let mut last: Option<Recorded> = None;
    while recorded.len() < wanted {
        let table = if rng.chance(75) {
            home
        } else {
            rng.below(TABLES.len())
        };
        let again = last
            .clone()
            .filter(|last| last.table == table && rng.chance(50));
        let Some(one) = change(rng, &world[table], table, again.as_ref(), nulls) else {
            break;
        };
        changes.push(as_change(rng, &one));
        apply(&mut world, &one);
        last = Some(one.clone());
        recorded.push(one);
    }
    let meta = TransactionMeta {
        time,
        ..TransactionMeta::default()
    };
    let number = u32::try_from(commit).expect("few commits");
    if let Err((at, error)) = engine.apply(&Transaction {
        commit: number,
        meta,
        changes: changes.clone(),
    }) {
        panic!(
            "the engine refuses a change that is right: {error}: {:?}",
            changes[at]
        );
    }
    past.states.push(world);
    past.changes.push(recorded);
    past.times.push(time);
}

/// A random change of a table that does not contradict its state; sometimes of the row that was changed last.
fn change(
    rng: &mut Rng,
    rows: &[Row],
    table: usize,
    again: Option<&Recorded>,
    nulls: usize,
) -> Option<Recorded> {
    let one = |op, before, after| {
        Some(Recorded {
            table,
            op,
            before,
            after,
        })
    };
    if let Some(Recorded {
        op: Op::Delete,
        before: Some(gone),
        ..
    }) = again
    {
        let mut back = gone.clone();
        if rng.chance(60) {
            alter(rng, table, &mut back, nulls);
        }
        if !is_taken(rows, table, &back) {
            return one(Op::Insert, None, Some(back));
        }
    }
    let kind = rng.below(100);
    if rows.is_empty() || kind < 25 {
        for _ in 0..10 {
            let row = row(rng, table, nulls);
            if !is_taken(rows, table, &row) {
                return one(Op::Insert, None, Some(row));
            }
        }
        return None;
    }
    let target = again
        .and_then(|again| again.after.clone())
        .filter(|row| rows.contains(row));
    let before = target.unwrap_or_else(|| rng.pick(rows).clone());
    if kind < 80 {
        let mut after = before.clone();
        if !rng.chance(10) {
            alter(rng, table, &mut after, nulls);
        }
        if rng.chance(25) {
            let name = *rng.pick(own_columns(table));
            let changed = value(
                rng,
                name,
                if primary_key(table).is_empty() {
                    nulls
                } else {
                    0
                },
            );
            let old = std::mem::replace(&mut after[column_index(table, name)], changed);
            let width = primary_key(table).len();
            if width > 0 && after[..width] != before[..width] && is_taken(rows, table, &after) {
                after[column_index(table, name)] = old;
            }
        }
        return one(Op::Update, Some(before), Some(after));
    }
    if kind < 95 {
        one(Op::Delete, Some(before), None)
    } else {
        one(Op::Truncate, None, None)
    }
}

fn alter(rng: &mut Rng, table: usize, row: &mut Row, nulls: usize) {
    for _ in 0..1 + rng.below(3) {
        let name = *rng.pick(&COMMON);
        let at = column_index(table, name);
        let step = rng.chance(50);
        row[at] = match (&row[at], name) {
            // Versions mostly count up, states mostly move to a neighbour.
            (V::Int(value), "v") if step => V::Int(value + 1),
            _ => value(rng, name, nulls),
        };
    }
    if rng.chance(40) {
        let at = column_index(table, "s");
        row[at] = V::Text((*rng.pick(&["draft", "placed", "paid", "a"])).to_owned());
    }
}

fn apply(world: &mut World, one: &Recorded) {
    let rows = &mut world[one.table];
    if one.op == Op::Truncate {
        rows.clear();
        return;
    }
    if let Some(before) = &one.before {
        let at = rows
            .iter()
            .position(|row| row == before)
            .expect("the row is there");
        rows.remove(at);
    }
    rows.extend(one.after.clone());
}

/// The change as a history writes it: with whole or with partial images.
fn as_change(rng: &mut Rng, one: &Recorded) -> Change {
    let whole = |row: &Row| row.iter().map(V::cell).enumerate().collect::<Vec<_>>();
    let width = primary_key(one.table).len();
    let mut before = one.before.as_ref().map(whole);
    let mut after = one.after.as_ref().map(whole);
    let mut key = None;
    if width > 0 && one.op != Op::Insert && rng.chance(50) {
        key = before.as_ref().map(|image| image[..width].to_vec());
        before = None;
        if let (Some(image), Some(old), Some(new)) = (&mut after, &one.before, &one.after) {
            image.retain(|(at, _)| old[*at] != new[*at]);
        }
    }
    Change {
        table: one.table,
        op: one.op,
        key,
        before,
        after,
    }
}
