//! The two sides of a `balance`, and what the parts come to where there are none.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, visit_expressions,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::scope::{Fragment, Scope, folded};
use super::subject::Subject;
use crate::rule::{Spanned, Sql, sql};
use crate::schema::{Table, TableName};

/// How deep an expression may be nested once it was put together: deeper than what a rule may write.
const DEPTH_MAX: usize = 200;

/// Aggregates whose value over no parts, or over NULLs only, is 0.
fn is_additive(function: &str) -> bool {
    matches!(function, "sum" | "count")
}

/// The two sides of a balance.
pub(super) struct Sides<'a> {
    pub(super) left: Fragment,
    /// What the left side is made of when it is an aggregate.
    pub(super) left_figure: Option<Figure>,
    pub(super) right: Figure,
    pub(super) right_table: &'a Table,
    filter: Option<Fragment>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(
        scope: &mut Scope<'a>,
        subject: &Subject<'a>,
        left: &Sql,
        right: &Sql,
        filter: Option<&Sql>,
    ) -> Option<Self> {
        let left_fragment = scope.fragment(subject.table, left);
        let right_expr = match sql::parse_expression(right) {
            Ok(expr) => expr,
            Err(error) => {
                scope.diagnostics.push(error);
                return None;
            }
        };
        if aggregate_name(&right_expr).is_none() {
            scope.error(
                &right.span,
                "the right side of `balance` must be an aggregate",
                "write e.g. `sum(order_lines.amount)`",
            );
            return None;
        }
        let right_table = match table_of(&right_expr).as_slice() {
            [] => subject.table,
            [one] => scope.table(&Spanned {
                value: TableName::parse(one),
                span: right.span.clone(),
            })?,
            several => {
                let message = format!(
                    "the right side of `balance` reads several tables: {}",
                    several.join(", ")
                );
                scope.error(&right.span, message, "aggregate over one table");
                return None;
            }
        };
        let right_fragment = scope.fragment(right_table, right);
        let filter = scope.optional_fragment(right_table, filter);
        let (left_fragment, right_fragment) = (left_fragment?, right_fragment?);
        let left_figure = figure(scope, &left_fragment, left)?;
        Some(Sides {
            left_figure,
            left: left_fragment,
            right: figure(scope, &right_fragment, right)??,
            right_table,
            filter: filter?,
        })
    }

    pub(super) fn right_where(&self) -> String {
        self.filter
            .as_ref()
            .map_or_else(String::new, |filter| format!(" WHERE {}", filter.wrapped()))
    }
}

/// A figure that parts come to: an aggregate, or an expression of some. Over no parts each sum and count in it is 0, and so it is over
/// parts that are all NULL; other aggregates are NULL then.
pub(super) struct Figure {
    /// The figure as written.
    pub(super) raw: String,
    /// The figure of parts that are there.
    pub(super) filled: String,
    /// The figure of no parts at all, a constant; None where it is NULL.
    pub(super) nothing: Option<String>,
    /// True for one sum or count and nothing around it.
    pub(super) additive: bool,
}

/// The figure of one side, if it has an aggregate; None after a message.
fn figure(scope: &mut Scope<'_>, fragment: &Fragment, text: &Sql) -> Option<Option<Figure>> {
    if aggregate_name(&fragment.expr).is_none() {
        return Some(None);
    }
    let figure = Figure::of(fragment);
    if figure.is_none() {
        scope.error(
            &text.span,
            "this expression cannot be taken apart into its aggregates",
            "put signs and operators in parentheses, as in `-(-x)`",
        );
    }
    figure.map(Some)
}

impl Figure {
    /// None for an expression that reads otherwise once it is written out.
    fn of(fragment: &Fragment) -> Option<Figure> {
        if let Some(name) = call(&fragment.expr) {
            let raw = match count_star(&fragment.expr) {
                Some(star) => format!("({star})"),
                None => fragment.wrapped(),
            };
            let additive = is_additive(&name);
            return Some(Figure {
                filled: raw.clone(),
                nothing: additive.then(|| "0".to_owned()),
                raw,
                additive,
            });
        }
        let raw = with(&fragment.expr, |node| {
            if let Some(star) = count_star(node) {
                *node = constant(&star);
            }
        });
        let filled = with(&raw, |node| {
            if call(node).is_some_and(|name| is_additive(&name)) {
                *node = or_zero("coalesce", node);
            }
            spare_divisor(node);
        });
        let nothing = with(&raw, |node| {
            match node {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => *node = constant("NULL"),
                _ => (),
            }
            if let Some(name) = call(node) {
                *node = constant(if is_additive(&name) { "0" } else { "NULL" });
            }
            spare_divisor(node);
        });
        let (raw, filled, nothing) = (printed(&raw)?, printed(&filled)?, printed(&nothing)?);
        Some(Figure {
            // What is no NULL stays as it is: dividing by a sum that really is 0 fails, and is not passed over.
            filled: format!("coalesce(({raw}), {filled})"),
            nothing: Some(format!("({nothing})")),
            raw: format!("({raw})"),
            additive: false,
        })
    }

    /// The figure of the parts joined to a whole: `column` is NULL where there are none.
    pub(super) fn joined(&self, column: &str) -> String {
        match &self.nothing {
            Some(nothing) => format!("coalesce({column}, {nothing})"),
            None => column.to_owned(),
        }
    }
}

/// The name of the aggregate, when the expression is its call and nothing around it.
fn call(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(_) => aggregate_call(expr),
        Expr::Nested(inner) => call(inner),
        _ => None,
    }
}

/// An expression after a change of its parts, the inner ones first.
fn with(expr: &Expr, mut change: impl FnMut(&mut Expr)) -> Expr {
    let mut expr = expr.clone();
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |node| {
        change(node);
        ControlFlow::Continue(())
    });
    expr
}

/// Where nothing is added up, a quotient has nothing to be divided by: it is NULL, and passes.
fn spare_divisor(node: &mut Expr) {
    if let Expr::BinaryOp { op, right, .. } = node
        && matches!(op, BinaryOperator::Divide | BinaryOperator::Modulo)
    {
        **right = or_zero("nullif", right);
    }
}

/// `function(value, 0)`.
fn or_zero(function: &str, value: &Expr) -> Expr {
    let mut call = constant(&format!("{function}(NULL, 0)"));
    if let Expr::Function(call) = &mut call
        && let FunctionArguments::List(list) = &mut call.args
        && let Some(first) = list.args.first_mut()
    {
        *first = FunctionArg::Unnamed(FunctionArgExpr::Expr(value.clone()));
    }
    call
}

fn read(text: &str) -> Option<Expr> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX);
    let mut parser = parser.try_with_sql(text).ok()?;
    let expr = parser.parse_expr().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(expr)
}

/// An expression that stands in this file.
fn constant(text: &str) -> Expr {
    read(text).expect("it is written right here")
}

/// An expression as text; None where the text would be read as another one (`- -1` is printed as a comment).
fn printed(expr: &Expr) -> Option<String> {
    let text = expr.to_string();
    (read(&text).as_ref() == Some(expr)).then_some(text)
}

/// The function's name when the expression is one aggregate call, possibly inside arithmetic.
fn aggregate_name(expr: &Expr) -> Option<String> {
    let mut found = None;
    let _: ControlFlow<()> = visit_expressions(expr, |node| {
        if let Some(name) = aggregate_call(node) {
            found.get_or_insert(name);
        }
        ControlFlow::Continue(())
    });
    found
}

/// The name of the aggregate that a node calls.
fn aggregate_call(node: &Expr) -> Option<String> {
    const AGGREGATES: [&str; 12] = [
        "sum",
        "count",
        "min",
        "max",
        "avg",
        "median",
        "stddev",
        "var",
        "bool_and",
        "bool_or",
        "first_value",
        "last_value",
    ];
    let Expr::Function(function) = node else {
        return None;
    };
    let name = function.name.0.last()?.as_ident()?.value.to_lowercase();
    AGGREGATES.contains(&name.as_str()).then_some(name)
}

/// The tables that an expression's qualified names mention, as written.
fn table_of(expr: &Expr) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    let mut add = |parts: &[String]| {
        let name = parts.join(".");
        if !name.is_empty() && !tables.contains(&name) {
            tables.push(name);
        }
    };
    let _: ControlFlow<()> = visit_expressions(expr, |node| {
        match node {
            Expr::CompoundIdentifier(parts) => {
                let parts: Vec<String> = parts.iter().map(folded).collect();
                add(&parts[..parts.len().saturating_sub(1)]);
            }
            Expr::Function(function) => {
                if let FunctionArguments::List(list) = &function.args {
                    for argument in &list.args {
                        if let FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) =
                            argument
                        {
                            let parts: Vec<String> = name
                                .0
                                .iter()
                                .filter_map(|part| part.as_ident())
                                .map(folded)
                                .collect();
                            add(&parts);
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    tables
}

/// `count(order_lines.*)` counts rows, which the engine writes `count(*)`.
fn count_star(expr: &Expr) -> Option<String> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(_))] = list.args.as_slice() else {
        return None;
    };
    Some("count(*)".into())
}
