//! Reading the arguments of checks of writes.

use super::fields::Fields;
use super::kinds::OPS;
use super::read::Reader;
use super::yaml::{Kind, Node};
use super::{Check, Literal, Spanned};
use crate::change::{Decimal, Op};

/// The check of a kind from its arguments; None after everything wrong with it was said.
pub(super) fn read(r: &mut Reader<'_>, kind: &str, f: &Fields<'_>) -> Option<Check> {
    match kind {
        "transitions" => transitions(r, f),
        "monotonic" => monotonic(r, f),
        "increments" => increments(r, f),
        "touched" => touched(r, f),
        "balanced_transaction" => balanced_transaction(r, f),
        "mass_change" => mass_change(r, f),
        _ => None,
    }
}

fn transitions(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let allowed = f.required(r, "allowed", |r, node| {
        let entries = match &node.kind {
            Kind::Mapping(entries) if !entries.is_empty() => entries,
            _ => {
                return r.wrong(
                    node,
                    format!("steps are expected here, found {}", node.describe()),
                    "write `{draft: [placed], placed: [paid, cancelled]}`",
                );
            }
        };
        let steps: Vec<Option<_>> = entries
            .iter()
            .map(|(from, to)| r.literal(from).zip(next_values(r, to)))
            .collect();
        steps.into_iter().collect()
    });
    let initial = f.optional(r, "initial", |r, node| {
        r.list(node, "a value", Reader::literal)
    });
    Some(Check::Transitions {
        column: column?,
        allowed: allowed?,
        initial: initial?,
    })
}

/// Where a value may go: a list, one value, or nothing for a last one.
fn next_values(r: &mut Reader<'_>, node: &Node) -> Option<Vec<Spanned<Literal>>> {
    match &node.kind {
        Kind::Sequence(items) if items.is_empty() => Some(Vec::new()),
        Kind::Scalar { .. } if node.is_null() => Some(Vec::new()),
        _ => r.list(node, "a value", Reader::literal),
    }
}

fn monotonic(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let increasing = f.or(r, "direction", true, |r, node| {
        r.word(
            node,
            "`direction`",
            &[("increasing", true), ("decreasing", false)],
        )
    });
    let strict = f.or(r, "strict", false, Reader::boolean);
    Some(Check::Monotonic {
        column: column?,
        increasing: increasing?,
        strict: strict?,
    })
}

fn increments(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let by = f.or(r, "by", f.standard(r, "1"), |r, node| {
        let by = r.decimal(node)?;
        if Decimal::parse(&by.value).is_some_and(|by| by.unscaled == 0) {
            return r.wrong(
                node,
                "`by` cannot be zero",
                "write what every update adds, such as `1`",
            );
        }
        Some(by)
    });
    Some(Check::Increments {
        column: column?,
        by: by?,
    })
}

fn touched(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let when = f.optional(r, "when", Reader::columns);
    Some(Check::Touched {
        column: column?,
        when: when?,
    })
}

fn balanced_transaction(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let sum = f.required(r, "sum", Reader::expression);
    let per = f.columns_or_none(r, "per");
    let filter = f.optional(r, "where", Reader::expression);
    Some(Check::BalancedTransaction {
        sum: sum?,
        per: per?,
        filter: filter?,
    })
}

fn mass_change(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let bounded = f.any_of(r, &["max_rows", "max_percent"]);
    let max_rows = f.optional(r, "max_rows", Reader::count);
    let max_percent = f.optional(r, "max_percent", Reader::percent);
    let ops = f.or(r, "ops", vec![Op::Update, Op::Delete], |r, node| {
        r.list(node, "an operation", |r, node| {
            if node.text() == Some("truncate") {
                return r.wrong(
                    node,
                    "a truncate counts as a delete of every row",
                    "write `delete`",
                );
            }
            r.word(node, "an operation", &OPS)
        })
    });
    bounded?;
    Some(Check::MassChange {
        max_rows: max_rows?,
        max_percent: max_percent?,
        ops: ops?,
    })
}
