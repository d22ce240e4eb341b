//! `ALTER TABLE`: keys, which `pg_dump` declares behind the tables, and what migrations do to columns.

use super::Reader;
use super::lex::{Cursor, Token, split_commas};
use super::table::Draft;
use crate::diagnostic::{Level, nearest};
use crate::schema::{TableName, value};

impl Reader<'_> {
    pub(super) fn alter_table(&mut self, mut cursor: Cursor<'_>, first: Token) {
        if cursor.sees(&["all", "in"]) {
            return self.skip("ALTER TABLE ALL IN TABLESPACE".to_owned(), first);
        }
        cursor.take(&["if", "exists"]);
        cursor.take(&["only"]);
        let Some((name, span)) = self.table_name(&mut cursor) else {
            return self.messages.expected("the name of a table", &cursor);
        };
        cursor.take_symbol('*');
        let Some(position) = self.drafts.iter().position(|draft| draft.name == name) else {
            return self.alter_unknown(&cursor, &name, span, first);
        };
        let mut draft = self.drafts.swap_remove(position);
        for part in split_commas(self.text, cursor.rest()) {
            let mut action = Cursor::new(self.text, part);
            if let Some(kind) = self.alter_action(&mut action, &mut draft) {
                self.skip(format!("ALTER TABLE … {kind}"), first);
            }
        }
        self.drafts.push(draft);
        let last = self.drafts.len() - 1;
        self.drafts.swap(position, last);
    }

    /// Views, sequences and partitions are altered through `ALTER TABLE` too; only what would matter is an error.
    fn alter_unknown(&mut self, cursor: &Cursor<'_>, name: &TableName, span: Token, first: Token) {
        let matters = ["add", "drop", "rename", "alter"]
            .iter()
            .any(|word| cursor.sees(&[word]));
        if !matters || self.set_aside.contains(name) {
            return self.skip("ALTER TABLE of what is no table here".to_owned(), first);
        }
        let known: Vec<String> = self
            .drafts
            .iter()
            .map(|draft| draft.name.to_string())
            .collect();
        let near = nearest(&name.to_string(), known.iter().map(String::as_str));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        self.messages.error(
            span,
            format!("table `{name}` is not declared before this"),
            hint,
        );
    }

    /// One action. Gives the name of a kind that changes nothing here.
    fn alter_action(&mut self, action: &mut Cursor<'_>, draft: &mut Draft) -> Option<String> {
        let start = action.peek()?;
        if action.take(&["add"]) {
            return self.alter_add(action, draft);
        }
        if action.take(&["drop"]) {
            self.alter_drop(action, draft);
        } else if action.take(&["alter"]) {
            action.take(&["column"]);
            return self.alter_column(action, draft);
        } else if action.take(&["rename"]) {
            self.alter_rename(action, draft);
        } else if action.take(&["set", "schema"]) {
            if let Some((schema, _)) = action.name() {
                draft.name.schema = schema;
            }
        } else if action.take(&["attach", "partition"]) {
            self.attach(action, draft);
        } else {
            let mut kind = start.text(self.text).to_uppercase();
            action.bump();
            if let Some(second) = action.peek() {
                kind = format!("{kind} {}", second.text(self.text).to_uppercase());
            }
            return Some(kind);
        }
        None
    }

    fn alter_add(&mut self, action: &mut Cursor<'_>, draft: &mut Draft) -> Option<String> {
        let mut ahead = action.clone();
        if ahead.take(&["constraint"]) {
            ahead.name();
        }
        for (words, kind) in [
            (["check"], "ADD CHECK"),
            (["unique"], "ADD UNIQUE"),
            (["exclude"], "ADD EXCLUDE"),
        ] {
            if ahead.sees(&words) {
                return Some(kind.to_owned());
            }
        }
        if !self.table_constraint(action, draft) {
            action.take(&["column"]);
            let optional = action.take(&["if", "not", "exists"]);
            let known = action
                .clone()
                .name()
                .is_some_and(|(name, _)| draft.columns.iter().any(|c| c.name == name));
            if !(optional && known) {
                self.column(action, draft);
            }
        }
        None
    }

    fn alter_drop(&mut self, action: &mut Cursor<'_>, draft: &mut Draft) {
        let of_constraint = action.take(&["constraint"]);
        let _ = !of_constraint && action.take(&["column"]);
        let optional = action.take(&["if", "exists"]);
        let Some((name, span)) = action.name() else {
            return self.messages.expected("a name", action);
        };
        if of_constraint {
            let default_name = format!("{}_pkey", draft.name.name);
            if draft
                .primary_key
                .as_ref()
                .is_some_and(|key| *key.constraint.as_ref().unwrap_or(&default_name) == name)
            {
                draft.primary_key = None;
            }
            draft.foreign_keys.retain(|key| match &key.constraint {
                Some(constraint) => *constraint != name,
                None => default_reference_name(draft.name.name.as_str(), &key.columns) != name,
            });
            return;
        }
        if !optional && !draft.columns.iter().any(|column| column.name == name) {
            return self.unknown_column(draft, &name, span);
        }
        draft.columns.retain(|column| column.name != name);
        if draft
            .primary_key
            .as_ref()
            .is_some_and(|key| key.columns.iter().any(|(column, _)| *column == name))
        {
            draft.primary_key = None;
        }
        draft
            .foreign_keys
            .retain(|key| key.columns.iter().all(|(column, _)| *column != name));
    }

    fn alter_column(&mut self, action: &mut Cursor<'_>, draft: &mut Draft) -> Option<String> {
        let Some((name, span)) = action.name() else {
            self.messages.expected("a column", action);
            return None;
        };
        let Some(at) = draft.columns.iter().position(|column| column.name == name) else {
            self.unknown_column(draft, &name, span);
            return None;
        };
        let column = draft.columns.get_mut(at)?;
        if action.take(&["set", "not", "null"]) || action.sees(&["add", "generated"]) {
            column.not_null = true;
        } else if action.take(&["drop", "not", "null"]) {
            column.not_null = false;
        } else if action.take(&["set", "data", "type"]) || action.take(&["type"]) {
            match value::read_type(action) {
                Some(data_type) => {
                    column.data_type = data_type;
                    column.scope.clone_from(&self.search_path);
                }
                None => self.messages.expected("a type", action),
            }
        } else {
            let words: Vec<String> = action
                .rest()
                .iter()
                .take(2)
                .map(|t| t.text(self.text).to_uppercase())
                .collect();
            return Some(format!("ALTER COLUMN {}", words.join(" ")));
        }
        None
    }

    fn alter_rename(&mut self, action: &mut Cursor<'_>, draft: &mut Draft) {
        if action.take(&["to"]) {
            if let Some((name, _)) = action.name() {
                draft.name.name = name;
            }
            return;
        }
        let of_constraint = action.take(&["constraint"]);
        let _ = !of_constraint && action.take(&["column"]);
        let (Some((from, span)), true, Some((to, _))) =
            (action.name(), action.take(&["to"]), action.name())
        else {
            return self.messages.expected("a name and `TO` another", action);
        };
        let rename = |name: &mut String| {
            if *name == from {
                name.clone_from(&to);
            }
        };
        if of_constraint {
            let names = draft.foreign_keys.iter_mut().map(|key| &mut key.constraint);
            names
                .chain(draft.primary_key.iter_mut().map(|key| &mut key.constraint))
                .flatten()
                .for_each(rename);
            return;
        }
        if !draft.columns.iter().any(|column| column.name == from) {
            return self.unknown_column(draft, &from, span);
        }
        draft
            .columns
            .iter_mut()
            .for_each(|column| rename(&mut column.name));
        let keys = draft.foreign_keys.iter_mut().map(|key| &mut key.columns);
        let lists = keys.chain(draft.primary_key.iter_mut().map(|key| &mut key.columns));
        lists.flatten().for_each(|(name, _)| rename(name));
        let (own, tables) = (draft.name.clone(), &mut self.drafts);
        let references = tables
            .iter_mut()
            .chain([draft])
            .flat_map(|table| &mut table.foreign_keys);
        references
            .filter(|key| key.to_table == own)
            .flat_map(|key| &mut key.to_columns)
            .for_each(rename);
    }

    /// `pg_dump` writes partitions as tables of their own and attaches them afterwards.
    fn attach(&mut self, action: &mut Cursor<'_>, parent: &Draft) {
        let Some((child, span)) = self.table_name(action) else {
            return self.messages.expected("the name of a partition", action);
        };
        let Some(found) = self.draft(&child) else {
            return;
        };
        found.attached = true;
        let message = format!(
            "`{child}` is a partition of `{}`; its rows belong there",
            parent.name
        );
        self.messages.report(Level::Note, span, message, None);
    }
}

/// The name that Postgres gives a foreign key without one.
fn default_reference_name(table: &str, columns: &[(String, Token)]) -> String {
    let columns: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    format!("{table}_{}_fkey", columns.join("_"))
}
