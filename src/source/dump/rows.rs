//! Rows as dumps hold them: lines of `COPY … FROM stdin` in text format, and `INSERT` statements.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2>.

use crate::schema::TableName;
use crate::schema::ddl::lex::{Cursor, Kind, Lexer, Token, split_commas, string_of};

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Null,
    /// A column that Postgres computes: the dump does not say its value.
    Default,
    /// Postgres' text of the value.
    Text(String),
}

/// Which table and columns rows are for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The schema that is written, if any.
    pub(super) schema: Option<String>,
    pub(super) table: String,
    /// None: all columns in the table's order.
    pub(super) columns: Option<Vec<String>>,
}

impl Target {
    /// The table, where unqualified names are in `search_path`.
    pub(super) fn name(&self, search_path: &str) -> TableName {
        let schema = self.schema.as_deref().unwrap_or(search_path);
        TableName::new(schema, self.table.as_str())
    }
}

/// A statement that holds rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The rows are the lines that follow.
    Copy(Target),
    Insert(Target, Vec<Vec<Field>>),
}

type Wrong = &'static str;

/// What a statement holds; None when it holds no rows.
pub(super) fn holder(text: &str) -> Result<Option<Holder>, Wrong> {
    let word: String = text
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect::<String>()
        .to_ascii_lowercase();
    if word != "copy" && word != "insert" {
        return Ok(None);
    }
    let mut lexer = Lexer::new(text);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().map_err(|_| "a statement that never ends")? {
        tokens.push(token);
    }
    let mut cursor = Cursor::new(text, &tokens);
    cursor.bump();
    if word == "copy" {
        return copy(&mut cursor).map(Some);
    }
    insert(&mut cursor).map(Some)
}

fn target(cursor: &mut Cursor<'_>) -> Option<Target> {
    let (table, schema, _) = cursor.qualified()?;
    let columns = match cursor.parens() {
        None => None,
        Some(inside) => {
            let mut names = Vec::new();
            for part in split_commas(cursor.text, inside) {
                names.push(Cursor::new(cursor.text, part).name()?.0);
            }
            Some(names)
        }
    };
    Some(Target {
        schema,
        table,
        columns,
    })
}

fn copy(cursor: &mut Cursor<'_>) -> Result<Holder, Wrong> {
    let target = target(cursor).ok_or("this COPY does not name a table and its columns")?;
    if !cursor.take(&["from", "stdin"]) {
        return Err("this COPY does not read the lines that follow");
    }
    if cursor.is_at_end() {
        Ok(Holder::Copy(target))
    } else {
        Err("this COPY is not in text format with its defaults, which is what `pg_dump` writes")
    }
}

fn insert(cursor: &mut Cursor<'_>) -> Result<Holder, Wrong> {
    cursor.take(&["into"]);
    let target = target(cursor).ok_or("this INSERT does not name a table")?;
    let _ = cursor.take(&["overriding", "system", "value"])
        || cursor.take(&["overriding", "user", "value"]);
    if cursor.take(&["default", "values"]) {
        return Ok(Holder::Insert(target, vec![Vec::new()]));
    }
    if !cursor.take(&["values"]) {
        return Err("this INSERT has no VALUES: only what `pg_dump --inserts` writes is read");
    }
    let mut rows = Vec::new();
    loop {
        let inside = cursor.parens().ok_or("VALUES without parentheses")?;
        let fields = split_commas(cursor.text, inside);
        rows.push(
            fields
                .into_iter()
                .map(|tokens| field(cursor.text, tokens))
                .collect::<Result<Vec<_>, _>>()?,
        );
        if !cursor.take_symbol(',') {
            break;
        }
    }
    cursor.take(&["on", "conflict", "do", "nothing"]);
    if cursor.is_at_end() {
        Ok(Holder::Insert(target, rows))
    } else {
        Err("this INSERT goes on behind its VALUES: only what `pg_dump --inserts` writes is read")
    }
}

/// A constant: a string, a number, or one of a few words.
fn field(text: &str, tokens: &[Token]) -> Result<Field, Wrong> {
    const NO_CONSTANT: Wrong =
        "a value that is no constant: only what `pg_dump --inserts` writes is read";
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Err(NO_CONSTANT);
    };
    if tokens.len() == 1 && first.kind == Kind::Text {
        return literal(text, *first).map(Field::Text);
    }
    let shown = text.get(first.start..last.end).unwrap_or("");
    let word = shown.to_ascii_lowercase();
    match word.as_str() {
        "null" => Ok(Field::Null),
        "default" => Ok(Field::Default),
        "true" | "false" => Ok(Field::Text(word)),
        number
            if number
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) =>
        {
            Ok(Field::Text(word))
        }
        _ => Err(NO_CONSTANT),
    }
}

/// The content of a string constant.
fn literal(text: &str, token: Token) -> Result<String, Wrong> {
    let shown = token.text(text);
    if shown.starts_with('$') || shown.starts_with(['u', 'U']) {
        return Err("a string that is neither '…' nor E'…'");
    }
    if !shown.starts_with(['e', 'E']) {
        return Ok(string_of(text, token).into_owned());
    }
    let inner = shown
        .get(2..shown.len().saturating_sub(1))
        .unwrap_or("")
        .replace("''", "'");
    unescape(inner.as_bytes())
}

/// The fields of a line of COPY data.
pub(super) fn copy_fields(line: &[u8]) -> Result<Vec<Field>, Wrong> {
    line.split(|byte| *byte == b'\t')
        .map(|field| match field {
            b"\\N" => Ok(Field::Null),
            field => unescape(field).map(Field::Text),
        })
        .collect()
}

/// Resolves backslashes: `\n` and its like, octal and hexadecimal bytes; any other character stands for itself.
fn unescape(text: &[u8]) -> Result<String, Wrong> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&next) = text.get(at) else {
            return Err("a value that ends with a backslash");
        };
        let (radix, most) = match next {
            b'0'..=b'7' => (8, 3),
            b'x' => (16, 2),
            _ => (0, 0),
        };
        let start = at + usize::from(radix == 16);
        let digits = text
            .iter()
            .skip(start)
            .take(most)
            .take_while(|b| char::from(**b).is_digit(radix.max(2)))
            .count();
        if digits > 0 {
            let value = text.iter().skip(start).take(digits).fold(0u32, |value, b| {
                value * radix + char::from(*b).to_digit(radix).unwrap_or(0)
            });
            out.push(u8::try_from(value & 0xff).unwrap_or(0));
            at = start + digits;
            continue;
        }
        out.push(match next {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        });
        at += 1;
    }
    String::from_utf8(out).map_err(|_| "a value that is not valid UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Field {
        Field::Text(value.to_owned())
    }

    #[test]
    fn copy_data_is_unescaped() {
        assert_eq!(
            copy_fields(b"1\t\\N\t\\\\N\ta\\tb\\nc\\\\\t\t\\x41\\101\\8z"),
            Ok(vec![
                text("1"),
                Field::Null,
                text("\\N"),
                text("a\tb\nc\\"),
                text(""),
                text("AA8z")
            ])
        );
        assert!(copy_fields(b"a\\").is_err());
        assert!(copy_fields(b"\\377").is_err());
    }

    #[test]
    fn copy_names_its_table() {
        let target = |text: &str| match holder(text) {
            Ok(Some(Holder::Copy(target))) => target,
            other => panic!("{text}: {other:?}"),
        };
        let found = target("COPY public.\"Odd name\" (id, \"a,b\") FROM stdin");
        assert_eq!(found.name("x"), TableName::new("public", "Odd name"));
        assert_eq!(found.columns, Some(vec!["id".to_owned(), "a,b".to_owned()]));
        assert_eq!(
            target("copy t from stdin").name("sales"),
            TableName::new("sales", "t")
        );
        assert!(holder("COPY t TO stdout").is_err());
        assert!(holder("COPY t FROM stdin CSV").is_err());
        assert_eq!(holder("SELECT 1"), Ok(None));
    }

    #[test]
    fn inserts_hold_constants() {
        let rows = |text: &str| match holder(text) {
            Ok(Some(Holder::Insert(_, rows))) => Ok(rows),
            Ok(other) => panic!("{text}: {other:?}"),
            Err(wrong) => Err(wrong),
        };
        assert_eq!(
            rows(
                "INSERT INTO public.t (a, b) OVERRIDING SYSTEM VALUE VALUES (-1.5e-10, 'it''s \\n'), (NULL, E'a\\nb''c'), (DEFAULT, B'101') ON CONFLICT DO NOTHING"
            ),
            Ok(vec![
                vec![text("-1.5e-10"), text("it's \\n")],
                vec![Field::Null, text("a\nb'c")],
                vec![Field::Default, text("101")],
            ])
        );
        assert_eq!(
            rows("insert into t values (true)"),
            Ok(vec![vec![text("true")]])
        );
        for wrong in [
            "INSERT INTO t SELECT 1",
            "INSERT INTO t VALUES (now())",
            "INSERT INTO t VALUES (1) RETURNING a",
        ] {
            assert!(rows(wrong).is_err(), "{wrong}");
        }
    }
}
