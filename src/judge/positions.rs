//! Which states a query may read: the one at its own position, and, where it may name positions, any other of the history.
//!
//! A position is written where SQL has a schema or a catalog: `"#1206".orders`, `"#1206".sales.invoices`. A schema of the source
//! goes before a position of the same name, so no table can be hidden by a snapshot's name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};

use super::catalog::{CATALOG, FileTables, View};
use crate::change::Commit;
use crate::state::History;

/// Whether queries may name other positions than their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// They may not: a rule's verdict is a function of the state at its position.
    Own,
    /// They may; ages count back from this instant in microseconds, else from the last commit's time.
    All {
        /// The instant.
        now_us: Option<i64>,
    },
}

/// The states that the queries of one engine may read.
#[derive(Debug)]
pub(super) struct Positions {
    own: Arc<View>,
    files: Arc<dyn FileTables>,
    reach: Reach,
    others: Mutex<BTreeMap<Commit, Arc<View>>>,
}

impl Positions {
    pub(super) fn new(
        history: &Arc<History>,
        position: Commit,
        files: &Arc<dyn FileTables>,
        reach: Reach,
    ) -> Arc<Self> {
        Arc::new(Positions {
            own: View::new(Arc::clone(history), position, Arc::clone(files)),
            files: Arc::clone(files),
            reach,
            others: Mutex::new(BTreeMap::new()),
        })
    }

    /// The same over another history at a position.
    pub(super) fn over(&self, history: &Arc<History>, position: Commit) -> Arc<Self> {
        Self::new(history, position, &self.files, self.reach)
    }

    /// The state at the engine's own position.
    pub(super) fn own(&self) -> &Arc<View> {
        &self.own
    }

    /// The state that a position's name means.
    ///
    /// # Errors
    /// Why it means none.
    pub(super) fn named(&self, text: &str) -> Result<Arc<View>, String> {
        let Reach::All { now_us } = self.reach else {
            return Err("other positions cannot be read here".into());
        };
        let position = self.own.history.resolve(text, now_us)?.position;
        if position == self.own.position {
            return Ok(Arc::clone(&self.own));
        }
        let mut others = self.others.lock().expect("no holder panics");
        let view = others.entry(position).or_insert_with(|| {
            let history = Arc::clone(&self.own.history);
            View::new(history, position, Arc::clone(&self.files))
        });
        Ok(Arc::clone(view))
    }

    /// The state and the schema that the words before a table's name mean.
    pub(super) fn place(&self, catalog: Option<&str>, schema: &str) -> Option<(Arc<View>, String)> {
        match catalog.filter(|catalog| *catalog != CATALOG) {
            Some(position) => Some((self.named(position).ok()?, schema.to_owned())),
            None if self.own.has_schema(schema) => Some((Arc::clone(&self.own), schema.to_owned())),
            None => Some((self.named(schema).ok()?, "public".to_owned())),
        }
    }

    /// The same for the engine: its own position is the default catalog, every other is a catalog too.
    pub(super) fn catalogs(self: &Arc<Self>) -> Arc<dyn CatalogProviderList> {
        Arc::new(Catalogs(Arc::clone(self)))
    }
}

#[derive(Debug)]
struct Catalogs(Arc<Positions>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let positions = &self.0;
        if name == CATALOG {
            return Some(Arc::new(OwnCatalog(Arc::clone(positions))));
        }
        let view = positions.named(name).ok()?;
        Some(Arc::new(OtherCatalog(view)))
    }
}

/// The schemas at the engine's own position, and behind them every position as a schema.
#[derive(Debug)]
struct OwnCatalog(Arc<Positions>);

impl CatalogProvider for OwnCatalog {
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (view, schema) = self.0.place(None, name)?;
        view.schema(&schema)
    }
}

/// The schemas at another position.
#[derive(Debug)]
struct OtherCatalog(Arc<View>);

impl CatalogProvider for OtherCatalog {
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.schema(name)
    }
}
