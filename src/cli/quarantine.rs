//! `firstbad quarantine`: sets the rows that an incident is about apart in Postgres, and lets them go.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::incident::{StoreArgs, account, failed as incidents_failed, unknown, words};
use super::record::Shape;
use super::{Outcome, Stop, exit, inputs, output};
use crate::change::now_us;
use crate::config::{Config, Text};
use crate::diagnostic::nearest;
use crate::escape::terminal;
use crate::incident::{Incident, Person, Reading, State};
use crate::postgres::{PostgresError, Target};
use crate::quarantine::automatic::{self, Automatic};
use crate::quarantine::report::{self, Told};
use crate::quarantine::{self, Plan, QuarantineError, ROWS_MAX};
use crate::report::{counted, grouped};
use crate::rule::Rule;

/// The most rows of an incident that a watcher sets apart by itself, where nothing else is said.
const AUTOMATIC_ROWS_MAX: u64 = 100;

/// The verbs of `firstbad quarantine`
#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Show which rows would be set apart, which are passed over and why; changes nothing
    Plan(PlanArgs),
    /// Set the rows of an incident apart, except those that have changed since
    Apply(ApplyArgs),
    /// Let the rows of an incident go: everything is as it was
    Release(ReleaseArgs),
}

/// Arguments of `firstbad quarantine plan`
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "INCIDENT")]
    incident: String,
    /// Compare the rows with this database: postgres://firstbad_quarantine@host/database [default: quarantine.database of firstbad.yaml]
    #[arg(value_name = "POSTGRES")]
    database: Option<String>,
    #[command(flatten)]
    place: StoreArgs,
    /// How to say it: text, json, or the SQL that `apply` runs
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: PlanShape,
}

/// How a plan is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PlanShape {
    Text,
    Json,
    Sql,
}

/// Arguments of `firstbad quarantine apply`
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "INCIDENT")]
    incident: String,
    /// The database: postgres://firstbad_quarantine@host/database [default: quarantine.database of firstbad.yaml]
    #[arg(value_name = "POSTGRES")]
    database: Option<String>,
    #[command(flatten)]
    place: StoreArgs,
    /// Refuse to set more rows apart than this
    #[arg(long, value_name = "N", default_value_t = ROWS_MAX)]
    max_rows: u64,
    #[command(flatten)]
    who: WhoArgs,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// Who does it, and why
#[derive(Debug, Args)]
struct WhoArgs {
    /// What there is to say
    #[arg(long, value_name = "TEXT", value_parser = words)]
    note: Option<String>,
    /// Who does it [default: the name of the account]
    #[arg(long, value_name = "NAME", value_parser = words)]
    by: Option<String>,
}

/// Arguments of `firstbad quarantine release`
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The incident, as `I-7`; left out with --all
    #[arg(value_name = "INCIDENT")]
    incident: Option<String>,
    /// The database: postgres://firstbad_quarantine@host/database [default: quarantine.database of firstbad.yaml]
    #[arg(value_name = "POSTGRES")]
    database: Option<String>,
    /// Let the rows of all incidents of the store go
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: StoreArgs,
    #[command(flatten)]
    who: WhoArgs,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

impl WhoArgs {
    fn person(&self) -> Person {
        Person {
            by: self.by.clone().or_else(account),
            note: self.note.clone(),
            time: Some(now_us()),
        }
    }
}

pub(super) fn run(command: &QuarantineCommand, config: &Config) -> Outcome {
    match command {
        QuarantineCommand::Plan(arguments) => plan(arguments, config),
        QuarantineCommand::Apply(arguments) => apply(arguments, config),
        QuarantineCommand::Release(arguments) => release(arguments, config),
    }
}

/// A store and its incidents, which are there.
struct Place {
    store: PathBuf,
    reading: Reading,
}

fn open(place: &StoreArgs, config: &Config, id: &str, writing: bool) -> Result<Place, Stop> {
    let (store, reading) = super::incident::open(place, config, writing)?;
    match reading {
        Some(reading) => Ok(Place { store, reading }),
        None => Err(unknown(id, None)),
    }
}

/// The database that was named, else that of the file.
pub(super) fn target(given: Option<&str>, config: &Config) -> Result<Option<Target>, Stop> {
    let named = config.quarantine.database.as_ref();
    let Some(url) = given.or(named.map(Text::value)) else {
        return Ok(None);
    };
    if !Target::is_url(url) {
        let hint = "name it as postgres://firstbad_quarantine@host/database";
        let shown = match (given, named) {
            (None, Some(text)) => text.shown(),
            _ => url,
        };
        let message = format!("`{shown}` is no database");
        return Err(output::wrong_argument(&message, Some(hint)));
    }
    let target = Target::parse(url).map_err(|error| super::watch::refused(&error))?;
    for warning in target.warnings() {
        output::note(&format!("warning: {}\n", terminal(warning)));
    }
    Ok(Some(target))
}

fn needed(given: Option<&str>, config: &Config) -> Result<Target, Stop> {
    target(given, config)?.ok_or_else(|| {
        let hint = "postgres://firstbad_quarantine@host/database, or `quarantine: {database: …}` in firstbad.yaml";
        output::wrong_argument("no database was named", Some(hint))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Stop> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| output::world("threads cannot be started", &error))
}

fn read(place: &Place, id: &str) -> Result<Plan, Stop> {
    let plan = Plan::read(&place.store, &place.reading, id, &[]);
    let plan = plan.map_err(|error| failed(&error, &place.store, None))?;
    plan.ok_or_else(|| unknown(id, Some(&place.reading)))
}

fn plan(arguments: &PlanArgs, config: &Config) -> Outcome {
    let place = open(&arguments.place, config, &arguments.incident, false)?;
    let target = target(arguments.database.as_deref(), config)?;
    let mut plan = read(&place, &arguments.incident)?;
    if let Some(target) = target {
        let compared = runtime()?.block_on(async {
            let mut session = quarantine::connect(&target, &place.reading).await?;
            plan.compare(&mut session).await
        });
        compared.map_err(|error| failed(&error, &place.store, Some(&target)))?;
    }
    output::print(&match arguments.format {
        PlanShape::Text => report::text(&plan, Told::Plan),
        PlanShape::Json => report::json(&plan, Told::Plan, &shown(&place.store)),
        PlanShape::Sql => report::sql(&plan),
    });
    Ok(code(&plan))
}

fn apply(arguments: &ApplyArgs, config: &Config) -> Outcome {
    let mut place = open(&arguments.place, config, &arguments.incident, true)?;
    let target = needed(arguments.database.as_deref(), config)?;
    let mut plan = read(&place, &arguments.incident)?;
    if plan.state == State::Closed {
        let message = format!("{} is closed", plan.incident);
        let hint = "a new stretch of its rule opens another incident";
        return Err(output::wrong_argument(&message, Some(hint)));
    }
    let rows = plan.rows.len() as u64;
    if rows > arguments.max_rows {
        let message = format!(
            "{} stands for {}, more than --max-rows {}: nothing was changed",
            plan.incident,
            counted(rows, "row"),
            grouped(arguments.max_rows)
        );
        let hint = format!(
            "look at `firstbad quarantine plan {}`, then allow as many",
            plan.incident
        );
        return Err(output::wrong_argument(&message, Some(&hint)));
    }
    let person = arguments.who.person();
    let applied = runtime()?.block_on(async {
        let mut session = quarantine::connect(&target, &place.reading).await?;
        plan.apply(&mut session).await
    });
    let applied =
        applied.and_then(|()| quarantine::mark_applied(&mut place.reading, &plan, &person));
    applied.map_err(|error| failed(&error, &place.store, Some(&target)))?;
    output::print(&match arguments.format {
        Shape::Text => report::text(&plan, Told::Applied),
        Shape::Json => report::json(&plan, Told::Applied, &shown(&place.store)),
    });
    Ok(code(&plan))
}

/// 0 where all that is bad is, or would be, set apart; 1 where something is passed over; 4 where not all is known.
fn code(plan: &Plan) -> u8 {
    if plan.passed_over().next().is_some() {
        exit::VIOLATED
    } else if plan.incomplete {
        exit::UNKNOWN
    } else {
        exit::HELD
    }
}

fn release(arguments: &ReleaseArgs, config: &Config) -> Outcome {
    let (incident, database) = match (arguments.all, &arguments.incident, &arguments.database) {
        (false, Some(incident), database) => (Some(incident.as_str()), database.as_deref()),
        // With --all, the one that is named is the database.
        (true, database, None) => (None, database.as_deref()),
        _ => {
            let hint = "`firstbad quarantine release I-7`, or `firstbad quarantine release --all`";
            return Err(output::wrong_argument(
                "one incident is released, or all of them",
                Some(hint),
            ));
        }
    };
    let mut place = open(&arguments.place, config, incident.unwrap_or("I-1"), true)?;
    let target = needed(database, config)?;
    let found = match incident {
        None => None,
        Some(id) => Some(shown_incident(&place.reading, id)?),
    };
    let person = arguments.who.person();
    let store = place.store.clone();
    let released = runtime()?.block_on(async {
        let session = quarantine::connect(&target, &place.reading).await?;
        let reading = &mut place.reading;
        quarantine::release(&session, &store, reading, found.as_ref(), &person).await
    });
    let released = released.map_err(|error| failed(&error, &place.store, Some(&target)))?;
    let id = found.as_ref().map(Incident::id);
    output::print(&match arguments.format {
        Shape::Text => report::released_text(id.as_deref().unwrap_or("all incidents"), &released),
        Shape::Json => report::released_json(id.as_deref(), &shown(&place.store), &released),
    });
    Ok(exit::HELD)
}

fn shown_incident(reading: &Reading, id: &str) -> Result<Incident, Stop> {
    let found = reading.show(id).map_err(|error| incidents_failed(&error))?;
    match found {
        Some((incident, _, _)) => Ok(incident),
        None => Err(unknown(id, Some(reading))),
    }
}

fn shown(store: &Path) -> String {
    output::mask().path(store).display().to_string()
}

fn failed(error: &QuarantineError, store: &Path, target: Option<&Target>) -> Stop {
    let what = match target {
        Some(target) => format!("cannot set rows apart in {}", terminal(&target.shown())),
        None => "cannot say which rows".to_owned(),
    };
    match error {
        QuarantineError::Request { message, hint } => output::wrong_argument(message, Some(hint)),
        QuarantineError::Store(error) => inputs::store_error(error, store),
        QuarantineError::Incidents(error) => incidents_failed(error),
        QuarantineError::Postgres(error @ PostgresError::Argument { .. }) => {
            super::watch::refused(error)
        }
        QuarantineError::Postgres(error) => {
            let stop = output::world(&what, error);
            if let Some(hint) = error.hint() {
                output::note(&format!("  help: {}\n", terminal(hint)));
            }
            stop
        }
    }
}

/// The automatic mode of a watcher, where the file asks for it.
pub(super) fn automatic(
    config: &Config,
    store: &Path,
    rules: &[Rule],
) -> Result<Option<Automatic>, Stop> {
    let asked = &config.quarantine;
    if asked.rules.is_empty() {
        return Ok(None);
    }
    let is_missing = |id: &&Text| !rules.iter().any(|rule| rule.id == id.value());
    let wrong = |id: &Text| {
        let wrong = id.error(format!("no rule `{}` is watched", id.shown()));
        match nearest(id.value(), rules.iter().map(|rule| rule.id.as_str())) {
            Some(near) => wrong.with_hint(format!("did you mean `{near}`?")),
            None => wrong.with_hint("`firstbad rules list` names them all"),
        }
    };
    let wrong: Vec<_> = asked.rules.iter().filter(is_missing).map(wrong).collect();
    if !wrong.is_empty() {
        return Err(output::wrong_input(&wrong, 0));
    }
    let target = needed(None, config)?;
    let ids = asked.rules.iter().map(|id| id.value().to_owned());
    let settings = automatic::Settings {
        store: store.to_owned(),
        target,
        rules: ids.collect(),
        rows_max: asked.rows_max.unwrap_or(AUTOMATIC_ROWS_MAX),
    };
    let say = |text: &str| output::note(&format!("note: {}\n", terminal(text)));
    let started = Automatic::start(settings, say);
    let started = started.map_err(|error| output::world("threads cannot be started", &error))?;
    Ok(Some(started))
}
