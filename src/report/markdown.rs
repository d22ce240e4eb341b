//! Markdown for job summaries and pull requests: a table of what is violated or unknown, the keys folded away, one line on
//! the rest.
//!
//! Values stand in `<code>`: there GitHub and GitLab neither notify `@somebody` nor link `#1`.

use std::fmt::Write as _;

use crate::escape;
use crate::verdict::{CheckReport, Outcome};

use super::{Options, Rank, rank, shown_cut};

/// A comment may have 65,536 characters; blocks that would pass this are left out, and counted.
const BYTES_MAX: usize = 60_000;
/// A value or description is cut after so many characters.
const TEXT_MAX: usize = 200;
/// The most columns of key and evidence.
const COLUMNS_MAX: usize = 12;

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let outcomes = super::worst_first(report);
    let sign = match report.exit_code() {
        0 => "✅",
        1 => "❌",
        _ => "⚠️",
    };
    let mut out = format!("### {sign} firstbad: {}\n\n", super::verdict_counts(report));
    overview(&mut out, report, &outcomes);
    let blocks: Vec<String> = outcomes
        .iter()
        .filter(|o| rank(o) == Rank::Violated)
        .map(|outcome| block(outcome, options))
        .collect();
    let mut left = blocks.len();
    for block in &blocks {
        if out.len() + block.len() > BYTES_MAX {
            break;
        }
        out.push_str(block);
        left -= 1;
    }
    if left > 0 {
        let _ = writeln!(
            out,
            "… and the keys of {}, for which there is no room here.\n",
            super::counted(left as u64, "more rule")
        );
    }
    let at = super::position(&report.at).map_or(String::new(), |position| {
        format!(" at {}", escape::markdown(&position))
    });
    let _ = writeln!(
        out,
        "Judged {}{at} of {}.",
        super::counted(report.judged(), "row"),
        code(&super::source(report))
    );
    super::guard_commands(out)
}

/// Foreign text in a table cell or a line.
fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Foreign text that is no code: the comment keeps `@somebody` from being notified.
fn prose(text: &str) -> String {
    escaped(text).replace("&#64;", "&#64;<!-- -->")
}

/// Foreign text, cut and escaped, and without links that nobody wrote as such.
fn escaped(text: &str) -> String {
    escape::markdown(&shown_cut(text, TEXT_MAX))
        .replace("://", "&#58;//")
        .replace("www.", "www&#46;")
}

/// Foreign text inside an HTML block, where Markdown is not read.
fn html(text: &str) -> String {
    let text = shown_cut(text, TEXT_MAX);
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    format!("<code>{text}</code>")
}

fn overview(out: &mut String, report: &CheckReport, outcomes: &[&Outcome]) {
    let rows: Vec<&&Outcome> = outcomes
        .iter()
        .filter(|outcome| rank(outcome) < Rank::Tolerated)
        .collect();
    if rows.is_empty() {
        return;
    }
    let new = report.baselined();
    let (heading, line) = if new { (" new |", "---:|") } else { ("", "") };
    let _ = writeln!(
        out,
        "| | rule | severity | table | violations |{heading} judged | |"
    );
    let _ = writeln!(out, "|---|---|---|---|---:|{line}---:|---:|");
    let mut left = 0;
    for outcome in rows {
        let row = row(outcome, new);
        if out.len() + row.len() > BYTES_MAX / 2 {
            left += 1;
        } else {
            out.push_str(&row);
        }
    }
    out.push('\n');
    if left > 0 {
        let _ = writeln!(out, "… and {}.\n", super::counted(left, "more rule"));
    }
}

fn row(outcome: &Outcome, new: bool) -> String {
    let number = |figure: Option<u64>| figure.map_or("–".to_owned(), super::grouped);
    let (sign, violations, remark) = match rank(outcome) {
        Rank::Violated => (
            "❌",
            number(outcome.violations),
            prose(&super::percent(outcome).unwrap_or_default()),
        ),
        Rank::Accepted => ("☑️", number(outcome.violations), "accepted".to_owned()),
        Rank::Unknown => (
            "❔",
            "unknown".to_owned(),
            prose(outcome.reason.as_deref().unwrap_or("no reason was given")),
        ),
        _ => ("○", "–".to_owned(), "matched no row".to_owned()),
    };
    let table = super::table_name(outcome).map_or("–".to_owned(), code);
    let fresh = if new {
        format!(" {} |", number(outcome.new))
    } else {
        String::new()
    };
    let judged = number(outcome.judged);
    let (id, severity) = (code(&outcome.rule.id), outcome.severity().as_str());
    format!(
        "| {sign} | {id} | {severity} | {table} | {violations} |{fresh} {judged} | {remark} |\n"
    )
}

/// The keys of one violated rule, folded.
fn block(outcome: &Outcome, options: &Options) -> String {
    let rule = &outcome.rule;
    let count = super::counted(outcome.new.or(outcome.violations).unwrap_or(0), "violation");
    let mut out = format!(
        "<details>\n<summary>{}: {count}</summary>\n\n",
        html(&rule.id)
    );
    let mut about: Vec<String> = rule.description.iter().map(|text| prose(text)).collect();
    about.extend(
        rule.owner
            .iter()
            .map(|owner| format!("Owner: {}", code(owner))),
    );
    about.extend(
        rule.runbook
            .iter()
            .map(|url| format!("Runbook: {}", code(url))),
    );
    about.extend(
        outcome
            .impact
            .iter()
            .map(|impact| format!("Impact: {}", code(impact))),
    );
    let file = format!("{}:{}", super::rule_file(outcome), rule.span.line);
    about.push(format!("Rule: {}", code(&file)));
    let _ = writeln!(out, "{}\n", about.join("<br>\n"));
    let listed = super::new_sample(outcome, options);
    keys(&mut out, &listed);
    let more = super::left_off(outcome, listed.len());
    if more > 0 {
        let _ = writeln!(out, "… and {} more\n", super::grouped(more));
    }
    out.push_str("</details>\n\n");
    out
}

/// Keys and evidence as a table, the key's columns first.
fn keys(out: &mut String, listed: &[&crate::verdict::Violation]) {
    let mut names: Vec<(bool, &String)> = Vec::new();
    for violation in listed {
        let key = violation.key.keys().map(|name| (true, name));
        let beyond = violation
            .evidence
            .iter()
            .filter(|(name, value)| violation.key.get(*name) != Some(*value));
        for name in key.chain(beyond.map(|(name, _)| (false, name))) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_by_key(|(is_key, _)| !is_key);
    names.truncate(COLUMNS_MAX);
    if names.is_empty() {
        return;
    }
    let heading: Vec<String> = names.iter().map(|(_, name)| prose(name)).collect();
    let _ = writeln!(
        out,
        "| {} |\n|{}",
        heading.join(" | "),
        "---|".repeat(names.len())
    );
    for violation in listed {
        let cell = |(is_key, name): &(bool, &String)| {
            let map = if *is_key {
                &violation.key
            } else {
                &violation.evidence
            };
            map.get(*name)
                .map_or(String::new(), |value| code(&super::value(value)))
        };
        let cells: Vec<String> = names.iter().map(cell).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}
