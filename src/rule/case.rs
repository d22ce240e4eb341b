//! `cases:`: examples inside rule files, in the words of a history.

use super::fields::{Fields, Form};
use super::read::Reader;
use super::yaml::{Kind, Node};
use super::{
    Case, CaseChange, CaseRow, CaseTransaction, Expectation, Literal, Spanned, TableRef, kinds,
};
use crate::change::Op;

static CASE: Form = Form {
    name: "cases",
    arguments: &["name", "given", "changes", "now", "expect"],
    example: "cases: [{given: {orders: [{id: 1, total: 5}]}, expect: held}]",
};
static TRANSACTION: Form = Form {
    name: "changes",
    arguments: &["time", "changes"],
    example: "changes: [[{op: delete, key: {id: 1}}]]",
};
static CHANGE: Form = Form {
    name: "changes",
    arguments: &["table", "op", "key", "before", "after"],
    example: "{table: orders, op: update, key: {id: 1}, after: {status: paid}}",
};
static EXPECT: Form = Form {
    name: "expect",
    arguments: &["violated"],
    example: "expect: {violated: [{id: 1}]}",
};

const EXPECT_FORMS: &str = "write `held`, `violated`, `unknown` or `{violated: [{id: 1}]}`";

/// Reads the cases of a rule whose subject is `table`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    table: Option<&TableRef>,
) -> Option<Vec<Case>> {
    let Kind::Sequence(items) = &node.kind else {
        return reader.wrong(
            node,
            format!("`cases` needs a list, found {}", node.describe()),
            format!("write `{}`", CASE.example),
        );
    };
    let cases: Vec<Option<Case>> = items
        .iter()
        .enumerate()
        .map(|(at, item)| case(reader, item, at + 1, table))
        .collect();
    cases.into_iter().collect()
}

fn case(r: &mut Reader<'_>, node: &Node, number: usize, table: Option<&TableRef>) -> Option<Case> {
    let fields = Fields::open(r, &CASE, node, node)?;
    let name = fields.optional(r, "name", Reader::text);
    let given = fields.or(r, "given", Vec::new(), given);
    let changes = fields.or(r, "changes", Vec::new(), |r, node| {
        transactions(r, node, table)
    });
    let now = fields.optional(r, "now", time);
    let expect = fields.required(r, "expect", |r, node| expectation(r, node));
    let name = name?.map_or_else(|| format!("case {number}"), |name| name.value);
    let case = Case {
        name,
        given: given?,
        changes: changes?,
        now: now?,
        expect: expect?,
        span: r.source.span(node),
    };
    (!fields.broken).then_some(case)
}

/// An RFC 3339 time.
fn time(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node)?;
    if chrono::DateTime::parse_from_rfc3339(&text.value).is_err() {
        return r.wrong(
            node,
            format!("a time is expected here, found {}", node.describe()),
            "write `2026-03-12T16:03:51Z`",
        );
    }
    Some(text)
}

/// Tables and their rows.
fn given(r: &mut Reader<'_>, node: &Node) -> Option<Vec<(TableRef, Vec<CaseRow>)>> {
    let Kind::Mapping(entries) = &node.kind else {
        return r.wrong(
            node,
            format!(
                "tables with rows are expected here, found {}",
                node.describe()
            ),
            "write `given: {orders: [{id: 1, total: 5}]}`",
        );
    };
    let tables: Vec<Option<_>> = entries
        .iter()
        .map(|(name, value)| r.table(name).zip(rows(r, value)))
        .collect();
    tables.into_iter().collect()
}

/// A list of rows; nothing for an empty table.
fn rows(r: &mut Reader<'_>, node: &Node) -> Option<Vec<CaseRow>> {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Some(Vec::new()),
        Kind::Sequence(items) => {
            let rows: Vec<Option<CaseRow>> = items.iter().map(|item| row(r, item)).collect();
            rows.into_iter().collect()
        }
        _ => r.wrong(
            node,
            format!("a list of rows is expected here, found {}", node.describe()),
            "write `[{id: 1, total: 5}]`",
        ),
    }
}

fn row(r: &mut Reader<'_>, node: &Node) -> Option<CaseRow> {
    let Kind::Mapping(entries) = &node.kind else {
        return r.wrong(
            node,
            format!("a row is expected here, found {}", node.describe()),
            "write `{id: 1, total: 5}`",
        );
    };
    let cells: Vec<Option<_>> = entries
        .iter()
        .map(|(name, value)| Some((r.column(name)?, cell(value))))
        .collect();
    cells.into_iter().collect()
}

/// A literal; lists and mappings as JSON text.
fn cell(node: &Node) -> Literal {
    node.literal().unwrap_or_else(|| {
        let mut text = String::new();
        json(node, &mut text);
        Literal::Text(text)
    })
}

fn json(node: &Node, out: &mut String) {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match &node.kind {
        Kind::Scalar { .. } => match node.literal() {
            Some(Literal::Bool(value)) => out.push_str(if value { "true" } else { "false" }),
            Some(Literal::Number(text)) => match text.parse::<serde_json::Number>() {
                Ok(_) => out.push_str(&text),
                Err(_) => out.push_str(&quoted(&text)),
            },
            Some(Literal::Text(text)) => out.push_str(&quoted(&text)),
            Some(Literal::Null) | None => out.push_str("null"),
        },
        Kind::Sequence(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json(item, out);
            }
            out.push(']');
        }
        Kind::Mapping(entries) => {
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key.text().unwrap_or("")));
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
    }
}

fn transactions(
    r: &mut Reader<'_>,
    node: &Node,
    table: Option<&TableRef>,
) -> Option<Vec<CaseTransaction>> {
    let Kind::Sequence(items) = &node.kind else {
        let hint = format!(
            "a list of transactions, each a list of changes: `{}`",
            TRANSACTION.example
        );
        return r.wrong(
            node,
            format!("`changes` needs a list, found {}", node.describe()),
            hint,
        );
    };
    let transactions: Vec<Option<_>> = items
        .iter()
        .map(|item| transaction(r, item, table))
        .collect();
    transactions.into_iter().collect()
}

/// A list of changes, `{time, changes}`, or one change alone.
fn transaction(
    r: &mut Reader<'_>,
    node: &Node,
    table: Option<&TableRef>,
) -> Option<CaseTransaction> {
    let span = r.source.span(node);
    let is_change = match &node.kind {
        Kind::Mapping(entries) => !entries
            .iter()
            .any(|(key, _)| matches!(key.text(), Some("changes"))),
        _ => false,
    };
    if is_change {
        return Some(CaseTransaction {
            time: None,
            changes: vec![change(r, node, table)?],
            span,
        });
    }
    if let Kind::Sequence(_) = node.kind {
        return Some(CaseTransaction {
            time: None,
            changes: changes(r, node, table)?,
            span,
        });
    }
    let fields = Fields::open(r, &TRANSACTION, node, node)?;
    let time = fields.optional(r, "time", time);
    let changes = fields.required(r, "changes", |r, node| changes(r, node, table));
    let transaction = CaseTransaction {
        time: time?,
        changes: changes?,
        span,
    };
    (!fields.broken).then_some(transaction)
}

fn changes(r: &mut Reader<'_>, node: &Node, table: Option<&TableRef>) -> Option<Vec<CaseChange>> {
    let Kind::Sequence(items) = &node.kind else {
        return r.wrong(
            node,
            format!(
                "a list of changes is expected here, found {}",
                node.describe()
            ),
            format!("write `[{}]`", CHANGE.example),
        );
    };
    let changes: Vec<Option<_>> = items.iter().map(|item| change(r, item, table)).collect();
    changes.into_iter().collect()
}

fn change(r: &mut Reader<'_>, node: &Node, table: Option<&TableRef>) -> Option<CaseChange> {
    let fields = Fields::open(r, &CHANGE, node, node)?;
    let named = fields.optional(r, "table", Reader::table);
    let op = fields.required(r, "op", |r, node| r.word(node, "`op`", &kinds::OPS));
    let key = fields.optional(r, "key", row);
    let before = fields.optional(r, "before", row);
    let after = fields.optional(r, "after", row);
    let Some(table) = named?.or_else(|| table.cloned()) else {
        return r.wrong(
            node,
            "this change names no table, and neither does the rule",
            "add `table`",
        );
    };
    let (op, key, before, after) = (op?, key?, before?, after?);
    let needs = match op {
        Op::Insert | Op::Update if after.is_none() => Some("`after`"),
        Op::Delete if key.is_none() && before.is_none() => Some("`key` or `before`"),
        _ => None,
    };
    if let Some(needs) = needs {
        let node = fields.get("op").unwrap_or(node);
        return r.wrong(
            node,
            format!("`{}` needs {needs}", op.as_str()),
            format!("write `{}`", CHANGE.example),
        );
    }
    let useless = match op {
        Op::Truncate => ["key", "before", "after"]
            .iter()
            .find_map(|name| fields.written(name)),
        Op::Delete => fields.written("after"),
        Op::Insert => fields.written("before"),
        Op::Update => None,
    };
    if let Some(useless) = useless {
        let message = format!(
            "`{}` has no `{}`",
            op.as_str(),
            useless.text().unwrap_or("")
        );
        return r.wrong(useless, message, "remove it");
    }
    (!fields.broken).then_some(CaseChange {
        table,
        op,
        key,
        before,
        after,
    })
}

fn expectation(r: &mut Reader<'_>, node: &Node) -> Option<Expectation> {
    if let Kind::Mapping(_) = node.kind {
        let fields = Fields::open(r, &EXPECT, node, node)?;
        let keys = fields.required(r, "violated", |r, node| match &node.kind {
            Kind::Sequence(items) if items.is_empty() => {
                r.wrong(node, "no key is violated", "write `expect: held`")
            }
            _ => rows(r, node),
        });
        let keys = keys?;
        return (!fields.broken).then_some(Expectation::ViolatedKeys(keys));
    }
    let words = [("held", 0), ("violated", 1), ("unknown", 2)];
    if node.text().is_none() {
        return r.wrong(
            node,
            format!("`expect` cannot be {}", node.describe()),
            EXPECT_FORMS,
        );
    }
    Some(match r.word(node, "`expect`", &words)? {
        0 => Expectation::Held,
        1 => Expectation::Violated,
        _ => Expectation::Unknown,
    })
}
