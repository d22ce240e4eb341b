//! `firstbad repair INCIDENT`: prints SQL that would put the good values back. It runs nothing, unless a copy is named to try it on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::arguments::{self, AtArgs, LimitArgs};
use super::ready::Asked;
use super::record::Shape;
use super::settings::Source;
use super::{Outcome, Stop, check, exit, incident, inputs, output};
use crate::change::now_us;
use crate::config::Config;
use crate::diagnostic;
use crate::escape::terminal;
use crate::incident::{Incident, IncidentError, Person, RawKey, Reading, State, Touched};
use crate::postgres::{Access, PostgresError, Session, Target, slot};
use crate::repair::{self, About, Ask, BadKey, Generated, ProofError, Repair, Wish};
use crate::report::{counted, safe_json};
use crate::rule::Rule;
use crate::verdict::{Outcome as RuleOutcome, Verdict, canonical};
use crate::watch;

/// Arguments of `firstbad repair`
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The incident, as `I-7`
    #[arg(value_name = "INCIDENT")]
    id: String,
    /// The store [default: store of firstbad.yaml, then .firstbad]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Rule file or directory (can be repeated) [default: rules of firstbad.yaml, then ./rules]
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Propose to delete rows that bad writes inserted
    #[arg(long)]
    delete_inserted: bool,
    /// Put back every column that a bad write changed, not only those that the rules judge
    #[arg(long)]
    all_columns: bool,
    /// Write the values of columns that rules redact into the SQL
    #[arg(long)]
    show_redacted: bool,
    /// Print only how to recover a base backup to just before the first bad write
    #[arg(long, conflicts_with_all = ["try_on", "output", "mark"])]
    pitr: bool,
    /// Run it on this copy, and judge all rules there again; never the database that is watched
    #[arg(long = "try", value_name = "POSTGRES")]
    try_on: Option<String>,
    /// Only keep word that the incident was repaired
    #[arg(long, conflicts_with_all = ["try_on", "output"])]
    mark: bool,
    /// Write the SQL to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to say it: text (the SQL) or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    format: Shape,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(super) fn run(arguments: &RepairArgs, config: &Config, verbose: u8) -> Outcome {
    let directory = inputs::store(arguments.store.clone(), config);
    let reading = Reading::open(&directory, arguments.mark).map_err(|error| failed(&error))?;
    let Some(mut reading) = reading else {
        if crate::store::is_store(&directory) {
            return Err(incident::unknown(&arguments.id, None));
        }
        let missing = crate::store::StoreError::NotThere(directory.display().to_string());
        return Err(inputs::store_error(&missing, &directory));
    };
    let found = reading
        .raw_keys(&arguments.id)
        .map_err(|error| failed(&error))?;
    let Some((found, keys)) = found else {
        return Err(incident::unknown(&arguments.id, Some(&reading)));
    };
    if arguments.mark {
        return mark(&arguments.id, &mut reading);
    }
    if arguments.pitr {
        return recovery(&about(&found, Vec::new(), 0));
    }
    let source = Source::named(&[directory.display().to_string()]);
    let rules = rules(arguments, config, &source, &found, verbose)?;
    let scratch = match &arguments.try_on {
        Some(url) => Some(Scratch::open(url, &reading)?),
        None => None,
    };
    let history = inputs::open(&source.arguments, None, verbose)?.history;
    let redact = reading.redacted().map_err(|error| failed(&error))?;
    let redact: Vec<String> = redact.into_iter().chain(found.redacted()).collect();
    let generated = watch::generated(&reading).map_err(|error| failed(&error))?;
    let limits = arguments.limits.limits(config);
    let ask = Ask {
        history: &history,
        rules: &rules,
        keys: &bad_keys(&found, keys),
        wish: Wish {
            delete_inserted: arguments.delete_inserted,
            whole_rows: arguments.all_columns,
        },
        redact: if arguments.show_redacted {
            &[]
        } else {
            &redact
        },
        generated: &Generated::new(generated),
        limits: &limits,
    };
    let about = about(&found, redact.clone(), history.head());
    let repair = repair::repair(&ask).map_err(|error| not_proved(&error, verbose))?;
    let tried = match scratch {
        Some(scratch) => Some(scratch.run(arguments, config, &rules, &repair, &about, verbose)?),
        None => None,
    };
    say(arguments, &repair, &about, tried.as_ref())?;
    Ok(match (repair.exit_code(), tried) {
        (exit::HELD, Some(tried)) => tried.exit_code(&about.rules),
        (code, _) => code,
    })
}

fn failed(error: &IncidentError) -> Stop {
    output::world("incidents", error)
}

fn not_proved(error: &ProofError, verbose: u8) -> Stop {
    match error {
        ProofError::Rules(found) => output::wrong_input(found, verbose),
        error => output::world("the repair cannot be proved", error),
    }
}

fn about(found: &Incident, redact: Vec<String>, at: u32) -> About {
    About {
        incident: found.id(),
        rules: found.rules.iter().map(|rule| rule.id.clone()).collect(),
        first_bad: found.first_bad.clone(),
        at,
        redact,
    }
}

/// The keys that are bad now, each once, with all the commits that broke it.
fn bad_keys(found: &Incident, keys: Vec<RawKey>) -> Vec<BadKey> {
    let mut all: BTreeMap<(String, String), BadKey> = BTreeMap::new();
    for raw in keys.into_iter().filter(|raw| raw.healed.is_none()) {
        let name = canonical(&Value::Object(raw.key.clone()));
        let key = all
            .entry((raw.rule.clone(), name))
            .or_insert_with(|| BadKey {
                rule: raw.rule,
                key: raw.key,
                onsets: BTreeSet::new(),
            });
        if !found.pre_existing {
            key.onsets.insert(raw.onset);
        }
    }
    all.into_values().collect()
}

/// All rules of the files; those of the incident must be among them.
fn rules(
    arguments: &RepairArgs,
    config: &Config,
    source: &Source,
    found: &Incident,
    verbose: u8,
) -> Result<Vec<Rule>, Stop> {
    let paths = inputs::rule_paths(&arguments.rules, config, Some(source))?;
    let (rules, wrong) = inputs::load_rules(&paths);
    if diagnostic::any_error(&wrong) {
        return Err(output::wrong_input(&wrong, verbose));
    }
    output::diagnostics(&wrong, verbose);
    let missing = found
        .rules
        .iter()
        .find(|own| !rules.iter().any(|rule| rule.id == own.id));
    match missing {
        None => Ok(rules),
        Some(missing) => {
            let message = format!(
                "rule `{}` of {} is in none of the rule files",
                missing.id,
                found.id()
            );
            let hint = "name the files that are watched with --rules PATH: what is put back is proved by them";
            Err(output::wrong_argument(&message, Some(hint)))
        }
    }
}

fn recovery(about: &About) -> Outcome {
    match repair::pitr(about) {
        Ok(settings) => {
            output::print(&settings);
            Ok(exit::HELD)
        }
        Err(reason) => {
            output::note(&format!("error: {}\n", terminal(&reason)));
            Err(Stop {
                code: exit::UNKNOWN,
            })
        }
    }
}

fn mark(id: &str, reading: &mut Reading) -> Outcome {
    let person = Person {
        by: incident::account(),
        note: None,
        time: Some(now_us()),
    };
    let shown = terminal(&id.to_uppercase());
    match reading
        .mark(id, State::Repaired, &person)
        .map_err(|error| failed(&error))?
    {
        Touched::Done => output::print(&format!("{shown} is repaired\n")),
        Touched::Already => output::print(&format!("{shown} is repaired already\n")),
        Touched::IsClosed => {
            let message = format!("{shown} is closed, so it cannot be repaired");
            return Err(output::wrong_argument(&message, None));
        }
        Touched::Unknown => return Err(incident::unknown(id, Some(reading))),
    }
    Ok(exit::HELD)
}

fn say(
    arguments: &RepairArgs,
    repair: &Repair,
    about: &About,
    tried: Option<&Tried>,
) -> Result<(), Stop> {
    let text = match arguments.format {
        Shape::Text => repair.script(about) + &tried.map_or_else(String::new, Tried::text),
        Shape::Json => {
            let mut document = repair.document(about);
            if let Some(tried) = tried {
                document.insert("tried".into(), Value::Object(tried.document()));
            }
            let text = serde_json::to_string_pretty(&document);
            safe_json(&text.expect("a JSON value can always be written")) + "\n"
        }
    };
    arguments::deliver(&text, arguments.output.as_deref())?;
    if arguments.output.is_some() {
        let refused = repair
            .keys
            .iter()
            .filter(|key| key.refused.is_some())
            .count();
        let right = repair.keys.len() - refused;
        output::note(&format!(
            "{}: {} put right, {refused} refused\n",
            about.incident,
            counted(right as u64, "key")
        ));
    }
    Ok(())
}

/// A copy to try a repair on.
struct Scratch {
    url: String,
    target: Target,
    session: Session,
    runtime: tokio::runtime::Runtime,
}

/// What came of trying.
struct Tried {
    shown: String,
    /// Why the copy refused it; None where it was run.
    refused: Option<String>,
    outcomes: Vec<RuleOutcome>,
}

impl Scratch {
    /// Connects, and makes sure that it is not the database that is watched.
    fn open(url: &str, reading: &Reading) -> Result<Scratch, Stop> {
        if !Target::is_url(url) {
            let message = format!("--try: `{url}` is no database");
            return Err(output::wrong_argument(
                &message,
                Some("name it as postgres://user@host/database"),
            ));
        }
        let target = Target::parse(url).map_err(|error| super::watch::refused(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| output::world("threads cannot be started", &error))?;
        let lost = |error: PostgresError| {
            output::world(
                &format!("cannot reach {}", terminal(&target.shown())),
                &error,
            )
        };
        let open = Session::open(&target, "firstbad repair", Access::ReadWrite);
        let session = runtime.block_on(open).map_err(lost)?;
        let system = runtime.block_on(slot::system_id(&session)).map_err(lost)?;
        let watched = reading.setting("source").map_err(|error| failed(&error))?;
        let wrong = match system {
            None => Some(
                "whether it is the watched database is not known: the role may not call pg_control_system()",
            ),
            Some(system) => {
                let own = format!("{system}/{}", target.database());
                let is_watched = [Some(own), Some(target.shown())].contains(&watched);
                is_watched.then_some("that is the watched database")
            }
        };
        match wrong {
            None => Ok(Scratch {
                url: url.to_owned(),
                target,
                session,
                runtime,
            }),
            Some(wrong) => {
                let hint =
                    "name a copy: a dump that was restored, or a backup whose database was renamed";
                Err(output::wrong_argument(
                    &format!("--try: {wrong}"),
                    Some(hint),
                ))
            }
        }
    }

    /// Runs the repair, and judges all rules.
    fn run(
        self,
        arguments: &RepairArgs,
        config: &Config,
        rules: &[Rule],
        repair: &Repair,
        about: &About,
        verbose: u8,
    ) -> Result<Tried, Stop> {
        let shown = self.target.shown();
        let mut refused = None;
        if !repair.statements.is_empty() {
            let script = repair.script(about);
            let ran = self
                .runtime
                .block_on(self.session.client().batch_execute(&script));
            match ran.map_err(PostgresError::from) {
                Ok(()) => {}
                Err(error @ PostgresError::Server { .. }) => refused = Some(error.to_string()),
                Err(error) => {
                    return Err(output::world(
                        &format!("cannot reach {}", terminal(&shown)),
                        &error,
                    ));
                }
            }
        }
        self.runtime.block_on(self.session.close());
        let source = Source::named(&[self.url]);
        let place = AtArgs {
            at: "latest".into(),
            now: None,
        };
        let asked = Asked {
            source: &source,
            place: &place,
            limits: &arguments.limits,
            config,
            sample: Some(0),
            verbose,
        };
        let today = check::today(None);
        let mut found = Vec::new();
        let (rules, _) = check::not_expired(rules.to_vec(), today, &mut found);
        let states = rules.into_iter().filter(|rule| !rule.check.judges_writes());
        let mut ready = asked.ready(&states.collect::<Vec<_>>(), found)?;
        Ok(Tried {
            shown,
            refused,
            outcomes: ready.judge(),
        })
    }
}

impl Tried {
    fn exit_code(&self, rules: &[String]) -> u8 {
        let mut own = self
            .outcomes
            .iter()
            .filter(|one| rules.contains(&one.rule.id));
        match own.any(|one| one.verdict == Verdict::Violated) || self.refused.is_some() {
            true => exit::VIOLATED,
            false if self.count(Verdict::Unknown) > 0 => exit::UNKNOWN,
            false => exit::HELD,
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.outcomes
            .iter()
            .filter(|one| one.verdict == verdict)
            .count()
    }

    fn text(&self) -> String {
        let mut out = format!("\n-- tried on {}: ", terminal(&self.shown));
        out += &match &self.refused {
            Some(reason) => format!("refused, nothing was changed: {}\n", terminal(reason)),
            None => "done\n".to_owned(),
        };
        let held = self.count(Verdict::Held);
        out += &format!("--   {} held afterwards\n", counted(held as u64, "rule"));
        for one in self
            .outcomes
            .iter()
            .filter(|one| one.verdict != Verdict::Held)
        {
            let why = match (one.violations, &one.reason) {
                (_, Some(reason)) => format!("unknown: {}", terminal(reason)),
                (Some(keys), None) => format!("violated: {}", counted(keys, "key")),
                (None, None) => one.verdict.as_str().to_owned(),
            };
            out += &format!("--   {} {why}\n", terminal(&one.rule.id));
        }
        out
    }

    fn document(&self) -> Map<String, Value> {
        let rules = self.outcomes.iter().map(|one| {
            json!({
                "id": one.rule.id,
                "verdict": one.verdict.as_str(),
                "violations": one.violations,
                "reason": one.reason,
            })
        });
        let mut out = Map::new();
        out.insert("on".into(), self.shown.clone().into());
        out.insert("refused".into(), self.refused.clone().into());
        out.insert("rules".into(), rules.collect());
        out
    }
}
