//! `firstbad sql SOURCE QUERY`: any query on the state at a position, on the changes, and across positions.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::arguments::{AtArgs, LimitArgs};
use super::inputs::{self, Sample};
use super::output_file::OutputFile;
use super::{Outcome, Stop, exit, live, output, settings};
use crate::answer::{self, Format};
use crate::config::Config;
use crate::judge::{Judge, Options, QueryError};
use crate::postgres::Wanted;
use crate::rule::{Span, Spanned, Sql, TextRun, sql::SQL_BYTES_MAX};
use crate::source::{Live, Opened};

/// How many rows text shows where nothing else is asked for.
const ROWS_SHOWN: usize = 100;

/// Arguments of `firstbad sql`
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    mut_arg("at", |arg| arg.help("The position to look at: latest, #COMMIT, an LSN, a time, an age (-10m), or a dated snapshot")),
    mut_arg("rule_timeout", |arg| arg.help("The longest that the query may take, e.g. 60s"))
)]
pub(super) struct SqlArgs {
    /// A history directory, a directory of table files, or data files [default: source of firstbad.yaml]
    source: Vec<String>,
    /// One SELECT; a position in double quotes reads another state: "#1206".orders. `-` reads it from stdin
    #[arg(required = true, allow_hyphen_values = true)]
    query: String,
    #[command(flatten)]
    place: AtArgs,
    /// How to write the answer: text, json, jsonl, csv or parquet
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Write the answer to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many rows text shows: a number, or all [default: 100]
    #[arg(long, value_name = "N", value_parser = inputs::sample)]
    limit: Option<Sample>,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(super) fn run(arguments: &SqlArgs, config: &Config, verbose: u8) -> Outcome {
    if arguments.source.is_empty() && Path::new(&arguments.query).exists() {
        let message = format!("`{}` is a source: the query is missing", arguments.query);
        let hint = format!("write `firstbad sql {} <QUERY>`", arguments.query);
        return Err(output::wrong_argument(&message, Some(&hint)));
    }
    let source = settings::source(&arguments.source, config)?;
    if arguments.format == Format::Parquet && arguments.output.is_none() {
        return Err(output::wrong_argument(
            "Parquet is not written to stdout",
            Some("name a file with --output FILE"),
        ));
    }
    if arguments.limit.is_some() && arguments.format != Format::Text {
        return Err(output::wrong_argument(
            "--limit is for text: the other formats hold all rows",
            Some("write `limit 100` into the query"),
        ));
    }
    let query = query(arguments)?;
    let opened = match live::open(&source.arguments, Some(&arguments.place), verbose)? {
        Some(live) => needed(arguments, config, &live, &query, verbose)?,
        None => inputs::open(&source.arguments, near(&query, &arguments.place), verbose)?,
    };
    output::diagnostics(&opened.diagnostics, verbose);
    let history = Arc::new(opened.history);
    let resolved = arguments.place.resolve(&history)?;
    let options = Options {
        position: resolved.position,
        now_us: arguments.place.now,
        sample: None,
    };
    let judge = arguments.limits.judge(&history, config)?;
    let looks = answer::Options {
        source: source.shown,
        at: inputs::at(&history, options.position),
        width: output::width(),
        color: arguments.output.is_none() && output::stdout_color(),
        limit: match arguments.limit {
            Some(Sample(limit)) => limit,
            None => Some(ROWS_SHOWN),
        },
    };
    match &arguments.output {
        Some(path) => {
            let failed = |error: &io::Error| {
                output::world(&format!("cannot write {}", path.display()), error)
            };
            let mut file = OutputFile::create(path).map_err(|error| failed(&error))?;
            let done = ask(&judge, &query, &options, arguments.format, looks, &mut file);
            done.map_err(|error| stop(&error, &failed))?;
            file.complete().map_err(|error| failed(&error))?;
        }
        None => {
            let out = io::BufWriter::new(io::stdout());
            match ask(&judge, &query, &options, arguments.format, looks, out) {
                // A reader that went away (`| head`) has seen enough.
                Err(QueryError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
                done => done
                    .map_err(|error| stop(&error, &|error| output::world("cannot write", error)))?,
            }
        }
    }
    Ok(exit::HELD)
}

/// Of a database, what the query reads.
fn needed(
    arguments: &SqlArgs,
    config: &Config,
    live: &Live,
    query: &Sql,
    verbose: u8,
) -> Result<Opened, Stop> {
    let history = Arc::new(live.empty());
    let judge = arguments.limits.judge(&history, config)?;
    let options = Options {
        position: history.head(),
        now_us: arguments.place.now,
        sample: None,
    };
    let failed = |error: &io::Error| output::world("cannot write", error);
    let needs = judge.query_reads(query, &options);
    let needs = needs.map_err(|error| stop(&error, &failed))?;
    live::read(live, &Wanted::Columns(needs.state), verbose)
}

/// The position, where the query asks for nothing but the state there.
fn near<'a>(query: &Sql, place: &'a AtArgs) -> Option<&'a AtArgs> {
    let text = query.value.to_ascii_lowercase();
    // Positions stand in quotes; what was recorded has these names.
    let words = ["\"", "changes", "writes", "steps", "firstbad"];
    (!words.iter().any(|word| text.contains(word))).then_some(place)
}

fn ask(
    judge: &Judge,
    query: &Sql,
    options: &Options,
    format: Format,
    looks: answer::Options,
    out: impl Write + Send,
) -> Result<(), QueryError> {
    let mut writer = answer::writer(format, Box::new(out), looks);
    judge.query(query, options, writer.as_mut())?;
    writer.finish().map_err(QueryError::Write)
}

/// Says why there is no answer.
fn stop(error: &QueryError, failed: &dyn Fn(&io::Error) -> Stop) -> Stop {
    match error {
        QueryError::Mistake(found) => {
            output::diagnostics(std::slice::from_ref(found), 0);
            Stop { code: exit::INPUT }
        }
        QueryError::Unanswered(reason) => {
            let reason = crate::escape::terminal(&reason.to_string());
            output::note(&format!("error: the query has no answer: {reason}\n"));
            Stop {
                code: exit::UNKNOWN,
            }
        }
        QueryError::Write(error) => failed(error),
    }
}

/// The query's text, from the command line or from stdin, with the places of its characters.
fn query(arguments: &SqlArgs) -> Result<Sql, Stop> {
    let mut text = arguments.query.clone();
    if text == "-" {
        // One byte more than is allowed is enough to be refused.
        let most = SQL_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        io::stdin()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| output::world("cannot read the query from stdin", &error))?;
        text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // The last character may have been cut in two.
            Err(error) if error.as_bytes().len() > SQL_BYTES_MAX => {
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            Err(_) => {
                return Err(output::wrong_argument(
                    "the query on stdin is not UTF-8",
                    None,
                ));
            }
        };
    }
    let mut runs = Vec::new();
    let mut offset = 0;
    for (at, line) in text.split('\n').enumerate() {
        runs.push(TextRun {
            offset,
            line: at + 1,
            column: 1,
            source_line: line.trim_end_matches('\r').into(),
        });
        offset += line.chars().count() + 1;
    }
    let first = text.lines().next().unwrap_or_default();
    let span = Span {
        file: PathBuf::from("query"),
        line: 1,
        column: 1,
        length: first.chars().count().max(1),
        source_line: first.to_owned(),
        runs: Some(runs.into()),
    };
    Ok(Spanned { value: text, span })
}
