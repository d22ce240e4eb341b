//! The shop goes into a store and comes out the same.

use std::path::Path;
use std::sync::Arc;

use firstbad::change::{Cell, Change, Op};
use firstbad::source;
use firstbad::state::History;
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::verify::{Options, verify};
use firstbad::store::{Format, Kind, NextSegment, Sealing, Store, Writer};

pub(crate) fn shop() -> History {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/shop");
    let arguments = [path.display().to_string()];
    source::open(&arguments).expect("the shop opens").history
}

pub(crate) fn format_of(history: &History, chunk_level: u8) -> Format {
    let kind = Kind::of(history.origin);
    let mut format = Format::new("shop", kind, history.schema.clone(), false);
    format.chunk_level = chunk_level;
    format
}

#[test]
fn the_shop_goes_in_and_comes_out() {
    let history = shop();
    let disk: Arc<dyn Disk> = Arc::new(Memory::new());
    let mut writer =
        Writer::on(Arc::clone(&disk), || format_of(&history, 1)).expect("an empty disk");
    let sealing = Sealing {
        changes_max: 3_000,
        snapshot_every: 7_000,
        ..Sealing::default()
    };
    let recorded = writer
        .record(&history, sealing, &|_| {})
        .expect("it is recorded");
    drop(writer);
    println!("{recorded:?}");
    let store = Store::on(Arc::clone(&disk)).expect("it opens");
    assert_eq!(store.ledger().head(), history.head());
    let back = store.history().expect("it is whole");
    assert_eq!(back.transactions, history.transactions);
    for position in [0, 1, 500, history.head()] {
        assert_eq!(
            back.state_fingerprint(position),
            history.state_fingerprint(position)
        );
    }
    for commit in 1..=history.head() {
        assert_eq!(back.recorded(commit, 99), history.recorded(commit, 99));
    }
    for (&at, kept) in &store.ledger().snapshots {
        let found = history
            .state_fingerprint(at)
            .map(firstbad::store::Hash::from);
        assert_eq!(found, Some(kept.fingerprint), "#{at}");
        let near = store.history_of(at..=at).expect("it is whole");
        assert_eq!(near.state_fingerprint(at), history.state_fingerprint(at));
    }
    let options = Options {
        since: None,
        head: Some(store.chain().head()),
        prove: true,
    };
    let report = verify(&disk, &options, &|_, _, _| {}).expect("it is read");
    println!("{report:?}");
    assert_eq!(report.damage, []);
    assert_eq!(report.proved, store.ledger().snapshots.len() as u64);
}

/// What a server sends of a recorded change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// The old key where it changed, and the new row.
    Keys,
    /// The same without what an update left alone, as with large values.
    Changed,
    /// The old row and the new one.
    Rows,
}

fn sent(history: &History, mut change: Change, how: Sent) -> Change {
    let key = &history.schema.tables[change.table].primary_key;
    if how == Sent::Rows || key.is_empty() {
        change.key = None;
        return change;
    }
    let before = change.before.take();
    if let (Op::Update, Some(before), Some(after)) = (change.op, &before, &mut change.after) {
        let is_same = |cell: &(usize, Cell)| before.contains(cell);
        if how == Sent::Changed {
            after.retain(|cell| key.contains(&cell.0) || !is_same(cell));
        }
        let moved = |cell: &(usize, Cell)| key.contains(&cell.0) && !is_same(cell);
        if !after.iter().any(moved) {
            change.key = None;
        }
    }
    change
}

#[test]
fn what_a_watcher_records_is_what_was_sent() {
    let history = shop();
    for how in [Sent::Keys, Sent::Changed, Sent::Rows] {
        let disk: Arc<dyn Disk> = Arc::new(Memory::new());
        let mut writer =
            Writer::on(Arc::clone(&disk), || format_of(&history, 1)).expect("an empty disk");
        writer
            .add(&history, 0, Default::default())
            .expect("it begins");
        let mut segment = NextSegment::after(history.schema.clone(), 0);
        for commit in 1..=history.head() {
            for (at, change) in history.recorded(commit, usize::MAX).into_iter().enumerate() {
                let change = sent(&history, change, how);
                segment.change(at, &change);
            }
            segment.commit(history.meta(commit).expect("it was seen").clone());
            if commit % 700 == 0 || commit == history.head() {
                assert_eq!(segment.head(), commit);
                let next = NextSegment::after(history.schema.clone(), commit);
                let recorded = writer.append(std::mem::replace(&mut segment, next));
                assert!(recorded.expect("it is sealed").changes > 0);
            }
        }
        let nothing = writer.append(segment).expect("nothing to do");
        assert_eq!(nothing.segments, 0);
        drop(writer);
        let store = Store::on(Arc::clone(&disk)).expect("it opens");
        let back = store.history().expect("it is whole");
        assert_eq!(back.transactions, history.transactions);
        for commit in 1..=history.head() {
            assert_eq!(
                back.recorded(commit, 99),
                history.recorded(commit, 99),
                "{how:?} #{commit}"
            );
        }
        let (own, other) = (
            back.state_fingerprint(back.head()),
            history.state_fingerprint(history.head()),
        );
        assert_eq!(own, other);
        let options = Options {
            since: None,
            head: Some(store.chain().head()),
            prove: true,
        };
        let report = verify(&disk, &options, &|_, _, _| {}).expect("it is read");
        assert_eq!(report.damage, []);
    }
}
