//! The time as a question that is answered row by row: calls for the time become a placeholder before a plan is optimised, and the
//! time of each row's own commit after it was lifted.
//!
//! The optimiser takes the placeholder for a value that it does not know yet, so whatever it does holds for every time; a plan that
//! still has one cannot be run.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::arrow::array::{Array, AsArray, TimestampNanosecondArray};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Join, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, cast,
};

use super::lifting::{COMMIT, OTHER_COMMIT};

/// The placeholder's name; no parameter that SQL can write has a blank in its name.
const NOW: &str = "$the time of the commit";
/// The functions that ask for the time, by the names under which the engine knows them; what else SQL writes (`current_timestamp`,
/// `today()`) are other names of these.
const CLOCK: [&str; 4] = ["now", "current_date", "current_time", "current_timestamp"];
/// The time zone in which rules are judged.
pub(super) const UTC: &str = "+00:00";

/// The type of `now()`.
fn now_type() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

/// The time that every commit has, in microseconds: what a lifted plan looks up. Shared with the plan, so that other numbers than
/// commits can be given a time before a run.
#[derive(Debug, Default)]
pub struct Clock(RwLock<(u32, Arc<[i64]>)>);

impl Clock {
    /// A clock without times.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets the times of commit `first` and of those after it; those before it have its time.
    pub fn set(&self, first: u32, times: Arc<[i64]>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (first, times);
    }

    fn times(&self) -> (i64, Arc<[i64]>) {
        let (first, times) = &*self.0.read().unwrap_or_else(PoisonError::into_inner);
        (i64::from(*first), Arc::clone(times))
    }
}

/// True for the placeholder.
pub(super) fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.id == NOW)
}

/// Puts the placeholder in the place of every call for the time, in a plan that is not optimised yet; also says whether there was one.
///
/// # Errors
/// When a node cannot be built again.
pub fn ask_later(plan: LogicalPlan) -> Result<(LogicalPlan, bool)> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let replaced = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| Ok(placeholder(expr)))?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })?;
        match replaced.transformed {
            true => replaced.map_data(LogicalPlan::recompute_schema),
            false => Ok(replaced),
        }
    })?;
    Ok((replaced.data, replaced.transformed))
}

fn placeholder(expr: Expr) -> Transformed<Expr> {
    let Expr::ScalarFunction(call) = &expr else {
        return Transformed::no(expr);
    };
    let name = call.func.name();
    if !CLOCK.contains(&name) {
        return Transformed::no(expr);
    }
    let field: FieldRef = Arc::new(Field::new(NOW, now_type(), false));
    let now = Expr::Placeholder(Placeholder::new_with_field(NOW.into(), Some(field)));
    Transformed::yes(match name {
        "current_date" => cast(now, ArrowType::Date32),
        "current_time" => cast(now, ArrowType::Time64(TimeUnit::Nanosecond)),
        _ => now,
    })
}

/// True when some expression of a plan (one that [`ask_later`] has seen) asks for the time.
pub fn asks(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        found |= asks_here(node)?;
        Ok(TreeNodeRecursion::Continue)
    });
    // What cannot be looked at is not judged as if it had no clock.
    visited.is_err() || found
}

/// True when a node's own expressions ask for the time.
fn asks_here(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|expr| Ok(is_now(expr)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Puts the time of the row's commit in the place of the placeholder, in a plan that was lifted.
///
/// # Errors
/// When a node cannot be built again.
pub fn answer(plan: LogicalPlan, clock: &Arc<Clock>) -> Result<LogicalPlan> {
    let answered = plan.transform_up(|node| {
        if !asks_here(&node)? {
            return Ok(Transformed::no(node));
        }
        if let LogicalPlan::Join(join) = node {
            return Ok(Transformed::yes(LogicalPlan::Join(answer_join(
                join, clock,
            )?)));
        }
        let commit = node.inputs().first().and_then(|input| commit_of(input));
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let answered = at(expr, commit.as_ref(), clock)?;
            Ok(answered.update_data(|expr| name.restore(expr)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(answered.data)
}

/// Each side of an equality has its side's commit; a join's condition sees both, and they are equal.
fn answer_join(mut join: Join, clock: &Arc<Clock>) -> Result<Join> {
    let (left, right) = (commit_of(&join.left), commit_of(&join.right));
    for (l, r) in &mut join.on {
        *l = at(l.clone(), left.as_ref(), clock)?.data;
        *r = at(r.clone(), right.as_ref(), clock)?.data;
    }
    if let Some(filter) = join.filter.take() {
        join.filter = Some(at(filter, left.as_ref(), clock)?.data);
    }
    Ok(join)
}

/// The column that a lifted node's rows carry their commit in.
fn commit_of(plan: &LogicalPlan) -> Option<Column> {
    let mut fields = plan.schema().iter();
    let found = fields.find(|(_, field)| [COMMIT, OTHER_COMMIT].contains(&field.name().as_str()));
    found.map(|(qualifier, field)| Column::new(qualifier.cloned(), field.name()))
}

fn at(expr: Expr, commit: Option<&Column>, clock: &Arc<Clock>) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        if !is_now(&expr) {
            return Ok(Transformed::no(expr));
        }
        let Some(commit) = commit else {
            return Err(DataFusionError::Plan(
                "it asks for the time where there is no commit".into(),
            ));
        };
        let function = ScalarUDF::from(CommitTime::new(Arc::clone(clock)));
        let call = function.call(vec![Expr::Column(commit.clone())]);
        Ok(Transformed::yes(call))
    })
}

/// `commit_time(commit)`: when a commit was.
#[derive(Debug)]
struct CommitTime {
    clock: Arc<Clock>,
    signature: Signature,
}

impl CommitTime {
    fn new(clock: Arc<Clock>) -> Self {
        // The clock may be set between two runs.
        let signature = Signature::exact(vec![ArrowType::Int64], Volatility::Stable);
        CommitTime { clock, signature }
    }
}

impl PartialEq for CommitTime {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.clock, &other.clock)
    }
}

impl Eq for CommitTime {}

impl Hash for CommitTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.clock).hash(state);
    }
}

impl ScalarUDFImpl for CommitTime {
    fn name(&self) -> &str {
        "commit_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), now_type(), false)))
    }

    fn return_type(&self, _: &[ArrowType]) -> Result<ArrowType> {
        Ok(now_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (first, times) = self.clock.times();
        let time = |commit: Option<i64>| {
            let at = commit.and_then(|commit| usize::try_from((commit - first).max(0)).ok());
            let micros = at.and_then(|at| times.get(at)).copied();
            let nanos = micros.and_then(|micros| micros.checked_mul(1000));
            nanos.ok_or_else(|| DataFusionError::Internal("a commit without a time".into()))
        };
        let [commits] = args.args.as_slice() else {
            return Err(DataFusionError::Internal(
                "commit_time takes a commit".into(),
            ));
        };
        match commits {
            ColumnarValue::Scalar(ScalarValue::Int64(commit)) => Ok(ColumnarValue::Scalar(
                ScalarValue::TimestampNanosecond(Some(time(*commit)?), Some(UTC.into())),
            )),
            ColumnarValue::Scalar(_) => Err(DataFusionError::Internal(
                "commit_time takes a commit".into(),
            )),
            ColumnarValue::Array(commits) => {
                let commits = commits.as_primitive::<Int64Type>().iter();
                let times = commits
                    .map(|commit| time(commit).map(Some))
                    .collect::<Result<TimestampNanosecondArray>>()?;
                let times = times.with_timezone(UTC);
                debug_assert_eq!(times.data_type(), &now_type());
                Ok(ColumnarValue::Array(Arc::new(times)))
            }
        }
    }
}
