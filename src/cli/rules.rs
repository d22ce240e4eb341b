//! `firstbad rules`: rule files looked at without judging data.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::settings::Source;
use super::{Outcome, Stop, exit, inputs, live, output};
use crate::case::{self, CaseResult};
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic, Level, counted};
use crate::escape;
use crate::judge::{Judge, Limits, Options, Prepared};
use crate::plan::{Judged, Plan};
use crate::rule::{Check, Rule};
use crate::schema::{Schema, ddl};
use crate::state::{History, Origin};

/// The verbs of `firstbad rules`
#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Check rule files: every mistake with its place and what to write instead
    Lint(Common),
    /// Run the cases inside rule files
    Test(Common),
    /// Show the SQL of rules, what they read and how they are judged
    Explain(Common),
    /// List rules
    List(ListArgs),
}

/// Arguments that all verbs have
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Only these rules
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Rule file or directory (can be repeated) [default: rules of firstbad.yaml, then SOURCE/rules, then ./rules]
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Check names and types against this schema.sql [default: the one beside the rules' directory or in the source of firstbad.yaml, if any]
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    schema: Option<PathBuf>,
    /// Check names and types against this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

/// Arguments of `firstbad rules list`
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    common: Common,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

/// Rules with what is known of the schema that they are meant for.
struct Loaded {
    rules: Vec<Rule>,
    found: Vec<Diagnostic>,
    schema: Option<Schema>,
}

pub(super) fn run(command: &RulesCommand, config: &Config, verbose: u8) -> Outcome {
    match command {
        RulesCommand::Lint(common) => lint(common, config),
        RulesCommand::Test(common) => test(common, config, verbose),
        RulesCommand::Explain(common) => explain(common, config, verbose),
        RulesCommand::List(arguments) => list(arguments, config, verbose),
    }
}

fn load(common: &Common, config: &Config, verbose: u8) -> Result<Loaded, Stop> {
    let named = common.source.as_ref();
    let named = named.map(|source| Source::named(std::slice::from_ref(source)));
    let source = named.or_else(|| Source::of(config));
    let paths = inputs::rule_paths(&common.rules, config, source.as_ref())?;
    let (rules, mut found) = inputs::load_rules(&paths);
    let schema = match (&common.source, schema_file(common, config, &paths)) {
        (Some(source), _) => {
            let source = std::slice::from_ref(source);
            match live::open(source, None, verbose)? {
                Some(live) => Some(live.empty().schema),
                None => {
                    let opened = inputs::open(source, None, verbose)?;
                    found.extend(opened.diagnostics);
                    Some(opened.history.schema)
                }
            }
        }
        (None, Some(file)) => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                let file = output::mask().path(&file);
                output::world(&format!("cannot read {}", file.display()), &error)
            })?;
            let (schema, notes) = ddl::parse(&text, &file);
            found.extend(notes);
            Some(schema)
        }
        (None, None) => None,
    };
    Ok(Loaded {
        rules,
        found,
        schema,
    })
}

/// `--schema`, else a schema.sql in the directory that holds the rules' directory, else the one of the source that the file names.
fn schema_file(common: &Common, config: &Config, paths: &[PathBuf]) -> Option<PathBuf> {
    let of_source = || match config.source.as_slice() {
        [source] => Some(Path::new(source.value()).join("schema.sql")),
        _ => None,
    };
    let found = common.schema.clone().or_else(|| schema_beside(paths));
    found.or_else(|| of_source().filter(|file| file.is_file()))
}

/// A schema.sql in the directory that holds the rules' directory.
fn schema_beside(paths: &[PathBuf]) -> Option<PathBuf> {
    let [path] = paths else { return None };
    let absolute = std::fs::canonicalize(path).ok()?;
    let directory = if absolute.is_dir() {
        absolute.as_path()
    } else {
        absolute.parent()?
    };
    let above = directory.parent()?.join("schema.sql");
    // Shown as the user would write it.
    let short = || {
        Some(
            if path.is_dir() {
                path.parent()?
            } else {
                path.parent()?.parent()?
            }
            .join("schema.sql"),
        )
    };
    above
        .is_file()
        .then(|| short().filter(|short| short.is_file()).unwrap_or(above))
}

/// Stops when a rule file is wrong; otherwise shows warnings and picks the wanted rules.
fn usable(
    loaded: Loaded,
    ids: &[String],
    verbose: u8,
) -> Result<(Vec<Rule>, Option<Schema>), Stop> {
    if diagnostic::any_error(&loaded.found) {
        return Err(output::wrong_input(&loaded.found, verbose));
    }
    output::diagnostics(&loaded.found, verbose);
    Ok((inputs::select(loaded.rules, ids, &[])?, loaded.schema))
}

/// Plans a rule against the schema it is meant for, or one inferred from itself.
fn prepare(rule: &Rule, schema: Option<&Schema>) -> Result<(Judge, Prepared), Vec<Diagnostic>> {
    let schema = schema
        .cloned()
        .unwrap_or_else(|| case::inferred_schema(rule));
    let history = Arc::new(History::new(schema, Origin::Changes, false));
    let options = Options {
        position: 0,
        now_us: Some(0),
        sample: Some(0),
    };
    let judge = Judge::new(history, Limits::default()).map_err(|error| {
        vec![
            rule.span
                .error(format!("the engine cannot be started: {error}")),
        ]
    })?;
    let mut undated = rule.clone();
    // A position of some history: here there is none.
    undated.since = None;
    let mut prepared = judge.prepare(std::slice::from_ref(&undated), &options)?;
    let prepared = prepared.pop().expect("one rule in, one out");
    Ok((judge, prepared))
}

fn lint(common: &Common, config: &Config) -> Outcome {
    let mut loaded = load(common, config, 1)?;
    if let Some(schema) = &loaded.schema {
        let wrong = loaded
            .rules
            .iter()
            .filter_map(|rule| prepare(rule, Some(schema)).err());
        loaded.found.extend(wrong.flatten());
    }
    for rule in &loaded.rules {
        if let Some(reason) = &rule.refused {
            let diagnostic = rule
                .span
                .error(format!("rule `{}` cannot be judged: {reason}", rule.id));
            loaded.found.push(diagnostic.with_level(Level::Warning));
        }
    }
    let about_rules =
        |found: &Diagnostic| found.level != Level::Note || found.source_line.is_some();
    loaded.found.retain(about_rules);
    if diagnostic::any_error(&loaded.found) {
        return Err(output::wrong_input(&loaded.found, 1));
    }
    output::diagnostics(&loaded.found, 1);
    let rules = inputs::select(loaded.rules, &common.ids, &[])?;
    let against = if loaded.schema.is_some() {
        ""
    } else {
        " (names not checked: no schema.sql; --source SOURCE checks them)"
    };
    let count = counted(rules.len() as u64, "rule");
    let are = if rules.len() == 1 { "is" } else { "are" };
    output::print(&format!("{count} {are} well formed{against}\n"));
    Ok(exit::HELD)
}

fn test(common: &Common, config: &Config, verbose: u8) -> Outcome {
    let (rules, schema) = usable(load(common, config, verbose)?, &common.ids, verbose)?;
    let (mut passed, mut failed) = (0, 0);
    let mut without: Vec<&str> = Vec::new();
    let mut broken = Vec::new();
    for rule in &rules {
        if rule.cases.is_empty() {
            without.push(&rule.id);
        }
        for case in &rule.cases {
            let name = escape::terminal(&case.name);
            match case::run(rule, case, fitting(schema.as_ref(), rule)) {
                CaseResult::Passed => {
                    passed += 1;
                    if verbose > 0 {
                        output::print(&format!("ok      {}: {name}\n", rule.id));
                    }
                }
                CaseResult::Failed { expected, found } => {
                    failed += 1;
                    let file = output::mask().path(&case.span.file);
                    let place = format!("{}:{}", file.display(), case.span.line);
                    output::print(&format!(
                        "FAILED  {}: {name}\n        at {}\n        expected {}\n        found    {}\n",
                        rule.id,
                        escape::terminal(&place),
                        escape::terminal(&expected),
                        escape::terminal(&found)
                    ));
                }
                CaseResult::Broken(diagnostics) => broken.extend(diagnostics),
            }
        }
    }
    if !broken.is_empty() {
        return Err(output::wrong_input(&broken, verbose));
    }
    let cases = passed + failed;
    let mut summary = format!(
        "{} of {}: {passed} passed, {failed} failed",
        counted(cases, "case"),
        counted((rules.len() - without.len()) as u64, "rule")
    );
    if !without.is_empty() {
        let count = counted(without.len() as u64, "rule");
        let have = if without.len() == 1 { "has" } else { "have" };
        let _ = write!(summary, "; {count} {have} no case");
    }
    output::print(&format!("{summary}\n"));
    Ok(if failed > 0 {
        exit::VIOLATED
    } else {
        exit::HELD
    })
}

/// The schema, if it knows the rule's tables: a case may use tables of its own.
fn fitting<'a>(schema: Option<&'a Schema>, rule: &Rule) -> Option<&'a Schema> {
    let schema = schema?;
    let given = rule
        .cases
        .iter()
        .flat_map(|case| &case.given)
        .map(|(table, _)| table);
    let all_known = rule
        .table
        .iter()
        .chain(given)
        .all(|table| schema.table(&table.value).is_some());
    all_known.then_some(schema)
}

fn explain(common: &Common, config: &Config, verbose: u8) -> Outcome {
    let (rules, schema) = usable(load(common, config, verbose)?, &common.ids, verbose)?;
    let mut wrong = Vec::new();
    let mut texts = Vec::new();
    for rule in &rules {
        match prepare(rule, schema.as_ref()) {
            Ok((judge, prepared)) => texts.push(explanation(&judge, &prepared, verbose)),
            Err(diagnostics) => wrong.extend(diagnostics),
        }
    }
    if !wrong.is_empty() {
        return Err(output::wrong_input(&wrong, verbose));
    }
    output::print(&texts.join("\n"));
    Ok(exit::HELD)
}

fn explanation(judge: &Judge, prepared: &Prepared, verbose: u8) -> String {
    let rule = &prepared.rule;
    let mut out = String::new();
    let line = |out: &mut String, name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<9} {}", escape::terminal(text));
    };
    let _ = writeln!(out, "{}", rule.id);
    if let Some(description) = &rule.description {
        line(&mut out, "holds", description);
    }
    let place = format!("{}:{}", rule.span.file.display(), rule.span.line);
    line(
        &mut out,
        "rule",
        &format!("{} at {place}", rule.check.kind()),
    );
    match &prepared.plan {
        Plan::Query(compiled) => {
            let key = if compiled.key.is_empty() {
                "{} (one for the table)".to_owned()
            } else {
                compiled.key.join(", ")
            };
            line(&mut out, "key", &key);
            let judged = match &compiled.judged {
                Judged::Query(sql) => sql.clone(),
                Judged::Returned => "the rows that the query returns".to_owned(),
            };
            line(&mut out, "judged", &judged);
            let _ = writeln!(out, "  query");
            for row in pretty(&compiled.sql).lines() {
                let _ = writeln!(out, "    {}", escape::terminal(row));
            }
        }
        Plan::Metric { sql, .. } => line(&mut out, "figure", sql),
        Plan::Shape { .. } => line(&mut out, "query", "none: the schema itself is compared"),
        Plan::Refused(reason) => line(&mut out, "refused", reason),
    }
    let reads = prepared.reads();
    for (table, columns) in &reads {
        line(
            &mut out,
            "reads",
            &format!("{table} ({})", columns.join(", ")),
        );
    }
    line(&mut out, "check", &way(rule));
    line(&mut out, "bisect", &judge.road(prepared).to_string());
    if verbose > 0
        && let Some(plan) = prepared.logical_plan()
    {
        let _ = writeln!(out, "  plan");
        plan.lines()
            .for_each(|row| _ = writeln!(out, "    {}", escape::terminal(row)));
    }
    out
}

/// How a rule is judged, in words.
fn way(rule: &Rule) -> String {
    let mut way = match &rule.check {
        Check::SchemaShape { .. } => "the schema, not the rows".to_owned(),
        Check::Metric { .. } => "in full, on the states at now and at each step before it".to_owned(),
        check if check.judges_writes() => {
            "the net effect of every commit up to the position; unknown where the source has no changes".to_owned()
        }
        _ => "in full, on the state at the position".to_owned(),
    };
    if rule.within_us.is_some() && !rule.check.judges_writes() {
        way.push_str("; since when each violating key was bad (within) is found as by bisect");
    }
    if rule.since.is_some() {
        way.push_str("; violations that began before `since` are left out");
    }
    way
}

/// SQL with a line for each clause of its outermost query.
fn pretty(sql: &str) -> String {
    let mut out = String::new();
    let mut depth = 0i32;
    let mut quote: Option<char> = None;
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        if depth == 0 && quote.is_none() {
            let clause = [
                " FROM ",
                " WHERE ",
                " GROUP BY ",
                " HAVING ",
                " LEFT JOIN ",
                " FULL JOIN ",
                " ORDER BY ",
                " UNION ALL ",
            ];
            if let Some(found) = clause.iter().find(|clause| rest.starts_with(**clause)) {
                out.push('\n');
                out.push_str(found.trim_start());
                rest = &rest[found.len()..];
                continue;
            }
        }
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn list(arguments: &ListArgs, config: &Config, verbose: u8) -> Outcome {
    let (rules, _) = usable(
        load(&arguments.common, config, verbose)?,
        &arguments.common.ids,
        verbose,
    )?;
    if arguments.format == "json" {
        let rules: Vec<_> = rules.iter().map(as_json).collect();
        let document = json!({"schema": "firstbad/rules@1", "rules": rules});
        output::print(&format!("{document:#}\n"));
        return Ok(exit::HELD);
    }
    use comfy_table::{Table, presets};
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["rule", "check", "table", "severity", "owner", "cases"]);
    for rule in &rules {
        let subject = rule
            .table
            .as_ref()
            .map_or_else(|| "-".to_owned(), |table| table.value.short());
        table.add_row([
            escape::terminal(&rule.id),
            rule.check.kind().to_owned(),
            escape::terminal(&subject),
            rule.severity.as_str().to_owned(),
            escape::terminal(rule.owner.as_deref().unwrap_or("-")),
            rule.cases.len().to_string(),
        ]);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    output::print(&format!(
        "{}\n\n{}\n",
        lines.join("\n"),
        counted(rules.len() as u64, "rule")
    ));
    Ok(exit::HELD)
}

fn as_json(rule: &Rule) -> serde_json::Value {
    json!({
        "id": rule.id,
        "check": rule.check.kind(),
        "table": rule.table.as_ref().map(|table| table.value.to_string()),
        "severity": rule.severity.as_str(),
        "description": rule.description,
        "owner": rule.owner,
        "tags": rule.tags,
        "runbook": rule.runbook,
        "cases": rule.cases.len(),
        "location": {"file": shown(&rule.span.file), "line": rule.span.line},
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
