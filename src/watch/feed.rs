//! The stream of a slot, as transactions: in bulk while there is a backlog, by the protocol at the head.
//!
//! A connection that is lost is made again, from what is on the disk; what comes again is told by its commit's LSN. Nothing is confirmed
//! here but what the recorder has sealed, and positions behind which nothing waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::recorder::Said;
use crate::change::Cell;
use crate::postgres::assemble::{AssembleError, Assembled, Assembler, Body, Fed, Item, Limits};
use crate::postgres::catchup::{Catchup, PIECES};
use crate::postgres::relations::Relations;
use crate::postgres::slot::{self, Identity};
use crate::postgres::{
    Access, Backoff, Event, Lsn, PostgresError, Replication, Session, Stream, Target,
};

/// How many bytes of transactions may wait to be judged.
const WAITING_BYTES: usize = 64 << 20;
/// What a transaction counts at least, in bytes.
const EACH_BYTES: usize = 1 << 10;
/// What a change and a cell of it take at least.
const EACH_CHANGE_BYTES: usize = 128;
const EACH_CELL_BYTES: usize = size_of::<(usize, Cell)>();
/// So many transactions are handed over together at most.
const TOGETHER: usize = 512;
/// A transaction is late that was committed so long before the server sent it, both by its clock, in microseconds.
const LATE_US: i64 = 500_000;
/// While transactions are late, their messages are waited for so long and then read together. Less than it takes to fill a socket's buffer.
const NAP: Duration = Duration::from_micros(300);
/// A backlog of fewer bytes is not worth reading in bulk.
const BULK_FROM_BYTES: u64 = 64 << 20;
/// While a backlog is read, the server may forget so many bytes of log at a time: for that it reads them once more.
const LET_GO_BYTES: u64 = 1 << 30;

/// What the watcher is told.
pub(super) enum Input {
    /// Transactions in commit order, the room they take, and whether they are late: more of them are waiting than can be judged at once.
    Transactions(Vec<Assembled>, Room, bool),
    /// Nothing is between the last transaction and this position; the server's clock there, in microseconds since the epoch.
    Idle(Lsn, i64),
    /// A logical message of ours outside of transactions.
    Mark,
    /// What came is wanted on the disk.
    Seal,
    /// The connection is there.
    Connected { in_bulk: bool },
    /// The connection was lost, and will be made again.
    Lost(PostgresError),
    /// The stream is over for good.
    Failed(FeedError),
    /// What the recorder says.
    Recorder(Said),
    /// What looking after the slot found.
    Slot(super::guest::Seen),
    /// Somebody wants the watcher to stop.
    Stop,
}

/// Room that waiting transactions take; given back when it is dropped.
pub(super) struct Room(
    #[allow(dead_code, reason = "held for its drop")] tokio::sync::OwnedSemaphorePermit,
);

/// Why the stream ended for good.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The server refuses, or what it sends cannot be understood.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A message that cannot be taken.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The slot does not go on where we are.
    #[error("{0}")]
    Moved(String),
}

/// What both sides know: how far everything is on the disk.
#[derive(Debug, Default)]
pub(super) struct Durable {
    lsn: AtomicU64,
    moved: Notify,
    stopping: AtomicBool,
    /// The server's clock is wanted.
    asked: AtomicBool,
}

impl Durable {
    /// Everything before this position is on the disk, or was none of ours.
    pub(super) fn reach(&self, lsn: Lsn) {
        self.lsn.fetch_max(lsn.0, Ordering::AcqRel);
        self.moved.notify_waiters();
        self.moved.notify_one();
    }

    /// How far.
    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// The feed is to end, with everything confirmed.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.moved.notify_waiters();
        self.moved.notify_one();
    }

    /// Asks for the server's clock: it comes as an [`Input::Idle`] when nothing else is to come before.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.moved.notify_waiters();
        self.moved.notify_one();
    }

    fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the feed is to end.
    pub(super) async fn stopped(&self) {
        loop {
            let moved = self.moved.notified();
            if self.is_stopping() {
                return;
            }
            moved.await;
        }
    }
}

/// A feed at work, on a thread of its own: what it waits for is to hold up nobody else, and it holds up nobody with its naps.
pub(super) struct Feeding {
    thread: std::thread::JoinHandle<()>,
    abort: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Feeding {
    /// Starts to feed.
    ///
    /// # Errors
    /// No thread, or no runtime for it, can be had.
    pub(super) fn start(feed: Feed) -> std::io::Result<Feeding> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (abort, aborted) = oneshot::channel::<()>();
        let (is_done, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("feed".into());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = feed.run() => {}
                    _ = aborted => {}
                }
            });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            let _ = is_done.send(());
        })?;
        Ok(Feeding {
            thread,
            abort,
            done,
        })
    }

    /// Waits so long at most until it has ended, then has it end.
    pub(super) async fn end(mut self, within: Duration) {
        let _ = tokio::time::timeout(within, &mut self.done).await;
        drop(self.abort);
        let _ = self.thread.join();
    }
}

/// What is streamed.
pub(super) struct Feed {
    /// The server.
    pub(super) target: Target,
    /// The slot.
    pub(super) slot: String,
    /// The publication.
    pub(super) publication: String,
    /// The tables.
    pub(super) relations: Relations,
    /// Who the server was when watching began.
    pub(super) server: Identity,
    /// Where large transactions are kept for a while.
    pub(super) spill: std::path::PathBuf,
    /// Whether a backlog is read in bulk.
    pub(super) bulk: bool,
    /// How far everything is on the disk.
    pub(super) durable: Arc<Durable>,
    /// Who is told.
    pub(super) to: Sender<Input>,
}

impl Feed {
    /// Feeds until it is told to stop, or the server refuses for good.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        loop {
            let begun = Instant::now();
            let ended = self.connected(&room).await;
            if self.durable.is_stopping() {
                return;
            }
            let error = match ended {
                Ok(()) => PostgresError::closed(),
                Err(FeedError::Postgres(error)) if error.is_transient() => error,
                Err(error) => return self.tell(Input::Failed(error)),
            };
            self.tell(Input::Lost(error));
            if begun.elapsed() > Duration::from_secs(60) {
                backoff.reset();
            }
            let wait = backoff.wait();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.durable.moved.notified(), if self.durable.is_stopping() => return,
            }
        }
    }

    /// Hands something over; nobody listens any more when the watcher ends.
    fn tell(&self, input: Input) {
        let _ = self.to.send(input);
    }

    async fn connected(&mut self, room: &Arc<Semaphore>) -> Result<(), FeedError> {
        let mut replication = Replication::open(&self.target, "firstbad watch").await?;
        self.is_the_same(&mut replication).await?;
        if self.bulk {
            self.catch_up(room).await?;
        }
        if self.durable.is_stopping() {
            return Ok(());
        }
        let from = self.durable.lsn();
        let stream = replication
            .start(&self.slot, &[&self.publication], from)
            .await?;
        self.tell(Input::Connected { in_bulk: false });
        self.follow(stream, room).await
    }

    /// Refuses a slot that would pass over what was not seen: another server may answer now, or the slot may be another one.
    async fn is_the_same(&self, replication: &mut Replication) -> Result<(), FeedError> {
        let now = slot::identify(replication).await?;
        if now.system_id != self.server.system_id || now.timeline != self.server.timeline {
            return Err(FeedError::Moved(
                "the server is another one, or on another timeline".into(),
            ));
        }
        let session = Session::open(&self.target, "firstbad watch", Access::ReadOnly).await?;
        let found = slot::slot_state(&session, &self.slot).await?;
        match found.and_then(|found| found.confirmed_flush) {
            Some(confirmed) if confirmed > self.durable.lsn() => Err(FeedError::Moved(
                "the slot was moved on by somebody else, or made anew".into(),
            )),
            Some(_) => Ok(()),
            None => Err(FeedError::Moved("the slot is gone".into())),
        }
    }

    fn assembler(&self) -> Assembler {
        Assembler::new(self.relations.clone(), Limits::new(&self.spill))
    }

    /// Reads a backlog in bulk, as long as there is a large one.
    async fn catch_up(&mut self, room: &Arc<Semaphore>) -> Result<(), FeedError> {
        let session = Session::open(&self.target, "firstbad watch", Access::ReadWrite).await?;
        let catchup = Catchup::new(&session, &self.slot, &self.publication)?;
        let backlog = catchup.backlog().await?;
        if backlog.bytes < BULK_FROM_BYTES || self.durable.is_stopping() {
            return Ok(());
        }
        self.tell(Input::Connected { in_bulk: true });
        let mut ahead = catchup.ahead(PIECES).await;
        let mut let_go = backlog.confirmed;
        let mut last = None;
        loop {
            let mut assembler = self.assembler();
            let mut waiting = Waiting::default();
            let mut batch = ahead.next_batch().await?;
            while let Some(data) = batch.next().await? {
                waiting.take(assembler.feed(&data)?, i64::MAX, &mut last);
                if waiting.is_full() {
                    self.hand_over(&mut waiting, room).await;
                }
            }
            self.hand_over(&mut waiting, room).await;
            let was_last = ahead.was_last(batch.messages());
            if let Some(begun) = was_last {
                self.tell(Input::Idle(begun.end, begun.time));
            }
            // The stream, or the next piece, would give again what is not on the disk; and what was none of ours.
            let end = was_last.map_or(last, |begun| Some(begun.end));
            if let (true, Some(end)) = (was_last.is_some() || !ahead.is_ahead(), end) {
                self.tell(Input::Seal);
                self.until_durable(end).await;
            }
            if self.durable.is_stopping() {
                return Ok(());
            }
            let durable = self.durable.lsn();
            if !ahead.is_ahead() || durable.0.saturating_sub(let_go.0) >= LET_GO_BYTES {
                catchup.advance(durable).await?;
                let_go = durable;
            }
            if was_last.is_some() && ahead.backlog().await?.is_near() {
                return Ok(ahead.end().await?);
            }
        }
    }

    async fn until_durable(&self, lsn: Lsn) {
        loop {
            let moved = self.durable.moved.notified();
            if self.durable.lsn() >= lsn || self.durable.is_stopping() {
                return;
            }
            moved.await;
        }
    }

    async fn hand_over(&self, waiting: &mut Waiting, room: &Arc<Semaphore>) {
        if waiting.list.is_empty() {
            return;
        }
        let (list, bytes, late) = waiting.give();
        let permit = room_for(room, bytes).await;
        self.tell(Input::Transactions(list, Room(permit), late));
    }

    /// Follows the stream until it ends.
    async fn follow(&mut self, mut stream: Stream, room: &Arc<Semaphore>) -> Result<(), FeedError> {
        let mut assembler = self.assembler();
        let mut waiting = Waiting::default();
        let mut last = None;
        let durable = Arc::clone(&self.durable);
        let mut is_asked = false;
        loop {
            stream.confirm(durable.lsn());
            if durable.take_asked() {
                stream.ask();
            }
            if durable.is_stopping() {
                stream.stop(durable.lsn()).await?;
                return Ok(());
            }
            let mut ready = stream.try_next()?;
            if ready.is_none() && waiting.late {
                ready = nap(&mut stream)?;
            }
            let event = match ready {
                Some(event) => event,
                None => {
                    if !waiting.list.is_empty() {
                        self.hand_over_streaming(&mut waiting, room, &mut stream)
                            .await?;
                    }
                    let moved = durable.moved.notified();
                    tokio::select! {
                        event = stream.next() => event?,
                        () = moved => {
                            // A server that shuts down waits for exactly this.
                            if is_asked && !durable.is_stopping() {
                                is_asked = false;
                                stream.confirm(durable.lsn());
                                stream.flush_status().await?;
                            }
                            continue;
                        }
                    }
                }
            };
            match event {
                Event::Data { bytes, time, .. } => {
                    match assembler.feed(&bytes)? {
                        Some(Fed::Mark(_)) => {
                            self.hand_over_streaming(&mut waiting, room, &mut stream)
                                .await?;
                            self.tell(Input::Mark);
                        }
                        fed => waiting.take(fed, time, &mut last),
                    }
                    if waiting.is_full() {
                        self.hand_over_streaming(&mut waiting, room, &mut stream)
                            .await?;
                    }
                }
                Event::Keepalive {
                    end,
                    time,
                    reply_requested,
                } => {
                    is_asked |= reply_requested;
                    if !assembler.is_open() {
                        self.hand_over_streaming(&mut waiting, room, &mut stream)
                            .await?;
                        self.tell(Input::Idle(end, time));
                    }
                }
                Event::Ended => return Ok(()),
            }
        }
    }

    /// The same while the server is told from time to time that somebody is there.
    async fn hand_over_streaming(
        &self,
        waiting: &mut Waiting,
        room: &Arc<Semaphore>,
        stream: &mut Stream,
    ) -> Result<(), FeedError> {
        let handing = self.hand_over(waiting, room);
        tokio::pin!(handing);
        loop {
            tokio::select! {
                () = &mut handing => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    stream.confirm(self.durable.lsn());
                    stream.flush_status().await?;
                }
            }
        }
    }
}

/// What has come after a nap, where many messages are on their way. The server sends each by itself, and wakes whoever waits for it: to be
/// read together spares both sides most of that.
fn nap(stream: &mut Stream) -> Result<Option<Event>, PostgresError> {
    std::thread::sleep(NAP);
    stream.next().now_or_never().transpose()
}

async fn room_for(room: &Arc<Semaphore>, bytes: usize) -> tokio::sync::OwnedSemaphorePermit {
    let wanted = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
    let permit = Arc::clone(room).acquire_many_owned(wanted).await;
    permit.expect("nobody closes it")
}

/// About how many bytes of memory an item takes.
fn size(item: &Item) -> usize {
    let Item::Change(change) = item else {
        return 256;
    };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let images = change.key.iter().chain(&change.before).chain(&change.after);
    let cells = images.flatten();
    cells.fold(EACH_CHANGE_BYTES, |all, (_, cell)| {
        all + EACH_CELL_BYTES + text(cell)
    })
}

/// Transactions that are handed over next.
#[derive(Default)]
struct Waiting {
    list: Vec<Assembled>,
    bytes: usize,
    /// Whether the last one was late.
    late: bool,
}

impl Waiting {
    /// Takes what came, and when the server sent it, in microseconds since the epoch.
    fn take(&mut self, fed: Option<Fed>, sent: i64, last: &mut Option<Lsn>) {
        if let Some(Fed::Transaction(assembled)) = fed {
            *last = Some(assembled.end_lsn);
            let committed = assembled.meta.time.unwrap_or(i64::MAX);
            self.late = sent.saturating_sub(committed) > LATE_US;
            self.bytes += EACH_BYTES
                + match &assembled.body {
                    Body::Held(items) => items.iter().map(size).sum(),
                    Body::Spilled(_) => 0,
                };
            self.list.push(*assembled);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= TOGETHER || self.bytes >= 4 << 20
    }

    fn give(&mut self) -> (Vec<Assembled>, usize, bool) {
        let (list, bytes) = (&mut self.list, &mut self.bytes);
        (std::mem::take(list), std::mem::take(bytes), self.late)
    }
}
