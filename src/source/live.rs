//! A live database: what it holds now, as far as it is asked for.

use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};

use super::{Opened, SourceError};
use crate::postgres::{Moment, PostgresError, Progress, Target, Wanted};
use crate::state::History;

/// What our sessions are called on the server.
const APPLICATION: &str = "firstbad";
/// Sessions that are copied from in parallel need no more.
const THREADS_MAX: usize = 4;

/// Whether an argument names a database.
pub fn is_postgres(argument: &str) -> bool {
    argument.starts_with("postgres://") || argument.starts_with("postgresql://")
}

/// An argument as it may be shown: a database's URL without its password.
pub fn shown(argument: &str) -> String {
    match is_postgres(argument).then(|| Target::parse(argument)) {
        Some(Ok(target)) => target.shown(),
        // Whatever is wrong with it: a password may still stand in it.
        Some(Err(_)) => "postgres://…".to_owned(),
        None => argument.to_owned(),
    }
}

/// A database at one moment: its schema is known, its rows are read when they are asked for.
#[derive(Debug)]
pub struct Live {
    // Sessions end before the runtime that they run on.
    moment: Moment,
    shown: String,
    runtime: Runtime,
}

/// The database that arguments name, at this moment; None where they name something else.
///
/// # Errors
/// When the URL is wrong, or the server cannot be asked.
pub fn live(arguments: &[String]) -> Result<Option<Live>, SourceError> {
    match arguments {
        [one] if is_postgres(one) => Live::open(one).map(Some),
        _ => Ok(None),
    }
}

/// What is wrong with a database's URL, if anything.
pub(super) fn probe(url: &str) -> Result<(), SourceError> {
    Target::parse(url).map(|_| ()).map_err(failed(url))
}

fn failed(shown: &str) -> impl FnOnce(PostgresError) -> SourceError {
    let shown = match is_postgres(shown) {
        true => self::shown(shown),
        false => shown.to_owned(),
    };
    move |source| match source {
        PostgresError::Argument { message, hint } => SourceError::Argument {
            message,
            hint: hint.unwrap_or_default(),
        },
        source => SourceError::Postgres { shown, source },
    }
}

impl Live {
    /// Connects, and takes the moment.
    pub(super) fn open(url: &str) -> Result<Live, SourceError> {
        let target = Target::parse(url).map_err(failed(url))?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.min(THREADS_MAX))
            .enable_all()
            .build()
            .map_err(|source| SourceError::Io {
                path: PathBuf::from(shown(url)),
                source,
            })?;
        let moment = runtime.block_on(Moment::open(&target, APPLICATION));
        Ok(Live {
            moment: moment.map_err(failed(url))?,
            shown: target.shown(),
            runtime,
        })
    }

    /// The database without a password, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The history of which this moment is the only state, without rows: enough to plan what will be asked.
    pub fn empty(&self) -> History {
        self.moment.empty()
    }

    /// Reads rows, with warnings about values that cannot be held.
    ///
    /// # Errors
    /// When the role may not read all that is wanted, or the server cannot be asked any more.
    pub fn read(
        &self,
        wanted: &Wanted,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Opened, SourceError> {
        let read = self.runtime.block_on(self.moment.read(wanted, progress));
        let (history, diagnostics) = read.map_err(failed(&self.shown))?;
        Ok(Opened {
            history,
            diagnostics,
        })
    }

    /// All that the database holds at this moment.
    pub(super) fn all(url: &str) -> Result<Opened, SourceError> {
        Live::open(url)?.read(&Wanted::All, &|_| {})
    }
}
