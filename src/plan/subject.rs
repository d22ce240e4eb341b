//! The subject of a rule: the rows that it judges, and the shapes of query that most checks share.

use super::scope::{Fragment, Scope, quote, read};
use super::{Compiled, Expand, IMPACT, Judged};
use crate::rule::Rule;
use crate::schema::Table;

/// The subject of a rule: its table, filter and key.
pub(super) struct Subject<'a> {
    pub(super) table: &'a Table,
    pub(super) alias: String,
    pub(super) filter: Option<Fragment>,
    pub(super) impact: Option<Fragment>,
    pub(super) key: Vec<String>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(scope: &mut Scope<'a>, rule: &Rule) -> Option<Self> {
        let table = scope.subject(rule)?;
        let filter = scope.optional_fragment(table, rule.filter.as_ref());
        let impact = scope.optional_fragment(table, rule.impact.as_ref());
        let key = scope.key(rule, table);
        Some(Subject {
            table,
            alias: quote(&table.name.name),
            filter: filter?,
            impact: impact?,
            key: key?,
        })
    }

    /// A column of the subject, qualified.
    pub(super) fn column(&self, name: &str) -> String {
        format!("{}.{}", self.alias, quote(name))
    }

    pub(super) fn where_clause(&self) -> String {
        self.filter
            .as_ref()
            .map_or_else(String::new, |filter| format!(" WHERE {}", filter.wrapped()))
    }

    /// `SELECT count(*)` of the subjects.
    pub(super) fn judged(&self) -> Judged {
        Judged::Query(format!(
            "SELECT count(*) FROM {}{}",
            read(self.table),
            self.where_clause()
        ))
    }

    /// The filter's columns and the given ones, without key columns: what makes a violation understandable.
    pub(super) fn evidence(&self, columns: &[&str]) -> Vec<String> {
        let filter = self
            .filter
            .iter()
            .flat_map(|filter| filter.columns.iter().map(String::as_str));
        let mut out: Vec<String> = Vec::new();
        for name in columns.iter().copied().chain(filter) {
            if !self.key.iter().any(|key| key == name) && !out.iter().any(|have| have == name) {
                out.push(name.to_owned());
            }
        }
        out
    }

    /// A rule that looks at each row by itself: the rows for which `condition` is true.
    pub(super) fn rows(&self, columns: &[&str], condition: &str) -> Compiled {
        let evidence = self.evidence(columns);
        let mut select: Vec<String> = self
            .key
            .iter()
            .chain(&evidence)
            .map(|name| self.column(name))
            .collect();
        if let Some(impact) = &self.impact {
            select.push(format!("{} AS {}", impact.wrapped(), quote(IMPACT)));
        }
        let filter = self
            .filter
            .as_ref()
            .map_or_else(String::new, |filter| format!("{} AND ", filter.wrapped()));
        let sql = format!(
            "SELECT {} FROM {} WHERE {filter}({condition})",
            select.join(", "),
            read(self.table)
        );
        self.compiled(sql, evidence)
    }

    /// The subject's rows with some of its columns, as a derived table under the subject's own name.
    pub(super) fn derived(&self, columns: &[String], extra: &[String]) -> String {
        let mut select: Vec<String> = columns.iter().map(|name| quote(name)).collect();
        select.extend(extra.iter().cloned());
        if let Some(impact) = &self.impact {
            select.push(format!("{} AS {}", impact.wrapped(), quote(IMPACT)));
        }
        if select.is_empty() {
            select.push("1 AS \"_one\"".into());
        }
        format!(
            "(SELECT {} FROM {}{}) AS {}",
            select.join(", "),
            read(self.table),
            self.where_clause(),
            self.alias
        )
    }

    pub(super) fn impact_column(&self) -> Option<String> {
        self.impact.as_ref().map(|_| self.column(IMPACT))
    }

    pub(super) fn compiled(&self, sql: String, evidence: Vec<String>) -> Compiled {
        Compiled {
            key: self.key.clone(),
            evidence,
            sql,
            judged: self.judged(),
            impact: self.impact.is_some(),
            expand: Expand::None,
            members: None,
        }
    }

    /// One violation for a table or a group of it.
    pub(super) fn grouped(&self, sql: String, key: Vec<String>, evidence: &[&str]) -> Compiled {
        Compiled {
            key,
            evidence: evidence.iter().map(|name| (*name).to_owned()).collect(),
            sql,
            judged: self.judged(),
            impact: false,
            expand: Expand::None,
            members: None,
        }
    }
}
