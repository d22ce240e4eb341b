//! The search by a command, without the command.

use std::cell::RefCell;

use std::collections::BTreeMap;
use std::path::Path;

use super::run::{Answer, search};
use super::{Candidates, Certainty, Range, locate};
use crate::change::{Transaction, TransactionMeta};
use crate::judge::{Life, Lives, Looked};
use crate::rule::file;
use crate::schema::Schema;
use crate::state::{History, Origin};

/// Searches 0 to `bad` where everything from `first` on is bad and nothing can be told of `dark`; with the positions asked for.
fn found(first: u32, bad: u32, dark: std::ops::Range<u32>) -> ((u32, u32), Vec<u32>) {
    let asked = RefCell::new(Vec::new());
    let end = search(0, bad, |at| {
        asked.borrow_mut().push(at);
        Ok::<_, ()>(match at {
            at if dark.contains(&at) => Answer::CannotTell,
            at if at >= first => Answer::Bad,
            _ => Answer::Good,
        })
    });
    (end.expect("no errors here"), asked.into_inner())
}

#[test]
fn every_first_bad_position_is_found_in_few_steps() {
    for first in 1..=200 {
        let (end, asked) = found(first, 200, 0..0);
        assert_eq!(end, (first - 1, first));
        assert!(asked.len() <= 8, "{} steps for {first}", asked.len());
    }
}

#[test]
fn what_cannot_be_told_widens_the_answer_by_no_more_than_itself() {
    for first in 1..=60 {
        for start in 1..60 {
            let dark = start..(start + 9).min(60);
            let ((good, bad), asked) = found(first, 60, dark.clone());
            let mut different = asked.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), asked.len(), "a position is asked for once");
            let hidden = |at: u32| dark.contains(&at);
            let last_good = (0..first).rev().find(|at| !hidden(*at));
            let first_bad = (first..=60).find(|at| !hidden(*at));
            assert_eq!(
                (Some(good), Some(bad)),
                (last_good, first_bad),
                "first {first}, dark {dark:?}"
            );
        }
    }
}

#[test]
fn a_long_dark_stretch_is_gone_around() {
    // Outside of it lies the answer, so it need not be felt through.
    let (end, asked) = found(9_900, 10_000, 4_000..6_000);
    assert_eq!(end, (9_899, 9_900));
    assert!(asked.len() < 60, "{} steps", asked.len());
}

#[test]
fn an_error_ends_the_search() {
    let mut steps = 0;
    let end = search(0, 100, |_| {
        steps += 1;
        Err("broken")
    });
    assert_eq!((end, steps), (Err("broken"), 1));
}

#[test]
fn an_onset_between_two_judged_states_is_bounded_by_them() {
    let (rules, _) = file::parse(
        "rules: [{id: r, table: t, not_null: c}]",
        Path::new("r.yaml"),
    );
    let schema = Schema { tables: Vec::new() };
    let mut history = History::new(schema, Origin::Changes, false);
    for commit in 1..=9 {
        let transaction = Transaction {
            commit,
            meta: TransactionMeta::default(),
            changes: Vec::new(),
        };
        history.apply(&transaction).expect("nothing changes");
    }
    let life = Life {
        key: serde_json::Map::new(),
        order: Box::default(),
        onset: 8,
        healed: None,
    };
    let lives = |vague: BTreeMap<u32, u32>| Lives {
        intervals: vec![life.clone()],
        judged_states: 3,
        judged: None,
        looked: Looked::Sampled {
            passed_over: 6,
            vague,
        },
    };
    let range = Range {
        bad: 9,
        ..Range::default()
    };
    let found = |vague| locate(&rules[0], &lives(vague), &history, &range).expect("no deadlines");
    let bounded = found(BTreeMap::from([(8, 4)]));
    assert_eq!(bounded.certainty, Some(Certainty::Bounded));
    assert_eq!(bounded.last_good.and_then(|good| good.commit), Some(4));
    assert_eq!(bounded.candidates, Some(Candidates { from: 5, to: 8 }));
    let exact = found(BTreeMap::new());
    assert_eq!(exact.certainty, Some(Certainty::Exact));
    assert_eq!(exact.last_good.and_then(|good| good.commit), Some(7));
    assert_eq!((exact.candidates, exact.sampled), (None, Some(6)));
}
