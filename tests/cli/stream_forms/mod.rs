//! Random histories, and the writers of every form in which a history is read. The writers follow what the recorders document, not
//! what the readers do.

use std::path::Path;

use firstbad::change::{Cell, Decimal};
use firstbad::schema::{Column, DataType, Schema, Table, ddl, value};
use firstbad::state::{History, Origin};
use serde_json::{Map, Value, json};

mod debezium;
#[path = "../../oracle/rng.rs"]
#[allow(dead_code)]
mod rng;
mod wal2json;
pub(crate) use rng::Rng;

pub(crate) const SCHEMA: &str = "create table orders (
    id bigint primary key, status text not null, total numeric(12,2), note text, ok boolean, x double precision,
    at timestamptz, made timestamp, day date, clock time, raw bytea, tags text[]
);
create table line (order_id bigint, n integer, qty integer not null, price numeric, primary key (order_id, n));
create table log (v text, n integer);
";

/// How a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Native,
    Wal2Json1,
    Wal2Json2,
    Debezium,
    DebeziumEnvelope,
}

/// The foreign forms.
pub(crate) const FORMS: [Form; 4] = [
    Form::Wal2Json1,
    Form::Wal2Json2,
    Form::Debezium,
    Form::DebeziumEnvelope,
];

impl Form {
    fn is_debezium(self) -> bool {
        matches!(self, Form::Debezium | Form::DebeziumEnvelope)
    }

    /// Whether position 0 stands among the events.
    pub(crate) fn has_snapshot_rows(self, world: &World) -> bool {
        self.is_debezium() && world.snapshot_rows
    }
}

/// What a write does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Insert(Vec<Cell>),
    Update {
        before: Vec<Cell>,
        after: Vec<Cell>,
        /// The primary key changed.
        moved: bool,
        /// `note` is a TOAST value that did not change and is not logged.
        unlogged: bool,
    },
    Delete(Vec<Cell>),
    Truncate,
}

/// One write to a table.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) table: usize,
    pub(crate) step: Step,
    lsn: u64,
}

/// One transaction; one without writes is not counted.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) writes: Vec<Write>,
    xid: u64,
    time: i64,
    commit_lsn: u64,
    last_commit_lsn: u64,
    /// Contents of messages, each before the write of the same index.
    messages: Vec<Map<String, Value>>,
}

/// A random history.
pub(crate) struct World {
    pub(crate) schema: Schema,
    /// Rows of each table at each position.
    pub(crate) states: Vec<Vec<Vec<Vec<Cell>>>>,
    /// The transactions that count.
    pub(crate) transactions: Vec<Transaction>,
    all: Vec<Transaction>,
    /// Whether each table's old rows are logged whole.
    full: Vec<bool>,
    pub(crate) cut_percent: usize,
    snapshot_rows: bool,
    millis: bool,
    decimals: Decimals,
}

/// `decimal.handling.mode`
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decimals {
    Precise,
    Text,
    Double,
}

/// What is known of a commit, for people.
pub(crate) fn attributes(
    position: u32,
    xid: Option<u64>,
    time: Option<i64>,
    context: Option<Map<String, Value>>,
) -> String {
    let context: Option<std::collections::BTreeMap<_, _>> =
        context.map(|context| context.into_iter().collect());
    format!("#{position} {xid:?} {time:?} {context:?}")
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let (schema, found) = ddl::parse(SCHEMA, Path::new("schema.sql"));
        assert!(found.is_empty(), "{found:?}");
        let mut world = World {
            schema,
            states: Vec::new(),
            transactions: Vec::new(),
            all: Vec::new(),
            // A table without a primary key needs REPLICA IDENTITY FULL.
            full: vec![rng.chance(50), rng.chance(50), true],
            cut_percent: rng.below(101),
            snapshot_rows: rng.chance(50),
            millis: rng.chance(30),
            decimals: *rng.pick(&[Decimals::Precise, Decimals::Text, Decimals::Double]),
        };
        let mut state: Vec<Vec<Vec<Cell>>> = vec![Vec::new(); 3];
        for _ in 0..rng.below(8) {
            let table = rng.below(3);
            if let Some(row) = world.new_row(&mut rng, table, &state[table]) {
                state[table].push(row);
            }
        }
        world.states.push(state.clone());
        let mut lsn = 0x1_0000_0000u64 - 500;
        let mut last_commit_lsn = lsn - 10;
        for at in 0..(5 + rng.below(15)) as u64 {
            let mut transaction = Transaction {
                writes: Vec::new(),
                xid: 700 + 2 * at,
                time: 1_773_331_431_000_000 + at as i64 * 1_234_567,
                commit_lsn: 0,
                last_commit_lsn,
                messages: Vec::new(),
            };
            for _ in 0..rng.below(5) {
                lsn += 1 + rng.below(100) as u64;
                world.write(&mut rng, &mut state, lsn, &mut transaction);
            }
            for message in 0..rng.below(3) {
                let mut content = Map::new();
                content.insert("service".into(), json!(format!("s{}", rng.below(3))));
                content.insert(format!("k{message}"), json!(rng.below(9)));
                transaction.messages.push(content);
            }
            lsn += 10;
            transaction.commit_lsn = lsn;
            last_commit_lsn = lsn;
            world.all.push(transaction.clone());
            if !transaction.writes.is_empty() {
                world.transactions.push(transaction);
                world.states.push(state.clone());
            }
        }
        world
    }

    pub(crate) fn empty_history(&self) -> History {
        History::new(self.schema.clone(), Origin::SingleState, false)
    }

    pub(crate) fn attributes(&self, position: usize) -> String {
        let commit = u32::try_from(position).expect("a small number");
        match position.checked_sub(1).map(|at| &self.transactions[at]) {
            None => attributes(commit, None, None, None),
            Some(t) => attributes(commit, Some(t.xid), Some(t.time), t.context()),
        }
    }

    fn cell(&self, rng: &mut Rng, column: &Column) -> Cell {
        if column.nullable && rng.chance(15) {
            return Cell::Null;
        }
        const TEXTS: [&str; 7] = [
            "new",
            "paid",
            "sent",
            "",
            "a\"b\\c,{}",
            "tab\tline\nend",
            "größer 😀",
        ];
        match &column.data_type {
            DataType::Bool => Cell::Bool(rng.chance(50)),
            DataType::Int32 | DataType::Int64 => Cell::Int(rng.between(-3, 40)),
            DataType::Float64 => Cell::Float(rng.between(-1_000_000, 1_000_000) as f64 / 7.0),
            DataType::Numeric { precision_scale } => Cell::Decimal(Decimal {
                unscaled: i128::from(
                    rng.between(-9_999_999_999, 9_999_999_999) / 10i64.pow(rng.below(10) as u32),
                ),
                scale: precision_scale.map_or(4, |(_, scale)| scale as u8),
            }),
            DataType::Timestamp | DataType::TimestampTz => {
                let far = rng.between(200_000_000_000, 4_000_000_000_000) * 1000;
                Cell::Timestamp(far + if self.millis { 0 } else { rng.between(0, 999) })
            }
            DataType::Date => Cell::Date(rng.between(-20_000, 40_000) as i32),
            DataType::Time => Cell::Time(rng.between(100_000, 86_399_999) * 1000),
            DataType::Bytea => {
                Cell::Bytes((0..rng.below(9)).map(|_| rng.below(256) as u8).collect())
            }
            DataType::Array(_) => {
                let item = |rng: &mut Rng| match rng.chance(20) {
                    true => Cell::Null,
                    false => Cell::Text((*rng.pick(&TEXTS)).to_owned()),
                };
                Cell::List((0..rng.below(4)).map(|_| item(rng)).collect())
            }
            _ => Cell::Text((*rng.pick(&TEXTS)).to_owned()),
        }
    }

    /// A row whose key is not there yet.
    fn new_row(&self, rng: &mut Rng, table: usize, rows: &[Vec<Cell>]) -> Option<Vec<Cell>> {
        let declared = &self.schema.tables[table];
        let row: Vec<Cell> = declared
            .columns
            .iter()
            .map(|column| self.cell(rng, column))
            .collect();
        let taken = |other: &Vec<Cell>| {
            !declared.primary_key.is_empty()
                && declared.primary_key.iter().all(|&at| other[at] == row[at])
        };
        (!rows.iter().any(taken)).then_some(row)
    }

    fn write(&self, rng: &mut Rng, state: &mut [Vec<Vec<Cell>>], lsn: u64, to: &mut Transaction) {
        let table = rng.below(3);
        let rows = &mut state[table];
        let key = &self.schema.tables[table].primary_key;
        let step = if rng.chance(4) {
            rows.clear();
            Step::Truncate
        } else if rows.is_empty() || rng.chance(35) {
            let Some(row) = self.new_row(rng, table, rows) else {
                return;
            };
            rows.push(row.clone());
            Step::Insert(row)
        } else if rng.chance(30) {
            let at = rng.below(rows.len());
            Step::Delete(rows.remove(at))
        } else {
            let at = rng.below(rows.len());
            let Some(fresh) = self.new_row(rng, table, rows) else {
                return;
            };
            let before = rows[at].clone();
            let moved = !key.is_empty() && rng.chance(25);
            let unlogged = table == 0 && before[3] != Cell::Null && rng.chance(40);
            let mut after = before.clone();
            for column in 0..after.len() {
                let wanted = if key.contains(&column) {
                    moved
                } else {
                    rng.chance(40)
                };
                if wanted && !(unlogged && column == 3) {
                    after[column] = fresh[column].clone();
                }
            }
            rows[at] = after.clone();
            Step::Update {
                before,
                after,
                moved,
                unlogged,
            }
        };
        to.writes.push(Write { table, step, lsn });
    }

    /// Position 0 as CSV files.
    pub(crate) fn snapshot_files(&self) -> Vec<(String, String)> {
        let text = |column: &Column, cell: &Cell| match value::to_text(&column.data_type, cell) {
            Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            None => String::new(),
        };
        let file = |(table, rows): (&Table, &Vec<Vec<Cell>>)| {
            let header: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            let mut csv = header.join(",") + "\n";
            for row in rows {
                let cells: Vec<String> = table
                    .columns
                    .iter()
                    .zip(row)
                    .map(|(column, cell)| text(column, cell))
                    .collect();
                csv += &(cells.join(",") + "\n");
            }
            (table.name.short(), csv)
        };
        self.schema
            .tables
            .iter()
            .zip(&self.states[0])
            .map(file)
            .collect()
    }

    /// Position 0 as events.
    pub(crate) fn snapshot_events(&self, form: Form) -> Vec<String> {
        let mut out = Vec::new();
        for (table, rows) in self.states[0].iter().enumerate() {
            for row in rows {
                let first = if out.is_empty() { "first" } else { "true" };
                let after = self.debezium_row(form, table, row, |_| true);
                let name = &self.schema.tables[table].name.name;
                let source = debezium::source(name, (699, 1, 5), 1_773_331_430_000_000, first);
                out.push(self.event(form, table, "r", ("null", &after), &source));
            }
        }
        out
    }

    /// The history after position 0.
    pub(crate) fn lines(&self, form: Form) -> Vec<String> {
        match form {
            Form::Native => {
                let numbered = self.transactions.iter().enumerate();
                numbered.map(|(at, t)| self.native(at + 1, t)).collect()
            }
            Form::Wal2Json1 => self.all.iter().map(|t| self.wal2json_1(t)).collect(),
            Form::Wal2Json2 => self.all.iter().flat_map(|t| self.wal2json_2(t)).collect(),
            Form::Debezium | Form::DebeziumEnvelope => self
                .all
                .iter()
                .flat_map(|t| self.debezium(form, t))
                .collect(),
        }
    }

    fn native(&self, commit: usize, transaction: &Transaction) -> String {
        let image = |table: &Table, row: &[Cell], wanted: &dyn Fn(usize) -> bool| {
            let columns = table.columns.iter().zip(row).enumerate();
            let columns = columns.filter(|(at, _)| wanted(*at));
            let cell = |(_, (column, cell)): (usize, (&Column, &Cell))| {
                (column.name.clone(), value::to_json(&column.data_type, cell))
            };
            Value::Object(columns.map(cell).collect())
        };
        let changes: Vec<Value> = transaction
            .writes
            .iter()
            .map(|write| {
                let table = &self.schema.tables[write.table];
                let is_old = |at: usize| self.full[write.table] || table.primary_key.contains(&at);
                let name = table.name.to_string();
                match &write.step {
                    Step::Insert(row) => json!({"table": name, "op": "insert", "after": image(table, row, &|_| true)}),
                    Step::Delete(row) => json!({"table": name, "op": "delete", "before": image(table, row, &is_old)}),
                    Step::Update { before, after, unlogged, .. } => json!({
                        "table": name, "op": "update", "before": image(table, before, &is_old),
                        "after": image(table, after, &|at| !(*unlogged && at == 3))}),
                    Step::Truncate => json!({"table": name, "op": "truncate"}),
                }
            })
            .collect();
        json!({
            "commit": commit, "lsn": lsn_text(transaction.commit_lsn), "xid": transaction.xid,
            "time": value::format_timestamp(transaction.time), "context": transaction.context(), "changes": changes
        })
        .to_string()
    }
}

impl Transaction {
    /// All messages merged; later keys win.
    fn context(&self) -> Option<Map<String, Value>> {
        let mut merged: Option<Map<String, Value>> = None;
        for content in &self.messages {
            merged.get_or_insert_default().extend(content.clone());
        }
        merged
    }
}

fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}
