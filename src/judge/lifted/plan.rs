//! From a rule to a lifted plan: locality, aggregates as tables, slots for the scans.

use std::sync::Arc;

use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Join, LogicalPlan, TableScan};

use super::cached::Cached;
use super::clock::Ticking;
use super::keys::can_be_key;
use super::slot::{Slot, SlotTable};
use super::source::Source;
use super::summary::Kept;
use super::{Mistake, Reached, Summaries, Tuning};
use crate::judge::engine::Engine;
use crate::plan::Compiled;
use crate::plan::clock::answer;
use crate::plan::lifting::{self, lift};
use crate::plan::locality::{self, Locality, ScanKey, locality};
use crate::plan::summaries::{Summary, is_row_by_row, summarize};

/// A rule's query, rewritten to be judged by the lives of its keys.
pub(super) struct Lifted {
    /// Planned once, reset before every run.
    pub(super) physical: Cached,
    /// What the scans read, in the order of the plan's scans.
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) how: How,
    pub(super) reached: Reached,
    /// Set where it asks for the time.
    pub(super) ticking: Option<Ticking>,
}

/// How a lifted plan is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// One table, row by row: each version is judged once.
    Rows,
    /// Key by key.
    Keys(Locality),
}

impl Lifted {
    /// Plans a query for lifted judgement; the sources of its scans in their order.
    ///
    /// # Errors
    /// Why it can only be judged in full, in words for the author of the rule.
    pub(super) async fn plan(
        engine: &Engine,
        compiled: &Compiled,
        keep: Summaries,
        tuning: &Tuning,
    ) -> Result<(Self, Vec<Source>), String> {
        let (plan, asks_now) = engine.optimized(&compiled.sql).await.map_err(words)?;
        let (plan, summaries, how) = road(plan, compiled, keep)?;
        let (mut slots, mut sources) = (Vec::new(), Vec::new());
        for scan in locality::scans(&plan) {
            let name = scan.table_name.table();
            let summary = summaries.iter().find(|summary| summary.name == name);
            let columns = columns_of(scan);
            slots.push(Slot::new(&scan.source.schema(), &columns));
            sources.push(match summary {
                Some(summary) => Source::of_summary(kept(engine, summary, tuning).await?, columns),
                None => source(engine, scan)?,
            });
        }
        if let How::Keys(locality) = &how {
            check_keys(&plan, locality)?;
        }
        let reached = reached(&plan, &how, summaries.len());
        let mut next = slots.iter();
        let lifted = lift(&plan, &mut |_| {
            let slot = next.next().expect("one slot a scan");
            provider_as_source(Arc::new(SlotTable(Arc::clone(slot))))
        });
        let mut lifted = lifted.map_err(words)?;
        if tuning.mistake == Some(Mistake::NoCommitPair) {
            lifted = without_commit_pairs(lifted).map_err(words)?;
        }
        let ticking = asks_now.then(|| Ticking::new(&plan, compiled));
        if let Some(ticking) = &ticking {
            lifted = answer(lifted, ticking.clock()).map_err(words)?;
        }
        let physical = engine.physical(&lifted).await;
        let lifted = Lifted {
            physical: Cached::new(physical.map_err(words)?, &slots, tuning),
            slots,
            how,
            reached,
            ticking,
        };
        Ok((lifted, sources))
    }
}

/// How a plan is fed: the plan, with some aggregates replaced by tables, these, and the way.
fn road(
    plan: LogicalPlan,
    compiled: &Compiled,
    keep: Summaries,
) -> Result<(LogicalPlan, Vec<Summary>, How), String> {
    if is_row_by_row(&plan) {
        return Ok((plan, Vec::new(), How::Rows));
    }
    if keep == Summaries::OfGroups {
        let (plan, summaries) = summarize(&plan, false).map_err(words)?;
        let locality = match anchor(&plan, compiled) {
            Ok(found) => found,
            Err(reason) => of_the_whole(&plan, &summaries).ok_or(reason)?,
        };
        return Ok((plan, summaries, How::Keys(locality)));
    }
    let reason = match anchor(&plan, compiled) {
        Ok(found) => return Ok((plan, Vec::new(), How::Keys(found))),
        Err(reason) => reason,
    };
    // Figures of whole tables, or else of groups: few rows, which can be looked at together.
    for whole_tables_only in [true, false] {
        let (plan, summaries) = summarize(&plan, whole_tables_only).map_err(words)?;
        if let Some(found) = of_the_whole(&plan, &summaries) {
            return Ok((plan, summaries, How::Keys(found)));
        }
    }
    Err(reason)
}

/// How a plan's rows are found, in words.
fn reached(plan: &LogicalPlan, how: &How, summaries: usize) -> Reached {
    let How::Keys(locality) = how else {
        return Reached::Rows;
    };
    let scans = locality::scans(plan);
    let column = |scan: usize, column: &usize| {
        let schema = scans[scan].source.schema();
        schema.field(*column).name().clone()
    };
    let mut told = Vec::new();
    for (at, key) in locality.scans.iter().enumerate() {
        let table = scans[at].table_name.table();
        let table = table.split_once('(').map_or(table, |(table, _)| table);
        let text = match key {
            ScanKey::Direct(columns) if !columns.is_empty() => {
                let columns: Vec<String> = columns.iter().map(|c| column(at, c)).collect();
                format!("{table} by {}", columns.join(", "))
            }
            ScanKey::Direct(_) => continue,
            ScanKey::Derived {
                source,
                source_column,
                own_column,
            } => {
                let from = scans[*source].table_name.table();
                let theirs = column(*source, source_column);
                format!(
                    "{table} by {}, as {theirs} of {from} has it",
                    column(at, own_column)
                )
            }
        };
        if !told.contains(&text) {
            told.push(text);
        }
    }
    let fields = plan.schema().fields();
    let anchor = locality.anchor.iter();
    Reached::Keys {
        anchor: anchor.map(|&at| fields[at].name().clone()).collect(),
        scans: told,
        summaries,
    }
}

fn words(error: datafusion::error::DataFusionError) -> String {
    error.strip_backtrace()
}

/// The columns of the scanned table that a scan reads.
fn columns_of(scan: &TableScan) -> Vec<usize> {
    match &scan.projection {
        Some(projection) => projection.clone(),
        None => (0..scan.source.schema().fields().len()).collect(),
    }
}

fn source(engine: &Engine, scan: &TableScan) -> Result<Source, String> {
    let name = &scan.table_name;
    let (schema, table) = (name.schema().unwrap_or("public"), name.table());
    let relation = engine.view().resolve(schema, table);
    let relation = relation.ok_or("it reads a table that has no history")?;
    Ok(Source::of_relation(relation, columns_of(scan)))
}

/// The table that stands for an aggregate.
async fn kept(engine: &Engine, summary: &Summary, tuning: &Tuning) -> Result<Kept, String> {
    let inner = locality::scans(&summary.delta);
    let [inner] = inner.as_slice() else {
        return Err("an aggregate over several tables".into());
    };
    let slot = Slot::new(&inner.source.schema(), &columns_of(inner));
    let mut deltas = Vec::new();
    for query in summary.queries() {
        let lifted = lift(query, &mut |_| {
            provider_as_source(Arc::new(SlotTable(Arc::clone(&slot))))
        });
        let delta = engine.physical(&lifted.map_err(words)?).await;
        deltas.push(Cached::new(
            delta.map_err(words)?,
            std::slice::from_ref(&slot),
            tuning,
        ));
    }
    Ok(Kept::new(
        summary.clone(),
        deltas,
        slot,
        source(engine, inner)?,
    ))
}

/// Joins without the pair that keeps commits apart: see [`Mistake::NoCommitPair`].
fn without_commit_pairs(plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let LogicalPlan::Join(join) = node else {
            return Ok(Transformed::no(node));
        };
        let on = join.on.iter().filter(|(left, right)| {
            let of_commit = |expr: &datafusion::logical_expr::Expr| {
                let name = expr.schema_name().to_string();
                name.ends_with(lifting::OTHER_COMMIT)
            };
            !of_commit(left) && !of_commit(right)
        });
        let on = on.cloned().collect();
        Ok(Transformed::yes(LogicalPlan::Join(Join { on, ..join })))
    })?;
    Ok(plan.data)
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
