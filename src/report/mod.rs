//! Rendering of reports: one file a format, all of them pure functions from a [`CheckReport`] to text.
//!
//! What is shown was written by strangers (invariant 12): every value, name and description passes the escape of the
//! place it goes to, and is cut at a named limit. Nothing here depends on the time, the machine or a hash order, so equal
//! reports render equally; the one exception is the wall time, which only `text` and `junit` show.
//!
//! Order of work for callers: [`Baseline::apply`](crate::baseline::Baseline::apply), then [`redact::apply`](crate::verdict::redact::apply), then [`render`].

mod bisect;
mod command;
pub mod evidence;
mod github;
mod html;
pub mod incident;
mod json;
mod jsonl;
mod junit;
mod markdown;
mod page;
mod sarif;
pub(crate) mod table;
mod text;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::escape;
use crate::verdict::{At, CheckReport, Outcome, Verdict, Violation};

pub(crate) use crate::diagnostic::{counted, grouped, sized};
pub(crate) use command::shell_word;
pub(crate) use json::at as position_json;

/// How a report is written (`--format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    #[default]
    Text,
    /// One JSON document (`firstbad/check@1`).
    Json,
    /// One JSON object a line: rules, their violations, a summary.
    Jsonl,
    /// JUnit XML as Jenkins and GitLab read it.
    Junit,
    /// SARIF 2.1.0 for code scanning.
    Sarif,
    /// GitHub Actions workflow commands (annotations).
    Github,
    /// Markdown for job summaries and pull requests.
    Markdown,
}

impl Format {
    /// Every format with the name used on the command line.
    pub const ALL: [(&'static str, Format); 7] = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
        ("junit", Format::Junit),
        ("sarif", Format::Sarif),
        ("github", Format::Github),
        ("markdown", Format::Markdown),
    ];
}

impl FromStr for Format {
    type Err = String;

    /// Reads the name of a format; the error names the nearest one, or all.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, format)) = Format::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*format);
        }
        let names = Format::ALL.map(|(name, _)| name);
        let text = escape::terminal(text);
        Err(match crate::diagnostic::nearest(&text, names) {
            Some(near) => format!("no format `{text}`; did you mean `{near}`?"),
            None => format!("no format `{text}`; there are {}", names.join(", ")),
        })
    }
}

/// How a report is to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// ANSI colour, in `text` only.
    pub color: bool,
    /// Columns of the terminal, in `text` only; less than 40 counts as 40.
    pub width: usize,
    /// The most violations that are listed of one rule; None for all that the report holds.
    pub sample: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            color: false,
            width: 100,
            sample: Some(10),
        }
    }
}

/// Renders a report. The text ends with a line break.
pub fn render(report: &CheckReport, format: Format, options: &Options) -> String {
    match format {
        Format::Text => text::render(report, options),
        Format::Json => json::render(report, options),
        Format::Jsonl => jsonl::render(report, options),
        Format::Junit => junit::render(report, options),
        Format::Sarif => sarif::render(report, options),
        Format::Github => github::render(report, options),
        Format::Markdown => markdown::render(report, options),
    }
}

/// Renders what a bisection found. There are text, JSON and JSON Lines; other formats are written as JSON. The text ends with a line break.
pub fn render_bisect(
    report: &crate::bisect::BisectReport,
    format: Format,
    options: &Options,
) -> String {
    match format {
        Format::Text => bisect::text::render(report, options),
        Format::Jsonl => bisect::json::lines(report),
        _ => bisect::json::render(report),
    }
}

/// What stands first: the smaller, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Violated,
    Accepted,
    Unknown,
    Vacuous,
    Tolerated,
    Held,
}

fn rank(outcome: &Outcome) -> Rank {
    match outcome.verdict {
        Verdict::Violated if outcome.fails() => Rank::Violated,
        Verdict::Violated => Rank::Accepted,
        Verdict::Unknown => Rank::Unknown,
        Verdict::Held if outcome.vacuous() => Rank::Vacuous,
        Verdict::Held if outcome.violations.unwrap_or(0) > 0 || outcome.pending > 0 => {
            Rank::Tolerated
        }
        Verdict::Held => Rank::Held,
    }
}

/// The outcomes, the worst first: by what came out, then severity, then count, then the order of the rule files.
fn worst_first(report: &CheckReport) -> Vec<&Outcome> {
    let mut outcomes: Vec<&Outcome> = report.outcomes.iter().collect();
    outcomes.sort_by_key(|o| {
        (
            rank(o),
            Reverse(o.severity()),
            Reverse(o.new),
            Reverse(o.violations),
        )
    });
    outcomes
}

/// The violations of an outcome that are to be listed, at most as many as asked for.
fn sample<'a>(outcome: &'a Outcome, options: &Options) -> &'a [Violation] {
    let most = options
        .sample
        .unwrap_or(usize::MAX)
        .min(outcome.sample.len());
    outcome.sample.get(..most).unwrap_or(&[])
}

/// The violations that people should look at: those that no baseline accepts, at most as many as asked for.
fn new_sample<'a>(outcome: &'a Outcome, options: &Options) -> Vec<&'a Violation> {
    let fresh = outcome
        .sample
        .iter()
        .filter(|violation| !violation.accepted);
    fresh.take(options.sample.unwrap_or(usize::MAX)).collect()
}

/// How many new violations are not listed; 0 when unknown.
fn left_off(outcome: &Outcome, listed: usize) -> u64 {
    let new = outcome.new.or(outcome.violations).unwrap_or(0);
    new.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX))
}

/// Foreign text on one line, harmless on a terminal and in the log of a build server: `##` begins commands of Azure
/// Pipelines, TeamCity and old GitHub runners.
fn shown(text: &str) -> String {
    escape::terminal(text).replace("##", "#\\u{23}")
}

/// Foreign text on one line, cut to a number of characters.
pub(crate) fn shown_cut(text: &str, most: usize) -> String {
    table::cut(&shown(&bounded(text)), most)
}

/// Longer values are cut before they are escaped, in characters: no format shows more of one value.
const VALUE_CHARS_MAX: usize = 1_000;

fn bounded(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text.to_owned(),
    }
}

/// A value as people read it, on one line: NULL, numbers as they are, text without quotes unless it could be mistaken for
/// something else, lists and objects as JSON.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) if needs_quotes(text) => shown(&format!("\"{}\"", bounded(text))),
        Value::String(text) => shown(&bounded(text)),
        other => shown(&bounded(&other.to_string())),
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.trim() != text || text == "NULL" || text.starts_with("::")
}

/// Key or evidence on one line: `id = 4410, status = paid`; empty text for an empty map.
fn pairs(map: &Map<String, Value>) -> String {
    let one = |(name, cell): (&String, &Value)| format!("{} = {}", shown(name), value(cell));
    map.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One value of many on a line is cut after so many columns.
pub(crate) const VALUE_WIDTH_MAX: usize = 48;

/// `status = paid`, the value cut.
pub(crate) fn pair(name: &str, cell: &Value) -> String {
    let cell = table::cut(&value(cell), VALUE_WIDTH_MAX);
    format!("{} = {cell}", shown_cut(name, 60))
}

/// `status placed → paid`: what became of a column's value. Each is cut to so many columns, and where only the ends of two long
/// values differ, their beginnings are left out.
pub(crate) fn step(name: &str, old: Option<&Value>, new: &Value, most: usize) -> String {
    /// What is shown of the common beginning.
    const LEAD: usize = 8;
    let (mut old, mut new) = (old.map_or("?".to_owned(), value), value(new));
    let common = old.chars().zip(new.chars());
    let common = common.take_while(|(old, new)| old == new).count();
    if table::width(&old).max(table::width(&new)) > most && common > LEAD + most / 2 {
        for text in [&mut old, &mut new] {
            let rest: String = text.chars().skip(common - LEAD).collect();
            *text = format!("…{rest}");
        }
    }
    let (old, new) = (table::cut(&old, most), table::cut(&new, most));
    format!("{} {old} → {new}", shown_cut(name, 60))
}

/// Text in a colour (an SGR code), where there is colour.
pub(crate) fn paint(color: bool, code: &str, text: &str) -> String {
    if color {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A violation on one line: key, then evidence that the key does not already say.
fn violation_line(violation: &Violation) -> String {
    let key = if violation.key.is_empty() {
        "the whole table".to_owned()
    } else {
        pairs(&violation.key)
    };
    let evidence = pairs(&evidence_beyond_key(violation));
    if evidence.is_empty() {
        key
    } else {
        format!("{key} ({evidence})")
    }
}

/// The evidence without the columns that the key holds with the same value.
fn evidence_beyond_key(violation: &Violation) -> Map<String, Value> {
    let beyond = |(name, cell): &(&String, &Value)| violation.key.get(*name) != Some(*cell);
    violation
        .evidence
        .iter()
        .filter(beyond)
        .map(|(name, cell)| (name.clone(), cell.clone()))
        .collect()
}

/// Violations of a hundred judged, where that figure says something; exact in integers.
fn percent(outcome: &Outcome) -> Option<String> {
    let (violations, judged) = (outcome.violations?, outcome.judged?);
    let whole_table = outcome
        .sample
        .first()
        .is_some_and(|violation| violation.key.is_empty());
    if judged == 0 || violations > judged || whole_table || outcome.rule.check.kind() == "sql" {
        return None;
    }
    let hundredths =
        (u128::from(violations) * 10_000 + u128::from(judged) / 2) / u128::from(judged);
    Some(match hundredths {
        0 if violations > 0 => "<0.01%".to_owned(),
        10_000 if violations < judged => ">99.99%".to_owned(),
        _ => format!("{}.{:02}%", hundredths / 100, hundredths % 100),
    })
}

/// The figures of a violated or tolerated rule: `37 violations, 1,204 judged (3.07%), 2 new`.
fn figures(report: &CheckReport, outcome: &Outcome) -> String {
    let violations = outcome.violations.unwrap_or(0);
    let mut out = counted(violations, "violation");
    if let Some(judged) = outcome.judged {
        let _ = write!(out, ", {} judged", grouped(judged));
        if let Some(percent) = percent(outcome) {
            let _ = write!(out, " ({percent})");
        }
    }
    if report.baselined()
        && let Some(new) = outcome.new
    {
        let _ = write!(out, ", {} new", grouped(new));
    }
    out
}

/// `37 rules: 2 violated (1 accepted), 34 held (3 vacuous), 1 unknown`.
fn verdict_counts(report: &CheckReport) -> String {
    let ranked = |wanted: Rank| report.outcomes.iter().filter(|o| rank(o) == wanted).count();
    let aside = |count: usize, word: &str| {
        if count > 0 {
            format!(" ({count} {word})")
        } else {
            String::new()
        }
    };
    let rules = u64::try_from(report.outcomes.len()).unwrap_or(u64::MAX);
    let mut out = format!("{}: ", counted(rules, "rule"));
    let _ = write!(
        out,
        "{} violated{}",
        report.count(Verdict::Violated),
        aside(ranked(Rank::Accepted), "accepted")
    );
    let _ = write!(
        out,
        ", {} held{}",
        report.count(Verdict::Held),
        aside(ranked(Rank::Vacuous), "vacuous")
    );
    let unknown = report.count(Verdict::Unknown);
    if unknown > 0 {
        let _ = write!(out, ", {unknown} unknown");
    }
    out
}

/// The position as people read it: `#1934, 2026-03-14 09:12:44Z`; the time alone where the source has no history, None where it has no
/// time either.
pub(crate) fn position(at: &At) -> Option<String> {
    let Some(commit) = at.commit else {
        return at.time_text().map(|time| time.replace('T', " "));
    };
    let mut out = format!("#{commit}");
    match &at.meta.snapshot {
        Some(snapshot) if *snapshot == out => out.push_str(", a snapshot"),
        Some(snapshot) => {
            let _ = write!(out, ", snapshot {}", shown_cut(snapshot, 60));
        }
        None => {}
    }
    if let Some(time) = at.time_text() {
        let _ = write!(out, ", {}", time.replace('T', " "));
    }
    Some(out)
}

/// The source as the user named it, without the password that a URL may hold (invariant 11).
fn source(report: &CheckReport) -> String {
    source_shown(&report.source)
}

pub(crate) fn source_shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_owned(),
    };
    let Some((path, query)) = tail.split_once('?') else {
        return format!("{scheme}://{authority}{tail}");
    };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("pass") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(hide).collect();
    format!("{scheme}://{authority}{path}?{}", query.join("&"))
}

/// The rule's file as shown in reports: relative where it lies below the current directory, with `/` between folders.
fn rule_file(outcome: &Outcome) -> String {
    file_of(&outcome.rule)
}

fn file_of(rule: &crate::rule::Rule) -> String {
    let path = crate::diagnostic::shown_path(&rule.span.file);
    let text = path.to_string_lossy().replace('\\', "/");
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

/// The table as people write it: without `public.`.
fn table_name(outcome: &Outcome) -> Option<&str> {
    outcome
        .table
        .as_deref()
        .map(|table| table.strip_prefix("public.").unwrap_or(table))
}

/// Keeps output from being read as commands by the build server that logs it: a runner obeys lines that begin with `::`.
fn guard_commands(text: String) -> String {
    if !text.lines().any(|line| line.trim_start().starts_with("::")) {
        return text;
    }
    text.lines()
        .fold(String::with_capacity(text.len() + 8), |mut out, line| {
            let body = line.trim_start();
            out.push_str(line.strip_suffix(body).unwrap_or(""));
            if body.starts_with("::") {
                out.push('\\');
            }
            out.push_str(body);
            out.push('\n');
            out
        })
}

/// JSON text that is harmless where it is printed: characters that move a terminal's cursor, turn its direction, or begin
/// a command of a build server are written as `\u` escapes, which every reader turns back.
pub(crate) fn safe_json(text: &str) -> String {
    let harmless = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    if text.bytes().all(harmless) && !text.contains("##") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        let structural = c == '\n';
        let single = escape::terminal(c.encode_utf8(&mut [0; 4]));
        let hostile =
            !structural && (single.starts_with("\\u{") || matches!(c, '\u{2028}' | '\u{2029}'));
        if hostile || (c == '#' && previous == '#') {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
        previous = c;
    }
    out
}
