//! What `firstbad.yaml` says where flags and arguments do not.

use std::path::{Path, PathBuf};

use super::arguments::Flags;
use super::{Stop, output};
use crate::config::{self, Config, Text};
use crate::source::{self, SourceError};

/// What is read of a run's settings: the file of `--config`, else ./firstbad.yaml if it is there. From here on, no message shows
/// the value of a variable.
pub(super) fn load(given: Option<&Path>) -> Result<Config, Stop> {
    let here = Path::new("");
    let Some(file) = given.map(Path::to_path_buf).or_else(|| config::find(here)) else {
        let misnamed = Path::new("firstbad.yml");
        if misnamed.is_file() {
            output::note(&format!(
                "warning: {} is not read: the file is called {}\n",
                misnamed.display(),
                config::FILE_NAME
            ));
        }
        return Ok(Config::default());
    };
    let config = config::load(&file).map_err(|wrong| output::wrong_input(&wrong, 0))?;
    output::hide(config.mask());
    Ok(config)
}

/// `--config`, where commands to run next have to repeat it.
pub(super) fn flags(config: &Config) -> Flags {
    let is_found = |file: &&PathBuf| file.as_path() != Path::new(config::FILE_NAME);
    let flag = |file: &PathBuf| ("--config", file.display().to_string());
    config.file.iter().filter(is_found).map(flag).collect()
}

/// The source of a run.
pub(super) struct Source {
    /// What is opened; it may hold secrets.
    pub(super) arguments: Vec<String>,
    /// The same for people.
    pub(super) shown: String,
    /// What the user gave; nothing where the file names the source.
    pub(super) given: Vec<String>,
}

impl Source {
    /// A source that was named on the command line.
    pub(super) fn named(given: &[String]) -> Self {
        let shown: Vec<String> = given.iter().map(|one| source::shown(one)).collect();
        Source {
            arguments: given.to_vec(),
            shown: shown.join(" "),
            given: shown,
        }
    }

    /// The source that the file names.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let shown: Vec<&str> = config.source.iter().map(Text::shown).collect();
        (!config.source.is_empty()).then(|| Source {
            arguments: config
                .source
                .iter()
                .map(|text| text.value().to_owned())
                .collect(),
            shown: shown.join(" "),
            given: Vec::new(),
        })
    }
}

/// The source of a run, which is there: what was given, else what the file names.
pub(super) fn source(given: &[String], config: &Config) -> Result<Source, Stop> {
    if !given.is_empty() {
        source::probe(given).map_err(|error| super::inputs::source_error(&error, 0))?;
        return Ok(Source::named(given));
    }
    match Source::of(config) {
        Some(source) => {
            probe(&source, config)?;
            Ok(source)
        }
        None => Err(no_source(config)),
    }
}

/// Stops where there is no source at all, naming the two ways to name one.
fn no_source(config: &Config) -> Stop {
    let hint = match &config.file {
        Some(file) => format!(
            "name SOURCE on the command line, or write `source: PATH` into {}",
            file.display()
        ),
        None => format!(
            "name SOURCE on the command line, or write `source: PATH` into {} in this directory",
            config::FILE_NAME
        ),
    };
    output::wrong_argument("no source was named", Some(&hint))
}

/// Stops when the file names no source, with the place in the file.
fn probe(source: &Source, config: &Config) -> Result<(), Stop> {
    existing(&config.source)?;
    match (source::probe(&source.arguments), config.source.first()) {
        (Err(SourceError::Argument { message, hint }), Some(first)) => {
            let wrong = first.error(message).with_hint(hint);
            Err(output::wrong_input(&[wrong], 0))
        }
        (Err(error), _) => Err(super::inputs::source_error(&error, 0)),
        (Ok(()), _) => Ok(()),
    }
}

/// Stops when a path of the file leads nowhere, with its place.
pub(super) fn existing(paths: &[Text]) -> Result<(), Stop> {
    let is_missing = |text: &&Text| {
        !text.value().contains("://")
            && std::fs::metadata(text.value())
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let wrong: Vec<_> = paths
        .iter()
        .filter(is_missing)
        .map(|text| {
            let message = format!("there is no `{}`", text.shown());
            let wrong = text.error(message);
            wrong.with_hint("paths are relative to the directory of this file")
        })
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(output::wrong_input(&wrong, 0)),
    }
}
