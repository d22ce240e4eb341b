//! Which rows of which tables can decide about one key: found on the optimised plan.
//!
//! A plan is *local* in some of its output columns (the anchor) when the filter `anchor = value` may be pushed down to every scan:
//! then a change touches exactly the anchors in its images, and judging an anchor needs no other rows. The walk goes down from
//! the output and keeps, for each anchor column, the positions that are known to equal it at this node. A join side that no
//! anchor column reaches is a *dimension* where an equi join ties it to a column of a scan on the other side: of it, only rows
//! with the values that scan has are needed.

mod below;
mod origin;
mod refuse;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::NullEquality;
use datafusion::logical_expr::{Distinct, Join, LogicalPlan, TableScan};

pub(super) use below::window_call;
pub use refuse::{refuse_expressions, without_limits};

use below::{
    Side, directions, equi_columns, split, spread, through_aggregate, through_projection,
    through_window,
};
use origin::origin;
use refuse::name_of;

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
