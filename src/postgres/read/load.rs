//! Copies into a history: several sessions copy, one place puts together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::parts::Job;
use super::{Moment, Progress, SESSIONS_MAX, begin};
use crate::diagnostic::{Diagnostic, Level, counted};
use crate::postgres::copy::{Built, Copied, Rows};
use crate::postgres::{Access, PostgresError, Session, Target};
use crate::schema::{Schema, Table};
use crate::state::History;

/// So many pieces wait to be put together.
const WAITING_MAX: usize = 2;

/// What a session has to say.
enum Piece {
    /// Rows of a table.
    Rows(usize, Built),
    /// A copy is done.
    Done,
    /// It cannot go on.
    Failed(PostgresError),
}

/// What all sessions share.
struct Shared {
    /// Copies that nobody has begun.
    queue: Mutex<VecDeque<Job>>,
    tables: Vec<Arc<Table>>,
}

/// Makes all copies.
pub(super) async fn load(
    moment: &Moment,
    jobs: Vec<Job>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(History, Vec<Diagnostic>), PostgresError> {
    let mut history = moment.empty();
    for (table, of) in moment.catalog.schema().tables.iter().enumerate() {
        let fetched = jobs.iter().find(|job| job.table == table);
        let is_absent = |at: &usize| fetched.is_none_or(|job| !job.fields.contains(at));
        let absent: Vec<usize> = (0..of.columns.len()).filter(is_absent).collect();
        history.leave_out(table, &absent);
    }
    let mut rows: BTreeMap<usize, u64> = BTreeMap::new();
    for job in &jobs {
        let expected = moment.catalog.tables[job.table].rows;
        rows.insert(job.table, expected.unwrap_or(0));
    }
    let mut told = Progress {
        rows_expected: rows.values().sum(),
        parts_all: jobs.len(),
        ..Progress::default()
    };
    progress(told);
    let mut notes = Notes::default();
    let (sender, mut pieces) = mpsc::channel(WAITING_MAX);
    // They end when this is dropped: what one cannot read, the others need not.
    let _sessions = open(moment, jobs, &sender);
    drop(sender);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Failed(error) => return Err(error),
            Piece::Done => told.parts += 1,
            Piece::Rows(table, built) => {
                told.rows += built.rows.len() as u64;
                put(&mut history, table, &built, &mut notes);
            }
        }
        progress(told);
    }
    // Nobody sends any more; one that panicked has said nothing.
    if told.parts < told.parts_all {
        return Err(PostgresError::protocol("a copy was not finished"));
    }
    history.shrink();
    let found = notes.diagnostics(&moment.target.shown(), &history.schema);
    Ok((history, found))
}

/// Starts the sessions that copy: the one that took the snapshot, and others.
fn open(moment: &Moment, jobs: Vec<Job>, sender: &mpsc::Sender<Piece>) -> JoinSet<()> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let count = match moment.snapshot {
        Some(_) => cores.min(SESSIONS_MAX).min(jobs.len()),
        None => 1,
    };
    let tables = moment.catalog.schema().tables.iter().cloned();
    let shared = Arc::new(Shared {
        queue: Mutex::new(jobs.into()),
        tables: tables.map(Arc::new).collect(),
    });
    let mut sessions = JoinSet::new();
    for at in 0..count {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        let leader = (at == 0).then(|| Arc::clone(&moment.leader));
        let (target, snapshot) = (moment.target.clone(), moment.snapshot.clone());
        let application = moment.application.clone();
        sessions.spawn(async move {
            let session = match leader {
                Some(leader) => Ok(leader),
                None => joined(&target, &application, snapshot.as_deref()).await,
            };
            let done = match session {
                Ok(session) => work(session.client(), &shared, &sender).await,
                // A server that is full has room for one of us: the others do without.
                Err(error) if error.sqlstate() == Some("53300") => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                let _ = sender.send(Piece::Failed(error)).await;
            }
        });
    }
    sessions
}

/// One more session that sees what the first one sees.
async fn joined(
    target: &Target,
    application: &str,
    snapshot: Option<&str>,
) -> Result<Arc<Session>, PostgresError> {
    let session = Session::open(target, application, Access::ReadOnly).await?;
    begin(session.client(), snapshot).await?;
    Ok(Arc::new(session))
}

/// Makes copies until there are no more, or nobody wants them.
async fn work(
    client: &Client,
    shared: &Shared,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), PostgresError> {
    loop {
        let job = shared.queue.lock().expect("no holder panics").pop_front();
        let Some(job) = job else { return Ok(()) };
        copy(client, &job, &shared.tables[job.table], sender).await?;
        if sender.send(Piece::Done).await.is_err() {
            return Ok(());
        }
    }
}

/// Makes one copy.
async fn copy(
    client: &Client,
    job: &Job,
    table: &Arc<Table>,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), PostgresError> {
    let mut rows = Rows::new(Arc::clone(table), &job.fields);
    let mut copied = Copied::new(job.fields.len());
    let stream = client.copy_out(job.sql.as_str()).await?;
    let mut stream = std::pin::pin!(stream);
    while let Some(bytes) = stream.try_next().await? {
        copied.take(&bytes, &mut |fields| rows.push(fields))?;
        if rows.is_full()
            && sender
                .send(Piece::Rows(job.table, rows.build()))
                .await
                .is_err()
        {
            return Ok(());
        }
    }
    copied.end()?;
    if rows.len() > 0 {
        // Nobody listens where another copy has failed.
        let _ = sender.send(Piece::Rows(job.table, rows.build())).await;
    }
    Ok(())
}

/// Values that cannot be held: how many, and why the first cannot; by table and column.
#[derive(Debug, Default)]
struct Notes(BTreeMap<(usize, usize), (u64, &'static str)>);

impl Notes {
    fn add(&mut self, table: usize, column: usize, count: u64, reason: &'static str) {
        let note = self.0.entry((table, column)).or_insert((0, reason));
        note.0 += count;
    }

    fn diagnostics(&self, source: &str, schema: &Schema) -> Vec<Diagnostic> {
        let warning = |(&(table, column), &(count, reason)): (&(usize, usize), &(u64, &str))| {
            let table = &schema.tables[table];
            let column = &table.columns[column];
            let message = format!(
                "`{}` of table {} is not known in {}: {} ({reason})",
                column.name,
                table.name.short(),
                counted(count, "row"),
                match count {
                    1 => "its value cannot be held here",
                    _ => "their values cannot be held here",
                },
            );
            let hint = "rules that read the column are unknown";
            Diagnostic::file(source, message)
                .with_level(Level::Warning)
                .with_hint(hint)
        };
        self.0.iter().map(warning).collect()
    }
}

/// Adds rows to a table.
fn put(history: &mut History, table: usize, built: &Built, notes: &mut Notes) {
    for &(column, count, reason) in &built.not_held {
        notes.add(table, column, count, reason);
    }
    history.tables[table].load_stored(&built.rows);
}
