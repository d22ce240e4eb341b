//! The report for people: a table to read at a glance, the worst first; a block for every rule that is violated by
//! something new; what could not be judged and why; one line that sums it up.

use std::fmt::Write as _;

use crate::rule::Threshold;
use crate::verdict::{CheckReport, Given, Outcome, Verdict};

use super::command::Command;
use super::page::{Ink, Page, TABLE_INDENT};
use super::table::{self, Column};
use super::{Options, Rank, grouped, rank, shown_cut};

/// Flags that decide what is violated.
const SAME_VERDICTS: [&str; 5] = [
    "--at",
    "--now",
    "--redact",
    "--rule-timeout",
    "--memory-limit",
];
/// Flags that decide what of it is shown as well.
const SAME_REPORT: [&str; 6] = [
    "--at",
    "--now",
    "--baseline",
    "--redact",
    "--rule-timeout",
    "--memory-limit",
];

/// Blocks after these are left to `--format json`.
const BLOCKS_MAX: usize = 50;
/// As many rules that hold are listed one by one; more are one line.
const HELD_ROWS_MAX: usize = 6;
/// The widest a value of a key or of evidence gets, in columns.
const VALUE_WIDTH_MAX: usize = 48;
/// The most columns of key and evidence in one block.
const VALUE_COLUMNS_MAX: usize = 24;
/// Blanks before what belongs to a rule; values stand twice as far in.
const INDENT: usize = 2;
/// Ids are cut to so many columns only when nothing else gives way.
const RULE_WIDTH_MIN: usize = 42;
/// The least that is left of an id.
const ID_WIDTH_MIN: usize = 12;
/// The report being written.
struct Writer<'a> {
    report: &'a CheckReport,
    options: &'a Options,
    page: Page,
}

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let mut writer = Writer {
        report,
        options,
        page: Page::new(options),
    };
    let outcomes = super::worst_first(report);
    writer.overview(&outcomes);
    let violated: Vec<&Outcome> = outcomes
        .iter()
        .copied()
        .filter(|o| rank(o) == Rank::Violated)
        .collect();
    for outcome in violated.iter().take(BLOCKS_MAX) {
        writer.block(outcome);
    }
    if violated.len() > BLOCKS_MAX {
        let more = (violated.len() - BLOCKS_MAX) as u64;
        writer.page.line(&format!(
            "… and {} more: --format json lists them all",
            super::counted(more, "more violated rule")
        ));
        writer.page.blank();
    }
    writer.aside(&outcomes);
    writer.summary();
    writer.page.finish()
}

impl Writer<'_> {
    fn mark(&self, outcome: &Outcome) -> String {
        match rank(outcome) {
            Rank::Violated if self.report.fails(outcome) => self.page.paint(Ink::Red, "✗"),
            Rank::Violated | Rank::Unknown => self.page.paint(Ink::Yellow, mark(outcome)),
            Rank::Accepted | Rank::Vacuous => self.page.paint(Ink::Faint, mark(outcome)),
            Rank::Tolerated | Rank::Held => self.page.paint(Ink::Green, mark(outcome)),
        }
    }

    /// The table of all rules that say something, and one line for those that hold; the summary is enough where all do.
    fn overview(&mut self, outcomes: &[&Outcome]) {
        let held = outcomes
            .iter()
            .filter(|outcome| rank(outcome) == Rank::Held)
            .count();
        let few = held <= HELD_ROWS_MAX;
        let rows: Vec<&Outcome> = outcomes
            .iter()
            .copied()
            .filter(|o| few || rank(o) != Rank::Held)
            .collect();
        if !rows.is_empty() {
            let lines = table::lines(&fitted(
                overview_columns(self.report, &rows),
                self.page.width,
            ));
            for (at, line) in lines.iter().enumerate() {
                let line = match at.checked_sub(1).and_then(|row| rows.get(row)) {
                    Some(outcome) => line.replacen(mark(outcome), &self.mark(outcome), 1),
                    None => self.page.paint(Ink::Faint, line),
                };
                self.page.line(&line);
            }
        }
        if !few && !rows.is_empty() {
            let judged: u64 = outcomes
                .iter()
                .filter(|o| rank(o) == Rank::Held)
                .filter_map(|o| o.judged)
                .sum();
            let text = format!(
                "{} held, {} judged",
                super::counted(held as u64, "rule"),
                super::counted(judged, "row")
            );
            let mark = self.page.paint(Ink::Green, "✓");
            self.page.line(&format!("{mark} {text}"));
        }
        if !rows.is_empty() {
            self.page.blank();
        }
    }

    /// Everything about one violated rule.
    fn block(&mut self, outcome: &Outcome) {
        let rule = &outcome.rule;
        let id = self.page.paint(
            Ink::Bold,
            &shown_cut(&rule.id, self.page.width.saturating_sub(3)),
        );
        self.page.line(&format!("{} {id}", self.mark(outcome)));
        if let Some(description) = &rule.description {
            self.page.prose(description, INDENT);
        }
        let mut facts = vec![rule.severity.as_str().to_owned()];
        facts.extend(super::table_name(outcome).map(|table| shown_cut(table, 60)));
        facts.push(super::figures(self.report, outcome));
        facts.extend(
            rule.threshold
                .as_ref()
                .map(|threshold| tolerated(&threshold.value)),
        );
        self.faint(&facts);
        let mut people = vec![location(outcome)];
        people.extend(
            rule.owner
                .iter()
                .map(|owner| format!("owner {}", shown_cut(owner, 60))),
        );
        people.extend(
            rule.runbook
                .iter()
                .map(|url| format!("runbook {}", shown_cut(url, 200))),
        );
        self.faint(&people);
        self.sample(outcome);
        if let Some(impact) = &outcome.impact {
            let expression = rule.impact.as_ref().map_or(String::new(), |sql| {
                format!("  ({})", shown_cut(&sql.value, 60))
            });
            let text = format!("  impact   {}{expression}", shown_cut(impact, 60));
            self.page.line(&table::cut(&text, self.page.width));
        }
        if outcome.pending > 0 {
            let text = format!(
                "  pending  {} more, still within their grace",
                grouped(outcome.pending)
            );
            self.page.line(&table::cut(&text, self.page.width));
        }
        self.hints(outcome);
        self.page.blank();
    }

    /// Facts on one line with ` · ` between them, or on several where one is too narrow.
    fn faint(&mut self, facts: &[String]) {
        let mut lines: Vec<String> = Vec::new();
        for fact in facts.iter().filter(|fact| !fact.is_empty()) {
            match lines.last_mut() {
                Some(line)
                    if INDENT + table::width(line) + 3 + table::width(fact) <= self.page.width =>
                {
                    let _ = write!(line, " · {fact}");
                }
                _ => lines.push(fact.clone()),
            }
        }
        for line in lines {
            let line = self.page.paint(
                Ink::Faint,
                &table::cut(&line, self.page.width.saturating_sub(INDENT)),
            );
            self.page.line(&format!("  {line}"));
        }
    }

    /// The keys with their evidence, as a small table.
    fn sample(&mut self, outcome: &Outcome) {
        let violations = super::new_sample(outcome, self.options);
        let left_off = super::left_off(outcome, violations.len());
        let width = self.page.width.saturating_sub(TABLE_INDENT);
        let (columns, dropped) = sample_columns(&violations, width);
        if !columns.is_empty() {
            self.page.blank();
            self.page.table(&columns);
        }
        if dropped > 0 {
            let more = super::counted(dropped as u64, "more column");
            self.page.line(&format!("    … {more}: --format json"));
        }
        if left_off > 0 && !violations.is_empty() {
            self.page.line(&format!(
                "    … and {} more: --sample all",
                grouped(left_off)
            ));
        }
        let rows_shown = !columns.is_empty() || left_off > 0;
        if rows_shown && (outcome.impact.is_some() || outcome.pending > 0) {
            self.page.blank();
        }
    }

    /// What to run next.
    fn hints(&mut self, outcome: &Outcome) {
        let given = &self.report.given;
        let id = &outcome.rule.id;
        let mut commands = Vec::new();
        let shown = super::new_sample(outcome, self.options).len();
        if super::left_off(outcome, shown) > 0 {
            let all = Command::on("check", given).given(given, &["--rules"]);
            let all = all.flag("--rule", id).given(given, &SAME_REPORT);
            commands.push(all.flag("--sample", "all").text());
        }
        if self.report.at.commit.is_some_and(|commit| commit > 0) {
            let bisect = Command::on("bisect", given).given(given, &["--rules"]);
            let bisect = bisect.flag("--rule", id).given(given, &SAME_VERDICTS);
            commands.push(bisect.text());
        }
        // Unlike `check`, this command does not look beside the source for rules.
        let file = super::rule_file(outcome);
        let config = Given {
            source: Vec::new(),
            flags: given.flags.clone(),
        };
        commands.push(match file.contains("${") {
            // Only firstbad.yaml leads there: where it is, is not shown.
            true => Command::on("rules explain", &config).word(id).text(),
            false => {
                let explain = Command::on("rules explain", &Given::default()).word(id);
                explain.flag("--rules", &file).text()
            }
        });
        self.page.commands(&commands);
    }

    /// What is not violated and yet must not be overlooked.
    fn aside(&mut self, outcomes: &[&Outcome]) {
        let before = self.page.len();
        for outcome in outcomes.iter().filter(|o| rank(o) == Rank::Unknown) {
            let id = self.page.paint(
                Ink::Bold,
                &shown_cut(&outcome.rule.id, self.page.width.saturating_sub(26)),
            );
            self.page
                .line(&format!("{} {id} could not be judged", self.mark(outcome)));
            self.page.prose(
                outcome.reason.as_deref().unwrap_or("no reason was given"),
                INDENT,
            );
        }
        for outcome in outcomes.iter().filter(|o| rank(o) == Rank::Vacuous) {
            let filter = outcome
                .rule
                .filter
                .as_ref()
                .map_or(String::new(), |sql| format!(" (where {})", sql.value));
            let text = format!("{} matched no row{filter}", outcome.rule.id);
            let mark = self.mark(outcome);
            let text = shown_cut(&text, self.page.width.saturating_sub(3));
            self.page.line(&format!("{mark} {text}"));
        }
        if !self.report.expired.is_empty() {
            let ids: Vec<&str> = self.report.expired.iter().map(String::as_str).collect();
            let noun = if ids.len() == 1 {
                "rule has"
            } else {
                "rules have"
            };
            self.page.prose(
                &format!(
                    "expired: {} {noun} passed its date and was not judged: {}",
                    ids.len(),
                    ids.join(", ")
                ),
                0,
            );
        }
        if !self.report.fixed.is_empty() {
            let total: u64 = self.report.fixed.iter().map(|(_, count)| *count).sum();
            let each: Vec<String> = self
                .report
                .fixed
                .iter()
                .map(|(id, count)| format!("{id} {count}"))
                .collect();
            self.page.prose(
                &format!(
                    "fixed: {total} accepted before and gone: {} (--update-baseline drops them)",
                    each.join(", ")
                ),
                0,
            );
        }
        if self.page.len() > before {
            self.page.blank();
        }
    }

    /// The last line.
    fn summary(&mut self) {
        let ink = match self.report.exit_code() {
            0 => Ink::Green,
            1 => Ink::Red,
            _ => Ink::Yellow,
        };
        let counts = self.page.paint(ink, &super::verdict_counts(self.report));
        let at = super::position(&self.report.at)
            .map_or(String::new(), |position| format!(" at {position}"));
        let seconds = elapsed(self.report.elapsed_ms);
        let judged = format!(
            "(judged {}{at}, in {seconds})",
            super::counted(self.report.judged(), "row")
        );
        let room = table::width(&super::verdict_counts(self.report)) + 1 + table::width(&judged)
            <= self.page.width;
        self.page.line(&format!(
            "{counts}{}{judged}",
            if room { " " } else { "\n" }
        ));
    }
}

/// The sign of what came out.
fn mark(outcome: &Outcome) -> &'static str {
    match rank(outcome) {
        Rank::Violated => "✗",
        Rank::Accepted => "~",
        Rank::Unknown => "?",
        Rank::Vacuous => "○",
        Rank::Tolerated | Rank::Held => "✓",
    }
}

/// What a threshold lets pass.
fn tolerated(threshold: &Threshold) -> String {
    match threshold {
        Threshold::Max(most) => format!("{} tolerated", grouped(*most)),
        Threshold::MaxPercent(most) => format!("{}% tolerated", shown_cut(most, 20)),
    }
}

fn elapsed(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, (ms % 1000) / 100),
        _ => format!("{} min {} s", ms / 60_000, (ms % 60_000) / 1000),
    }
}

/// `rules/shop.yaml:12`, where the rule stands.
fn location(outcome: &Outcome) -> String {
    let line = outcome.rule.span.line;
    let file = shown_cut(&super::rule_file(outcome), 100);
    if line == 0 {
        file
    } else {
        format!("{file}:{line}")
    }
}

/// The columns of the overview; `table` is the last but figures, so that a narrow terminal can drop it.
fn overview_columns(report: &CheckReport, rows: &[&Outcome]) -> Vec<Column> {
    let cells = |cell: &dyn Fn(&Outcome) -> String| {
        rows.iter().map(|outcome| cell(outcome)).collect::<Vec<_>>()
    };
    let number = |figure: Option<u64>| figure.map_or("–".to_owned(), grouped);
    let violations = |outcome: &Outcome| match outcome.verdict {
        Verdict::Unknown => "unknown".to_owned(),
        Verdict::Held if outcome.violations.unwrap_or(0) == 0 => "–".to_owned(),
        _ => number(outcome.violations),
    };
    let percent = |outcome: &Outcome| match outcome.violations {
        Some(1..) => super::percent(outcome).unwrap_or_default(),
        _ => String::new(),
    };
    let mut columns = vec![
        Column::new(
            "  rule",
            cells(&|outcome| format!("{} {}", mark(outcome), shown_cut(&outcome.rule.id, 60))),
        )
        .at_least(RULE_WIDTH_MIN),
        Column::new(
            "severity",
            cells(&|outcome| outcome.severity().as_str().to_owned()),
        )
        .at_least(8),
        Column::new(
            "table",
            cells(&|outcome| {
                super::table_name(outcome).map_or("–".into(), |name| shown_cut(name, 40))
            }),
        )
        .at_least(10),
        Column::new("violations", cells(&violations))
            .right()
            .at_least(10),
    ];
    if report.baselined() {
        let new = |outcome: &Outcome| {
            if outcome.verdict == Verdict::Violated {
                number(outcome.new)
            } else {
                "–".to_owned()
            }
        };
        columns.push(Column::new("new", cells(&new)).right().at_least(7));
    }
    columns.push(
        Column::new("judged", cells(&|outcome| number(outcome.judged)))
            .right()
            .at_least(12),
    );
    columns.push(Column::new("", cells(&percent)).right().at_least(8));
    columns
}

/// The columns cut to the width: ids only where it must be. A narrow terminal does without tables, severities and
/// percentages, which stand in the blocks.
fn fitted(mut columns: Vec<Column>, width: usize) -> Vec<Column> {
    table::shrink(&mut columns, width);
    for heading in ["table", "severity", ""] {
        if table::total(&columns) > width {
            columns.retain(|column| column.heading != heading);
        }
    }
    columns
        .iter_mut()
        .for_each(|column| column.least = column.least.min(ID_WIDTH_MIN));
    table::shrink(&mut columns, width);
    columns
}

/// Key columns, a line, evidence columns, fitted to the width: evidence is cut, and then left out, before a key is cut. And
/// how many evidence columns found no room.
fn sample_columns(violations: &[&crate::verdict::Violation], width: usize) -> (Vec<Column>, usize) {
    let beyond: Vec<_> = violations
        .iter()
        .map(|violation| super::evidence_beyond_key(violation))
        .collect();
    let keys: Vec<_> = violations
        .iter()
        .map(|violation| violation.key.clone())
        .collect();
    let mut columns: Vec<Column> = value_columns(&keys).into_iter().map(Column::kept).collect();
    let key_columns = columns.len();
    if key_columns > 0 {
        let line = Column::new("│", vec!["│".to_owned(); violations.len()]);
        columns.push(line.kept());
    }
    let before = columns.len();
    columns.extend(value_columns(&beyond));
    let all = columns.len();
    columns.truncate(VALUE_COLUMNS_MAX.max(before));
    while table::least_total(&columns) > width && columns.len() > before.max(1) {
        columns.pop();
    }
    let dropped = all - columns.len();
    if columns.len() == before {
        columns.truncate(key_columns);
    }
    table::shrink(&mut columns, width);
    (columns, dropped)
}

/// One column for every name that occurs, in order of first appearance; numbers stand to the right.
fn value_columns(maps: &[serde_json::Map<String, serde_json::Value>]) -> Vec<Column> {
    let mut names: Vec<&String> = Vec::new();
    for name in maps.iter().flat_map(serde_json::Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let column = |name: &String| {
        let cells = maps
            .iter()
            .map(|map| map.get(name).map_or(String::new(), super::value));
        let cells = cells
            .map(|cell| table::cut(&cell, VALUE_WIDTH_MAX))
            .collect();
        let numbers = maps.iter().filter_map(|map| map.get(name)).all(is_number);
        let column = Column::new(shown_cut(name, VALUE_WIDTH_MAX), cells).at_least(8);
        if numbers { column.right() } else { column }
    };
    names.into_iter().map(column).collect()
}

fn is_number(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(_) | serde_json::Value::Null => true,
        serde_json::Value::String(text) => crate::change::Decimal::parse(text).is_some(),
        _ => false,
    }
}
