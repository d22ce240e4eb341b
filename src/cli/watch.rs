//! `firstbad watch POSTGRES`: records and judges every commit, until it is stopped.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;

use super::arguments::{LimitArgs, RuleArgs};
use super::settings::{self, Source};
use super::{Outcome, Stop, exit, inputs, live, output, record};
use crate::alert::{Courier, Options};
use crate::config::{Config, STORE_NAME, Sink};
use crate::diagnostic;
use crate::escape::terminal;
use crate::postgres::{PostgresError, Progress, Target};
use crate::report::incident::{notice_json, notice_line};
use crate::report::{counted, grouped};
use crate::rule::Rule;
use crate::watch::http::{self, Listen};
use crate::watch::metrics::{Health, Metrics};
use crate::watch::{FeedError, Outside, Settings, Stopper, Told, WatchError, snapshots, watch};

/// A change is on the disk after so long at the latest, where nothing else is said.
const SEAL_AGE: Duration = Duration::from_secs(1);
/// So many bytes of log behind are worth a word.
const LAG_WARN_BYTES: u64 = 1 << 30;

/// How often tables are read, where nothing else is said.
const EVERY: Duration = Duration::from_secs(300);

/// Where commits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Every transaction, by logical replication.
    Stream,
    /// States, read from time to time.
    Snapshots,
}

/// Arguments of `firstbad watch`
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The database: postgres://user@host/database [default: source of firstbad.yaml]
    source: Vec<String>,
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// What is watched: every commit by logical replication, or snapshots from time to time
    #[arg(long, value_name = "MODE", default_value = "stream", value_enum)]
    mode: Mode,
    /// How often the tables are read with --mode snapshots [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = inputs::duration)]
    every: Option<Duration>,
    /// The replication slot, which is made when watching begins
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    slot: String,
    /// The publication, which is made when it is missing and the role may do that
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    publication: String,
    /// Answer GET /metrics, /healthz and /gate here, e.g. 127.0.0.1:9187
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What callers must send as `Authorization: Bearer …` [default: the variable FIRSTBAD_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    listen_token: Option<String>,
    /// Say so when this much log is behind
    #[arg(long, value_name = "SIZE", value_parser = inputs::size, default_value_t = LAG_WARN_BYTES, hide_default_value = true)]
    lag_warn: u64,
    /// Drop the slot and end when the server has to keep more log than this; the next start reads the tables anew
    #[arg(long, value_name = "SIZE", value_parser = inputs::size)]
    drop_slot_above: Option<u64>,
    /// Never read a backlog in bulk
    #[arg(long)]
    no_bulk: bool,
    /// End when everything is judged that was committed before the start
    #[arg(long)]
    until_now: bool,
    /// How incidents are said: text, or one JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: record::Shape,
}

pub(super) fn run(arguments: &WatchArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let target = target(&source)?;
    if arguments.mode == Mode::Stream && arguments.every.is_some() {
        let hint = "every commit is judged as it comes; snapshots are taken with --mode snapshots";
        return Err(output::wrong_argument(
            "--every is for snapshots",
            Some(hint),
        ));
    }
    let listen = listen(arguments)?;
    let rules = rules(&arguments.rules, &source, config, verbose)?;
    let settings = Settings {
        store: arguments
            .store
            .clone()
            .or_else(|| config.store.as_ref().map(|text| text.value().into()))
            .unwrap_or_else(|| STORE_NAME.into()),
        target,
        rules,
        limits: arguments.limits.limits(config),
        slot: arguments.slot.clone(),
        publication: arguments.publication.clone(),
        sealing: record::sealing(config),
        seal_age: config.segments.max_age.unwrap_or(SEAL_AGE),
        retention: record::retention(config),
        bulk: !arguments.no_bulk,
        lag_warn_bytes: arguments.lag_warn,
        lag_drop_bytes: arguments.drop_slot_above,
        until_now: arguments.until_now,
    };
    let sinks = super::alert::sinks(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| output::world("threads cannot be started", &error))?;
    let outside = Outside {
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::new(Instant::now())),
    };
    let automatic = super::quarantine::automatic(config, &settings.store, &settings.rules)?;
    if let Some(listen) = listen {
        serve(listen, &outside, &settings, &runtime)?;
    }
    let courier = courier(sinks, &settings)?;
    let bar = output::waiting("connecting");
    let progress = |progress: Progress| live::show(&bar, progress);
    // A watch that reads the tables anew is another one to stop.
    let current: Arc<Mutex<Option<Stopper>>> = Arc::default();
    let mut ready = |stopper: Stopper| {
        bar.finish_and_clear();
        let before = hold(&current).replace(stopper);
        if before.is_none() {
            runtime.spawn(stop_on_signals(Arc::clone(&current)));
        }
    };
    let mut tell = |told: Told<'_>| tell(&told, arguments.format);
    let watched = match arguments.mode {
        Mode::Stream => watch(
            &settings, &outside, &runtime, &progress, &mut ready, &mut tell,
        ),
        Mode::Snapshots => snapshots::watch(
            &settings,
            arguments.every.unwrap_or(EVERY),
            &outside,
            &runtime,
            &progress,
            &mut ready,
            &mut tell,
        ),
    };
    bar.finish_and_clear();
    // It looks once more at what was found last.
    drop(automatic);
    if let Some(courier) = courier {
        courier.stop();
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    match watched {
        Ok(()) => Ok(exit::HELD),
        Err(error) => Err(failed(&error, &settings, verbose)),
    }
}

/// The rules that are asked for and have not expired.
pub(super) fn rules(
    arguments: &RuleArgs,
    source: &Source,
    config: &Config,
    verbose: u8,
) -> Result<Vec<Rule>, Stop> {
    let (rules, found) = arguments.load(source, config)?;
    if diagnostic::any_error(&found) {
        return Err(output::wrong_input(&found, verbose));
    }
    output::diagnostics(&found, verbose);
    let today = chrono::Utc::now().date_naive();
    let mut notes = Vec::new();
    let (rules, _) = super::check::not_expired(rules, today, &mut notes);
    output::diagnostics(&notes, verbose);
    Ok(rules)
}

/// The server that a source names.
pub(super) fn target(source: &Source) -> Result<Target, Stop> {
    let [url] = source.arguments.as_slice() else {
        return Err(output::wrong_argument("one database is watched", None));
    };
    if !Target::is_url(url) {
        let message = format!("`{}` is no database", source.shown);
        let hint =
            "name it as postgres://user@host/database; `firstbad record` records other sources";
        return Err(output::wrong_argument(&message, Some(hint)));
    }
    let target = Target::parse(url).map_err(|error| refused(&error))?;
    for warning in target.warnings() {
        output::note(&format!("warning: {}\n", terminal(warning)));
    }
    Ok(target)
}

/// Says what is wrong with what the user named.
pub(super) fn refused(error: &PostgresError) -> Stop {
    output::wrong_argument(&error.to_string(), error.hint())
}

/// Who tells the sinks, where there are any.
fn courier(sinks: &[Sink], settings: &Settings) -> Result<Option<Courier>, Stop> {
    if sinks.is_empty() {
        return Ok(None);
    }
    let (options, tell) = (Options::default(), super::alert::tell());
    let courier = Courier::start(&settings.store, sinks, options, tell);
    courier
        .map(Some)
        .map_err(|error| output::world("incidents", &error))
}

fn listen(arguments: &WatchArgs) -> Result<Option<Listen>, Stop> {
    let Some(text) = &arguments.listen else {
        return Ok(None);
    };
    let token = arguments.listen_token.clone();
    let token = token.or_else(|| std::env::var("FIRSTBAD_TOKEN").ok());
    let listen = Listen::parse(text, token.as_deref());
    let listen =
        listen.map_err(|error| output::wrong_argument(&format!("--listen: {error}"), None));
    listen.map(Some)
}

fn serve(
    listen: Listen,
    outside: &Outside,
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), Stop> {
    let bound = runtime.block_on(tokio::net::TcpListener::bind(listen.address));
    let listener = bound
        .map_err(|error| output::world(&format!("cannot listen on {}", listen.address), &error))?;
    if let Ok(address) = listener.local_addr() {
        output::note(&format!("listening on http://{address}\n"));
    }
    runtime.spawn(http::serve(
        listener,
        listen.token,
        http::Limits::default(),
        outside.clone(),
        settings.store.clone(),
    ));
    Ok(())
}

/// What is held; who panicked with it left it whole.
fn hold(current: &Mutex<Option<Stopper>>) -> MutexGuard<'_, Option<Stopper>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn stop_on_signals(current: Arc<Mutex<Option<Stopper>>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let stopper = hold(&current).clone();
    let stopped = tokio::task::spawn_blocking(move || stopper.is_some_and(|one| one.stop())).await;
    if !matches!(stopped, Ok(true)) {
        // It is about to begin anew, and nothing is lost.
        std::process::exit(130);
    }
    // Asked twice, it ends at once: what is not sealed comes again.
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(130);
}

/// Says what happens; whether a notice was said.
fn tell(told: &Told<'_>, shape: record::Shape) -> bool {
    match (told, shape) {
        (Told::Notice(notice), record::Shape::Text) => {
            return output::try_print(&notice_line(notice));
        }
        (Told::Notice(notice), record::Shape::Json) => {
            return output::try_print(&notice_json(notice));
        }
        (Told::Note(text), _) => output::note(&format!("note: {}\n", terminal(text))),
        (
            Told::Watching {
                at_every_commit,
                on_a_cadence,
                commit,
                rows,
            },
            _,
        ) => {
            let cadence = match on_a_cadence {
                0 => String::new(),
                some => format!(", {} from time to time", grouped(*some as u64)),
            };
            output::note(&format!(
                "watching from #{commit}: {} rows, {} judged at every commit{cadence}\n",
                grouped(*rows),
                counted(*at_every_commit as u64, "rule"),
            ));
        }
    }
    true
}

fn failed(error: &WatchError, settings: &Settings, verbose: u8) -> Stop {
    let shown = settings.target.shown();
    let what = format!("cannot watch {}", terminal(&shown));
    match error {
        WatchError::Rules(found) => output::wrong_input(found, verbose),
        WatchError::Postgres(error @ PostgresError::Argument { .. }) => refused(error),
        WatchError::Store(error) => inputs::store_error(error, &settings.store),
        WatchError::NothingToWatch | WatchError::Tables(_) | WatchError::OtherTables(_) => {
            let hint = "`firstbad doctor` says what the database lacks, with the SQL that mends it";
            output::wrong_argument(&error.to_string(), Some(hint))
        }
        WatchError::Postgres(inner) | WatchError::Feed(FeedError::Postgres(inner)) => {
            let stop = output::world(&what, inner);
            if let Some(hint) = inner.hint() {
                output::note(&format!("  help: {}\n", terminal(hint)));
            }
            stop
        }
        _ => output::world(&what, error),
    }
}
