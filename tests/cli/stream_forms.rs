//! Random histories, and the writers of every form in which a history is read. The writers follow what the recorders document, not
//! what the readers do.

use std::fmt::Write as _;
use std::path::Path;

use firstbad::change::{Cell, Decimal};
use firstbad::schema::{Column, DataType, Schema, Table, ddl, value};
use firstbad::state::{History, Origin};
use serde_json::{Map, Value, json};

#[path = "../oracle/rng.rs"]
#[allow(dead_code)]
mod rng;
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
                out.push(self.event(form, table, "r", ("null", &after), (699, 1, 5), first));
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

    /// Names, types and values of the columns that are wanted.
    fn wal2json_columns(
        &self,
        table: usize,
        row: &[Cell],
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<[String; 3]> {
        let columns = self.schema.tables[table]
            .columns
            .iter()
            .zip(row)
            .enumerate();
        columns
            .filter(|(at, _)| wanted(*at))
            .map(|(_, (column, cell))| {
                [
                    json!(column.name).to_string(),
                    json!(column.data_type.to_string()).to_string(),
                    wal2json_value(&column.data_type, cell),
                ]
            })
            .collect()
    }

    /// The columns that say which row it was: NULLs are left out.
    fn wal2json_identity(&self, table: usize, row: &[Cell]) -> Vec<[String; 3]> {
        let key = &self.schema.tables[table].primary_key;
        self.wal2json_columns(table, row, |at| {
            (self.full[table] && row[at] != Cell::Null) || key.contains(&at)
        })
    }

    fn wal2json_1(&self, transaction: &Transaction) -> String {
        let list = |columns: &[[String; 3]], part: usize| {
            let parts: Vec<&str> = columns.iter().map(|column| column[part].as_str()).collect();
            format!("[{}]", parts.join(","))
        };
        let new = |columns: &[[String; 3]]| {
            format!(
                ",\"columnnames\":{},\"columntypes\":{},\"columnvalues\":{}",
                list(columns, 0),
                list(columns, 1),
                list(columns, 2)
            )
        };
        let old = |columns: &[[String; 3]]| {
            format!(
                ",\"oldkeys\":{{\"keynames\":{},\"keytypes\":{},\"keyvalues\":{}}}",
                list(columns, 0),
                list(columns, 1),
                list(columns, 2)
            )
        };
        let mut changes: Vec<String> = transaction
            .messages
            .iter()
            .map(|content| {
                json!({"kind": "message", "transactional": true, "prefix": "firstbad", "content": json!(content).to_string()})
                    .to_string()
            })
            .collect();
        for write in &transaction.writes {
            let (kind, rest) = match &write.step {
                Step::Insert(row) => (
                    "insert",
                    new(&self.wal2json_columns(write.table, row, |_| true)),
                ),
                Step::Delete(row) => ("delete", old(&self.wal2json_identity(write.table, row))),
                Step::Update {
                    before,
                    after,
                    unlogged,
                    ..
                } => {
                    let columns =
                        self.wal2json_columns(write.table, after, |at| !(*unlogged && at == 3));
                    (
                        "update",
                        new(&columns) + &old(&self.wal2json_identity(write.table, before)),
                    )
                }
                Step::Truncate => ("truncate", String::new()),
            };
            let name = &self.schema.tables[write.table].name.name;
            changes.push(format!(
                "{{\"kind\":\"{kind}\",\"schema\":\"public\",\"table\":\"{name}\"{rest}}}"
            ));
        }
        format!(
            "{{\"xid\":{},\"nextlsn\":\"{}\",\"timestamp\":\"{}\",\"change\":[{}]}}",
            transaction.xid,
            lsn_text(transaction.commit_lsn + 5),
            postgres_time(transaction.time),
            changes.join(",")
        )
    }

    fn wal2json_2(&self, transaction: &Transaction) -> Vec<String> {
        let list = |name: &str, columns: &[[String; 3]]| {
            let column = |[name, kind, value]: &[String; 3]| {
                format!("{{\"name\":{name},\"type\":{kind},\"value\":{value}}}")
            };
            let columns: Vec<String> = columns.iter().map(column).collect();
            format!(",\"{name}\":[{}]", columns.join(","))
        };
        let boundary = |action: &str| {
            json!({"action": action, "xid": transaction.xid, "timestamp": postgres_time(transaction.time),
                "lsn": lsn_text(transaction.commit_lsn), "nextlsn": lsn_text(transaction.commit_lsn + 5)})
            .to_string()
        };
        let mut out = vec![boundary("B")];
        for content in &transaction.messages {
            let content = json!(content).to_string();
            out.push(json!({"action": "M", "transactional": true, "prefix": "firstbad", "content": content}).to_string());
        }
        for write in &transaction.writes {
            let (action, rest) = match &write.step {
                Step::Insert(row) => (
                    "I",
                    list(
                        "columns",
                        &self.wal2json_columns(write.table, row, |_| true),
                    ),
                ),
                Step::Delete(row) => (
                    "D",
                    list("identity", &self.wal2json_identity(write.table, row)),
                ),
                Step::Update {
                    before,
                    after,
                    unlogged,
                    ..
                } => {
                    let columns =
                        self.wal2json_columns(write.table, after, |at| !(*unlogged && at == 3));
                    let identity = self.wal2json_identity(write.table, before);
                    (
                        "U",
                        list("columns", &columns) + &list("identity", &identity),
                    )
                }
                Step::Truncate => ("T", String::new()),
            };
            let name = &self.schema.tables[write.table].name.name;
            out.push(format!(
                "{{\"action\":\"{action}\",\"schema\":\"public\",\"table\":\"{name}\"{rest}}}"
            ));
        }
        out.push(boundary("C"));
        out
    }

    fn debezium(&self, form: Form, transaction: &Transaction) -> Vec<String> {
        let mut out = Vec::new();
        let first = transaction
            .writes
            .first()
            .map_or(transaction.commit_lsn, |write| write.lsn);
        for content in &transaction.messages {
            let message = json!({"prefix": "firstbad", "content": base64(json!(content).to_string().as_bytes())});
            let ids = (transaction.xid, first, transaction.last_commit_lsn);
            let source = source("", ids, transaction.time, "false");
            let event = json!({"op": "m", "ts_ms": 1, "source": source, "message": message});
            out.push(match form {
                Form::DebeziumEnvelope => {
                    json!({"schema": {"type": "struct", "fields": []}, "payload": event})
                        .to_string()
                }
                _ => event.to_string(),
            });
        }
        for write in &transaction.writes {
            let ids = (transaction.xid, write.lsn, transaction.last_commit_lsn);
            let event = |op: &str, before: &str, after: &str| {
                self.event_at(
                    form,
                    write.table,
                    op,
                    (before, after),
                    ids,
                    transaction.time,
                    "false",
                )
            };
            let row = |row: &[Cell]| self.debezium_row(form, write.table, row, |_| true);
            let old = |row: &[Cell]| self.debezium_before(form, write.table, row);
            match &write.step {
                Step::Insert(after) => out.push(event("c", "null", &row(after))),
                Step::Delete(before) => {
                    out.extend([event("d", &old(before), "null"), "null".to_owned()])
                }
                Step::Truncate => out.push(event("t", "null", "null")),
                Step::Update {
                    before,
                    after,
                    moved,
                    unlogged,
                } => {
                    let new =
                        self.debezium_row(form, write.table, after, |at| !(*unlogged && at == 3));
                    let key = &self.schema.tables[write.table].primary_key;
                    if *moved && key.iter().any(|&at| before[at] != after[at]) {
                        // A changed key comes as a delete, its tombstone, and an insert.
                        out.extend([
                            event("d", &old(before), "null"),
                            "null".to_owned(),
                            event("c", "null", &new),
                        ]);
                    } else if self.full[write.table] {
                        out.push(event("u", &old(before), &new));
                    } else {
                        out.push(event("u", "null", &new));
                    }
                }
            }
        }
        out
    }

    /// The old row: whole, or its key and fillers.
    fn debezium_before(&self, form: Form, table: usize, row: &[Cell]) -> String {
        if self.full[table] {
            return self.debezium_row(form, table, row, |_| true);
        }
        let declared = &self.schema.tables[table];
        let filled: Vec<Cell> = declared
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| match &column.data_type {
                _ if declared.primary_key.contains(&at) => row[at].clone(),
                _ if column.nullable => Cell::Null,
                DataType::Int32 => Cell::Int(0),
                _ => Cell::Text(String::new()),
            })
            .collect();
        self.debezium_row(form, table, &filled, |_| true)
    }

    fn debezium_row(
        &self,
        form: Form,
        table: usize,
        row: &[Cell],
        logged: impl Fn(usize) -> bool,
    ) -> String {
        let columns = self.schema.tables[table]
            .columns
            .iter()
            .zip(row)
            .enumerate();
        let cells: Vec<String> = columns
            .map(|(at, (column, cell))| {
                let shown = match logged(at) {
                    true => self.debezium_value(form, &column.data_type, cell),
                    false => json!("__debezium_unavailable_value").to_string(),
                };
                format!("{}:{shown}", json!(column.name))
            })
            .collect();
        format!("{{{}}}", cells.join(","))
    }

    fn debezium_value(&self, form: Form, data_type: &DataType, cell: &Cell) -> String {
        let divisor = if self.millis { 1000 } else { 1 };
        match (data_type, cell) {
            (_, Cell::Null) => "null".to_owned(),
            (_, Cell::Bytes(bytes)) => json!(base64(bytes)).to_string(),
            (_, Cell::Date(days)) => days.to_string(),
            (_, Cell::Time(micros)) => (micros / divisor).to_string(),
            (DataType::Timestamp, Cell::Timestamp(micros)) => (micros / divisor).to_string(),
            (_, Cell::Timestamp(micros)) => json!(value::format_timestamp(*micros)).to_string(),
            (DataType::Numeric { precision_scale }, Cell::Decimal(decimal)) => {
                match self.decimals {
                    Decimals::Text => json!(decimal.to_string()).to_string(),
                    Decimals::Double if form == Form::DebeziumEnvelope => decimal.to_string(),
                    Decimals::Double => decimal.to_string(),
                    Decimals::Precise => {
                        let bytes = json!(base64(&two_complement(decimal.unscaled))).to_string();
                        match precision_scale {
                            Some(_) => bytes,
                            None => format!("{{\"scale\":{},\"value\":{bytes}}}", decimal.scale),
                        }
                    }
                }
            }
            (_, cell) => value::to_json(data_type, cell).to_string(),
        }
    }

    fn event(
        &self,
        form: Form,
        table: usize,
        op: &str,
        images: (&str, &str),
        ids: (u64, u64, u64),
        snapshot: &str,
    ) -> String {
        self.event_at(
            form,
            table,
            op,
            images,
            ids,
            1_773_331_430_000_000,
            snapshot,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn event_at(
        &self,
        form: Form,
        table: usize,
        op: &str,
        (before, after): (&str, &str),
        ids: (u64, u64, u64),
        time: i64,
        snapshot: &str,
    ) -> String {
        let declared = &self.schema.tables[table];
        let source = source(&declared.name.name, ids, time, snapshot);
        let mut out = String::new();
        let _ = write!(
            out,
            "{{\"before\":{before},\"after\":{after},\"source\":{source},\"op\":\"{op}\",\"ts_ms\":1773331499000,\"transaction\":null}}"
        );
        if form == Form::DebeziumEnvelope {
            let fields: Vec<Value> = declared
                .columns
                .iter()
                .map(|column| self.described(column))
                .collect();
            let image = |name: &str| json!({"type": "struct", "fields": fields, "optional": true, "field": name});
            let schema = json!({"type": "struct", "fields": [image("before"), image("after")], "optional": false});
            out = format!("{{\"schema\":{schema},\"payload\":{out}}}");
        }
        out
    }

    fn described(&self, column: &Column) -> Value {
        let named = |kind: &str, name: &str| json!({"type": kind, "optional": column.nullable, "name": name, "version": 1, "field": column.name});
        let plain =
            |kind: &str| json!({"type": kind, "optional": column.nullable, "field": column.name});
        match &column.data_type {
            DataType::Bool => plain("boolean"),
            DataType::Int32 => plain("int32"),
            DataType::Int64 => plain("int64"),
            DataType::Float64 => plain("double"),
            DataType::Bytea => plain("bytes"),
            DataType::Date => named("int32", "io.debezium.time.Date"),
            DataType::Time if self.millis => named("int32", "io.debezium.time.Time"),
            DataType::Time => named("int64", "io.debezium.time.MicroTime"),
            DataType::Timestamp if self.millis => {
                named("int64", "org.apache.kafka.connect.data.Timestamp")
            }
            DataType::Timestamp => named("int64", "io.debezium.time.MicroTimestamp"),
            DataType::TimestampTz => named("string", "io.debezium.time.ZonedTimestamp"),
            DataType::Numeric { precision_scale } => match (self.decimals, precision_scale) {
                (Decimals::Text, _) => plain("string"),
                (Decimals::Double, _) => plain("double"),
                (Decimals::Precise, None) => {
                    named("struct", "io.debezium.data.VariableScaleDecimal")
                }
                (Decimals::Precise, Some((precision, scale))) => {
                    let mut out = named("bytes", "org.apache.kafka.connect.data.Decimal");
                    out["parameters"] = json!({"scale": scale.to_string(), "connect.decimal.precision": precision.to_string()});
                    out
                }
            },
            DataType::Array(_) => {
                json!({"type": "array", "items": {"type": "string", "optional": true}, "optional": true, "field": column.name})
            }
            _ => plain("string"),
        }
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

fn source(
    table: &str,
    (xid, lsn, last_commit): (u64, u64, u64),
    time: i64,
    snapshot: &str,
) -> Value {
    json!({
        "version": "2.5.0.Final", "connector": "postgresql", "name": "shop", "db": "shop", "schema": "public", "table": table,
        "ts_ms": time / 1000, "ts_us": time, "snapshot": snapshot, "txId": xid, "lsn": lsn, "xmin": null,
        "sequence": format!("[\"{last_commit}\",\"{lsn}\"]")
    })
}

fn wal2json_value(data_type: &DataType, cell: &Cell) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Bool(flag) => flag.to_string(),
        Cell::Int(_) | Cell::Float(_) | Cell::Decimal(_) => {
            value::to_text(data_type, cell).expect("a value")
        }
        Cell::Bytes(bytes) => {
            json!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()).to_string()
        }
        cell => json!(value::to_text(data_type, cell).expect("a value")).to_string(),
    }
}

fn postgres_time(micros: i64) -> String {
    value::to_text(&DataType::TimestampTz, &Cell::Timestamp(micros)).expect("a value")
}

fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// The shortest big-endian two's complement, as Java's `BigInteger.toByteArray` writes it.
fn two_complement(unscaled: i128) -> Vec<u8> {
    let bytes = unscaled.to_be_bytes();
    let keeps_sign = |at: usize| {
        let sign = if unscaled < 0 { 0xff } else { 0 };
        bytes[at] == sign && (bytes[at + 1] & 0x80 != 0) == (unscaled < 0)
    };
    let skip = (0..15).take_while(|&at| keeps_sign(at)).count();
    bytes[skip..].to_vec()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}
