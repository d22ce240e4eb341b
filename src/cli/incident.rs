//! `firstbad incident`: what has been found, with evidence, and what people say of it. Works while a watcher runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::evidence::{self, ExportArgs, SpreadArgs};
use super::record::Shape;
use super::{Outcome, Stop, exit, inputs, output};
use crate::change::now_us;
use crate::config::Config;
use crate::incident::{self, Changes, Incident, IncidentError, Person, Reading, Touched};
use crate::report::incident::{Listed, list_json, list_text, show_json, show_text};
use crate::store::{Store, StoreError};

/// The most changes of a first bad write in a list, and of one incident.
const CHANGES_LISTED: usize = 100;
pub(super) const CHANGES_SHOWN: usize = 10_000;
/// The longest note or name, in bytes.
const WORDS_MAX: usize = 4_096;

/// The verbs of `firstbad incident`
#[derive(Debug, Subcommand)]
pub(super) enum IncidentCommand {
    /// List the incidents that are not closed
    List(ListArgs),
    /// Show all that is known of one incident
    Show(ShowArgs),
    /// Show which rows were written from the bad rows since
    Spread(SpreadArgs),
    /// Write down all evidence: files that prove it later, and a report to be opened in a browser
    Export(ExportArgs),
    /// Say that somebody takes care of an incident
    Ack(TouchArgs),
    /// Let nobody be alerted of an incident for a while
    Mute(MuteArgs),
    /// Close an incident; where its rule is still violated, only a new stretch opens another
    Close(TouchArgs),
}

/// Which store
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
}

/// Arguments of `firstbad incident list`
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: StoreArgs,
    /// Those that are closed as well
    #[arg(long)]
    all: bool,
    /// Only those of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// Arguments of `firstbad incident show`
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: StoreArgs,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
    /// Without what the recorded history tells: it has to be read for that
    #[arg(long)]
    brief: bool,
}

/// Arguments of `firstbad incident ack` and `close`
#[derive(Debug, Args)]
pub(super) struct TouchArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: StoreArgs,
    /// What there is to say
    #[arg(long, value_name = "TEXT", value_parser = words)]
    note: Option<String>,
    /// Who says it [default: the name of the account]
    #[arg(long, value_name = "NAME", value_parser = words)]
    by: Option<String>,
}

/// Arguments of `firstbad incident mute`
#[derive(Debug, Args)]
pub(super) struct MuteArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: StoreArgs,
    /// For how long, as `4h`; `0s` ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::rule::parse_duration)]
    pause: i64,
}

pub(super) fn words(text: &str) -> Result<String, String> {
    match text.len() > WORDS_MAX {
        true => Err(format!("longer than {WORDS_MAX} bytes")),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn run(command: &IncidentCommand, config: &Config) -> Outcome {
    match command {
        IncidentCommand::List(arguments) => list(arguments, config),
        IncidentCommand::Show(arguments) => show(arguments, config),
        IncidentCommand::Spread(arguments) => evidence::spread(arguments, config),
        IncidentCommand::Export(arguments) => evidence::export(arguments, config),
        IncidentCommand::Ack(arguments) => touch(arguments, config, false),
        IncidentCommand::Mute(arguments) => mute(arguments, config),
        IncidentCommand::Close(arguments) => touch(arguments, config, true),
    }
}

pub(super) fn failed(error: &IncidentError) -> Stop {
    output::world("incidents", error)
}

/// The incidents of a store; None where nothing was watched yet. A directory that is no store is the user's mistake.
pub(super) fn open(
    arguments: &StoreArgs,
    config: &Config,
    writing: bool,
) -> Result<(PathBuf, Option<Reading>), Stop> {
    let directory = inputs::store(arguments.store.clone(), config);
    let reading = Reading::open(&directory, writing).map_err(|error| failed(&error))?;
    if reading.is_none() && !crate::store::is_store(&directory) {
        let missing = StoreError::NotThere(directory.display().to_string());
        return Err(inputs::store_error(&missing, &directory));
    }
    Ok((directory, reading))
}

pub(super) fn shown(directory: &Path) -> String {
    output::mask().path(directory).display().to_string()
}

/// Incidents with the changes of their first bad writes. Where the store cannot be read, they are shown without.
fn with_changes(directory: &Path, incidents: Vec<Incident>, most: usize) -> Vec<Listed> {
    let hidden: Vec<Vec<String>> = incidents.iter().map(Incident::redacted).collect();
    let mut wanted = Vec::new();
    for (at, incident) in incidents.iter().enumerate() {
        if let Some((commit, _)) = &incident.first_bad {
            wanted.push((at, (*commit, hidden[at].as_slice())));
        }
    }
    let commits: Vec<_> = wanted.iter().map(|(_, want)| *want).collect();
    let read = Store::reading(directory, |store| incident::changes(store, &commits, most));
    let read = read.unwrap_or_else(|error| {
        if !matches!(error, StoreError::NotThere(_)) {
            let error = crate::escape::terminal(&error.to_string());
            output::note(&format!("warning: changes are not shown: {error}\n"));
        }
        vec![None; commits.len()]
    });
    let mut changes: Vec<Option<Changes>> = vec![None; incidents.len()];
    for ((at, _), found) in wanted.iter().zip(read) {
        changes[*at] = found;
    }
    incidents.into_iter().zip(changes).collect()
}

fn list(arguments: &ListArgs, config: &Config) -> Outcome {
    let (directory, reading) = open(&arguments.place, config, false)?;
    let incidents = match reading {
        Some(reading) => reading
            .list(arguments.all, arguments.rule.as_deref())
            .map_err(|error| failed(&error))?,
        None => Vec::new(),
    };
    match arguments.format {
        Shape::Json => {
            let listed = with_changes(&directory, incidents, CHANGES_LISTED);
            output::print(&list_json(&shown(&directory), &listed));
        }
        Shape::Text => {
            let listed: Vec<Listed> = incidents.into_iter().map(|one| (one, None)).collect();
            output::print(&list_text(&listed, arguments.all, output::width()));
        }
    }
    Ok(exit::HELD)
}

/// Says that there is no such incident.
pub(super) fn unknown(id: &str, reading: Option<&Reading>) -> Stop {
    let last = match reading.map(Reading::last) {
        Some(Err(error)) => return failed(&error),
        Some(Ok(last)) => last,
        None => None,
    };
    let hint = match last {
        Some(last) => format!("the last one is {last}; `firstbad incident list --all` lists them"),
        None => "there are no incidents yet".to_owned(),
    };
    output::wrong_argument(&format!("there is no incident `{id}`"), Some(&hint))
}

fn show(arguments: &ShowArgs, config: &Config) -> Outcome {
    let (directory, reading) = open(&arguments.place, config, false)?;
    let found = match &reading {
        Some(reading) => reading
            .show(&arguments.id)
            .map_err(|error| failed(&error))?,
        None => None,
    };
    let Some((incident, keys, notices)) = found else {
        return Err(unknown(&arguments.id, reading.as_ref()));
    };
    let bundle = match &reading {
        Some(reading) if !arguments.brief => evidence::known(&directory, reading, &arguments.id)?,
        _ => None,
    };
    let mut listed = with_changes(&directory, vec![incident], CHANGES_SHOWN);
    let Some(listed) = listed.pop() else {
        return Ok(exit::HELD);
    };
    let bundle = bundle.as_ref();
    output::print(&match arguments.format {
        Shape::Json => show_json(&shown(&directory), &listed, &keys, &notices, bundle),
        Shape::Text => show_text(&listed, &keys, &notices, bundle, output::width()),
    });
    Ok(exit::HELD)
}

/// Who runs the program, as far as the environment says so.
pub(super) fn account() -> Option<String> {
    let names = ["USER", "LOGNAME", "USERNAME"];
    let mut names = names.iter().filter_map(|name| std::env::var(name).ok());
    names.find(|name| !name.is_empty() && name.len() <= WORDS_MAX)
}

fn mute(arguments: &MuteArgs, config: &Config) -> Outcome {
    let (_, mut reading) = open(&arguments.place, config, true)?;
    let until = now_us().saturating_add(arguments.pause);
    let touched = match &mut reading {
        None => Ok(Touched::Unknown),
        Some(reading) => reading.mute(&arguments.id, until),
    };
    if touched.map_err(|error| failed(&error))? == Touched::Unknown {
        return Err(unknown(&arguments.id, reading.as_ref()));
    }
    let shown = crate::escape::terminal(&arguments.id.to_uppercase());
    let until = crate::schema::value::format_timestamp(until).replace('T', " ");
    output::print(&format!("{shown} is muted until {until}\n"));
    Ok(exit::HELD)
}

fn touch(arguments: &TouchArgs, config: &Config, close: bool) -> Outcome {
    let (_, mut reading) = open(&arguments.place, config, true)?;
    let person = Person {
        by: arguments.by.clone().or_else(account),
        note: arguments.note.clone(),
        time: Some(now_us()),
    };
    let id = &arguments.id;
    let touched = match (&mut reading, close) {
        (None, _) => Ok(Touched::Unknown),
        (Some(reading), true) => reading.close(id, &person),
        (Some(reading), false) => reading.acknowledge(id, &person),
    };
    let state = if close { "closed" } else { "acknowledged" };
    let shown = crate::escape::terminal(&id.to_uppercase());
    match touched.map_err(|error| failed(&error))? {
        Touched::Done => output::print(&format!("{shown} is {state}\n")),
        Touched::Already => output::print(&format!("{shown} is {state} already\n")),
        Touched::IsClosed => {
            let message = format!("{shown} is closed, so it cannot be {state}");
            return Err(output::wrong_argument(&message, None));
        }
        Touched::Unknown => return Err(unknown(id, reading.as_ref())),
    }
    Ok(exit::HELD)
}
