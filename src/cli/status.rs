//! `firstbad status`: what a store covers, how fresh it is, how large, and how safe.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::record::{Shape, now};
use super::{Outcome, exit, inputs, output};
use crate::config::Config;
use crate::escape::terminal;
use crate::report::{counted, grouped, sized};
use crate::schema::value::format_timestamp;
use crate::store::verify::Verified;
use crate::store::{Covered, Store, StoreError, Usage};

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
        now: now(),
        store,
    };
    match arguments.format {
        Shape::Text => output::print(&status.text()),
        Shape::Json => output::print(&format!("{}\n", status.json())),
    }
    Ok(exit::HELD)
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

    /// The time of the last commit that has one.
    fn last_commit(&self) -> Option<i64> {
        let ledger = self.store.ledger();
        let segments = ledger.segments.values().rev().find_map(|one| one.time_to);
        segments.max(ledger.snapshots.values().rev().find_map(|one| one.time))
    }

    /// How many seals the last verification has not seen; None where there was none, or the chain is another one.
    fn since_verified(&self) -> Option<u64> {
        let head = self.verified.as_ref()?.head?;
        let seals = &self.store.chain().seals;
        let at = seals.iter().position(|(_, hash, _)| *hash == head)?;
        Some((seals.len() - at - 1) as u64)
    }

    /// The four questions of a disaster plan, each with what is known and whether it is enough.
    fn questions(&self) -> [(&'static str, String); 4] {
        let gaps = self.gaps().len();
        let coverage = match gaps {
            0 => "no gap".to_owned(),
            gaps => counted(gaps as u64, "gap"),
        };
        let stable = match (&self.verified, self.since_verified()) {
            (Some(verified), _) if verified.damage > 0 => {
                format!(
                    "no: the last verification found {}",
                    counted(verified.damage, "damage")
                )
            }
            (Some(_), Some(0)) => format!("the store is intact; {coverage}; incidents: not known"),
            (Some(_), Some(seals)) => format!(
                "it was intact {} ago; {coverage}; incidents: not known",
                counted(seals, "seal")
            ),
            _ => {
                format!("not known: the store was never verified; {coverage}; incidents: not known")
            }
        };
        let secure = match self.open_to {
            Some((_, true)) => "no: others may write to its directory".to_owned(),
            Some((true, _)) => "others may read its directory; encryption: not known".to_owned(),
            Some(_) => "only its owner may read and write it; encryption: not known".to_owned(),
            None => "not known".to_owned(),
        };
        let ledger = self.store.ledger();
        let backed_up = format!(
            "every position from #{} to #{} can be restored from {}; a second copy: not known; a restore that was tried: not known",
            ledger.first,
            ledger.head(),
            counted(ledger.snapshots.len() as u64, "snapshot"),
        );
        [
            ("stable", stable),
            ("performant", "not known: nothing is watched".to_owned()),
            ("secure", secure),
            ("backed up", backed_up),
        ]
    }

    fn text(&self) -> String {
        let (store, ledger) = (&self.store, self.store.ledger());
        let format = store.format();
        let mut lines: Vec<(&str, String)> = vec![(
            "source",
            format!(
                "{}, since {}",
                terminal(&format.source),
                format_timestamp(format.created)
            ),
        )];
        for part in ledger.coverage() {
            let lsn = match (&part.lsn_from, &part.lsn_to) {
                (Some(from), Some(to)) => format!(" ({} to {})", terminal(from), terminal(to)),
                _ => String::new(),
            };
            let how = if part.seen {
                "every commit was seen"
            } else {
                "a gap: only the state after it"
            };
            lines.push((
                "covered",
                format!("#{} to #{}{lsn}: {how}", part.from, part.to),
            ));
        }
        if ledger.segments.is_empty() {
            lines.push((
                "covered",
                format!("the state at #{}, no changes", ledger.head()),
            ));
        }
        let last = self
            .last_commit()
            .map_or("of no known time".to_owned(), format_timestamp);
        let sealed = ledger
            .sealed
            .map_or("never".to_owned(), |time| ago(self.now, time));
        lines.push((
            "fresh",
            format!("the last commit is {last}; sealed {sealed}"),
        ));
        let usage = &self.usage;
        lines.push((
            "size",
            format!(
                "{}: {} of {} in {}, {} of {} in {}",
                sized(usage.segments_bytes + usage.snapshots_bytes),
                counted(usage.changes, "change"),
                sized(usage.segments_bytes),
                counted(ledger.segments.len() as u64, "segment"),
                counted(ledger.snapshots.len() as u64, "snapshot"),
                sized(usage.snapshots_bytes),
                counted(usage.chunks, "chunk"),
            ),
        ));
        let verified = match &self.verified {
            None => "never".to_owned(),
            Some(verified) => format!(
                "{}{}",
                ago(self.now, verified.time),
                match (verified.damage, self.since_verified()) {
                    (0, Some(0)) => ": intact".to_owned(),
                    (0, Some(seals)) => format!(": intact; {} since", counted(seals, "seal")),
                    (0, None) => ": intact, but of another chain".to_owned(),
                    (damage, _) => format!(": {}", counted(damage, "damage")),
                }
            ),
        };
        lines.push(("verified", verified));
        if let Some(writer) = &self.writer {
            lines.push(("writer", terminal(writer)));
        }
        let seals = grouped(store.chain().seals.len() as u64);
        lines.push((
            "head",
            format!("{} after {seals} seals", store.chain().head()),
        ));
        let width =
            |lines: &[(&str, String)]| lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let show = |lines: &[(&str, String)], most: usize| -> String {
            let line = |(name, text): &(&str, String)| format!("  {name:most$}  {text}\n");
            lines.iter().map(line).collect()
        };
        let questions = self.questions();
        let most = width(&lines).max(width(&questions));
        format!(
            "{}\n{}\n{}",
            terminal(&self.shown),
            show(&lines, most),
            show(&questions, most)
        )
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
            "last_commit": self.last_commit().map(format_timestamp),
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
