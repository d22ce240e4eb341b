//! A database with a slot, whose messages become transactions and a history that must equal the server's tables.

use std::path::Path;

use firstbad::change::{Cell, Change, Transaction};
use firstbad::postgres::assemble::{AssembleError, Assembled, Assembler, Fed, Item, Limits};
use firstbad::postgres::relations::{Relations, Watched, WatchedColumn};
use firstbad::schema::value::parse_text;
use firstbad::schema::{Schema, Table, TableName, ddl};
use firstbad::state::{History, Origin};

use crate::postgres::Cluster;

/// Settings under which values have the text that the stream is read with.
pub(crate) const SETTINGS: &str = "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC'; \
     set extra_float_digits = 1; set bytea_output = 'hex';";

/// Publication and slot of every stand.
pub(crate) const NAME: &str = "firstbad_test";

pub(crate) struct Stand<'c> {
    pub(crate) cluster: &'c Cluster,
    pub(crate) database: String,
    pub(crate) assembler: Assembler,
    pub(crate) history: History,
    pub(crate) directory: tempfile::TempDir,
}

/// Transactions, and marks outside of them.
pub(crate) type Taken = Vec<Fed>;

impl<'c> Stand<'c> {
    /// A new database with what the SQL makes; some tables of it are watched, from now on.
    pub(crate) fn new(cluster: &'c Cluster, database: &str, sql: &str, tables: &[&str]) -> Self {
        cluster.sql("postgres", &format!("create database {database}"));
        cluster.sql(database, sql);
        let list = tables.join(", ");
        cluster.sql(
            database,
            &format!(
                "create publication {NAME} for table {list} with (publish_via_partition_root = true);
                 select pg_create_logical_replication_slot('{NAME}_{database}', 'pgoutput');"
            ),
        );
        let (schema, watched) = catalog(cluster, database, tables);
        let directory = tempfile::tempdir().expect("a directory");
        let relations = Relations::new(schema.clone(), watched);
        let limits = Limits::new(directory.path());
        let mut history = History::new(schema.clone(), Origin::Changes, false);
        for (at, table) in schema.tables.iter().enumerate() {
            for row in rows(cluster, database, table) {
                history.load(at, &row);
            }
        }
        Stand {
            cluster,
            database: database.to_owned(),
            assembler: Assembler::new(relations, limits),
            history,
            directory,
        }
    }

    pub(crate) fn slot(&self) -> String {
        format!("{NAME}_{}", self.database)
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.database)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.database, sql)
    }

    /// The messages since the last time, as the server's own function gives them.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        // Sessions that do not wait for the log leave its end unwritten; one that does writes all of it.
        self.sql("set synchronous_commit = on; select pg_logical_emit_message(true, 'written', '') is null;");
        let sql = format!(
            "copy (select data from pg_logical_slot_get_binary_changes('{}', null, null, 'proto_version', '1', \
             'publication_names', '{NAME}', 'messages', 'true')) to stdout (format binary)",
            self.slot()
        );
        let arguments = ["-X", "-q", "-d", &self.database, "-c", SETTINGS, "-c", &sql];
        fields(&self.cluster.client("psql", &arguments).stdout)
    }

    /// What was committed since the last time.
    pub(crate) fn take(&mut self) -> Taken {
        let mut out = Vec::new();
        for message in self.messages() {
            let fed = self.assembler.feed(&message);
            out.extend(fed.unwrap_or_else(|error| panic!("{}: {error}", self.database)));
        }
        assert!(!self.assembler.is_open(), "transactions are whole");
        out
    }

    /// What was committed since the last time, with changes of watched tables; applied to the history.
    pub(crate) fn follow(&mut self) -> Vec<Assembled> {
        let mut out = Vec::new();
        for fed in self.take() {
            if let Fed::Transaction(found) = fed
                && found.changes > 0
            {
                self.apply(&found);
                out.push(*found);
            }
        }
        out
    }

    fn apply(&mut self, found: &Assembled) {
        let transaction = Transaction {
            commit: self.history.head() + 1,
            meta: found.meta.clone(),
            changes: changes(found),
        };
        let applied = self.history.apply(&transaction);
        applied.unwrap_or_else(|(at, error)| {
            panic!(
                "{}: change {at}: {error}: {:?}",
                self.database, transaction.changes[at]
            )
        });
    }

    /// The history's tables are the server's.
    pub(crate) fn is_equal(&self, what: &str) {
        for (at, table) in self.history.schema.tables.iter().enumerate() {
            let versions = &self.history.tables[at];
            let row = |row: &u32| -> Vec<Cell> {
                let columns = 0..table.columns.len();
                columns.map(|column| versions.cell(column, *row)).collect()
            };
            let visible = versions.visible(self.history.head());
            let ours = sorted(visible.iter().map(row).collect());
            let theirs = sorted(rows(self.cluster, &self.database, table));
            assert_eq!(ours.len(), theirs.len(), "{what}: rows of {}", table.name);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs, "{what}: {}", table.name);
            }
        }
    }
}

impl Drop for Stand<'_> {
    /// A server has few slots.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.sql(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                 where database = current_database() and not active",
            );
        }
    }
}

/// All items of a transaction.
pub(crate) fn items(found: &Assembled) -> Vec<Item> {
    let mut out = Vec::new();
    let all = found.body.for_each(|item| {
        out.push(item.clone());
        Ok::<(), AssembleError>(())
    });
    all.expect("the body can be read");
    out
}

/// All changes of a transaction.
pub(crate) fn changes(found: &Assembled) -> Vec<Change> {
    let change = |item| match item {
        Item::Change(change) => Some(change),
        _ => None,
    };
    let out: Vec<Change> = items(found).into_iter().filter_map(change).collect();
    let count = usize::try_from(found.changes).expect("a count");
    assert_eq!(out.len(), count, "changes are counted");
    out
}

fn sorted(mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

/// The schema of some tables and what the catalog says about their columns.
pub(crate) fn catalog(
    cluster: &Cluster,
    database: &str,
    tables: &[&str],
) -> (Schema, Vec<Watched>) {
    let dump = cluster.dump(database, &["--schema-only"]);
    let dump = String::from_utf8(dump).expect("UTF-8");
    let (mut schema, _) = ddl::parse(&dump, Path::new("schema.sql"));
    let names: Vec<TableName> = tables.iter().map(|name| TableName::parse(name)).collect();
    schema.tables.retain(|table| names.contains(&table.name));
    assert_eq!(schema.tables.len(), tables.len(), "every table is declared");
    let watched = schema.tables.iter().enumerate().map(|(at, table)| {
        let sql = format!(
            "select attrelid, attname, atttypid, atttypmod, attgenerated = '' from pg_attribute
             where attrelid = '{}'::regclass and attnum > 0 and not attisdropped",
            table.name
        );
        let said = cluster.sql(database, &sql);
        let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split('|').collect()).collect();
        let column = |name: &str| {
            let line = lines.iter().find(|line| line[1] == name);
            let line = line.unwrap_or_else(|| panic!("{name} is in the catalog"));
            WatchedColumn {
                type_oid: line[2].parse().expect("an oid"),
                typmod: line[3].parse().expect("a modifier"),
                is_sent: line[4] == "t",
                is_read: true,
            }
        };
        Watched {
            table: at,
            oid: lines[0][0].parse().expect("an oid"),
            columns: table.columns.iter().map(|c| column(&c.name)).collect(),
        }
    });
    let watched = watched.collect();
    (schema, watched)
}

/// A table's rows as the server has them, read as text.
pub(crate) fn rows(cluster: &Cluster, database: &str, table: &Table) -> Vec<Vec<Cell>> {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            format!(
                "case when {0} is null then null else format('%s', {0}) end",
                format_args!("\"{}\"", c.name.replace('"', "\"\""))
            )
        })
        .collect();
    let only = format!(
        "{SETTINGS} select json_build_array({}) from {};",
        columns.join(", "),
        table.name
    );
    let said = cluster.sql(database, &only);
    let row = |line: &str| -> Vec<Cell> {
        let texts: Vec<Option<String>> = serde_json::from_str(line).expect("a row");
        let cells = texts
            .iter()
            .zip(&table.columns)
            .map(|(text, column)| match text {
                None => Cell::Null,
                Some(text) => parse_text(&column.data_type, text)
                    .unwrap_or_else(|error| panic!("{}: {error}", column.name)),
            });
        cells.collect()
    };
    said.lines().map(row).collect()
}

/// The values of a binary `COPY` of one column.
fn fields(copied: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = copied
        .strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
        .expect("a binary COPY");
    let mut out = Vec::new();
    while let Some(row) = rest.strip_prefix(b"\0\x01") {
        let (length, row) = row.split_first_chunk::<4>().expect("a length");
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        let (value, row) = row.split_at(length);
        out.push(value.to_vec());
        rest = row;
    }
    assert_eq!(rest, b"\xff\xff", "the end of a COPY");
    out
}
