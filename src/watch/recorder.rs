//! What was committed goes into the store, on a thread of its own: sealed by number, size and age, and at once when somebody has to know.
//!
//! A segment is made of what its transactions say, without the rows that they do not name: what it takes does not grow with the tables.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::feed::Room;
use crate::change::{Change, Commit, TransactionMeta, now_us};
use crate::postgres::assemble::{AssembleError, Body, Item};
use crate::postgres::spill::Spill;
use crate::schema::Schema;
use crate::store::{NextSegment, Retention, Sealing, StoreError, Writer};

/// How many transactions may wait to be recorded.
const WAITING: usize = 4096;
/// So many segments are looked at for small neighbours to merge.
const MERGE_EVERY: u64 = 64;

/// A committed transaction with its number.
pub(super) struct Committed {
    /// Its number.
    pub(super) commit: Commit,
    /// Its attributes.
    pub(super) meta: TransactionMeta,
    /// What it did.
    pub(super) body: Body,
    /// The room that it takes until it is recorded.
    #[allow(dead_code, reason = "held for its drop")]
    pub(super) room: Option<Arc<Room>>,
}

/// When what was committed is sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// By number and size, and when snapshots are made.
    pub(super) sealing: Sealing,
    /// So long after its first change at the latest.
    pub(super) age: Duration,
    /// What is kept.
    pub(super) retention: Retention,
}

/// What the recorder is asked to do.
enum Order {
    Record(Arc<Committed>),
    /// Seal what there is now.
    Seal,
}

/// What the recorder says.
#[derive(Debug)]
pub(super) enum Said {
    /// Everything up to this commit is in the store and on the disk.
    Sealed(Commit),
    /// It can record no more.
    Failed(RecordError),
}

/// Why nothing more can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A large transaction could not be read back.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A change that contradicts those before it.
    #[error("commit #{0}, table {1}: {2}")]
    Contradiction(Commit, String, String),
}

/// The thread that records.
pub(super) struct Recorder {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts recording where the store ends. `say` is told what was sealed.
    pub(super) fn start(
        writer: Writer,
        policy: Policy,
        say: impl Fn(Said) + Send + 'static,
    ) -> std::io::Result<Recorder> {
        let (orders, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                let mut work = Work::new(writer, policy);
                if let Err(error) = work.run(&receiver, &say) {
                    say(Said::Failed(error));
                }
            })?;
        Ok(Recorder {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Hands over the next transaction; waits while too many wait.
    pub(super) fn record(&self, committed: Arc<Committed>) {
        self.order(Order::Record(committed));
    }

    /// Asks for what was handed over to be sealed now.
    pub(super) fn seal(&self) {
        self.order(Order::Seal);
    }

    fn order(&self, order: Order) {
        // Who records has stopped and said why.
        let _ = self
            .orders
            .as_ref()
            .expect("open until dropped")
            .send(order);
    }
}

impl Drop for Recorder {
    /// Waits until everything that was handed over is sealed.
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    writer: Writer,
    policy: Policy,
    schema: Schema,
    segment: NextSegment,
    bytes: u64,
    since: Option<Instant>,
    segments: u64,
    /// A transaction was recorded that was too large for memory.
    large: bool,
}

impl Work {
    fn new(writer: Writer, policy: Policy) -> Self {
        let schema = writer.store().format().schema.clone();
        let head = writer.store().ledger().head();
        Work {
            segment: NextSegment::after(schema.clone(), head),
            writer,
            policy,
            schema,
            bytes: 0,
            since: None,
            segments: 0,
            large: false,
        }
    }

    fn run(&mut self, orders: &Receiver<Order>, say: &dyn Fn(Said)) -> Result<(), RecordError> {
        loop {
            let left = self.since.map_or(Duration::from_secs(3600), |since| {
                self.policy.age.saturating_sub(since.elapsed())
            });
            match orders.recv_timeout(left) {
                Ok(Order::Record(committed)) => {
                    if let Body::Spilled(spill) = &committed.body {
                        self.take_large(&committed, spill, say)?;
                        continue;
                    }
                    self.take(&committed)?;
                    let full = self.segment.changes() >= self.policy.sealing.changes_max
                        || self.bytes >= self.policy.sealing.bytes_max;
                    let old = self.since.is_some_and(|s| s.elapsed() >= self.policy.age);
                    if full || old {
                        self.seal(say)?;
                    }
                }
                Ok(Order::Seal) | Err(RecvTimeoutError::Timeout) => self.seal(say)?,
                Err(RecvTimeoutError::Disconnected) => return self.seal(say),
            }
        }
    }

    fn take(&mut self, committed: &Committed) -> Result<(), RecordError> {
        self.since.get_or_insert_with(Instant::now);
        let segment = &mut self.segment;
        let (mut at, mut bytes) = (0, 0);
        committed.body.for_each(|item| {
            let Item::Change(change) = item else {
                return Ok::<(), RecordError>(());
            };
            bytes += size(change);
            segment.change(at, change);
            at += 1;
            Ok(())
        })?;
        segment.commit(committed.meta.clone());
        self.bytes += bytes;
        Ok(())
    }

    /// Seals what there is.
    fn seal(&mut self, say: &dyn Fn(Said)) -> Result<(), RecordError> {
        self.since = None;
        if self.segment.is_empty() {
            return Ok(());
        }
        let head = self.segment.head();
        let next = NextSegment::after(self.schema.clone(), head);
        let recorded = self
            .writer
            .append(std::mem::replace(&mut self.segment, next))?;
        self.sealed(head, recorded.segments, say)
    }

    /// Records a transaction that does not fit into memory, as a segment of its own.
    fn take_large(
        &mut self,
        committed: &Committed,
        spill: &Spill,
        say: &dyn Fn(Said),
    ) -> Result<(), RecordError> {
        self.seal(say)?;
        self.large = true;
        let mut large = self.writer.large(committed.meta.clone());
        spill.for_each(|item| {
            let Item::Change(change) = item else {
                return Ok(());
            };
            large.change(&change, size(&change))?;
            Ok::<(), RecordError>(())
        })?;
        let recorded = large.seal()?;
        self.segment = NextSegment::after(self.schema.clone(), committed.commit);
        self.sealed(committed.commit, recorded.segments, say)
    }

    /// Goes on after a commit that is sealed.
    fn sealed(
        &mut self,
        head: Commit,
        segments: u64,
        say: &dyn Fn(Said),
    ) -> Result<(), RecordError> {
        self.bytes = 0;
        say(Said::Sealed(head));
        self.segments += segments;
        if self.segments >= MERGE_EVERY {
            self.segments = 0;
            self.writer.merge(self.policy.sealing)?;
            self.retain()?;
        }
        let every = self.policy.sealing.snapshot_every;
        // A snapshot is made in memory, which what came would perhaps not fit into.
        if every > 0 && !self.large && self.writer.changes_since_snapshot() >= every {
            self.writer.snapshot_the_head()?;
        }
        Ok(())
    }

    fn retain(&mut self) -> Result<(), RecordError> {
        if self.policy.retention != Retention::default() {
            self.writer.retain(self.policy.retention, now_us())?;
        }
        Ok(())
    }
}

/// About how many bytes a change takes in a segment before it is compressed.
fn size(change: &Change) -> u64 {
    use crate::change::Cell;
    let cell = |cell: &Cell| match cell {
        Cell::Text(text) => text.len() as u64,
        Cell::Bytes(bytes) => bytes.len() as u64,
        _ => 8,
    };
    let images = change.before.iter().chain(&change.after);
    images.flatten().map(|(_, value)| cell(value)).sum()
}
