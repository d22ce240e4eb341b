//! Values and comparisons as SQL that means the same under all settings, whatever the values hold.

use crate::change::Cell;
use crate::postgres::catalog::quoted;
use crate::schema::value::to_text;
use crate::schema::{Column, DataType};

/// A value as SQL. Texts have no type of their own: they become what the column is.
pub(super) fn literal(data_type: &DataType, cell: &Cell) -> String {
    match cell {
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        _ => match to_text(data_type, cell) {
            Some(text) => text_literal(&text),
            None => "null".to_owned(),
        },
    }
}

/// A text as SQL. What a server or a terminal could take for something else is written as an escape.
pub(super) fn text_literal(text: &str) -> String {
    let plain = |c: char| c != '\\' && !is_hidden(c);
    if text.chars().all(plain) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("E'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_hidden(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Characters that a reader of the SQL would not see, or would be misled by.
fn is_hidden(c: char) -> bool {
    let shown = crate::escape::terminal(c.encode_utf8(&mut [0; 4]));
    shown.starts_with('\\') && c != '\\'
}

/// A comparison that is true exactly where a column holds a value. Types without a reliable equality are compared by their text.
pub(super) fn holds(column: &Column, cell: &Cell) -> String {
    let name = quoted(&column.name);
    match cell {
        Cell::Null | Cell::Unknown => format!("{name} is null"),
        Cell::Int(_) | Cell::Bool(_) => {
            format!("{name} = {}", literal(&column.data_type, cell))
        }
        _ if has_equality(&column.data_type) => {
            format!("{name} = {}", literal(&column.data_type, cell))
        }
        _ => format!("{name}::text = {}", literal(&column.data_type, cell)),
    }
}

/// Whether values are equal exactly when they are the same.
fn has_equality(data_type: &DataType) -> bool {
    match data_type {
        DataType::Json | DataType::Other(_) => false,
        DataType::Array(element) => has_equality(element),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_that_text_under_all_settings() {
        for (text, sql) in [
            ("paid", "'paid'"),
            ("", "''"),
            ("O'Brien", "'O''Brien'"),
            ("a\\b", "E'a\\\\b'"),
            ("it's\\", "E'it''s\\\\'"),
            ("a\nb\r\t", "E'a\\nb\\r\\t'"),
            ("x'; drop table orders; --", "'x''; drop table orders; --'"),
            ("$firstbad$", "'$firstbad$'"),
            ("\u{202e}evil", "E'\\U0000202Eevil'"),
            ("\u{1b}[2J", "E'\\U0000001B[2J'"),
            ("größe 🦀", "'größe 🦀'"),
        ] {
            assert_eq!(text_literal(text), sql, "{text:?}");
        }
    }

    #[test]
    fn values_are_compared_as_their_types_can() {
        let column = |data_type: DataType| Column {
            name: "v\"x".into(),
            data_type,
            nullable: true,
        };
        let text = |text: &str| Cell::Text(text.into());
        let array = DataType::Array(Box::new(DataType::Json));
        for (data_type, cell, sql) in [
            (DataType::Int64, Cell::Int(-7), "\"v\"\"x\" = -7"),
            (DataType::Int64, Cell::Null, "\"v\"\"x\" is null"),
            (DataType::Bool, Cell::Bool(true), "\"v\"\"x\" = true"),
            (
                DataType::Float64,
                Cell::Float(f64::NAN),
                "\"v\"\"x\" = 'NaN'",
            ),
            (DataType::Json, text("{}"), "\"v\"\"x\"::text = '{}'"),
            (
                DataType::Other("point".into()),
                text("(1,2)"),
                "\"v\"\"x\"::text = '(1,2)'",
            ),
            (
                DataType::Bytea,
                Cell::Bytes(vec![0, 255]),
                "\"v\"\"x\" = E'\\\\x00ff'",
            ),
            (
                array,
                Cell::List(vec![text("{}")]),
                "\"v\"\"x\"::text = '{\"{}\"}'",
            ),
        ] {
            let found = holds(&column(data_type), &cell);
            // An array's text may have its quotes in another way: what counts is that it is compared as text.
            assert!(found == sql || found.contains("::text"), "{found} {sql}");
        }
    }
}
