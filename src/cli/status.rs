//! `firstbad status`: what a store covers, how fresh it is, how large, and how safe.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::record::{Shape, last_time};
use super::{Outcome, exit, inputs, output};
use crate::change::now_us;
use crate::config::Config;
use crate::escape::terminal;
use crate::incident::Reading;
use crate::report::{counted, sized, table};
use crate::schema::value::format_timestamp;
use crate::store::verify::Verified;
use crate::store::{Covered, Kind, Store, StoreError, Usage};

/// Columns of the names of lines.
const LABEL: usize = 10;

/// Arguments of `firstbad status`
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(value_name = "STORE", conflicts_with = "store")]
    directory: Option<PathBuf>,
    /// The store, named as other commands do
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// What is known of a store.
struct Status {
    shown: String,
    store: Store,
    usage: Usage,
    verified: Option<Verified>,
    writer: Option<String>,
    /// Whether others than the owner may read or write its directory; None where that is not known.
    open_to: Option<(bool, bool)>,
    now: i64,
    /// Incidents that are not closed; None where nothing is watched.
    incidents: Option<usize>,
}

pub(super) fn run(arguments: &StatusArgs, config: &Config) -> Outcome {
    let given = arguments.directory.clone().or(arguments.store.clone());
    let directory = inputs::store(given, config);
    let failed = |error: StoreError| inputs::store_error(&error, &directory);
    let store = Store::open(&directory).map_err(failed)?;
    let writer = store
        .disk()
        .holder()
        .map_err(|error| output::world(&format!("cannot read {}", directory.display()), &error))?;
    let status = Status {
        shown: output::mask().path(&directory).display().to_string(),
        usage: store.usage().map_err(failed)?,
        verified: store.last_verified(),
        writer,
        open_to: open_to(&directory),
        now: now_us(),
        store,
        incidents: open_incidents(&directory),
    };
    match arguments.format {
        Shape::Text => output::print(&status.text(output::width())),
        Shape::Json => output::print(&format!("{}\n", status.json())),
    }
    Ok(exit::HELD)
}

/// How many incidents are not closed; None where nothing is watched, or that cannot be read.
fn open_incidents(directory: &Path) -> Option<usize> {
    let reading = Reading::open(directory, false).ok()??;
    Some(reading.list(false, None).ok()?.len())
}

#[cfg(unix)]
fn open_to(directory: &Path) -> Option<(bool, bool)> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(directory).ok()?.permissions().mode();
    Some((mode & 0o044 != 0, mode & 0o022 != 0))
}

#[cfg(not(unix))]
fn open_to(_directory: &Path) -> Option<(bool, bool)> {
    None
}

impl Status {
    fn gaps(&self) -> Vec<Covered> {
        let covered = self.store.ledger().coverage();
        covered.into_iter().filter(|part| !part.seen).collect()
    }

    /// How many seals the last verification has not seen; None where there was none, or the chain is another one.
    fn since_verified(&self) -> Option<u64> {
        let head = self.verified.as_ref()?.head?;
        let seals = &self.store.chain().seals;
        let at = seals.iter().position(|(_, hash, _)| *hash == head)?;
        Some((seals.len() - at - 1) as u64)
    }

    /// The four questions of a disaster plan, each with what is known and what is not.
    fn questions(&self) -> [(&'static str, String); 4] {
        let coverage = match self.gaps().len() as u64 {
            0 => "no gap".to_owned(),
            gaps => counted(gaps, "gap"),
        };
        let incidents = match self.incidents {
            None => "incidents: not known".to_owned(),
            Some(0) => "no open incident".to_owned(),
            Some(some) => counted(some as u64, "open incident"),
        };
        let stable = match (&self.verified, self.since_verified()) {
            (Some(verified), _) if verified.damage > 0 => format!(
                "no: the last verification found {}",
                counted(verified.damage, "damaged place")
            ),
            (Some(_), Some(0)) => format!("the store is intact; {coverage}; {incidents}"),
            (Some(_), Some(seals)) => format!(
                "it was intact {} ago; {coverage}; {incidents}",
                counted(seals, "seal")
            ),
            (Some(_), None) => format!(
                "not known: the store was set back or replaced since it was verified; {coverage}; {incidents}"
            ),
            (None, _) => {
                format!("not known: the store was never verified; {coverage}; {incidents}")
            }
        };
        let secure = match self.open_to {
            Some((_, true)) => "no: others may write to its directory",
            Some((true, _)) => "others may read its directory; encryption: not known",
            Some(_) => "only its owner may read and write it; encryption: not known",
            None => "not known",
        };
        let ledger = self.store.ledger();
        let backed_up = format!(
            "{} can be restored, from {}; a second copy: not known; a restore that was tried: not known",
            range(ledger.first, ledger.head()),
            counted(ledger.snapshots.len() as u64, "snapshot"),
        );
        [
            ("stable", stable),
            ("performant", "not known: nothing is watched".to_owned()),
            ("secure", secure.to_owned()),
            ("backed up", backed_up),
        ]
    }

    /// Which commits were seen, and which were not.
    fn coverage(&self) -> Vec<(&'static str, String)> {
        let ledger = self.store.ledger();
        let mut lines = Vec::new();
        for part in ledger.coverage() {
            let lsn = match (&part.lsn_from, &part.lsn_to) {
                (Some(from), Some(to)) if from == to => format!(", lsn {}", terminal(from)),
                (Some(from), Some(to)) => {
                    format!(", lsn {} to {}", terminal(from), terminal(to))
                }
                _ => String::new(),
            };
            let (from, to) = (part.from, part.to);
            match (self.store.format().kind, part.seen) {
                (Kind::Changes, true) => {
                    lines.push(("covered", format!("{}, every commit{lsn}", range(from, to))));
                }
                (Kind::Snapshots, true) => {
                    lines.push(("covered", format!("{}, each a snapshot", range(from, to))));
                }
                (_, false) if from == to => {
                    lines.push((
                        "gap",
                        format!("#{to}: only the state after it was seen{lsn}"),
                    ));
                }
                (_, false) => lines.push((
                    "gap",
                    format!(
                        "{} not seen; then the state at #{to}{lsn}",
                        range(from, to - 1)
                    ),
                )),
            }
        }
        if lines.is_empty() && !ledger.snapshots.is_empty() {
            let text = format!("the state at #{}, no changes yet", ledger.head());
            lines.push(("covered", text));
        }
        lines
    }

    /// What is known of the last verification.
    fn verification(&self) -> String {
        let Some(verified) = &self.verified else {
            return "never".to_owned();
        };
        let found = match (verified.damage, self.since_verified()) {
            (0, Some(0)) => "intact".to_owned(),
            (0, Some(seals)) => format!("intact; {} since", counted(seals, "seal")),
            (0, None) => "intact, but it was another chain".to_owned(),
            (damage, _) => counted(damage, "damaged place"),
        };
        let quick = if verified.proved { "" } else { " (bytes only)" };
        format!("{}: {found}{quick}", ago(self.now, verified.time))
    }

    fn size(&self) -> String {
        let (usage, ledger) = (&self.usage, self.store.ledger());
        format!(
            "{}: {} in {} of {}; {} in {} of {}",
            sized(usage.segments_bytes + usage.snapshots_bytes),
            counted(usage.changes, "change"),
            counted(ledger.segments.len() as u64, "segment"),
            sized(usage.segments_bytes),
            counted(ledger.snapshots.len() as u64, "snapshot"),
            counted(usage.chunks, "chunk"),
            sized(usage.snapshots_bytes),
        )
    }

    fn text(&self, width: usize) -> String {
        let ledger = self.store.ledger();
        let format = self.store.format();
        let begun = inputs::moment(format.created);
        let mut lines = vec![(
            "source",
            format!("{}, since {begun}", terminal(&format.source)),
        )];
        lines.push(("positions", range(ledger.first, ledger.head())));
        lines.extend(self.coverage());
        let last = match last_time(&self.store) {
            Some(time) => format!("the last commit is of {}; ", inputs::moment(time)),
            None => String::new(),
        };
        let sealed = ledger
            .sealed
            .map_or("never".to_owned(), |time| ago(self.now, time));
        lines.push(("fresh", format!("{last}sealed {sealed}")));
        lines.push(("size", self.size()));
        lines.push(("verified", self.verification()));
        if let Some(writer) = &self.writer {
            lines.push(("writer", terminal(writer)));
        }
        let mut out = format!("{}\n", terminal(&self.shown));
        let show = |out: &mut String, lines: &[(&str, String)]| {
            for (name, text) in lines {
                out.push_str(&labelled(name, text, width));
            }
        };
        show(&mut out, &lines);
        out += &format!("  {:LABEL$}  {}\n", "chain", inputs::head(&self.store));
        out.push('\n');
        show(&mut out, &self.questions());
        out
    }

    fn json(&self) -> Value {
        let (store, ledger) = (&self.store, self.store.ledger());
        let questions: serde_json::Map<String, Value> = self
            .questions()
            .into_iter()
            .map(|(name, text)| (name.replace(' ', "_"), text.into()))
            .collect();
        let verified = self.verified.as_ref().map(|verified| {
            json!({
                "time": format_timestamp(verified.time),
                "damage": verified.damage,
                "proved": verified.proved,
                "seals_since": self.since_verified(),
            })
        });
        json!({
            "schema": "firstbad/status@1",
            "store": self.shown,
            "source": store.format().source,
            "created": format_timestamp(store.format().created),
            "first": ledger.first,
            "at": ledger.head(),
            "covered": ledger.coverage(),
            "last_commit": last_time(&self.store).map(format_timestamp),
            "sealed": ledger.sealed.map(format_timestamp),
            "segments": {"count": ledger.segments.len(), "bytes": self.usage.segments_bytes, "changes": self.usage.changes},
            "snapshots": {"count": ledger.snapshots.len(), "bytes": self.usage.snapshots_bytes, "chunks": self.usage.chunks,
                "at": ledger.snapshots.keys().collect::<Vec<_>>()},
            "verified": verified,
            "writer": self.writer,
            "head": store.chain().head(),
            "seals": store.chain().seals.len(),
            "questions": questions,
        })
    }
}

/// Positions in words.
fn range(from: u32, to: u32) -> String {
    match from == to {
        true => format!("#{from}"),
        false => format!("#{from} to #{to}"),
    }
}

/// A text behind its name, in lines of the width.
fn labelled(name: &str, text: &str, width: usize) -> String {
    let indent = LABEL + 4;
    let lines = table::wrap(text, width.saturating_sub(indent));
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let name = if at == 0 { name } else { "" };
        out += &format!("  {name:LABEL$}  {line}\n");
    }
    out
}

/// How long ago something was, in the largest unit that fits.
fn ago(now: i64, then: i64) -> String {
    let seconds = now.saturating_sub(then) / 1_000_000;
    let (number, unit) = match seconds {
        ..=0 => return "just now".into(),
        1..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", counted(u64::try_from(number).unwrap_or(0), unit))
}
