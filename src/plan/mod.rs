//! Rule + schema = plan: every check kind becomes SQL over quoted identifiers, one function a kind.
//!
//! Nothing runs here. [`compile`] resolves the names that a rule uses (with located messages for what is not there) and says
//! what to ask the engine: a query whose rows are violations, which of its columns are key and which evidence, and how
//! many subjects there are. `sql:` rules and built-in checks take the same road from there.

pub mod clock;
mod compare;
pub mod lifting;
pub mod locality;
mod ordered_checks;
mod scope;
mod sides;
mod state_checks;
mod subject;
pub mod summaries;
pub mod trend;
mod unsound;
mod write_checks;

use datafusion::sql::sqlparser::ast::Expr;

use crate::change::Commit;
use crate::diagnostic::Diagnostic;
use crate::rule::{Check, Detect, Rule, sql};
use crate::schema::{Schema, value};

/// The output column that holds a row's share of the rule's `impact`: longer than the 63 bytes that Postgres allows, so that no
/// column of a table has this name.
pub const IMPACT: &str = "__impact_of_this_row_(a_name_that_no_column_has_for_it_is_too_long)";

/// How the number of judged subjects is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// By a query that returns one number.
    Query(String),
    /// It is the number of rows that the violation query returns.
    Returned,
}

/// What the rows of the violation query are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expand {
    /// Violations.
    None,
    /// Gaps `(_previous, _next, _start)` between neighbouring numbers: a violation for each number missing in them. Without a
    /// previous number, those from the start are missing.
    Sequence {
        /// The key column that names the missing number.
        column: String,
        /// The distance of neighbours.
        step: i64,
    },
    /// Windows `(_window, _rows, _until)`: a violation for each window from `_window` to before `_until` with too few rows.
    Windows {
        /// Length of a window in microseconds.
        every_us: i64,
        /// The fewest rows allowed.
        min_rows: u64,
        /// True when the column has a time zone.
        zoned: bool,
    },
}

/// A second query for the evidence of groups: the rows that are members of a violating group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Returns the group's key columns and then `_row0`, `_row1`, …, one row a member.
    pub sql: String,
    /// The columns that name a member, in the order of `_row0`, `_row1`, ….
    pub columns: Vec<String>,
}

/// A rule as questions to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Key columns of the query's output, first in order. Empty with `sql:` rules whose output names the key (see [`sql_key`]).
    pub key: Vec<String>,
    /// Evidence columns of the output.
    pub evidence: Vec<String>,
    /// The query.
    pub sql: String,
    /// The number of subjects.
    pub judged: Judged,
    /// True when the output has a column [`IMPACT`].
    pub impact: bool,
    /// What the rows are.
    pub expand: Expand,
    /// Where the members of violating groups are found.
    pub members: Option<Members>,
}

/// How a rule is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// By a query.
    Query(Compiled),
    /// From the schema alone: column, expected and found type (`None`: not there, or not expected).
    Shape {
        /// One entry a violation.
        violations: Vec<(String, Option<String>, Option<String>)>,
        /// The number of subjects.
        judged: Judged,
    },
    /// From a series of figures, one at each position in time.
    Metric {
        /// Returns one row with one number.
        sql: String,
        /// Distance of the points in microseconds.
        every_us: i64,
        /// What is looked for.
        detect: Detect,
        /// The number of subjects.
        judged: Judged,
    },
    /// Not at all: the rule exceeds a limit or calls what it must not; the verdict is unknown for this reason.
    Refused(String),
}

/// Why a query holds what no query may hold (its cost has no bound, its answer changes without a write, or the engine would answer it
/// wrongly); None where it does not. The words at fault stand in backticks.
pub fn forbidden_call(query: &datafusion::sql::sqlparser::ast::Query) -> Option<String> {
    scope::forbidden_function(query)
}

/// Compiles a rule against a schema. Checks of writes look at commits from `since` on only.
///
/// # Errors
/// Everything in the rule that does not fit the schema, each with its place in the rule file.
pub fn compile(rule: &Rule, schema: &Schema, since: Commit) -> Result<Plan, Vec<Diagnostic>> {
    if let Some(reason) = &rule.refused {
        return Ok(Plan::Refused(reason.clone()));
    }
    let mut scope = scope::Scope::new(schema);
    let plan = plan(&mut scope, rule, since);
    match plan {
        Some(plan) if scope.diagnostics.is_empty() => Ok(check_functions(plan)),
        _ => {
            assert!(
                !scope.diagnostics.is_empty(),
                "a rule that does not compile says why: {}",
                rule.id
            );
            Err(scope.diagnostics)
        }
    }
}

fn plan(scope: &mut scope::Scope<'_>, rule: &Rule, since: Commit) -> Option<Plan> {
    match &rule.check {
        Check::Sql { sql } => user_query(scope, rule, sql).map(Plan::Query),
        Check::SchemaShape { columns, strict } => shape(scope, rule, columns, *strict),
        Check::Metric {
            sql,
            every_us,
            detect,
        } => metric(scope, rule, sql, *every_us, detect),
        check if check.judges_writes() => {
            write_checks::compile(scope, rule, since).map(Plan::Query)
        }
        _ => state_checks::compile(scope, rule).map(Plan::Query),
    }
}

/// Refuses plans whose cost has no limit or whose answer changes without a write.
fn check_functions(plan: Plan) -> Plan {
    let text = match &plan {
        Plan::Query(compiled) => &compiled.sql,
        Plan::Metric { sql, .. } => sql,
        Plan::Shape { .. } | Plan::Refused(_) => return plan,
    };
    match sql::parse_generated(text)
        .ok()
        .and_then(|query| scope::forbidden_function(&query))
    {
        Some(reason) => Plan::Refused(reason),
        None => plan,
    }
}

fn user_query(
    scope: &mut scope::Scope<'_>,
    rule: &Rule,
    text: &crate::rule::Sql,
) -> Option<Compiled> {
    if let Err(error) = sql::parse_query(text) {
        scope.diagnostics.push(error);
        return None;
    }
    let query = sql::without_end(&text.value).trim();
    let mut sql = query.to_owned();
    if rule.filter.is_some() || rule.impact.is_some() {
        let impact = rule.impact.as_ref().map_or_else(String::new, |impact| {
            format!(", ({}\n) AS {}", impact.value.trim(), scope::quote(IMPACT))
        });
        let filter = rule
            .filter
            .as_ref()
            .map_or_else(String::new, |f| format!(" WHERE ({}\n)", f.value.trim()));
        sql = format!("SELECT *{impact} FROM (\n{query}\n) AS \"_rows\"{filter}");
    }
    let key = match (&rule.key, &rule.table) {
        (Some(key), _) => key.iter().map(|column| column.value.clone()).collect(),
        (None, Some(table)) => scope.table(table)?.primary_key_names(),
        (None, None) => Vec::new(),
    };
    Some(Compiled {
        key,
        evidence: Vec::new(),
        sql,
        judged: Judged::Returned,
        impact: rule.impact.is_some(),
        expand: Expand::None,
        members: None,
    })
}

/// The key and evidence columns of a `sql:` rule, once its output columns are known: the wanted key where the output has all
/// of it, else the whole row. The error names key columns that a rule asks for and its query does not return.
pub fn sql_key(
    rule: &Rule,
    compiled: &mut Compiled,
    output: &[String],
) -> Result<(), Vec<Diagnostic>> {
    let output: Vec<&String> = output.iter().filter(|name| *name != IMPACT).collect();
    let missing: Vec<_> = rule
        .key
        .iter()
        .flatten()
        .filter(|column| !output.contains(&&column.value))
        .collect();
    if !missing.is_empty() {
        let known = output.iter().map(|name| name.as_str()).collect::<Vec<_>>();
        let message = |name: &str| {
            format!(
                "the query of rule `{}` does not return the key column `{name}`",
                rule.id
            )
        };
        let hint = format!("it returns: {}", known.join(", "));
        return Err(missing
            .iter()
            .map(|c| c.span.error(message(&c.value)).with_hint(hint.clone()))
            .collect());
    }
    if compiled.key.is_empty() || !compiled.key.iter().all(|name| output.contains(&name)) {
        compiled.key = output.iter().map(|name| (*name).clone()).collect();
    }
    compiled.evidence = output
        .into_iter()
        .filter(|name| !compiled.key.contains(name))
        .cloned()
        .collect();
    Ok(())
}

fn shape(
    scope: &mut scope::Scope<'_>,
    rule: &Rule,
    columns: &[(crate::rule::ColumnRef, crate::rule::Spanned<String>)],
    strict: bool,
) -> Option<Plan> {
    let subject = subject::Subject::new(scope, rule)?;
    let mut violations = Vec::new();
    for (column, wanted) in columns {
        let expected = value::parse_type(&wanted.value);
        if expected.is_none() {
            scope.error(
                &wanted.span,
                format!("`{}` is no type", wanted.value),
                "write a Postgres type, e.g. `bigint`",
            );
            continue;
        }
        let found = subject
            .table
            .column(&column.value)
            .map(|column| column.data_type.to_string());
        let expected = expected.map(|data_type| data_type.to_string());
        if found != expected {
            violations.push((column.value.clone(), expected, found));
        }
    }
    if strict {
        let extra = subject
            .table
            .columns
            .iter()
            .filter(|have| !columns.iter().any(|(c, _)| c.value == have.name));
        violations
            .extend(extra.map(|have| (have.name.clone(), None, Some(have.data_type.to_string()))));
    }
    violations.sort();
    scope.diagnostics.is_empty().then(|| Plan::Shape {
        violations,
        judged: subject.judged(),
    })
}

fn metric(
    scope: &mut scope::Scope<'_>,
    rule: &Rule,
    text: &crate::rule::Sql,
    every_us: i64,
    detect: &Detect,
) -> Option<Plan> {
    let subject = subject::Subject::new(scope, rule)?;
    let lower = text.value.trim_start().to_lowercase();
    let sql = if lower.starts_with("select") || lower.starts_with("with") {
        if let Err(error) = sql::parse_query(text) {
            scope.diagnostics.push(error);
            return None;
        }
        sql::without_end(&text.value).trim().to_owned()
    } else {
        let value = scope.fragment(subject.table, text)?;
        if matches!(value.expr, Expr::Subquery(_)) {
            // A query in parentheses stands by itself: over the subject it would be asked once a row, and never of no rows.
            let sql = format!("SELECT {}", value.wrapped());
            return Some(Plan::Metric {
                sql,
                every_us,
                detect: detect.clone(),
                judged: subject.judged(),
            });
        }
        let filter = subject
            .filter
            .as_ref()
            .map_or_else(String::new, |f| format!(" WHERE {}", f.wrapped()));
        format!(
            "SELECT {} FROM {}{filter}",
            value.wrapped(),
            scope::read(subject.table)
        )
    };
    Some(Plan::Metric {
        sql,
        every_us,
        detect: detect.clone(),
        judged: subject.judged(),
    })
}
