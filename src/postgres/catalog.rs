//! What a database holds: its tables as its catalog declares them.
//!
//! [`Catalog::schema`] is the schema that `pg_dump --schema-only` of the same database would give: a partitioned table is one table,
//! partitions are left out, a domain is its base type, types of extensions are kept as text. [`TableInfo`] says, beyond that, what reading
//! and streaming need to know of a table.

mod ask;
mod types;

use std::collections::HashMap;

use tokio_postgres::Client;

use super::PostgresError;
use crate::schema::{Column, DataType, ForeignKey, Schema, Table, TableName};
use ask::{ColumnRow, ConstraintRow, RelationRow};

/// Follows no chain of partitions, domains or arrays that is longer.
const DEPTH_MAX: usize = 64;

/// A database's tables.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The tables, in the order of [`schema`](Self::schema)'s.
    pub tables: Vec<TableInfo>,
    /// What holds rows or shows some, and is no table of the schema; by name.
    pub left_out: Vec<LeftOut>,
    schema: Schema,
}

/// Which columns of the old row an update or delete carries into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Those of the primary key; none where there is none.
    Default,
    /// None.
    Nothing,
    /// All.
    Full,
    /// Those of a unique index, as indexes of the table's columns.
    Index(Vec<usize>),
}

/// What is known of a column beside its [`Column`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its number in the catalog, from 1; numbers of dropped columns are not used again.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// The oid of its type as declared: a domain's is the domain's own.
    pub type_oid: u32,
    /// The modifier of its type (length, precision …); -1 for none.
    pub typmod: i32,
    /// Whether Postgres computes it from other columns.
    pub generated: bool,
    /// Whether our role may read it.
    pub readable: bool,
}

/// A partition that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Its own replica identity: that of the root does not count.
    pub identity: Identity,
}

/// A table beside its [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Its columns in the order of the [`Table`]'s.
    pub columns: Vec<ColumnInfo>,
    /// Which columns of old rows the log has.
    pub identity: Identity,
    /// Whether it is partitioned.
    pub partitioned: bool,
    /// The partitions that hold its rows, by name; none for other tables.
    pub leaves: Vec<Leaf>,
    /// Whether it is unlogged: it can be read, but its changes are in no log.
    pub unlogged: bool,
    /// Whether other tables inherit from it; their rows are not its rows here.
    pub inherited: bool,
    /// Whether row security hides rows of it from our role.
    pub row_security: bool,
    /// Whether our role may read the whole table.
    pub readable: bool,
    /// About how many rows it has; None before its first ANALYZE or VACUUM.
    pub rows: Option<u64>,
    /// How much room its rows take, in bytes, without what is stored out of line; 0 for a partitioned table.
    pub bytes: u64,
}

/// Something that is no table of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: TableName,
    /// What it is: `view`, `materialized view`, `foreign table`, `table of an extension`.
    pub kind: &'static str,
}

impl Catalog {
    /// Reads the catalog, as it is in the current transaction.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read(client: &Client) -> Result<Catalog, PostgresError> {
        let asked = ask::all(client).await?;
        Ok(build(asked))
    }

    /// The tables, in the order of schema and name.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// A table by its name.
    pub fn table(&self, name: &TableName) -> Option<&TableInfo> {
        let at = self.schema.table_index(name)?;
        self.tables.get(at)
    }
}

fn build(asked: ask::Asked) -> Catalog {
    let by_oid: HashMap<u32, &RelationRow> = asked.relations.iter().map(|r| (r.oid, r)).collect();
    let mut columns: HashMap<u32, Vec<&ColumnRow>> = HashMap::new();
    for column in &asked.columns {
        columns.entry(column.table).or_default().push(column);
    }
    let mut constraints: HashMap<u32, Vec<&ConstraintRow>> = HashMap::new();
    for one in &asked.constraints {
        constraints.entry(one.table).or_default().push(one);
    }
    let mut leaves: HashMap<u32, Vec<&RelationRow>> = HashMap::new();
    for one in asked.relations.iter().filter(|r| r.kind != "p") {
        if let Some(root) = root_of(one, &by_oid) {
            leaves.entry(root).or_default().push(one);
        }
    }
    let around = Around {
        asked: &asked,
        by_oid: &by_oid,
        columns: &columns,
        leaves: &leaves,
    };
    let mut found = Catalog::default();
    let mut tables: Vec<(Table, TableInfo)> = Vec::new();
    for relation in &asked.relations {
        let kind = match relation.kind.as_str() {
            "v" => Some("view"),
            "m" => Some("materialized view"),
            "f" => Some("foreign table"),
            _ if relation.extension => Some("table of an extension"),
            _ => None,
        };
        if relation.parent.is_some() {
            continue;
        }
        match kind {
            Some(kind) => found.left_out.push(LeftOut {
                name: relation.name.clone(),
                kind,
            }),
            None => {
                let own = constraints
                    .get(&relation.oid)
                    .map_or(&[][..], Vec::as_slice);
                tables.push((around.table(relation, own), around.info(relation)));
            }
        }
    }
    tables.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    found.left_out.sort_by(|a, b| a.name.cmp(&b.name));
    (found.schema.tables, found.tables) = tables.into_iter().unzip();
    found
}

/// The table at the top of a partition's tree.
fn root_of(leaf: &RelationRow, by_oid: &HashMap<u32, &RelationRow>) -> Option<u32> {
    let mut root = leaf.parent?;
    for _ in 0..DEPTH_MAX {
        match by_oid.get(&root).and_then(|above| above.parent) {
            Some(above) => root = above,
            None => break,
        }
    }
    Some(root)
}

/// What the parts of a table are looked up in.
struct Around<'a> {
    asked: &'a ask::Asked,
    by_oid: &'a HashMap<u32, &'a RelationRow>,
    columns: &'a HashMap<u32, Vec<&'a ColumnRow>>,
    leaves: &'a HashMap<u32, Vec<&'a RelationRow>>,
}

impl Around<'_> {
    fn columns(&self, table: u32) -> &[&ColumnRow] {
        self.columns.get(&table).map_or(&[], Vec::as_slice)
    }

    /// Indexes of columns by their numbers; numbers that are not there are left out.
    fn indexes(&self, table: u32, numbers: &[i16]) -> Vec<usize> {
        let columns = self.columns(table);
        let at = |number: &i16| columns.iter().position(|column| column.attnum == *number);
        numbers.iter().filter_map(at).collect()
    }

    fn names(&self, table: u32, numbers: &[i16]) -> Vec<String> {
        let columns = self.columns(table);
        let indexes = self.indexes(table, numbers).into_iter();
        indexes.map(|at| columns[at].name.clone()).collect()
    }

    fn table(&self, relation: &RelationRow, constraints: &[&ConstraintRow]) -> Table {
        let column = |row: &&ColumnRow| {
            let (data_type, not_null) = self.asked.types.resolve(row.type_oid, &row.type_text);
            Column {
                name: row.name.clone(),
                data_type,
                nullable: !(row.not_null || not_null),
            }
        };
        let mut columns: Vec<Column> = self.columns(relation.oid).iter().map(column).collect();
        let mut primary_key = Vec::new();
        let mut foreign_keys = Vec::new();
        for one in constraints {
            if one.kind == "p" {
                primary_key = self.indexes(relation.oid, &one.columns);
            } else if let Some(to) = self.by_oid.get(&one.to_table) {
                foreign_keys.push(ForeignKey {
                    columns: self.names(relation.oid, &one.columns),
                    to_table: to.name.clone(),
                    to_columns: self.names(to.oid, &one.to_columns),
                });
            }
        }
        for &at in &primary_key {
            columns[at].nullable = false;
        }
        Table {
            name: relation.name.clone(),
            columns,
            primary_key,
            foreign_keys,
        }
    }

    fn identity(&self, relation: &RelationRow) -> Identity {
        match relation.identity.as_str() {
            "n" => Identity::Nothing,
            "f" => Identity::Full,
            "i" => {
                let index = self.asked.identities.get(&relation.oid);
                // An index that was dropped leaves no identity behind.
                index.map_or(Identity::Nothing, |numbers| {
                    Identity::Index(self.indexes(relation.oid, numbers))
                })
            }
            _ => Identity::Default,
        }
    }

    fn info(&self, relation: &RelationRow) -> TableInfo {
        let columns = self.columns(relation.oid).iter().map(|row| ColumnInfo {
            attnum: row.attnum,
            name: row.name.clone(),
            type_oid: row.type_oid,
            typmod: row.typmod,
            generated: row.generated,
            readable: row.readable,
        });
        let leaves = self.leaves.get(&relation.oid).into_iter().flatten();
        let mut leaves: Vec<Leaf> = leaves
            .map(|leaf| Leaf {
                oid: leaf.oid,
                name: leaf.name.clone(),
                identity: self.identity(leaf),
            })
            .collect();
        leaves.sort_by(|a, b| a.name.cmp(&b.name));
        TableInfo {
            oid: relation.oid,
            name: relation.name.clone(),
            columns: columns.collect(),
            identity: self.identity(relation),
            partitioned: relation.kind == "p",
            leaves,
            unlogged: relation.persistence == "u",
            inherited: relation.kind == "r" && relation.has_children,
            row_security: relation.row_security,
            readable: relation.readable,
            rows: (relation.rows >= 0.0).then_some(relation.rows as u64),
            bytes: relation.bytes,
        }
    }
}

/// A name as it stands in SQL, in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name as it stands in SQL, with its schema.
pub(crate) fn quoted_table(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}

/// Whether the values of a type are sent in binary form; those of others are sent as their texts.
pub(super) fn is_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Other(_) => false,
        // An array of a domain over an array is written as texts in a text.
        DataType::Array(element) => !matches!(**element, DataType::Array(_)) && is_binary(element),
        _ => true,
    }
}
