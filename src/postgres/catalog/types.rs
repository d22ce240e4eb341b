//! Types of columns, as a dump of the schema would declare them.

use std::collections::HashMap;

use super::DEPTH_MAX;
use crate::schema::ddl::EXTENSION_TYPES;
use crate::schema::value::parse_type;
use crate::schema::{DataType, TableName};

/// A type that is not Postgres' own.
pub(super) struct TypeRow {
    pub(super) oid: u32,
    pub(super) name: TableName,
    /// `b`, `c`, `d`, `e`, `m`, `p` or `r`, as `pg_type` has it.
    pub(super) kind: String,
    pub(super) element: u32,
    /// What a domain is made from; 0 for others.
    pub(super) base: u32,
    /// The name in SQL, of a domain that of its base.
    pub(super) text: String,
    /// The name of the elements' type in SQL.
    pub(super) element_text: String,
    pub(super) not_null: bool,
    pub(super) is_array: bool,
    /// Whether no dump declares it: an extension brings it, or it is the row of a table.
    pub(super) undeclared: bool,
}

/// All types that are not Postgres' own.
pub(super) struct Types {
    rows: HashMap<u32, TypeRow>,
    labels: HashMap<u32, Vec<String>>,
}

impl Types {
    pub(super) fn new(rows: Vec<TypeRow>, labels: HashMap<u32, Vec<String>>) -> Self {
        Types {
            rows: rows.into_iter().map(|row| (row.oid, row)).collect(),
            labels,
        }
    }

    /// The type, and whether a domain forbids NULL. `text` is the type as `format_type` prints it, with its modifier.
    pub(super) fn resolve(&self, oid: u32, text: &str) -> (DataType, bool) {
        self.at_depth(oid, text, 0)
    }

    fn at_depth(&self, oid: u32, text: &str, depth: usize) -> (DataType, bool) {
        let Some(row) = self.rows.get(&oid).filter(|_| depth < DEPTH_MAX) else {
            let known = parse_type(text);
            return (known.unwrap_or_else(|| undeclared(text)), false);
        };
        if row.is_array {
            // The modifier belongs to the elements.
            let modifier = text.rfind('(').map_or("", |at| &text[at..]);
            let element = format!("{}{}", row.element_text, modifier.trim_end_matches("[]"));
            let (element, _) = self.at_depth(row.element, &element, depth + 1);
            return (DataType::Array(Box::new(element)), false);
        }
        if row.undeclared {
            let known = EXTENSION_TYPES.contains(&row.name.name.as_str());
            let args = text.find('(').map_or("", |at| &text[at..]);
            return match known {
                true => (DataType::Other(format!("{}{args}", row.name.name)), false),
                false => (undeclared(text), false),
            };
        }
        match row.kind.as_str() {
            "e" => {
                let data_type = DataType::Enum {
                    name: row.name.short(),
                    labels: self.labels.get(&oid).cloned().unwrap_or_default(),
                };
                (data_type, false)
            }
            "d" => {
                let (base, not_null) = self.at_depth(row.base, &row.text, depth + 1);
                (base, not_null || row.not_null)
            }
            // A range brings its multirange along: nobody declares that.
            "m" => (undeclared(text), false),
            _ => (DataType::Other(row.name.short()), false),
        }
    }
}

/// A type of which only the name is known.
fn undeclared(text: &str) -> DataType {
    let element = text.trim_end_matches(['[', ']', ' ']);
    let scalar = DataType::Other(element.to_owned());
    match element.len() == text.len() {
        true => scalar,
        false => DataType::Array(Box::new(scalar)),
    }
}
