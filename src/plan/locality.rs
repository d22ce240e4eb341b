//! Which rows of which tables can decide about one key: found on the optimised plan.
//!
//! A plan is *local* in some of its output columns (the anchor) when the filter `anchor = value` may be pushed down to every scan:
//! then a change touches exactly the anchors in its images, and judging an anchor needs no other rows. The walk goes down from
//! the output and keeps, for each anchor column, the positions that are known to equal it at this node. A join side that no
//! anchor column reaches is a *dimension* where an equi join ties it to a column of a scan on the other side: of it, only rows
//! with the values that scan has are needed.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, Projection, TableScan, Volatility, Window,
};

/// How the rows of one scan are found. Columns are those of the scanned table, not of the scan's projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanKey {
    /// By the anchor: the columns that equal its components, in their order.
    Direct(Vec<usize>),
    /// By the values that a column of another scan has.
    Derived {
        /// The other scan.
        source: usize,
        /// Its column.
        source_column: usize,
        /// The column of this scan that must have one of its values.
        own_column: usize,
    },
}

/// How a plan can be judged key by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locality {
    /// Output positions that are the anchor.
    pub anchor: Vec<usize>,
    /// One entry a scan, in the order in which [`scans`] lists them.
    pub scans: Vec<ScanKey>,
}

/// All scans of a plan, from left to right.
pub fn scans(plan: &LogicalPlan) -> Vec<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => vec![scan],
        other => other.inputs().into_iter().flat_map(scans).collect(),
    }
}

/// Finds the locality of an optimised plan. `key` are the output positions of the rule's key, tried first.
///
/// # Errors
/// Why the plan can only be judged in full, in words for the author of the rule.
pub fn locality(plan: &LogicalPlan, key: &[usize]) -> Result<Locality, String> {
    refuse_expressions(plan)?;
    let width = plan.schema().fields().len();
    let mut reason = None;
    let singles = key.iter().copied().chain(0..width).map(|at| vec![at]);
    for candidate in std::iter::once(key.to_vec()).chain(singles) {
        match try_anchor(plan, candidate) {
            Ok(found) => return Ok(found),
            Err(why) => _ = reason.get_or_insert(why),
        }
    }
    Err(reason.unwrap_or_else(|| "it returns no columns".into()))
}

/// Walks with an anchor, and again with what is left of it, until every scan that the anchor reaches has all of it.
fn try_anchor(plan: &LogicalPlan, mut anchor: Vec<usize>) -> Result<Locality, String> {
    loop {
        if anchor.is_empty() {
            return Err("no column of its key reaches every table that it reads".into());
        }
        let comps: Components = (0..anchor.len())
            .map(|at| {
                (
                    Component::Anchor(at),
                    BTreeSet::from([Place::Column(anchor[at])]),
                )
            })
            .collect();
        let mut walk = Walk::new(scans(plan).len());
        walk.node(plan, &comps, 0)?;
        let common = walk.common_anchor(anchor.len());
        if common.len() == anchor.len() {
            let scans = walk.keys(anchor.len())?;
            return Ok(Locality { anchor, scans });
        }
        anchor = common.into_iter().map(|at| anchor[at]).collect();
    }
}

/// What a position may be known to equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Component {
    /// A column of the anchor.
    Anchor(usize),
    /// The values of another scan's column.
    Derived(usize),
}

/// Where a component is found in a node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Column(usize),
    /// The first of two columns that is not null: the key of a full join.
    Either(usize, usize),
}

type Components = BTreeMap<Component, BTreeSet<Place>>;

struct Walk {
    reached: Vec<BTreeMap<Component, usize>>,
    /// Source scan and column of each derived component.
    derived: Vec<(usize, usize)>,
}

impl Walk {
    fn new(scan_count: usize) -> Self {
        Walk {
            reached: vec![BTreeMap::new(); scan_count],
            derived: Vec::new(),
        }
    }

    /// The anchor columns that every directly reached scan has.
    fn common_anchor(&self, width: usize) -> Vec<usize> {
        let direct = self.reached.iter().filter(|reached| {
            reached
                .keys()
                .any(|component| matches!(component, Component::Anchor(_)))
        });
        let direct: Vec<_> = direct.collect();
        let everywhere = |at: &usize| {
            direct
                .iter()
                .all(|reached| reached.contains_key(&Component::Anchor(*at)))
        };
        (0..width).filter(everywhere).collect()
    }

    fn keys(self, width: usize) -> Result<Vec<ScanKey>, String> {
        let key = |reached: BTreeMap<Component, usize>| {
            let anchor: Vec<usize> = (0..width)
                .filter_map(|at| reached.get(&Component::Anchor(at)).copied())
                .collect();
            if !anchor.is_empty() {
                return Ok(ScanKey::Direct(anchor));
            }
            match reached.into_iter().next() {
                Some((Component::Derived(at), own_column)) => {
                    let (source, source_column) = self.derived[at];
                    Ok(ScanKey::Derived {
                        source,
                        source_column,
                        own_column,
                    })
                }
                _ => Err("it reads a table that its key does not reach".into()),
            }
        };
        self.reached.iter().cloned().map(key).collect()
    }

    /// Walks down; `first` is the number of the node's first scan.
    fn node(&mut self, plan: &LogicalPlan, comps: &Components, first: usize) -> Result<(), String> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan, comps, first),
            LogicalPlan::Projection(projection) => self.node(
                &projection.input,
                &through_projection(projection, comps),
                first,
            ),
            LogicalPlan::Filter(filter) => self.node(&filter.input, comps, first),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input, comps, first),
            LogicalPlan::Repartition(repartition) => self.node(&repartition.input, comps, first),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input, comps, first),
            LogicalPlan::Distinct(Distinct::All(input)) => self.node(input, comps, first),
            LogicalPlan::Aggregate(aggregate) => {
                let below = through_aggregate(aggregate, comps)?;
                self.node(&aggregate.input, &below, first)
            }
            LogicalPlan::Window(window) => {
                self.node(&window.input, &through_window(window, comps), first)
            }
            LogicalPlan::Union(union) => {
                let mut first = first;
                for input in &union.inputs {
                    self.node(input, comps, first)?;
                    first += scans(input).len();
                }
                Ok(())
            }
            LogicalPlan::Join(join) => self.join(join, comps, first),
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(()),
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => {
                Err("LIMIT looks at all rows at once".into())
            }
            LogicalPlan::Distinct(_) => Err("DISTINCT ON looks at all rows at once".into()),
            other => Err(format!("{} looks at all rows at once", name_of(other))),
        }
    }

    fn scan(&mut self, scan: &TableScan, comps: &Components, at: usize) -> Result<(), String> {
        if scan.fetch.is_some() {
            return Err("LIMIT looks at all rows at once".into());
        }
        let column = |position: usize| {
            scan.projection
                .as_ref()
                .map_or(Some(position), |projection| {
                    projection.get(position).copied()
                })
        };
        for (component, places) in comps {
            let own = places.iter().find_map(|place| match place {
                Place::Column(position) => column(*position),
                Place::Either(..) => None,
            });
            if let Some(own) = own {
                self.reached[at].insert(*component, own);
            }
        }
        if self.reached[at].is_empty() {
            return Err(format!(
                "no column of its key reaches the table `{}`",
                scan.table_name.table()
            ));
        }
        Ok(())
    }

    fn join(&mut self, join: &Join, comps: &Components, first: usize) -> Result<(), String> {
        if join.null_aware {
            return Err(
                "NOT IN looks at all rows at once when one of them is NULL: write NOT EXISTS"
                    .into(),
            );
        }
        let pairs = equi_columns(join);
        let (mut left, mut right) = split(join, comps, &pairs);
        let (to_left, to_right) = directions(join.join_type);
        for &(l, r) in &pairs {
            if to_right {
                spread(&left, &mut right, l, r);
            }
            if to_left {
                spread(&right, &mut left, r, l);
            }
        }
        let right_first = first + scans(&join.left).len();
        if left.is_empty() && !right.is_empty() {
            self.node(&join.right, &right, right_first)?;
            let found = to_left
                .then(|| self.dimension(join, &pairs, Side::Right, right_first))
                .flatten();
            return self.node(&join.left, &found.unwrap_or_default(), first);
        }
        self.node(&join.left, &left, first)?;
        if right.is_empty() && to_right {
            right = self
                .dimension(join, &pairs, Side::Left, first)
                .unwrap_or_default();
        }
        self.node(&join.right, &right, right_first)
    }

    /// Reaches the other side of a join through a column whose values come from one scan on the reached side.
    fn dimension(
        &mut self,
        join: &Join,
        pairs: &[(usize, usize)],
        from: Side,
        first: usize,
    ) -> Option<Components> {
        let null_safe = join.null_equality == NullEquality::NullEqualsNull;
        for &(l, r) in pairs {
            let (plan, position, other) = match from {
                Side::Left => (&join.left, l, r),
                Side::Right => (&join.right, r, l),
            };
            if let Some(origin) = origin(plan, position, first, null_safe) {
                self.derived.push(origin);
                let component = Component::Derived(self.derived.len() - 1);
                return Some(BTreeMap::from([(
                    component,
                    BTreeSet::from([Place::Column(other)]),
                )]));
            }
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Whether equalities carry a key from right to left, and from left to right: never towards the side whose rows all stay.
fn directions(join_type: JoinType) -> (bool, bool) {
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
fn split(join: &Join, comps: &Components, pairs: &[(usize, usize)]) -> (Components, Components) {
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

fn spread(from: &Components, to: &mut Components, own: usize, other: usize) {
    for (component, places) in from {
        if places.contains(&Place::Column(own)) {
            to.entry(*component)
                .or_default()
                .insert(Place::Column(other));
        }
    }
}

/// Positions of the columns that a join's equalities tie, left and right.
fn equi_columns(join: &Join) -> Vec<(usize, usize)> {
    let pairs = join.on.iter();
    pairs
        .filter_map(|(l, r)| Some((column_at(l, &join.left)?, column_at(r, &join.right)?)))
        .collect()
}

/// The input position that an expression hands through unchanged.
fn column_at(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => column_at(&alias.expr, input),
        Expr::Column(column) => input.schema().index_of_column(column).ok(),
        _ => None,
    }
}

fn through_projection(projection: &Projection, comps: &Components) -> Components {
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

fn through_aggregate(aggregate: &Aggregate, comps: &Components) -> Result<Components, String> {
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

fn through_window(window: &Window, comps: &Components) -> Components {
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
pub(super) fn window_call(expr: &Expr) -> Option<&WindowFunction> {
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

/// The scan and the column from which all values of a position come.
fn origin(
    plan: &LogicalPlan,
    position: usize,
    first: usize,
    null_safe: bool,
) -> Option<(usize, usize)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let column = match &scan.projection {
                Some(projection) => *projection.get(position)?,
                None => position,
            };
            Some((first, column))
        }
        LogicalPlan::Projection(projection) => {
            let at = column_at(projection.expr.get(position)?, &projection.input)?;
            origin(&projection.input, at, first, null_safe)
        }
        LogicalPlan::Filter(filter) => origin(&filter.input, position, first, null_safe),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, position, first, null_safe),
        LogicalPlan::Sort(sort) => origin(&sort.input, position, first, null_safe),
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, position, first, null_safe),
        LogicalPlan::Aggregate(aggregate) => {
            let at = column_at(aggregate.group_expr.get(position)?, &aggregate.input)?;
            origin(&aggregate.input, at, first, null_safe)
        }
        LogicalPlan::Window(window) => (position < window.input.schema().fields().len())
            .then(|| origin(&window.input, position, first, null_safe))?,
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            let (left, right) = match join.join_type {
                JoinType::Inner => (true, true),
                // A null that the join supplies has no origin; it matters only where null equals null.
                JoinType::Left => (true, !null_safe),
                JoinType::Right => (!null_safe, true),
                JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                    return origin(
                        &join.right,
                        position,
                        first + scans(&join.left).len(),
                        null_safe,
                    );
                }
                JoinType::Full => return None,
            };
            if position < width {
                left.then(|| origin(&join.left, position, first, null_safe))?
            } else {
                let first = first + scans(&join.left).len();
                right.then(|| origin(&join.right, position - width, first, null_safe))?
            }
        }
        _ => None,
    }
}

/// Refuses expressions whose value does not depend on the row alone.
///
/// # Errors
/// What it is, in words for the author of the rule.
pub fn refuse_expressions(plan: &LogicalPlan) -> Result<(), String> {
    let mut reason = None;
    let visited = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let found = match expr {
                    Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_) => Some(
                        "a subquery that does not depend on the row looks at a whole table"
                            .to_owned(),
                    ),
                    Expr::ScalarFunction(call)
                        if call.func.signature().volatility == Volatility::Volatile =>
                    {
                        Some(format!(
                            "`{}` answers differently each time",
                            call.func.name()
                        ))
                    }
                    _ => None,
                };
                if reason.is_none() {
                    reason = found;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match (visited, reason) {
        (_, Some(reason)) => Err(reason),
        (Err(error), None) => Err(error.strip_backtrace()),
        (Ok(_), None) => Ok(()),
    }
}

/// True when no operator of a plan looks at the order of all rows: rows of different commits can then be kept apart.
pub fn without_limits(plan: &LogicalPlan) -> bool {
    let here = match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Aggregate(aggregate) => !aggregate.group_expr.is_empty(),
        LogicalPlan::Join(join) => !join.null_aware,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Union(_)
        | LogicalPlan::Window(_) => true,
        _ => false,
    };
    here && refuse_expressions(plan).is_ok() && plan.inputs().into_iter().all(without_limits)
}

fn name_of(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::EmptyRelation(_) => "a SELECT without FROM",
        LogicalPlan::RecursiveQuery(_) => "a recursive query",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::Subquery(_) => "a subquery",
        _ => "its plan",
    }
}
