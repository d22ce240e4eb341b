//! Which tables and columns judging reads, so that a source need not give others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::Named;
use super::engine::{Engine, Planned};
use super::{Judge, Options, Prepared, QueryError, guard};
use crate::plan::{Judged, Plan};
use crate::rule::Sql;
use crate::schema::Table;
use crate::state::Relation;

/// Columns by table, both as indexes in the schema; a table of which only the rows count has none.
pub type Columns = BTreeMap<usize, BTreeSet<usize>>;

/// What rules or a query read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Of states.
    pub state: Columns,
    /// Of what was written: columns of the rows before and after.
    pub written: Columns,
}

impl Judge {
    /// What judging prepared rules reads: for violations, evidence, impact, the members of groups and the number of judged.
    /// It is the same for any rows, so that an empty history with the source's schema and time is enough to ask.
    pub fn reads(&self, prepared: &[Prepared], options: &Options) -> Reads {
        let engine = self.engine(options);
        let mut reads = Reads::default();
        for rule in prepared {
            if let Some(planned) = &rule.planned {
                reads.add(&engine, planned);
            }
            for sql in further(&rule.plan) {
                let (asking, sql) = (Arc::clone(&engine), sql.to_owned());
                let task = async move { Ok(asking.plan(&sql).await) };
                let planned = self.runtime().block_on(guard::guarded(&self.limits, task));
                // What cannot be planned is not judged, and says so then.
                if let Ok(Ok(planned)) = planned {
                    reads.add(&engine, &planned);
                }
            }
        }
        reads
    }

    /// What a query reads.
    ///
    /// # Errors
    /// A mistake in the query, or why it is not answered.
    pub fn query_reads(&self, sql: &Sql, options: &Options) -> Result<Reads, QueryError> {
        let (engine, planned) = self.planned_query(sql, options)?;
        let mut reads = Reads::default();
        reads.add(&engine, &planned);
        Ok(reads)
    }
}

/// The queries that are asked beside the main one.
fn further(plan: &Plan) -> Vec<&str> {
    fn count(judged: &Judged) -> Option<&str> {
        match judged {
            Judged::Query(sql) => Some(sql),
            Judged::Returned => None,
        }
    }
    match plan {
        Plan::Query(compiled) => {
            let members = compiled.members.as_ref();
            let members = members.map(|members| members.sql.as_str());
            count(&compiled.judged).into_iter().chain(members).collect()
        }
        Plan::Shape { judged, .. } | Plan::Metric { judged, .. } => {
            count(judged).into_iter().collect()
        }
        Plan::Refused(_) => Vec::new(),
    }
}

impl Reads {
    /// Adds what a query reads.
    fn add(&mut self, engine: &Engine, planned: &Planned) {
        for read in &planned.reads {
            let place = engine.positions();
            let Some((view, schema)) = place.place(read.catalog.as_deref(), &read.schema) else {
                continue;
            };
            let Some(Named::Table(at, relation)) = view.resolve(&schema, &read.name) else {
                continue;
            };
            let table = &view.history.schema.tables[at];
            let names = read.columns.iter().map(|(_, name)| name.as_str());
            match relation {
                Relation::State => {
                    let columns = names.filter_map(|name| table.column_index(name));
                    self.state.entry(at).or_default().extend(columns);
                }
                _ => {
                    let columns = names.filter_map(|name| of_an_image(table, name));
                    self.written.entry(at).or_default().extend(columns);
                }
            }
        }
    }

    /// The tables, as indexes in the schema.
    pub fn tables(&self) -> BTreeSet<usize> {
        self.state
            .keys()
            .chain(self.written.keys())
            .copied()
            .collect()
    }

    /// Whether any of some columns of a table is read; without columns, whether the table is.
    pub fn touches(&self, table: usize, columns: Option<&[usize]>) -> bool {
        let read = [self.state.get(&table), self.written.get(&table)];
        let mut read = read.into_iter().flatten();
        read.any(|read| columns.is_none_or(|lost| lost.iter().any(|at| read.contains(at))))
    }
}

/// The column of a table whose value before or after a change has this name.
fn of_an_image(table: &Table, name: &str) -> Option<usize> {
    let images = ["before_", "after_", "key_"].iter();
    let mut images = images.filter_map(|image| table.column_index(name.strip_prefix(image)?));
    images.next().or_else(|| table.column_index(name))
}
