//! `firstbad check SOURCE`: judges every rule on the state at one position.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use clap::Args;
use serde_json::{Map, Value};

use super::inputs::{self, Sample};
use super::{Outcome, Stop, output};
use crate::baseline::{Baseline, Found};
use crate::diagnostic::{self, Diagnostic};
use crate::judge::{Judge, Limits, Options};
use crate::report::{self, Format};
use crate::rule::{Rule, Severity};
use crate::source::SourceError;
use crate::state::History;
use crate::verdict::{CheckReport, Given, Violation, redact};

/// Arguments of `firstbad check`
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A history directory, a directory of table files, or data files
    #[arg(required = true)]
    source: Vec<String>,
    /// Rule file or directory (can be repeated) [default: SOURCE/rules, then ./rules]
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Judge only this rule (can be repeated)
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// Judge only rules with this tag (can be repeated)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The position to judge: latest, #COMMIT, an LSN, a time, an age (-10m), or a dated snapshot
    #[arg(
        long,
        value_name = "POSITION",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    at: String,
    /// The time that stands for now [default: the last commit's]
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    now: Option<i64>,
    /// How to write the report: text, json, jsonl, junit, sarif, github or markdown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Write the report to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The severity from which a violation fails the run: info, warn, error or critical
    #[arg(long, value_name = "SEVERITY", default_value = "error", value_parser = severity)]
    fail_on: Severity,
    /// How many violations of a rule to list: a number, or all
    #[arg(long, value_name = "N", default_value = "10", value_parser = inputs::sample)]
    sample: Sample,
    /// Hide the values of this column in all output (can be repeated)
    #[arg(long, value_name = "COLUMN")]
    redact: Vec<String>,
    /// Violations accepted in this file do not fail the run
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Accept all that is violated now: write it to the baseline file
    #[arg(long, requires = "baseline")]
    update_baseline: bool,
    /// The last day on which violations that are accepted now stay accepted
    #[arg(long, value_name = "DATE", requires = "update_baseline", value_parser = date)]
    baseline_expires: Option<NaiveDate>,
    /// The longest that one rule may take, e.g. 60s
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = inputs::duration)]
    rule_timeout: Duration,
    /// The most memory to use, e.g. 4GiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = inputs::size)]
    memory_limit: Option<u64>,
}

pub(super) fn severity(text: &str) -> Result<Severity, String> {
    let all = [
        Severity::Info,
        Severity::Warn,
        Severity::Error,
        Severity::Critical,
    ];
    let found = all.into_iter().find(|severity| severity.as_str() == text);
    found.ok_or_else(|| "there are info, warn, error and critical".to_owned())
}

fn date(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map_err(|_| "not a date; write e.g. 2026-12-31".to_owned())
}

pub(super) fn run(arguments: &CheckArgs, verbose: u8) -> Outcome {
    let start = Instant::now();
    inputs::probe(&arguments.source)?;
    let paths = inputs::rule_paths(
        &arguments.rules,
        arguments.source.first().map(String::as_str),
    )?;
    let (rules, mut found) = inputs::load_rules(&paths);
    let broken = diagnostic::any_error(&found);
    let rules = if broken {
        rules
    } else {
        inputs::select(rules, &arguments.rule, &arguments.tag)?
    };
    let baseline = baseline(arguments)?;
    let opened = match crate::source::open(&arguments.source) {
        // What is wrong with the rules is said in the same run.
        Err(SourceError::Input(wrong)) => {
            found.extend(wrong);
            return Err(output::wrong_input(&found, verbose));
        }
        opened => opened.map_err(|error| inputs::source_error(&error, verbose))?,
    };
    found.extend(opened.diagnostics);
    let history = Arc::new(opened.history);
    let options = options(arguments, &history)?;
    let today = today(arguments.now);
    let (rules, expired) = not_expired(rules, today, &mut found);
    let mut limits = Limits {
        rule_timeout: arguments.rule_timeout,
        ..Limits::default()
    };
    limits.memory_bytes_max = arguments.memory_limit.unwrap_or(limits.memory_bytes_max);
    let judge = Judge::new(Arc::clone(&history), limits)
        .map_err(|error| output::world("the engine cannot be started", &error))?;
    let prepared = judge.prepare(&rules, &options).unwrap_or_else(|mistakes| {
        found.extend(mistakes);
        Vec::new()
    });
    if diagnostic::any_error(&found) {
        return Err(output::wrong_input(&found, verbose));
    }
    output::diagnostics(&found, verbose);
    let bar = output::progress(prepared.len());
    let outcomes = judge.check(prepared, &options, &|id| {
        bar.set_message(id.to_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    let mut report = CheckReport {
        source: arguments.source.join(" "),
        given: given(arguments),
        at: inputs::at(&history, options.position),
        outcomes,
        expired,
        fail_on: arguments.fail_on,
        fixed: Vec::new(),
        elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    settle(arguments, &judge, baseline, &mut report, &options, today)?;
    write(arguments, &report)?;
    Ok(report.exit_code())
}

fn given(arguments: &CheckArgs) -> Given {
    let again = inputs::Again {
        source: &arguments.source,
        rules: &arguments.rules,
        at: Some(&arguments.at),
        now: arguments.now,
        baseline: arguments.baseline.as_deref(),
        redact: &arguments.redact,
        rule_timeout: arguments.rule_timeout,
        memory_limit: arguments.memory_limit,
    };
    again.given()
}

/// The position and how much to keep: with a baseline every violation has to be looked up.
fn options(arguments: &CheckArgs, history: &History) -> Result<Options, Stop> {
    let resolved = history
        .resolve(&arguments.at, arguments.now)
        .map_err(|reason| output::wrong_argument(&format!("--at: {reason}"), None))?;
    let sample = if arguments.baseline.is_some() {
        None
    } else {
        arguments.sample.0
    };
    Ok(Options {
        position: resolved.position,
        now_us: arguments.now,
        sample,
    })
}

/// The day that decides what has expired: that of `--now`, else of the clock.
pub(super) fn today(now: Option<i64>) -> NaiveDate {
    now.and_then(chrono::DateTime::from_timestamp_micros)
        .unwrap_or_else(chrono::Utc::now)
        .date_naive()
}

/// Leaves out rules that have expired, and says so.
pub(super) fn not_expired(
    rules: Vec<Rule>,
    today: NaiveDate,
    found: &mut Vec<Diagnostic>,
) -> (Vec<Rule>, Vec<String>) {
    let over = |rule: &Rule| {
        let expires = rule.expires.as_ref()?;
        let micros = crate::schema::value::parse_timestamp(&expires.value)?;
        let day = chrono::DateTime::from_timestamp_micros(micros)?.date_naive();
        (day < today).then(|| {
            let message = format!("rule `{}` expired on {day} and is not judged", rule.id);
            expires
                .span
                .error(message)
                .with_level(diagnostic::Level::Warning)
                .with_hint("extend `expires`, or delete the rule")
        })
    };
    let mut expired = Vec::new();
    let mut kept = Vec::new();
    for rule in rules {
        match over(&rule) {
            Some(warning) => {
                found.push(warning);
                expired.push(rule.id);
            }
            None => kept.push(rule),
        }
    }
    (kept, expired)
}

fn baseline(arguments: &CheckArgs) -> Result<Option<Baseline>, Stop> {
    let Some(path) = &arguments.baseline else {
        return Ok(None);
    };
    if !path.exists() {
        if arguments.update_baseline {
            return Ok(Some(Baseline::default()));
        }
        let message = format!("there is no baseline file `{}`", path.display());
        return Err(output::wrong_argument(
            &message,
            Some("make it with --update-baseline"),
        ));
    }
    Baseline::read(path)
        .map(Some)
        .map_err(|error| output::wrong_input(&[error], 0))
}

/// Lets the baseline have its say, hides what is to be hidden, and cuts the samples.
fn settle(
    arguments: &CheckArgs,
    judge: &Judge,
    baseline: Option<Baseline>,
    report: &mut CheckReport,
    options: &Options,
    today: NaiveDate,
) -> Result<(), Stop> {
    if let (Some(mut baseline), Some(path)) = (baseline, &arguments.baseline) {
        forget_returned(judge, &mut baseline, report, options);
        if arguments.update_baseline {
            let found = Found::of(report, &arguments.redact);
            let next = baseline.update(&found, &report.at, today, arguments.baseline_expires);
            next.write(path).map_err(|error| {
                output::world(&format!("cannot write {}", path.display()), &error)
            })?;
            output::note(&format!(
                "{}: {} accepted\n",
                path.display(),
                report::counted(next.len() as u64, "violation")
            ));
            baseline = next;
        }
        baseline.apply(report, today);
    }
    redact::apply(report, &arguments.redact);
    if let Some(most) = arguments.sample.0 {
        report
            .outcomes
            .iter_mut()
            .for_each(|outcome| outcome.sample.truncate(most));
    }
    Ok(())
}

/// In a history, an accepted violation that healed after it was accepted and began again is a new one.
fn forget_returned(
    judge: &Judge,
    baseline: &mut Baseline,
    report: &CheckReport,
    options: &Options,
) {
    let Some(position) = report.at.commit else {
        return;
    };
    for outcome in report
        .outcomes
        .iter()
        .filter(|outcome| outcome.violations.unwrap_or(0) > 0)
    {
        let id = &outcome.rule.id;
        let accepted =
            |key: &Map<String, Value>| baseline.entry(id, key).and_then(|entry| entry.commit);
        let earlier = |violation: &Violation| {
            accepted(&violation.key).is_some_and(|commit| commit < position)
        };
        if !outcome.sample.iter().any(earlier) {
            continue;
        }
        match judge.returned(&outcome.rule, options, &accepted) {
            Ok(keys) => keys.iter().for_each(|key| baseline.forget(id, key)),
            Err(error) => output::note(&format!(
                "warning: {id}: whether accepted violations healed and came back is not known: {error}\n"
            )),
        }
    }
}

fn write(arguments: &CheckArgs, report: &CheckReport) -> Result<(), Stop> {
    let to_file = arguments.output.is_some();
    let looks = report::Options {
        color: !to_file && output::stdout_color(),
        width: output::width(),
        sample: arguments.sample.0,
    };
    let text = report::render(report, arguments.format, &looks);
    match &arguments.output {
        None => output::print(&text),
        Some(path) => std::fs::write(path, text)
            .map_err(|error| output::world(&format!("cannot write {}", path.display()), &error))?,
    }
    Ok(())
}
