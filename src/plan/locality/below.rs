//! One step down a plan: where what is known of a node's output stands in its inputs.

use std::collections::BTreeSet;

use datafusion::common::JoinType;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, Projection, Window};

use super::{Component, Components, Place};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Whether equalities carry a key from right to left, and from left to right: never towards the side whose rows all stay.
pub(super) fn directions(join_type: JoinType) -> (bool, bool) {
    match join_type {
        JoinType::Inner => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            (false, true)
        }
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
            (true, false)
        }
        JoinType::Full => (false, false),
    }
}

/// The components of a join's output, on each of its inputs.
pub(super) fn split(
    join: &Join,
    comps: &Components,
    pairs: &[(usize, usize)],
) -> (Components, Components) {
    let width = join.left.schema().fields().len();
    let (has_left, has_right) = match join.join_type {
        JoinType::Inner | JoinType::Full => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            (true, false)
        }
        _ => (false, true),
    };
    let both_in_output = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Full | JoinType::Left | JoinType::Right
    );
    let right_start = if both_in_output { width } else { 0 };
    let right_width = join.right.schema().fields().len();
    let (mut left, mut right) = (Components::new(), Components::new());
    let add = |to: &mut Components, component: Component, at: usize| {
        to.entry(component).or_default().insert(Place::Column(at));
    };
    for (component, places) in comps {
        for place in places {
            match *place {
                Place::Column(_) if join.join_type == JoinType::Full => {}
                Place::Column(at) if has_left && at < width => add(&mut left, *component, at),
                Place::Column(at)
                    if has_right && at >= right_start && at - right_start < right_width =>
                {
                    add(&mut right, *component, at - right_start);
                }
                Place::Either(a, b) if join.join_type == JoinType::Full => {
                    let (l, r) = (a.min(b), a.max(b).wrapping_sub(width));
                    if pairs.contains(&(l, r)) {
                        add(&mut left, *component, l);
                        add(&mut right, *component, r);
                    }
                }
                _ => {}
            }
        }
    }
    (left, right)
}

pub(super) fn spread(from: &Components, to: &mut Components, own: usize, other: usize) {
    for (component, places) in from {
        if places.contains(&Place::Column(own)) {
            to.entry(*component)
                .or_default()
                .insert(Place::Column(other));
        }
    }
}

/// Positions of the columns that a join's equalities tie, left and right.
pub(super) fn equi_columns(join: &Join) -> Vec<(usize, usize)> {
    let pairs = join.on.iter();
    pairs
        .filter_map(|(l, r)| Some((column_at(l, &join.left)?, column_at(r, &join.right)?)))
        .collect()
}

/// The input position that an expression hands through unchanged.
pub(super) fn column_at(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => column_at(&alias.expr, input),
        Expr::Column(column) => input.schema().index_of_column(column).ok(),
        _ => None,
    }
}

pub(super) fn through_projection(projection: &Projection, comps: &Components) -> Components {
    let place = |at: usize| {
        let expr = projection.expr.get(at)?;
        match column_at(expr, &projection.input) {
            Some(column) => Some(Place::Column(column)),
            None => either(expr, &projection.input),
        }
    };
    let mut below = Components::new();
    for (component, places) in comps {
        for above in places {
            let found = match *above {
                Place::Column(at) => place(at),
                Place::Either(a, b) => match (place(a), place(b)) {
                    (Some(Place::Column(a)), Some(Place::Column(b))) => Some(Place::Either(a, b)),
                    _ => None,
                },
            };
            if let Some(found) = found {
                below.entry(*component).or_default().insert(found);
            }
        }
    }
    below
}

/// `coalesce(a, b)` of two columns, also as the optimiser writes it.
fn either(expr: &Expr, input: &LogicalPlan) -> Option<Place> {
    match expr {
        Expr::Alias(alias) => either(&alias.expr, input),
        Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
            match call.args.as_slice() {
                [a, b] => Some(Place::Either(column_at(a, input)?, column_at(b, input)?)),
                _ => None,
            }
        }
        Expr::Case(case) if case.expr.is_none() => {
            let [(when, then)] = case.when_then_expr.as_slice() else {
                return None;
            };
            let Expr::IsNotNull(tested) = when.as_ref() else {
                return None;
            };
            let (tested, then) = (column_at(tested, input)?, column_at(then, input)?);
            let otherwise = column_at(case.else_expr.as_deref()?, input)?;
            (tested == then).then_some(Place::Either(then, otherwise))
        }
        _ => None,
    }
}

pub(super) fn through_aggregate(
    aggregate: &Aggregate,
    comps: &Components,
) -> Result<Components, String> {
    if aggregate.group_expr.is_empty() {
        return Err("it aggregates a whole table".into());
    }
    if aggregate
        .group_expr
        .iter()
        .any(|expr| matches!(expr, Expr::GroupingSet(_)))
    {
        return Err("ROLLUP, CUBE and GROUPING SETS look at all rows at once".into());
    }
    let place = |at: usize| column_at(aggregate.group_expr.get(at)?, &aggregate.input);
    Ok(columns_only(comps, place))
}

pub(super) fn through_window(window: &Window, comps: &Components) -> Components {
    let width = window.input.schema().fields().len();
    let partitions: Vec<BTreeSet<usize>> = window
        .window_expr
        .iter()
        .map(|expr| partition_columns(expr, &window.input))
        .collect();
    columns_only(comps, |at| {
        (at < width && partitions.iter().all(|columns| columns.contains(&at))).then_some(at)
    })
}

fn columns_only(comps: &Components, place: impl Fn(usize) -> Option<usize>) -> Components {
    let mut below = Components::new();
    for (component, places) in comps {
        for above in places {
            if let Place::Column(at) = above
                && let Some(found) = place(*at)
            {
                below
                    .entry(*component)
                    .or_default()
                    .insert(Place::Column(found));
            }
        }
    }
    below
}

/// The call inside a window expression, which may be aliased.
pub(in crate::plan) fn window_call(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_call(&alias.expr),
        Expr::WindowFunction(call) => Some(call),
        _ => None,
    }
}

fn partition_columns(expr: &Expr, input: &LogicalPlan) -> BTreeSet<usize> {
    window_call(expr)
        .into_iter()
        .flat_map(|call| &call.params.partition_by)
        .filter_map(|expr| column_at(expr, input))
        .collect()
}
