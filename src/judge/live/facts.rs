//! What there is to know of the rules that are followed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::DataType as ArrowType;

use super::{Live, Road, Turn};
use crate::judge::{Options, Prepared};
use crate::plan::Plan;
use crate::rule::{Check, Rule};

/// The most keys of a rule that are looked at closely at once.
const DETAILS_MAX: usize = 10_000;

impl Live {
    /// Whether a rule is judged as a whole from time to time, not at every commit.
    pub fn on_a_cadence(&self, rule: usize) -> bool {
        matches!(self.rules[rule].road, Road::Whole { .. })
    }

    /// The tables that a rule reads, its subject among them, as `schema.name`.
    pub fn reads(&self, rule: usize) -> Vec<String> {
        let rule = &self.rules[rule].rule;
        let schema = &self.history().schema;
        let reads = self.prepared(rule).ok().map(|prepared| {
            let reads = self.judge.reads(&[prepared], &self.at_the_head());
            reads.tables()
        });
        let subject = rule
            .table
            .as_ref()
            .and_then(|table| schema.table_index(&table.value));
        let tables: BTreeSet<usize> = reads.into_iter().flatten().chain(subject).collect();
        let name = |at: usize| schema.tables[at].name.to_string();
        tables.into_iter().map(name).collect()
    }

    /// The query that judges a rule; None where there is none.
    pub fn sql(&self, rule: usize) -> Option<String> {
        match self.prepared(&self.rules[rule].rule).ok()?.plan {
            Plan::Query(compiled) => Some(compiled.sql),
            Plan::Metric { sql, .. } => Some(sql),
            Plan::Shape { .. } | Plan::Refused(_) => None,
        }
    }

    /// How the rules are judged at the head.
    pub(super) fn at_the_head(&self) -> Options {
        Options {
            position: self.history().head(),
            now_us: None,
            sample: None,
        }
    }

    /// What was deleted before the history begins is not known: rules that ask for it are given up.
    pub(super) fn forget_the_deleted(&mut self) {
        let first = self.history().first;
        for followed in &mut self.rules {
            if followed.rule.check == Check::NoResurrection {
                followed.give_up(&format!(
                    "what was deleted before #{first} is not kept in memory; `firstbad bisect STORE` judges it"
                ));
            }
        }
    }

    /// Shows the numbers of a table to the engine as those of any size are shown, from now on; for tests.
    #[doc(hidden)]
    pub fn widen(&mut self, table: usize) {
        let history = Arc::get_mut(&mut self.judge.history);
        history.expect("nobody else has it").widen(table);
    }

    /// The types that columns of numbers have.
    pub(super) fn number_types(&self) -> Vec<ArrowType> {
        let tables = self.history().tables.iter();
        tables.flat_map(|table| table.number_types()).collect()
    }

    pub(super) fn prepared(&self, rule: &Rule) -> Result<Prepared, String> {
        let prepared = self
            .judge
            .prepare(std::slice::from_ref(rule), &self.at_the_head());
        let mut prepared = prepared.map_err(|found| {
            let first = found.into_iter().next();
            first.map_or_else(String::new, |diagnostic| diagnostic.message)
        })?;
        Ok(prepared.remove(0))
    }

    /// Lets nothing wait that would be found out later.
    pub fn hurry(&mut self) {
        for followed in &mut self.rules {
            followed.looked = Instant::now();
        }
    }

    /// Finds out what is wrong with the keys that began to be bad: as often as rules of the whole are judged.
    pub(super) fn look_closely(&mut self, at: usize, turn: &mut Turn) {
        let options = self.at_the_head();
        let followed = &mut self.rules[at];
        if followed.rule.check.judges_writes() {
            return;
        }
        let began = turn.began.iter().map(|onset| onset.order.clone());
        followed.vague.extend(began.take(DETAILS_MAX));
        while followed.vague.len() > DETAILS_MAX {
            followed.vague.pop_last();
        }
        let begun = Instant::now();
        if followed.vague.is_empty() || begun < followed.looked {
            return;
        }
        let keys = std::mem::take(&mut followed.vague);
        let rule = followed.rule.clone();
        let details = self
            .prepared(&rule)
            .map(|prepared| self.judge.details(&prepared, keys, &options));
        // A rule that cannot be judged now says so by itself.
        if let Ok(Ok(details)) = details {
            turn.details = details;
        }
        let took = begun.elapsed();
        turn.took += took;
        self.rules[at].looked = Instant::now() + took * self.rest.1;
    }
}
