//! Arguments that several commands have. Where a command means something of its own by one, it gives the help text of that argument
//! with `mut_arg`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::inputs::{self, Sample};
use super::settings::Source;
use super::{Stop, output};
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::judge::{Judge, Limits};
use crate::rule::{Rule, Severity};
use crate::schema::value;
use crate::state::{History, Resolved};

/// The default of `--rule-timeout`.
const RULE_TIMEOUT: Duration = Duration::from_secs(60);

/// Flags with their values, as the commands that a report tells to run next repeat them.
pub(super) type Flags = Vec<(&'static str, String)>;

/// Which rules
#[derive(Debug, Args)]
pub(super) struct RuleArgs {
    /// Rule file or directory (can be repeated) [default: rules of firstbad.yaml, then SOURCE/rules, then ./rules]
    #[arg(long, value_name = "PATH")]
    pub(super) rules: Vec<PathBuf>,
    /// Judge only this rule (can be repeated)
    #[arg(long, value_name = "ID")]
    pub(super) rule: Vec<String>,
    /// Judge only rules with this tag (can be repeated)
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Vec<String>,
}

impl RuleArgs {
    /// Where rules are looked for, where that was said.
    pub(super) fn flags(&self) -> Flags {
        let flag = |path: &PathBuf| ("--rules", path.display().to_string());
        self.rules.iter().map(flag).collect()
    }

    /// The rules that are asked for, and what is wrong with their files; of broken files all rules.
    pub(super) fn load(
        &self,
        source: &Source,
        config: &Config,
    ) -> Result<(Vec<Rule>, Vec<Diagnostic>), Stop> {
        let paths = inputs::rule_paths(&self.rules, config, Some(source))?;
        let (rules, found) = inputs::load_rules(&paths);
        if diagnostic::any_error(&found) {
            return Ok((rules, found));
        }
        Ok((inputs::select(rules, &self.rule, &self.tag)?, found))
    }
}

/// Where in the history
#[derive(Debug, Args)]
pub(super) struct AtArgs {
    /// The position to judge: latest, #COMMIT, an LSN, a time, an age (-10m), or a dated snapshot
    #[arg(
        long,
        value_name = "POSITION",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    pub(super) at: String,
    /// The time that stands for now [default: the last commit's]
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    pub(super) now: Option<i64>,
}

impl AtArgs {
    /// What is not the default.
    pub(super) fn flags(&self) -> Flags {
        let at = (self.at != "latest").then(|| ("--at", self.at.clone()));
        let now = self.now.map(|now| ("--now", value::format_timestamp(now)));
        at.into_iter().chain(now).collect()
    }

    /// The position that `--at` names.
    pub(super) fn resolve(&self, history: &History) -> Result<Resolved, Stop> {
        self.named(history, "--at", &self.at)
    }

    /// The first commit that does not lie before what `--since` names.
    pub(super) fn since(&self, history: &History, text: &str) -> Result<u32, Stop> {
        history
            .since(text, self.now)
            .map_err(|reason| output::wrong_argument(&format!("--since: {reason}"), None))
    }

    /// The position that another argument names.
    pub(super) fn named(
        &self,
        history: &History,
        argument: &str,
        text: &str,
    ) -> Result<Resolved, Stop> {
        history
            .resolve(text, self.now)
            .map_err(|reason| output::wrong_argument(&format!("{argument}: {reason}"), None))
    }
}

/// What a report of violations holds, and where it goes
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Write the report to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The severity from which a violation fails the run: info, warn, error or critical
    #[arg(long, value_name = "SEVERITY", default_value = "error", value_parser = severity)]
    pub(super) fail_on: Severity,
    /// How many violations of a rule to list: a number, or all
    #[arg(long, value_name = "N", default_value = "10", value_parser = inputs::sample)]
    pub(super) sample: Sample,
    /// Hide the values of this column in all output (can be repeated)
    #[arg(long, value_name = "COLUMN")]
    pub(super) redact: Vec<String>,
}

impl ReportArgs {
    /// What is hidden.
    pub(super) fn flags(&self) -> Flags {
        let flag = |column: &String| ("--redact", column.clone());
        self.redact.iter().map(flag).collect()
    }

    /// How text looks where it goes.
    pub(super) fn looks(&self) -> crate::report::Options {
        crate::report::Options {
            color: self.output.is_none() && output::stdout_color(),
            width: output::width(),
            sample: self.sample.0,
        }
    }

    /// Writes the report to its place.
    pub(super) fn write(&self, text: &str) -> Result<(), Stop> {
        deliver(text, self.output.as_deref())
    }
}

/// What judging may cost
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// The longest that one rule may take, e.g. 60s [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = inputs::duration)]
    rule_timeout: Option<Duration>,
    /// The most memory to use, e.g. 4GiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = inputs::size)]
    memory_limit: Option<u64>,
}

impl LimitArgs {
    /// What is not the default.
    pub(super) fn flags(&self, config: &Config) -> Flags {
        let seconds = |timeout: Duration| match timeout.subsec_nanos() {
            0 => format!("{}s", timeout.as_secs()),
            _ => timeout.as_secs_f64().to_string(),
        };
        let default = config.limits.rule_timeout.unwrap_or(RULE_TIMEOUT);
        let timeout = self.rule_timeout.filter(|timeout| *timeout != default);
        let timeout = timeout.map(|timeout| ("--rule-timeout", seconds(timeout)));
        let memory = self
            .memory_limit
            .map(|bytes| ("--memory-limit", bytes.to_string()));
        timeout.into_iter().chain(memory).collect()
    }

    /// A judge that keeps these limits, else those of the file.
    pub(super) fn judge(&self, history: &Arc<History>, config: &Config) -> Result<Judge, Stop> {
        Judge::new(Arc::clone(history), self.limits(config))
            .map_err(|error| output::world("the engine cannot be started", &error))
    }

    /// These limits, else those of the file.
    pub(super) fn limits(&self, config: &Config) -> Limits {
        let said = &config.limits;
        let timeout = self.rule_timeout.or(said.rule_timeout);
        let mut limits = Limits {
            rule_timeout: timeout.unwrap_or(RULE_TIMEOUT),
            ..Limits::default()
        };
        let memory = self.memory_limit.or(said.memory_bytes);
        limits.memory_bytes_max = memory.unwrap_or(limits.memory_bytes_max);
        limits
    }
}

pub(super) fn severity(text: &str) -> Result<Severity, String> {
    let all = [
        Severity::Info,
        Severity::Warn,
        Severity::Error,
        Severity::Critical,
    ];
    let found = all.into_iter().find(|severity| severity.as_str() == text);
    found.ok_or_else(|| "there are info, warn, error and critical".to_owned())
}

/// Writes a finished text to a file, whole or not at all, or to stdout.
pub(super) fn deliver(text: &str, file: Option<&Path>) -> Result<(), Stop> {
    use std::io::Write as _;
    let Some(path) = file else {
        output::print(text);
        return Ok(());
    };
    let written = || {
        let mut file = super::output_file::OutputFile::create(path)?;
        (&mut file).write_all(text.as_bytes())?;
        file.complete()
    };
    written().map_err(|error| output::world(&format!("cannot write {}", path.display()), &error))
}
