//! Equal values of two sides that meet.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array,
};
use datafusion::arrow::compute::{filter, take};
use datafusion::arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::arrow::row::{Row, RowConverter};
use datafusion::common::{JoinSide, JoinType, NullEquality};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use hashbrown::HashMap;

use super::{Direct, Left, comparing, evaluate};
use crate::judge::lifted::slot::Slot;

/// More pairs than these are not made at once: so many rows has a batch of the engine.
const PAIRS_MAX: usize = 1 << 13;

/// A join by equal values.
pub(super) struct Join {
    left: Direct,
    right: Direct,
    left_keys: Vec<Arc<dyn PhysicalExpr>>,
    right_keys: Vec<Arc<dyn PhysicalExpr>>,
    comparing: RowConverter,
    nulls_are_equal: bool,
    /// What else must hold of a pair.
    filter: Option<JoinFilter>,
    kind: JoinType,
    /// The columns of the output: of which side, and where there.
    columns: Vec<(JoinSide, usize)>,
    schema: SchemaRef,
}

/// Rows of both sides, pair by pair.
type Pairs = (UInt32Array, UInt32Array);

impl Join {
    /// What the engine's join does; None for kinds that rules seldom need.
    pub(super) fn of(join: &HashJoinExec, slots: &[Arc<Slot>]) -> Option<Self> {
        let (left, right) = (join.left().schema(), join.right().schema());
        let of_left = || (0..left.fields().len()).map(|at| (JoinSide::Left, at));
        let of_right = || (0..right.fields().len()).map(|at| (JoinSide::Right, at));
        let all: Vec<(JoinSide, usize)> = match join.join_type() {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                of_left().chain(of_right()).collect()
            }
            JoinType::LeftSemi | JoinType::LeftAnti => of_left().collect(),
            JoinType::RightSemi | JoinType::RightAnti => of_right().collect(),
            JoinType::LeftMark | JoinType::RightMark => return None,
        };
        if join.null_aware {
            return None;
        }
        let on = join.on().iter().cloned();
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = on.unzip();
        let types = |keys: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef| {
            let types = keys.iter().map(|key| key.data_type(schema));
            types.collect::<Result<Vec<_>, _>>().ok()
        };
        let types =
            types(&left_keys, &left).filter(|l| types(&right_keys, &right).as_ref() == Some(l))?;
        let projected = |columns: &[usize]| columns.iter().map(|&at| all[at]).collect();
        Some(Join {
            left: Direct::of(join.left(), slots)?,
            right: Direct::of(join.right(), slots)?,
            left_keys,
            right_keys,
            comparing: comparing(&types)?,
            nulls_are_equal: join.null_equality() == NullEquality::NullEqualsNull,
            filter: join.filter().cloned(),
            kind: *join.join_type(),
            columns: match &join.projection {
                Some(columns) => projected(columns),
                None => all,
            },
            schema: join.schema(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.left.rows() + self.right.rows()
    }

    pub(super) fn whole(&self) -> Result<RecordBatch, Left> {
        let left = self.left.whole()?;
        let needs_left = matches!(
            self.kind,
            JoinType::Inner
                | JoinType::Left
                | JoinType::LeftSemi
                | JoinType::LeftAnti
                | JoinType::RightSemi
        );
        if left.num_rows() == 0 && needs_left {
            // As the engine does, without a look at the other side.
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let right = self.right.whole()?;
        let pairs = self.pairs(&left, &right)?;
        let pairs = self.filtered(pairs, &left, &right)?;
        Ok(self.put_together(&pairs, &left, &right)?)
    }

    /// The pairs with equal keys.
    fn pairs(&self, left: &RecordBatch, right: &RecordBatch) -> Result<Pairs, Left> {
        let left_keys = evaluate(&self.left_keys, left)?;
        let right_keys = evaluate(&self.right_keys, right)?;
        let meets = |keys: &[ArrayRef], row: usize| {
            self.nulls_are_equal || keys.iter().all(|key| key.is_valid(row))
        };
        let left_rows = self.comparing.convert_columns(&left_keys)?;
        let right_rows = self.comparing.convert_columns(&right_keys)?;
        let mut by_key: HashMap<Row<'_>, Vec<u32>> = HashMap::with_capacity(left.num_rows());
        for (at, row) in (0u32..).zip(left_rows.iter()) {
            if meets(&left_keys, at as usize) {
                by_key.entry(row).or_default().push(at);
            }
        }
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        for (at, row) in (0u32..).zip(right_rows.iter()) {
            if !meets(&right_keys, at as usize) {
                continue;
            }
            let met = by_key.get(&row).map_or(&[][..], Vec::as_slice);
            of_left.extend_from_slice(met);
            of_right.resize(of_left.len(), at);
            if of_left.len() > PAIRS_MAX {
                return Err(Left::TooMany);
            }
        }
        Ok((of_left.into(), of_right.into()))
    }

    /// The pairs of which all holds that is to hold.
    fn filtered(
        &self,
        pairs: Pairs,
        left: &RecordBatch,
        right: &RecordBatch,
    ) -> Result<Pairs, DataFusionError> {
        let Some(condition) = self.filter.as_ref().filter(|_| !pairs.0.is_empty()) else {
            return Ok(pairs);
        };
        let columns = condition.column_indices().iter();
        let columns = columns.map(|column| match column.side {
            JoinSide::Left => Ok(take(left.column(column.index), &pairs.0, None)?),
            JoinSide::Right => Ok(take(right.column(column.index), &pairs.1, None)?),
            JoinSide::None => Err(DataFusionError::Internal("a column of no side".into())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(Arc::clone(condition.schema()), columns)?;
        let holds = condition.expression().evaluate(&rows)?;
        let holds = holds.into_array(rows.num_rows())?;
        let holds = holds.as_boolean_opt().ok_or_else(|| {
            DataFusionError::Internal("a condition that is not true or false".into())
        })?;
        let kept = |side: &UInt32Array| -> Result<UInt32Array, DataFusionError> {
            Ok(filter(side, holds)?.as_primitive::<UInt32Type>().clone())
        };
        Ok((kept(&pairs.0)?, kept(&pairs.1)?))
    }

    /// The rows of the output.
    fn put_together(
        &self,
        (of_left, of_right): &Pairs,
        left: &RecordBatch,
        right: &RecordBatch,
    ) -> Result<RecordBatch, DataFusionError> {
        let with_pair = |side: &UInt32Array, rows: &RecordBatch| {
            let mut with = vec![false; rows.num_rows()];
            side.values()
                .iter()
                .for_each(|&at| with[at as usize] = true);
            with
        };
        let where_it_is = |with: Vec<bool>, wanted: bool| {
            let rows = (0u32..).zip(with);
            let rows = rows.filter(|(_, with)| *with == wanted);
            rows.map(|(at, _)| at).collect::<Vec<u32>>()
        };
        let lonely_left = || where_it_is(with_pair(of_left, left), false);
        let lonely_right = || where_it_is(with_pair(of_right, right), false);
        let (lefts, rights) = match self.kind {
            JoinType::Inner => (of_left.clone(), of_right.clone()),
            JoinType::Left => with_lonely(of_left, of_right, lonely_left(), Vec::new()),
            JoinType::Right => with_lonely(of_left, of_right, Vec::new(), lonely_right()),
            JoinType::Full => with_lonely(of_left, of_right, lonely_left(), lonely_right()),
            JoinType::LeftSemi => (where_it_is(with_pair(of_left, left), true).into(), none()),
            JoinType::LeftAnti => (lonely_left().into(), none()),
            JoinType::RightSemi => (none(), where_it_is(with_pair(of_right, right), true).into()),
            JoinType::RightAnti => (none(), lonely_right().into()),
            JoinType::LeftMark | JoinType::RightMark => {
                return Err(DataFusionError::Internal("no such join is made".into()));
            }
        };
        let columns = self.columns.iter().map(|&(side, at)| match side {
            JoinSide::Left => take(left.column(at), &lefts, None),
            _ => take(right.column(at), &rights, None),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let count = lefts.len().max(rights.len());
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

fn none() -> UInt32Array {
    UInt32Array::from(Vec::<u32>::new())
}

/// Pairs, then the rows of either side that have none.
fn with_lonely(
    of_left: &UInt32Array,
    of_right: &UInt32Array,
    left: Vec<u32>,
    right: Vec<u32>,
) -> Pairs {
    let nobody = |count: usize| std::iter::repeat_n(None, count);
    let pairs = of_left.iter().chain(left.iter().copied().map(Some));
    let lefts = pairs.chain(nobody(right.len())).collect();
    let pairs = of_right.iter().chain(nobody(left.len()));
    let rights = pairs.chain(right.iter().copied().map(Some)).collect();
    (lefts, rights)
}
