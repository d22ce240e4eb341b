//! Queries that people ask: any `select` over the state at a position, over its changes, and over other positions.
//!
//! They pass the same doors as the SQL of rules: only reading, no files, the same limits. What differs is what a mistake is (one
//! message with its place in the query) and that the answer is handed on batch by batch, so that its size has no limit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use datafusion::error::DataFusionError;
use futures::StreamExt;

use super::engine::{Engine, Planned};
use super::positions::Reach;
use super::{Judge, JudgeError, Options, collect, guard, mistakes, numbers, query};
use crate::diagnostic::Diagnostic;
use crate::plan;
use crate::rule::{Sql, sql};
use crate::schema::DataType;
use crate::schema::columnar::{cell_from_array, data_type_of_arrow};
use crate::schema::value::to_text;
use crate::state::WIDE;

/// As many columns with values that are not known are named.
const NOT_KNOWN_LISTED: usize = 5;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name; no two columns of an answer have the same.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

/// Takes an answer, batch by batch.
pub trait Sink {
    /// Called once, before any row; not at all where the query has no answer.
    ///
    /// # Errors
    /// Whatever ends the writing.
    fn begin(&mut self, schema: &SchemaRef, columns: &[OutputColumn]) -> std::io::Result<()>;

    /// Rows in the order of the answer; the columns are those of [`Sink::begin`].
    ///
    /// # Errors
    /// Whatever ends the writing, and with it the query.
    fn batch(&mut self, batch: &RecordBatch) -> std::io::Result<()>;
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query is wrong.
    #[error("{}", .0.message)]
    Mistake(Box<Diagnostic>),
    /// It reads what is not known, exceeds a limit, or failed while it ran.
    #[error(transparent)]
    Unanswered(#[from] JudgeError),
    /// The answer could not be written.
    #[error("the answer cannot be written")]
    Write(#[source] std::io::Error),
}

/// Why a query cannot be planned: it is wrong, or it is too much.
pub(super) type Planning = Result<Planned, DataFusionError>;

impl Judge {
    /// Answers a query about the state at a position. Every table is there by its name, with `changes.<table>`, `writes.<table>` and
    /// `firstbad.transactions`; a position in double quotes before a name reads the state there.
    ///
    /// # Errors
    /// A mistake with its place in the query, or why there is no answer; the sink may have taken rows by then.
    pub fn query(
        &self,
        sql: &Sql,
        options: &Options,
        sink: &mut dyn Sink,
    ) -> Result<(), QueryError> {
        let (engine, planned) = self.planned_query(sql, options)?;
        if let Some(reason) = engine.cannot_judge(&planned) {
            let reason = match planned.not_known.split_at_checked(NOT_KNOWN_LISTED) {
                _ if planned.not_known.first() != Some(&reason) => reason,
                Some((listed, more)) if !more.is_empty() => {
                    let plural = if more.len() == 1 { "" } else { "s" };
                    format!(
                        "{}; and {} more column{plural}",
                        listed.join("; "),
                        more.len()
                    )
                }
                _ => planned.not_known.join("; "),
            };
            return Err(JudgeError::Unknown(reason).into());
        }
        let (schema, columns) = shape(&Engine::answer_schema(&planned));
        // A query that fails before its first row leaves nothing behind.
        let mut begun = false;
        let mut begin = |sink: &mut dyn Sink| {
            if std::mem::replace(&mut begun, true) {
                return Ok(());
            }
            sink.begin(&schema, &columns).map_err(QueryError::Write)
        };
        let rows = Arc::clone(&schema);
        let run = guard::streamed(
            &self.limits,
            |sender| run(engine, planned, rows, sender),
            |batch| {
                begin(sink)?;
                sink.batch(&batch).map_err(QueryError::Write)
            },
        );
        self.runtime().block_on(run)?;
        begin(sink)
    }

    /// A query that passed the doors, planned, with its engine.
    pub(super) fn planned_query(
        &self,
        sql: &Sql,
        options: &Options,
    ) -> Result<(Arc<Engine>, Planned), QueryError> {
        let mistake = |diagnostic| QueryError::Mistake(Box::new(diagnostic));
        let parsed = sql::parse_query(sql).map_err(|found| mistake(mistakes::reworded(found)))?;
        if let Some(found) = mistakes::unparsed(sql, &parsed) {
            return Err(mistake(found));
        }
        if let Some(reason) = plan::forbidden_call(&parsed) {
            return Err(mistake(mistakes::forbidden(sql, &reason)));
        }
        let now = options
            .now_us
            .or_else(|| self.history.now_at(options.position));
        let reach = Reach::All {
            now_us: options.now_us,
        };
        let engine = self
            .workshop
            .engine_reaching(&self.history, options.position, now, reach);
        let engine = Arc::new(engine);
        mistakes::check_names(sql, &parsed, engine.positions()).map_err(mistake)?;
        let planned = self.plan_answer(&engine, sql)?;
        Ok((engine, planned))
    }

    fn plan_answer(&self, engine: &Arc<Engine>, sql: &Sql) -> Result<Planned, QueryError> {
        let task = {
            let (engine, text) = (Arc::clone(engine), sql.value.clone());
            async move { Ok(engine.plan(&text).await) }
        };
        let planned: Planning = self
            .runtime()
            .block_on(guard::guarded(&self.limits, task))?;
        planned.map_err(|error| mistakes::planning(sql, &error))
    }
}

async fn run(
    engine: Arc<Engine>,
    planned: Planned,
    schema: SchemaRef,
    mut sender: guard::Sender<RecordBatch>,
) -> Result<(), JudgeError> {
    let mut stream = engine.run(&planned).map_err(query::execution_error)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(query::execution_error)?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .zip(batch.schema().fields())
            .map(|(column, field)| simple(Arc::clone(column), field))
            .collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows)
            .map_err(JudgeError::engine)?;
        if !sender.send(batch).await {
            break;
        }
    }
    Ok(())
}

/// A column in one of the few types that are written. Numbers of any size and intervals become their text; times keep all of their digits.
fn simple(column: ArrayRef, field: &Field) -> Result<ArrayRef, JudgeError> {
    match column.data_type() {
        wide if *wide == WIDE => numbers::texts(&column, field).map_err(JudgeError::engine),
        ArrowType::Null => cast(&column, &ArrowType::Utf8).map_err(JudgeError::engine),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => Ok(column),
        kind @ (ArrowType::Interval(_) | ArrowType::Duration(_)) => {
            let data_type = data_type_of_arrow(kind);
            let text = |row| match cell_from_array(&data_type, &column, row) {
                Ok(cell) => Ok(to_text(&data_type, &cell)),
                Err(error) => Err(JudgeError::engine(error)),
            };
            let texts: StringArray = (0..column.len()).map(text).collect::<Result<_, _>>()?;
            Ok(Arc::new(texts))
        }
        _ => collect::plain(column),
    }
}

/// The columns of an answer with names of their own: what the query names twice is numbered, `id`, `id_2`.
fn shape(schema: &SchemaRef) -> (SchemaRef, Vec<OutputColumn>) {
    let mut names: Vec<String> = Vec::new();
    for field in schema.fields() {
        names.push(unused(field.name(), schema, &names));
    }
    let empty = |data_type: &ArrowType| datafusion::arrow::array::new_empty_array(data_type);
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&names)
        .map(|(field, name)| {
            let simple = simple(empty(field.data_type()), field);
            let data_type =
                simple.map_or(field.data_type().clone(), |array| array.data_type().clone());
            Field::new(name, data_type, true)
        })
        .collect();
    let columns = names
        .into_iter()
        .zip(schema.fields())
        .map(|(name, field)| OutputColumn {
            name,
            data_type: collect::type_of(field.data_type()),
        })
        .collect();
    (Arc::new(ArrowSchema::new(fields)), columns)
}

/// The name, or where an earlier column has it, the name with the first number that makes it a new one.
fn unused(name: &str, schema: &SchemaRef, earlier: &[String]) -> String {
    if !earlier.iter().any(|have| have == name) {
        return name.to_owned();
    }
    let fresh = |candidate: &String| {
        !earlier.contains(candidate) && schema.fields().iter().all(|f| f.name() != candidate)
    };
    (2u64..)
        .map(|number| format!("{name}_{number}"))
        .find(fresh)
        .expect("there are more numbers than columns")
}
