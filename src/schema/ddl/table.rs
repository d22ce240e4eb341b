//! `CREATE TABLE`: columns and what is declared about them.

use super::Reader;
use super::lex::{Cursor, Kind, Token, split_commas};
use crate::diagnostic::{Level, nearest};
use crate::schema::{TableName, value};

/// A table as far as it has been declared; names are resolved at the end of the file.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) name: TableName,
    pub(super) span: Token,
    pub(super) columns: Vec<DraftColumn>,
    pub(super) primary_key: Option<DraftKey>,
    pub(super) foreign_keys: Vec<DraftReference>,
    /// True for a partition that was attached: its rows are its parent's.
    pub(super) attached: bool,
}

#[derive(Clone)]
pub(super) struct DraftColumn {
    pub(super) name: String,
    pub(super) data_type: value::TypeName,
    /// The schema of unqualified type names where the column was declared.
    pub(super) scope: String,
    pub(super) not_null: bool,
}

#[derive(Clone)]
pub(super) struct DraftKey {
    pub(super) constraint: Option<String>,
    pub(super) columns: Vec<(String, Token)>,
}

#[derive(Clone)]
pub(super) struct DraftReference {
    pub(super) constraint: Option<String>,
    pub(super) columns: Vec<(String, Token)>,
    pub(super) to_table: TableName,
    pub(super) to_columns: Vec<String>,
    pub(super) span: Token,
}

/// Words that may follow a column's type.
const COLUMN_WORDS: &[&str] = &[
    "collate",
    "storage",
    "compression",
    "constraint",
    "not",
    "null",
    "check",
    "default",
    "generated",
    "unique",
    "primary",
    "references",
    "deferrable",
    "initially",
    "enforced",
    "options",
];

/// True when a list of column constraints says NOT NULL. Passes over all of it.
pub(super) fn declares_not_null(cursor: &mut Cursor<'_>) -> bool {
    let mut found = false;
    let mut after_is = false;
    loop {
        if cursor.parens().is_some() {
            continue;
        }
        if !after_is && cursor.take(&["not", "null"]) {
            found = true;
            continue;
        }
        after_is = cursor.sees(&["is"]);
        if cursor.bump().is_none() {
            return found;
        }
    }
}

impl Reader<'_> {
    pub(super) fn create_table(&mut self, mut cursor: Cursor<'_>, first: Token) {
        let optional = cursor.take(&["if", "not", "exists"]);
        let Some((name, span)) = self.table_name(&mut cursor) else {
            return self.messages.expected("the name of a table", &cursor);
        };
        if cursor.take(&["partition", "of"]) {
            self.set_aside.insert(name.clone());
            let parent = self
                .table_name(&mut cursor)
                .map_or_else(String::new, |(parent, _)| format!(" of `{parent}`"));
            let message = format!("`{name}` is a partition{parent}; its rows belong there");
            return self.messages.report(Level::Note, span, message, None);
        }
        if cursor.sees(&["of"]) || cursor.sees(&["as"]) {
            return self.cannot_read_columns(&name, span);
        }
        let Some(inside) = cursor.parens() else {
            return self
                .messages
                .expected("the columns in parentheses", &cursor);
        };
        if cursor.unclosed {
            self.messages.error(
                first,
                format!("the parenthesis of table `{name}` is never closed"),
                None,
            );
        }
        let mut draft = Draft {
            name,
            span,
            columns: Vec::new(),
            primary_key: None,
            foreign_keys: Vec::new(),
            attached: false,
        };
        let mut before = span;
        for part in split_commas(self.text, inside) {
            match part.last() {
                Some(&last) => before = last,
                None => self
                    .messages
                    .error(before, "a comma too many after this".to_owned(), None),
            }
            self.table_element(part, &mut draft);
        }
        if cursor.sees(&["as"]) {
            return self.cannot_read_columns(&draft.name, span);
        }
        if cursor.take(&["inherits"]) {
            self.inherit(&mut cursor, &mut draft);
        }
        if self.draft(&draft.name).is_none() {
            self.drafts.push(draft);
        } else if !optional {
            self.messages.error(
                span,
                format!("table `{}` is declared twice", draft.name),
                None,
            );
        }
    }

    fn cannot_read_columns(&mut self, name: &TableName, span: Token) {
        self.set_aside.insert(name.clone());
        let message =
            format!("the columns of `{name}` are not written here, so the table is skipped");
        let hint = "declare it with its columns: create table … (column type, …)".to_owned();
        self.messages
            .report(Level::Warning, span, message, Some(hint));
    }

    /// Parents' columns come first; one that is declared again keeps its place.
    fn inherit(&mut self, cursor: &mut Cursor<'_>, draft: &mut Draft) {
        let Some(parents) = cursor.parens() else {
            return;
        };
        let mut columns: Vec<DraftColumn> = Vec::new();
        for part in split_commas(self.text, parents) {
            let Some((parent, span)) = self.table_name(&mut Cursor::new(self.text, part)) else {
                continue;
            };
            match self.draft(&parent) {
                Some(found) => columns.extend(found.columns.clone()),
                None => self.messages.error(
                    span,
                    format!("table `{parent}` is not declared before this"),
                    None,
                ),
            }
        }
        columns.append(&mut draft.columns);
        for column in columns {
            match draft
                .columns
                .iter_mut()
                .find(|known| known.name == column.name)
            {
                Some(known) => {
                    known.not_null |= column.not_null;
                    known.data_type = column.data_type;
                }
                None => draft.columns.push(column),
            }
        }
    }

    fn table_element(&mut self, part: &[Token], draft: &mut Draft) {
        let mut cursor = Cursor::new(self.text, part);
        if cursor.is_at_end() || self.table_constraint(&mut cursor, draft) {
            return;
        }
        if cursor.take(&["like"]) {
            return self.like(&mut cursor, draft);
        }
        self.column(&mut cursor, draft);
    }

    fn like(&mut self, cursor: &mut Cursor<'_>, draft: &mut Draft) {
        let Some((other, span)) = self.table_name(cursor) else {
            return self.messages.expected("the name of a table", cursor);
        };
        let Some(found) = self.draft(&other).cloned() else {
            return self.messages.error(
                span,
                format!("table `{other}` is not declared before this"),
                None,
            );
        };
        draft.columns.extend(found.columns);
        while cursor.take(&["including"]) || cursor.take(&["excluding"]) {
            if cursor.sees(&["all"]) || cursor.sees(&["indexes"]) {
                draft.primary_key = found.primary_key.clone().map(|key| DraftKey {
                    constraint: None,
                    ..key
                });
            }
            cursor.bump();
        }
    }

    /// Reads a table constraint if one begins here.
    pub(super) fn table_constraint(&mut self, cursor: &mut Cursor<'_>, draft: &mut Draft) -> bool {
        let start = cursor.clone();
        let constraint = match cursor.take(&["constraint"]) {
            true => cursor.name().map(|(name, _)| name),
            false => None,
        };
        let at = cursor.peek();
        if cursor.take(&["primary", "key"]) {
            if cursor.sees(&["using", "index"]) {
                let message = "a primary key by its index is not read".to_owned();
                let hint = "name its columns: primary key (column, …)".to_owned();
                self.messages.report(
                    Level::Warning,
                    at.unwrap_or(draft.span),
                    message,
                    Some(hint),
                );
            } else if let Some(columns) = self.name_list(cursor) {
                self.set_primary_key(
                    draft,
                    DraftKey {
                        constraint,
                        columns,
                    },
                    at.unwrap_or(draft.span),
                );
            }
        } else if cursor.take(&["foreign", "key"]) {
            let Some(columns) = self.name_list(cursor) else {
                return true;
            };
            if cursor.take(&["references"]) {
                self.reference(cursor, draft, constraint, columns);
            } else {
                self.messages.expected("`REFERENCES`", cursor);
            }
        } else if cursor.take(&["not", "null"]) {
            if let Some((name, span)) = cursor.name() {
                match draft.columns.iter_mut().find(|column| column.name == name) {
                    Some(column) => column.not_null = true,
                    None => self.unknown_column(draft, &name, span),
                }
            }
        } else if !is_irrelevant_constraint(cursor) {
            *cursor = start;
            return constraint.is_some() && {
                self.messages.expected("a constraint", cursor);
                true
            };
        }
        true
    }

    pub(super) fn set_primary_key(&mut self, draft: &mut Draft, key: DraftKey, at: Token) {
        if draft.primary_key.is_some() {
            return self.messages.error(
                at,
                format!("table `{}` has two primary keys", draft.name),
                None,
            );
        }
        draft.primary_key = Some(key);
    }

    pub(super) fn unknown_column(&mut self, draft: &Draft, name: &str, span: Token) {
        let near = nearest(
            name,
            draft.columns.iter().map(|column| column.name.as_str()),
        );
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        self.messages.error(
            span,
            format!("table `{}` has no column `{name}`", draft.name),
            hint,
        );
    }

    fn name_list(&mut self, cursor: &mut Cursor<'_>) -> Option<Vec<(String, Token)>> {
        let Some(inside) = cursor.parens() else {
            self.messages.expected("columns in parentheses", cursor);
            return None;
        };
        let parts = split_commas(self.text, inside);
        let names = parts
            .into_iter()
            .filter_map(|part| Cursor::new(self.text, part).name());
        Some(names.collect())
    }

    fn reference(
        &mut self,
        cursor: &mut Cursor<'_>,
        draft: &mut Draft,
        constraint: Option<String>,
        columns: Vec<(String, Token)>,
    ) {
        let Some((to_table, span)) = self.table_name(cursor) else {
            return self.messages.expected("the name of a table", cursor);
        };
        let to_columns = match cursor.sees_symbol('(') {
            true => self
                .name_list(cursor)
                .unwrap_or_default()
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            false => Vec::new(),
        };
        draft.foreign_keys.push(DraftReference {
            constraint,
            columns,
            to_table,
            to_columns,
            span,
        });
    }

    /// One column: its name, type and constraints.
    pub(super) fn column(&mut self, cursor: &mut Cursor<'_>, draft: &mut Draft) {
        let Some((name, span)) = cursor.name() else {
            return self.messages.expected("a column", cursor);
        };
        let has_type = cursor.peek().is_some_and(|token| {
            !COLUMN_WORDS
                .iter()
                .any(|word| token.is_word(self.text, word))
        });
        let data_type = has_type.then(|| value::read_type(cursor)).flatten();
        let Some(data_type) = data_type else {
            return self
                .messages
                .expected(&format!("the type of column `{name}`"), cursor);
        };
        if draft.columns.iter().any(|column| column.name == name) {
            return self.messages.error(
                span,
                format!("table `{}` has two columns `{name}`", draft.name),
                None,
            );
        }
        let not_null = is_serial(&data_type);
        let scope = self.search_path.clone();
        draft.columns.push(DraftColumn {
            name: name.clone(),
            data_type,
            scope,
            not_null,
        });
        while !cursor.is_at_end() {
            if !self.column_constraint(cursor, draft, &name, span) {
                return;
            }
        }
    }

    /// Reads one constraint; false where the rest cannot be read.
    fn column_constraint(
        &mut self,
        cursor: &mut Cursor<'_>,
        draft: &mut Draft,
        name: &str,
        span: Token,
    ) -> bool {
        let constraint = match cursor.take(&["constraint"]) {
            true => cursor.name().map(|(name, _)| name),
            false => None,
        };
        let at = cursor.peek().unwrap_or(span);
        let last = |draft: &mut Draft| {
            if let Some(column) = draft.columns.last_mut() {
                column.not_null = true;
            }
        };
        if cursor.take(&["not", "null"]) {
            last(draft);
        } else if cursor.take(&["primary", "key"]) {
            let key = DraftKey {
                constraint,
                columns: vec![(name.to_owned(), span)],
            };
            self.set_primary_key(draft, key, at);
            skip_index_parameters(cursor);
        } else if cursor.take(&["references"]) {
            self.reference(cursor, draft, constraint, vec![(name.to_owned(), span)]);
            skip_reference_actions(cursor);
        } else if cursor.take(&["generated"]) {
            let identity = |cursor: &mut Cursor<'_>| cursor.take(&["as", "identity"]);
            let _ = cursor.take(&["always"]) || cursor.take(&["by", "default"]);
            if identity(cursor) {
                last(draft);
            } else {
                cursor.take(&["as"]);
            }
            cursor.parens();
            let _ = cursor.take(&["stored"]) || cursor.take(&["virtual"]);
        } else if cursor.take(&["default"]) {
            skip_expression(cursor);
        } else if !skip_column_option(cursor) {
            self.unknown_option(cursor, name);
            return false;
        }
        true
    }

    fn unknown_option(&mut self, cursor: &Cursor<'_>, column: &str) {
        let Some(token) = cursor.peek() else { return };
        let word = token.text(self.text).to_ascii_lowercase();
        let near = nearest(&word, COLUMN_WORDS.iter().copied());
        // A slip of the pen may lose a key, so it is an error; other words may be newer than this reader.
        let level = if near.is_some() {
            Level::Error
        } else {
            Level::Warning
        };
        let hint = near.map(|near| format!("did you mean `{}`?", near.to_uppercase()));
        let shown = self.messages.shown(token);
        let message = format!(
            "`{shown}` is not understood in the declaration of column `{column}`; the rest of it is skipped"
        );
        self.messages.report(level, token, message, hint);
    }
}

fn is_serial(data_type: &value::TypeName) -> bool {
    const SERIALS: [&str; 6] = [
        "serial",
        "bigserial",
        "smallserial",
        "serial2",
        "serial4",
        "serial8",
    ];
    !data_type.quoted && data_type.schema.is_none() && SERIALS.contains(&data_type.name.as_str())
}

/// Passes over `UNIQUE`, `CHECK` and `EXCLUDE`, if one begins here. `exclude` alone may be a column's name.
fn is_irrelevant_constraint(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    let exclude = ahead.take(&["exclude"]) && (ahead.sees(&["using"]) || ahead.sees_symbol('('));
    cursor.take(&["unique"]) || cursor.take(&["check"]) || exclude
}

/// Passes over the options of a column that change nothing here; false when none begins here.
fn skip_column_option(cursor: &mut Cursor<'_>) -> bool {
    const ALONE: [&[&str]; 7] = [
        &["null"],
        &["deferrable"],
        &["not", "deferrable"],
        &["enforced"],
        &["not", "enforced"],
        &["no", "inherit"],
        &["nulls", "not", "distinct"],
    ];
    if ALONE.iter().any(|words| cursor.take(words)) {
        return true;
    }
    if cursor.take(&["initially"]) || cursor.take(&["storage"]) || cursor.take(&["compression"]) {
        cursor.bump();
    } else if cursor.take(&["collate"]) {
        cursor.qualified();
    } else if cursor.take(&["check"]) || cursor.take(&["options"]) {
        cursor.parens();
    } else if cursor.take(&["unique"]) {
        skip_index_parameters(cursor);
    } else {
        return false;
    }
    true
}

fn skip_index_parameters(cursor: &mut Cursor<'_>) {
    loop {
        if cursor.take(&["with"]) || cursor.take(&["include"]) {
            cursor.parens();
        } else if cursor.take(&["using", "index", "tablespace"]) {
            cursor.name();
        } else {
            return;
        }
    }
}

fn skip_reference_actions(cursor: &mut Cursor<'_>) {
    loop {
        if cursor.take(&["match"]) {
            cursor.bump();
        } else if cursor.take(&["on", "delete"]) || cursor.take(&["on", "update"]) {
            if cursor.take(&["set"]) || cursor.take(&["no"]) {
                cursor.bump();
                cursor.parens();
            } else {
                cursor.bump();
            }
        } else {
            return;
        }
    }
}

/// Passes over a default: up to the next word that begins a column constraint, outside of brackets and CASE … END.
fn skip_expression(cursor: &mut Cursor<'_>) {
    let text = cursor.text;
    let (mut depth, mut first) = (0i64, true);
    while let Some(token) = cursor.peek() {
        let ends =
            token.kind == Kind::Word && COLUMN_WORDS.iter().any(|word| token.is_word(text, word));
        if ends && depth <= 0 && !first {
            return;
        }
        if token.kind == Kind::Symbol && matches!(token.text(text), "(" | "[")
            || token.is_word(text, "case")
        {
            depth += 1;
        } else if token.kind == Kind::Symbol && matches!(token.text(text), ")" | "]")
            || token.is_word(text, "end")
        {
            depth -= 1;
        }
        first = false;
        cursor.bump();
    }
}
