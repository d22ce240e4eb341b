//! The shop goes into a store and comes out the same.

use std::path::Path;
use std::sync::Arc;

use firstbad::source;
use firstbad::state::History;
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::verify::{Options, verify};
use firstbad::store::{Format, Kind, Sealing, Store, Writer};

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
