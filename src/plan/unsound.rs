//! SQL that the engine plans and answers wrongly. It is refused: no answer is better than a wrong one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, SetExpr, SetOperator, SetQuantifier, Visit, Visitor,
    visit_expressions,
};

/// What a query holds that would be answered wrongly; None where nothing is. The words at fault stand in backticks.
pub(super) fn unsound(query: &Query) -> Option<String> {
    match query.visit(&mut Unsound) {
        ControlFlow::Break(reason) => Some(reason),
        ControlFlow::Continue(()) => None,
    }
}

struct Unsound;

impl Visitor for Unsound {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        counted_sets(&query.body)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            // Without a column on its left, the engine passes over a NULL on its right.
            Expr::InSubquery { expr, .. } if is_constant(expr) => ControlFlow::Break(
                "`in` is not allowed in rules with a constant before a query: a NULL would be passed over; compare in the query's own `where`"
                    .to_owned(),
            ),
            // The parser takes what follows `and` for a part of the right side.
            Expr::IsDistinctFrom(_, right) if is_joined(right) => {
                ControlFlow::Break(parentheses("is distinct from"))
            }
            Expr::IsNotDistinctFrom(_, right) if is_joined(right) => {
                ControlFlow::Break(parentheses("is not distinct from"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn is_joined(expr: &Expr) -> bool {
    use BinaryOperator::{And, Or};
    matches!(expr, Expr::BinaryOp { op: And | Or, .. })
}

fn parentheses(words: &str) -> String {
    format!(
        "`{words}` is not allowed in rules before `and` or `or` without parentheses: write `(a {words} b) and …`"
    )
}

/// The engine takes `except all` and `intersect all` for a search: how often a row is there is not counted.
fn counted_sets(body: &SetExpr) -> ControlFlow<String> {
    let SetExpr::SetOperation {
        op,
        set_quantifier,
        left,
        right,
    } = body
    else {
        return ControlFlow::Continue(());
    };
    let name = match op {
        SetOperator::Except | SetOperator::Minus => "except",
        SetOperator::Intersect => "intersect",
        SetOperator::Union => "",
    };
    if !name.is_empty() && *set_quantifier == SetQuantifier::All {
        return ControlFlow::Break(format!(
            "`{name} all` is not allowed in rules: equal rows would not be counted; group and count them instead"
        ));
    }
    counted_sets(left)?;
    counted_sets(right)
}

/// Whether a value depends on no column, or on more than the row at hand.
fn is_constant(expr: &Expr) -> bool {
    let mut any_column = false;
    let subquery = visit_expressions(expr, |part| {
        any_column |= matches!(part, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        match part {
            Expr::Subquery(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    subquery.is_break() || !any_column
}
