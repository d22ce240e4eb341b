//! What an insert left out and a later change tells: the source's past becomes better known while it grows, the store's does not.

use std::path::Path;
use std::sync::Arc;

use firstbad::change::{Cell, Change, Image, Op, Transaction, TransactionMeta};
use firstbad::schema::ddl;
use firstbad::state::{History, Origin};
use firstbad::store::disk::{Disk, Memory};
use firstbad::store::verify::{Options, verify};
use firstbad::store::{Format, Kind, Sealing, Store, Writer};

const SCHEMA: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, status text, total bigint);
CREATE TABLE notes (order_id bigint, note text);
";

/// The changes of each commit: table, operation, images before and after.
type Step = (usize, Op, Option<Image>, Option<Image>);

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

fn steps() -> Vec<Step> {
    let int = Cell::Int;
    vec![
        // Nobody says what the total is, nor the note.
        (
            0,
            Op::Insert,
            None,
            Some(vec![(0, int(1)), (1, text("placed"))]),
        ),
        (1, Op::Insert, None, Some(vec![(0, int(1))])),
        (
            0,
            Op::Update,
            Some(vec![(0, int(1))]),
            Some(vec![(1, text("paid"))]),
        ),
        // Here they are told.
        (
            0,
            Op::Update,
            Some(vec![(0, int(1)), (2, int(500))]),
            Some(vec![(2, int(600))]),
        ),
        (
            1,
            Op::Update,
            Some(vec![(0, int(1))]),
            Some(vec![(1, text("urgent"))]),
        ),
        (
            0,
            Op::Insert,
            None,
            Some(vec![(0, int(2)), (1, text("paid")), (2, int(7))]),
        ),
    ]
}

/// The history as far as so many commits.
fn source(commits: usize) -> History {
    let (schema, wrong) = ddl::parse(SCHEMA, Path::new("schema.sql"));
    assert!(wrong.is_empty(), "{wrong:?}");
    let mut history = History::new(schema, Origin::Changes, false);
    for (commit, (table, op, before, after)) in (1..).zip(steps().into_iter().take(commits)) {
        let change = Change {
            table,
            op,
            key: None,
            before,
            after,
        };
        let transaction = Transaction {
            commit,
            meta: TransactionMeta::default(),
            changes: vec![change],
        };
        history.apply(&transaction).expect("the changes fit");
    }
    history
}

#[test]
fn a_source_whose_past_becomes_known_goes_on_and_its_store_stays_intact() {
    let all = steps().len();
    for parts in [vec![all], vec![1, 2, 3, 4, 5, 6], vec![2, 4, 6], vec![3, 6]] {
        let disk: Arc<dyn Disk> = Arc::new(Memory::new());
        let sealing = Sealing {
            changes_max: 1,
            snapshot_every: 1,
            ..Sealing::default()
        };
        for &commits in &parts {
            let history = source(commits);
            let format = || Format::new("orders", Kind::Changes, history.schema.clone(), false);
            let mut writer = Writer::on(Arc::clone(&disk), format).expect("it opens");
            let recorded = writer.record(&history, sealing, &|_| {});
            recorded.unwrap_or_else(|error| panic!("{parts:?}, {commits} commits: {error}"));
        }
        let options = Options {
            since: None,
            head: None,
            prove: true,
        };
        let report = verify(&disk, &options, &|_, _, _| {}).expect("it is read");
        assert_eq!(report.damage, [], "{parts:?}");
        let store = Store::on(disk).expect("it opens");
        let back = store.history().expect("it is whole");
        let (whole, head) = (source(all), all as u32);
        assert_eq!(back.state_fingerprint(head), whole.state_fingerprint(head));
    }
}

#[test]
fn a_source_that_says_something_else_is_refused_all_the_same() {
    let disk: Arc<dyn Disk> = Arc::new(Memory::new());
    let first = source(3);
    let format = || Format::new("orders", Kind::Changes, first.schema.clone(), false);
    let mut writer = Writer::on(Arc::clone(&disk), format).expect("it opens");
    let recorded = writer.record(&first, Sealing::default(), &|_| {});
    recorded.expect("it is recorded");
    let (schema, _) = ddl::parse(SCHEMA, Path::new("schema.sql"));
    let mut other = History::new(schema, Origin::Changes, false);
    for (commit, (table, op, before, after)) in (1..).zip(steps().into_iter().take(3)) {
        let after = after.map(|mut image| {
            if commit == 3 {
                image[0].1 = text("shipped");
            }
            image
        });
        let change = Change {
            table,
            op,
            key: None,
            before,
            after,
        };
        let transaction = Transaction {
            commit,
            meta: TransactionMeta::default(),
            changes: vec![change],
        };
        other.apply(&transaction).expect("the changes fit");
    }
    let refused = writer.record(&other, Sealing::default(), &|_| {});
    let refused = refused.expect_err("commit 3 is another one").to_string();
    assert!(refused.contains("commit #3"), "{refused}");
}
