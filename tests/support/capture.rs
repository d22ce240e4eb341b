//! What a PostgreSQL server does, recorded as a history directory: the tables as they are at the position of a replication slot, and
//! the transactions since, decoded by the server's own `pgoutput` and written down in firstbad's own form.
//!
//! The format of the messages is PostgreSQL's documentation, "Logical Replication Message Formats", protocol version 1. The slot is
//! read in few large pieces, by `COPY` of what its SQL function gives.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::postgres::Cluster;

const SLOT: &str = "firstbad_capture";
/// Microseconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A recording that goes on.
pub(crate) struct Capture<'c> {
    cluster: &'c Cluster,
    database: String,
    directory: PathBuf,
    decoder: Decoder,
    files: usize,
}

impl<'c> Capture<'c> {
    /// Begins to record some tables of a database into a directory. Nobody may write to them until this is done.
    pub(crate) fn begin(
        cluster: &'c Cluster,
        database: &str,
        tables: &[&str],
        directory: &Path,
    ) -> Self {
        let list = tables.join(", ");
        cluster.sql(
            database,
            &format!(
                "create publication {SLOT} for table {list};
                 select pg_create_logical_replication_slot('{SLOT}', 'pgoutput');"
            ),
        );
        for part in ["snapshot", "changes"] {
            std::fs::create_dir_all(directory.join(part)).expect("directories can be made");
        }
        let schema = cluster.dump(database, &["--schema-only"]);
        std::fs::write(directory.join("schema.sql"), schema).expect("a file can be written");
        copy(cluster, database, tables, &directory.join("snapshot"));
        Capture {
            cluster,
            database: database.to_owned(),
            directory: directory.to_path_buf(),
            decoder: Decoder::default(),
            files: 0,
        }
    }

    /// Writes down what was committed since, as one more file; gives the number of the last transaction.
    pub(crate) fn take(&mut self) -> u64 {
        // Sessions that do not wait for the log leave its end unwritten; one that does writes all of it.
        self.cluster.sql(
            &self.database,
            "set synchronous_commit = on; select pg_logical_emit_message(true, 'written', '') is null;",
        );
        let sql = format!(
            "copy (select data from pg_logical_slot_get_binary_changes('{SLOT}', null, null, 'proto_version', '1', \
             'publication_names', '{SLOT}', 'messages', 'true')) to stdout (format binary)"
        );
        let arguments = ["-X", "-q", "-d", &self.database, "-c", &sql];
        let copied = self.cluster.client("psql", &arguments).stdout;
        self.files += 1;
        let path = format!("changes/{:04}.ndjson", self.files);
        let file = std::fs::File::create(self.directory.join(path)).expect("a file can be made");
        let mut out = std::io::BufWriter::new(file);
        for message in fields(&copied) {
            if let Some(line) = self.decoder.message(message) {
                writeln!(out, "{line}").expect("a file can be written");
            }
        }
        out.flush().expect("a file can be written");
        self.decoder.commit
    }
}

/// Writes tables as they are into a directory, a CSV file each.
pub(crate) fn copy(cluster: &Cluster, database: &str, tables: &[&str], directory: &Path) {
    std::fs::create_dir_all(directory).expect("directories can be made");
    for table in tables {
        let sql = format!("copy (select * from {table}) to stdout with (format csv, header)");
        let arguments = ["-X", "-q", "-d", database, "-c", &sql];
        let rows = cluster.client("psql", &arguments).stdout;
        let path = directory.join(format!("{table}.csv"));
        std::fs::write(path, rows).expect("a file can be written");
    }
}

/// The values of a binary `COPY` of one column.
fn fields(copied: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Bytes(copied);
    assert_eq!(rest.take(11), b"PGCOPY\n\xff\r\n\0", "a binary COPY");
    assert_eq!(rest.int(4), 0, "no flags");
    assert_eq!(rest.int(4), 0, "no extension");
    std::iter::from_fn(move || match rest.int(2) {
        1 => {
            let length = rest.length();
            Some(rest.take(length))
        }
        // -1 ends the rows.
        0xffff => None,
        other => panic!("a row of {other} columns"),
    })
}

/// Bytes that are read from the front; numbers are in network order.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn int(&mut self, length: usize) -> u64 {
        let bytes = self.take(length).iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn length(&mut self) -> usize {
        usize::try_from(self.int(4)).expect("a length")
    }

    /// Text that ends with a zero byte.
    fn name(&mut self) -> String {
        let length = self.0.iter().position(|byte| *byte == 0);
        let name = self.take(length.expect("names end"));
        self.byte();
        text(name).to_owned()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the server speaks UTF-8")
}

/// A table as the stream described it last.
struct Relation {
    name: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    in_identity: bool,
    is_integer: bool,
}

/// One column of a row.
enum Datum<'a> {
    Null,
    /// A large value that did not change and was not logged.
    Unchanged,
    Text(&'a str),
}

/// Messages become lines.
#[derive(Default)]
struct Decoder {
    relations: HashMap<u64, Relation>,
    open: Map<String, Value>,
    changes: Vec<Value>,
    context: Map<String, Value>,
    commit: u64,
}

impl Decoder {
    /// Takes a message; gives a line when it ends a transaction that changed rows.
    fn message(&mut self, message: &[u8]) -> Option<String> {
        let mut bytes = Bytes(message);
        match bytes.byte() {
            b'B' => self.begin(&mut bytes),
            b'R' => self.relation(&mut bytes),
            b'I' => {
                let relation = &self.relations[&bytes.int(4)];
                assert_eq!(bytes.byte(), b'N', "an insert has a new row");
                let after = image(relation, &tuple(&mut bytes), false);
                self.push(json!({"table": relation.name, "op": "insert", "after": after}));
            }
            b'U' => self.update(&mut bytes),
            b'D' => {
                let relation = &self.relations[&bytes.int(4)];
                let (name, old) = old(relation, &mut bytes);
                self.push(json!({"table": relation.name, "op": "delete", name: old}));
            }
            b'T' => {
                let count = bytes.int(4);
                bytes.byte();
                for _ in 0..count {
                    let table = &self.relations[&bytes.int(4)].name;
                    self.push(json!({"table": table, "op": "truncate"}));
                }
            }
            b'M' => self.logical_message(&mut bytes),
            b'C' => return self.end(),
            // Types and origins say nothing about rows.
            b'Y' | b'O' => {}
            other => panic!("a message `{}`", char::from(other)),
        }
        None
    }

    fn begin(&mut self, bytes: &mut Bytes<'_>) {
        let lsn = bytes.int(8);
        let micros = i64::try_from(bytes.int(8)).expect("a time after 2000") + EPOCH_MICROS;
        let time = chrono::DateTime::from_timestamp_micros(micros).expect("a time");
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        self.open = Map::new();
        self.open.insert(
            "lsn".into(),
            format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff).into(),
        );
        self.open.insert("xid".into(), bytes.int(4).into());
        self.open.insert("time".into(), time.into());
    }

    fn end(&mut self) -> Option<String> {
        let changes = std::mem::take(&mut self.changes);
        let context = std::mem::take(&mut self.context);
        let open = std::mem::take(&mut self.open);
        if changes.is_empty() {
            return None;
        }
        self.commit += 1;
        let mut line = Map::new();
        line.insert("commit".into(), self.commit.into());
        line.extend(open);
        if !context.is_empty() {
            line.insert("context".into(), context.into());
        }
        line.insert("changes".into(), changes.into());
        Some(Value::Object(line).to_string())
    }

    fn relation(&mut self, bytes: &mut Bytes<'_>) {
        let oid = bytes.int(4);
        let (schema, table) = (bytes.name(), bytes.name());
        bytes.byte();
        let columns = (0..bytes.int(2)).map(|_| {
            let in_identity = bytes.byte() == 1;
            let name = bytes.name();
            let type_oid = bytes.int(4);
            bytes.int(4);
            Column {
                name,
                in_identity,
                // bigint, smallint and integer.
                is_integer: matches!(type_oid, 20 | 21 | 23),
            }
        });
        let relation = Relation {
            name: format!("{schema}.{table}"),
            columns: columns.collect(),
        };
        self.relations.insert(oid, relation);
    }

    fn update(&mut self, bytes: &mut Bytes<'_>) {
        let relation = &self.relations[&bytes.int(4)];
        let mut change = json!({"table": relation.name, "op": "update"});
        if bytes.0[0] != b'N' {
            let (name, old) = old(relation, bytes);
            change[name] = old;
        }
        assert_eq!(bytes.byte(), b'N', "an update has a new row");
        change["after"] = image(relation, &tuple(bytes), false);
        self.push(change);
    }

    /// Who wrote, where the message is one of firstbad's.
    fn logical_message(&mut self, bytes: &mut Bytes<'_>) {
        let is_transactional = bytes.byte() == 1;
        bytes.int(8);
        let prefix = bytes.name();
        let length = bytes.length();
        if is_transactional && prefix == "firstbad" {
            let context: Map<String, Value> =
                serde_json::from_slice(bytes.take(length)).expect("the context is an object");
            self.context.extend(context);
        }
    }

    fn push(&mut self, change: Value) {
        self.changes.push(change);
    }
}

/// The old row of an update or delete: all of it is `before`, its identity alone is `key`.
fn old(relation: &Relation, bytes: &mut Bytes<'_>) -> (&'static str, Value) {
    match bytes.byte() {
        b'O' => ("before", image(relation, &tuple(bytes), false)),
        b'K' => ("key", image(relation, &tuple(bytes), true)),
        other => panic!("an old row `{}`", char::from(other)),
    }
}

fn tuple<'a>(bytes: &mut Bytes<'a>) -> Vec<Datum<'a>> {
    let count = bytes.int(2);
    let datum = |_| match bytes.byte() {
        b'n' => Datum::Null,
        b'u' => Datum::Unchanged,
        b't' => {
            let length = bytes.length();
            Datum::Text(text(bytes.take(length)))
        }
        other => panic!("a datum `{}`", char::from(other)),
    };
    (0..count).map(datum).collect()
}

/// A row as JSON; columns outside of the identity are null in an old key, whatever they were.
fn image(relation: &Relation, tuple: &[Datum<'_>], identity_only: bool) -> Value {
    assert_eq!(
        relation.columns.len(),
        tuple.len(),
        "a datum for each column"
    );
    let mut row = Map::new();
    for (column, datum) in relation.columns.iter().zip(tuple) {
        if identity_only && !column.in_identity {
            continue;
        }
        let value = match datum {
            Datum::Unchanged => continue,
            Datum::Null => Value::Null,
            Datum::Text(text) if column.is_integer => text
                .parse::<i64>()
                .ok()
                .filter(|number| number.abs() < 1 << 53)
                .map_or_else(|| (*text).into(), Value::from),
            Datum::Text(text) => (*text).into(),
        };
        row.insert(column.name.clone(), value);
    }
    row.into()
}
