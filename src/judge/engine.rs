//! DataFusion, set up for judging: only reading, exact decimals, the timeline's clock, limits on time and memory.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, ScalarUDF};
use datafusion::optimizer::{Analyzer, Optimizer};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;

use super::catalog::{CATALOG, FileTables, Named, View};
use super::numbers::{self, Numbers};
use super::positions::{Positions, Reach};
use crate::change::Commit;
use crate::plan::clock;
use crate::schema::{DataType, Schema};
use crate::state::{History, InPlace, Origin, Relation};

/// What one rule may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall time for one rule.
    pub rule_timeout: Duration,
    /// Bytes of memory for the process; above it the running rule is given up.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rule_timeout: Duration::from_secs(60),
            memory_bytes_max: default_memory_limit(),
        }
    }
}

/// Half of the machine's memory.
fn default_memory_limit() -> u64 {
    let total_kib = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    total_kib.map_or(4 << 30, |kib| kib * 1024 / 2)
}

/// The engine for one position of a history.
#[derive(Debug)]
pub(super) struct Engine {
    state: Arc<SessionState>,
    /// What running a plan needs: made once, since it copies the names of all functions.
    task: Arc<OnceLock<Arc<TaskContext>>>,
    positions: Arc<Positions>,
    /// Whether `now()` has a meaning.
    has_now: bool,
    /// Whether some column holds numbers of any size.
    are_wide: bool,
}

/// What a planned query reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Read {
    /// The position that stands in front of the schema, if any.
    pub(super) catalog: Option<String>,
    /// Schema and name as the catalog knows them.
    pub(super) schema: String,
    pub(super) name: String,
    /// The columns that are read, by index and name.
    pub(super) columns: Vec<(usize, String)>,
}

/// A query that is ready to run.
#[derive(Debug)]
pub(super) struct Planned {
    physical: Arc<dyn ExecutionPlan>,
    pub(super) logical: LogicalPlan,
    /// Names of the output columns.
    pub(super) output: Vec<String>,
    pub(super) reads: Vec<Read>,
    /// True when the query asks for the time.
    pub(super) asks_now: bool,
    /// What it reads that is not known, column by column. Kept here because only the engine that planned the query has built its
    /// tables.
    pub(super) not_known: Vec<String>,
}

/// Shared parts of engines at different positions.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    runtime: Arc<RuntimeEnv>,
    config: SessionConfig,
    functions: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
}

impl Workshop {
    pub(super) fn new(limits: &Limits) -> Result<Self> {
        let pool =
            FairSpillPool::new(usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .build_arc()?;
        let mut config = SessionConfig::new()
            .with_target_partitions(1)
            .with_information_schema(false)
            .with_default_catalog_and_schema(CATALOG, "public")
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
        options.sql_parser.parse_float_as_decimal = true;
        options.sql_parser.recursion_limit =
            datafusion::common::config::ConfigNonZeroUsize::try_new(
                crate::rule::sql::PARSER_DEPTH_MAX,
            )?;
        options.execution.time_zone = Some("+00:00".into());
        options.execution.parquet.pushdown_filters = false;
        Ok(Workshop {
            runtime,
            config,
            functions: super::functions::all(),
            aggregates: super::sums::all(),
        })
    }

    /// An engine for a position. `now_us` is the timeline's now.
    pub(super) fn engine(
        &self,
        history: &Arc<History>,
        position: Commit,
        now_us: Option<i64>,
    ) -> Engine {
        self.engine_reaching(history, position, now_us, Reach::Own)
    }

    /// An engine for queries that may name other positions too.
    pub(super) fn engine_reaching(
        &self,
        history: &Arc<History>,
        position: Commit,
        now_us: Option<i64>,
        reach: Reach,
    ) -> Engine {
        self.build(history, position, now_us, reach, |builder| builder)
    }

    /// An engine whose plans can be lifted: without the optimiser's rule that hides keys behind common subexpressions, and without
    /// filters that a plan keeps between two runs.
    /// Without `now_us`, the time is that of each commit.
    pub(super) fn lifting_engine(
        &self,
        history: &Arc<History>,
        position: Commit,
        now_us: Option<i64>,
    ) -> Engine {
        let rules = Optimizer::new().rules.into_iter();
        let rules = rules.filter(|rule| rule.name() != "common_sub_expression_eliminate");
        let mut config = self.config.clone();
        config
            .options_mut()
            .optimizer
            .enable_dynamic_filter_pushdown = false;
        self.build(history, position, now_us, Reach::Own, |builder| {
            builder
                .with_config(config)
                .with_optimizer_rules(rules.collect())
        })
    }

    fn build(
        &self,
        history: &Arc<History>,
        position: Commit,
        now_us: Option<i64>,
        reach: Reach,
        adapt: impl FnOnce(SessionStateBuilder) -> SessionStateBuilder,
    ) -> Engine {
        let files: Arc<dyn FileTables> = Arc::new(Parquet);
        let positions = Positions::new(history, position, &files, reach);
        let mut config = self.config.clone();
        config.options_mut().execution.collect_statistics = !floats_in_files(history);
        let mut props = ExecutionProps::new();
        props.query_execution_start_time = now_us.and_then(chrono::DateTime::from_timestamp_micros);
        let are_wide = numbers::are_wide(history);
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(super::checked::Integers),
            Arc::new(super::texts::Texts),
        ];
        let mut analyzer = Analyzer::new().rules;
        analyzer.insert(0, Arc::new(Numbers));
        if are_wide {
            planners.insert(0, Arc::new(Numbers));
        }
        let builder = SessionStateBuilder::new()
            .with_config(config)
            .with_expr_planners(planners)
            .with_analyzer_rules(analyzer)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(super::ordered::Ordered))
            .with_catalog_list(positions.catalogs())
            .with_table_functions(std::collections::HashMap::new())
            .with_execution_props(props);
        let mut state = adapt(builder).build();
        use datafusion::execution::FunctionRegistry;
        let shared = match are_wide {
            true => numbers::shared(&|name| state.udf(name).ok()),
            false => Vec::new(),
        };
        for function in self.functions.iter().chain(&shared) {
            state
                .register_udf(Arc::clone(function))
                .expect("functions can be registered in a new state");
        }
        for aggregate in &self.aggregates {
            state
                .register_udaf(Arc::clone(aggregate))
                .expect("aggregates can be registered in a new state");
        }
        state
            .register_function_rewrite(Arc::new(super::sums::Negation))
            .expect("rewrites can be registered in a new state");
        state
            .register_function_rewrite(Arc::new(super::bounded::Bounds))
            .expect("rewrites can be registered in a new state");
        Engine {
            state: Arc::new(state),
            task: Arc::default(),
            positions,
            has_now: now_us.is_some(),
            are_wide,
        }
    }
}

/// Whether a table that is read from its files has floating-point numbers. The bounds that Parquet keeps of them leave NaN out, which is
/// above all others here: they would hide it from filters and from `max`.
fn floats_in_files(history: &History) -> bool {
    let tables = history.schema.tables.iter().zip(&history.in_place);
    let in_files = tables.filter(|(_, place)| matches!(place, Some(InPlace::Files(_))));
    let mut columns = in_files.flat_map(|(table, _)| &table.columns);
    columns.any(|column| matches!(column.data_type, DataType::Float32 | DataType::Float64))
}

/// Parquet files, read in place.
#[derive(Debug)]
struct Parquet;

impl FileTables for Parquet {
    fn provider(&self, files: &[PathBuf]) -> Result<Arc<dyn TableProvider>> {
        let external = |error: &dyn std::fmt::Display| {
            DataFusionError::Execution(format!("cannot read Parquet: {error}"))
        };
        let mut urls = Vec::new();
        let mut schema: Option<SchemaRef> = None;
        for file in files {
            let path = std::fs::canonicalize(file).map_err(|error| external(&error))?;
            // By URL, never by pattern: a file name may hold glob characters.
            let url = url::Url::from_file_path(&path)
                .map_err(|()| external(&"the path is not absolute"))?;
            urls.push(ListingTableUrl::try_new(url, None)?);
            if schema.is_none() {
                schema = Some(parquet_schema(&path).map_err(|error| external(&error))?);
            }
        }
        let schema = schema.ok_or_else(|| external(&"no file"))?;
        // See `floats_in_files`.
        let floats = schema
            .fields()
            .iter()
            .any(|field| field.data_type().is_floating());
        let format = ParquetFormat::default().with_enable_pruning(!floats);
        let options = ListingOptions::new(Arc::new(format)).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(options)
            .with_schema(schema);
        Ok(Arc::new(ListingTable::try_new(config)?))
    }
}

/// A file's schema with every column nullable: what a file claims about itself is not believed.
fn parquet_schema(path: &std::path::Path) -> std::result::Result<SchemaRef, String> {
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Ok(Arc::new(Schema::new(
        builder
            .schema()
            .fields()
            .iter()
            .map(field)
            .collect::<Vec<_>>(),
    )))
}

impl Engine {
    /// An engine that runs plans and knows no table: it holds on to no history.
    pub(super) fn resting(&self) -> Engine {
        let nothing = Arc::new(History::new(Schema::default(), Origin::SingleState, false));
        let positions = self.positions.over(&nothing, 0);
        let state = SessionStateBuilder::new_from_existing(self.state.as_ref().clone());
        let state = state.with_catalog_list(positions.catalogs()).build();
        Engine {
            state: Arc::new(state),
            task: Arc::default(),
            positions,
            has_now: self.has_now,
            are_wide: self.are_wide,
        }
    }

    /// The same engine, to run plans that were made before over a history at a position. It finds no table by its name.
    pub(super) fn moved(&self, history: &Arc<History>, position: Commit) -> Engine {
        Engine {
            state: Arc::clone(&self.state),
            task: Arc::clone(&self.task),
            positions: self.positions.over(history, position),
            has_now: self.has_now,
            are_wide: self.are_wide,
        }
    }

    /// The tables at the engine's own position.
    pub(super) fn view(&self) -> &Arc<View> {
        self.positions.own()
    }

    /// The states that queries may read.
    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Plans a query. Only queries get through: no DDL, no DML, no statements.
    pub(super) async fn plan(&self, sql: &str) -> Result<Planned> {
        let dialect = self.state.config().options().sql_parser.dialect;
        let mut statement = self.state.sql_to_statement(sql, &dialect)?;
        numbers::rewritten(&mut statement, self.are_wide);
        let logical = self.state.statement_to_plan(statement).await?;
        datafusion::execution::context::SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&logical)?;
        if matches!(logical, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
            return Err(DataFusionError::Plan(
                "EXPLAIN is no query over tables".into(),
            ));
        }
        let output = logical
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let asks_now = asks_now(&logical)?;
        let logical = self.state.optimize(&logical)?;
        let reads = reads(&logical)?;
        let physical = self
            .state
            .query_planner()
            .create_physical_plan(&logical, self.state.as_ref())
            .await?;
        let not_known = self.not_known(&reads);
        Ok(Planned {
            physical,
            logical,
            output,
            reads,
            asks_now,
            not_known,
        })
    }

    /// A query's optimised plan, and whether it asks for a time that this engine has not: there it has a placeholder.
    pub(super) async fn optimized(&self, sql: &str) -> Result<(LogicalPlan, bool)> {
        let logical = self.state.create_logical_plan(sql).await?;
        let (logical, asks) = match self.has_now {
            true => (logical, false),
            false => clock::ask_later(logical)?,
        };
        Ok((self.state.optimize(&logical)?, asks))
    }

    /// Plans how to run a plan, as it is.
    pub(super) async fn physical(&self, logical: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = self.state.query_planner();
        let state = self.state.as_ref();
        planner.create_physical_plan(logical, state).await
    }

    /// What running a plan needs.
    pub(super) fn task(&self) -> Arc<TaskContext> {
        Arc::clone(self.task.get_or_init(|| self.state.task_ctx()))
    }

    /// The columns of a planned query's answer.
    pub(super) fn answer_schema(planned: &Planned) -> SchemaRef {
        planned.physical.schema()
    }

    /// Starts a planned query.
    pub(super) fn run(&self, planned: &Planned) -> Result<SendableRecordBatchStream> {
        execute_stream(Arc::clone(&planned.physical), self.state.task_ctx())
    }

    /// Why a query over these reads cannot be judged here: cells that are not known, changes that the source has not.
    pub(super) fn cannot_judge(&self, planned: &Planned) -> Option<String> {
        if let Some(gap) = self.view().history.unseen_at(self.view().position) {
            return Some(gap.hidden());
        }
        if planned.asks_now && !self.has_now {
            return Some(
                "the source has no times up to this position, so there is no now: give --now TIME"
                    .into(),
            );
        }
        for read in &planned.reads {
            let place = self.positions.place(read.catalog.as_deref(), &read.schema);
            let named = place
                .as_ref()
                .and_then(|(view, schema)| view.resolve(schema, &read.name));
            let state = matches!(named, Some(Named::Table(_, Relation::State)) | None);
            let hidden = place.as_ref().and_then(|(view, _)| {
                let gap = view.history.unseen_at(view.position);
                gap.map(|gap| gap.hidden())
            });
            if hidden.is_some() {
                return hidden;
            }
            if !state && !self.view().history.has_changes() {
                return Some(format!(
                    "the source has no changes: `{}.{}` cannot be judged",
                    read.schema, read.name
                ));
            }
        }
        planned.not_known.first().cloned()
    }

    /// The columns of these reads that hold cells which are not known.
    fn not_known(&self, reads: &[Read]) -> Vec<String> {
        let mut found = Vec::new();
        for read in reads {
            let Some((view, schema)) = self.positions.place(read.catalog.as_deref(), &read.schema)
            else {
                continue;
            };
            for (at, column) in &read.columns {
                let count = view.unknown(&schema, &read.name, *at);
                if count > 0 {
                    let parts = [
                        read.catalog.as_deref(),
                        Some(&read.schema),
                        Some(&read.name),
                    ];
                    let parts: Vec<&str> = parts
                        .into_iter()
                        .flatten()
                        .filter(|part| *part != "public")
                        .collect();
                    found.push(format!(
                        "`{column}` of {} is not known in {}{}",
                        parts.join("."),
                        crate::diagnostic::counted(count as u64, "row"),
                        match is_array(&view.history.schema, &read.name, column) {
                            true => ": arrays of several dimensions are not read",
                            false => "",
                        }
                    ));
                }
            }
        }
        found
    }
}

/// Every table and column that an optimised plan reads.
fn reads(plan: &LogicalPlan) -> Result<Vec<Read>> {
    let mut reads: Vec<Read> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let fields = scan.source.schema();
            let mut columns: Vec<usize> = match &scan.projection {
                Some(projection) => projection.clone(),
                None => (0..fields.fields().len()).collect(),
            };
            for filter in &scan.filters {
                columns.extend(
                    filter
                        .column_refs()
                        .iter()
                        .filter_map(|column| fields.index_of(&column.name).ok()),
                );
            }
            columns.sort_unstable();
            columns.dedup();
            reads.push(Read {
                catalog: scan
                    .table_name
                    .catalog()
                    .filter(|catalog| *catalog != CATALOG)
                    .map(str::to_owned),
                schema: scan.table_name.schema().unwrap_or("public").to_owned(),
                name: scan.table_name.table().to_owned(),
                columns: columns
                    .into_iter()
                    .map(|at| (at, fields.field(at).name().clone()))
                    .collect(),
            });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    reads.sort();
    reads.dedup();
    Ok(reads)
}

fn asks_now(plan: &LogicalPlan) -> Result<bool> {
    const CLOCK: [&str; 4] = ["now", "current_date", "current_time", "current_timestamp"];
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    found |= CLOCK.contains(&call.func.name());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Whether a column of a table, or of its changes, is an array.
fn is_array(schema: &Schema, table: &str, column: &str) -> bool {
    let prefixes = ["before_", "after_", "key_"];
    let image = prefixes
        .iter()
        .find_map(|prefix| column.strip_prefix(prefix));
    let of_table = schema.tables.iter().filter(|have| have.name.name == table);
    let mut columns = of_table.flat_map(|table| &table.columns);
    columns.any(|have| {
        let same = have.name == column || Some(have.name.as_str()) == image;
        same && matches!(have.data_type, DataType::Array(_))
    })
}
