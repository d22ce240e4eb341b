//! Histories that begin later than at 0, and histories with gaps.

use super::*;
use crate::change::{Change, Op};
use crate::schema::{Column, DataType, Table, TableName};

fn schema() -> Schema {
    let column = |name: &str| Column {
        name: name.into(),
        data_type: DataType::Int64,
        nullable: true,
    };
    Schema {
        tables: vec![Table {
            name: TableName::parse("t"),
            columns: vec![column("id"), column("a")],
            primary_key: vec![0],
            foreign_keys: Vec::new(),
        }],
    }
}

fn row(id: i64, a: i64) -> Vec<Cell> {
    vec![Cell::Int(id), Cell::Int(a)]
}

/// What is known of a commit: one a second, ten bytes of log each.
fn meta(commit: Commit) -> TransactionMeta {
    TransactionMeta {
        lsn: Some(format!("0/{:X}", u64::from(commit) * 16)),
        time: Some(i64::from(commit) * 1_000_000),
        ..TransactionMeta::default()
    }
}

fn update(commit: Commit, a: i64) -> Transaction {
    Transaction {
        commit,
        meta: meta(commit),
        changes: vec![Change {
            table: 0,
            op: Op::Update,
            key: Some(vec![(0, Cell::Int(1))]),
            before: None,
            after: Some(vec![(1, Cell::Int(a))]),
        }],
    }
}

/// Commits #1201 to #1203 after a state at #1200, nothing of #1204 to #1208 but the state after them, #1209, and #1210 as a difference.
fn history() -> History {
    let mut history = History::beginning_at(schema(), Origin::Changes, false, 1200);
    history.base = meta(1200);
    history.load(0, &row(1, 0));
    for commit in 1201..=1203 {
        history
            .apply(&update(commit, i64::from(commit)))
            .expect("the row is there");
    }
    let state = vec![vec![row(1, 1208), row(2, 5)]];
    history
        .leap(1208, meta(1208), &state)
        .expect("the rows fit");
    history
        .apply(&update(1209, 1209))
        .expect("the row is there");
    history.skip_to(1210);
    history
        .apply(&update(1210, 1210))
        .expect("the row is there");
    history
}

fn values(history: &History, position: Commit) -> Vec<Cell> {
    let table = &history.tables[0];
    let rows = table.visible(position).into_iter();
    rows.map(|row| table.cell(1, row)).collect()
}

#[test]
fn commits_keep_their_numbers() {
    let history = history();
    assert_eq!((history.first, history.head()), (1200, 1210));
    let commits: Vec<Commit> = history.commits().map(|(commit, _)| commit).collect();
    assert_eq!(commits, [1201, 1202, 1203, 1208, 1209, 1210]);
    let gaps = [(1204, 1208), (1210, 1210)].map(|(from, to)| Gap { from, to });
    assert_eq!(history.gaps(), gaps);
    for commit in 0..=1215 {
        let known = commit == 1200 || commits.contains(&commit);
        let expected = known.then(|| meta(commit));
        assert_eq!(history.meta(commit), expected.as_ref(), "#{commit}");
        let until = commits.iter().filter(|have| **have <= commit).count();
        assert_eq!(history.commits_until(commit), until, "#{commit}");
        let now = [1200]
            .iter()
            .chain(&commits)
            .rev()
            .find(|have| **have <= commit);
        let now = now.map_or(1200, |commit| *commit);
        assert_eq!(history.now_at(commit), Some(i64::from(now) * 1_000_000));
        let hidden = (1204..1208).contains(&commit);
        assert_eq!(history.unseen_at(commit).is_some(), hidden, "#{commit}");
    }
    let rows = history.transactions_rows(&(0..=1208));
    assert_eq!(rows.num_rows(), 4);
    let rows = history.transactions_rows(&(1205..=1209));
    assert_eq!(rows.num_rows(), 2);
}

#[test]
fn states_are_those_of_their_numbers() {
    let history = history();
    assert_eq!(values(&history, 0), [Cell::Int(0)]);
    assert_eq!(values(&history, 1200), [Cell::Int(0)]);
    assert_eq!(values(&history, 1203), [Cell::Int(1203)]);
    assert_eq!(values(&history, 1208), [Cell::Int(1208), Cell::Int(5)]);
    assert_eq!(history.recorded_count(1208), 2);
    assert_eq!(values(&history, 1210), [Cell::Int(5), Cell::Int(1210)]);
}

#[test]
fn gaps_are_found() {
    let history = history();
    let [wide, narrow] = [(1204, 1208), (1210, 1210)].map(|(from, to)| Gap { from, to });
    assert_eq!(history.unseen_in(1..=1203), None);
    assert_eq!(history.unseen_in(1..=1204), Some(wide));
    assert_eq!(history.unseen_in(1208..=1210), Some(wide));
    assert_eq!(history.unseen_in(1209..=1209), None);
    assert_eq!(history.unseen_in(1209..=1215), Some(narrow));
    assert_eq!(history.unseen_in(1211..=1215), None);
    assert_eq!(history.gap_ended_by(1208), Some(wide));
    assert_eq!(history.gap_ended_by(1204), None);
    assert_eq!(history.gap_ended_by(1210), Some(narrow));
    assert_eq!(history.seen_at_or_before(1206), 1203);
    assert_eq!(history.seen_at_or_before(1208), 1208);
    assert_eq!(
        wide.to_string(),
        "commits #1204 to #1208 were not seen one by one"
    );
    assert_eq!(wide.hidden(), "commits #1204 to #1207 were not seen");
    assert_eq!(
        narrow.to_string(),
        "the writes of commit #1210 were not seen, only the state after it"
    );
}

#[test]
fn positions_before_the_first_are_refused_and_those_in_gaps_found() {
    let history = history();
    let position = |text: &str| history.resolve(text, None).map(|found| found.position);
    for early in ["#0", "#1199", "0/1", "1970-01-01T00:10:00Z", "-300s"] {
        let message = position(early).expect_err(early);
        assert!(message.contains("begins at #1200"), "{message}");
    }
    assert_eq!(history.since("#7", None), Ok(7));
    assert_eq!(position("latest"), Ok(1210));
    assert_eq!(position("#1200"), Ok(1200));
    assert_eq!(position("#1206"), Ok(1206));
    assert!(position("#1211").is_err());
    // Commit 1203 wrote at 1,203 s, commit 1208 at 1,208 s.
    assert_eq!(position("1970-01-01T00:20:03Z"), Ok(1203));
    let inside = position("1970-01-01T00:20:05Z").expect("it lies in the gap");
    assert!(history.unseen_at(inside).is_some());
    assert_eq!(position("1970-01-01T00:20:08Z"), Ok(1208));
    assert_eq!(position("1970-01-01T00:20:09.5Z"), Ok(1209));
    let inside = position(&format!("0/{:X}", 1203 * 16 + 1)).expect("it lies in the gap");
    assert!(history.unseen_at(inside).is_some());
    assert_eq!(position(&format!("0/{:X}", 1209 * 16 + 1)), Ok(1209));
}

#[test]
fn the_first_state_began_when_its_commit_did() {
    let mut history = history();
    assert_eq!(history.began(0), Some(1_200_000_000));
    assert_eq!(history.began(1200), Some(1_200_000_000));
    history.base = TransactionMeta::default();
    assert_eq!(history.began(0), Some(1_201_000_000));
    assert_eq!(history.began(1205), None);
    assert_eq!(history.meta(1200), None);
    // Without its time, what lies before the first commit cannot be told from what lies before the first state.
    assert!(history.resolve("1970-01-01T00:20:00Z", None).is_err());
}
