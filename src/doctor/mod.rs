//! What a database lacks to be watched: every finding says what is missing, what that would break, and the SQL that mends it.
//!
//! [`Facts::ask`] asks a server in one read-only transaction; `examine` is a function of what was answered.

mod facts;
mod publication;
mod report;
mod server;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::postgres::Catalog;
use crate::watch::{Needs, RuleReads};

pub use facts::Facts;
pub use report::{json, text};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Watching cannot begin, or would break the database's own writers.
    Blocks,
    /// Watching works, and something is not seen, lost or dangerous for the server.
    Weakens,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Blocks => "blocks",
            Severity::Weakens => "weakens",
            Severity::Note => "note",
        }
    }
}

/// Something that is missing, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, for programs: `wal-level`, `no-key` …
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The table that it is about.
    pub table: Option<String>,
    /// What is missing.
    pub message: String,
    /// What that breaks, or would break.
    pub breaks: String,
    /// Statements that mend it.
    pub fix: Vec<String>,
    /// What has to be done beside, or instead of, the statements.
    pub hint: Option<String>,
    /// Whether one-off reading (`check`) is not possible either.
    pub stops_reading: bool,
}

impl Finding {
    pub(crate) fn new(
        id: &'static str,
        severity: Severity,
        message: impl Into<String>,
        breaks: impl Into<String>,
    ) -> Self {
        Finding {
            id,
            severity,
            table: None,
            message: message.into(),
            breaks: breaks.into(),
            fix: Vec::new(),
            hint: None,
            stops_reading: false,
        }
    }

    pub(crate) fn fix(mut self, statement: impl Into<String>) -> Self {
        self.fix.push(statement.into());
        self
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    pub(crate) fn of(mut self, table: &crate::schema::TableName) -> Self {
        self.table = Some(table.to_string());
        self
    }

    pub(crate) fn stops_reading(mut self) -> Self {
        self.stops_reading = true;
        self
    }
}

/// What a rule takes beyond `REPLICA IDENTITY DEFAULT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleNeeds {
    /// Its id.
    pub rule: String,
    /// The tables that it reads.
    pub tables: Vec<String>,
    /// Those of them that need `REPLICA IDENTITY FULL`, since they have no primary key.
    pub full: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The database, without a password.
    pub source: String,
    /// `server_version`.
    pub version: String,
    /// The role that asked.
    pub role: String,
    /// Tables that would be watched, and how many there are.
    pub tables: Vec<String>,
    /// How many tables the database has.
    pub tables_all: usize,
    /// What the rules need; None where no rules were named and all tables were looked at.
    pub rules: Option<Vec<RuleNeeds>>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something blocks watching.
    pub fn is_blocked(&self) -> bool {
        self.findings
            .iter()
            .any(|one| one.severity == Severity::Blocks)
    }

    /// Whether `check` and snapshots can read what they need.
    pub fn can_read(&self) -> bool {
        !self.findings.iter().any(|one| one.stops_reading)
    }
}

/// What is examined.
pub(crate) struct Subject<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) catalog: &'a Catalog,
    /// Tables of the catalog that would be watched.
    pub(crate) tables: Vec<usize>,
    pub(crate) rules: &'a [RuleReads],
    pub(crate) slot: &'a str,
    pub(crate) publication: &'a str,
}

impl Subject<'_> {
    /// Ids of the rules that read a column.
    pub(crate) fn readers(&self, table: usize, column: usize) -> Vec<&str> {
        let reads =
            |rule: &&RuleReads| rule.tables.get(&table).is_some_and(|c| c.contains(&column));
        self.rules
            .iter()
            .filter(reads)
            .map(|rule| rule.rule.as_str())
            .collect()
    }

    /// Columns of a table that rules read; all where there are no rules.
    pub(crate) fn read(&self, table: usize, has_rules: bool) -> BTreeSet<usize> {
        if !has_rules {
            return (0..self.catalog.schema().tables[table].columns.len()).collect();
        }
        let columns = self.rules.iter().filter_map(|rule| rule.tables.get(&table));
        columns.flatten().copied().collect()
    }
}

/// Examines a database. Without needs, as if rules read every table.
pub(crate) fn examine(
    source: &str,
    facts: &Facts,
    needs: Option<&Needs>,
    slot: &str,
    publication: &str,
) -> Report {
    let catalog = &facts.catalog;
    let tables = match needs {
        Some(needs) => needs.tables.clone(),
        None => (0..catalog.tables.len()).collect(),
    };
    let subject = Subject {
        facts,
        catalog,
        tables,
        rules: needs.map_or(&[], |needs| &needs.rules),
        slot,
        publication,
    };
    let mut findings = Vec::new();
    server::examine(&subject, &mut findings);
    server::slot(&subject, &mut findings);
    // Statements stand in an order in which they can be run: a table that cannot be published yet must not be.
    tables::examine(&subject, needs.is_some(), &mut findings);
    publication::examine(&subject, &mut findings);
    server::not_seen(&subject, &mut findings);
    // The order of finding them is kept within a severity.
    findings.sort_by_key(|finding| finding.severity);
    let name = |at: &usize| catalog.tables[*at].name.to_string();
    let no_key = |at: &&usize| catalog.schema().tables[**at].primary_key.is_empty();
    let rule = |reads: &RuleReads| RuleNeeds {
        rule: reads.rule.clone(),
        tables: reads.tables.keys().map(name).collect(),
        full: reads.tables.keys().filter(no_key).map(name).collect(),
    };
    Report {
        source: source.to_owned(),
        version: facts.version_text.clone(),
        role: facts.role.clone(),
        tables: subject.tables.iter().map(name).collect(),
        tables_all: catalog.tables.len(),
        rules: needs.map(|needs| needs.rules.iter().map(rule).collect()),
        findings,
    }
}
