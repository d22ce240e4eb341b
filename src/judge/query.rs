//! Running a rule's queries and reading their answers.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use serde_json::{Map, Value};

use super::JudgeError;
use super::collect::{self, Collector, Found, Keep, KeyBytes};
use super::details::Detail;
use super::engine::{Engine, Planned};
use crate::diagnostic::{Diagnostic, nearest};
use crate::plan::{Compiled, Members};
use crate::rule::{Check, Rule};
use crate::verdict::Violation;

/// How many members of a violating group its evidence names.
const MEMBERS_MAX: usize = 10;

/// Runs a violation query to its end.
pub(super) async fn collect(
    engine: &Engine,
    planned: &Planned,
    compiled: &Compiled,
    keep: Keep,
) -> Result<Found, JudgeError> {
    run(engine, planned, Collector::new(compiled, keep)).await
}

/// Runs a violation query again for some of its keys: what their rows add up to.
pub(super) async fn impact_of(
    engine: &Engine,
    planned: &Planned,
    compiled: &Compiled,
    keys: &BTreeSet<KeyBytes>,
) -> Result<Option<String>, JudgeError> {
    let collector = Collector::new(compiled, Keep::First(0)).only(keys);
    Ok(run(engine, planned, collector).await?.impact)
}

/// Runs a violation query again for some of its keys: what is wrong with each, and what it costs.
pub(super) async fn details_of(
    engine: &Engine,
    planned: &Planned,
    compiled: &Compiled,
    keys: &BTreeSet<KeyBytes>,
) -> Result<Vec<Detail>, JudgeError> {
    let collector = Collector::new(compiled, Keep::All).only(keys).by_key();
    let mut found = run(engine, planned, collector).await?;
    found.kept.retain(|key, _| keys.contains(key));
    if let Some(members) = &compiled.members {
        add_members(engine, members, compiled, &mut found).await?;
    }
    let mut impacts = found.impacts;
    let detail = |(order, violation): (KeyBytes, Violation)| Detail {
        impact: impacts.remove(&order),
        evidence: violation.evidence,
        order,
    };
    Ok(found.kept.into_iter().map(detail).collect())
}

async fn run(
    engine: &Engine,
    planned: &Planned,
    mut collector: Collector<'_>,
) -> Result<Found, JudgeError> {
    let mut stream = engine.run(planned).map_err(execution_error)?;
    while let Some(batch) = stream.next().await {
        collector.add(&batch.map_err(execution_error)?)?;
    }
    Ok(collector.finish())
}

/// All rows of a query.
pub(super) async fn batches(
    engine: &Engine,
    planned: &Planned,
) -> Result<Vec<datafusion::arrow::array::RecordBatch>, JudgeError> {
    let mut stream = engine.run(planned).map_err(execution_error)?;
    let mut batches = Vec::new();
    while let Some(batch) = next(&mut stream).await? {
        batches.push(batch);
    }
    Ok(batches)
}

/// Runs a query that returns one number.
pub(super) async fn count(engine: &Engine, sql: &str) -> Result<u64, JudgeError> {
    let planned = engine.plan(sql).await.map_err(execution_error)?;
    let mut stream = engine.run(&planned).map_err(execution_error)?;
    let mut total = 0u64;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(execution_error)?;
        if batch.num_rows() > 0 {
            let numbers = cast(batch.column(0), &ArrowType::Int64).map_err(JudgeError::engine)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            total += numbers
                .iter()
                .flatten()
                .map(|n| u64::try_from(n).unwrap_or(0))
                .sum::<u64>();
        }
    }
    Ok(total)
}

/// The first value of a query's first row, as JSON; None without rows.
pub(super) async fn scalar(engine: &Engine, sql: &str) -> Result<Option<Value>, JudgeError> {
    let planned = engine.plan(sql).await.map_err(execution_error)?;
    if let Some(reason) = engine.cannot_judge(&planned) {
        return Err(JudgeError::Unknown(reason));
    }
    let mut stream = engine.run(&planned).map_err(execution_error)?;
    while let Some(batch) = next(&mut stream).await? {
        if batch.num_rows() > 0 {
            let row = collect::object(&["value".into()], &[batch.column(0).clone()], 0)?;
            return Ok(row.into_values().next());
        }
    }
    Ok(None)
}

async fn next(
    stream: &mut SendableRecordBatchStream,
) -> Result<Option<datafusion::arrow::array::RecordBatch>, JudgeError> {
    stream.next().await.transpose().map_err(execution_error)
}

/// Adds to each kept group the rows that are its members.
pub(super) async fn add_members(
    engine: &Engine,
    members: &Members,
    compiled: &Compiled,
    found: &mut Found,
) -> Result<(), JudgeError> {
    if found.kept.is_empty() {
        return Ok(());
    }
    let planned = engine.plan(&members.sql).await.map_err(execution_error)?;
    let mut stream = engine.run(&planned).map_err(execution_error)?;
    let mut rows: BTreeMap<KeyBytes, BTreeMap<KeyBytes, Map<String, Value>>> = BTreeMap::new();
    let mut groups = collect::Encoder::default();
    let mut keys = collect::Encoder::default();
    while let Some(batch) = next(&mut stream).await? {
        let group_columns = collect::arrays(&batch, &compiled.key)?;
        let aliases: Vec<String> = (0..members.columns.len())
            .map(|at| format!("_row{at}"))
            .collect();
        let member_columns = collect::arrays(&batch, &aliases)?;
        let group_bytes = groups.encode_keys(&group_columns, batch.num_rows())?;
        let member_bytes = keys.encode_keys(&member_columns, batch.num_rows())?;
        let member_columns = collect::shown(&batch, &aliases)?;
        for (row, (group, member)) in group_bytes.into_iter().zip(member_bytes).enumerate() {
            if !found.kept.contains_key(&group) {
                continue;
            }
            let list = rows.entry(group).or_default();
            list.insert(
                member,
                collect::object(&members.columns, &member_columns, row)?,
            );
            if list.len() > MEMBERS_MAX {
                list.pop_last();
            }
        }
    }
    for (group, list) in rows {
        if let Some(violation) = found.kept.get_mut(&group) {
            let list = list.into_values().map(Value::Object).collect();
            violation.evidence.insert("rows".into(), Value::Array(list));
        }
    }
    Ok(())
}

pub(super) fn execution_error(error: DataFusionError) -> JudgeError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => {
            JudgeError::Limit("it needs more memory than --memory-limit allows".into())
        }
        root => JudgeError::engine(root),
    }
}

/// What a failure to plan means.
pub(super) enum PlanningError {
    /// The rule is wrong.
    Mistake(Box<Diagnostic>),
    /// The rule exceeds a limit or fails while its constants are computed.
    Refused(String),
}

pub(super) fn planning_error(rule: &Rule, error: &DataFusionError) -> PlanningError {
    use datafusion::sql::sqlparser::parser::ParserError;
    let root = error.find_root();
    let message = match root {
        DataFusionError::SQL(parse, _)
            if matches!(**parse, ParserError::RecursionLimitExceeded) =>
        {
            return PlanningError::Refused("its SQL is nested too deeply".into());
        }
        DataFusionError::ResourcesExhausted(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(_, _)
        | DataFusionError::External(_)
        | DataFusionError::ExecutionJoin(_) => {
            return PlanningError::Refused(JudgeError::engine(root).to_string());
        }
        DataFusionError::SchemaError(schema, _) => return unknown_field(rule, schema),
        other => other.strip_backtrace(),
    };
    let message = message
        .trim_start_matches("Error during planning: ")
        .trim_start_matches("SQL error: ")
        .trim_start_matches("This feature is not implemented: ")
        .replace("firstbad.public.", "")
        .replace("public.", "");
    let message = message.lines().next().unwrap_or_default();
    let mut first = message.chars();
    let message = first
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(first).collect());
    let (span, hint) = place(rule, &message);
    let diagnostic = span.error(format!("rule `{}`: {message}", rule.id));
    let hint = hint.unwrap_or_else(|| {
        format!(
            "`firstbad rules explain {}` prints the whole query",
            rule.id
        )
    });
    PlanningError::Mistake(Box::new(diagnostic.with_hint(hint)))
}

/// Where a mistake in a rule's SQL stands, and what may have been meant.
fn place(rule: &Rule, message: &str) -> (crate::rule::Span, Option<String>) {
    let Check::Sql { sql } = &rule.check else {
        return (rule.check_span.clone(), None);
    };
    // Planner messages quote the name they stumble over.
    let name = message.split(['\'', '"', '`']).nth(1).unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    match sql.value.find(name).filter(|_| !name.is_empty()) {
        Some(at) => {
            let offset = sql.value[..at].chars().count();
            (sql.span.within(offset, name.chars().count()), None)
        }
        None => (sql.span.clone(), None),
    }
}

fn unknown_field(rule: &Rule, error: &datafusion::common::SchemaError) -> PlanningError {
    use datafusion::common::SchemaError;
    let (name, known): (String, Vec<String>) = match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => (
            field.name.clone(),
            valid_fields
                .iter()
                .map(|column| column.name.clone())
                .collect(),
        ),
        other => (String::new(), vec![other.to_string()]),
    };
    let (span, _) = place(rule, &format!("'{name}'"));
    let message = if name.is_empty() {
        format!("rule `{}`: {}", rule.id, known.join(", "))
    } else {
        format!("rule `{}`: unknown column `{name}`", rule.id)
    };
    let hint = match nearest(&name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known columns: {}", known.join(", ")),
    };
    PlanningError::Mistake(Box::new(span.error(message).with_hint(hint)))
}
