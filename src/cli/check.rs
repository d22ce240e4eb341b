//! `firstbad check SOURCE`: judges every rule on the state at one position.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use clap::Args;
use serde_json::{Map, Value};

use super::arguments::{AtArgs, LimitArgs, ReportArgs, RuleArgs};
use super::ready::{Asked, Ready};
use super::settings::{self, Source};
use super::{Outcome, Stop, inputs, output};
use crate::baseline::{Baseline, Found};
use crate::change::Commit;
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::judge::{Judge, Options};
use crate::report::{self, Format};
use crate::rule::Rule;
use crate::state::History;
use crate::verdict::{CheckReport, Given, Violation, redact};

/// Arguments of `firstbad check`
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A history directory, a directory of table files, or data files [default: source of firstbad.yaml]
    source: Vec<String>,
    #[command(flatten)]
    which: RuleArgs,
    #[command(flatten)]
    place: AtArgs,
    /// How to write the report: text, json, jsonl, junit, sarif, github or markdown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    #[command(flatten)]
    report: ReportArgs,
    /// Violations accepted in this file do not fail the run
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Accept all that is violated now: write it to the baseline file
    #[arg(long, requires = "baseline")]
    update_baseline: bool,
    /// The last day on which violations that are accepted now stay accepted
    #[arg(long, value_name = "DATE", requires = "update_baseline", value_parser = date)]
    baseline_expires: Option<NaiveDate>,
    #[command(flatten)]
    limits: LimitArgs,
}

fn date(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map_err(|_| "not a date; write e.g. 2026-12-31".to_owned())
}

pub(super) fn run(arguments: &CheckArgs, config: &Config, verbose: u8) -> Outcome {
    let start = Instant::now();
    let source = settings::source(&arguments.source, config)?;
    let (rules, mut found) = arguments.which.load(&source, config)?;
    let baseline = baseline(arguments)?;
    let today = today(arguments.place.now);
    let (rules, expired) = not_expired(rules, today, &mut found);
    let asked = Asked {
        source: &source,
        place: &arguments.place,
        limits: &arguments.limits,
        config,
        // With a baseline every violation has to be looked up.
        sample: match arguments.baseline {
            Some(_) => None,
            None => arguments.report.sample.0,
        },
        verbose,
    };
    let mut ready = asked.ready(&rules, found)?;
    let history = Arc::clone(ready.judge.history());
    if verbose > 0 {
        let position = ready.options.position;
        output::note(&state_notes(&history, position, !ready.is_live));
    }
    let outcomes = ready.judge();
    let Ready { judge, options, .. } = ready;
    let mut report = CheckReport {
        given: given(arguments, config, &source),
        source: source.shown,
        at: inputs::at(&history, options.position),
        outcomes,
        expired,
        fail_on: arguments.report.fail_on,
        fixed: Vec::new(),
        elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    settle(arguments, &judge, baseline, &mut report, &options, today)?;
    let looks = arguments.report.looks();
    let text = report::render(&report, arguments.format, &looks);
    arguments.report.write(&text)?;
    Ok(report.exit_code())
}

/// What the state is and takes, for those who want to know.
fn state_notes(history: &History, position: Commit, whole: bool) -> String {
    let known = whole && history.unseen_at(position).is_none();
    let fingerprint = known.then(|| history.state_fingerprint(position));
    let fingerprint = match fingerprint.flatten() {
        Some(fingerprint) => format!("note: fingerprint of the state: {fingerprint}\n"),
        None => String::new(),
    };
    let memory = history.memory();
    let versions = report::counted(memory.versions as u64, "row version");
    let bytes = report::grouped(memory.bytes as u64);
    format!(
        "{fingerprint}note: {versions} in {bytes} bytes: {} bytes each\n",
        memory.bytes_per_version()
    )
}

/// What the command was given, for the commands to run next.
fn given(arguments: &CheckArgs, config: &Config, source: &Source) -> Given {
    let baseline = arguments.baseline.iter();
    let baseline = baseline.map(|path| ("--baseline", path.display().to_string()));
    let flags = [
        arguments.which.flags(),
        arguments.place.flags(),
        baseline.collect(),
        arguments.report.flags(),
        arguments.limits.flags(config),
        settings::flags(config),
    ];
    Given {
        source: source.given.clone(),
        flags: flags.concat(),
    }
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
            let found = Found::of(report, &arguments.report.redact);
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
    redact::apply(report, &arguments.report.redact);
    if let Some(most) = arguments.report.sample.0 {
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
