//! Recording a history: segments of its changes, snapshots between them.

use std::ops::RangeInclusive;
use std::sync::Mutex;

use super::Store;
use super::chain::{Act, Stretch};
use super::error::StoreError;
use super::format::{Kind, changes_file, segment_directory};
use super::ledger::commits;
use super::next_segment::NextSegment;
use super::segment::{TRANSACTIONS, Unreadable, encode_changes, encode_transactions};
use super::snapshot::parallel;
use super::writer::{Staged, Writer};
use crate::change::{Cell, Change, Commit, Image, Op, Transaction, TransactionMeta};
use crate::schema::Schema;
use crate::state::{History, Origin, TableVersions, Written};

/// When a segment is sealed, and when a snapshot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The most changes of a segment, but for a transaction that has more.
    pub changes_max: u64,
    /// The most bytes of a segment, as far as they can be foretold from the segments before.
    pub bytes_max: u64,
    /// After how many changes a snapshot is made; 0 for never.
    pub snapshot_every: u64,
}

impl Default for Sealing {
    fn default() -> Self {
        Sealing {
            changes_max: 500_000,
            bytes_max: 64 << 20,
            snapshot_every: 1_000_000,
        }
    }
}

/// What a recording added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Commits.
    pub commits: u64,
    /// Changes.
    pub changes: u64,
    /// Segments.
    pub segments: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

impl Writer {
    /// Records what a history has beyond the store's head; an empty store begins with the history's first state.
    /// `progress` is told the last commit that was sealed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the history is not the one that the store holds the beginning of; when the disk fails.
    pub fn record(
        &mut self,
        history: &History,
        sealing: Sealing,
        progress: &dyn Fn(Commit),
    ) -> Result<Recorded, StoreError> {
        let mut recorded = Recorded::default();
        self.store().suits(history)?;
        if self.store().ledger().snapshots.is_empty() {
            self.snapshot(history, history.first)?;
            recorded.snapshots += 1;
        } else {
            self.store().is_continued_by(history)?;
        }
        progress(self.store().ledger().head());
        let mut since = self.changes_since_snapshot();
        let mut width = None;
        while let Some((stretch, range)) = self.next_stretch(history, sealing, width) {
            let bytes = self.segment(history, &stretch, range)?;
            width = Some((bytes, stretch.changes.max(1)));
            recorded.segments += 1;
            recorded.bytes += bytes;
            recorded.changes += stretch.changes;
            recorded.commits += history.commits_until(stretch.to) as u64
                - history.commits_until(stretch.from - 1) as u64;
            since += stretch.changes;
            let is_due = sealing.snapshot_every > 0 && since >= sealing.snapshot_every;
            if is_due && !self.store().format().partial_start {
                self.snapshot(history, stretch.to)?;
                recorded.snapshots += 1;
                since = 0;
            }
            progress(stretch.to);
        }
        Ok(recorded)
    }

    /// Records transactions that follow the store's head, as one segment, and makes no snapshot. That they go on where the store ends is
    /// the caller's to know.
    ///
    /// # Errors
    /// When the disk fails.
    ///
    /// # Panics
    /// When they begin elsewhere, or have other tables.
    pub fn append(&mut self, next: NextSegment) -> Result<Recorded, StoreError> {
        let format = self.store().format();
        assert!(
            next.after == self.store().ledger().head() && next.schema == format.schema,
            "they go on where the store ends"
        );
        let Some(stretch) = next.stretch() else {
            return Ok(Recorded::default());
        };
        let NextSegment { metas, tables, .. } = next;
        let metas: Vec<_> = (stretch.from..).zip(&metas).collect();
        let tables: Vec<_> = tables
            .into_iter()
            .map(|one| Mutex::new(Some(one)))
            .collect();
        let written = |number: usize| {
            let mut one = tables[number].lock().expect("no holder panics");
            one.take().expect("each is asked for once").finish()
        };
        let files = segment_files(&self.store().format().schema, &stretch, &metas, written)?;
        let bytes = self.stage_and_seal(&stretch, files)?;
        Ok(Recorded {
            commits: u64::from(stretch.to - stretch.from + 1),
            changes: stretch.changes,
            segments: 1,
            snapshots: 0,
            bytes,
        })
    }

    /// Adds a snapshot of the store's last state, made of what the store itself holds.
    ///
    /// # Errors
    /// When the disk fails, or what is there is damaged.
    pub fn snapshot_the_head(&mut self) -> Result<(), StoreError> {
        let head = self.store().ledger().head();
        if self.store().ledger().snapshots.contains_key(&head) {
            return Ok(());
        }
        let own = self.store().history_of(head..=head)?;
        self.snapshot(&own, head).map(|_| ())
    }

    /// How many changes were recorded after the last snapshot.
    pub fn changes_since_snapshot(&self) -> u64 {
        let ledger = self.store().ledger();
        let last = ledger.snapshots.last_key_value().map_or(0, |(&at, _)| at);
        let later = ledger.segments.values().filter(|stretch| stretch.to > last);
        later.map(|stretch| stretch.changes).sum()
    }

    /// What the next segment is to hold: its stretch, and the commits whose changes it has.
    fn next_stretch(
        &self,
        history: &History,
        sealing: Sealing,
        width: Option<(u64, u64)>,
    ) -> Option<(Stretch, RangeInclusive<Commit>)> {
        let head = self.store().ledger().head();
        let most = match width {
            Some((bytes, changes)) => sealing
                .changes_max
                .min(sealing.bytes_max * changes / bytes.max(1)),
            None => sealing.changes_max,
        };
        let mut stretch: Option<Stretch> = None;
        let known = history.commits_until(head);
        for (commit, meta) in history.commits().skip(known) {
            let changes = history.recorded_count(commit) as u64;
            let gap = history.gap_ended_by(commit);
            let full = |stretch: &Stretch| stretch.changes + changes > most.max(1) || gap.is_some();
            if stretch.as_ref().is_some_and(full) {
                break;
            }
            let stretch = stretch.get_or_insert_with(|| Stretch {
                from: gap.map_or(commit, |gap| gap.from),
                unseen: gap.is_some(),
                ..Stretch::default()
            });
            stretch.to = commit;
            stretch.changes += changes;
            stretch.lsn_from = stretch.lsn_from.take().or_else(|| meta.lsn.clone());
            stretch.lsn_to = meta.lsn.clone().or_else(|| stretch.lsn_to.take());
            stretch.time_from = stretch.time_from.or(meta.time);
            stretch.time_to = meta.time.or(stretch.time_to);
            if gap.is_some() {
                break;
            }
        }
        let stretch = stretch?;
        let range = if stretch.unseen {
            stretch.to..=stretch.to
        } else {
            stretch.from..=stretch.to
        };
        Some((stretch, range))
    }

    /// Writes and seals a segment; says how many bytes it has.
    fn segment(
        &mut self,
        history: &History,
        stretch: &Stretch,
        range: RangeInclusive<Commit>,
    ) -> Result<u64, StoreError> {
        let files = files_of(history, stretch, &range)?;
        self.stage_and_seal(stretch, files)
    }

    fn stage_and_seal(
        &mut self,
        stretch: &Stretch,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<u64, StoreError> {
        let staged = parallel(files.len(), |at| {
            let (path, bytes) = &files[at];
            self.stage(path, bytes)
        })?;
        let bytes = staged
            .iter()
            .map(|staged: &Staged| staged.sealed.bytes)
            .sum();
        self.seal(Act::Changes(stretch.clone()), staged, Vec::new())?;
        Ok(bytes)
    }

    /// Adds a snapshot of the state that a history has at a position, and says at which commit of the store it is. A history that the
    /// store already has up to there only gets a snapshot; of a later one the commits between are recorded as not seen. A source that is
    /// one state has no numbers: it becomes the store's next commit.
    ///
    /// # Errors
    /// As [`Writer::record`].
    pub fn add(
        &mut self,
        history: &History,
        at: Commit,
        meta: TransactionMeta,
    ) -> Result<Commit, StoreError> {
        self.store().suits(history)?;
        let ledger = self.store().ledger();
        if ledger.snapshots.is_empty() {
            self.snapshot_of(history, at, &meta)?;
            return Ok(at);
        }
        let head = ledger.head();
        if history.origin == Origin::SingleState {
            return self.leap(history, at, head + 1, meta);
        }
        if at > head {
            if history.first <= head {
                self.store().is_continued_by(history)?;
            }
            return self.leap(history, at, at, meta);
        }
        if ledger.snapshots.contains_key(&at) {
            return Ok(at);
        }
        if self.store().format().partial_start {
            return Err(StoreError::refused(
                "the source has no snapshot: rows that no change has touched are not known",
                "record its changes with `firstbad record`",
            ));
        }
        if at < ledger.first {
            let message = format!("the store begins at #{} already", ledger.first);
            return Err(StoreError::refused(message, "name a later position"));
        }
        self.store().is_continued_by(history)?;
        self.snapshot(history, at)?;
        Ok(at)
    }

    /// Takes over a state that was met after commits which nobody saw, as the next commit; says which that is.
    ///
    /// # Errors
    /// As [`Writer::record`].
    pub fn leap_over(
        &mut self,
        source: &History,
        meta: TransactionMeta,
    ) -> Result<Commit, StoreError> {
        let next = self.store().ledger().head() + 1;
        self.leap(source, source.first, next, meta)
    }

    /// Takes over a state that another history has at a position as the commit `to` of this store, without the commits between, and makes
    /// a snapshot of it.
    fn leap(
        &mut self,
        source: &History,
        at: Commit,
        to: Commit,
        mut meta: TransactionMeta,
    ) -> Result<Commit, StoreError> {
        // Whoever wrote the last of the commits between did not write all of them.
        (meta.context, meta.xid) = (None, None);
        // What is named so was not seen as a transaction.
        meta.snapshot.get_or_insert_with(|| format!("#{at}"));
        let head = self.store().ledger().head();
        let mut own = self.store().history_of(head..=head)?;
        let rows: Vec<Vec<Vec<Cell>>> = source.tables.iter().map(|t| rows_at(t, at)).collect();
        let taken = match self.store().format().kind {
            Kind::Changes => {
                own.skip_to(to);
                own.replace(meta, &rows)
            }
            // A snapshot that follows the last one leaves nothing out.
            Kind::Snapshots => own.leap(to, meta, &rows),
        };
        taken.map_err(|(table, error)| {
            let name = source.schema.tables[table].name.short();
            StoreError::refused(
                format!("table {name}: {error}"),
                "the rows do not fit the store",
            )
        })?;
        drop(rows);
        while let Some((stretch, range)) = self.next_stretch(&own, Sealing::default(), None) {
            self.segment(&own, &stretch, range)?;
        }
        self.snapshot(&own, to)?;
        Ok(to)
    }
}

fn rows_at(table: &TableVersions, at: Commit) -> Vec<Vec<Cell>> {
    let columns = 0..table.table.columns.len();
    let row = |row: u32| {
        columns
            .clone()
            .map(|column| table.cell(column, row))
            .collect()
    };
    table.visible(at).into_iter().map(row).collect()
}

/// The files that a segment of a history has, by path.
fn files_of(
    history: &History,
    stretch: &Stretch,
    range: &RangeInclusive<Commit>,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let known = history.commits_until(range.start() - 1)..history.commits_until(*range.end());
    let commits = history.commits().skip(known.start);
    let metas: Vec<_> = commits.take(known.len()).collect();
    let written = |number: usize| history.tables[number].written(range);
    segment_files(&history.schema, stretch, &metas, written)
}

/// The files of a segment, by path; `written` gives the changes of each table.
fn segment_files(
    schema: &Schema,
    stretch: &Stretch,
    metas: &[(Commit, &TransactionMeta)],
    written: impl Fn(usize) -> Written + Sync,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let directory = segment_directory(stretch.from, stretch.to);
    let odd = |error: Unreadable| {
        StoreError::io("encode", &directory)(std::io::Error::other(error.to_string()))
    };
    let mut files = vec![(
        format!("{directory}/{TRANSACTIONS}"),
        encode_transactions(metas).map_err(odd)?,
    )];
    let tables = parallel(schema.tables.len(), |number| {
        let table = &schema.tables[number];
        let written = written(number);
        if written.is_empty() {
            return Ok(None);
        }
        let bytes = encode_changes(table, &written).map_err(odd)?;
        let path = format!("{directory}/{}", changes_file(number, table));
        Ok(Some((path, bytes)))
    })?;
    files.extend(tables.into_iter().flatten());
    Ok(files)
}

impl Store {
    /// Whether a history can be put into this store at all.
    pub(super) fn suits(&self, history: &History) -> Result<(), StoreError> {
        let format = self.format();
        let kind = Kind::of(history.origin);
        if kind != format.kind {
            let word = |kind: Kind| match kind {
                Kind::Changes => "recorded transactions",
                Kind::Snapshots => "snapshots",
            };
            let (own, other) = (word(format.kind), word(kind));
            return Err(StoreError::refused(
                format!("the store holds {own}, the source has {other}"),
                "name another store",
            ));
        }
        if format.schema != history.schema {
            return Err(StoreError::refused(
                schema_difference(&format.schema, &history.schema),
                "a store holds one schema: name another store for the new one",
            ));
        }
        Ok(())
    }

    /// Whether a history goes on where the store ends: its last segment and its last snapshot are looked at.
    pub(super) fn is_continued_by(&self, history: &History) -> Result<(), StoreError> {
        let head = self.ledger().head();
        let other =
            "this is not the history that the store holds: name its own source, or another store";
        if head > history.head() {
            let message = format!(
                "the store ends at #{head}, the source already at #{}",
                history.head()
            );
            return Err(StoreError::refused(message, other));
        }
        if history.first > head {
            let message = format!(
                "the store ends at #{head}, the source begins at #{}: what lies between would be missing",
                history.first
            );
            let hint = "`firstbad snapshot` takes its state over and records the gap";
            return Err(StoreError::refused(message, hint));
        }
        if let Some((_, last)) = self.ledger().segments.last_key_value() {
            self.holds_as(last, history, other)?;
        }
        let Some((&at, _)) = self.ledger().snapshots.last_key_value() else {
            return Ok(());
        };
        // Without a snapshot at its beginning, more and more of a state becomes known.
        let comparable = !self.format().partial_start && at >= history.first;
        if comparable && history.unseen_at(at).is_none() {
            let manifest = self.manifest(at)?;
            let of = |number: usize| history.fingerprint(number, at).map(super::Hash::from);
            let mut tables = manifest.tables.iter().enumerate();
            if tables.any(|(at, table)| !table.has_unknown() && of(at) != Some(table.fingerprint)) {
                let message =
                    format!("the source's state at #{at} is not the one that was recorded");
                return Err(StoreError::refused(message, other));
            }
        }
        Ok(())
    }

    /// Whether a history has the same transactions as a segment.
    fn holds_as(
        &self,
        stretch: &Stretch,
        history: &History,
        other: &str,
    ) -> Result<(), StoreError> {
        if history.first >= stretch.from || stretch.unseen {
            return Ok(());
        }
        let files = files_of(history, stretch, &(stretch.from..=stretch.to))?;
        let same = |(path, bytes): &(String, Vec<u8>)| {
            let live = self.ledger().files.get(path);
            live.is_some_and(|live| live.sealed.holds(bytes))
        };
        if files.iter().all(same) && files.len() == self.ledger().segment_files(stretch).count() {
            return Ok(());
        }
        // Other bytes may be the same transactions, written by another version.
        let recorded = self.transactions(stretch)?;
        let mut found = (stretch.from..=stretch.to).map(|commit| Transaction {
            commit,
            meta: history.meta(commit).cloned().unwrap_or_default(),
            changes: history.written_changes(commit),
        });
        let is_loose =
            |number: usize| self.format().partial_start || history.tables[number].has_unknown();
        let agrees = |one: &Transaction, other: &Transaction| {
            let changes = one.changes.iter().zip(&other.changes);
            one.meta == other.meta
                && one.changes.len() == other.changes.len()
                && changes
                    .into_iter()
                    .all(|(a, b)| tells(b, a, is_loose(a.table)))
        };
        let differs = recorded.iter().find(|one| match found.next() {
            Some(other) => one.commit != other.commit || !agrees(one, &other),
            None => true,
        });
        match differs {
            None => Ok(()),
            Some(one) => {
                let commit = commits(one.commit, one.commit);
                let message = format!("{commit} of the source is not the one that was recorded");
                Err(StoreError::refused(message, other))
            }
        }
    }
}

/// Whether a change says all that another one says, and nothing else but what was not known of its row: of an inserted row, or of
/// any row where cells are not known (`loose`), since a later change may have told.
fn tells(change: &Change, recorded: &Change, loose: bool) -> bool {
    let images = |all: &Option<Image>, some: &Option<Image>| match (all, some) {
        (Some(all), Some(some)) => {
            let more = all.len() == some.len() || loose || recorded.op == Op::Insert;
            more && some.iter().all(|cell| all.contains(cell))
        }
        (all, some) => all.is_none() && some.is_none(),
    };
    change.table == recorded.table
        && change.op == recorded.op
        && images(&change.before, &recorded.before)
        && images(&change.after, &recorded.after)
}

/// What distinguishes two schemas, in words.
fn schema_difference(own: &Schema, other: &Schema) -> String {
    for table in &other.tables {
        let name = table.name.short();
        let Some(known) = own.table(&table.name) else {
            return format!("the store has no table `{name}`");
        };
        for column in &table.columns {
            match known.column(&column.name) {
                None => {
                    return format!(
                        "table `{name}` of the store has no column `{}`",
                        column.name
                    );
                }
                Some(known) if known.data_type != column.data_type => {
                    return format!(
                        "column `{name}.{}` is {} in the store and {} in the source",
                        column.name, known.data_type, column.data_type
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(gone) = known
            .columns
            .iter()
            .find(|c| table.column(&c.name).is_none())
        {
            return format!("table `{name}` of the source has no column `{}`", gone.name);
        }
        if known != table {
            return format!("table `{name}` of the store has another key or other constraints");
        }
    }
    match own
        .tables
        .iter()
        .find(|table| other.table(&table.name).is_none())
    {
        Some(gone) => format!("the source has no table `{}`", gone.name.short()),
        None => "the tables of the store stand in another order".into(),
    }
}
