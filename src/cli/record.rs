//! `firstbad record SOURCE` and `firstbad snapshot SOURCE`: fill a store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::arguments::AtArgs;
use super::settings::{self, Source};
use super::{Outcome, Stop, exit, inputs, output};
use crate::change::TransactionMeta;
use crate::config::Config;
use crate::report::{counted, grouped, sized};
use crate::schema::value::format_timestamp;
use crate::source;
use crate::state::{History, Origin};
use crate::store::{Dropped, Format, Kind, Recorded, Retention, Sealing, StoreError, Writer};

/// Text for people, or one JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shape {
    Text,
    Json,
}

/// Arguments of `firstbad record`
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// A history directory, dated snapshots, dumps, data files or another store [default: source of firstbad.yaml]
    source: Vec<String>,
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Go on when the source ends: look again for what was added, until stopped
    #[arg(long)]
    follow: bool,
    /// How long to wait before looking again
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = inputs::duration, requires = "follow")]
    every: Duration,
    /// How to say what was recorded: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// Arguments of `firstbad snapshot`
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// A history directory, dated snapshots, dumps, data files or another store [default: source of firstbad.yaml]
    source: Vec<String>,
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    place: AtArgs,
    /// How to say what was written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// What a run did to a store.
struct Done<'a> {
    command: &'static str,
    source: &'a str,
    recorded: Recorded,
    /// The snapshot that was asked for.
    at: Option<u32>,
    merged: usize,
    dropped: Option<Dropped>,
}

pub(super) fn record(arguments: &RecordArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let directory = inputs::store(arguments.store.clone(), config);
    apart(&source, &directory)?;
    loop {
        let history = match source::open_held(&source.arguments) {
            Ok(opened) => {
                output::diagnostics(&opened.diagnostics, verbose);
                opened.history
            }
            Err(error) => {
                let stop = inputs::source_error(&error, verbose);
                if !arguments.follow {
                    return Err(stop);
                }
                // Perhaps a line that is being written just now.
                std::thread::sleep(arguments.every);
                continue;
            }
        };
        let failed = |error: StoreError| inputs::store_error(&error, &directory);
        let mut writer = writer(&directory, &source, &history).map_err(failed)?;
        let sealing = sealing(config);
        let bar = output::steps(u64::from(history.head()), "commits");
        let recorded = writer.record(&history, sealing, &|commit| bar.set_position(commit.into()));
        bar.finish_and_clear();
        let recorded = recorded.map_err(failed)?;
        let changed = recorded != Recorded::default();
        let done = Done {
            command: "record",
            source: &source.shown,
            recorded,
            at: None,
            merged: writer.merge(sealing).map_err(failed)?,
            dropped: drop_old(&mut writer, config).map_err(failed)?,
        };
        if changed || !arguments.follow {
            say(&done, &writer, &directory, arguments.format);
        }
        if !arguments.follow {
            return Ok(exit::HELD);
        }
        drop(writer);
        std::thread::sleep(arguments.every);
    }
}

pub(super) fn snapshot(arguments: &SnapshotArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let directory = inputs::store(arguments.store.clone(), config);
    apart(&source, &directory)?;
    let opened = source::open_held(&source.arguments)
        .map_err(|error| inputs::source_error(&error, verbose))?;
    output::diagnostics(&opened.diagnostics, verbose);
    let history = opened.history;
    let at = arguments.place.resolve(&history)?.position;
    inputs::seen(&history, &arguments.place.at, at)?;
    let failed = |error: StoreError| inputs::store_error(&error, &directory);
    let mut writer = writer(&directory, &source, &history).map_err(failed)?;
    let name = |now: i64| TransactionMeta {
        time: Some(now),
        snapshot: Some(format_timestamp(now)),
        ..TransactionMeta::default()
    };
    let mut meta = history.meta(at).cloned().unwrap_or_default();
    if history.origin == Origin::SingleState {
        meta = name(arguments.place.now.unwrap_or_else(now));
    }
    let bar = output::waiting("writing the snapshot");
    let before = writer.store().ledger().snapshots.len() as u64;
    let at = writer.add(&history, at, meta);
    bar.finish_and_clear();
    let at = at.map_err(failed)?;
    let snapshots = writer.store().ledger().snapshots.len() as u64 - before;
    let done = Done {
        command: "snapshot",
        source: &source.shown,
        recorded: Recorded {
            snapshots,
            ..Recorded::default()
        },
        at: Some(at),
        merged: 0,
        dropped: drop_old(&mut writer, config).map_err(failed)?,
    };
    say(&done, &writer, &directory, arguments.format);
    Ok(exit::HELD)
}

/// The clock, in microseconds since the epoch.
pub(super) fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// A store cannot be filled from itself.
fn apart(source: &Source, directory: &Path) -> Result<(), Stop> {
    let real = |path: &Path| path.canonicalize().ok();
    let own = real(directory);
    let same = |argument: &String| own.is_some() && real(Path::new(argument)) == own;
    if source.arguments.iter().any(same) {
        let hint = "name another store with --store DIR";
        return Err(output::wrong_argument(
            "the source is the store itself",
            Some(hint),
        ));
    }
    Ok(())
}

fn writer(directory: &Path, source: &Source, history: &History) -> Result<Writer, StoreError> {
    let format = || {
        let kind = Kind::of(history.origin);
        let partial = history.tables.iter().any(|table| table.begins_partial());
        Format::new(&source.shown, kind, history.schema.clone(), partial)
    };
    Writer::open(directory, format)
}

fn sealing(config: &Config) -> Sealing {
    let default = Sealing::default();
    let segments = config.segments;
    Sealing {
        changes_max: segments.max_changes.unwrap_or(default.changes_max),
        bytes_max: segments.max_bytes.unwrap_or(default.bytes_max),
        snapshot_every: config
            .snapshots
            .every_changes
            .unwrap_or(default.snapshot_every),
    }
}

/// Drops what the retention of the settings does not keep.
fn drop_old(writer: &mut Writer, config: &Config) -> Result<Option<Dropped>, StoreError> {
    let age = config.retention.age;
    let retention = Retention {
        age_us: age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX)),
        bytes: config.retention.size_bytes,
    };
    writer.retain(retention, now())
}

fn say(done: &Done<'_>, writer: &Writer, directory: &Path, shape: Shape) {
    let text = match shape {
        Shape::Text => text(done, writer, directory),
        Shape::Json => json(done, writer, directory).to_string() + "\n",
    };
    output::print(&text);
}

fn text(done: &Done<'_>, writer: &Writer, directory: &Path) -> String {
    let store = writer.store();
    let head = store.ledger().head();
    let shown = crate::escape::terminal(&output::mask().path(directory).display().to_string());
    let source = crate::escape::terminal(done.source);
    let recorded = &done.recorded;
    let mut text = match (done.at, recorded) {
        (Some(at), Recorded { snapshots: 0, .. }) => {
            format!("nothing new: {shown} has a snapshot of #{at} already\n")
        }
        (Some(at), _) => {
            let rows = store
                .ledger()
                .snapshots
                .get(&at)
                .map_or(0, |kept| kept.rows);
            let rows = counted(rows, "row");
            format!("snapshot of #{at} ({rows}) of {source} in {shown}\n")
        }
        (
            None,
            Recorded {
                segments: 0,
                snapshots: 0,
                ..
            },
        ) => {
            format!("nothing new: {shown} ends at #{head}, as {source} does\n")
        }
        (None, _) => format!(
            "recorded {source} in {shown} up to #{head}: {} with {} in {} of {}, {}\n",
            counted(recorded.commits, "commit"),
            counted(recorded.changes, "change"),
            counted(recorded.segments, "segment"),
            sized(recorded.bytes),
            counted(recorded.snapshots, "snapshot"),
        ),
    };
    if done.merged > 0 {
        text += &format!(
            "{} merged into their neighbours\n",
            counted(done.merged as u64, "small segment")
        );
    }
    if let Some(dropped) = done.dropped {
        text += &format!(
            "retention: {} and {} dropped ({}); the store begins at #{} now\n",
            counted(dropped.segments as u64, "segment"),
            counted(dropped.snapshots as u64, "snapshot"),
            sized(dropped.bytes),
            dropped.first
        );
    }
    let seals = grouped(store.chain().seals.len() as u64);
    text + &format!("head {} after {seals} seals\n", store.chain().head())
}

fn json(done: &Done<'_>, writer: &Writer, directory: &Path) -> serde_json::Value {
    let store = writer.store();
    let recorded = &done.recorded;
    let dropped = done.dropped.map(|dropped| {
        json!({
            "first": dropped.first,
            "segments": dropped.segments,
            "snapshots": dropped.snapshots,
            "bytes": dropped.bytes,
        })
    });
    json!({
        "schema": format!("firstbad/{}@1", done.command),
        "source": done.source,
        "store": output::mask().path(directory).display().to_string(),
        "at": done.at.unwrap_or_else(|| store.ledger().head()),
        "commits": recorded.commits,
        "changes": recorded.changes,
        "segments": recorded.segments,
        "snapshots": recorded.snapshots,
        "bytes": recorded.bytes,
        "merged": done.merged,
        "dropped": dropped,
        "head": store.chain().head(),
        "seals": store.chain().seals.len(),
    })
}
