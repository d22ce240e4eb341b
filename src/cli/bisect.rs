//! `firstbad bisect SOURCE`: finds the first bad write of every violated rule, or of what any command calls bad.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;
use serde_json::{Map, Value};

use super::arguments::{AtArgs, LimitArgs, ReportArgs, RuleArgs};
use super::check::{not_expired, today};
use super::settings::{self, Source};
use super::{Outcome, Stop, inputs, live, output, quick};
use crate::bisect::{self, BisectReport, Found, Range, run as command};
use crate::change::Commit;
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::judge::{Judge, JudgeError, Options, Prepared};
use crate::report::{self, Format};
use crate::rule::Rule;
use crate::state::{History, Origin};
use crate::verdict::{Given, Verdict};

/// Arguments of `firstbad bisect`
#[derive(Debug, Args)]
#[command(
    mut_arg("rule", |arg| arg.help("Look at this rule only, and report it also when it holds (can be repeated)")),
    mut_arg("tag", |arg| arg.help("Look at rules with this tag only (can be repeated)")),
    mut_arg("fail_on", |arg| arg.help("The severity from which a violation makes the exit code 1: info, warn, error or critical")),
    mut_arg("sample", |arg| arg.help("How many keys of a rule the text lists: a number, or all"))
)]
pub(super) struct BisectArgs {
    /// A history directory, or a directory of dated snapshots [default: source of firstbad.yaml]
    source: Vec<String>,
    #[command(flatten)]
    pub(super) which: RuleArgs,
    #[command(flatten)]
    pub(super) place: AtArgs,
    /// A position known to be good: what is bad there was bad before [default: position 0]
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    good: Option<String>,
    /// A position known to be bad: the same as --at
    #[arg(
        long,
        value_name = "POSITION",
        conflicts_with = "at",
        allow_hyphen_values = true
    )]
    bad: Option<String>,
    /// Only violations that begin at this position or later
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only this key, as id=4410 or a JSON object (can be repeated)
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Vec<Map<String, Value>>,
    /// Of a store, judge few of its snapshots, then every commit between two of them: what healed and came back is not seen
    #[arg(long, conflicts_with_all = ["good", "bad", "since", "key", "run"])]
    quick: bool,
    /// Judge by a shell command instead of rules: exit 0 is good, 125 cannot tell, other codes up to 127 are bad
    #[arg(long, value_name = "CMD", conflicts_with_all = ["rules", "rule", "tag", "key", "since", "now"])]
    run: Option<String>,
    /// How to write the report: text, json or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format)]
    format: Format,
    #[command(flatten)]
    pub(super) report: ReportArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

fn format(text: &str) -> Result<Format, String> {
    match text.parse()? {
        known @ (Format::Text | Format::Json | Format::Jsonl) => Ok(known),
        _ => Err("bisect writes text, json and jsonl".to_owned()),
    }
}

/// `id=4410`, `sku=TEA-0050,warehouse=BER`, or a JSON object.
fn key(text: &str) -> Result<Map<String, Value>, String> {
    let wrong = || "not a key; write e.g. id=4410, or {\"id\": 4410}".to_owned();
    if text.trim_start().starts_with('{') {
        let key: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        return if key.is_empty() {
            Err(wrong())
        } else {
            Ok(key)
        };
    }
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        Ok((name.trim().to_owned(), Value::from(value)))
    };
    text.split(',').map(pair).collect()
}

pub(super) fn run(arguments: &BisectArgs, config: &Config, verbose: u8) -> Outcome {
    let start = Instant::now();
    let source = settings::source(&arguments.source, config)?;
    if live::is_live(&source.arguments) {
        return Err(live::one_state(&source));
    }
    let asked = Asked {
        arguments,
        config,
        source: &source,
    };
    let mut report = match &arguments.run {
        Some(command) => by_command(&asked, command, verbose)?,
        None if arguments.quick => quick::by_snapshots(&asked, verbose)?,
        None => by_rules(&asked, verbose)?,
    };
    report.elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    bisect::redact(&mut report, &arguments.report.redact);
    let looks = arguments.report.looks();
    let text = report::render_bisect(&report, arguments.format, &looks);
    arguments.report.write(&text)?;
    Ok(report.exit_code())
}

/// What a run was asked for.
pub(super) struct Asked<'a> {
    pub(super) arguments: &'a BisectArgs,
    pub(super) config: &'a Config,
    pub(super) source: &'a Source,
}

impl Asked<'_> {
    /// How a position is judged.
    pub(super) fn options(&self, position: Commit) -> Options {
        Options {
            position,
            now_us: self.arguments.place.now,
            sample: None,
        }
    }
}

fn by_rules(asked: &Asked<'_>, verbose: u8) -> Result<BisectReport, Stop> {
    let arguments = asked.arguments;
    let (rules, mut found) = arguments.which.load(asked.source, asked.config)?;
    let history = inputs::open_for_rules(&asked.source.arguments, None, &mut found, verbose)?;
    let history = Arc::new(history);
    let range = range(arguments, &history)?;
    let (rules, expired) = not_expired(rules, today(arguments.place.now), &mut found);
    let judge = arguments.limits.judge(&history, asked.config)?;
    let options = asked.options(range.bad);
    let prepared = prepared(&judge, &rules, &options, found, verbose)?;
    let prepared = with_keys(prepared, &range)?;
    let mut report = BisectReport {
        expired,
        ..empty_report(asked, &history, &range)
    };
    let bar = output::progress(prepared.len());
    let one = |rule: &Prepared| {
        bar.set_message(rule.rule.id.clone());
        let mut found = one_rule(&judge, rule, &history, &range, &options)?;
        found.common = bisect::common(&found, &history, range.bad, &arguments.report.redact);
        bar.inc(1);
        Ok(found)
    };
    let found = on_all_cores(&prepared, &one);
    for (rule, found) in prepared.iter().zip(found) {
        // Perhaps the neighbour's fault: judged again, alone.
        let found = found.or_else(|_: JudgeError| one(rule));
        let found = found.unwrap_or_else(|error| Found::unknown(&rule.rule, error.to_string()));
        enter(
            &mut report,
            found,
            arguments.which.rule.contains(&rule.rule.id),
        );
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Rules that fit the source, or everything that is wrong with them and with what was read before.
pub(super) fn prepared(
    judge: &Judge,
    rules: &[Rule],
    options: &Options,
    mut found: Vec<Diagnostic>,
    verbose: u8,
) -> Result<Vec<Prepared>, Stop> {
    let prepared = judge.prepare(rules, options).unwrap_or_else(|mistakes| {
        found.extend(mistakes);
        Vec::new()
    });
    if diagnostic::any_error(&found) {
        return Err(output::wrong_input(&found, verbose));
    }
    output::diagnostics(&found, verbose);
    Ok(prepared)
}

/// Applies a function to all items, on as many threads as there are cores; the results are in the order of the items.
fn on_all_cores<T: Sync, R: Send>(items: &[T], each: &(impl Fn(&T) -> R + Sync)) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, item)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            done.push((at, each(item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(items.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What became of one rule. The error is that the process as a whole needed too much memory.
pub(super) fn one_rule(
    judge: &Judge,
    prepared: &Prepared,
    history: &History,
    range: &Range,
    options: &Options,
) -> Result<Found, JudgeError> {
    let rule: &Rule = &prepared.rule;
    let prepared = &prepared.counting_since(range.since);
    let range = Range {
        since: range.since.max(prepared.since()),
        ..range.clone()
    };
    let lives = judge.lives_from(prepared, range.first_judged(rule), range.bad, options);
    let found = match lives {
        Ok(lives) => bisect::locate(rule, &lives, history, &range),
        Err(error @ JudgeError::Memory(_)) => return Err(error),
        Err(error) => Err(error.to_string()),
    };
    Ok(found.unwrap_or_else(|reason| Found::unknown(rule, reason)))
}

/// Counts what was found, and keeps it if it has something to say or was asked for.
pub(super) fn enter(report: &mut BisectReport, found: Found, asked_for: bool) {
    let at = match found.verdict {
        Verdict::Held => 0,
        Verdict::Violated => 1,
        Verdict::Unknown => 2,
    };
    report.counts[at] += 1;
    if asked_for || found.speaks() {
        report.found.push(found);
    }
}

/// The rules that can have one of the keys asked for.
fn with_keys(prepared: Vec<Prepared>, range: &Range) -> Result<Vec<Prepared>, Stop> {
    let any = !prepared.is_empty();
    let mut known: Vec<String> = prepared.iter().flat_map(Prepared::key).collect();
    let fitting: Vec<Prepared> = prepared
        .into_iter()
        .filter(|rule| range.fits(&rule.key()))
        .collect();
    if any && fitting.is_empty() {
        known.sort();
        known.dedup();
        let hint = format!("key columns are {}", known.join(", "));
        return Err(output::wrong_argument(
            "--key: no rule has a key with these columns",
            Some(&hint),
        ));
    }
    Ok(fitting)
}

/// The range that the arguments name.
fn range(arguments: &BisectArgs, history: &History) -> Result<Range, Stop> {
    let position = |flag: &str, text: &str| {
        let position = arguments.place.named(history, flag, text)?.position;
        inputs::seen(history, text, position).map(|()| position)
    };
    let bad = match &arguments.bad {
        Some(text) => position("--bad", text)?,
        None => position("--at", &arguments.place.at)?,
    };
    let good = match &arguments.good {
        Some(text) => position("--good", text)?,
        None => 0,
    };
    let since = match &arguments.since {
        Some(text) => arguments.place.since(history, text)?,
        None => 0,
    };
    if good > bad || (good == bad && arguments.good.is_some()) {
        let message = format!("--good: #{good} does not lie before #{bad}");
        return Err(output::wrong_argument(&message, None));
    }
    Ok(Range {
        good,
        bad,
        since,
        keys: arguments.key.clone(),
        now_us: arguments.place.now,
    })
}

pub(super) fn empty_report(asked: &Asked<'_>, history: &History, range: &Range) -> BisectReport {
    let arguments = asked.arguments;
    let flags = [
        arguments.which.flags(),
        arguments.place.flags(),
        arguments.report.flags(),
        arguments.limits.flags(asked.config),
        settings::flags(asked.config),
    ];
    let given = Given {
        source: asked.source.given.clone(),
        flags: flags.concat(),
    };
    BisectReport {
        source: asked.source.shown.clone(),
        at: bisect::position(history, range.bad),
        good: range.good.max(history.first),
        found: Vec::new(),
        counts: [0; 3],
        expired: Vec::new(),
        fail_on: arguments.report.fail_on,
        given,
        command: arguments.run.clone(),
        elapsed_ms: 0,
    }
}

fn by_command(asked: &Asked<'_>, command: &str, verbose: u8) -> Result<BisectReport, Stop> {
    let arguments = asked.arguments;
    let opened = inputs::open(&asked.source.arguments, None, verbose)?;
    output::diagnostics(&opened.diagnostics, verbose);
    let history = opened.history;
    if matches!(history.origin, Origin::SingleState | Origin::SnapshotOnly) {
        return Err(output::wrong_argument(
            "the source has one state and no history: there is nothing to search",
            Some("a history has changes/ or snapshots/: see docs/inputs.md"),
        ));
    }
    let range = range(arguments, &history)?;
    let terminal = std::io::stderr().is_terminal();
    let told = |at, answer: command::Answer| {
        if terminal {
            output::note(&format!("#{at}: {}\n", answer.as_str()));
        }
    };
    let mut judge = command::Judge::new(&history, command);
    let found = judge
        .bisect(range.good, range.bad, &told)
        .map_err(|error| output::world("--run", &error))?;
    if !judge.not_known().is_empty() {
        let columns: Vec<&str> = judge.not_known().iter().map(String::as_str).collect();
        let columns = crate::escape::terminal(&columns.join(", "));
        output::note(&format!(
            "warning: not known in some rows, and NULL in the files: {columns}\n"
        ));
    }
    let mut report = empty_report(asked, &history, &range);
    enter(&mut report, found, true);
    Ok(report)
}
