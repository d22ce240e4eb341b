//! The stream of changes of a replication slot, and what is said back: how far all is safe with us.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use super::channel::Channel;
use super::frame::{self, MESSAGE_MAX, Reader, server_error};
use super::wire::unexpected;
use super::{Lsn, PostgresError};

/// Postgres counts time from 2000-01-01, others from 1970-01-01: the difference in microseconds.
const EPOCH_US: i64 = 946_684_800_000_000;
/// How often the position is told, at most, where the server does not ask.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing is heard before the server is asked for a sign of life, and again before it is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// An answer that says nothing new waits this long: a server that shuts down asks again at once after every answer.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// How long the server may take to end the stream.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How much is read while a status update is written.
const AHEAD_BYTES_MAX: usize = 4 << 20;

/// What comes from the server.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of the output plugin.
    Data {
        /// Where in the log what it tells begins; 0/0 for messages about the schema.
        start: Lsn,
        /// How far the server's log goes.
        end: Lsn,
        /// The server's clock when it sent this, in microseconds since 1970.
        time: i64,
        /// The message. It shares memory with what was read beside it (up to 256 KiB): what is kept for long is worth a copy.
        bytes: Bytes,
    },
    /// Nothing that concerns the slot happened up to `end`.
    Keepalive {
        /// How far the server has read its log for us.
        end: Lsn,
        /// The server's clock, in microseconds since 1970.
        time: i64,
        /// The server waits for a status update: the next call sends it, so confirm before what is safe.
        reply_requested: bool,
    },
    /// The server has ended the stream, e.g. because it shuts down. Nothing follows.
    Ended,
}

impl std::fmt::Debug for Event {
    /// Without the payload: it holds values of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Data {
                start, end, bytes, ..
            } => {
                write!(f, "Data({start}, {end}, {} bytes)", bytes.len())
            }
            Event::Keepalive {
                end,
                reply_requested,
                ..
            } => {
                write!(f, "Keepalive({end}, reply requested: {reply_requested})")
            }
            Event::Ended => f.write_str("Ended"),
        }
    }
}

/// The stream of a slot's changes. [`Stream::next`] gives what comes; [`Stream::confirm`] says what is safe, and the server lets go
/// of its log up to there. Nothing is confirmed by itself, not even a keepalive: when nothing is pending, confirm its `end`.
pub struct Stream {
    channel: Channel,
    input: BytesMut,
    output: BytesMut,
    has_ended: bool,
    /// What is safe with us, and what the server was told.
    confirmed: Lsn,
    told: Lsn,
    told_at: Instant,
    /// The server waits for an answer.
    reply_due: bool,
    heard_at: Instant,
    /// Since when we wait for a sign of life that we asked for.
    asked_at: Option<Instant>,
    status_interval: Duration,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(channel: Channel, input: BytesMut, from: Lsn) -> Self {
        let now = Instant::now();
        Stream {
            channel,
            input,
            output: BytesMut::new(),
            has_ended: false,
            confirmed: from,
            told: Lsn(0),
            told_at: now,
            reply_due: false,
            heard_at: now,
            asked_at: None,
            status_interval: STATUS_INTERVAL,
            silence: SILENCE,
            timer: Box::pin(tokio::time::sleep_until(now)),
        }
    }

    /// Tells the position at most this often, where the server does not ask (1 s).
    pub fn with_status_interval(mut self, interval: Duration) -> Self {
        self.status_interval = interval;
        self
    }

    /// Asks for a sign of life after this long without any, and gives up after as long again (60 s).
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// What comes next. Cancellation-safe: what is not waited for is not lost. Status updates are sent while this is waited for.
    ///
    /// # Errors
    /// A lost connection, a server that is silent too long, what the server says at its end. The stream is of no more use then.
    pub async fn next(&mut self) -> Result<Event, PostgresError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What comes next, where it was read already.
    ///
    /// # Errors
    /// As [`Stream::next`].
    pub fn try_next(&mut self) -> Result<Option<Event>, PostgresError> {
        if self.reply_due {
            // Whoever takes many events in a row still answers; what cannot be written now, `next` writes.
            let mut cx = Context::from_waker(Waker::noop());
            self.say_what_is_due(Instant::now());
            // A failure meets `next` as well, which reads to the end before.
            let _ = self.poll_write(&mut cx);
        }
        self.take()
    }

    /// Everything up to here is safe: the server need not keep it. It never goes back.
    pub fn confirm(&mut self, durable: Lsn) {
        self.confirmed = self.confirmed.max(durable);
    }

    /// What is safe, as it was confirmed last.
    pub fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// Asks the server for a sign of life, which brings its clock; the next call of [`Stream::next`] sends it.
    pub fn ask(&mut self) {
        self.say(true);
    }

    /// Tells the position now.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn flush_status(&mut self) -> Result<(), PostgresError> {
        self.say(false);
        poll_fn(|cx| self.poll_say(cx)).await
    }

    /// Confirms a last position, ends the stream and waits until the server has heard it. What still comes is passed over: it was not
    /// confirmed, and comes again.
    ///
    /// # Errors
    /// A lost connection, or no end within 5 s: the position may not have arrived.
    pub async fn stop(mut self, last: Lsn) -> Result<(), PostgresError> {
        self.confirm(last);
        let limit = STOP_LIMIT;
        let stopping = tokio::time::timeout(limit, async {
            self.say(false);
            self.output.put_slice(b"c\0\0\0\x04");
            while !self.is_over()? {
                poll_fn(|cx| self.poll_both(cx)).await?;
            }
            self.output.clear();
            self.output.put_slice(b"X\0\0\0\x04");
            // It was heard; whether the goodbye is does not matter.
            let _ = poll_fn(|cx| self.poll_say(cx)).await;
            let _ = self.channel.shutdown().await;
            Ok(())
        });
        let stopped = stopping.await;
        stopped.unwrap_or_else(|_| {
            Err(PostgresError::Timeout {
                doing: "ending the stream".into(),
                limit,
            })
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, PostgresError>> {
        loop {
            let now = Instant::now();
            self.say_what_is_due(now);
            // Whether it can be written or not, reading goes on: the server may be writing to us just as well, or have said why it left.
            let wrote = self.poll_write(cx);
            if wrote.is_err() {
                self.output.clear();
            }
            if let Some(event) = self.take()? {
                return Poll::Ready(Ok(event));
            }
            if self.poll_read(cx)?.is_ready() {
                self.heard_at = Instant::now();
                self.asked_at = None;
                continue;
            }
            let _ = wrote?;
            self.watch(now)?;
            if !self.output.is_empty() {
                let _ = self.poll_write(cx)?;
            }
            let wake = self.wake_at();
            if self.timer.deadline() != wake || self.timer.is_elapsed() {
                self.timer.as_mut().reset(wake);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// The next event of what was read.
    fn take(&mut self) -> Result<Option<Event>, PostgresError> {
        if self.has_ended {
            return Ok(Some(Event::Ended));
        }
        while let Some(frame) = frame::take(&mut self.input, MESSAGE_MAX)? {
            match frame.tag {
                b'd' => {
                    let event = event(frame.body)?;
                    if let Event::Keepalive {
                        reply_requested: true,
                        ..
                    } = event
                    {
                        self.reply_due = true;
                    }
                    return Ok(Some(event));
                }
                // A server that shuts down ends the command without ending the copy.
                b'c' | b'C' => {
                    self.has_ended = true;
                    return Ok(Some(Event::Ended));
                }
                b'E' => return Err(server_error(frame.body)),
                b'N' | b'S' => {}
                tag => return Err(unexpected(tag)),
            }
        }
        Ok(None)
    }

    /// Has the command ended? Passes over everything else that was read.
    fn is_over(&mut self) -> Result<bool, PostgresError> {
        while let Some(frame) = frame::take(&mut self.input, MESSAGE_MAX)? {
            match frame.tag {
                b'C' | b'Z' => return Ok(true),
                b'E' => return Err(server_error(frame.body)),
                b'd' | b'c' | b'N' | b'S' => {}
                tag => return Err(unexpected(tag)),
            }
        }
        Ok(false)
    }

    /// Says the position where it is time to.
    fn say_what_is_due(&mut self, now: Instant) {
        if self.status_at().is_some_and(|due| due <= now) && self.output.is_empty() {
            self.say(false);
        }
    }

    /// When the position is to be told next. News that the server waits for is told at once, other news after the interval.
    fn status_at(&self) -> Option<Instant> {
        match (self.reply_due, self.confirmed > self.told) {
            (true, true) => Some(self.told_at),
            (true, false) => Some(self.told_at + ANSWER_INTERVAL),
            (false, true) => Some(self.told_at + self.status_interval),
            (false, false) => None,
        }
    }

    /// Puts a status update into the output; with `ask` the server is to answer.
    fn say(&mut self, ask: bool) {
        let now = std::time::SystemTime::now();
        let since = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let time = i64::try_from(since.as_micros()).unwrap_or(i64::MAX) - EPOCH_US;
        self.output.put_u8(b'd');
        self.output.put_u32(4 + 1 + 3 * 8 + 8 + 1);
        self.output.put_u8(b'r');
        // Written, flushed, applied: what is not safe was not received.
        for _ in 0..3 {
            self.output.put_u64(self.confirmed.0);
        }
        self.output.put_i64(time);
        self.output.put_u8(u8::from(ask));
        self.told = self.confirmed;
        self.told_at = Instant::now();
        self.reply_due = false;
    }

    /// After a long silence asks for a sign of life; after another one gives up.
    fn watch(&mut self, now: Instant) -> Result<(), PostgresError> {
        match self.asked_at {
            Some(asked) if now >= asked + self.silence => Err(PostgresError::Timeout {
                doing: "waiting for a sign of life of the server".into(),
                limit: self.silence,
            }),
            None if now >= self.heard_at + self.silence => {
                self.asked_at = Some(now);
                self.say(true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When there is something to do though nothing comes.
    fn wake_at(&self) -> Instant {
        let watch = self.asked_at.unwrap_or(self.heard_at) + self.silence;
        // While an update is being written, the channel wakes us.
        let status = self.status_at().filter(|_| self.output.is_empty());
        status.map_or(watch, |status| status.min(watch))
    }

    /// Writes what is to be said.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, PostgresError> {
        let failed = |error| PostgresError::io("send to the server")(error);
        while !self.output.is_empty() {
            match Pin::new(&mut self.channel).poll_write(cx, &self.output) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.output.advance(count),
                Poll::Ready(Err(error)) => return Err(failed(error)),
            }
        }
        match Pin::new(&mut self.channel).poll_flush(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(failed(error)),
        }
    }

    /// Reads what is there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, PostgresError> {
        // `take` has made room.
        let read = std::pin::pin!(self.channel.read_buf(&mut self.input));
        match read.poll(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(0)) => Err(PostgresError::closed()),
            Poll::Ready(Ok(_)) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(PostgresError::io("hear from the server")(error)),
        }
    }

    /// Writes all that is to be said, and reads meanwhile where the server must be heard to listen.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PostgresError>> {
        loop {
            if self.poll_write(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.input.len() >= AHEAD_BYTES_MAX || self.poll_read(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes and reads; ready when something was read.
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PostgresError>> {
        let _ = self.poll_write(cx)?;
        match self.poll_read(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A message inside the stream: `w`, of the output plugin, or `k`, a keepalive.
fn event(body: Bytes) -> Result<Event, PostgresError> {
    let mut reader = Reader(body);
    match reader.u8()? {
        b'w' => Ok(Event::Data {
            start: Lsn(reader.u64()?),
            end: Lsn(reader.u64()?),
            time: reader.i64()?.saturating_add(EPOCH_US),
            bytes: reader.0,
        }),
        b'k' => Ok(Event::Keepalive {
            end: Lsn(reader.u64()?),
            time: reader.i64()?.saturating_add(EPOCH_US),
            reply_requested: reader.u8()? != 0,
        }),
        tag => Err(unexpected(tag)),
    }
}
