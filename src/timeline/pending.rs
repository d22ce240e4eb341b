//! A transaction that is being read, and the order that transactions must come in.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::line::{Place, parse_lsn, shorten};
use super::{Entry, Places, Sink};
use crate::change::{Change, Commit, Transaction, TransactionMeta};
use crate::diagnostic::{Diagnostic, Level};

/// The prefix of logical messages that say who wrote.
pub const CONTEXT_PREFIX: &str = "firstbad";

/// Takes what a logical message with the prefix [`CONTEXT_PREFIX`] says into the context of its transaction: later keys win. False
/// where it is no JSON object; then nothing is taken.
pub fn merge_context(
    context: &mut Option<serde_json::Map<String, serde_json::Value>>,
    content: &[u8],
) -> bool {
    let found = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(content);
    found.is_ok_and(|found| {
        context.get_or_insert_default().extend(found);
        true
    })
}

/// File and line.
pub(super) type At<'a> = (&'a Arc<Path>, usize);

/// A transaction of a foreign form: its number is not known before it is whole.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) meta: TransactionMeta,
    pub(super) changes: Vec<Change>,
    /// Where each change stands; the first one is the beginning of the transaction where that is a line of its own.
    places: Vec<(Arc<Path>, usize)>,
    begun: (Arc<Path>, usize),
}

impl Pending {
    pub(super) fn new(at: At<'_>) -> Self {
        Pending {
            meta: TransactionMeta::default(),
            changes: Vec::new(),
            places: Vec::new(),
            begun: (at.0.clone(), at.1),
        }
    }

    pub(super) fn push(&mut self, at: At<'_>, change: Change) {
        self.changes.push(change);
        self.places.push((at.0.clone(), at.1));
    }

    /// The last change with its place, taken back.
    pub(super) fn pop(&mut self) -> Option<Change> {
        self.places.pop();
        self.changes.pop()
    }

    /// Takes a transactional logical message: several are merged, later keys win.
    pub(super) fn message(
        &mut self,
        place: &Place<'_>,
        prefix: &str,
        content: &str,
        warnings: &mut Vec<Diagnostic>,
    ) {
        if prefix != CONTEXT_PREFIX {
            return;
        }
        if !merge_context(&mut self.meta.context, content.as_bytes()) && warnings.len() <= 100 {
            warnings.push(
                place
                    .error("a message with the prefix `firstbad` is no JSON object and is not read")
                    .with_level(Level::Warning),
            );
        }
    }

    /// The history ended within this transaction.
    pub(super) fn unfinished(&self) -> Diagnostic {
        let message = "this transaction begins and never ends";
        Diagnostic::at(&*self.begun.0, self.begun.1, 0, message)
            .with_hint("the recording was cut off; leave the unfinished transaction out")
    }
}

/// What has been, so that nothing comes twice or backward.
pub(super) struct Order {
    /// The commit that comes next.
    pub(super) next: Commit,
    last_lsn: Option<u64>,
    /// Transaction ids, which Postgres repeats only after four thousand million transactions.
    seen: HashSet<u64>,
}

const DELIVERED_TWICE: &str =
    "a recorder that was started again may deliver a transaction twice; leave the second one out";

impl Order {
    pub(super) fn new() -> Self {
        Order {
            next: 1,
            last_lsn: None,
            seen: HashSet::new(),
        }
    }

    /// Takes the number of a native transaction.
    pub(super) fn native(&mut self, place: &Place<'_>, commit: Commit) -> Result<(), Diagnostic> {
        if commit != self.next {
            return Err(out_of_order(place.file, place.line, commit, self.next));
        }
        self.next += 1;
        Ok(())
    }

    /// Numbers a wal2json transaction and hands it on, if it has changes of rows.
    pub(super) fn hand_on(
        &mut self,
        place: &Place<'_>,
        read: Pending,
        sink: &mut Sink<'_>,
    ) -> Result<(), Diagnostic> {
        if read.changes.is_empty() {
            return Ok(());
        }
        self.once(place, read.meta.xid)?;
        if let Some(lsn) = read.meta.lsn.as_deref().and_then(parse_lsn) {
            match self.last_lsn {
                Some(last) if last >= lsn => return Err(backward(place, last, lsn)),
                _ => self.last_lsn = Some(lsn),
            }
        }
        self.number(read, sink)
    }

    /// Refuses a transaction id that was there before.
    pub(super) fn once(&mut self, place: &Place<'_>, xid: Option<u64>) -> Result<(), Diagnostic> {
        match xid {
            Some(xid) if !self.seen.insert(xid) => Err(place
                .error(format!("transaction {xid} was there before"))
                .with_hint(DELIVERED_TWICE)),
            _ => Ok(()),
        }
    }

    /// Gives a transaction its number and hands it on, if it has changes of rows.
    pub(super) fn number(&mut self, read: Pending, sink: &mut Sink<'_>) -> Result<(), Diagnostic> {
        if read.changes.is_empty() {
            return Ok(());
        }
        let commit = self.next;
        self.next += 1;
        let transaction = Transaction {
            commit,
            meta: read.meta,
            changes: read.changes,
        };
        sink(&Places(read.places), Entry::Transaction(transaction))
    }
}

fn backward(place: &Place<'_>, last: u64, lsn: u64) -> Diagnostic {
    let (lsn_text, last_text) = (lsn_text(lsn), lsn_text(last));
    if lsn == last {
        place
            .error(format!("the transaction at {lsn_text} is there twice"))
            .with_hint(DELIVERED_TWICE)
    } else {
        place
            .error(format!("LSN {lsn_text} comes after {last_text}"))
            .with_hint("transactions stand in commit order; files are read in name order")
    }
}

/// An LSN as Postgres prints it.
pub(super) fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// The LSN in a text, as it stands.
pub(super) fn checked_lsn(
    place: &Place<'_>,
    name: &str,
    text: String,
) -> Result<String, Diagnostic> {
    match parse_lsn(&text) {
        Some(_) => Ok(text),
        None => Err(place.error(format!("`{}` is no LSN such as 0/16B3748", shorten(name)))),
    }
}

fn out_of_order(file: &Path, line: usize, commit: Commit, next: Commit) -> Diagnostic {
    let (message, hint) = if commit >= next {
        let message = format!(
            "commit {commit} follows commit {}: {} missing",
            next - 1,
            gap(next, commit)
        );
        (
            message,
            "`commit` counts from 1 without gaps; a stretch of the history is not here",
        )
    } else if commit + 1 == next {
        (
            format!("commit {commit} is there twice"),
            "remove one of the two lines",
        )
    } else {
        (
            format!("commit {commit} comes after commit {}", next - 1),
            "transactions stand in commit order; files are read in name order",
        )
    };
    Diagnostic::at(file, line, 0, message).with_hint(hint)
}

fn gap(next: Commit, commit: Commit) -> String {
    if commit - next == 1 {
        format!("commit {next} is")
    } else {
        format!("commits {next} to {} are", commit - 1)
    }
}
