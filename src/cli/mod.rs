//! The command line: arguments, output, exit codes. The only module that prints.

mod alert;
mod arguments;
mod audit;
mod bisect;
mod check;
mod diff;
mod doctor;
mod evidence;
mod evidence_files;
mod gate;
mod incident;
mod inputs;
mod live;
mod output;
mod output_file;
mod quarantine;
mod quick;
mod ready;
mod record;
mod repair;
mod rules;
mod settings;
mod sql;
mod status;
mod verify;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes of CONTRACT section 1 that do not come from a verdict.
pub(crate) mod exit {
    /// All held, or what was asked for was done.
    pub(crate) const HELD: u8 = 0;
    /// Something is violated.
    pub(crate) const VIOLATED: u8 = 1;
    /// The user's input is wrong.
    pub(crate) const INPUT: u8 = 2;
    /// The world failed.
    pub(crate) const WORLD: u8 = 3;
    /// Something could not be judged or answered: it is not known, or a limit was exceeded.
    pub(crate) const UNKNOWN: u8 = 4;
}

/// Names the first bad write: judges what must hold over histories and snapshots of your data
#[derive(Debug, Parser)]
#[command(
    name = "firstbad",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show notes about the input as well (can be repeated for the log of the engine)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 100)]
    verbose: u8,
    /// Read this file instead of ./firstbad.yaml
    #[arg(long, value_name = "FILE", global = true, display_order = 99)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge every rule on the state at one position
    Check(check::CheckArgs),
    /// Find the first bad write of every violated rule
    Bisect(bisect::BisectArgs),
    /// Look at rule files: check them, run their cases, show how they are judged
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Ask anything about the state at a position, the changes, or several positions at once
    Sql(sql::SqlArgs),
    /// Show the rows that differ between two positions, or between two sources
    Diff(diff::DiffArgs),
    /// Watch a database: record and judge every commit, open incidents, until stopped
    Watch(watch::WatchArgs),
    /// Say what a database lacks to be watched, what that would break, and the SQL that mends it
    Doctor(doctor::DoctorArgs),
    /// Record a source's changes in a store, from where the store ends
    Record(record::RecordArgs),
    /// Write down the state of a source in a store
    Snapshot(record::SnapshotArgs),
    /// Incidents that were found: list and show them, take care of one, close one
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// Set the rows that an incident is about apart in Postgres, reversibly
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Who is told of incidents: list what waits and what failed, send a test, tell what waits
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// Say whether tables may be relied on: exit 0 only when they are clean and fully judged
    Gate(gate::GateArgs),
    /// Print SQL that would put good values back where an incident's bad writes were
    Repair(Box<repair::RepairArgs>),
    /// Prove a store intact: every byte, the chain, and that snapshots and changes fit together
    Verify(verify::VerifyArgs),
    /// Read tables again, and name the rows that no recorded write explains
    Audit(audit::AuditArgs),
    /// Say what a store covers, how fresh it is, and how safe
    Status(status::StatusArgs),
    /// Write the synthetic shop history, byte for byte the same each time
    #[command(name = "fixtures", hide = true)]
    Fixtures {
        /// Where to write it
        directory: std::path::PathBuf,
    },
}

/// Why a command ends early.
pub(crate) struct Stop {
    /// Exit code.
    code: u8,
}

/// What a command returns: its exit code, or that it has said what is wrong.
type Outcome = Result<u8, Stop>;

/// Runs the program and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap knows which stream each belongs to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                exit::INPUT
            } else {
                exit::HELD
            });
        }
    };
    output::start_log(cli.verbose);
    ExitCode::from(match dispatch(cli) {
        Ok(code) => code,
        Err(stop) => stop.code,
    })
}

fn dispatch(cli: Cli) -> Outcome {
    if let Command::Fixtures { directory } = &cli.command {
        return fixtures(directory);
    }
    let config = settings::load(cli.config.as_deref())?;
    match cli.command {
        Command::Check(arguments) => check::run(&arguments, &config, cli.verbose),
        Command::Bisect(arguments) => bisect::run(&arguments, &config, cli.verbose),
        Command::Rules(command) => rules::run(&command, &config, cli.verbose),
        Command::Sql(arguments) => sql::run(&arguments, &config, cli.verbose),
        Command::Diff(arguments) => diff::run(&arguments, &config, cli.verbose),
        Command::Watch(arguments) => watch::run(&arguments, &config, cli.verbose),
        Command::Doctor(arguments) => doctor::run(&arguments, &config, cli.verbose),
        Command::Record(arguments) => record::record(&arguments, &config, cli.verbose),
        Command::Snapshot(arguments) => record::snapshot(&arguments, &config, cli.verbose),
        Command::Incident(command) => incident::run(&command, &config),
        Command::Quarantine(command) => quarantine::run(&command, &config),
        Command::Alert(command) => alert::run(&command, &config),
        Command::Gate(arguments) => gate::run(&arguments, &config, cli.verbose),
        Command::Repair(arguments) => repair::run(&arguments, &config, cli.verbose),
        Command::Verify(arguments) => verify::run(&arguments, &config),
        Command::Audit(arguments) => audit::run(&arguments, &config, cli.verbose),
        Command::Status(arguments) => status::run(&arguments, &config),
        Command::Fixtures { directory } => fixtures(&directory),
    }
}

fn fixtures(directory: &std::path::Path) -> Outcome {
    match crate::source::synthetic::shop::main_shop(directory) {
        Ok(summary) => {
            output::print(&format!("{summary}\n"));
            Ok(exit::HELD)
        }
        Err(error) => Err(output::world(
            &format!("cannot write {}", directory.display()),
            &error,
        )),
    }
}
