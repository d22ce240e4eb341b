//! What a query may read at one position: the tables, `changes.*`, `writes.*`, `steps.*` and `firstbad.transactions`, each built on
//! first use. There is nothing else to name: no files, no settings, no information schema. Which positions there are is said in
//! `positions`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};

use super::chunks::ChunkTable;
use crate::change::Commit;
use crate::schema::Table;
use crate::state::{History, InPlace, Relation};

/// The only catalog there is.
pub(super) const CATALOG: &str = "firstbad";

/// Schemas of what was recorded: more than the state at a position says.
pub(super) const RECORDED: [&str; 4] = ["changes", "writes", "steps", "firstbad"];

/// How many rows a batch has at most: between batches a query can be stopped.
const BATCH_ROWS: usize = 8192;

/// A history at a position, as the engine's catalog sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) history: Arc<History>,
    pub(super) position: Commit,
    built: Mutex<BTreeMap<(String, String), Built>>,
    files: Arc<dyn FileTables>,
}

/// Tables that are read in place from files.
pub(super) trait FileTables: std::fmt::Debug + Send + Sync {
    /// The provider for a file.
    fn provider(&self, file: &[PathBuf]) -> Result<Arc<dyn TableProvider>>;
}

/// A relation that was asked for.
#[derive(Clone, Debug)]
struct Built {
    provider: Arc<dyn TableProvider>,
    /// Cells that are not known, column by column.
    unknown: Vec<usize>,
}

/// A relation by its name in SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A table's rows in one of its four views.
    Table(usize, Relation),
    /// `firstbad.transactions`.
    Transactions,
}

impl View {
    pub(super) fn new(
        history: Arc<History>,
        position: Commit,
        files: Arc<dyn FileTables>,
    ) -> Arc<Self> {
        Arc::new(View {
            history,
            position,
            built: Mutex::new(BTreeMap::new()),
            files,
        })
    }

    /// Whether the source has a schema of this name, its own or a reserved one.
    pub(super) fn has_schema(&self, name: &str) -> bool {
        const RESERVED: [&str; 5] = ["public", "changes", "writes", "steps", "firstbad"];
        let mut own = self.history.schema.tables.iter();
        RESERVED.contains(&name) || own.any(|table| table.name.schema == name)
    }

    /// The schema of this name, if there is one.
    pub(super) fn schema(self: &Arc<Self>, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = || -> Arc<dyn SchemaProvider> {
            Arc::new(Schema {
                name: name.to_owned(),
                view: Arc::clone(self),
            })
        };
        self.has_schema(name).then(schema)
    }

    /// What a name in SQL means.
    pub(super) fn resolve(&self, schema: &str, name: &str) -> Option<Named> {
        if schema == "firstbad" {
            return (name == "transactions").then_some(Named::Transactions);
        }
        let by_short = |short: &str| {
            self.history
                .schema
                .tables
                .iter()
                .position(|table| table.name.short() == short)
        };
        let pairing = |table: &Table| -> Vec<usize> {
            if table.primary_key.is_empty() {
                (0..table.columns.len()).collect()
            } else {
                table.primary_key.clone()
            }
        };
        match schema {
            "changes" => by_short(name).map(|table| Named::Table(table, Relation::Changes)),
            "writes" | "steps" => {
                let (short, columns) = match name.split_once('(') {
                    Some((short, columns)) => (short, Some(columns.strip_suffix(')')?)),
                    None => (name, None),
                };
                let at = by_short(short)?;
                let table = &self.history.schema.tables[at];
                let pairing = match columns {
                    Some(columns) => columns
                        .split(',')
                        .map(|c| table.column_index(c))
                        .collect::<Option<_>>()?,
                    None => pairing(table),
                };
                let relation = if schema == "writes" {
                    Relation::Writes(pairing)
                } else {
                    Relation::Steps(pairing)
                };
                Some(Named::Table(at, relation))
            }
            _ => {
                let found = |table: &Table| table.name.schema == schema && table.name.name == name;
                let at = self.history.schema.tables.iter().position(found)?;
                Some(Named::Table(at, Relation::State))
            }
        }
    }

    /// How many cells of a relation's column are not known.
    pub(super) fn unknown(&self, schema: &str, name: &str, column: usize) -> usize {
        let built = self.built.lock().expect("no holder panics");
        built
            .get(&(schema.to_owned(), name.to_owned()))
            .and_then(|b| b.unknown.get(column).copied())
            .unwrap_or(0)
    }

    fn build(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let key = (schema.to_owned(), name.to_owned());
        if let Some(built) = self.built.lock().expect("no holder panics").get(&key) {
            return Ok(Some(Arc::clone(&built.provider)));
        }
        let Some(named) = self.resolve(schema, name) else {
            return Ok(None);
        };
        let built = match named {
            Named::Table(table, relation) => self.table(table, &relation)?,
            Named::Transactions => {
                let batch = self.history.transactions_rows(&(0..=self.position));
                Built {
                    provider: memory_table(&batch)?,
                    unknown: Vec::new(),
                }
            }
        };
        let provider = Arc::clone(&built.provider);
        self.built
            .lock()
            .expect("no holder panics")
            .insert(key, built);
        Ok(Some(provider))
    }

    fn table(&self, table: usize, relation: &Relation) -> Result<Built> {
        let in_place = self.history.in_place[table].as_ref();
        let provider: Arc<dyn TableProvider> =
            match in_place.filter(|_| *relation == Relation::State) {
                Some(InPlace::Files(files)) => self.files.provider(files)?,
                Some(InPlace::Chunks(chunks)) => Arc::new(ChunkTable::new(chunks)),
                None => {
                    let rows = self.history.rows(table, relation, self.position);
                    return Ok(Built {
                        provider: memory_table(&rows.batch)?,
                        unknown: rows.unknown,
                    });
                }
            };
        Ok(Built {
            provider,
            unknown: Vec::new(),
        })
    }
}

fn memory_table(batch: &RecordBatch) -> Result<Arc<dyn TableProvider>> {
    let slices = (0..batch.num_rows())
        .step_by(BATCH_ROWS)
        .map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
        .collect();
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![slices])?))
}

/// One schema of the catalog.
#[derive(Debug)]
struct Schema {
    name: String,
    view: Arc<View>,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.view.build(&self.name, name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.view.resolve(&self.name, name).is_some()
    }
}
