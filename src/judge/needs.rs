//! Which tables and columns judging reads, so that a source need not give others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::Named;
use super::engine::{Engine, Planned};
use super::{Judge, Options, Prepared, QueryError, guard};
use crate::plan::{Judged, Plan};
use crate::rule::Sql;
use crate::state::Relation;

/// Columns by table, both as indexes in the schema; a table of which only the rows count has none.
pub type Needs = BTreeMap<usize, BTreeSet<usize>>;

impl Judge {
    /// What judging prepared rules reads of the state: for violations, evidence, impact, the members of groups and the number of judged.
    /// It is the same for any rows, so that an empty history with the source's schema and time is enough to ask.
    pub fn needs(&self, prepared: &[Prepared], options: &Options) -> Needs {
        let engine = self.engine(options);
        let mut needs = Needs::new();
        for rule in prepared {
            if let Some(planned) = &rule.planned {
                add(&engine, planned, &mut needs);
            }
            for sql in further(&rule.plan) {
                let (asking, sql) = (Arc::clone(&engine), sql.to_owned());
                let task = async move { Ok(asking.plan(&sql).await) };
                let planned = self.runtime().block_on(guard::guarded(&self.limits, task));
                // What cannot be planned is not judged, and says so then.
                if let Ok(Ok(planned)) = planned {
                    add(&engine, &planned, &mut needs);
                }
            }
        }
        needs
    }

    /// What a query reads of states.
    ///
    /// # Errors
    /// A mistake in the query, or why it is not answered.
    pub fn query_needs(&self, sql: &Sql, options: &Options) -> Result<Needs, QueryError> {
        let (engine, planned) = self.planned_query(sql, options)?;
        let mut needs = Needs::new();
        add(&engine, &planned, &mut needs);
        Ok(needs)
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

/// Adds what a query reads of states; what was recorded is no part of them.
fn add(engine: &Engine, planned: &Planned, needs: &mut Needs) {
    for read in &planned.reads {
        let place = engine.positions();
        let Some((view, schema)) = place.place(read.catalog.as_deref(), &read.schema) else {
            continue;
        };
        if let Some(Named::Table(at, Relation::State)) = view.resolve(&schema, &read.name) {
            let table = &view.history.schema.tables[at];
            let columns = read.columns.iter();
            let columns = columns.filter_map(|(_, name)| table.column_index(name));
            needs.entry(at).or_default().extend(columns);
        }
    }
}
