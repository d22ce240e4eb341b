//! A block for every rule that is violated or was, to be pasted where the incident is talked about: who, when, what, how many since,
//! still spreading or not, and what to run next.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde_json::Value;

use super::super::command::Command;
use super::super::page::{Ink, Page, TABLE_INDENT};
use super::super::table::{self, Column};
use super::super::{
    Options, VALUE_WIDTH_MAX, counted, file_of, grouped, pair, pairs, position, shown_cut, step,
    value,
};
use crate::bisect::{BisectReport, Certainty, FirstBad, Found, Onset, Pace, RowChange, Stretch};
use crate::schema::value::format_timestamp;
use crate::verdict::{At, Verdict};

/// Flags of `bisect` that `check` has to be given as well.
const CHECKED_THE_SAME: [&str; 3] = ["--redact", "--rule-timeout", "--memory-limit"];

/// As many changes of the first bad write are shown.
const CHANGES_SHOWN: usize = 8;
/// As many earlier stretches are shown.
const STRETCHES_SHOWN: usize = 5;
/// As many common factors are shown.
const FACTORS_SHOWN: usize = 6;
/// One line of facts is cut after so many columns.
const LINE_WIDTH_MAX: usize = 600;
/// Where the text behind the labels begins.
const INDENT: usize = 13;
/// The report being written.
struct Writer<'a> {
    report: &'a BisectReport,
    options: &'a Options,
    page: Page,
}

pub(in crate::report) fn render(report: &BisectReport, options: &Options) -> String {
    let mut writer = Writer {
        report,
        options,
        page: Page::new(options),
    };
    let mut found: Vec<&Found> = report.found.iter().collect();
    let rank = |found: &Found| match found.verdict {
        Verdict::Violated => 0,
        Verdict::Unknown => 1,
        Verdict::Held => 2,
    };
    found.sort_by_key(|one| (rank(one), Reverse(one.severity()), Reverse(one.violations)));
    for one in found {
        writer.block(one);
    }
    writer.summary();
    writer.page.finish()
}

impl Writer<'_> {
    fn block(&mut self, found: &Found) {
        self.heading(found);
        self.about(found);
        if found.verdict == Verdict::Unknown {
            let reason = found.reason.as_deref().unwrap_or("no reason was given");
            self.page.prose(reason, 2);
            self.page.blank();
            return;
        }
        self.page.blank();
        if let Some(first) = &found.first_bad {
            self.first_bad(found, first);
        }
        self.course(found);
        self.earlier(&found.earlier);
        for (at, factor) in found.common.iter().take(FACTORS_SHOWN).enumerate() {
            let label = if at == 0 { "in common" } else { "" };
            let text = format!(
                "{}: {} of {} bad, {} of {} good",
                shown_cut(&factor.factor, VALUE_WIDTH_MAX * 2),
                grouped(factor.bad),
                grouped(factor.bad_total),
                grouped(factor.good),
                grouped(factor.good_total)
            );
            self.fact(label, &text);
        }
        self.onsets(&found.onsets);
        self.hints(found);
        self.page.blank();
    }

    fn heading(&mut self, found: &Found) {
        let id = shown_cut(found.id(), 80);
        let (ink, mark, rest) = match (found.verdict, &found.first_bad) {
            (Verdict::Violated, Some(first)) if found.candidates.is_none() => {
                let words = if found.certainty == Some(Certainty::Bounded) {
                    "first bad snapshot"
                } else {
                    "first bad write"
                };
                (Ink::Red, "✗", format!("{words} {}", place(&first.at)))
            }
            (Verdict::Violated, Some(first)) => (
                Ink::Red,
                "✗",
                format!("bad at the latest from {} on", place(&first.at)),
            ),
            (Verdict::Violated, None) => {
                let start = format!("#{}", self.report.good);
                (
                    Ink::Red,
                    "✗",
                    format!("bad before {start}, by nothing that is seen here"),
                )
            }
            (Verdict::Unknown, _) => (Ink::Yellow, "?", "could not be judged".to_owned()),
            (Verdict::Held, _) if found.speaks() => {
                (Ink::Yellow, "~", "holds now, and did not always".to_owned())
            }
            (Verdict::Held, _) => {
                let rest = match found.sampled {
                    None => "holds, and always did".to_owned(),
                    Some(passed_over) => {
                        let passed_over = counted(passed_over, "state");
                        format!("holds where it was judged; {passed_over} passed over")
                    }
                };
                (Ink::Green, "✓", rest)
            }
        };
        let line = format!(
            "{} {}: {rest}",
            self.page.paint(ink, mark),
            self.page.paint(Ink::Bold, &id)
        );
        self.page.line(&line);
    }

    /// Description, severity, table, people.
    fn about(&mut self, found: &Found) {
        if let Some(command) = &self.report.command {
            let text = format!("judged by {}", shown_cut(command, 200));
            self.page.prose(&text, 2);
        }
        let Some(rule) = &found.rule else { return };
        if let Some(description) = &rule.description {
            self.page.prose(description, 2);
        }
        let mut facts = vec![rule.severity.as_str().to_owned()];
        if let Some(table) = &rule.table {
            facts.push(shown_cut(&table.value.short(), 60));
        }
        if let Some(owner) = &rule.owner {
            facts.push(format!("owner {}", shown_cut(owner, 60)));
        }
        facts.push(format!(
            "{}:{}",
            shown_cut(&file_of(rule), 100),
            rule.span.line
        ));
        let line = self.page.paint(Ink::Faint, &facts.join(" · "));
        self.page.line(&format!("  {line}"));
        if let Some(url) = &rule.runbook {
            let line = self
                .page
                .paint(Ink::Faint, &format!("runbook {}", shown_cut(url, 200)));
            self.page.line(&format!("  {line}"));
        }
    }

    /// A label and what belongs to it, broken at blanks.
    fn fact(&mut self, label: &str, text: &str) {
        let text = table::cut(text, LINE_WIDTH_MAX);
        self.lines(label, table::wrap(&text, self.fact_width()));
    }

    /// Columns behind the labels.
    fn fact_width(&self) -> usize {
        self.page.width.saturating_sub(INDENT).max(20)
    }

    fn lines(&mut self, label: &str, lines: Vec<String>) {
        for (at, line) in lines.into_iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            let padded = format!("{label:<width$}", width = INDENT - 2);
            let label = self.page.paint(Ink::Faint, &padded);
            self.page.line(format!("  {label}{line}").trim_end());
        }
    }

    fn first_bad(&mut self, found: &Found, first: &FirstBad) {
        let context = first.at.meta.context.as_ref();
        match context.filter(|context| !context.is_empty()) {
            Some(context) => self.fact("who", &pairs(context)),
            None if first.at.meta.snapshot.is_none() => {
                self.fact("who", "not recorded (no context)")
            }
            None => {}
        }
        let mut when = place(&first.at);
        if let Some(lsn) = &first.at.meta.lsn {
            let _ = write!(when, " · lsn {}", shown_cut(lsn, 40));
        }
        if let Some(xid) = first.at.meta.xid {
            let _ = write!(when, " · xid {xid}");
        }
        self.fact("when", &when);
        for (at, change) in first.changes.iter().take(CHANGES_SHOWN).enumerate() {
            let lines = change_lines(change, self.fact_width());
            self.lines(if at == 0 { "what" } else { "" }, lines);
        }
        let all = first.changes.len() as u64 + first.left_off;
        if all > CHANGES_SHOWN as u64 {
            let more = counted(all - CHANGES_SHOWN as u64, "more change");
            self.fact("", &format!("… and {more}: --format json"));
        }
        if let Some(last) = &found.last_good {
            self.fact("last good", &place(last));
        }
        if let Some(several) = &found.candidates {
            let text = match found.gap {
                Some(gap) => format!(
                    "it lies between #{} and #{} ({gap})",
                    several.from - 1,
                    several.to
                ),
                None => format!(
                    "it is one of #{} to #{}: nothing could be told about those between",
                    several.from, several.to
                ),
            };
            self.fact("not sure", &text);
        }
        let sure = match (found.certainty, found.sampled) {
            (_, Some(passed_over)) => format!(
                "{} judged, {} passed over: what began and healed between them was not seen",
                counted(found.judged_states, "state"),
                grouped(passed_over)
            ),
            (Some(Certainty::Bounded), None) if found.gap.is_some() => format!(
                "bounded: {} judged, none passed over but those that were not seen",
                counted(found.judged_states, "state")
            ),
            (Some(Certainty::Bounded), None) => {
                "nothing is known of what lies between these two snapshots".to_owned()
            }
            _ => format!(
                "exact: {} judged, none passed over",
                counted(found.judged_states, "state")
            ),
        };
        self.fact("certainty", &sure);
    }

    /// How many since, how many are bad now, and whether it goes on.
    fn course(&mut self, found: &Found) {
        if let Some(pace) = &found.pace {
            let mut text = format!(
                "{} began, {} healed",
                counted(pace.begun, "violation"),
                grouped(pace.healed)
            );
            if let Some(bad) = found.violations {
                let _ = write!(text, "; {} bad now", grouped(bad));
            }
            self.fact("since then", &text);
            self.fact("spreading", &self.spreading(pace));
        } else if found.certainty == Some(Certainty::PreExisting)
            && let Some(bad) = found.violations
        {
            self.fact("bad now", &counted(bad, "key"));
        }
        if found.pending > 0 {
            let text = format!("{} more, still within their grace", grouped(found.pending));
            self.fact("pending", &text);
        }
        if found.pre_existing > 0 {
            let text = format!(
                "{} bad at #{} already",
                counted(found.pre_existing, "key"),
                self.report.good
            );
            self.fact("before", &text);
        }
    }

    /// Whether the last onset lies further back than the longest pause between two.
    fn spreading(&self, pace: &Pace) -> String {
        let end = self.report.at.commit.unwrap_or(0);
        let last = pace.last.commit.unwrap_or(0);
        let commits = end.saturating_sub(last);
        let mut since = counted(u64::from(commits), "commit");
        if let Some((now, then)) = self.report.at.meta.time.zip(pace.last.meta.time) {
            let _ = write!(since, ", {}", span(now.saturating_sub(then)));
        }
        let place = place(&pace.last);
        match pace.longest_pause {
            _ if commits == 0 => {
                format!("yes: the last began with {place}, the end of this history")
            }
            Some(pause) if commits <= pause => format!(
                "yes, as far as one can tell: the last began with {place}, {since} before the end; the longest pause was {}",
                counted(u64::from(pause), "commit")
            ),
            Some(pause) => format!(
                "perhaps not: the last began with {place}, {since} before the end; the longest pause was {}",
                counted(u64::from(pause), "commit")
            ),
            None => format!("the last began with {place}, {since} before the end"),
        }
    }

    fn earlier(&mut self, stretches: &[Stretch]) {
        for (at, stretch) in stretches.iter().rev().take(STRETCHES_SHOWN).enumerate() {
            let label = if at == 0 { "earlier" } else { "" };
            let mut text = format!(
                "from {} to {}: {}",
                place(&stretch.from),
                place(&stretch.to),
                counted(stretch.keys, "key")
            );
            let context = stretch.from.meta.context.as_ref();
            if let Some(context) = context.filter(|context| !context.is_empty()) {
                let _ = write!(text, "; begun by {}", pairs(context));
            }
            self.fact(label, &text);
        }
        if stretches.len() > STRETCHES_SHOWN {
            let more = stretches.len() - STRETCHES_SHOWN;
            self.fact("", &format!("… and {more} before them: --format json"));
        }
    }

    /// The keys with their first bad commits, as a small table.
    fn onsets(&mut self, onsets: &[Onset]) {
        let most = self.options.sample.unwrap_or(usize::MAX).min(onsets.len());
        let shown = onsets.get(..most).unwrap_or(onsets);
        if shown.is_empty() {
            return;
        }
        let mut columns = columns(shown, self.report.good);
        table::shrink(&mut columns, self.page.width.saturating_sub(TABLE_INDENT));
        self.page.blank();
        self.page.table(&columns);
        if onsets.len() > most {
            let more = grouped((onsets.len() - most) as u64);
            self.page
                .line(&format!("    … and {more} more: --sample all"));
        }
    }

    /// What to run next.
    fn hints(&mut self, found: &Found) {
        let (Some(first), Some(last)) = (&found.first_bad, &found.last_good) else {
            return;
        };
        let (Some(bad), Some(good)) = (first.at.commit, last.commit) else {
            return;
        };
        let given = &self.report.given;
        let mut commands = Vec::new();
        if let Some(rule) = &found.rule {
            let check = Command::on("check", given).given(given, &["--rules"]);
            let check = check
                .flag("--rule", &rule.id)
                .flag("--at", &format!("#{bad}"));
            let due = found.onsets.iter().find(|onset| onset.commit == bad);
            let deadline = due.and_then(|onset| onset.deadline);
            let check = match deadline {
                Some(deadline) if !given.has("--now") => {
                    check.flag("--now", &format_timestamp(deadline.saturating_add(1)))
                }
                _ => check.given(given, &["--now"]),
            };
            commands.push(check.given(given, &CHECKED_THE_SAME).text());
        }
        // Of several sources, `diff` would compare one with another.
        if let [] | [_] = given.source.as_slice() {
            let diff = Command::on("diff", given).word(&format!("#{good}"));
            commands.push(diff.word(&format!("#{bad}")).text());
        }
        let tables: Vec<&str> = first
            .changes
            .iter()
            .map(|change| {
                change
                    .table
                    .strip_prefix("public.")
                    .unwrap_or(&change.table)
            })
            .collect();
        let plain = |name: &&&str| {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            name.chars().all(word)
        };
        let subject = found.rule.as_ref().and_then(|rule| rule.table.as_ref());
        let subject = subject.map(|table| table.value.short());
        let own = tables
            .iter()
            .find(|name| Some(**name) == subject.as_deref());
        if let Some(name) = own.or(tables.first()).filter(plain) {
            let query = format!("select * from changes.{name} where commit = {bad}");
            let sql = Command::on("sql", given).word(&query);
            commands.push(sql.given(given, &["--memory-limit"]).text());
        }
        self.page.commands(&commands);
    }

    fn summary(&mut self) {
        let [held, violated, unknown] = self.report.counts;
        if !self.report.expired.is_empty() {
            let text = format!("expired and not judged: {}", self.report.expired.join(", "));
            self.page.prose(&text, 2);
        }
        let what = if self.report.command.is_some() {
            "command"
        } else {
            "rule"
        };
        let mut text = format!(
            "{}: {violated} violated, {held} held",
            counted(held + violated + unknown, what)
        );
        let once = self.report.found.iter();
        let once = once
            .filter(|found| found.verdict == Verdict::Held && found.speaks())
            .count();
        if once > 0 {
            let _ = write!(text, " ({once} not always)");
        }
        if unknown > 0 {
            let _ = write!(text, ", {unknown} unknown");
        }
        if let Some(end) = position(&self.report.at) {
            let _ = write!(text, " (#{} to {end}", self.report.good);
        } else {
            text.push_str(" (one state, no history");
        }
        let ms = self.report.elapsed_ms;
        let _ = write!(text, ", in {}.{} s)", ms / 1000, (ms % 1000) / 100);
        self.page.line(&text);
    }
}

/// A position as people write it; the start has no time.
fn place(at: &At) -> String {
    position(at).unwrap_or_else(|| "the only state".to_owned())
}

/// `update orders id = 7: status placed → paid`, in lines of so many columns.
pub(in crate::report) fn change_lines(change: &RowChange, width: usize) -> Vec<String> {
    let table = change
        .table
        .strip_prefix("public.")
        .unwrap_or(&change.table);
    let mut begin = format!("{} {}", change.op, shown_cut(table, 60));
    if let Some(key) = &change.key {
        let _ = write!(begin, " {}", pairs(key));
    }
    let in_key = |name: &String| {
        let key = change.key.as_ref();
        key.is_some_and(|key| key.contains_key(name))
    };
    let details: Vec<String> = match (&change.before, &change.after) {
        (Some(before), Some(after)) => after
            .iter()
            .filter(|(name, cell)| before.get(*name) != Some(cell))
            .map(|(name, cell)| step(name, before.get(name), cell, VALUE_WIDTH_MAX))
            .collect(),
        (None, Some(image)) | (Some(image), None) => image
            .iter()
            .filter(|(name, _)| !in_key(name))
            .map(|(name, cell)| pair(name, cell))
            .collect(),
        (None, None) => Vec::new(),
    };
    if !details.is_empty() {
        begin.push(':');
    }
    table::bounded_flow(&begin, &details, width, LINE_WIDTH_MAX)
}

fn cut(cell: &Value) -> String {
    table::cut(&value(cell), VALUE_WIDTH_MAX)
}

/// `since`, the key, `overdue`, `healed`: columns that say nothing are left out.
fn columns(onsets: &[Onset], good: u32) -> Vec<Column> {
    let cells = |cell: &dyn Fn(&Onset) -> String| onsets.iter().map(cell).collect::<Vec<_>>();
    let since = |onset: &Onset| {
        if onset.pre_existing {
            format!("before #{good}")
        } else {
            format!("#{}", onset.commit)
        }
    };
    let mut columns = vec![Column::new("since", cells(&since)).right().at_least(8)];
    let mut names: Vec<&String> = Vec::new();
    for name in onsets.iter().flat_map(|onset| onset.key.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let cell = |onset: &Onset| onset.key.get(name).map_or(String::new(), cut);
        let column = Column::new(shown_cut(name, VALUE_WIDTH_MAX), cells(&cell));
        columns.push(column.at_least(8).kept());
    }
    if onsets.iter().any(|onset| onset.deadline.is_some()) {
        let overdue = |onset: &Onset| {
            let text = onset.deadline.map(format_timestamp);
            text.map_or(String::new(), |text| text.replace('T', " "))
        };
        columns.push(Column::new("overdue", cells(&overdue)).at_least(10));
    }
    if onsets.iter().any(|onset| onset.healed.is_some()) {
        let healed = |onset: &Onset| {
            onset
                .healed
                .map_or(String::new(), |commit| format!("#{commit}"))
        };
        columns.push(Column::new("healed", cells(&healed)).at_least(8));
    }
    columns
}

/// A length of time: `47 min`, `3 h 5 min`, `2 d 4 h`.
fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        i64::MIN..0 => "no time".to_owned(),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
