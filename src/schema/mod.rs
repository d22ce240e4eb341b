//! Tables, columns, types and keys, as Postgres declares them.
//!
//! [`ddl::parse`] reads `schema.sql`; [`value`] turns text and JSON into [`Cell`](crate::change::Cell)s of a type. Sources without a
//! `schema.sql` build a [`Schema`] from what their files say.

pub mod columnar;
pub mod ddl;
pub mod value;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A table's name with its schema, `public` where none was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The Postgres schema.
    pub schema: String,
    /// The table's own name.
    pub name: String,
}

impl TableName {
    /// A table in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        TableName {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// Reads `orders` or `sales.orders` (no quotes: names are taken as they stand).
    pub fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((schema, name)) => TableName::new(schema, name),
            None => TableName::new("public", text),
        }
    }

    /// The name as people write it: without `public.`.
    pub fn short(&self) -> String {
        if self.schema == "public" {
            self.name.clone()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for TableName {
    /// Always with its schema: `public.orders`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A column's type: what decides how its values are read, compared and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int16,
    /// `integer`
    Int32,
    /// `bigint`, `oid`
    Int64,
    /// `real`
    Float32,
    /// `double precision`
    Float64,
    /// `numeric`, `numeric(p, s)`
    Numeric {
        /// Total digits and digits after the point; None for plain `numeric`.
        precision_scale: Option<(u16, i16)>,
    },
    /// `text`
    Text,
    /// `character varying(n)`
    Varchar(Option<u32>),
    /// `character(n)`; trailing blanks are not significant and are not kept
    Char(Option<u32>),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// An enum type with its labels in order
    Enum {
        /// Name of the type.
        name: String,
        /// Labels in order of declaration.
        labels: Vec<String>,
    },
    /// An array of the type
    Array(Box<DataType>),
    /// Any other type (interval, inet, ranges, geometry, composites …), kept as text; the name as declared
    Other(String),
}

impl DataType {
    /// Whether its values are numbers.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Numeric { .. }
        )
    }
}

impl fmt::Display for DataType {
    /// The canonical Postgres name, as `format_type` prints it: `character varying(20)`, `numeric(12,2)`, `integer[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Bool => f.write_str("boolean"),
            DataType::Int16 => f.write_str("smallint"),
            DataType::Int32 => f.write_str("integer"),
            DataType::Int64 => f.write_str("bigint"),
            DataType::Float32 => f.write_str("real"),
            DataType::Float64 => f.write_str("double precision"),
            DataType::Numeric {
                precision_scale: None,
            } => f.write_str("numeric"),
            DataType::Numeric {
                precision_scale: Some((p, s)),
            } => write!(f, "numeric({p},{s})"),
            DataType::Text => f.write_str("text"),
            DataType::Varchar(None) => f.write_str("character varying"),
            DataType::Varchar(Some(n)) => write!(f, "character varying({n})"),
            DataType::Char(None) => f.write_str("character"),
            DataType::Char(Some(n)) => write!(f, "character({n})"),
            DataType::Bytea => f.write_str("bytea"),
            DataType::Date => f.write_str("date"),
            DataType::Time => f.write_str("time without time zone"),
            DataType::Timestamp => f.write_str("timestamp without time zone"),
            DataType::TimestampTz => f.write_str("timestamp with time zone"),
            DataType::Uuid => f.write_str("uuid"),
            DataType::Json => f.write_str("json"),
            DataType::Jsonb => f.write_str("jsonb"),
            DataType::Enum { name, .. } | DataType::Other(name) => f.write_str(name),
            DataType::Array(element) => write!(f, "{element}[]"),
        }
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, folded to lower case unless it was quoted.
    pub name: String,
    /// Its type; a domain is its base type.
    pub data_type: DataType,
    /// False where NOT NULL is declared (directly, by a primary key or by a domain).
    pub nullable: bool,
}

/// A declared reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The referring columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub to_table: TableName,
    /// The columns referred to; empty when the declaration leaves them to that table's primary key.
    pub to_columns: Vec<String>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// Indexes of the primary key's columns, in key order; empty when there is none.
    pub primary_key: Vec<usize>,
    /// Declared references.
    pub foreign_keys: Vec<ForeignKey>,
}

impl Table {
    /// The index of a column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names of the primary key's columns, in key order.
    pub fn primary_key_names(&self) -> Vec<String> {
        self.primary_key
            .iter()
            .filter_map(|&at| self.columns.get(at))
            .map(|c| c.name.clone())
            .collect()
    }
}

/// All tables of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Tables in order of declaration.
    pub tables: Vec<Table>,
}

impl Schema {
    /// The index of a table.
    pub fn table_index(&self, name: &TableName) -> Option<usize> {
        self.tables.iter().position(|table| table.name == *name)
    }

    /// A table by name.
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == *name)
    }
}
