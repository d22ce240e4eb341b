//! `firstbad diff SOURCE A B` and `firstbad diff SOURCE SOURCE`: rows that differ between two states.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::inputs::{self, Sample};
use super::output_file::OutputFile;
use super::settings::{self, Source};
use super::{Outcome, Stop, exit, live, output};
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Level};
use crate::diff::{self, Looks, Request, Side, TableDiff};
use crate::postgres::Wanted;
use crate::report::shell_word;
use crate::schema::TableName;
use crate::schema::value::parse_timestamp;
use crate::source::{self, Live, Opened};
use crate::state::{History, Origin, parse_lsn};
use crate::verdict::At;

/// How many rows of a table text shows where nothing else is asked for.
const ROWS_SHOWN: usize = 10;

/// Arguments of `firstbad diff`
#[derive(Debug, Args)]
#[command(
    override_usage = "firstbad diff [OPTIONS] [SOURCE] <A> <B>\n       firstbad diff [OPTIONS] <SOURCE> <SOURCE>"
)]
pub(super) struct DiffArgs {
    /// A history directory, a directory of table files, or a data file; left out, with two positions, the source of firstbad.yaml
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The first position; or, as the last argument, a second source
    #[arg(value_name = "A", allow_hyphen_values = true)]
    a: String,
    /// The second position
    #[arg(value_name = "B", allow_hyphen_values = true)]
    b: Option<String>,
    /// Compare only this table (can be repeated)
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Match rows by these columns instead of the primary key
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    key: Vec<String>,
    /// The time from which ages such as -10m count back [default: the last commit's]
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    now: Option<i64>,
    /// How to write the differences: text, json or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json", "jsonl"])]
    format: String,
    /// Write the differences to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many rows of a table to list: a number, or all [default: 10 in text, all in json and jsonl]
    #[arg(long, value_name = "N", value_parser = inputs::sample)]
    sample: Option<Sample>,
    /// Exit 1 where the two differ
    #[arg(long)]
    exit_code: bool,
}

/// A state that was opened and found.
struct State {
    name: String,
    position: u32,
    at: At,
    /// Whether it is that of one file.
    file: bool,
}

pub(super) fn run(arguments: &DiffArgs, config: &Config, verbose: u8) -> Outcome {
    let named = || Source::named(std::slice::from_ref(&arguments.source));
    match (&arguments.b, Source::of(config)) {
        (Some(b), _) => positions(arguments, &named(), (&arguments.a, b), verbose),
        (None, Some(source)) if !is_there(&arguments.source) && !is_there(&arguments.a) => {
            let source = settings::source(&source.given, config)?;
            let (a, b) = (&arguments.source, &arguments.a);
            positions(arguments, &source, (a, b), verbose)
        }
        (None, _) => sources(arguments, verbose),
    }
}

/// Whether a word names a source, so that it is no position.
fn is_there(word: &str) -> bool {
    word.contains("://") || Path::new(word).exists()
}

/// Two positions of one source.
fn positions(arguments: &DiffArgs, source: &Source, (a, b): (&str, &str), verbose: u8) -> Outcome {
    if live::is_live(&source.arguments) {
        return Err(live::one_state(source));
    }
    let opened = open(&source.arguments, &[], verbose)?;
    let history = &opened.history;
    if history.origin == Origin::SingleState {
        return Err(one_state(&source.shown));
    }
    let state = |text: &str, which: &str| {
        let resolved = history
            .resolve(text, arguments.now)
            .map_err(|reason| output::wrong_argument(&format!("{which}: {reason}"), None))?;
        inputs::seen(history, text, resolved.position)?;
        Ok(state(source, history, resolved.position))
    };
    let (first, second) = (state(a, "A")?, state(b, "B")?);
    show(arguments, (history, &first), (history, &second))
}

/// Two sources.
fn sources(arguments: &DiffArgs, verbose: u8) -> Outcome {
    let (first, second) = (&arguments.source, &arguments.a);
    if let Err(error) = source::probe(std::slice::from_ref(second)) {
        let place = Path::new(first).join("snapshots");
        let is_position = second.starts_with(['#', '-'])
            || second == "latest"
            || parse_lsn(second).is_some()
            || parse_timestamp(second).is_some()
            || place.join(second).is_dir();
        if is_position && !Path::new(second).exists() {
            let message = format!("there is no source `{second}`");
            let hint = format!(
                "two positions of one source are `firstbad diff {} {} latest`",
                shell_word(first),
                shell_word(second)
            );
            return Err(output::wrong_argument(&message, Some(&hint)));
        }
        return Err(inputs::source_error(&error, verbose));
    }
    let first = Source::named(std::slice::from_ref(first));
    let second = Source::named(std::slice::from_ref(second));
    let a = open(&first.arguments, &arguments.table, verbose)?;
    let b = open(&second.arguments, &arguments.table, verbose)?;
    let first = state(&first, &a.history, a.history.head());
    let second = state(&second, &b.history, b.history.head());
    show(arguments, (&a.history, &first), (&b.history, &second))
}

fn one_state(source: &str) -> Stop {
    output::wrong_argument(
        &format!("`{source}` holds one state, so it has no two positions"),
        Some("two sources are `firstbad diff SOURCE SOURCE`"),
    )
}

/// Opens a source; of a database, only the tables that are compared are read.
fn open(source: &[String], tables: &[String], verbose: u8) -> Result<Opened, Stop> {
    let opened = match live::open(source, None, verbose)? {
        Some(live) => live::read(&live, &compared(&live, tables), verbose)?,
        None => source::open_held(source).map_err(|error| inputs::source_error(&error, verbose))?,
    };
    output::diagnostics(&opened.diagnostics, verbose);
    Ok(opened)
}

fn compared(live: &Live, tables: &[String]) -> Wanted {
    if tables.is_empty() {
        return Wanted::All;
    }
    let schema = live.empty().schema;
    let named = tables.iter().filter_map(|name| {
        let at = schema.table_index(&TableName::parse(name))?;
        Some((at, (0..schema.tables[at].columns.len()).collect()))
    });
    Wanted::Columns(named.collect())
}

fn state(source: &Source, history: &History, position: u32) -> State {
    State {
        name: source.shown.clone(),
        position,
        at: inputs::at(history, position),
        file: matches!(source.arguments.as_slice(), [one] if Path::new(one).is_file()),
    }
}

fn show(
    arguments: &DiffArgs,
    (history_a, first): (&History, &State),
    (history_b, second): (&History, &State),
) -> Outcome {
    let a = Side {
        name: &first.name,
        history: history_a,
        position: first.position,
        at: &first.at,
    };
    let b = Side {
        name: &second.name,
        history: history_b,
        position: second.position,
        at: &second.at,
    };
    let request = Request {
        tables: arguments
            .table
            .iter()
            .map(|name| TableName::parse(name))
            .collect(),
        key: (!arguments.key.is_empty()).then(|| arguments.key.clone()),
        files: first.file && second.file,
    };
    let tables = diff::compare(&a, &b, &request)
        .map_err(|misfit| output::wrong_argument(&misfit.message, Some(&misfit.hint)))?;
    output::diagnostics(&warnings(&tables, &second.name), 0);
    write(arguments, (&a, &b), &tables)?;
    let differ = tables.iter().any(TableDiff::differs);
    let undecided = tables.iter().any(|diff| diff.unknown > 0);
    Ok(match (arguments.exit_code, differ, undecided) {
        (true, true, _) => exit::VIOLATED,
        (true, false, true) => exit::UNKNOWN,
        _ => exit::HELD,
    })
}

/// Columns that were compared as text, for their types have nothing else in common.
fn warnings(tables: &[TableDiff<'_>], name: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for diff in tables {
        for (column, a, b) in &diff.compared_as_text {
            let message = format!(
                "column `{column}` of table {} is {a} in one source and {b} in the other: the texts of its values are compared",
                diff.table.short()
            );
            let hint = "a schema.sql beside the files says what the types are";
            found.push(
                Diagnostic::file(name, message)
                    .with_hint(hint)
                    .with_level(Level::Warning),
            );
        }
    }
    found
}

fn write(
    arguments: &DiffArgs,
    sides: (&Side<'_>, &Side<'_>),
    tables: &[TableDiff<'_>],
) -> Result<(), Stop> {
    let sample = |text: Option<usize>| arguments.sample.map_or(text, |sample| sample.0);
    let looks = Looks {
        color: arguments.output.is_none() && output::stdout_color(),
        width: output::width(),
        sample: sample(Some(ROWS_SHOWN)),
    };
    let into = |out: &mut dyn Write| {
        match arguments.format.as_str() {
            "json" => diff::json(out, sides, tables, sample(None)),
            "jsonl" => diff::jsonl(out, tables, sample(None)),
            _ => diff::text(out, sides, tables, &looks),
        }?;
        out.flush()
    };
    match &arguments.output {
        Some(path) => {
            let written = || {
                let mut file = OutputFile::create(path)?;
                into(&mut &mut file)?;
                file.complete()
            };
            written()
                .map_err(|error| output::world(&format!("cannot write {}", path.display()), &error))
        }
        None => match into(&mut io::BufWriter::new(io::stdout().lock())) {
            // A reader that went away (`| head`) has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(|error| output::world("cannot write", &error)),
        },
    }
}
