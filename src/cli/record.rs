//! `firstbad record SOURCE` and `firstbad snapshot SOURCE`: fill a store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::arguments::AtArgs;
use super::settings::{self, Source};
use super::{Outcome, Stop, exit, inputs, live, output};
use crate::change::now_us;
use crate::config::Config;
use crate::escape::terminal;
use crate::postgres::Wanted;
use crate::report::{counted, grouped, shell_word, sized};
use crate::schema::value::format_timestamp;
use crate::source;
use crate::state::{History, Origin};
use crate::store::{
    Dropped, Format, Kind, Ledger, Recorded, Retention, Sealing, Store, StoreError, Stretch, Writer,
};

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
    /// The last position before the run; None where the store was empty.
    before: Option<u32>,
    /// The snapshot that was asked for.
    at: Option<u32>,
    merged: usize,
    dropped: Option<Dropped>,
}

pub(super) fn record(arguments: &RecordArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    if live::is_live(&source.arguments) {
        return Err(one_state(&source));
    }
    let directory = place(arguments.store.clone(), config, &source)?;
    let mut is_first = true;
    let mut is_failing = false;
    loop {
        let history = match source::open_held(&source.arguments) {
            Ok(opened) => {
                if is_first {
                    output::diagnostics(&opened.diagnostics, verbose);
                }
                is_failing = false;
                opened.history
            }
            // Said once, until it is over.
            Err(_) if is_failing => {
                std::thread::sleep(arguments.every);
                continue;
            }
            Err(error) => {
                let stop = inputs::source_error(&error, verbose);
                if !arguments.follow {
                    return Err(stop);
                }
                // Perhaps a line that is being written just now.
                is_failing = true;
                std::thread::sleep(arguments.every);
                continue;
            }
        };
        if history.origin == Origin::SingleState {
            return Err(one_state(&source));
        }
        let failed = |error: StoreError| inputs::store_error(&error, &directory);
        let mut writer = writer(&directory, &source, &history).map_err(failed)?;
        let before = known(&writer);
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
            before,
            at: None,
            merged: writer.merge(sealing).map_err(failed)?,
            dropped: drop_old(&mut writer, config).map_err(failed)?,
        };
        if changed || is_first {
            say(&done, &writer, &directory, arguments.format);
        }
        if !arguments.follow {
            return Ok(exit::HELD);
        }
        is_first = false;
        drop(writer);
        std::thread::sleep(arguments.every);
    }
}

/// A source that is one state has nothing to record.
fn one_state(source: &Source) -> Stop {
    let command: Vec<String> = ["firstbad", "snapshot"]
        .into_iter()
        .chain(source.given.iter().map(String::as_str))
        .map(shell_word)
        .collect();
    output::wrong_argument(
        &format!("`{}` holds one state and no changes", source.shown),
        Some(&format!(
            "`{}` adds it to a store as the next state",
            command.join(" ")
        )),
    )
}

/// The last position of a store that holds something.
fn known(writer: &Writer) -> Option<u32> {
    let ledger = writer.store().ledger();
    (!ledger.snapshots.is_empty()).then(|| ledger.head())
}

pub(super) fn snapshot(arguments: &SnapshotArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let directory = place(arguments.store.clone(), config, &source)?;
    let opened = match live::open(&source.arguments, Some(&arguments.place), verbose)? {
        Some(live) => live::read(&live, &Wanted::All, verbose)?,
        None => source::open_held(&source.arguments)
            .map_err(|error| inputs::source_error(&error, verbose))?,
    };
    output::diagnostics(&opened.diagnostics, verbose);
    let history = opened.history;
    let at = arguments.place.resolve(&history)?.position;
    inputs::seen(&history, &arguments.place.at, at)?;
    let failed = |error: StoreError| inputs::store_error(&error, &directory);
    let mut writer = writer(&directory, &source, &history).map_err(failed)?;
    let mut meta = history.meta(at).cloned().unwrap_or_default();
    if at == history.first && meta.snapshot.is_none() {
        meta.snapshot.clone_from(&history.first_snapshot);
    }
    if history.origin == Origin::SingleState {
        let own = arguments.place.now.or(history.base.time);
        let time = own.unwrap_or_else(now_us);
        meta.time = Some(time);
        meta.snapshot = Some(format_timestamp(time));
        forward(&writer, time, &directory)?;
    }
    let before = known(&writer);
    let counts = contents(&writer);
    let bar = output::waiting("writing the snapshot");
    let at = writer.add(&history, at, meta);
    bar.finish_and_clear();
    let at = at.map_err(failed)?;
    let done = Done {
        command: "snapshot",
        source: &source.shown,
        recorded: added(&counts, &contents(&writer)),
        before,
        at: Some(at),
        merged: 0,
        dropped: drop_old(&mut writer, config).map_err(failed)?,
    };
    say(&done, &writer, &directory, arguments.format);
    Ok(exit::HELD)
}

/// What a store holds, counted.
fn contents(writer: &Writer) -> Recorded {
    let ledger = writer.store().ledger();
    let commits = |one: &Stretch| match one.unseen {
        true => 1,
        false => u64::from(one.to - one.from) + 1,
    };
    let files = |one: &Stretch| -> u64 {
        let files = ledger.segment_files(one);
        files.map(|(_, sealed)| sealed.bytes).sum()
    };
    Recorded {
        commits: ledger.segments.values().map(commits).sum(),
        changes: ledger.segments.values().map(|one| one.changes).sum(),
        segments: ledger.segments.len() as u64,
        snapshots: ledger.snapshots.len() as u64,
        bytes: ledger.segments.values().map(files).sum(),
    }
}

/// What came between two counts.
fn added(before: &Recorded, after: &Recorded) -> Recorded {
    Recorded {
        commits: after.commits - before.commits,
        changes: after.changes - before.changes,
        segments: after.segments - before.segments,
        snapshots: after.snapshots - before.snapshots,
        bytes: after.bytes - before.bytes,
    }
}

/// Stops where a state would come before one that the store has already.
fn forward(writer: &Writer, time: i64, directory: &Path) -> Result<(), Stop> {
    let Some(last) = last_time(writer.store()).filter(|last| *last > time) else {
        return Ok(());
    };
    let shown = output::mask().path(directory).display().to_string();
    let message = format!(
        "{shown}: its last state is of {}, this one would be of {}",
        inputs::moment(last),
        inputs::moment(time)
    );
    let hint = "states are added in the order of time: set --now TIME, or the clock";
    Err(output::wrong_argument(&message, Some(hint)))
}

/// The time of the last commit that has one.
pub(super) fn last_time(store: &Store) -> Option<i64> {
    let ledger = store.ledger();
    let segment = ledger.segments.values().rev().find_map(|one| one.time_to);
    segment.max(ledger.snapshots.values().rev().find_map(|one| one.time))
}

/// The store that is filled: no file, and not the source itself.
fn place(given: Option<PathBuf>, config: &Config, source: &Source) -> Result<PathBuf, Stop> {
    let directory = inputs::store(given, config);
    if directory.exists() && !directory.is_dir() {
        let shown = output::mask().path(&directory).display().to_string();
        let message = format!("`{shown}` is a file, and a store is a directory");
        let hint = "name a new directory with --store DIR";
        return Err(output::wrong_argument(&message, Some(hint)));
    }
    let real = |path: &Path| path.canonicalize().ok();
    let own = real(&directory);
    let same = |argument: &String| own.is_some() && real(Path::new(argument)) == own;
    if source.arguments.iter().any(same) {
        let hint = "name another store with --store DIR";
        return Err(output::wrong_argument(
            "the source is the store itself",
            Some(hint),
        ));
    }
    Ok(directory)
}

fn writer(directory: &Path, source: &Source, history: &History) -> Result<Writer, StoreError> {
    let format = || {
        let kind = Kind::of(history.origin);
        let partial = history.tables.iter().any(|table| table.begins_partial());
        Format::new(&source.shown, kind, history.schema.clone(), partial)
    };
    Writer::open(directory, format)
}

pub(super) fn sealing(config: &Config) -> Sealing {
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
    writer.retain(retention(config), now_us())
}

/// What a store keeps.
pub(super) fn retention(config: &Config) -> Retention {
    let age = config.retention.age;
    Retention {
        age_us: age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX)),
        bytes: config.retention.size_bytes,
    }
}

fn say(done: &Done<'_>, writer: &Writer, directory: &Path, shape: Shape) {
    let text = match shape {
        Shape::Text => text(done, writer, directory),
        Shape::Json => json(done, writer, directory).to_string() + "\n",
    };
    output::print(&text);
}

fn text(done: &Done<'_>, writer: &Writer, directory: &Path) -> String {
    let ledger = writer.store().ledger();
    let shown = terminal(&output::mask().path(directory).display().to_string());
    let source = terminal(done.source);
    let recorded = &done.recorded;
    let mut lines: Vec<String> = Vec::new();
    let mut text = match done.at {
        Some(at) if recorded.snapshots == 0 => {
            format!("nothing new: {shown} has a snapshot of #{at}\n")
        }
        Some(at) => {
            let rows = ledger.snapshots.get(&at).map_or(0, |kept| kept.rows);
            format!(
                "snapshot #{at} of {source} in {shown}: {}\n",
                counted(rows, "row")
            )
        }
        None if *recorded == Recorded::default() => {
            format!(
                "nothing new: {shown} ends at #{}, as {source} does\n",
                ledger.head()
            )
        }
        None => format!("recorded {source} in {shown}{}\n", reach(done, ledger)),
    };
    if recorded.segments > 0 {
        let commits = match done.at {
            Some(_) => String::new(),
            None => counted(recorded.commits, "commit") + ", ",
        };
        lines.push(format!(
            "{commits}{} in {} of {}",
            counted(recorded.changes, "change"),
            counted(recorded.segments, "segment"),
            sized(recorded.bytes),
        ));
    }
    if done.at.is_none() && recorded.snapshots > 0 {
        lines.push(counted(recorded.snapshots, "snapshot"));
    }
    if let Some((from, to)) = gap(done, ledger) {
        lines.push(match from == to {
            true => format!("a gap: of #{to} only the state after it was seen"),
            false => format!("a gap: of #{from} to #{to} only the state after #{to} was seen"),
        });
    }
    if done.merged > 0 {
        lines.push(format!(
            "small segments merged: {} fewer",
            grouped(done.merged as u64)
        ));
    }
    if let Some(dropped) = done.dropped {
        lines.push(format!(
            "retention: the store begins at #{} now; dropped {} and {} ({})",
            dropped.first,
            counted(dropped.segments as u64, "segment"),
            counted(dropped.snapshots as u64, "snapshot"),
            sized(dropped.bytes),
        ));
    }
    lines.push(inputs::head(writer.store()));
    for line in lines {
        text += &format!("  {line}\n");
    }
    text
}

/// The positions that a recording added.
fn reach(done: &Done<'_>, ledger: &Ledger) -> String {
    let first = done.before.map_or(ledger.first, |before| before + 1);
    match ledger.head() {
        head if head <= first => format!(": #{head}"),
        head => format!(": #{first} to #{head}"),
    }
}

/// The commits up to a snapshot that were not seen one by one.
fn gap(done: &Done<'_>, ledger: &Ledger) -> Option<(u32, u32)> {
    let (at, before) = (done.at?, done.before?);
    let last = ledger.segments.values().next_back()?;
    (last.unseen && last.to == at && before < at).then_some((last.from, at))
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
        "gap": gap(done, store.ledger()).map(|(from, to)| json!({"from": from, "to": to})),
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
