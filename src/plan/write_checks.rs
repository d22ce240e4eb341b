//! SQL of the checks that judge writes: the net effect of each commit on each row, from `writes.<table>`.

use super::scope::{Scope, quote, quote_text};
use super::state_checks::names;
use super::subject::Subject;
use super::{Compiled, Expand, IMPACT};
use crate::change::{Commit, Op};
use crate::rule::{Check, ColumnRef, Literal, Rule, Spanned, Sql};
use crate::schema::{Column, DataType, Table};

/// The name of the relation that pairs a table's images by the given columns: `orders`, or `orders(a,b)` where the table has
/// no primary key and the rule names one.
pub(super) fn relation_name(table: &Table, pairing: &[String]) -> String {
    let short = table.name.short();
    if pairing.is_empty() {
        short
    } else {
        format!("{short}({})", pairing.join(","))
    }
}

/// The writes of a rule's subject.
struct Writes<'a> {
    subject: Subject<'a>,
    /// The first commit that is looked at.
    since: Commit,
    relation: String,
    steps: String,
    /// Columns that pair the images, as the relation's `key_…` has them.
    pairing: Vec<String>,
}

impl<'a> Writes<'a> {
    fn new(scope: &mut Scope<'a>, rule: &Rule, since: Commit) -> Option<Self> {
        let subject = Subject::new(scope, rule)?;
        let table = subject.table;
        let by_rule = table.primary_key.is_empty() && rule.key.is_some();
        let name = relation_name(table, if by_rule { &subject.key } else { &[] });
        let pairing = if by_rule {
            subject.key.clone()
        } else if table.primary_key.is_empty() {
            table
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect()
        } else {
            table.primary_key_names()
        };
        Some(Writes {
            since,
            relation: format!("\"writes\".{} AS \"w\"", quote(&name)),
            steps: format!("\"steps\".{}", quote(&name)),
            pairing,
            subject,
        })
    }

    /// A key column of the subject: before the write, or after it where the row is new.
    fn key(&self, name: &str) -> String {
        if self.pairing.iter().any(|have| have == name) {
            return quote(&format!("key_{name}"));
        }
        format!(
            "CASE WHEN \"op\" = 'insert' THEN {} ELSE {} END",
            quote(&format!("after_{name}")),
            quote(&format!("before_{name}"))
        )
    }

    /// Leaves out commits before the rule's `since`.
    fn recent(&self) -> Option<String> {
        (self.since > 0).then(|| format!("\"w\".\"commit\" >= {}", self.since))
    }

    /// The rule's `where`, on the image before the write, or after it where the row is new.
    fn filter(&self) -> Option<String> {
        let filter = self.subject.filter.as_ref()?;
        Some(format!(
            "CASE WHEN \"op\" = 'insert' THEN {} ELSE {} END",
            filter.prefixed("after_"),
            filter.prefixed("before_")
        ))
    }

    /// One violation for each key with a write for which `condition` is true; evidence is the commit and the columns' images.
    fn events(&self, columns: &[&str], condition: &str) -> Compiled {
        let mut select: Vec<String> = self
            .subject
            .key
            .iter()
            .map(|name| format!("{} AS {}", self.key(name), quote(name)))
            .collect();
        let mut evidence: Vec<String> = Vec::new();
        let mut add = |name: String, select: &mut Vec<String>| {
            let shown = super::state_checks::free_name(&name, &self.subject.key, &evidence);
            select.push(format!("\"w\".{} AS {}", quote(&name), quote(&shown)));
            evidence.push(shown);
        };
        add("commit".into(), &mut select);
        add("op".into(), &mut select);
        for column in columns {
            add(format!("before_{column}"), &mut select);
            add(format!("after_{column}"), &mut select);
        }
        if let Some(impact) = &self.subject.impact {
            let (after, before) = (impact.prefixed("after_"), impact.prefixed("before_"));
            select.push(format!(
                "CASE WHEN \"op\" = 'insert' THEN {after} ELSE {before} END AS {}",
                quote(IMPACT)
            ));
        }
        let mut conditions = vec![format!("({condition})")];
        conditions.extend(self.recent());
        conditions.extend(self.filter());
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            select.join(", "),
            self.relation,
            conditions.join(" AND ")
        );
        Compiled {
            key: self.subject.key.clone(),
            evidence,
            sql,
            judged: self.subject.judged(),
            impact: self.subject.impact.is_some(),
            expand: Expand::None,
            members: None,
        }
    }

    /// One violation for each commit (and group) that a query over the writes returns.
    fn commits(&self, sql: String, groups: &[String], evidence: &[&str]) -> Compiled {
        let mut key = vec!["commit".to_owned()];
        key.extend(groups.iter().cloned());
        Compiled {
            key,
            evidence: evidence.iter().map(|name| (*name).to_owned()).collect(),
            sql,
            judged: self.subject.judged(),
            impact: false,
            expand: Expand::None,
            members: None,
        }
    }
}

fn before(name: &str) -> String {
    quote(&format!("before_{name}"))
}

fn after(name: &str) -> String {
    quote(&format!("after_{name}"))
}

fn changed(name: &str) -> String {
    format!("({} IS DISTINCT FROM {})", before(name), after(name))
}

/// Compiles a check of writes. None when something is wrong (the messages are in `scope`).
pub(super) fn compile<'a>(scope: &mut Scope<'a>, rule: &Rule, since: Commit) -> Option<Compiled> {
    let writes = Writes::new(scope, rule, since)?;
    let table = writes.subject.table;
    match &rule.check {
        Check::AppendOnly => Some(writes.events(&[], "\"op\" IN ('update', 'delete')")),
        Check::NoDelete => Some(writes.events(&[], "\"op\" = 'delete'")),
        Check::NoResurrection => Some(no_resurrection(&writes)),
        Check::Immutable { columns } => {
            let names = names(scope.columns(table, columns)?);
            let any: Vec<String> = names.iter().map(|name| changed(name)).collect();
            let condition = format!("\"op\" = 'update' AND ({})", any.join(" OR "));
            Some(writes.events(&super::state_checks::refs(&names), &condition))
        }
        Check::SetOnce { columns } => {
            let names = names(scope.columns(table, columns)?);
            let any: Vec<String> = names
                .iter()
                .map(|name| format!("({} IS NOT NULL AND {})", before(name), changed(name)))
                .collect();
            let condition = format!("\"op\" = 'update' AND ({})", any.join(" OR "));
            Some(writes.events(&super::state_checks::refs(&names), &condition))
        }
        Check::Transitions {
            column,
            allowed,
            initial,
        } => transitions(scope, &writes, column, allowed, initial.as_deref()),
        Check::Monotonic {
            column,
            increasing,
            strict,
        } => {
            let name = &scope.column(table, column)?.name;
            let operator = match (increasing, strict) {
                (true, false) => "<",
                (true, true) => "<=",
                (false, false) => ">",
                (false, true) => ">=",
            };
            let condition = format!(
                "\"op\" = 'update' AND {} {operator} {}",
                after(name),
                before(name)
            );
            Some(writes.events(&[name], &condition))
        }
        Check::Increments { column, by } => {
            let column = scope.column(table, column)?;
            let name = &column.name;
            let whole = matches!(
                column.data_type,
                DataType::Int16 | DataType::Int32 | DataType::Int64
            );
            // Whole numbers wrap around in the engine; decimals have room for one more.
            let was = if whole {
                format!("CAST({} AS decimal(38, 0))", before(name))
            } else {
                before(name)
            };
            let condition = format!(
                "\"op\" = 'update' AND {} <> {was} + ({})",
                after(name),
                by.value
            );
            Some(writes.events(&[name], &condition))
        }
        Check::Touched { column, when } => touched(scope, &writes, column, when.as_deref()),
        Check::BalancedTransaction { sum, per, filter } => {
            balanced(scope, &writes, sum, per, filter.as_ref())
        }
        Check::MassChange {
            max_rows,
            max_percent,
            ops,
        } => Some(mass_change(&writes, *max_rows, max_percent.as_ref(), ops)),
        other => unreachable!("{} judges no writes", other.kind()),
    }
}

fn no_resurrection(writes: &Writes<'_>) -> Compiled {
    let gone: Vec<String> = writes
        .pairing
        .iter()
        .map(|name| {
            let key = quote(&format!("key_{name}"));
            format!("(\"gone\".{key} IS NOT DISTINCT FROM \"w\".{key})")
        })
        .collect();
    let gone_writes = writes.relation.replace(" AS \"w\"", " AS \"gone\"");
    let condition = format!(
        "\"w\".\"op\" = 'insert' AND EXISTS (SELECT 1 FROM {gone_writes} WHERE \"gone\".\"op\" = 'delete' \
         AND \"gone\".\"commit\" < \"w\".\"commit\" AND {})",
        gone.join(" AND ")
    );
    writes.events(&[], &condition)
}

fn transitions<'a>(
    scope: &mut Scope<'a>,
    writes: &Writes<'a>,
    column: &ColumnRef,
    allowed: &[(Spanned<Literal>, Vec<Spanned<Literal>>)],
    initial: Option<&[Spanned<Literal>]>,
) -> Option<Compiled> {
    let column = scope.column(writes.subject.table, column)?;
    let (from, to) = (before(&column.name), after(&column.name));
    let mut legal = vec![format!("({from} IS NOT DISTINCT FROM {to})")];
    let mut complete = true;
    for (start, ends) in allowed {
        let start = is_value(scope, &from, std::slice::from_ref(start), column);
        let end = is_value(scope, &to, ends, column);
        match (start, end) {
            (Some(start), Some(end)) => legal.push(format!("({start} AND {end})")),
            _ => complete = false,
        }
    }
    let begin = match initial {
        Some(values) => is_value(scope, &to, values, column),
        None => Some("true".to_owned()),
    };
    let begin = begin?;
    if !complete {
        return None;
    }
    let illegal = format!(
        "CASE WHEN \"op\" = 'update' THEN NOT ({}) WHEN \"op\" = 'insert' THEN NOT ({begin}) ELSE false END",
        legal.join(" OR ")
    );
    // A net step that is illegal may still have gone through legal ones. A row that was deleted and inserted again in one commit
    // went through none: what its deletion and insertion make together is the net step.
    let same: Vec<String> = writes
        .pairing
        .iter()
        .map(|name| {
            let key = quote(&format!("key_{name}"));
            format!("(\"step\".{key} IS NOT DISTINCT FROM \"w\".{key})")
        })
        .collect();
    let condition = format!(
        "{illegal} AND EXISTS (SELECT 1 FROM (SELECT *, ({illegal}) AS \"_illegal\" FROM {} \
         WHERE ({illegal}) OR \"op\" <> 'update') AS \"step\" WHERE \"step\".\"commit\" = \"w\".\"commit\" \
         AND (\"step\".\"_illegal\" OR \"w\".\"op\" = 'update') AND {})",
        writes.steps,
        same.join(" AND ")
    );
    Some(writes.events(&[&column.name], &condition))
}

/// True where the value is one of the literals; NULL is a value like any other here.
fn is_value(
    scope: &mut Scope<'_>,
    value: &str,
    literals: &[Spanned<Literal>],
    column: &Column,
) -> Option<String> {
    let mut parts = Vec::new();
    let mut list = Vec::new();
    let mut complete = true;
    for literal in literals {
        if literal.value == Literal::Null {
            parts.push(format!("{value} IS NULL"));
            continue;
        }
        match scope.literal(literal, column) {
            Some(sql) => list.push(sql),
            None => complete = false,
        }
    }
    if !list.is_empty() {
        parts.push(format!(
            "({value} IS NOT NULL AND {value} IN ({}))",
            list.join(", ")
        ));
    }
    complete.then(|| {
        if parts.is_empty() {
            "false".to_owned()
        } else {
            format!("({})", parts.join(" OR "))
        }
    })
}

fn touched<'a>(
    scope: &mut Scope<'a>,
    writes: &Writes<'a>,
    column: &ColumnRef,
    when: Option<&[ColumnRef]>,
) -> Option<Compiled> {
    let table = writes.subject.table;
    let name = scope
        .column(table, column)
        .map(|column| column.name.clone());
    let others = match when {
        Some(columns) => names(scope.columns(table, columns)?),
        None => table
            .columns
            .iter()
            .map(|c| c.name.clone())
            .filter(|other| Some(other) != name.as_ref())
            .collect(),
    };
    let name = name?;
    let any: Vec<String> = others.iter().map(|other| changed(other)).collect();
    let condition = format!(
        "\"op\" = 'update' AND ({} IS NOT DISTINCT FROM {}) AND ({})",
        before(&name),
        after(&name),
        if any.is_empty() {
            "false".to_owned()
        } else {
            any.join(" OR ")
        }
    );
    Some(writes.events(&[&name], &condition))
}

fn balanced<'a>(
    scope: &mut Scope<'a>,
    writes: &Writes<'a>,
    sum: &Sql,
    per: &[ColumnRef],
    filter: Option<&Sql>,
) -> Option<Compiled> {
    let table = writes.subject.table;
    let sum = scope.fragment(table, sum);
    let groups = scope.columns(table, per).map(names);
    let filter = scope.optional_fragment(table, filter);
    let (sum, groups, filter) = (sum?, groups?, filter?);
    let side = |prefix: &str, sign: &str, ops: &str| {
        let list: String = groups
            .iter()
            .map(|name| {
                format!(
                    "{} AS {}, ",
                    quote(&format!("{prefix}{name}")),
                    quote(&format!("_g_{name}"))
                )
            })
            .collect();
        let mut conditions = vec![format!("\"op\" IN ({ops})")];
        conditions.extend(writes.recent());
        conditions.extend(
            [&writes.subject.filter, &filter]
                .into_iter()
                .flatten()
                .map(|f| f.prefixed(prefix)),
        );
        format!(
            "SELECT \"commit\", {list}{sign}{} AS \"_delta\" FROM {} WHERE {}",
            sum.prefixed(prefix),
            writes.relation,
            conditions.join(" AND ")
        )
    };
    let inner: String = groups
        .iter()
        .map(|name| format!(", {}", quote(&format!("_g_{name}"))))
        .collect();
    let output: String = groups
        .iter()
        .map(|name| format!(", {} AS {}", quote(&format!("_g_{name}")), quote(name)))
        .collect();
    let shown = super::state_checks::free_name("difference", &groups, &["commit".to_owned()]);
    let sql = format!(
        "SELECT \"commit\"{output}, sum(\"_delta\") AS {} FROM ({} UNION ALL {}) AS \"_deltas\" GROUP BY \"commit\"{inner} \
         HAVING sum(\"_delta\") <> 0",
        quote(&shown),
        side("after_", "", "'insert', 'update'"),
        side("before_", "-", "'update', 'delete'"),
    );
    Some(writes.commits(sql, &groups, &[&shown]))
}

fn mass_change(
    writes: &Writes<'_>,
    max_rows: Option<u64>,
    max_percent: Option<&Spanned<String>>,
    ops: &[Op],
) -> Compiled {
    let ops: Vec<String> = ops.iter().map(|op| quote_text(op.as_str())).collect();
    let mut conditions = vec![format!("\"op\" IN ({})", ops.join(", "))];
    conditions.extend(writes.recent());
    conditions.extend(writes.filter());
    let mut limits: Vec<String> = max_rows
        .iter()
        .map(|max| format!("count(*) > {max}"))
        .collect();
    limits.extend(
        max_percent.map(|max| format!("count(*) * 100 > ({}) * \"rows_before\"", max.value)),
    );
    let sql = format!(
        "SELECT \"commit\", count(*) AS \"rows\", \"rows_before\" FROM {} WHERE {} GROUP BY \"commit\", \"rows_before\" \
         HAVING {}",
        writes.relation,
        conditions.join(" AND "),
        limits.join(" OR "),
    );
    writes.commits(sql, &[], &["rows", "rows_before"])
}
