//! GitHub Actions annotations: one workflow command for each rule that is violated by something new or could not be judged,
//! the worst first, since GitHub shows only the first ten of each level and step; then one line of plain text.

use crate::escape;
use crate::rule::Severity;
use crate::verdict::{CheckReport, Outcome};

use super::{Options, Rank, rank, shown_cut};

/// An annotation names as many keys; it is small on the page.
const KEYS_MAX: usize = 5;
/// A description, a reason or a violation is cut after so many characters.
const TEXT_MAX: usize = 300;

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let mut out = String::new();
    for outcome in super::worst_first(report) {
        let id = shown_cut(&outcome.rule.id, TEXT_MAX);
        match rank(outcome) {
            Rank::Violated => {
                let title = format!("{id}: {}", super::figures(report, outcome));
                out.push_str(&command(
                    level(outcome.severity()),
                    outcome,
                    &title,
                    &message(outcome, options),
                ));
            }
            Rank::Unknown => {
                let reason = shown_cut(
                    outcome.reason.as_deref().unwrap_or("no reason was given"),
                    TEXT_MAX,
                );
                out.push_str(&command(
                    "warning",
                    outcome,
                    &format!("{id} could not be judged"),
                    &reason,
                ));
            }
            _ => {}
        }
    }
    let at =
        super::position(&report.at).map_or(String::new(), |position| format!(" at {position}"));
    out.push_str(&format!("{}{at}\n", super::verdict_counts(report)));
    out
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::Error => "error",
        Severity::Warn => "warning",
        Severity::Info => "notice",
    }
}

fn message(outcome: &Outcome, options: &Options) -> String {
    let mut lines = Vec::new();
    lines.extend(
        outcome
            .rule
            .description
            .as_ref()
            .map(|text| shown_cut(text, TEXT_MAX)),
    );
    let few = Options {
        sample: Some(options.sample.unwrap_or(KEYS_MAX).min(KEYS_MAX)),
        ..*options
    };
    let listed = super::new_sample(outcome, &few);
    lines.extend(
        listed
            .iter()
            .map(|violation| shown_cut(&super::violation_line(violation), TEXT_MAX)),
    );
    let more = super::left_off(outcome, listed.len());
    if more > 0 && !listed.is_empty() {
        lines.push(format!("… and {} more", super::grouped(more)));
    }
    lines.extend(
        outcome
            .rule
            .runbook
            .as_ref()
            .map(|url| format!("runbook: {}", shown_cut(url, TEXT_MAX))),
    );
    if lines.is_empty() {
        lines.push(outcome.rule.check.kind().to_owned());
    }
    lines.join("\n")
}

fn command(level: &str, outcome: &Outcome, title: &str, message: &str) -> String {
    let span = &outcome.rule.span;
    let property = |name: &str, value: &str| format!("{name}={}", escape::github_property(value));
    let mut properties = vec![property(
        "file",
        &escape::terminal(&super::rule_file(outcome)),
    )];
    if span.line > 0 {
        properties.push(property("line", &span.line.to_string()));
        if span.column > 0 {
            properties.push(property("col", &span.column.to_string()));
        }
    }
    properties.push(property("title", title));
    format!(
        "::{level} {}::{}\n",
        properties.join(","),
        escape::github(message)
    )
}
