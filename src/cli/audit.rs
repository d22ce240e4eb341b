//! `firstbad audit POSTGRES`: reads tables again, and names the rows that no recorded write explains.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::arguments::{LimitArgs, RuleArgs};
use super::inputs::{self, Sample};
use super::record::{self, Shape};
use super::settings::{self};
use super::{Outcome, Stop, exit, live, output, watch};
use crate::audit::{self, AuditError, Settings, report};
use crate::config::Config;
use crate::escape::terminal;
use crate::postgres::{PostgresError, Progress};
use crate::schema::TableName;
use crate::watch::metrics::{Health, Metrics};
use crate::watch::{Outside, Told, WatchError};

/// Arguments of `firstbad audit`
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The database: postgres://user@host/database [default: source of firstbad.yaml]
    source: Vec<String>,
    /// The store that `firstbad watch` fills [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Audit only this table (can be repeated)
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Read at most so many rows a second
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long to wait for the watcher to record what was read
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = inputs::duration)]
    wait: Duration,
    /// Record up to now where no watcher does; the rules are those of the watcher
    #[arg(long)]
    catch_up: bool,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// The watcher's replication slot
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    slot: String,
    /// The watcher's publication
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    publication: String,
    /// Hide the values of this column (can be repeated); those that rules hide are hidden
    #[arg(long, value_name = "COLUMN")]
    redact: Vec<String>,
    /// How many rows of a table to list: a number, or all
    #[arg(long, value_name = "N", default_value = "10", value_parser = inputs::sample)]
    sample: Sample,
    /// How to say what was found: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

pub(super) fn run(arguments: &AuditArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let target = watch::target(&source)?;
    let shown = target.shown();
    let store = inputs::store(arguments.store.clone(), config);
    let settings = Settings {
        target: target.clone(),
        store: store.clone(),
        tables: arguments
            .table
            .iter()
            .map(|name| TableName::parse(name))
            .collect(),
        rate: arguments.rate,
        wait: arguments.wait,
        redact: arguments.redact.clone(),
    };
    let recording = match arguments.catch_up {
        false => None,
        true => {
            let rules = watch::rules(&arguments.rules, &source, config, verbose)?;
            Some(crate::watch::Settings {
                store: store.clone(),
                target,
                rules,
                limits: arguments.limits.limits(config),
                slot: arguments.slot.clone(),
                publication: arguments.publication.clone(),
                sealing: record::sealing(config),
                seal_age: Duration::from_secs(1),
                retention: record::retention(config),
                bulk: true,
                lag_warn_bytes: u64::MAX,
                lag_drop_bytes: None,
                until_now: true,
            })
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| output::world("threads cannot be started", &error))?;
    let bar = output::waiting("connecting");
    let progress = |progress: Progress| live::show(&bar, progress);
    let mut catch_up = || match &recording {
        Some(recording) => caught_up(recording, &runtime),
        None => Ok(()),
    };
    let audited = audit::audit(&settings, &runtime, &mut catch_up, &progress);
    bar.finish_and_clear();
    runtime.shutdown_timeout(Duration::from_secs(1));
    let tables = audited.map_err(|error| failed(&error, &shown, &store))?;
    let sample = arguments.sample.0;
    output::print(&match arguments.format {
        Shape::Text => report::text(&tables, sample),
        Shape::Json => {
            let store = output::mask().path(&store).display().to_string();
            report::json(&shown, &store, &tables, sample)
        }
    });
    Ok(match report::differ(&tables) {
        0 => exit::HELD,
        _ => exit::VIOLATED,
    })
}

/// Records what was committed until now. Incidents that open are in the store for who asks; notices stay to be said by the watcher.
fn caught_up(
    recording: &crate::watch::Settings,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), WatchError> {
    let outside = Outside {
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::new(Instant::now())),
    };
    let mut tell = |told: Told<'_>| {
        if let Told::Note(text) = told {
            output::note(&format!("note: {}\n", terminal(text)));
        }
        !matches!(told, Told::Notice(_))
    };
    crate::watch::watch(
        recording,
        &outside,
        runtime,
        &|_| (),
        &mut |_| (),
        &mut tell,
    )
}

fn failed(error: &AuditError, shown: &str, store: &std::path::Path) -> Stop {
    let what = format!("cannot audit {}", terminal(shown));
    match error {
        AuditError::Request { message, hint } => output::wrong_argument(message, Some(hint)),
        AuditError::Store(error) | AuditError::Watch(WatchError::Store(error)) => {
            inputs::store_error(error, store)
        }
        AuditError::Postgres(error @ PostgresError::Argument { .. }) => watch::refused(error),
        AuditError::Watch(WatchError::Rules(found)) => output::wrong_input(found, 0),
        AuditError::Postgres(error) => {
            let stop = output::world(&what, error);
            if let Some(hint) = error.hint() {
                output::note(&format!("  help: {}\n", terminal(hint)));
            }
            stop
        }
        AuditError::Behind { .. } => {
            let stop = output::world(&what, error);
            output::note(
                "  help: is `firstbad watch` running? --wait DURATION waits longer for it, --catch-up records where nobody does\n",
            );
            stop
        }
        AuditError::Gap => {
            let stop = output::world(&what, error);
            output::note("  help: audit again\n");
            stop
        }
        _ => output::world(&what, error),
    }
}
