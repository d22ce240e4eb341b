//! The forms that Debezium writes.

use std::fmt::Write as _;

use firstbad::change::Cell;
use firstbad::schema::{Column, DataType, value};
use serde_json::{Value, json};

use super::{Decimals, Form, Step, Transaction, World};

impl World {
    pub(super) fn debezium(&self, form: Form, transaction: &Transaction) -> Vec<String> {
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
                let name = &self.schema.tables[write.table].name.name;
                let source = source(name, ids, transaction.time, "false");
                self.event(form, write.table, op, (before, after), &source)
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

    pub(super) fn debezium_row(
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

    /// An event with its two images and where it comes from.
    pub(super) fn event(
        &self,
        form: Form,
        table: usize,
        op: &str,
        (before, after): (&str, &str),
        source: &Value,
    ) -> String {
        let declared = &self.schema.tables[table];
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

pub(super) fn source(
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
