//! Type names, in every spelling that Postgres takes.

use crate::schema::DataType;
use crate::schema::ddl::lex::{Cursor, Kind, Lexer, Token};

/// A type as it is written: name, modifiers, array or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeName {
    /// The schema, where one is written.
    pub(crate) schema: Option<String>,
    /// The name; several words are joined by one blank.
    pub(crate) name: String,
    /// True when the name was written in quotes.
    pub(crate) quoted: bool,
    /// What stands in parentheses, joined and split at commas.
    pub(crate) args: Vec<String>,
    /// True with `[]` or `ARRAY`.
    pub(crate) array: bool,
    /// Where it stands.
    pub(crate) span: Token,
}

/// Reads a type name; None when none begins here.
pub(crate) fn read_type(cursor: &mut Cursor<'_>) -> Option<TypeName> {
    let quoted = cursor.peek()?.kind == Kind::Quoted;
    let (name, schema, span) = cursor.qualified()?;
    let mut found = TypeName {
        schema,
        name,
        quoted,
        args: Vec::new(),
        array: false,
        span,
    };
    let bare = !quoted
        && found
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
    if bare {
        read_second_word(cursor, &mut found.name);
    }
    read_args(cursor, &mut found);
    if bare {
        read_tail(cursor, &mut found);
    }
    loop {
        if cursor.take_symbol('[') {
            while cursor
                .peek()
                .is_some_and(|token| token.kind == Kind::Number)
            {
                cursor.bump();
            }
            if !cursor.take_symbol(']') {
                return None;
            }
        } else if !cursor.take(&["array"]) {
            break;
        }
        found.array = true;
    }
    found.span.end = cursor
        .last()
        .map_or(found.span.end, |token| token.end)
        .max(found.span.end);
    Some(found)
}

fn read_second_word(cursor: &mut Cursor<'_>, name: &mut String) {
    let followers: &[&str] = match name.as_str() {
        "double" => &["precision"],
        "character" | "char" | "nchar" | "bit" => &["varying"],
        "national" => &["character", "char"],
        _ => return,
    };
    for follower in followers {
        if cursor.take(&[follower]) {
            *name = format!("{name} {follower}");
            if *name != "bit varying" && name.starts_with("national") && cursor.take(&["varying"]) {
                name.push_str(" varying");
            }
            return;
        }
    }
}

fn read_args(cursor: &mut Cursor<'_>, found: &mut TypeName) {
    let text = cursor.text;
    if let Some(inside) = cursor.parens() {
        let parts = crate::schema::ddl::lex::split_commas(text, inside);
        found.args = parts
            .iter()
            .map(|part| part.iter().map(|token| token.text(text)).collect())
            .collect();
    }
}

/// What follows the modifier: `with time zone`, the fields of an interval.
fn read_tail(cursor: &mut Cursor<'_>, found: &mut TypeName) {
    match found.name.as_str() {
        "time" | "timestamp" => {
            if cursor.take(&["with", "time", "zone"]) {
                found.name.push_str("tz");
            } else {
                cursor.take(&["without", "time", "zone"]);
            }
        }
        "interval" => {
            const FIELDS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
            let Some(from) = FIELDS.iter().find(|field| cursor.take(&[field])) else {
                return;
            };
            found.name = format!("interval {from}");
            if let Some(to) = FIELDS.iter().find(|field| cursor.take(&["to", field])) {
                found.name = format!("interval {from} to {to}");
            }
            read_args(cursor, found);
        }
        _ => {}
    }
}

/// The type that Postgres itself gives this name; None for names that a schema must declare, and for impossible modifiers.
pub(crate) fn builtin(found: &TypeName) -> Option<DataType> {
    if found
        .schema
        .as_deref()
        .is_some_and(|schema| schema != "pg_catalog")
    {
        return None;
    }
    let (scalar, array) = match found.name.strip_prefix('_') {
        Some(element) => (element, true),
        None => (found.name.as_str(), found.array),
    };
    let scalar = if found.quoted && scalar == "char" {
        DataType::Other("\"char\"".to_owned())
    } else {
        scalar_type(scalar, &found.args)?
    };
    Some(if array {
        DataType::Array(Box::new(scalar))
    } else {
        scalar
    })
}

fn scalar_type(name: &str, args: &[String]) -> Option<DataType> {
    let other = |name: &str| Some(DataType::Other(name.to_owned()));
    let with_args = |name: &str| match args {
        [] => other(name),
        args => other(&format!("{name}({})", args.join(","))),
    };
    Some(match name {
        "bool" | "boolean" => DataType::Bool,
        "int2" | "smallint" | "smallserial" | "serial2" => DataType::Int16,
        "int" | "int4" | "integer" | "serial" | "serial4" => DataType::Int32,
        "int8" | "bigint" | "bigserial" | "serial8" | "oid" => DataType::Int64,
        "float4" | "real" => DataType::Float32,
        "float8" | "double precision" => DataType::Float64,
        "float" => match args {
            [] => DataType::Float64,
            [precision] => match precision.parse::<u8>().ok()? {
                1..=24 => DataType::Float32,
                25..=53 => DataType::Float64,
                _ => return None,
            },
            _ => return None,
        },
        "numeric" | "decimal" | "dec" => DataType::Numeric {
            precision_scale: numeric_args(args)?,
        },
        "text" | "name" => DataType::Text,
        "varchar" | "character varying" | "char varying" | "nchar varying" => {
            DataType::Varchar(length(args)?)
        }
        "national character varying" | "national char varying" => DataType::Varchar(length(args)?),
        "character" | "char" | "nchar" | "national character" | "national char" => {
            DataType::Char(Some(length(args)?.unwrap_or(1)))
        }
        "bpchar" => DataType::Char(length(args)?),
        "bytea" => DataType::Bytea,
        "date" => DataType::Date,
        "time" => DataType::Time,
        "timestamp" => DataType::Timestamp,
        "timestamptz" => DataType::TimestampTz,
        "uuid" => DataType::Uuid,
        "json" => DataType::Json,
        "jsonb" => DataType::Jsonb,
        "timetz" => return other("time with time zone"),
        "bit" => return with_args("bit"),
        "varbit" | "bit varying" => return with_args("bit varying"),
        name if name == "interval" || name.starts_with("interval ") => return with_args(name),
        name if KEPT_AS_TEXT.contains(&name) => return with_args(name),
        _ => return None,
    })
}

/// Types of Postgres and of its common extensions whose values are kept in their text form.
const KEPT_AS_TEXT: &[&str] = &[
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "money",
    "xml",
    "jsonpath",
    "tsvector",
    "tsquery",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
    "pg_lsn",
    "txid_snapshot",
    "pg_snapshot",
    "xid",
    "xid8",
    "cid",
    "tid",
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
    "refcursor",
    "aclitem",
    "int2vector",
    "oidvector",
];

fn numeric_args(args: &[String]) -> Option<Option<(u16, i16)>> {
    let (precision, scale) = match args {
        [] => return Some(None),
        [precision] => (precision.parse().ok()?, 0),
        [precision, scale] => (precision.parse().ok()?, scale.parse().ok()?),
        _ => return None,
    };
    ((1..=1000).contains(&precision) && (-1000..=1000).contains(&scale))
        .then_some(Some((precision, scale)))
}

fn length(args: &[String]) -> Option<Option<u32>> {
    match args {
        [] => Some(None),
        [length] => length.parse().ok().filter(|&length| length > 0).map(Some),
        _ => None,
    }
}

/// The type that a Postgres type name means: `int8`, `character varying(20)`, `pg_catalog.timestamptz(3)`, `_int4`, `text[]` …
/// None for names that only a schema can explain.
pub fn parse_type(name: &str) -> Option<DataType> {
    let mut lexer = Lexer::new(name);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().ok()? {
        // No type name is that long; the limit keeps a hostile one cheap.
        if tokens.len() > 64 {
            return None;
        }
        tokens.push(token);
    }
    let mut cursor = Cursor::new(name, &tokens);
    let found = read_type(&mut cursor)?;
    if cursor.is_at_end() {
        builtin(&found)
    } else {
        None
    }
}
