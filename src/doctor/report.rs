//! The report of an examination: text for people, JSON for programs.

use serde_json::{Value, json};

use super::{Finding, Report, Severity};
use crate::diagnostic::counted;
use crate::escape::terminal;
use crate::report::shell_word;
use crate::report::table::wrap;

/// Where texts begin below a finding.
const INDENT: usize = 14;
/// So many ids of rules are listed.
const RULES: usize = 5;

/// The report for people, in lines of at most so many columns. Statements are never broken.
pub fn text(report: &Report, width: usize) -> String {
    let mut out = format!(
        "{} as {}: PostgreSQL {}, {}\n",
        terminal(&report.source),
        terminal(&report.role),
        terminal(&report.version),
        match report.rules {
            Some(_) => format!(
                "rules read {} of {}",
                report.tables.len(),
                counted(report.tables_all as u64, "table")
            ),
            None => format!(
                "as if rules read all {}",
                counted(report.tables_all as u64, "table")
            ),
        }
    );
    for (severity, title) in [
        (Severity::Blocks, "blocks watching"),
        (Severity::Weakens, "weakens it"),
        (Severity::Note, "worth knowing"),
    ] {
        let group: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|one| one.severity == severity)
            .collect();
        if group.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{title}\n"));
        for finding in group {
            out.push_str(&one(finding, width));
        }
    }
    out.push('\n');
    if let Some(rules) = identity(report) {
        out.push_str(&format!("identity   {rules}\n"));
    }
    out.push_str(&format!("watching   {}\n", watching(report)));
    out.push_str(&format!("reading    {}\n", reading(report)));
    out
}

fn one(finding: &Finding, width: usize) -> String {
    let mark = match finding.severity {
        Severity::Blocks => '✗',
        Severity::Weakens => '!',
        Severity::Note => '·',
    };
    let mut out = format!("  {mark} {}\n", terminal(&finding.message));
    let mut part = |label: &str, text: &str| {
        let text = terminal(text);
        let label = format!("      {label:<8}");
        for (at, line) in wrap(&text, width.saturating_sub(INDENT)).iter().enumerate() {
            let begin = if at == 0 { &label } else { &" ".repeat(INDENT) };
            out.push_str(&format!("{begin}{line}\n"));
        }
    };
    part("breaks", &finding.breaks);
    if let Some(hint) = &finding.hint {
        part("how", hint);
    }
    for statement in &finding.fix {
        // Alone on its line, so that it can be copied.
        out.push_str(&format!("      {}\n", terminal(statement)));
    }
    out
}

fn identity(report: &Report) -> Option<String> {
    let rules = report.rules.as_ref()?;
    let full: Vec<&str> = rules
        .iter()
        .filter(|rule| !rule.full.is_empty())
        .map(|rule| rule.rule.as_str())
        .collect();
    let all = counted(rules.len() as u64, "rule");
    Some(match full.len() {
        0 => format!("REPLICA IDENTITY DEFAULT is enough for {all}"),
        some => {
            let shown = full
                .iter()
                .take(RULES)
                .map(|id| terminal(id))
                .collect::<Vec<_>>()
                .join(", ");
            let more = match some.saturating_sub(RULES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "REPLICA IDENTITY DEFAULT is enough for {} of {all}; FULL, or a primary key, is needed by {shown}{more}",
                rules.len() - some
            )
        }
    })
}

fn watching(report: &Report) -> String {
    let blocks = report
        .findings
        .iter()
        .filter(|one| one.severity == Severity::Blocks)
        .count();
    match blocks {
        0 => "can begin".to_owned(),
        some => format!("cannot begin: {}", counted(some as u64, "finding")),
    }
}

fn reading(report: &Report) -> String {
    let source = terminal(&shell_word(&report.source));
    match (report.can_read(), report.is_blocked()) {
        (false, _) => "cannot begin either".to_owned(),
        (true, false) => "works".to_owned(),
        (true, true) => format!(
            "works: firstbad check {source}; without logical replication, firstbad watch {source} --mode snapshots"
        ),
    }
}

/// `firstbad/doctor@1`.
pub fn json(report: &Report) -> Value {
    let findings = report.findings.iter().map(|one| {
        json!({
            "id": one.id,
            "severity": one.severity.word(),
            "table": one.table,
            "message": one.message,
            "breaks": one.breaks,
            "fix": one.fix,
            "hint": one.hint,
            "stops_reading": one.stops_reading,
        })
    });
    let rules = report.rules.as_ref().map(|rules| {
        let rules = rules.iter().map(
            |rule| json!({"rule": rule.rule, "tables": rule.tables, "identity_full": rule.full}),
        );
        rules.collect::<Vec<Value>>()
    });
    json!({
        "schema": "firstbad/doctor@1",
        "source": report.source,
        "server_version": report.version,
        "role": report.role,
        "watching": !report.is_blocked(),
        "reading": report.can_read(),
        "tables": report.tables,
        "tables_all": report.tables_all,
        "rules": rules,
        "findings": findings.collect::<Vec<Value>>(),
    })
}
