//! Messages of the stream become whole transactions.
//!
//! Between a begin and its commit, messages about watched tables are kept as they came: in memory up to a limit, beyond it in a file
//! (see [`Spill`]). At the commit they are decoded, or handed on to be decoded piece by piece. Protocol version 1 sends committed
//! transactions only, one after the other, in the order of their commits; what was rolled back to a savepoint is not in it, and a
//! prepared transaction comes when it is committed.

use std::path::PathBuf;

use super::Lsn;
use super::pgoutput::{Begin, Commit, Logical, Malformed, Message, decode, row_of};
use super::relations::{Interest, Relations, SchemaChange, Unreadable, not_announced};
use super::spill::{Frames, Spill, emptied, frames};
use crate::change::{Change, TransactionMeta};
use crate::timeline::{CONTEXT_PREFIX, merge_context};

#[cfg(test)]
mod tests;

/// The prefix of logical messages that are handed on as [`Mark`]s: `firstbad-audit`, `firstbad-heartbeat`.
pub const MARK_PREFIX: &str = "firstbad-";

/// The most bytes of context that a transaction may carry; messages beyond them are not read.
const CONTEXT_BYTES_MAX: usize = 64 << 10;

/// Why the stream cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A message or a value that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Messages in an order that no server sends.
    #[error("the stream contradicts itself: {0}")]
    Order(&'static str),
    /// A large transaction could not be put aside.
    #[error("a large transaction cannot be kept in a file in {directory}: {error}")]
    Spill {
        /// The directory.
        directory: String,
        /// Why.
        error: std::io::Error,
    },
}

impl From<Malformed> for AssembleError {
    fn from(error: Malformed) -> Self {
        AssembleError::Unreadable(error.into())
    }
}

/// How much is kept where.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of messages that one transaction may have in memory; decoded, they take several times as much.
    pub held_bytes: usize,
    /// Where larger transactions wait, in files without a name.
    pub directory: PathBuf,
}

impl Limits {
    /// 16 MiB in memory, what is larger in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Limits {
            held_bytes: 16 << 20,
            directory: directory.into(),
        }
    }
}

/// A logical message of firstbad's own, such as a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its prefix, which begins with [`MARK_PREFIX`].
    pub prefix: String,
    /// What it says.
    pub content: Vec<u8>,
    /// Where it stands in the log.
    pub lsn: Lsn,
}

/// What happens in a transaction, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A change of a watched table.
    Change(Change),
    /// A watched table is different from here on.
    SchemaChanged(SchemaChange),
    /// A logical message of firstbad's own.
    Mark(Mark),
}

/// What happened in a transaction.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Held(Vec<Item>),
    /// It is too large for memory.
    Spilled(Spill),
}

impl Body {
    /// Goes through it in order.
    ///
    /// # Errors
    /// What `take` gives; where a spilled transaction cannot be read.
    pub fn for_each<E: From<AssembleError>>(
        &self,
        mut take: impl FnMut(&Item) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Body::Held(items) => items.iter().try_for_each(take),
            Body::Spilled(spill) => spill.for_each(|item| take(&item)),
        }
    }
}

/// A committed transaction.
#[derive(Debug)]
pub struct Assembled {
    /// Its attributes; `lsn` is the start of its commit record.
    pub meta: TransactionMeta,
    /// The end of its commit record: where to go on.
    pub end_lsn: Lsn,
    /// What it did to watched tables.
    pub body: Body,
    /// How many changes of watched tables were sent: a truncate counts once a table. None means that only the position moves, unless the
    /// body tells of a table that is different.
    pub changes: u64,
    /// How many changes of rows of other tables were passed over.
    pub skipped: u64,
    /// How many messages with the context's prefix could not be read.
    pub ignored_contexts: u64,
    /// Watched tables, by their index in the schema, that were described in it, in any way. The server describes a table before its
    /// first change of a session, and anew when something about it may have changed. A column that was dropped and made anew looks the
    /// same here; only the catalog tells, so it is to be read again.
    pub described: Vec<usize>,
}

/// What a message completed.
#[derive(Debug)]
pub enum Fed {
    /// A transaction.
    Transaction(Box<Assembled>),
    /// A logical message of firstbad's own that belongs to no transaction.
    Mark(Mark),
}

/// Puts transactions together.
#[derive(Debug)]
pub struct Assembler {
    relations: Relations,
    limits: Limits,
    open: Option<Open>,
    /// Room for messages, kept between transactions.
    room: Vec<u8>,
}

/// A transaction that has begun.
#[derive(Debug)]
struct Open {
    begin: Begin,
    meta: TransactionMeta,
    /// What was known of the tables when it began.
    relations: Relations,
    frames: Frames,
    changes: u64,
    skipped: u64,
    context_bytes: usize,
    ignored_contexts: u64,
    described: Vec<usize>,
}

const OUTSIDE: AssembleError =
    AssembleError::Order("a change or a description of a table outside of a transaction");

impl Assembler {
    /// An assembler that has seen nothing.
    pub fn new(relations: Relations, limits: Limits) -> Self {
        Assembler {
            relations,
            limits,
            open: None,
            room: Vec::new(),
        }
    }

    /// What is known of the tables.
    pub fn relations(&self) -> &Relations {
        &self.relations
    }

    /// Other watched tables from here on, in another schema perhaps.
    ///
    /// # Panics
    /// Within a transaction.
    pub fn watch(&mut self, relations: Relations) {
        assert!(
            self.open.is_none(),
            "tables change between transactions only"
        );
        self.relations = relations;
    }

    /// Forgets the transaction that has begun and not ended: the connection was lost, it will come again from its begin.
    pub fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            self.relations = open.relations;
        }
    }

    /// Whether a transaction has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes a message; gives what it completes.
    ///
    /// # Errors
    /// Where the message cannot be read, comes out of order, or cannot be kept. The assembler must not be fed further before
    /// [`Assembler::abandon`].
    pub fn feed(&mut self, data: &[u8]) -> Result<Option<Fed>, AssembleError> {
        if let Some(relation) = row_of(data) {
            let open = self.open.as_mut().ok_or(OUTSIDE)?;
            match self.relations.interest(relation) {
                Interest::Watched => {
                    open.changes += 1;
                    open.frames.push(data, &self.limits)?;
                }
                Interest::NotWatched => open.skipped += 1,
                Interest::NotAnnounced => return Err(not_announced().into()),
            }
            return Ok(None);
        }
        match decode(data)? {
            Message::Begin(begin) => self.begin(begin)?,
            Message::Commit(commit) => {
                let assembled = self.commit(commit)?;
                return Ok(Some(Fed::Transaction(Box::new(assembled))));
            }
            Message::Relation(relation) => {
                let open = self.open.as_mut().ok_or(OUTSIDE)?;
                self.relations.announce(&relation);
                let table = self.relations.table_of(relation.oid);
                let new = table.filter(|table| !open.described.contains(table));
                open.described.extend(new);
                open.frames.push(data, &self.limits)?;
            }
            Message::Truncate { relations, .. } => {
                let open = self.open.as_mut().ok_or(OUTSIDE)?;
                let interest = |oid| self.relations.interest(oid);
                let watched = |oid: &u32| interest(*oid) == Interest::Watched;
                let count = relations.iter().filter(watched).count();
                open.changes += u64::try_from(count).unwrap_or(u64::MAX);
                open.frames.push(data, &self.limits)?;
            }
            Message::Logical(logical) => return self.logical(&logical, data),
            // Types and origins say nothing about rows; rows were met above.
            _ => {}
        }
        Ok(None)
    }

    fn begin(&mut self, begin: Begin) -> Result<(), AssembleError> {
        if self.open.is_some() {
            return Err(AssembleError::Order(
                "a transaction begins within another one",
            ));
        }
        let meta = TransactionMeta {
            lsn: Some(Lsn(begin.final_lsn).to_string()),
            xid: Some(begin.xid.into()),
            time: Some(begin.time_us),
            ..TransactionMeta::default()
        };
        self.open = Some(Open {
            begin,
            meta,
            relations: self.relations.clone(),
            frames: Frames::new(std::mem::take(&mut self.room)),
            changes: 0,
            skipped: 0,
            context_bytes: 0,
            ignored_contexts: 0,
            described: Vec::new(),
        });
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<Assembled, AssembleError> {
        let Some(open) = self.open.take_if(|open| open.begin.final_lsn == commit.lsn) else {
            return Err(AssembleError::Order(match self.open {
                Some(_) => "a transaction ends that is not the one that began",
                None => "a transaction ends that did not begin",
            }));
        };
        let body = match open.frames.finish(&self.limits)? {
            Ok(file) => Body::Spilled(Spill::new(file, open.relations)),
            Err(held) => {
                let mut items = Vec::with_capacity(usize::try_from(open.changes).unwrap_or(0));
                let mut relations = open.relations;
                for frame in frames(&held) {
                    read(&mut relations, frame, &mut |item| {
                        items.push(item);
                        Ok::<(), AssembleError>(())
                    })?;
                }
                self.room = emptied(held);
                // All that was announced, and what could not be read.
                self.relations = relations;
                Body::Held(items)
            }
        };
        Ok(Assembled {
            meta: open.meta,
            end_lsn: Lsn(commit.end_lsn),
            body,
            changes: open.changes,
            skipped: open.skipped,
            ignored_contexts: open.ignored_contexts,
            described: open.described,
        })
    }

    fn logical(
        &mut self,
        logical: &Logical<'_>,
        data: &[u8],
    ) -> Result<Option<Fed>, AssembleError> {
        if logical.prefix.starts_with(MARK_PREFIX) {
            if !logical.transactional {
                return Ok(Some(Fed::Mark(mark(logical))));
            }
            let open = self.open.as_mut().ok_or(OUTSIDE)?;
            open.frames.push(data, &self.limits)?;
        } else if logical.transactional && logical.prefix == CONTEXT_PREFIX {
            let open = self.open.as_mut().ok_or(OUTSIDE)?;
            let bytes = open.context_bytes.saturating_add(logical.content.len());
            let is_read = bytes <= CONTEXT_BYTES_MAX
                && merge_context(&mut open.meta.context, logical.content);
            if is_read {
                open.context_bytes = bytes;
            } else {
                open.ignored_contexts += 1;
            }
        }
        Ok(None)
    }
}

fn mark(logical: &Logical<'_>) -> Mark {
    Mark {
        prefix: logical.prefix.to_owned(),
        content: logical.content.to_vec(),
        lsn: Lsn(logical.lsn),
    }
}

/// Hands on what a kept message says.
pub(super) fn read<E: From<AssembleError>>(
    relations: &mut Relations,
    frame: &[u8],
    take: &mut impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    match decode(frame).map_err(AssembleError::from)? {
        Message::Relation(relation) => match relations.announce(&relation) {
            Some(change) => take(Item::SchemaChanged(change)),
            None => Ok(()),
        },
        Message::Logical(logical) => take(Item::Mark(mark(&logical))),
        message => {
            let mut changes = Vec::with_capacity(1);
            while let Err(error) = relations.changes(&message, &mut changes) {
                let Unreadable::Value {
                    table_index,
                    column_index,
                    error,
                    ..
                } = error
                else {
                    return Err(AssembleError::from(error).into());
                };
                // Without the column, the change is read again: each time with one column less.
                changes.clear();
                let change = relations.give_up(table_index, column_index, &error);
                take(Item::SchemaChanged(change))?;
            }
            changes.into_iter().map(Item::Change).try_for_each(take)
        }
    }
}
