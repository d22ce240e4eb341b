//! Arguments that several commands share: rule paths, positions, sizes, times.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::AtArgs;
use super::settings::{self, Source};
use super::{Stop, exit, output};
use crate::config::{Config, Text, parse_size};
use crate::diagnostic::Diagnostic;
use crate::report::{counted, shell_word};
use crate::rule::{Rule, file};
use crate::schema::value;
use crate::source::{self, Opened, SourceError};
use crate::state::History;
use crate::store::{Store, StoreError};
use crate::verdict::At;

/// Where rules are looked for: `--rules`, else `rules` of the file, else `rules` in the source, else ./rules.
pub(super) fn rule_paths(
    given: &[PathBuf],
    config: &Config,
    source: Option<&Source>,
) -> Result<Vec<PathBuf>, Stop> {
    if !given.is_empty() {
        if let Some(missing) = given.iter().find(|path| !path.exists()) {
            let message = format!("there is no rule file or directory `{}`", missing.display());
            return Err(output::wrong_argument(&message, None));
        }
        return Ok(given.to_vec());
    }
    if !config.rules.is_empty() {
        settings::existing(&config.rules)?;
        let path = |text: &Text| PathBuf::from(text.value());
        return Ok(config.rules.iter().map(path).collect());
    }
    // Nothing lies beside a database.
    let source = source.filter(|source| !super::live::is_live(&source.arguments));
    let first = source.and_then(|source| source.arguments.first());
    let beside = first.map(|source| Path::new(source).join("rules"));
    for candidate in beside.into_iter().chain([PathBuf::from("rules")]) {
        if candidate.is_dir() {
            return Ok(vec![candidate]);
        }
    }
    let looked = match source {
        Some(source) => {
            let first = match source.given.first() {
                Some(given) => given,
                None => config.source.first().map_or("SOURCE", Text::shown),
            };
            format!("neither {first}/rules nor ./rules exists")
        }
        None => "./rules does not exist".to_owned(),
    };
    Err(output::wrong_argument(
        &format!("no rules: {looked}"),
        Some(
            "name a rule file or directory with --rules PATH, or write `rules: PATH` into firstbad.yaml",
        ),
    ))
}

/// The store of commands that keep one: the one that was given, else that of the file, else `.firstbad` beside the file or here.
pub(super) fn store(given: Option<PathBuf>, config: &Config) -> PathBuf {
    config.store_or(given)
}

/// Rules and what is wrong with their files.
pub(super) fn load_rules(paths: &[PathBuf]) -> (Vec<Rule>, Vec<Diagnostic>) {
    let (mut rules, found) = file::load(paths);
    for rule in &mut rules {
        rule.span.file = output::mask().path(&rule.span.file);
        rule.check_span.file = output::mask().path(&rule.check_span.file);
    }
    (rules, found)
}

/// Keeps the rules with the given ids and tags; everything when none is given.
pub(super) fn select(rules: Vec<Rule>, ids: &[String], tags: &[String]) -> Result<Vec<Rule>, Stop> {
    for id in ids {
        if !rules.iter().any(|rule| rule.id == *id) {
            let near = crate::diagnostic::nearest(id, rules.iter().map(|rule| rule.id.as_str()));
            let hint = match near {
                _ if Path::new(id).exists() => format!("rule files are named with `--rules {id}`"),
                Some(near) => format!("did you mean `{near}`?"),
                None => "`firstbad rules list` names them all".to_owned(),
            };
            return Err(output::wrong_argument(
                &format!("there is no rule `{id}`"),
                Some(&hint),
            ));
        }
    }
    let wanted = |rule: &Rule| {
        (ids.is_empty() || ids.contains(&rule.id))
            && (tags.is_empty() || rule.tags.iter().any(|tag| tags.contains(tag)))
    };
    Ok(rules.into_iter().filter(wanted).collect())
}

/// Opens a source, or says why not. With a position, as far as the state there takes it.
pub(super) fn open(source: &[String], at: Option<&AtArgs>, verbose: u8) -> Result<Opened, Stop> {
    let opened = match at {
        Some(place) => source::open_around(source, &[&place.at], place.now),
        None => source::open(source),
    };
    opened.map_err(|error| source_error(&error, verbose))
}

/// Opens a source for rules: what is wrong with both is said in one run. With a position, as far as the state there takes it.
pub(super) fn open_for_rules(
    source: &[String],
    at: Option<&AtArgs>,
    found: &mut Vec<Diagnostic>,
    verbose: u8,
) -> Result<History, Stop> {
    let opened = match at {
        Some(place) => source::open_around(source, &[&place.at], place.now),
        None => source::open(source),
    };
    match opened {
        Err(SourceError::Input(wrong)) => {
            found.extend(wrong);
            Err(output::wrong_input(found, verbose))
        }
        Err(error) => Err(source_error(&error, verbose)),
        Ok(opened) => {
            found.extend(opened.diagnostics);
            Ok(opened.history)
        }
    }
}

/// Says why a source cannot be opened.
pub(super) fn source_error(error: &SourceError, verbose: u8) -> Stop {
    match error {
        SourceError::Input(found) => output::wrong_input(found, verbose),
        SourceError::Argument { message, hint } => output::wrong_argument(message, Some(hint)),
        SourceError::Store { path, source } => store_error(source, path),
        SourceError::Postgres { shown, source } => {
            let stop = output::world(&format!("cannot read {shown}"), source);
            if let Some(hint) = source.hint() {
                output::note(&format!("  help: {}\n", crate::escape::terminal(hint)));
            }
            stop
        }
        SourceError::Tool { message, hint } => output::missing_tool(message, hint),
        SourceError::Io { path, source } => output::world(
            &format!("cannot read {}", output::mask().path(path).display()),
            source,
        ),
    }
}

/// Says why a store cannot be read or written.
pub(super) fn store_error(error: &StoreError, path: &Path) -> Stop {
    let shown = output::mask().path(path).display().to_string();
    let verify = format!(
        "`firstbad verify {}` names all that is damaged",
        shell_word(&shown)
    );
    match error {
        StoreError::NotThere(_) => output::wrong_argument(
            &format!("there is no store in `{shown}`"),
            Some("fill one with `firstbad record SOURCE --store DIR`"),
        ),
        StoreError::Refused { message, hint } => {
            output::wrong_argument(&format!("{shown}: {message}"), Some(hint))
        }
        StoreError::Newer { .. } => failed(
            &format!("{shown}: {error}"),
            "use the version of firstbad that wrote it, or a later one",
        ),
        StoreError::Damaged(_) => failed(&format!("{shown}: {error}"), &verify),
        StoreError::Locked(_) => failed(
            &format!("{shown}: {error}"),
            "one process at a time writes a store: wait for it, or stop it",
        ),
        StoreError::Changing => failed(&format!("{shown}: {error}"), "try again"),
        StoreError::Io { source, .. } => output::world(&format!("{shown}: {error}"), source),
    }
}

/// The head of a store's chain, as it is kept elsewhere.
pub(super) fn head(store: &Store) -> String {
    let chain = store.chain();
    format!(
        "head {} after {}",
        chain.head(),
        counted(chain.seals.len() as u64, "seal")
    )
}

/// A time for people.
pub(super) fn moment(time: i64) -> String {
    value::format_timestamp(time).replace('T', " ")
}

/// The world failed, and what can be done.
fn failed(message: &str, hint: &str) -> Stop {
    let _ = output::wrong_argument(message, Some(hint));
    Stop { code: exit::WORLD }
}

/// A position with its attributes, as reports show it; a source without a history has none.
pub(super) fn at(history: &History, position: u32) -> At {
    crate::bisect::position(history, position)
}

/// Stops when a position lies in a gap: the state there is not known.
pub(super) fn seen(history: &History, named: &str, position: u32) -> Result<(), Stop> {
    let Some(gap) = history.unseen_at(position) else {
        return Ok(());
    };
    let named = crate::escape::terminal(named);
    let hint = format!("#{} and #{} are known", gap.before(), gap.to);
    output::note(&format!(
        "error: the state at {named} is not known: {}\n  help: {hint}\n",
        gap.hidden()
    ));
    Err(Stop {
        code: exit::UNKNOWN,
    })
}

/// A time argument in microseconds.
pub(super) fn time(text: &str) -> Result<i64, String> {
    value::parse_timestamp(text)
        .ok_or_else(|| "not a time; write RFC 3339, e.g. 2026-03-14T09:00:00Z".to_owned())
}

/// A size argument in bytes: `512MiB`, `4GB`, `1000000`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("a limit of nothing judges nothing".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(hint) => Err(format!("not a size; {hint}")),
    }
}

/// A duration argument: `60s`, `5m`, or seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let micros = match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds < 1e9 => (seconds * 1e6) as i64,
        _ => crate::rule::parse_duration(text).map_err(|error| error.to_string())?,
    };
    u64::try_from(micros)
        .ok()
        .filter(|micros| *micros > 0)
        .map(Duration::from_micros)
        .ok_or_else(|| "a limit of nothing judges nothing".to_owned())
}

/// How many violations to list: a number, or `all`.
pub(super) fn sample(text: &str) -> Result<Sample, String> {
    if text == "all" {
        return Ok(Sample(None));
    }
    text.parse()
        .map(|count| Sample(Some(count)))
        .map_err(|_| "not a number; write e.g. 10, or all".to_owned())
}

/// `--sample`: None for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample(pub(super) Option<usize>);
