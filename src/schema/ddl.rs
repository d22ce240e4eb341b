//! `schema.sql`: real Postgres DDL, as `pg_dump --schema-only` prints it.
//!
//! Reads what decides how rows are read and named: tables, columns, types, enums, domains, primary and foreign keys. It does not
//! check that Postgres would accept the rest: expressions are passed over, and statements that declare none of this are skipped
//! and counted in one note a kind. The reader works on tokens with positions and never recurses into an expression, so that
//! every message has its place and no nesting is too deep.

mod alter;
pub(crate) mod lex;
mod messages;
mod print;
mod resolve;
mod split;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::{Schema, TableName, value};
use crate::diagnostic::{Diagnostic, Level, nearest};
use lex::{Cursor, Kind, Token};
use messages::Messages;
pub use print::print;
pub(crate) use resolve::EXTENSION_TYPES;
use split::{Piece, Splitter};
use table::Draft;

/// Reads `CREATE TABLE` and its relatives; what is irrelevant is skipped with a note.
///
/// Always gives the tables that could be read; whether they can be relied on is said by the diagnostics (any error: no).
pub fn parse(text: &str, file: &Path) -> (Schema, Vec<Diagnostic>) {
    let mut reader = Reader::new(text, file);
    let mut splitter = Splitter::new(text);
    loop {
        match splitter.next() {
            Ok(Some(Piece::Statement { tokens, complete })) => reader.statement(&tokens, complete),
            Ok(Some(Piece::Command(token))) => reader.skip("psql command".to_owned(), token),
            Ok(None) => break,
            Err(unterminated) => {
                let span = Token {
                    kind: Kind::Symbol,
                    start: unterminated.start,
                    end: unterminated.start + 1,
                };
                reader
                    .messages
                    .error(span, format!("this {} never ends", unterminated.what), None);
                break;
            }
        }
    }
    reader.finish()
}

/// What has been declared so far.
struct Reader<'a> {
    text: &'a str,
    messages: Messages<'a>,
    drafts: Vec<Draft>,
    types: Types,
    /// Things that `ALTER TABLE` may name though they are no tables here: partitions, views, sequences, foreign tables.
    set_aside: HashSet<TableName>,
    /// The schema of unqualified names.
    search_path: String,
    skipped: BTreeMap<String, (usize, Token)>,
}

/// Types that the schema declares.
#[derive(Default)]
struct Types {
    enums: HashMap<TableName, Vec<String>>,
    domains: HashMap<TableName, Domain>,
    /// Composite, range and shell types.
    others: HashSet<TableName>,
}

struct Domain {
    base: value::TypeName,
    scope: String,
    not_null: bool,
}

const COMMANDS: &[&str] = &[
    "abort",
    "alter",
    "analyze",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "end",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "notify",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "select",
    "set",
    "show",
    "start",
    "table",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
    "values",
    "with",
];

const OBJECTS: &[&str] = &[
    "access method",
    "aggregate",
    "cast",
    "collation",
    "conversion",
    "database",
    "default privileges",
    "domain",
    "event trigger",
    "extension",
    "foreign data wrapper",
    "foreign table",
    "function",
    "group",
    "index",
    "language",
    "large object",
    "materialized view",
    "operator",
    "operator class",
    "operator family",
    "policy",
    "procedure",
    "publication",
    "role",
    "routine",
    "rule",
    "schema",
    "sequence",
    "server",
    "statistics",
    "subscription",
    "system",
    "table",
    "tablespace",
    "text search",
    "transform",
    "trigger",
    "type",
    "user",
    "user mapping",
    "view",
    "owned",
];

/// Words that may stand between `CREATE` and the kind of object.
const MODIFIERS: &[&str] = &[
    "or",
    "replace",
    "unique",
    "global",
    "local",
    "temp",
    "temporary",
    "unlogged",
    "recursive",
    "constraint",
    "trusted",
    "procedural",
    "default",
];

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: &'a Path) -> Self {
        Reader {
            text,
            messages: Messages::new(text, file),
            drafts: Vec::new(),
            types: Types::default(),
            set_aside: HashSet::new(),
            search_path: "public".to_owned(),
            skipped: BTreeMap::new(),
        }
    }

    fn statement(&mut self, tokens: &[Token], complete: bool) {
        let mut cursor = Cursor::new(self.text, tokens);
        let Some(first) = cursor.peek() else { return };
        if cursor.take(&["create"]) {
            self.create(cursor, first, complete);
        } else if cursor.take(&["alter", "table"]) {
            self.alter_table(cursor, first);
        } else if cursor.take(&["alter", "type"]) {
            self.alter_type(cursor, first);
        } else if cursor.take(&["drop", "table"]) {
            self.drop_table(cursor);
        } else {
            self.read_search_path(cursor.clone());
            self.skip_statement(cursor, first);
        }
    }

    fn create(&mut self, mut cursor: Cursor<'_>, first: Token, complete: bool) {
        let whole = cursor.clone();
        let temporary = [&["global"][..], &["local"], &["temporary"], &["temp"]]
            .into_iter()
            .fold(false, |seen, words| cursor.take(words) | seen);
        cursor.take(&["unlogged"]);
        if cursor.take(&["table"]) {
            if !complete {
                let message = "this statement is too long to be a table's declaration";
                self.messages.error(first, message.to_owned(), None);
            } else if temporary {
                self.set_aside(&mut cursor);
                self.skip("CREATE TEMPORARY TABLE".to_owned(), first);
            } else {
                self.create_table(cursor, first);
            }
            return;
        }
        if cursor.take(&["type"]) {
            self.create_type(cursor, first);
        } else if cursor.take(&["domain"]) {
            self.create_domain(cursor, first);
        } else {
            let mut named = whole.clone();
            while MODIFIERS.iter().any(|word| named.take(&[word])) {}
            let aside = [
                &["foreign", "table"][..],
                &["materialized", "view"],
                &["view"],
                &["sequence"],
            ];
            if aside.iter().any(|words| named.take(words)) {
                self.set_aside(&mut named);
            }
            self.skip_object("CREATE", whole, first);
        }
    }

    /// Remembers the name that follows as something that is no table here.
    fn set_aside(&mut self, cursor: &mut Cursor<'_>) {
        cursor.take(&["if", "not", "exists"]);
        if let Some((name, _)) = self.table_name(cursor) {
            self.set_aside.insert(name);
        }
    }

    /// A table's name, with the search path's schema where none is written.
    fn table_name(&self, cursor: &mut Cursor<'_>) -> Option<(TableName, Token)> {
        let (name, schema, span) = cursor.qualified()?;
        Some((
            TableName::new(schema.unwrap_or_else(|| self.search_path.clone()), name),
            span,
        ))
    }

    fn draft(&mut self, name: &TableName) -> Option<&mut Draft> {
        self.drafts.iter_mut().find(|draft| draft.name == *name)
    }

    fn create_type(&mut self, mut cursor: Cursor<'_>, first: Token) {
        let Some((name, span)) = self.table_name(&mut cursor) else {
            return self.messages.expected("the name of a type", &cursor);
        };
        if !cursor.take(&["as", "enum"]) {
            self.types.others.insert(name);
            return self.skip("CREATE TYPE other than an enum".to_owned(), first);
        }
        let Some(inside) = cursor.parens() else {
            return self
                .messages
                .expected("the labels of the enum in parentheses", &cursor);
        };
        let labels = inside.iter().filter(|token| token.kind == Kind::Text);
        let labels = labels
            .map(|&token| lex::string_of(self.text, token).into_owned())
            .collect();
        if self.types.enums.insert(name.clone(), labels).is_some() {
            self.messages
                .error(span, format!("type `{name}` is declared twice"), None);
        }
    }

    fn create_domain(&mut self, mut cursor: Cursor<'_>, _first: Token) {
        let Some((name, _)) = self.table_name(&mut cursor) else {
            return self.messages.expected("the name of a domain", &cursor);
        };
        cursor.take(&["as"]);
        let Some(base) = value::read_type(&mut cursor) else {
            return self.messages.expected("the type of the domain", &cursor);
        };
        let not_null = table::declares_not_null(&mut cursor);
        self.types.domains.insert(
            name,
            Domain {
                base,
                scope: self.search_path.clone(),
                not_null,
            },
        );
    }

    /// `ADD VALUE` and `RENAME VALUE`; everything else about types is irrelevant.
    fn alter_type(&mut self, mut cursor: Cursor<'_>, first: Token) {
        let text = self.text;
        let label = |cursor: &mut Cursor<'_>| {
            let token = cursor.bump().filter(|token| token.kind == Kind::Text)?;
            Some(lex::string_of(text, token).into_owned())
        };
        let labels = self
            .table_name(&mut cursor)
            .and_then(|(name, _)| self.types.enums.get_mut(&name));
        let Some(labels) = labels else {
            return self.skip("ALTER TYPE".to_owned(), first);
        };
        if cursor.take(&["add", "value"]) {
            cursor.take(&["if", "not", "exists"]);
            let Some(added) = label(&mut cursor) else {
                return;
            };
            let after = usize::from(cursor.sees(&["after"]));
            let neighbour = (cursor.take(&["before"]) || cursor.take(&["after"]))
                .then(|| label(&mut cursor))
                .flatten();
            let at =
                neighbour.and_then(|neighbour| labels.iter().position(|known| *known == neighbour));
            if !labels.contains(&added) {
                labels.insert(at.map_or(labels.len(), |at| at + after), added);
            }
        } else if cursor.take(&["rename", "value"]) {
            let (Some(from), true, Some(to)) =
                (label(&mut cursor), cursor.take(&["to"]), label(&mut cursor))
            else {
                return;
            };
            labels
                .iter_mut()
                .filter(|known| **known == from)
                .for_each(|known| known.clone_from(&to));
        } else {
            self.skip("ALTER TYPE".to_owned(), first);
        }
    }

    fn drop_table(&mut self, mut cursor: Cursor<'_>) {
        cursor.take(&["if", "exists"]);
        while let Some((name, _)) = self.table_name(&mut cursor) {
            self.drafts.retain(|draft| draft.name != name);
            if !cursor.take_symbol(',') {
                break;
            }
        }
    }

    /// `SET search_path = …` and `SELECT pg_catalog.set_config('search_path', …)`: old dumps leave names unqualified behind it.
    fn read_search_path(&mut self, mut cursor: Cursor<'_>) {
        let wanted = if cursor.take(&["set"]) {
            let _ = cursor.take(&["session"]) || cursor.take(&["local"]);
            if !cursor.take(&["search_path"]) || !(cursor.take_symbol('=') || cursor.take(&["to"]))
            {
                return;
            }
            cursor.bump()
        } else {
            let is_call = cursor.take(&["select"])
                && cursor
                    .qualified()
                    .is_some_and(|(name, ..)| name == "set_config");
            let mut inside = match cursor.parens().filter(|_| is_call) {
                Some(inside) => Cursor::new(self.text, inside),
                None => return,
            };
            if inside
                .bump()
                .is_none_or(|token| lex::string_of(self.text, token) != "search_path")
                || !inside.take_symbol(',')
            {
                return;
            }
            inside.bump()
        };
        let Some(token) = wanted else { return };
        let path = match token.kind {
            Kind::Text => lex::string_of(self.text, token).into_owned(),
            _ => lex::name_of(self.text, token),
        };
        let first = path
            .split(',')
            .map(str::trim)
            .find(|name| !name.is_empty() && *name != "pg_catalog" && *name != "$user");
        self.search_path = first.unwrap_or("public").to_owned();
    }

    fn skip_statement(&mut self, mut cursor: Cursor<'_>, first: Token) {
        let word = first.text(self.text).to_ascii_lowercase();
        if first.kind != Kind::Word || !COMMANDS.contains(&word.as_str()) {
            let hint = nearest(&word, COMMANDS.iter().copied())
                .map(|near| format!("did you mean `{}`?", near.to_uppercase()));
            let message = format!(
                "a statement cannot begin with `{}`",
                self.messages.shown(first)
            );
            return self.messages.error(first, message, hint);
        }
        cursor.bump();
        match word.as_str() {
            "alter" => self.skip_object("ALTER", cursor, first),
            "drop" => self.skip_object("DROP", cursor, first),
            _ => self.skip(word.to_uppercase(), first),
        }
    }

    /// Skips `CREATE INDEX …` and its like under the name of the object's kind.
    fn skip_object(&mut self, verb: &str, mut cursor: Cursor<'_>, first: Token) {
        if !cursor.sees(&["default", "privileges"]) {
            while MODIFIERS.iter().any(|word| cursor.take(&[word])) {}
        }
        let sees = |object: &&&str| cursor.sees(&object.split(' ').collect::<Vec<_>>());
        if let Some(object) = OBJECTS
            .iter()
            .filter(sees)
            .max_by_key(|object| object.len())
        {
            return self.skip(format!("{verb} {}", object.to_uppercase()), first);
        }
        let Some(token) = cursor.peek() else {
            return self.messages.expected("the kind of object", &cursor);
        };
        let word = token.text(self.text);
        let hint = nearest(word, OBJECTS.iter().copied())
            .map(|near| format!("did you mean `{verb} {}`?", near.to_uppercase()));
        let message = format!(
            "`{verb} {}` is no statement of Postgres",
            self.messages.shown(token)
        );
        self.messages.error(token, message, hint);
    }

    fn skip(&mut self, kind: String, at: Token) {
        self.skipped.entry(kind).or_insert((0, at)).0 += 1;
    }

    fn finish(mut self) -> (Schema, Vec<Diagnostic>) {
        for (kind, (count, at)) in std::mem::take(&mut self.skipped) {
            self.messages
                .report(Level::Note, at, format!("skipped {count} × {kind}"), None);
        }
        let schema = resolve::resolve(&self.drafts, &self.types, &mut self.messages);
        (schema, self.messages.finish())
    }
}

#[cfg(test)]
mod tests;
