//! Change events of Debezium's Postgres connector as JSON, with or without the schema envelope.
//!
//! An event is one row's change; a transaction is the run of events with one `source.txId`. Source:
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>. What it leaves out is not known:
//! `before: null`, unchanged TOAST values, and the columns outside of the replica identity, which it fills with null or, where
//! that is not allowed, with zero or the empty string.

mod decode;
mod envelope;

use std::rc::Rc;

use super::line::{Key, Place, RawObject, field, optional, push_cell, shorten, table_of};
use super::pending::{At, Order, Pending, lsn_text};
use super::{Entry, Places, Sink};
use crate::change::{Cell, Change, Image, Op};
use crate::diagnostic::Diagnostic;
use crate::schema::{Schema, Table, TableName};
use decode::Decoder;
use envelope::{Envelope, Envelopes};

/// Whether an object is an event of Debezium's: with or without its envelope, or the beginning or end of a transaction.
pub(super) fn is_event(object: &RawObject<'_>) -> bool {
    let has = |name: &str| object.raw(name).is_some();
    has("payload") || (has("op") && has("source")) || is_marker(object)
}

/// Beginnings and ends of transactions, and heartbeats: records that change nothing.
fn is_marker(object: &RawObject<'_>) -> bool {
    let has = |name: &str| object.raw(name).is_some();
    let is_boundary = has("status") && has("id");
    let is_heartbeat = has("ts_ms") && object.0.len() == 1;
    !has("op") && (is_boundary || is_heartbeat)
}

/// Reads events in order.
#[derive(Default)]
pub(super) struct Reader {
    open: Option<Open>,
    envelopes: Envelopes,
    decoder: Decoder,
    /// The LSN of the last commit before an event, which never goes back.
    last_commit: Option<u64>,
    /// True once the snapshot's first row was seen.
    snapshot_begun: bool,
}

/// The transaction that events belong to at present.
struct Open {
    xid: u64,
    last_lsn: Option<u64>,
    last_order: Option<u64>,
    read: Pending,
}

/// An event's `source`, as far as it is of use.
struct Source {
    table: Option<TableName>,
    xid: Option<u64>,
    lsn: Option<u64>,
    last_commit: Option<u64>,
    time: Option<i64>,
    snapshot: String,
}

/// What events are read against, and who takes what they say.
pub(super) struct Takers<'a, 's> {
    pub(super) schema: &'a Schema,
    pub(super) order: &'a mut Order,
    pub(super) warnings: &'a mut Vec<Diagnostic>,
    pub(super) sink: &'a mut Sink<'s>,
}

impl Reader {
    /// Reads one line.
    pub(super) fn line(
        &mut self,
        object: &RawObject<'_>,
        mut place: Place<'_>,
        at: At<'_>,
        to: Takers<'_, '_>,
    ) -> Result<(), Diagnostic> {
        let payload: Option<RawObject<'_>> = match object.raw("payload") {
            Some(_) => optional(&place, object, "payload", "a JSON object")?,
            None => None,
        };
        // An event without a value is a tombstone; it follows each delete.
        if object.raw("payload").is_some() && payload.is_none() {
            return Ok(());
        }
        let event = payload.as_ref().unwrap_or(object);
        if is_marker(event) {
            return Ok(());
        }
        let envelope = match object.get("schema").filter(|_| payload.is_some()) {
            Some(raw) => Some(self.envelopes.read(&place, raw)?),
            None => None,
        };
        let op: Option<Key<'_>> = optional(&place, event, "op", "a text")?;
        let op = op.ok_or_else(|| no_event(&place))?;
        let source = source(&place, event)?;
        if op.0 == "r" {
            return self.snapshot_row(event, &place, at, envelope, source, to);
        }
        if op.0 == "m" && source.xid.is_none() {
            // A message outside of transactions says nothing about one.
            return Ok(());
        }
        let xid = source.xid.ok_or_else(|| {
            place
                .error("this event has no `source.txId`, so its transaction is not known")
                .with_hint("events of Debezium's Postgres connector have one")
        })?;
        self.enter(&place, at, xid, to.order, to.sink)?;
        place.commit = Some(to.order.next.into());
        self.in_order(&place, event, &source)?;
        if op.0 == "m" {
            return self.message(&place, event, to.warnings);
        }
        let change = self.change(&place, event, &op.0, &source, to.schema, envelope)?;
        self.push(to.schema, at, change, &source);
        Ok(())
    }

    /// Opens the transaction of an event; the one before is whole then.
    fn enter(
        &mut self,
        place: &Place<'_>,
        at: At<'_>,
        xid: u64,
        order: &mut Order,
        sink: &mut Sink<'_>,
    ) -> Result<(), Diagnostic> {
        if self.open.as_ref().is_some_and(|open| open.xid == xid) {
            return Ok(());
        }
        self.flush(order, sink)?;
        order.once(place, Some(xid)).map_err(|error| {
            let hint = "the events of a transaction stand together, in commit order: merge topics by `source.lsn` within each \
                        transaction, and leave out what was delivered twice";
            error.with_hint(hint)
        })?;
        let mut read = Pending::new(at);
        read.meta.xid = Some(xid);
        self.open = Some(Open {
            xid,
            last_lsn: None,
            last_order: None,
            read,
        });
        Ok(())
    }

    /// Hands on the transaction that is open.
    pub(super) fn flush(
        &mut self,
        order: &mut Order,
        sink: &mut Sink<'_>,
    ) -> Result<(), Diagnostic> {
        match self.open.take() {
            Some(open) => order.number(open.read, sink),
            None => Ok(()),
        }
    }

    /// Refuses an event that comes again or too late.
    fn in_order(
        &mut self,
        place: &Place<'_>,
        event: &RawObject<'_>,
        source: &Source,
    ) -> Result<(), Diagnostic> {
        let hint =
            "a connector that was started again delivers events twice; leave the second ones out";
        if let (Some(last), Some(now)) = (self.last_commit, source.last_commit)
            && now < last
        {
            let message = "this event goes back behind a commit that was there before";
            return Err(place.error(message).with_hint(hint));
        }
        self.last_commit = source.last_commit.or(self.last_commit);
        let metadata: Option<RawObject<'_>> =
            optional(place, event, "transaction", "a JSON object")?;
        let total_order: Option<u64> = match &metadata {
            Some(metadata) => optional(place, metadata, "total_order", "a whole number")?,
            None => None,
        };
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let again = |last: Option<u64>, now: Option<u64>, may_equal: bool| match (last, now) {
            (Some(last), Some(now)) => now < last || (now == last && !may_equal),
            _ => false,
        };
        // Rows that were copied in one go share an LSN.
        if again(open.last_lsn, source.lsn, true) || again(open.last_order, total_order, false) {
            let message = "the events of this transaction are out of order, or one is there twice";
            return Err(place.error(message).with_hint(hint));
        }
        open.last_order = total_order.or(open.last_order);
        Ok(())
    }

    fn message(
        &mut self,
        place: &Place<'_>,
        event: &RawObject<'_>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let message: Option<RawObject<'_>> = optional(place, event, "message", "a JSON object")?;
        let Some(message) = message else {
            return Ok(());
        };
        let prefix: Option<Key<'_>> = optional(place, &message, "prefix", "a text")?;
        let content: Option<Key<'_>> = optional(place, &message, "content", "a text")?;
        let (Some(prefix), Some(content), Some(open)) = (prefix, content, &mut self.open) else {
            return Ok(());
        };
        // The content is bytes; a converter may already have made text of them.
        let decoded = decode::base64(&content.0).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = decoded.as_deref().unwrap_or(&content.0);
        open.read.message(place, &prefix.0, text, warnings);
        Ok(())
    }

    fn change(
        &mut self,
        place: &Place<'_>,
        event: &RawObject<'_>,
        op: &str,
        source: &Source,
        schema: &Schema,
        envelope: Option<Rc<Envelope>>,
    ) -> Result<Change, Diagnostic> {
        let op = match op {
            "c" => Op::Insert,
            "u" => Op::Update,
            "d" => Op::Delete,
            "t" => Op::Truncate,
            other => {
                let message = format!("unknown op `{}`", shorten(other));
                return Err(place.error(message).with_hint("op is c, u, d, r, t or m"));
            }
        };
        let index = table(place, source, schema)?;
        let declared = &schema.tables[index];
        let mut image = |name: &str, wanted: bool| {
            self.image(
                place,
                event,
                name,
                wanted,
                (index, declared),
                envelope.as_deref(),
            )
        };
        let after = image("after", matches!(op, Op::Insert | Op::Update))?;
        let before = image("before", matches!(op, Op::Update | Op::Delete))?
            .map(|before| without_fillers(declared, before));
        let short = declared.name.short();
        let wrong = match op {
            Op::Insert | Op::Update if after.is_none() => Some("`after` is missing"),
            Op::Delete if before.is_none() => Some("`before` is missing: which row went?"),
            _ => None,
        };
        match wrong {
            Some(wrong) => Err(place.error(format!("table {short}: {wrong}"))),
            None => Ok(Change {
                table: index,
                op,
                key: None,
                before,
                after,
            }),
        }
    }

    fn image(
        &mut self,
        place: &Place<'_>,
        event: &RawObject<'_>,
        part: &str,
        wanted: bool,
        (index, declared): (usize, &Table),
        envelope: Option<&Envelope>,
    ) -> Result<Option<Image>, Diagnostic> {
        let Some(raw) = event.get(part).filter(|_| wanted) else {
            return Ok(None);
        };
        let row: RawObject<'_> = field(place, part, "a JSON object of columns", raw)?;
        let mut image = Image::with_capacity(row.0.len());
        for (name, raw) in &row.0 {
            push_cell(place, declared, part, &mut image, name, raw, |at| {
                let described = envelope.and_then(|envelope| envelope.column(part, name));
                let data_type = &declared.columns[at].data_type;
                self.decoder.cell((index, at), data_type, described, raw)
            })?;
        }
        image.retain(|(_, cell)| *cell != Cell::Unknown);
        Ok(Some(image))
    }

    /// Adds a change to the open transaction. A changed primary key comes as a delete and an insert of one log record.
    fn push(&mut self, schema: &Schema, at: At<'_>, change: Change, source: &Source) {
        let Some(open) = &mut self.open else { return };
        let same_record = source.lsn.is_some() && source.lsn == open.last_lsn;
        let moved = same_record
            && change.op == Op::Insert
            && open
                .read
                .changes
                .last()
                .is_some_and(|last| last.op == Op::Delete && last.table == change.table)
            && !schema.tables[change.table].primary_key.is_empty();
        let change = match moved.then(|| open.read.pop()).flatten() {
            Some(delete) => Change {
                op: Op::Update,
                before: delete.before,
                ..change
            },
            None => change,
        };
        open.last_lsn = source.lsn.or(open.last_lsn);
        if let Some(lsn) = source.lsn {
            open.read.meta.lsn = Some(lsn_text(lsn));
        }
        if source.time.is_some() {
            open.read.meta.time = source.time;
        }
        open.read.push(at, change);
    }

    /// A row that was read when the recording began.
    fn snapshot_row(
        &mut self,
        event: &RawObject<'_>,
        place: &Place<'_>,
        at: At<'_>,
        envelope: Option<Rc<Envelope>>,
        source: Source,
        to: Takers<'_, '_>,
    ) -> Result<(), Diagnostic> {
        let place = &Place {
            commit: None,
            ..*place
        };
        if source.snapshot == "incremental" || to.order.next > 1 || self.open.is_some() {
            let message = "a row of a snapshot (`op: r`) after the first transaction";
            let hint = "snapshot rows are the state before the first transaction; incremental and blocking snapshots are not read";
            return Err(place.error(message).with_hint(hint));
        }
        if source.snapshot == "first" && std::mem::replace(&mut self.snapshot_begun, true) {
            let hint = "a connector that was started again reads the tables again; leave the first attempt out";
            return Err(place
                .error("the snapshot begins a second time")
                .with_hint(hint));
        }
        let index = table(place, &source, to.schema)?;
        let declared = &to.schema.tables[index];
        let image = self.image(
            place,
            event,
            "after",
            true,
            (index, declared),
            envelope.as_deref(),
        )?;
        let image = image.ok_or_else(|| {
            place.error(format!(
                "table {}: `after` is missing",
                declared.name.short()
            ))
        })?;
        let mut cells = vec![Cell::Unknown; declared.columns.len()];
        for (column, cell) in image {
            cells[column] = cell;
        }
        (to.sink)(
            &Places(vec![(at.0.clone(), at.1)]),
            Entry::Row {
                table: index,
                cells,
            },
        )
    }
}

fn no_event(place: &Place<'_>) -> Diagnostic {
    place
        .error("this is no change event: it has no `op`")
        .with_hint("record what the connector writes, before any transformation such as ExtractNewRecordState")
}

fn table(place: &Place<'_>, source: &Source, schema: &Schema) -> Result<usize, Diagnostic> {
    match &source.table {
        Some(name) => table_of(place, schema, name),
        None => Err(place.error("this event has no `source.table`")),
    }
}

fn source(place: &Place<'_>, event: &RawObject<'_>) -> Result<Source, Diagnostic> {
    let source: Option<RawObject<'_>> = optional(place, event, "source", "a JSON object")?;
    let source = source.ok_or_else(|| place.error("this event has no `source`"))?;
    let text = |name: &str| optional::<Key<'_>>(place, &source, name, "a text");
    let own = text("schema")?.map_or("public".to_owned(), |own| own.0.into_owned());
    let mut time = None;
    for (name, numerator, denominator) in [("ts_us", 1, 1), ("ts_ns", 1, 1000), ("ts_ms", 1000, 1)]
    {
        if time.is_none() {
            let found: Option<i64> = optional(place, &source, name, "a whole number")?;
            time =
                found.and_then(|found| Some(found.checked_mul(numerator)?.div_euclid(denominator)));
        }
    }
    // `snapshot` is a text, or a boolean in older versions.
    let snapshot = source.get("snapshot").map_or("", |raw| raw.get());
    Ok(Source {
        table: text("table")?
            .filter(|table| !table.0.is_empty())
            .map(|table| TableName::new(own, table.0)),
        xid: optional(place, &source, "txId", "a whole number")?,
        lsn: optional(place, &source, "lsn", "a whole number")?,
        last_commit: text("sequence")?.and_then(|text| last_commit(&text.0)),
        time,
        snapshot: snapshot.trim_matches('"').to_owned(),
    })
}

/// The first of the two LSNs in `source.sequence`, a JSON list in a text: that of the last commit before the event.
fn last_commit(sequence: &str) -> Option<u64> {
    let both: Vec<Option<String>> = serde_json::from_str(sequence).ok()?;
    both.into_iter().next()??.parse().ok()
}

/// A `before` in which nothing but the primary key says anything holds nothing else: with the default replica identity the other
/// columns are null, or zero or empty where they may not be.
fn without_fillers(table: &Table, mut before: Image) -> Image {
    let is_key = |column: &usize| table.primary_key.contains(column);
    let is_filler = |cell: &Cell| match cell {
        Cell::Unknown | Cell::Null => true,
        Cell::Bool(value) => !value,
        Cell::Int(value) | Cell::Time(value) | Cell::Timestamp(value) => *value == 0,
        Cell::Float(value) => *value == 0.0,
        Cell::Decimal(value) => value.unscaled == 0,
        Cell::Wide(_) => false,
        Cell::Text(value) => value.is_empty(),
        Cell::Bytes(value) => value.is_empty(),
        Cell::Date(value) => *value == 0,
        Cell::List(values) => values.is_empty(),
    };
    let says_nothing = before
        .iter()
        .all(|(column, cell)| is_key(column) || is_filler(cell));
    if says_nothing && !table.primary_key.is_empty() {
        before.retain(|(column, _)| is_key(column));
    }
    before
}
