//! `firstbad alert`: who is told of incidents, whether it arrives, and what waits.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::record::Shape;
use super::{Outcome, Stop, exit, inputs, output};
use crate::alert::{self, Options, Round, Tell};
use crate::config::{self, Config, Sink};
use crate::escape::terminal;
use crate::incident::IncidentError;
use crate::incident::outbox::{Outbox, Standing};
use crate::report::table::{self, Column};
use crate::report::{counted, grouped};
use crate::schema::value::format_timestamp;
use crate::store::StoreError;

/// The verbs of `firstbad alert`
#[derive(Debug, Subcommand)]
pub(super) enum AlertCommand {
    /// List who is told of incidents, what waits for them, and what did not arrive
    List(ListArgs),
    /// Send everybody a message that says that messages arrive
    Test(TestArgs),
    /// Tell what waits now, and end; for those who let cron do what `firstbad watch` does
    Send(SendArgs),
}

/// Arguments of `firstbad alert list`
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

/// Arguments of `firstbad alert test`
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Only this one (can be repeated)
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,
}

/// Arguments of `firstbad alert send`
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Only to this one (can be repeated)
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,
    /// What was given up as well
    #[arg(long)]
    failed: bool,
}

pub(super) fn run(command: &AlertCommand, config: &Config) -> Outcome {
    match command {
        AlertCommand::List(arguments) => list(arguments, config),
        AlertCommand::Test(arguments) => test(arguments, config),
        AlertCommand::Send(arguments) => send(arguments, config),
    }
}

/// Says what people should know of sinks.
pub(super) fn tell() -> Tell {
    Arc::new(|text: &str| output::note(&format!("alert: {text}\n")))
}

/// The sinks of the file, whole; none where it names none.
pub(super) fn sinks(config: &Config) -> Result<&[Sink], Stop> {
    let wrong = alert::mistakes(&config.alerts);
    match wrong.is_empty() {
        true => Ok(&config.alerts),
        false => Err(output::wrong_input(&wrong, 0)),
    }
}

/// The sinks of these names, or all; at least one.
fn chosen(config: &Config, names: &[String]) -> Result<Vec<Sink>, Stop> {
    let all = sinks(config)?;
    if all.is_empty() {
        let hint = format!(
            "write `alerts: [{{name: ops, slack: \"${{SLACK_URL}}\"}}]` into {}",
            config::FILE_NAME
        );
        return Err(output::wrong_argument("nobody is to be told", Some(&hint)));
    }
    let known: Vec<&str> = all.iter().map(|sink| sink.name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let message = format!("no sink is called `{name}`");
        let hint = format!("there is {}", known.join(", "));
        return Err(output::wrong_argument(&message, Some(&hint)));
    }
    let is_chosen = |sink: &&Sink| names.is_empty() || names.contains(&sink.name);
    Ok(all.iter().filter(is_chosen).cloned().collect())
}

/// Prints what may name what a variable stands for.
fn print(text: &str) {
    output::print(&output::mask().text(text));
}

fn failed(error: &IncidentError) -> Stop {
    output::world("incidents", error)
}

/// Where a sink is, for people.
fn place(sink: &Sink) -> String {
    format!("{} {}", sink.to.as_str(), terminal(&sink.to.shown()))
}

fn test(arguments: &TestArgs, config: &Config) -> Outcome {
    let sinks = chosen(config, &arguments.to)?;
    let options = Options::default();
    let mut code = exit::HELD;
    for sink in &sinks {
        let said = match alert::test(sink, &options) {
            Ok(()) => "arrived".to_owned(),
            Err(error) => {
                code = exit::WORLD;
                format!("did not arrive: {}", terminal(&error.to_string()))
            }
        };
        print(&format!("{} ({}): {said}\n", sink.name, place(sink)));
    }
    Ok(code)
}

fn not_there(directory: &std::path::Path) -> Stop {
    let missing = StoreError::NotThere(directory.display().to_string());
    inputs::store_error(&missing, directory)
}

fn send(arguments: &SendArgs, config: &Config) -> Outcome {
    let sinks = chosen(config, &arguments.to)?;
    let directory = inputs::store(arguments.store.clone(), config);
    let options = Options::default();
    let rounds = alert::send_waiting(&directory, &sinks, arguments.failed, &options, tell());
    let Some(rounds) = rounds.map_err(|error| failed(&error))? else {
        return match crate::store::is_store(&directory) {
            true => Ok(exit::HELD),
            false => Err(not_there(&directory)),
        };
    };
    let mut code = exit::HELD;
    for (sink, round) in sinks.iter().zip(&rounds) {
        if round.error.is_some() {
            code = exit::WORLD;
        }
        print(&format!("{}: {}\n", sink.name, round_text(round)));
    }
    Ok(code)
}

fn round_text(round: &Round) -> String {
    if round.is_others {
        return "another process tells it".to_owned();
    }
    let sent = format!("{} arrived", counted(round.sent, "message"));
    match &round.error {
        Some(error) => format!("{sent}; then: {}", terminal(&error.to_string())),
        None => sent,
    }
}

fn list(arguments: &ListArgs, config: &Config) -> Outcome {
    let sinks = chosen(config, &[])?;
    let directory = inputs::store(arguments.store.clone(), config);
    let outbox = Outbox::look(&directory).map_err(|error| failed(&error))?;
    if outbox.is_none() && !crate::store::is_store(&directory) {
        return Err(not_there(&directory));
    }
    let mut listed = Vec::new();
    for sink in sinks {
        let standing = match &outbox {
            Some(outbox) => outbox
                .standing(&sink.name)
                .map_err(|error| failed(&error))?,
            None => None,
        };
        listed.push((sink, standing.unwrap_or_default()));
    }
    match arguments.format {
        Shape::Text => print(&list_text(&listed)),
        Shape::Json => {
            let store = output::mask().path(&directory).display().to_string();
            print(&list_json(&store, &listed));
        }
    }
    Ok(exit::HELD)
}

fn list_text(listed: &[(Sink, Standing)]) -> String {
    let column = |heading: &str, cell: &dyn Fn(&Sink, &Standing) -> String| {
        let cells = listed.iter().map(|(sink, standing)| cell(sink, standing));
        Column::new(heading, cells.collect())
    };
    let mut columns = [
        column("name", &|sink, _| sink.name.clone()).kept(),
        column("receiver", &|sink, _| place(sink)).at_least(20),
        column("last message", &|_, standing| {
            let time = standing.sent.map(format_timestamp);
            time.unwrap_or_default().replace('T', " ")
        })
        .kept(),
        column("waiting", &|_, standing| grouped(standing.waiting))
            .kept()
            .right(),
        column("failed", &|_, standing| {
            grouped(standing.failed.len() as u64)
        })
        .kept()
        .right(),
    ];
    table::shrink(&mut columns, output::width());
    let mut out = table::lines(&columns).join("\n") + "\n";
    for (sink, standing) in listed {
        for (about, tries, error) in &standing.failed {
            let (about, error) = (terminal(about), terminal(error));
            let tries = match tries {
                1 => "1 try".to_owned(),
                tries => format!("{} tries", grouped(*tries)),
            };
            out += &format!(
                "{}: {about} was given up after {tries}: {error}\n",
                sink.name
            );
        }
        if standing.failures > 0
            && let Some(error) = &standing.error
        {
            let again = standing.retry.map(format_timestamp).unwrap_or_default();
            let (error, again) = (terminal(error), again.replace('T', " "));
            out += &format!("{}: {error}; it is tried again at {again}\n", sink.name);
        }
    }
    out
}

fn list_json(store: &str, listed: &[(Sink, Standing)]) -> String {
    let one = |(sink, standing): &(Sink, Standing)| {
        let failed = standing
            .failed
            .iter()
            .map(|(about, tries, error)| json!({"about": about, "tries": tries, "error": error}));
        let failed: Vec<Value> = failed.collect();
        json!({
            "name": sink.name,
            "kind": sink.to.as_str(),
            "to": sink.to.shown(),
            "delivered": standing.delivered,
            "sent": standing.sent.map(format_timestamp),
            "waiting": standing.waiting,
            "failed": failed,
            "failures": standing.failures,
            "error": standing.error,
            "retry": standing.retry.map(format_timestamp),
        })
    };
    let sinks: Vec<Value> = listed.iter().map(one).collect();
    let out = json!({"schema": "firstbad/alerts@1", "store": store, "sinks": sinks});
    let text = serde_json::to_string_pretty(&out).expect("a JSON value can always be written");
    crate::report::safe_json(&text) + "\n"
}
