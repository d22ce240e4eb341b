//! `firstbad verify STORE`: proves a store intact, or names what is damaged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::record::Shape;
use super::{Outcome, Stop, exit, inputs, output};
use crate::config::Config;
use crate::escape::terminal;
use crate::report::{counted, sized};
use crate::store::disk::{Disk, Local};
use crate::store::verify::{Options, Report, Verified, verify};
use crate::store::{Hash, Store, StoreError, is_store};

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
    let shown = output::mask().path(&directory).display().to_string();
    match arguments.format {
        Shape::Text => output::print(&text(&report, &options, &shown, seconds)),
        Shape::Json => output::print(&format!("{}\n", json(&report, &options, &shown))),
    }
    Ok(if report.damage.is_empty() {
        exit::HELD
    } else {
        exit::VIOLATED
    })
}

/// The position that `--since` names.
fn position(directory: &std::path::Path, text: &str) -> Result<u32, Stop> {
    if let Some(number) = text
        .strip_prefix('#')
        .and_then(|number| number.parse().ok())
    {
        return Ok(number);
    }
    let history = Store::open(directory).and_then(|store| store.history());
    let history = history.map_err(|error| inputs::store_error(&error, directory))?;
    let resolved = history.resolve(text, None);
    resolved
        .map(|resolved| resolved.position)
        .map_err(|reason| output::wrong_argument(&format!("--since: {reason}"), None))
}

fn text(report: &Report, options: &Options, store: &str, seconds: f64) -> String {
    let store = terminal(store);
    let mut text = String::new();
    for damage in &report.damage {
        let (from, to) = (damage.from, damage.to);
        text += &format!(
            "damaged  {}, bytes {from} to {to}\n",
            terminal(&damage.file)
        );
        text += &format!("         {}\n", terminal(&damage.problem));
        if !damage.affects.is_empty() {
            text += &format!("         affects {}\n", terminal(&damage.affects));
        }
    }
    for note in &report.notes {
        text += &format!("note: {}\n", terminal(note));
    }
    let what = format!(
        "{}, {} in {} compared in {seconds:.1} s",
        counted(report.seals, "seal"),
        sized(report.bytes),
        counted(report.files, "file"),
    );
    if !report.damage.is_empty() {
        let damage = counted(report.damage.len() as u64, "damage");
        return text + &format!("{store} is damaged: {damage}; {what}\n");
    }
    text += &format!("{store} is intact: {what}\n");
    if options.prove {
        text += &format!(
            "proved: the rows of {}; {} from the first state and the changes\n",
            counted(report.chunks, "chunk"),
            counted(report.proved, "snapshot"),
        );
    }
    if let Some(head) = report.head {
        text += &format!("head {head}\n");
    }
    text
}

fn json(report: &Report, options: &Options, store: &str) -> serde_json::Value {
    json!({
        "schema": "firstbad/verify@1",
        "store": store,
        "intact": report.damage.is_empty(),
        "head": report.head,
        "seals": report.seals,
        "files": report.files,
        "bytes": report.bytes,
        "proved": options.prove && report.damage.is_empty(),
        "snapshots": report.proved,
        "chunks": report.chunks,
        "since": options.since,
        "damage": report.damage,
        "notes": report.notes,
    })
}
