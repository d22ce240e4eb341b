//! Lifted judgement: the life of every key in few queries, instead of a judgement of every state.
//!
//! A rule whose plan is local (see [`crate::plan::locality`]) is judged for each key at each commit at which a row that decides
//! about the key changed; between two such commits nothing can change. All these judgements are one query: scans emit every
//! row version once for each `(key, commit)` at which it is seen, and the lifted plan keeps the commits apart. Rules over single
//! rows are simpler still: a version is judged once, and what is found holds as long as the version lives.

mod clock;
mod flips;
mod keys;
mod pairs;
mod slot;
mod spans;
mod summary;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use super::JudgeError;
use super::catalog::Named;
use super::engine::Engine;
use crate::change::Commit;
use crate::plan::Compiled;
use crate::plan::clock::{Clock, answer};
use crate::plan::lifting::lift;
use crate::plan::locality::{self, Locality, ScanKey, locality};
use crate::plan::summaries::{Summary, is_row_by_row, summarize};
use crate::state::{History, Lifetimes};
use clock::Ticking;
use flips::Times;
use keys::can_be_key;
use pairs::{Pair, Scans};
use slot::{Slot, SlotTable};
pub(super) use spans::Span;
use spans::Spans;

/// How many rows may be emitted, whatever the table's size.
const HOT_ROWS: usize = 4 << 20;
/// How many times a version may be emitted on average, before aggregates over groups are kept as tables.
const HOT_FACTOR: usize = 64;

/// A rule's query, rewritten to be judged by the lives of its keys.
#[derive(Debug)]
pub(super) struct Lifted {
    /// Cached: planned once, reset before every run.
    physical: Arc<dyn ExecutionPlan>,
    scans: Vec<Scan>,
    how: How,
    keep: Keep,
    /// Set where it asks for the time.
    ticking: Option<Ticking>,
}

/// Which aggregates are kept as tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Those over whole tables, without which a rule could not be judged by keys.
    WholeTables,
    /// Those over groups as well: for groups so large that reading their rows at every commit costs too much.
    Groups,
}

/// How a lifted plan is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// One table, row by row: each version is judged once.
    Rows,
    /// Key by key.
    Keys(Locality),
}

/// What a scan reads.
#[derive(Debug)]
enum Origin {
    /// A relation of the history.
    Relation(Named),
    /// The figures of an aggregate, kept as a table.
    Summary(Box<Kept>),
}

/// An aggregate that is kept as a table, with the query that says how its figures change.
#[derive(Debug)]
struct Kept {
    summary: Summary,
    delta: Arc<dyn ExecutionPlan>,
    scan: Scan,
}

/// One scan of the plan.
#[derive(Debug)]
struct Scan {
    origin: Origin,
    /// The columns that it reads, as columns of the relation.
    projection: Vec<usize>,
    slot: Arc<Slot>,
}

/// What was found about all keys.
pub(super) struct Lives {
    /// Every interval in which a key violates the rule, by onset, then key.
    pub(super) spans: Vec<Span>,
    /// How many different states were judged.
    pub(super) states: u64,
}

impl Lifted {
    /// Plans a query for lifted judgement.
    ///
    /// # Errors
    /// Why it can only be judged in full, in words for the author of the rule.
    pub(super) async fn plan(
        engine: &Engine,
        compiled: &Compiled,
        keep: Keep,
    ) -> Result<Self, String> {
        let (plan, asks_now) = engine.optimized(&compiled.sql).await.map_err(words)?;
        let mut summaries = Vec::new();
        let mut plan = plan;
        let how = if is_row_by_row(&plan) {
            How::Rows
        } else if keep == Keep::Groups {
            (plan, summaries) = summarize(&plan, false).map_err(words)?;
            How::Keys(anchor(&plan, compiled)?)
        } else {
            match anchor(&plan, compiled) {
                Ok(found) => How::Keys(found),
                Err(reason) => {
                    (plan, summaries) = summarize(&plan, true).map_err(words)?;
                    How::Keys(of_the_whole(&plan, &summaries).ok_or(reason)?)
                }
            }
        };
        let mut scans = Vec::new();
        for scan in locality::scans(&plan) {
            let name = scan.table_name.table();
            let summary = summaries.iter().find(|summary| summary.name == name);
            scans.push(match summary {
                Some(summary) => Scan::of_summary(engine, scan, summary).await?,
                None => Scan::new(engine, scan)?,
            });
        }
        if let How::Keys(locality) = &how {
            check_keys(&plan, locality)?;
        }
        let mut slots = scans.iter().map(|scan| Arc::clone(&scan.slot));
        let lifted = lift(&plan, &mut |_| {
            let slot = slots.next().expect("one slot a scan");
            provider_as_source(Arc::new(SlotTable(slot)))
        });
        let mut lifted = lifted.map_err(words)?;
        let ticking = match asks_now {
            false => None,
            true => {
                let clock = Clock::new();
                lifted = answer(lifted, &clock).map_err(words)?;
                Some(Ticking::new(&plan, compiled, clock))
            }
        };
        let physical = engine.physical(&lifted).await;
        Ok(Lifted {
            physical: physical.map_err(words)?,
            scans,
            how,
            keep,
            ticking,
        })
    }

    /// The lives of all keys up to a position; None where some groups are so large that their aggregates must be kept as tables.
    pub(super) async fn lives(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        until: Commit,
    ) -> Result<Option<Lives>, JudgeError> {
        let mut lifetimes = Vec::new();
        for scan in &self.scans {
            lifetimes.push(scan.lifetimes(engine, until).await?);
        }
        let ticking = match &self.ticking {
            None => None,
            // Without times there is no now: full judgement says where.
            Some(ticking) => match clock::times(&engine.view().history, until) {
                None => return Ok(None),
                Some(times) => Some((ticking, times)),
            },
        };
        match (&self.how, ticking) {
            (How::Rows, ticking) => {
                let lifetimes = lifetimes.pop().expect("row by row means one table");
                match &ticking {
                    None => self.rows(engine, compiled, lifetimes).await.map(Some),
                    Some((ticking, times)) => {
                        self.rows_in_time(engine, compiled, ticking, times, &lifetimes)
                            .await
                    }
                }
            }
            (How::Keys(locality), ticking) => {
                self.keys(engine, compiled, locality, lifetimes, ticking)
                    .await
            }
        }
    }

    async fn rows(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        lifetimes: Lifetimes,
    ) -> Result<Lives, JudgeError> {
        let count = lifetimes.born.len();
        let mut spans = Spans::new(compiled);
        for start in (0..count).step_by(pairs::CHUNK_ROWS) {
            let end = count.min(start + pairs::CHUNK_ROWS);
            // The plan keeps rows apart by this column; here it says which version a row is.
            let numbers = (start..end).map(|at| i64::try_from(at).expect("fewer than 2^32"));
            let batch = lifetimes.batch.slice(start, end - start);
            let columns = batch.columns().to_vec();
            self.scans[0].fill(columns, numbers.collect());
            let lived = |number: i64| {
                let at = usize::try_from(number).ok()?;
                Some((*lifetimes.born.get(at)?, *lifetimes.died.get(at)?))
            };
            self.run(engine, &mut |batch| {
                spans.add(&batch, &mut |rows| {
                    Ok(rows.commits.iter().map(|&number| lived(number)).collect())
                })
            })
            .await?;
        }
        let commits = lifetimes.born.iter().chain(&lifetimes.died);
        let states: BTreeSet<Commit> = commits.copied().filter(|&at| at != Commit::MAX).collect();
        Ok(Lives {
            spans: spans.finish(),
            states: states.len() as u64,
        })
    }

    async fn keys(
        &self,
        engine: &Engine,
        compiled: &Compiled,
        locality: &Locality,
        lifetimes: Vec<Lifetimes>,
        ticking: Option<(&Ticking, Times)>,
    ) -> Result<Option<Lives>, JudgeError> {
        let column_at = |scan: usize, column: usize| {
            let read = &self.scans[scan].projection;
            let at = read.iter().position(|&have| have == column);
            at.expect("a key column is one that the scan reads")
        };
        let mut scans = Scans::new(&locality.scans, lifetimes, &column_at)?;
        let mut pairs = scans.pairs();
        let versions: usize = scans.all.iter().map(|scan| scan.born.len()).sum();
        let hot = HOT_ROWS + HOT_FACTOR * versions;
        if self.keep == Keep::WholeTables && scans.cost(&pairs) > hot {
            return Ok(None);
        }
        if let Some((ticking, times)) = &ticking {
            let flips = self
                .with_flips(engine, ticking, times, locality, &mut scans, pairs)
                .await?;
            let Some(all) = flips else {
                return Ok(None);
            };
            pairs = all;
            if scans.cost(&pairs) > hot {
                return Ok(None);
            }
        }
        let mut spans = Spans::new(compiled);
        let mut rest: &[Pair] = &pairs;
        while !rest.is_empty() {
            let (emitted, taken) = scans.emit(rest);
            for (at, rows) in emitted.into_iter().enumerate() {
                let columns = &scans.all[at].columns;
                self.scans[at].fill_versions(columns, rows.versions, rows.commits)?;
            }
            let anchors = &mut scans.anchors;
            self.run(engine, &mut |batch| {
                spans.add(&batch, &mut |rows| {
                    let anchor: Vec<ArrayRef> = locality
                        .anchor
                        .iter()
                        .map(|&at| rows.batch.column(rows.output_at(at)).clone())
                        .collect();
                    let numbers = anchors.find(&anchor, rows.batch.num_rows())?;
                    let found = numbers.iter().zip(rows.commits);
                    Ok(found
                        .map(|(number, &commit)| lasts(&pairs, (*number)?, commit))
                        .collect())
                })
            })
            .await?;
            rest = &rest[taken..];
        }
        let states: BTreeSet<Commit> = pairs.iter().map(|&pair| pairs::commit_of(pair)).collect();
        Ok(Some(Lives {
            spans: spans.finish(),
            states: states.len() as u64,
        }))
    }

    /// Runs the plan on what is in the slots.
    async fn run(
        &self,
        engine: &Engine,
        each: &mut (dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send),
    ) -> Result<(), JudgeError> {
        run(engine, &self.physical, each).await
    }
}

/// Runs a cached plan once more.
async fn run(
    engine: &Engine,
    plan: &Arc<dyn ExecutionPlan>,
    each: &mut (dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send),
) -> Result<(), JudgeError> {
    // Joins keep their build side in a plan: without the reset a second run would see the rows of the first.
    let plan = reset_plan_states(Arc::clone(plan)).map_err(JudgeError::engine)?;
    let mut stream = execute_stream(plan, engine.task()).map_err(super::query::execution_error)?;
    while let Some(batch) = stream.next().await {
        each(batch.map_err(super::query::execution_error)?)?;
    }
    Ok(())
}

fn words(error: datafusion::error::DataFusionError) -> String {
    error.strip_backtrace()
}

/// The locality of a rule's plan.
fn anchor(plan: &LogicalPlan, compiled: &Compiled) -> Result<Locality, String> {
    let fields = plan.schema().fields();
    let position = |name: &String| fields.iter().position(|field| field.name() == name);
    let key: Vec<usize> = compiled.key.iter().filter_map(position).collect();
    locality(plan, &key)
}

/// A plan over nothing but the figures of whole tables is judged as one key at every commit that changed one of them.
fn of_the_whole(plan: &LogicalPlan, summaries: &[Summary]) -> Option<Locality> {
    let scans = locality::scans(plan);
    let of_summary =
        |scan: &&TableScan| summaries.iter().any(|s| s.name == scan.table_name.table());
    let only = !scans.is_empty() && scans.iter().all(of_summary);
    let whole = only && locality::without_limits(plan);
    whole.then(|| Locality {
        anchor: Vec::new(),
        scans: vec![ScanKey::Direct(Vec::new()); scans.len()],
    })
}

impl Scan {
    fn new(engine: &Engine, scan: &TableScan) -> Result<Self, String> {
        let name = &scan.table_name;
        let (schema, table) = (name.schema().unwrap_or("public"), name.table());
        let relation = engine.view().resolve(schema, table);
        let relation = relation.ok_or("it reads a table that has no history")?;
        Ok(Scan::over(scan, Origin::Relation(relation)))
    }

    async fn of_summary(
        engine: &Engine,
        scan: &TableScan,
        summary: &Summary,
    ) -> Result<Self, String> {
        let inner = locality::scans(&summary.delta);
        let [inner] = inner.as_slice() else {
            return Err("an aggregate over several tables".into());
        };
        let source = Scan::new(engine, inner)?;
        let lifted = lift(&summary.delta, &mut |_| {
            provider_as_source(Arc::new(SlotTable(Arc::clone(&source.slot))))
        });
        let delta = engine.physical(&lifted.map_err(words)?).await;
        let kept = Kept {
            summary: summary.clone(),
            delta: delta.map_err(words)?,
            scan: source,
        };
        Ok(Scan::over(scan, Origin::Summary(Box::new(kept))))
    }

    fn over(scan: &TableScan, origin: Origin) -> Self {
        let whole = scan.source.schema();
        let projection = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..whole.fields().len()).collect(),
        };
        Scan {
            origin,
            slot: Slot::new(&whole, &projection),
            projection,
        }
    }

    async fn lifetimes(&self, engine: &Engine, until: Commit) -> Result<Lifetimes, JudgeError> {
        match &self.origin {
            Origin::Relation(named) => self.rows_of(named, &engine.view().history, until),
            Origin::Summary(kept) => kept.lifetimes(engine, until, &self.projection).await,
        }
    }

    fn rows_of(
        &self,
        named: &Named,
        history: &History,
        until: Commit,
    ) -> Result<Lifetimes, JudgeError> {
        let lifetimes = match named {
            Named::Table(table, relation) => {
                history.lifetimes(*table, relation, &self.projection, until)
            }
            Named::Transactions => history.transaction_lifetimes(&self.projection, until),
        };
        match lifetimes.unknown.iter().position(|&count| count > 0) {
            None => Ok(lifetimes),
            Some(at) => {
                let name = lifetimes.batch.schema().field(at).name().clone();
                Err(JudgeError::Unknown(format!(
                    "`{name}` is not known in some rows"
                )))
            }
        }
    }

    fn fill(&self, mut columns: Vec<ArrayRef>, commits: Vec<i64>) {
        columns.push(Arc::new(Int64Array::from(commits)));
        let batch = RecordBatch::try_new(Arc::clone(self.slot.schema()), columns)
            .expect("the columns are those of the slot");
        self.slot.fill(batch);
    }

    /// Fills the slot with versions, each at a commit.
    fn fill_versions(
        &self,
        columns: &[ArrayRef],
        versions: Vec<u32>,
        commits: Vec<i64>,
    ) -> Result<(), JudgeError> {
        let versions = UInt32Array::from(versions);
        let columns = columns.iter().map(|column| take(column, &versions, None));
        let columns = columns.collect::<Result<_, _>>();
        self.fill(columns.map_err(JudgeError::engine)?, commits);
        Ok(())
    }
}

impl Kept {
    /// The versions of the summary's rows, with the columns that are read.
    async fn lifetimes(
        &self,
        engine: &Engine,
        until: Commit,
        columns: &[usize],
    ) -> Result<Lifetimes, JudgeError> {
        let Origin::Relation(named) = &self.scan.origin else {
            unreachable!("a summary is made of rows")
        };
        let lifetimes = self.scan.rows_of(named, &engine.view().history, until)?;
        let (versions, marks) = summary::marks(&lifetimes);
        self.scan
            .fill_versions(lifetimes.batch.columns(), versions, marks)?;
        let mut batches = Vec::new();
        run(engine, &self.delta, &mut |batch| {
            batches.push(batch);
            Ok(())
        })
        .await?;
        summary::add_up(&self.summary, &batches, columns)
    }
}

/// Refuses anchors whose equality is not that of their bytes.
fn check_keys(plan: &LogicalPlan, locality: &Locality) -> Result<(), String> {
    let scans = locality::scans(plan);
    let type_of = |scan: usize, column: usize| {
        let schema = scans[scan].source.schema();
        schema.field(column).data_type().clone()
    };
    let mut anchor_types: Option<Vec<_>> = None;
    for (at, key) in locality.scans.iter().enumerate() {
        let types: Vec<_> = match key {
            ScanKey::Direct(columns) => {
                let types: Vec<_> = columns.iter().map(|&column| type_of(at, column)).collect();
                if anchor_types.get_or_insert_with(|| types.clone()) != &types {
                    return Err("its key has different types in different tables".into());
                }
                types
            }
            ScanKey::Derived {
                source,
                source_column,
                own_column,
            } => {
                let (own, theirs) = (type_of(at, *own_column), type_of(*source, *source_column));
                if own != theirs {
                    return Err("two joined columns have different types".into());
                }
                vec![own]
            }
        };
        if !types.iter().all(can_be_key) {
            return Err("its key is a floating-point number or an array".into());
        }
    }
    Ok(())
}

/// How long what was found about a key at a commit holds: until the key is judged again. None for a pair that was not asked.
fn lasts(pairs: &[Pair], key: u32, commit: i64) -> Option<(Commit, Commit)> {
    let commit = Commit::try_from(commit).ok()?;
    let at = pairs.binary_search(&pairs::pair(key, commit)).ok()?;
    let next = pairs
        .get(at + 1)
        .filter(|&&next| pairs::key_of(next) == key);
    Some((
        commit,
        next.map_or(Commit::MAX, |&next| pairs::commit_of(next)),
    ))
}
