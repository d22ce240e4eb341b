//! Random histories: tables with and without keys, NULLs, cells that are not known, truncates, key changes, duplicates.

use firstbad::change::{Cell, Change, Decimal, Image, Op, Transaction, TransactionMeta};
use firstbad::schema::{Column, DataType, Schema, Table, TableName};
use firstbad::state::{History, Origin};

use crate::rng::Rng;

type Row = Vec<Cell>;

/// How large a history is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// About how many rows each table has.
    pub(crate) rows: usize,
    /// Transactions.
    pub(crate) commits: usize,
    /// The most changes of one.
    pub(crate) changes: usize,
}

/// A first state and what happened since: as much of it as is wanted becomes a [`History`].
#[derive(Clone, Debug)]
pub(crate) struct Story {
    schema: Schema,
    base: Vec<Vec<Row>>,
    transactions: Vec<Transaction>,
}

const ACCOUNT: usize = 0;
const LINE: usize = 1;
const LOG: usize = 2;
const TABLES: usize = 3;
const WORDS: [&str; 8] = [
    "",
    " ",
    "a",
    "ä😀",
    "it's",
    "DROP TABLE",
    "\u{202e}x",
    "placed",
];

fn schema() -> Schema {
    let numeric = DataType::Numeric {
        precision_scale: Some((12, 2)),
    };
    let table = |name: &str, columns: &[(&str, DataType)], keys: usize| Table {
        name: TableName::new("public", name),
        columns: columns
            .iter()
            .enumerate()
            .map(|(at, (name, data_type))| Column {
                name: (*name).to_owned(),
                data_type: data_type.clone(),
                nullable: at >= keys,
            })
            .collect(),
        primary_key: (0..keys).collect(),
        foreign_keys: Vec::new(),
    };
    let account = [
        ("id", DataType::Int64),
        ("owner", DataType::Text),
        ("balance", numeric),
    ];
    let line = [
        ("order_no", DataType::Int32),
        ("pos", DataType::Text),
        ("amount", DataType::Float64),
        ("raw", DataType::Bytea),
        ("opened", DataType::TimestampTz),
    ];
    let log = [("who", DataType::Text), ("day", DataType::Date)];
    Schema {
        tables: vec![
            table("account", &account, 1),
            table("Line / \"odd\"", &line, 2),
            table("log", &log, 0),
        ],
    }
}

impl Story {
    pub(crate) fn random(rng: &mut Rng, size: Size) -> Story {
        let schema = schema();
        let mut world: Vec<Vec<Row>> = vec![Vec::new(); TABLES];
        for (table, rows) in world.iter_mut().enumerate() {
            let count = if rng.chance(5) { 0 } else { size.rows };
            for _ in 0..count {
                let row = row(rng, table, size.rows);
                if !is_taken(rows, table, &row) {
                    rows.push(row);
                }
            }
        }
        let base = world.clone();
        let mut time = 1_773_331_431_000_000 + rng.between(0, 999_999);
        let transactions = (1..)
            .take(size.commits)
            .map(|commit| {
                time += rng.between(0, 60_000_000);
                let timed = rng.chance(90);
                Transaction {
                    commit,
                    meta: meta(rng, commit, timed.then_some(time)),
                    changes: changes(rng, &mut world, size),
                }
            })
            .collect();
        Story {
            schema,
            base,
            transactions,
        }
    }

    /// The last commit.
    pub(crate) fn head(&self) -> u32 {
        u32::try_from(self.transactions.len()).expect("few commits")
    }

    /// The history up to a commit.
    pub(crate) fn until(&self, commit: u32) -> History {
        let mut history = History::new(self.schema.clone(), Origin::Changes, false);
        for (table, rows) in self.base.iter().enumerate() {
            for row in rows {
                history.load(table, row);
            }
        }
        for transaction in &self.transactions[..commit as usize] {
            if let Err((at, error)) = history.apply(transaction) {
                panic!(
                    "a right change is refused: {error}: {:?}",
                    transaction.changes[at]
                );
            }
        }
        history
    }

    pub(crate) fn history(&self) -> History {
        self.until(self.head())
    }
}

fn meta(rng: &mut Rng, commit: u32, time: Option<i64>) -> TransactionMeta {
    let context = rng.chance(30).then(|| {
        let mut context = serde_json::Map::new();
        context.insert("user".into(), (*rng.pick(&WORDS)).into());
        context
    });
    TransactionMeta {
        lsn: rng
            .chance(80)
            .then(|| format!("0/{:X}", 0x16B_3748 + commit * 0x100)),
        xid: rng.chance(80).then(|| 700 + u64::from(commit)),
        time,
        context,
        snapshot: None,
    }
}

fn word(rng: &mut Rng) -> Cell {
    Cell::Text((*rng.pick(&WORDS)).to_owned())
}

fn cell(rng: &mut Rng, table: usize, column: usize, rows: usize) -> Cell {
    let keys = i64::try_from(rows * 3).expect("few rows");
    match (table, column) {
        (ACCOUNT, 0) => return Cell::Int(rng.between(-keys, keys)),
        (LINE, 0) => return Cell::Int(rng.between(0, keys / 4 + 1)),
        (LINE, 1) => return word(rng),
        _ => {}
    }
    if rng.chance(15) {
        return Cell::Null;
    }
    match (table, column) {
        (ACCOUNT, 2) => Cell::Decimal(Decimal {
            unscaled: i128::from(rng.between(-10_000, 10_000)),
            scale: 2,
        }),
        (LINE, 2) => Cell::Float(*rng.pick(&[0.0, -0.5, 1e300, f64::NAN, f64::INFINITY, 7.25])),
        (LINE, 3) => Cell::Bytes((0..rng.below(5)).map(|_| rng.next() as u8).collect()),
        (LINE, 4) => Cell::Timestamp(rng.between(-1_000_000, 1_000_000) * 1_001),
        (LOG, 1) => Cell::Date(i32::try_from(rng.between(-3, 3)).expect("small")),
        _ => word(rng),
    }
}

fn keys(table: usize) -> usize {
    [1, 2, 0][table]
}

fn columns(table: usize) -> usize {
    [3, 5, 2][table]
}

fn row(rng: &mut Rng, table: usize, rows: usize) -> Row {
    (0..columns(table))
        .map(|column| cell(rng, table, column, rows))
        .collect()
}

fn is_taken(rows: &[Row], table: usize, row: &Row) -> bool {
    let width = keys(table);
    width > 0 && rows.iter().any(|have| have[..width] == row[..width])
}

fn changes(rng: &mut Rng, world: &mut [Vec<Row>], size: Size) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..rng.below(size.changes + 1) {
        let table = rng.below(TABLES);
        changes.extend(change(rng, &mut world[table], table, size.rows));
    }
    changes
}

fn image(row: &Row) -> Image {
    let cells = row.iter().cloned().enumerate();
    cells.filter(|(_, cell)| *cell != Cell::Unknown).collect()
}

fn change(rng: &mut Rng, rows: &mut Vec<Row>, table: usize, size: usize) -> Option<Change> {
    let one = |op, before, after| Change {
        table,
        op,
        key: None,
        before,
        after,
    };
    let kind = rng.below(1000);
    if kind < 4 {
        rows.clear();
        return Some(one(Op::Truncate, None, None));
    }
    if rows.is_empty() || kind < 400 {
        let mut new = match rows.is_empty() || table != LOG || rng.chance(50) {
            true => row(rng, table, size),
            false => rng.pick(rows).clone(),
        };
        if is_taken(rows, table, &new) {
            return None;
        }
        if table == LINE && rng.chance(10) {
            new[3] = Cell::Unknown;
        }
        let after = image(&new);
        rows.push(new);
        return Some(one(Op::Insert, None, Some(after)));
    }
    let at = rng.below(rows.len());
    let old = rows[at].clone();
    if kind < 650 {
        rows.remove(at);
        return Some(one(Op::Delete, Some(image(&old)), None));
    }
    let mut new = old.clone();
    for (column, place) in new.iter_mut().enumerate().skip(keys(table)) {
        if rng.chance(40) {
            *place = cell(rng, table, column, size);
        }
    }
    if keys(table) > 0 && rng.chance(20) {
        new[0] = cell(rng, table, 0, size);
        if new[..keys(table)] != old[..keys(table)] && is_taken(rows, table, &new) {
            new[0] = old[0].clone();
        }
    }
    rows[at] = new.clone();
    let mut after = image(&new);
    let mut change = one(Op::Update, Some(image(&old)), None);
    if keys(table) > 0 && rng.chance(50) {
        // As a record names it: the old key, and the columns that are new.
        after.retain(|(column, cell)| *column < keys(table) || old[*column] != *cell);
        change.key = Some(image(&old)[..keys(table)].to_vec());
        change.before = None;
    }
    change.after = Some(after);
    Some(change)
}
