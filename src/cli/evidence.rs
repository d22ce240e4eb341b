//! `firstbad incident spread` and `export`: what the recorded history tells of an incident.

use std::path::{Path, PathBuf};

use clap::Args;

use super::incident::{CHANGES_SHOWN, StoreArgs, failed, open, shown, unknown};
use super::record::Shape;
use super::{Outcome, Stop, evidence_files, exit, inputs, output};
use crate::config::Config;
use crate::evidence::{self, Bundle, Case};
use crate::incident::{self, Incident, RawKey, Reading};
use crate::report::evidence::{Whole, files, spread_json, spread_row_text, spread_text};
use crate::spread::{self, Limits};
use crate::state::History;
use crate::store::{Store, StoreError};

/// Arguments of `firstbad incident spread`
#[derive(Debug, Args)]
pub(super) struct SpreadArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: StoreArgs,
    /// List every row with its path
    #[arg(long)]
    rows: bool,
    /// The most rows that are followed
    #[arg(long, value_name = "N", default_value_t = Limits::default().rows, value_parser = some)]
    max_rows: usize,
    /// The most steps from a bad row
    #[arg(long, value_name = "N", default_value_t = Limits::default().depth, value_parser = clap::value_parser!(u32).range(1..))]
    max_depth: u32,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// Arguments of `firstbad incident export`
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "ID")]
    id: String,
    /// A directory, or an archive whose name ends in .tar.zst [default: a directory with the incident's name]
    #[arg(value_name = "DIR|FILE.tar.zst")]
    to: Option<PathBuf>,
    #[command(flatten)]
    place: StoreArgs,
}

/// At least one.
fn some(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// An incident as it is, and the history that tells of it.
struct Found {
    incident: Incident,
    keys: Vec<RawKey>,
    hidden: Vec<String>,
    store: Store,
    history: History,
}

impl Found {
    fn case(&self) -> Case<'_> {
        Case {
            incident: &self.incident,
            keys: &self.keys,
            hidden: &self.hidden,
        }
    }
}

/// What can go wrong with reading it.
enum Missing {
    Incident,
    Store(StoreError),
}

fn find(directory: &Path, reading: &Reading, id: &str) -> Result<Result<Found, Missing>, Stop> {
    let raw = reading.raw_keys(id).map_err(|error| failed(&error))?;
    let Some((incident, keys)) = raw else {
        return Ok(Err(Missing::Incident));
    };
    // Spread and neighbours show rows of all tables, so what any rule hides is hidden.
    let mut hidden = reading.redacted().map_err(|error| failed(&error))?;
    hidden.extend(incident.redacted());
    let read = Store::reading(directory, |store| Ok((store.clone(), store.history()?)));
    Ok(match read {
        Err(error) => Err(Missing::Store(error)),
        Ok((store, history)) => Ok(Found {
            incident,
            keys,
            hidden: hidden.into_iter().collect(),
            store,
            history,
        }),
    })
}

/// The same where nothing else will do.
fn found(place: &StoreArgs, config: &Config, id: &str) -> Result<(PathBuf, Reading, Found), Stop> {
    let (directory, reading) = open(place, config, false)?;
    let Some(reading) = reading else {
        return Err(unknown(id, None));
    };
    match find(&directory, &reading, id)? {
        Ok(found) => Ok((directory, reading, found)),
        Err(Missing::Incident) => Err(unknown(id, Some(&reading))),
        Err(Missing::Store(error)) => Err(inputs::store_error(&error, &directory)),
    }
}

/// What the history tells of an incident; None where there is none yet, or it cannot be read, which is said.
pub(super) fn known(directory: &Path, reading: &Reading, id: &str) -> Result<Option<Bundle>, Stop> {
    match find(directory, reading, id)? {
        Ok(found) => {
            let limits = Limits::default();
            let bundle = evidence::bundle(&found.store, &found.history, &found.case(), limits);
            Ok(Some(bundle))
        }
        Err(
            Missing::Incident
            | Missing::Store(StoreError::NotThere(_) | StoreError::Refused { .. }),
        ) => Ok(None),
        Err(Missing::Store(error)) => {
            let error = crate::escape::terminal(&error.to_string());
            output::note(&format!("warning: the history is not shown: {error}\n"));
            Ok(None)
        }
    }
}

pub(super) fn spread(arguments: &SpreadArgs, config: &Config) -> Outcome {
    let (directory, _, found) = found(&arguments.place, config, &arguments.id)?;
    let limits = Limits {
        rows: arguments.max_rows,
        depth: arguments.max_depth,
        ..Limits::default()
    };
    let (spread, summary) = evidence::spread_of(&found.history, &found.case(), limits);
    let id = found.incident.id();
    output::print(&match arguments.format {
        Shape::Json => {
            let rows = spread::rows_documents(&found.history, &spread, &found.hidden);
            let rows = arguments.rows.then(|| rows.collect());
            spread_json(&shown(&directory), &id, &summary, rows)
        }
        Shape::Text => {
            let mut text = spread_text(&summary, output::width());
            if arguments.rows {
                let rows = (0..spread.rows.len())
                    .map(|at| spread::example(&found.history, &spread, at, &found.hidden));
                rows.for_each(|row| text += &spread_row_text(&row));
            }
            text
        }
    });
    Ok(exit::HELD)
}

pub(super) fn export(arguments: &ExportArgs, config: &Config) -> Outcome {
    let (directory, reading, found) = found(&arguments.place, config, &arguments.id)?;
    let id = found.incident.id();
    let to = arguments.to.clone().unwrap_or_else(|| PathBuf::from(&id));
    let place = evidence_files::Place::of(&to)?;
    let shown_incident = reading.show(&id).map_err(|error| failed(&error))?;
    let Some((incident, keys, notices)) = shown_incident else {
        return Err(unknown(&id, Some(&reading)));
    };
    let first = incident.first_bad.as_ref().map(|(commit, _)| *commit);
    let changes = first.map(|commit| {
        let wanted = [(commit, found.hidden.as_slice())];
        incident::changes(&found.store, &wanted, CHANGES_SHOWN)
    });
    let changes = changes
        .transpose()
        .map_err(|error| inputs::store_error(&error, &directory))?;
    let changes = changes.and_then(|mut changes| changes.pop().flatten());
    let opened = incident.opened.unwrap_or(0);
    let listed = (incident, changes);
    let bundle = evidence::bundle(
        &found.store,
        &found.history,
        &found.case(),
        Limits::default(),
    );
    let store = shown(&directory);
    let whole = Whole {
        store: &store,
        listed: &listed,
        keys: &keys,
        notices: &notices,
        bundle: &bundle,
    };
    let files = files(&whole);
    place.write(&id, opened, &files)?;
    let count = crate::report::counted(files.len() as u64, "file");
    let to = output::mask().path(&to);
    let to = crate::escape::os(to.as_os_str());
    output::print(&format!("{id} is exported to {to}: {count}\n"));
    Ok(exit::HELD)
}
