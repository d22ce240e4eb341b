//! `firstbad verify STORE`: proves a store intact, or names what is damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::record::Shape;
use super::{Outcome, Stop, exit, inputs, output};
use crate::config::Config;
use crate::escape::terminal;
use crate::report::{counted, grouped, sized, table};
use crate::store::disk::{Disk, Local};
use crate::store::verify::{Options, Report, Verified, verify};
use crate::store::{
    CHAIN, Chain, Damage, FORMAT, Hash, Ledger, Manifest, Store, StoreError, Stretch, is_store,
};

/// What `verify` says of a file that is there without a seal.
const UNNAMED: &str = "no seal names this file";
/// The longest chain that is read.
const CHAIN_BYTES_MAX: u64 = 4 << 30;
/// How many damages text lists.
const DAMAGE_SHOWN: usize = 20;

/// Arguments of `firstbad verify`
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(value_name = "STORE", conflicts_with = "store")]
    directory: Option<PathBuf>,
    /// The store, named as other commands do
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Only what reaches beyond this position: #COMMIT, an LSN, a time, an age (-10m)
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    since: Option<String>,
    /// A head that the store had once (`firstbad status` prints it): finds a store that was set back
    #[arg(long, value_name = "HASH", value_parser = hash)]
    head: Option<Hash>,
    /// Compare bytes only; do not prove that snapshots and changes fit together
    #[arg(long)]
    quick: bool,
    /// How to say what was found: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

fn hash(text: &str) -> Result<Hash, String> {
    Hash::parse(text).ok_or_else(|| "not a head; it is 64 hexadecimal digits".to_owned())
}

pub(super) fn run(arguments: &VerifyArgs, config: &Config) -> Outcome {
    let given = arguments.directory.clone().or(arguments.store.clone());
    let directory = inputs::store(given, config);
    let failed = |error: StoreError| inputs::store_error(&error, &directory);
    if !is_store(&directory) {
        return Err(failed(StoreError::NotThere(String::new())));
    }
    let since = match &arguments.since {
        None => None,
        Some(text) => Some(position(&directory, text)?),
    };
    let options = Options {
        since,
        head: arguments.head,
        prove: !arguments.quick,
    };
    let disk: Arc<dyn Disk> = Arc::new(Local::new(&directory));
    let begun = Instant::now();
    let bar = output::steps(0, "");
    let report = verify(&disk, &options, &|what, done, of| {
        bar.set_length(of);
        bar.set_position(done);
        bar.set_message(what.to_owned());
    });
    bar.finish_and_clear();
    let report = report.map_err(failed)?;
    let seconds = begun.elapsed().as_secs_f64();
    if since.is_none() {
        Verified::keep(disk.as_ref(), &report, &options);
    }
    let mut report = report;
    worst_first(&mut report.damage);
    let found = Found {
        chain: whole_chain(disk.as_ref()),
        shown: output::mask().path(&directory).display().to_string(),
        disk,
        report,
        options,
        seconds,
    };
    match arguments.format {
        Shape::Text => output::print(&found.text(output::width())),
        Shape::Json => output::print(&format!("{}\n", found.json())),
    }
    Ok(if found.report.damage.is_empty() {
        exit::HELD
    } else {
        exit::VIOLATED
    })
}

/// The position that `--since` names.
fn position(directory: &Path, text: &str) -> Result<u32, Stop> {
    let number = text.strip_prefix('#').and_then(|text| text.parse().ok());
    if let Some(number) = number {
        // A damaged chain may end anywhere: then the number stands as it is.
        let head = Store::open(directory).map_or(number, |store| store.ledger().head());
        if number > head {
            let message = format!("--since: there is no commit {text}: the store ends at #{head}");
            return Err(output::wrong_argument(&message, None));
        }
        return Ok(number);
    }
    let history = Store::reading(directory, Store::history);
    let history = history.map_err(|error| inputs::store_error(&error, directory))?;
    let resolved = history.resolve(text, None);
    resolved
        .map(|resolved| resolved.position)
        .map_err(|reason| output::wrong_argument(&format!("--since: {reason}"), None))
}

/// The seals that are whole.
fn whole_chain(disk: &dyn Disk) -> Chain {
    let bytes = disk.read(CHAIN, CHAIN_BYTES_MAX).unwrap_or_default();
    Chain::parse(&bytes)
}

/// Puts that first on which most depends.
fn worst_first(damage: &mut [Damage]) {
    let rank = |file: &str| match file.split('/').next() {
        Some("chain") => 0,
        Some("FORMAT") => 1,
        Some("segments") => 2,
        Some("snapshots") => 3,
        Some("objects") => 4,
        _ => 5,
    };
    damage.sort_by(|a, b| (rank(&a.file), &a.file, a.from).cmp(&(rank(&b.file), &b.file, b.from)));
}

/// What was found, and where.
struct Found {
    report: Report,
    options: Options,
    shown: String,
    chain: Chain,
    disk: Arc<dyn Disk>,
    seconds: f64,
}

impl Found {
    /// The positions whose states can be read: everything from the last snapshot before each was found right.
    fn good(&self) -> Vec<(u32, u32)> {
        let wrong: BTreeSet<&str> = self
            .report
            .damage
            .iter()
            .map(|damage| damage.file.as_str())
            .collect();
        if wrong.contains(FORMAT) {
            return Vec::new();
        }
        let ledger = Ledger::of(&self.chain);
        let is_good = |path: &str| !wrong.contains(path);
        let snapshot = |at: &u32| {
            let Some(sealed) = ledger.manifest(*at).filter(|one| is_good(&one.path)) else {
                return false;
            };
            let bytes = self.disk.read(&sealed.path, sealed.bytes);
            let manifest = bytes.ok().and_then(|bytes| {
                let manifest = serde_json::from_slice::<Manifest>(&bytes);
                manifest.ok()
            });
            manifest.is_some_and(|manifest| {
                let mut chunks = manifest.chunks();
                chunks.all(|(_, chunk)| is_good(&chunk.sealed().path))
            })
        };
        let since = self.options.since.unwrap_or(ledger.first);
        let mut good: Vec<(u32, u32)> = Vec::new();
        let mut snapshots = ledger.snapshots.keys().peekable();
        while let Some(&at) = snapshots.next() {
            if !snapshot(&at) {
                continue;
            }
            let next = snapshots.peek().map_or(u32::MAX, |next| **next - 1);
            let mut end = at;
            let later = |one: &&Stretch| one.to > at && at < next;
            for stretch in ledger.segments.values().filter(later) {
                let mut files = ledger.segment_files(stretch);
                if !files.all(|(_, sealed)| is_good(&sealed.path)) {
                    break;
                }
                end = stretch.to.min(next);
                if end == next {
                    break;
                }
            }
            match good.last_mut() {
                Some(last) if at <= last.1 + 1 => last.1 = last.1.max(end),
                _ => good.push((at, end)),
            }
        }
        good.retain(|range| range.1 >= since);
        for range in &mut good {
            range.0 = range.0.max(since);
        }
        good
    }

    /// The number of the seal whose hash was given as the head.
    fn kept_head(&self) -> Option<usize> {
        let head = self.options.head?;
        let seals = self.chain.seals.iter();
        let at = seals
            .map(|(_, hash, _)| hash)
            .position(|hash| *hash == head)?;
        Some(at + 1)
    }

    /// What was compared.
    fn compared(&self) -> String {
        let report = &self.report;
        let since = self
            .options
            .since
            .map_or(String::new(), |since| format!(" since #{since}"));
        format!(
            "compared{since}: {}, {} in {}, in {:.1} s",
            counted(report.seals, "seal"),
            counted(report.files, "file"),
            sized(report.bytes),
            self.seconds,
        )
    }

    fn text(&self, width: usize) -> String {
        let report = &self.report;
        let shown = terminal(&self.shown);
        let mut out = if report.damage.is_empty() {
            format!("✓ {shown} is intact\n")
        } else {
            self.damaged(&shown, width)
        };
        let mut lines = vec![self.compared()];
        lines.push(match (self.options.prove, report.damage.is_empty()) {
            (false, _) => "not proved: that snapshots and changes fit together (--quick)".into(),
            (true, false) => {
                "not proved: that snapshots and changes fit together, because of the damage".into()
            }
            (true, true) if report.proved == 0 => format!(
                "proved: the rows of {}; no snapshot follows from another",
                counted(report.chunks, "chunk"),
            ),
            (true, true) => format!(
                "proved: snapshots and changes fit together ({}, {})",
                counted(report.proved, "snapshot"),
                counted(report.chunks, "chunk"),
            ),
        });
        lines.extend(
            report
                .notes
                .iter()
                .map(|note| format!("note: {}", terminal(note))),
        );
        if let Some(at) = self.kept_head() {
            let seals = self.chain.seals.len();
            lines.push(format!("the head you kept is that of seal {at} of {seals}"));
        }
        if let Some(head) = report.head {
            lines.push(format!("head {head}"));
        }
        for line in lines {
            out += &indented(&line, 2, width);
        }
        out
    }

    /// The damage, the worst first, and what can be done.
    fn damaged(&self, shown: &str, width: usize) -> String {
        let damage = &self.report.damage;
        let files: BTreeSet<&str> = damage.iter().map(|one| one.file.as_str()).collect();
        let count = counted(files.len() as u64, "file");
        let mut out = format!("✗ {shown} is damaged: {count}\n\n");
        let chain = files.contains(CHAIN);
        // Behind a damaged line of the chain, nothing names the files that it named.
        let orphan = |one: &&Damage| chain && one.problem == UNNAMED;
        for one in damage.iter().filter(|one| !orphan(one)).take(DAMAGE_SHOWN) {
            let range = match (one.from, one.to) {
                (from, to) if from == to => format!("byte {}", grouped(from)),
                (from, to) => format!("bytes {} to {}", grouped(from), grouped(to)),
            };
            out += &indented(&terminal(&one.file), 2, width);
            out += &indented(&format!("{range}: {}", terminal(&one.problem)), 4, width);
            if !one.affects.is_empty() {
                out += &indented(&format!("affects {}", terminal(&one.affects)), 4, width);
            }
        }
        let orphans = damage.iter().filter(orphan).count();
        if orphans > 0 {
            let files = counted(orphans as u64, "file");
            let text = format!("{files} that no seal names, as the chain is damaged");
            out += &indented(&text, 2, width);
        }
        let more = (damage.len() - orphans).saturating_sub(DAMAGE_SHOWN);
        if more > 0 {
            out += &format!("  … and {} more: --format json\n", grouped(more as u64));
        }
        out.push('\n');
        let range = |(from, to): &(u32, u32)| match from == to {
            true => format!("#{from}"),
            false => format!("#{from} to #{to}"),
        };
        let good: Vec<String> = self.good().iter().map(range).collect();
        let good = match good.is_empty() {
            true => "no position".to_owned(),
            false => good.join(", "),
        };
        let label = match chain {
            true => "good as far as the chain goes",
            false => "still good",
        };
        out += &indented(&format!("{label}: {good}"), 2, width);
        out += &indented(&self.advice(chain), 2, width);
        out
    }

    /// What to do about damage.
    fn advice(&self, chain: bool) -> String {
        let damage = &self.report.damage;
        let stray = damage.iter().any(|one| one.problem == UNNAMED);
        let sealed = damage.iter().any(|one| one.problem != UNNAMED);
        let mut steps = Vec::new();
        let was_set_back = self.options.head.is_some() && self.kept_head().is_none();
        if was_set_back && damage.len() == 1 {
            return "what to do: find out who put an older copy here; put a newer one back".into();
        }
        if chain {
            steps.push(
                "put a copy of the chain back that is as new or newer, and remove nothing before",
            );
        } else {
            if sealed {
                steps.push("put these files back from any copy of the store that has them: a sealed file never changes");
            }
            if stray {
                steps.push("move away what no seal names");
            }
        }
        steps.push("verify again");
        let without = match sealed {
            true => ". Without a copy, record the source in a new store",
            false => "",
        };
        format!("what to do: {}{without}", steps.join("; "))
    }

    fn json(&self) -> serde_json::Value {
        let report = &self.report;
        let range = |(from, to): (u32, u32)| json!({"from": from, "to": to});
        json!({
            "schema": "firstbad/verify@1",
            "store": self.shown,
            "intact": report.damage.is_empty(),
            "head": report.head,
            "seals": report.seals,
            "files": report.files,
            "bytes": report.bytes,
            "proved": self.options.prove && report.damage.is_empty(),
            "snapshots": report.proved,
            "chunks": report.chunks,
            "since": self.options.since,
            "damage": report.damage,
            "good": self.good().into_iter().map(range).collect::<Vec<_>>(),
            "notes": report.notes,
        })
    }
}

/// Text in lines of the width, all indented, those after the first a little more.
pub(super) fn indented(text: &str, indent: usize, width: usize) -> String {
    let lines = table::wrap(text, width.saturating_sub(indent + 2));
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = if at == 0 { indent } else { indent + 2 };
        out += &format!("{:indent$}{line}\n", "");
    }
    out
}
