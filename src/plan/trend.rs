//! How the answer of a plan moves as time passes over data that stays as it is.
//!
//! A plan asks for the time by a placeholder (see [`super::clock`]). Where its rows only come, or only go, while the placeholder grows,
//! two judgements that are equal say that all between them are equal, and the moment of a change is found by bisection. The analysis
//! is conservative: what it does not know goes up and down.
//!
//! # What is claimed of a node
//!
//! For two times, the earlier and the later: where rows *rise*, every row of the earlier answer has a partner of its own in the later
//! one, where they *fall*, the other way round, and where they are *still*, both. In partners, columns that are still are equal,
//! columns that rise are not smaller later, and those that fall not greater; whether a column of numbers or times is NULL never
//! changes. Truth values are ordered false, NULL, true.

use datafusion::arrow::datatypes::{DataType as ArrowType, IntervalUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, ScalarFunction};
use datafusion::logical_expr::{
    Aggregate, Between, BinaryExpr, Distinct, Expr, ExprSchemable, Join, LogicalPlan, Operator,
    Window,
};

use super::clock::{UTC, is_now};

/// A plan whose answer moves one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// The way of its rows.
    pub rows: Trend,
    /// Output columns that decide about the verdict and move with the time; all of them are numbers or times.
    pub moving: Vec<usize>,
}

/// Which way something goes as time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// It does not depend on the time.
    Still,
    /// It becomes more, or stays.
    Rises,
    /// It becomes less, or stays.
    Falls,
}

/// Why something may go up and down, in words for the author of the rule.
type Why = &'static str;

const BOTH: Why = "what the time begins, it also ends";
const EQUAL: Why = "the time is compared for equality";
const UNCLEAR: Why = "the time is computed with in a way that may go up and down";
const COUNTED: Why = "rows that come and go with the time are aggregated";
const OUTER: Why = "rows that come and go with the time are joined by an outer join";

impl Trend {
    fn reversed(self) -> Trend {
        match self {
            Trend::Still => Trend::Still,
            Trend::Rises => Trend::Falls,
            Trend::Falls => Trend::Rises,
        }
    }

    /// What depends on two things goes their common way.
    fn with(self, other: Trend) -> Result<Trend, Why> {
        match (self, other) {
            (Trend::Still, trend) | (trend, Trend::Still) => Ok(trend),
            (a, b) if a == b => Ok(a),
            _ => Err(BOTH),
        }
    }
}

/// How the answer of an optimised plan moves; `verdict` are the output positions that decide about the verdict.
///
/// # Errors
/// Why it may go up and down, in words.
pub fn course(plan: &LogicalPlan, verdict: &[usize]) -> Result<Course, &'static str> {
    let answer = node(plan)?;
    let mut moving = Vec::new();
    for &at in verdict {
        if *answer.columns.get(at).ok_or(UNCLEAR)? == Ok(Trend::Still) {
            continue;
        }
        answer.columns[at]?;
        let field = plan.schema().field(at);
        if !is_counted(field.data_type()) {
            return Err(UNCLEAR);
        }
        moving.push(at);
    }
    Ok(Course {
        rows: answer.rows,
        moving,
    })
}

/// Types whose values can be added up exactly, as 64-bit integers.
fn is_counted(data_type: &ArrowType) -> bool {
    use ArrowType::{Date32, Date64, Int8, Int16, Int32, Int64, Timestamp};
    matches!(
        data_type,
        Int8 | Int16 | Int32 | Int64 | Date32 | Date64 | Timestamp(_, _)
    )
}

/// What is claimed of a node.
struct Answer {
    rows: Trend,
    columns: Vec<Result<Trend, Why>>,
}

impl Answer {
    fn still(plan: &LogicalPlan) -> Answer {
        Answer {
            rows: Trend::Still,
            columns: vec![Ok(Trend::Still); plan.schema().fields().len()],
        }
    }

    fn is_still(&self) -> bool {
        self.rows == Trend::Still
            && self
                .columns
                .iter()
                .all(|column| *column == Ok(Trend::Still))
    }
}

fn node(plan: &LogicalPlan) -> Result<Answer, Why> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let mut answer = Answer::still(plan);
            // A scan's filters are over the table's columns, which are all still.
            for filter in &scan.filters {
                let source = DFSchema::try_from(scan.source.schema()).map_err(|_| UNCLEAR)?;
                let columns = vec![Ok(Trend::Still); source.fields().len()];
                let unqualified = strip(filter)?;
                let trend = Scope::new(&source, &columns).trend(&unqualified)?;
                answer.rows = answer.rows.with(trend)?;
            }
            Ok(answer)
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Answer::still(plan)),
        LogicalPlan::Projection(projection) => {
            let input = node(&projection.input)?;
            let scope = Scope::new(projection.input.schema(), &input.columns);
            Ok(Answer {
                rows: input.rows,
                columns: projection.expr.iter().map(|e| scope.trend(e)).collect(),
            })
        }
        LogicalPlan::Filter(filter) => {
            let mut answer = node(&filter.input)?;
            let scope = Scope::new(filter.input.schema(), &answer.columns);
            answer.rows = answer.rows.with(scope.trend(&filter.predicate)?)?;
            Ok(answer)
        }
        LogicalPlan::SubqueryAlias(alias) => node(&alias.input),
        LogicalPlan::Repartition(repartition) => node(&repartition.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => node(&sort.input),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let answer = node(input)?;
            // Of equal rows one is left: partners must be equal.
            let fixed = answer.columns.iter().all(|c| *c == Ok(Trend::Still));
            fixed.then_some(answer).ok_or(COUNTED)
        }
        LogicalPlan::Aggregate(aggregate) => aggregated(aggregate),
        LogicalPlan::Window(window) => windowed(window),
        LogicalPlan::Union(union) => {
            let mut branches = union.inputs.iter().map(|input| node(input));
            let mut answer = branches.next().ok_or(UNCLEAR)??;
            for branch in branches {
                let branch = branch?;
                answer.rows = answer.rows.with(branch.rows)?;
                for (own, other) in answer.columns.iter_mut().zip(branch.columns) {
                    *own = own.and_then(|own| own.with(other?));
                }
            }
            Ok(answer)
        }
        LogicalPlan::Join(join) => joined(join),
        other => {
            let inputs: Result<Vec<Answer>, Why> = other.inputs().into_iter().map(node).collect();
            let still = inputs?.iter().all(Answer::is_still) && !super::clock::asks(other);
            still.then(|| Answer::still(other)).ok_or(UNCLEAR)
        }
    }
}

/// An expression over a table's own columns, without the table's name.
fn strip(expr: &Expr) -> Result<Expr, Why> {
    use datafusion::common::tree_node::Transformed;
    let stripped = expr.clone().transform_up(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    });
    stripped.map(|stripped| stripped.data).map_err(|_| UNCLEAR)
}

fn aggregated(aggregate: &Aggregate) -> Result<Answer, Why> {
    let input = node(&aggregate.input)?;
    let scope = Scope::new(aggregate.input.schema(), &input.columns);
    for group in &aggregate.group_expr {
        if scope.trend(group)? != Trend::Still {
            return Err(COUNTED);
        }
    }
    let figure = |expr: &Expr| -> Result<Trend, Why> {
        if !scope.is_still(expr) {
            return Err(COUNTED);
        }
        // More rows are more to count; other figures may go any way, and may be NULL only while there are no rows.
        match (input.rows, counts(expr)) {
            (Trend::Still, _) => Ok(Trend::Still),
            (rows, true) => Ok(rows),
            _ => Err(COUNTED),
        }
    };
    let mut columns = vec![Ok(Trend::Still); aggregate.group_expr.len()];
    columns.extend(aggregate.aggr_expr.iter().map(figure));
    // Grouping sets have more columns than expressions.
    columns.resize(aggregate.schema.fields().len(), Err(COUNTED));
    let rows = match aggregate.group_expr.is_empty() {
        true => Trend::Still,
        false => input.rows,
    };
    Ok(Answer { rows, columns })
}

/// True for `count(..)` of all rows or all values.
fn counts(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => counts(&alias.expr),
        Expr::AggregateFunction(call) => call.func.name() == "count",
        _ => false,
    }
}

fn windowed(window: &Window) -> Result<Answer, Why> {
    let mut answer = node(&window.input)?;
    let scope = Scope::new(window.input.schema(), &answer.columns);
    let still = window.window_expr.iter().all(|expr| scope.is_still(expr));
    if answer.rows != Trend::Still || !still {
        return Err(COUNTED);
    }
    let added = window.window_expr.len();
    answer
        .columns
        .extend(std::iter::repeat_n(Ok(Trend::Still), added));
    Ok(answer)
}

fn joined(join: &Join) -> Result<Answer, Why> {
    let (left, right) = (node(&join.left)?, node(&join.right)?);
    for (sides, scope) in [
        (0, Scope::new(join.left.schema(), &left.columns)),
        (1, Scope::new(join.right.schema(), &right.columns)),
    ] {
        let side = |(l, r): &(Expr, Expr)| scope.trend(if sides == 0 { l } else { r });
        for pair in &join.on {
            if side(pair)? != Trend::Still {
                return Err(EQUAL);
            }
        }
    }
    let condition = match &join.filter {
        None => Trend::Still,
        Some(filter) => {
            let schema = join.left.schema().join(join.right.schema());
            let schema = schema.map_err(|_| UNCLEAR)?;
            let columns: Vec<_> = left.columns.iter().chain(&right.columns).copied().collect();
            Scope::new(&schema, &columns).trend(filter)?
        }
    };
    if join.null_aware && !(condition == Trend::Still && left.is_still() && right.is_still()) {
        return Err(UNCLEAR);
    }
    let both = || left.columns.iter().chain(&right.columns).copied().collect();
    let outer_is_fixed = |inner: &Answer| inner.rows == Trend::Still && condition == Trend::Still;
    match join.join_type {
        JoinType::Inner => Ok(Answer {
            rows: left.rows.with(right.rows)?.with(condition)?,
            columns: both(),
        }),
        JoinType::Left if outer_is_fixed(&right) => Ok(Answer {
            rows: left.rows,
            columns: both(),
        }),
        JoinType::Right if outer_is_fixed(&left) => Ok(Answer {
            rows: right.rows,
            columns: both(),
        }),
        JoinType::Full if outer_is_fixed(&left) && outer_is_fixed(&right) => Ok(Answer {
            rows: Trend::Still,
            columns: both(),
        }),
        JoinType::Left | JoinType::Right | JoinType::Full => Err(OUTER),
        JoinType::LeftSemi => kept(left, right.rows.with(condition)?),
        JoinType::RightSemi => kept(right, left.rows.with(condition)?),
        JoinType::LeftAnti => kept(left, right.rows.with(condition)?.reversed()),
        JoinType::RightAnti => kept(right, left.rows.with(condition)?.reversed()),
        JoinType::LeftMark => Ok(marked(left, right.rows.with(condition)?)),
        JoinType::RightMark => Ok(marked(right, left.rows.with(condition)?)),
    }
}

/// Rows of which some are kept.
fn kept(mut answer: Answer, kept: Trend) -> Result<Answer, Why> {
    answer.rows = answer.rows.with(kept)?;
    Ok(answer)
}

fn marked(mut answer: Answer, mark: Trend) -> Answer {
    answer.columns.push(Ok(mark));
    answer
}

/// The columns that expressions are over.
struct Scope<'a> {
    schema: &'a DFSchema,
    columns: &'a [Result<Trend, Why>],
}

impl<'a> Scope<'a> {
    fn new(schema: &'a DFSchema, columns: &'a [Result<Trend, Why>]) -> Self {
        Scope { schema, columns }
    }

    /// True for an expression that does not depend on the time, whatever it is.
    fn is_still(&self, expr: &Expr) -> bool {
        let mut still = true;
        let visited = expr.apply(|expr| {
            still &= match expr {
                Expr::Column(column) => self.column(column) == Ok(Trend::Still),
                Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _) => false,
                other => !is_now(other),
            };
            Ok(TreeNodeRecursion::Continue)
        });
        still && visited.is_ok()
    }

    fn column(&self, column: &Column) -> Result<Trend, Why> {
        let at = self.schema.index_of_column(column).map_err(|_| UNCLEAR)?;
        *self.columns.get(at).ok_or(UNCLEAR)?
    }

    /// Which way an expression goes.
    fn trend(&self, expr: &Expr) -> Result<Trend, Why> {
        if self.is_still(expr) {
            return Ok(Trend::Still);
        }
        match expr {
            now if is_now(now) => Ok(Trend::Rises),
            Expr::Alias(alias) => self.trend(&alias.expr),
            Expr::Column(column) => self.column(column),
            Expr::Not(inner) | Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => {
                self.trend(inner).map(Trend::reversed)
            }
            Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => self.trend(inner),
            Expr::Negative(inner) => self.trend(inner).map(Trend::reversed),
            Expr::Between(between) => self.between(between),
            Expr::Cast(cast) => self.cast(cast),
            Expr::Case(case) => self.case(case),
            Expr::ScalarFunction(call) => self.function(call),
            Expr::BinaryExpr(binary) => self.binary(binary),
            _ => Err(UNCLEAR),
        }
    }

    fn binary(&self, BinaryExpr { left, op, right }: &BinaryExpr) -> Result<Trend, Why> {
        match op {
            Operator::And | Operator::Or => self.trend(left)?.with(self.trend(right)?),
            Operator::Gt | Operator::GtEq => self.difference(left, right),
            Operator::Lt | Operator::LtEq => self.difference(right, left),
            Operator::Plus => self.sum(left, right),
            Operator::Minus => self.minus(left, right),
            Operator::Multiply => self.times(left, right),
            Operator::Divide => match sign(right) {
                Some(std::cmp::Ordering::Greater) => self.trend(left),
                _ => Err(UNCLEAR),
            },
            Operator::Eq
            | Operator::NotEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => Err(EQUAL),
            _ => Err(UNCLEAR),
        }
    }

    /// Which way `left - right` goes, for comparisons.
    fn difference(&self, left: &Expr, right: &Expr) -> Result<Trend, Why> {
        if self.is_truth(left) || self.is_truth(right) {
            return Err(UNCLEAR);
        }
        let (left, right) = (self.trend(left)?, self.trend(right)?);
        left.with(right.reversed())
    }

    fn sum(&self, left: &Expr, right: &Expr) -> Result<Trend, Why> {
        self.steps_evenly(left, right)?;
        self.steps_evenly(right, left)?;
        self.trend(left)?.with(self.trend(right)?)
    }

    fn minus(&self, left: &Expr, right: &Expr) -> Result<Trend, Why> {
        if let Some(floored) = floored(left, right) {
            return self.trend(floored);
        }
        self.steps_evenly(left, right)?;
        self.trend(left)?.with(self.trend(right)?.reversed())
    }

    fn times(&self, left: &Expr, right: &Expr) -> Result<Trend, Why> {
        let (factor, other) = match (sign(left), sign(right)) {
            (_, Some(factor)) => (factor, left),
            (Some(factor), None) => (factor, right),
            (None, None) => return Err(UNCLEAR),
        };
        let trend = self.trend(other)?;
        Ok(match factor {
            std::cmp::Ordering::Less => trend.reversed(),
            _ => trend,
        })
    }

    /// Months have different lengths: a month after the 30th of January, late in the evening, is later than a month after the 31st, early
    /// in the morning. Only whole days keep their order.
    fn steps_evenly(&self, moving: &Expr, step: &Expr) -> Result<(), Why> {
        let step_type = step.get_type(self.schema).map_err(|_| UNCLEAR)?;
        let ArrowType::Interval(unit) = step_type else {
            return Ok(());
        };
        let moving_type = moving.get_type(self.schema).map_err(|_| UNCLEAR)?;
        let whole_days = matches!(moving_type, ArrowType::Date32 | ArrowType::Date64);
        let even = self.is_still(moving)
            || whole_days
            || unit == IntervalUnit::DayTime
            || matches!(step, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(step)), _) if step.months == 0);
        even.then_some(()).ok_or(UNCLEAR)
    }

    fn between(&self, between: &Between) -> Result<Trend, Why> {
        let low = self.difference(&between.expr, &between.low)?;
        let high = self.difference(&between.high, &between.expr)?;
        let inside = low.with(high)?;
        Ok(if between.negated {
            inside.reversed()
        } else {
            inside
        })
    }

    fn cast(&self, cast: &Cast) -> Result<Trend, Why> {
        let from = cast.expr.get_type(self.schema).map_err(|_| UNCLEAR)?;
        let to = cast.field.data_type();
        let days = matches!(
            (&from, to),
            (ArrowType::Date32, ArrowType::Int32)
                | (ArrowType::Int32, ArrowType::Date32 | ArrowType::Int64)
        );
        if days || (keeps_order(&from) && keeps_order(to)) {
            self.trend(&cast.expr)
        } else {
            Err(UNCLEAR)
        }
    }

    /// Which branch is taken must not depend on the time.
    fn case(&self, case: &Case) -> Result<Trend, Why> {
        let mut conditions = case.when_then_expr.iter().map(|(when, _)| when);
        if !conditions.all(|when| self.is_still(when))
            || case.expr.as_ref().is_some_and(|expr| !self.is_still(expr))
        {
            return Err(UNCLEAR);
        }
        let branches = case.when_then_expr.iter().map(|(_, then)| then);
        self.common(branches.chain(&case.else_expr).map(AsRef::as_ref))
    }

    fn common<'e>(&self, mut exprs: impl Iterator<Item = &'e Expr>) -> Result<Trend, Why> {
        exprs.try_fold(Trend::Still, |trend, expr| trend.with(self.trend(expr)?))
    }

    fn function(&self, call: &ScalarFunction) -> Result<Trend, Why> {
        let args = call.args.as_slice();
        if args.iter().any(|arg| self.is_truth(arg)) {
            return Err(UNCLEAR);
        }
        match (call.func.name(), args) {
            ("least" | "greatest" | "coalesce", _) => self.common(args.iter()),
            ("integer_plus", [left, right]) => self.sum(left, right),
            ("integer_minus", [left, right]) => self.minus(left, right),
            ("integer_times", [left, right]) => self.times(left, right),
            ("floor" | "ceil" | "round" | "trunc", [inner]) => self.trend(inner),
            ("date_trunc", [Expr::Literal(_, _), inner]) => self.trend(inner),
            ("date_bin", [Expr::Literal(_, _), inner])
            | ("date_bin", [Expr::Literal(_, _), inner, Expr::Literal(_, _)]) => self.trend(inner),
            // Of a time span of more than 68 years the engine knows no seconds; that far nobody looks.
            ("date_part", [Expr::Literal(part, _), inner]) => match part.try_as_str().flatten() {
                Some(part) if ["epoch", "year"].contains(&part.to_lowercase().as_str()) => {
                    self.trend(inner)
                }
                _ => Err(UNCLEAR),
            },
            _ => Err(UNCLEAR),
        }
    }

    /// Truth values may move between NULL and true, so nothing is computed with them.
    fn is_truth(&self, expr: &Expr) -> bool {
        expr.get_type(self.schema)
            .map_or(true, |data_type| data_type == ArrowType::Boolean)
    }
}

/// Types between which casts keep the order of values. Only UTC: elsewhere an hour comes twice in autumn.
fn keeps_order(data_type: &ArrowType) -> bool {
    match data_type {
        ArrowType::Timestamp(_, zone) => zone
            .as_ref()
            .is_none_or(|zone| [UTC, "UTC", "Z"].contains(&zone.as_ref())),
        ArrowType::Int64
        | ArrowType::Float64
        | ArrowType::Decimal128(_, _)
        | ArrowType::Decimal256(_, _)
        | ArrowType::Date32
        | ArrowType::Date64
        | ArrowType::Duration(_)
        | ArrowType::Interval(IntervalUnit::MonthDayNano) => true,
        _ => false,
    }
}

/// The sign of a literal number.
fn sign(expr: &Expr) -> Option<std::cmp::Ordering> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    let number = match value {
        ScalarValue::Int64(value) => i128::from((*value)?),
        ScalarValue::Int32(value) => i128::from((*value)?),
        ScalarValue::Decimal128(value, _, _) => (*value)?,
        ScalarValue::Float64(value) => return (*value)?.partial_cmp(&0.0),
        _ => return None,
    };
    Some(number.cmp(&0))
}

/// `x` of `x - ((x % n) + n) % n`: the multiple of `n` at or below it.
fn floored<'a>(left: &'a Expr, right: &Expr) -> Option<&'a Expr> {
    let (sum, n) = operands(right, Operator::Modulo, "")?;
    let (rest, again) = operands(sum, Operator::Plus, "integer_plus")?;
    let (x, same) = operands(rest, Operator::Modulo, "")?;
    let positive = sign(n) == Some(std::cmp::Ordering::Greater);
    (positive && n == again && n == same && x == left).then_some(left)
}

/// The two sides of an operator, or of the function that stands for it.
fn operands<'a>(expr: &'a Expr, op: Operator, function: &str) -> Option<(&'a Expr, &'a Expr)> {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == op => Some((&binary.left, &binary.right)),
        Expr::ScalarFunction(call) if call.func.name() == function => match call.args.as_slice() {
            [left, right] => Some((left, right)),
            _ => None,
        },
        _ => None,
    }
}
