//! `firstbad doctor POSTGRES`: what a database lacks to be watched.

use std::path::Path;

use clap::Args;

use super::arguments::{LimitArgs, RuleArgs};
use super::record::Shape;
use super::watch::{refused, target};
use super::{Outcome, exit, output, settings};
use crate::config::Config;
use crate::diagnostic;
use crate::doctor::{self, Facts};
use crate::escape::terminal;
use crate::postgres::PostgresError;
use crate::watch::{Needs, WatchError};

/// Arguments of `firstbad doctor`
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The database: postgres://user@host/database [default: source of firstbad.yaml]
    source: Vec<String>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// The replication slot of the watcher
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    slot: String,
    /// The publication of the watcher
    #[arg(long, value_name = "NAME", default_value = "firstbad")]
    publication: String,
    /// How to say it: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
}

pub(super) fn run(arguments: &DoctorArgs, config: &Config, verbose: u8) -> Outcome {
    let source = settings::source(&arguments.source, config)?;
    let target = target(&source)?;
    // Without rules, all tables are looked at.
    let named = &arguments.rules;
    let said = [named.rules.len(), named.rule.len(), named.tag.len()];
    let any_rules = said.iter().any(|&count| count > 0)
        || !config.rules.is_empty()
        || Path::new("rules").is_dir();
    let rules = match any_rules {
        false => None,
        true => {
            let (rules, found) = named.load(&source, config)?;
            if diagnostic::any_error(&found) {
                return Err(output::wrong_input(&found, verbose));
            }
            let today = chrono::Utc::now().date_naive();
            let mut notes = found;
            let (rules, _) = super::check::not_expired(rules, today, &mut notes);
            output::diagnostics(&notes, verbose);
            Some(rules)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| output::world("threads cannot be started", &error))?;
    let bar = output::waiting("asking the server");
    let asked = runtime.block_on(Facts::ask(&target, &arguments.slot, &arguments.publication));
    bar.finish_and_clear();
    let facts = match asked {
        Ok(facts) => facts,
        Err(error @ PostgresError::Argument { .. }) => return Err(refused(&error)),
        Err(error) => {
            let what = format!("cannot examine {}", terminal(&target.shown()));
            let stop = output::world(&what, &error);
            if let Some(hint) = error.hint() {
                output::note(&format!("  help: {}\n", terminal(hint)));
            }
            return Err(stop);
        }
    };
    let limits = arguments.limits.limits(config);
    let needs = rules.map(|rules| crate::watch::needs(&facts.catalog, &rules, &limits));
    let needs: Option<Needs> = match needs.transpose() {
        Ok(needs) => needs,
        Err(WatchError::Rules(found)) => return Err(output::wrong_input(&found, verbose)),
        Err(error) => return Err(output::world("the rules cannot be planned", &error)),
    };
    let (slot, publication) = (&arguments.slot, &arguments.publication);
    let report = doctor::examine(&target.shown(), &facts, needs.as_ref(), slot, publication);
    match arguments.format {
        Shape::Text => output::print(&doctor::text(&report, output::width())),
        Shape::Json => {
            let document = crate::report::safe_json(&doctor::json(&report).to_string());
            output::print(&format!("{document}\n"));
        }
    }
    Ok(match report.is_blocked() {
        true => exit::VIOLATED,
        false => exit::HELD,
    })
}
