//! `firstbad gate SOURCE`: exit 0 only when tables are clean and fully judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::arguments::{self, AtArgs, LimitArgs, RuleArgs};
use super::ready::Asked;
use super::record::Shape;
use super::settings::{self, Source};
use super::{Outcome, Stop, check, inputs, output};
use crate::change::now_us;
use crate::config::Config;
use crate::gate::{self, Ask, Gate, Known};
use crate::incident::Reading;
use crate::postgres::Lsn;
use crate::rule::Severity;
use crate::source;
use crate::verdict::CheckReport;

/// How often a watcher's store is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `firstbad gate`
#[derive(Debug, Args)]
pub(super) struct GateArgs {
    /// A watcher's store, or anything that `check` judges [default: the store of firstbad.yaml or .firstbad, then its source]
    source: Vec<String>,
    /// A table that must be clean (can be repeated) [default: all that rules read]
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Everything that was committed before this position of the server's log must be judged
    #[arg(long, value_name = "LSN")]
    lsn: Option<Lsn>,
    /// How old what a watcher judged last may be [default: 5m, without --lsn]
    #[arg(long, value_name = "DURATION", value_parser = inputs::duration)]
    max_age: Option<Duration>,
    /// Wait so long until a watcher has judged far enough
    #[arg(long, value_name = "DURATION", value_parser = inputs::duration)]
    wait: Option<Duration>,
    /// The severity from which a violation closes the gate: info, warn, error or critical
    #[arg(long, value_name = "SEVERITY", default_value = "error", value_parser = arguments::severity)]
    fail_on: Severity,
    /// Pass over writes that a watcher has not seen
    #[arg(long)]
    accept_gaps: bool,
    #[command(flatten)]
    which: RuleArgs,
    #[command(flatten)]
    place: AtArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

pub(super) fn run(arguments: &GateArgs, config: &Config, verbose: u8) -> Outcome {
    let ask = Ask {
        tables: arguments.table.clone(),
        lsn: arguments.lsn,
        age_max: arguments.max_age,
        fail_on: arguments.fail_on,
        accept_gaps: arguments.accept_gaps,
    };
    let source = source(arguments, config)?;
    let gate = match watched(arguments, &source)? {
        Some(reading) => wait(arguments, &reading, &ask.with_age(arguments.max_age))?,
        None if arguments.wait.is_some() => {
            let hint = "rules are judged now on any other source, so there is nothing to wait for";
            let message = "--wait is for a watcher's store";
            return Err(output::wrong_argument(message, Some(hint)));
        }
        None => judged(arguments, &source, config, verbose)?.gate(&ask, now_us()),
    };
    output::print(&match arguments.format {
        Shape::Text => gate.text(),
        Shape::Json => gate.json(),
    });
    Ok(gate.answer.exit_code())
}

/// What is asked: what was named, else the store that a watcher fills, else the source of the file.
fn source(arguments: &GateArgs, config: &Config) -> Result<Source, Stop> {
    if arguments.source.is_empty() {
        let store = inputs::store(None, config);
        if let (true, Some(named)) = (crate::store::is_store(&store), store.to_str()) {
            return Ok(Source::named(&[named.to_owned()]));
        }
    }
    settings::source(&arguments.source, config)
}

/// The incidents of a store that somebody watches, where nothing asks for other rules or positions.
fn watched(arguments: &GateArgs, source: &Source) -> Result<Option<Reading>, Stop> {
    let which = &arguments.which;
    let other = !which.rules.is_empty() || !which.rule.is_empty() || !which.tag.is_empty();
    let other = other || !arguments.place.flags().is_empty();
    let [one] = source.arguments.as_slice() else {
        return Ok(None);
    };
    if other || source::is_postgres(one) || !crate::store::is_store(Path::new(one)) {
        return Ok(None);
    }
    let failed = |error| output::world("incidents", &error);
    let Some(reading) = Reading::open(Path::new(one), false).map_err(failed)? else {
        return Ok(None);
    };
    let known = gate::watched(&reading).map_err(failed)?;
    Ok(known.map(|_| reading))
}

/// Asks a watcher's store, until it is judged far enough or the time is over.
fn wait(arguments: &GateArgs, reading: &Reading, ask: &Ask) -> Result<Gate, Stop> {
    let begun = Instant::now();
    let patience = arguments.wait.unwrap_or_default();
    loop {
        let known = gate::watched(reading).map_err(|error| output::world("incidents", &error))?;
        // It was there a moment ago.
        let known = known.unwrap_or_default();
        if known.behind(ask, now_us()).is_none() || begun.elapsed() >= patience {
            return Ok(known.gate(ask, now_us()));
        }
        std::thread::sleep(LOOK.min(patience.saturating_sub(begun.elapsed())));
    }
}

/// Judges the rules now, as `check` does.
fn judged(
    arguments: &GateArgs,
    source: &Source,
    config: &Config,
    verbose: u8,
) -> Result<Known, Stop> {
    let (rules, mut found) = arguments.which.load(source, config)?;
    let today = check::today(arguments.place.now);
    let (rules, expired) = check::not_expired(rules, today, &mut found);
    let asked = Asked {
        source,
        place: &arguments.place,
        limits: &arguments.limits,
        config,
        sample: Some(0),
        verbose,
    };
    let mut ready = asked.ready(&rules, found)?;
    let history = std::sync::Arc::clone(ready.judge.history());
    let reads = ready.prepared.iter().map(|prepared| {
        let reads = ready
            .judge
            .reads(std::slice::from_ref(prepared), &ready.options);
        let tables = reads.tables().into_iter();
        let tables = tables.map(|at| history.schema.tables[at].name.to_string());
        let subject = prepared
            .rule
            .table
            .iter()
            .map(|table| table.value.to_string());
        (prepared.rule.id.clone(), tables.chain(subject).collect())
    });
    let reads: BTreeMap<String, BTreeSet<String>> = reads.collect();
    let report = CheckReport {
        outcomes: ready.judge(),
        at: inputs::at(&history, ready.options.position),
        source: source.shown.clone(),
        given: crate::verdict::Given::default(),
        expired,
        fail_on: arguments.fail_on,
        fixed: Vec::new(),
        elapsed_ms: 0,
    };
    Ok(gate::judged(&report, &reads))
}
