//! The forms that wal2json writes.

use firstbad::change::Cell;
use firstbad::schema::{DataType, value};
use serde_json::json;

use super::{Step, Transaction, World, lsn_text};

impl World {
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

    pub(super) fn wal2json_1(&self, transaction: &Transaction) -> String {
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

    pub(super) fn wal2json_2(&self, transaction: &Transaction) -> Vec<String> {
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
