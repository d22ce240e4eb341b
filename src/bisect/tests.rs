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

/// Commits #1201 to #1220 after a state at #1200, one a minute; #1206 to #1210 were not seen one by one.
fn partial() -> History {
    let schema = Schema { tables: Vec::new() };
    let mut history = History::beginning_at(schema, Origin::Changes, false, 1200);
    let meta = |commit: u32| TransactionMeta {
        time: Some(i64::from(commit) * MINUTE),
        ..TransactionMeta::default()
    };
    history.base = meta(1200);
    for commit in (1201..=1205).chain(1211..=1220) {
        if commit == 1211 {
            history
                .leap(1210, meta(1210), &[])
                .expect("there is no row");
        }
        let transaction = Transaction {
            commit,
            meta: meta(commit),
            changes: Vec::new(),
        };
        history.apply(&transaction).expect("nothing changes");
    }
    history
}

const MINUTE: i64 = 60_000_000;

fn rule(text: &str) -> crate::rule::Rule {
    let text = format!("rules: [{{id: r, table: t, not_null: c{text}}}]");
    let (mut rules, _) = file::parse(&text, Path::new("r.yaml"));
    rules.remove(0)
}

fn seen(onset: u32, healed: Option<u32>) -> Lives {
    Lives {
        intervals: vec![Life {
            key: serde_json::Map::new(),
            order: Box::default(),
            onset,
            healed,
        }],
        judged_states: 3,
        judged: None,
        looked: Looked::Everywhere,
    }
}

#[test]
fn an_onset_at_the_end_of_a_gap_is_bounded_by_it() {
    let history = partial();
    let range = Range {
        bad: 1220,
        ..Range::default()
    };
    let found = |onset| locate(&rule(""), &seen(onset, None), &history, &range).expect("no grace");
    let bounded = found(1210);
    assert_eq!(bounded.certainty, Some(Certainty::Bounded));
    assert_eq!(bounded.last_good.and_then(|good| good.commit), Some(1205));
    let candidates = Candidates {
        from: 1206,
        to: 1210,
    };
    assert_eq!(bounded.candidates, Some(candidates));
    assert_eq!(bounded.gap, history.gap_ended_by(1210));
    let exact = found(1211);
    assert_eq!(exact.certainty, Some(Certainty::Exact));
    assert_eq!(exact.last_good.and_then(|good| good.commit), Some(1210));
    assert_eq!((exact.candidates, exact.gap), (None, None));
    let old = found(0);
    assert_eq!(old.certainty, Some(Certainty::PreExisting));
    assert_eq!(old.onsets[0].commit, 0);
}

#[test]
fn a_deadline_is_told_only_where_the_gap_says_nothing_else() {
    let history = partial();
    let verdict = |onset: u32, healed: Option<u32>, minutes: u32| {
        let range = Range {
            bad: 1220,
            ..Range::default()
        };
        let rule = rule(&format!(", within: {minutes}m"));
        let found = locate(&rule, &seen(onset, healed), &history, &range);
        match found {
            Err(reason) => {
                assert!(reason.contains("#1206 to #1210 were not seen"), "{reason}");
                "unknown"
            }
            Ok(found) if found.pending > 0 => "pending",
            Ok(found) if found.onsets.is_empty() => "healed in time",
            Ok(_) => "overdue",
        }
    };
    // It began somewhere from #1206 to #1210, and lasted.
    assert_eq!(verdict(1210, None, 9), "overdue");
    assert_eq!(verdict(1210, None, 10), "unknown");
    assert_eq!(verdict(1210, None, 14), "unknown");
    assert_eq!(verdict(1210, None, 15), "pending");
    assert_eq!(verdict(1210, Some(1212), 1), "overdue");
    assert_eq!(verdict(1210, Some(1212), 3), "unknown");
    assert_eq!(verdict(1210, Some(1212), 7), "healed in time");
    // It healed somewhere from #1206 to #1210.
    assert_eq!(verdict(1202, Some(1210), 2), "overdue");
    assert_eq!(verdict(1202, Some(1210), 3), "unknown");
    assert_eq!(verdict(1202, Some(1210), 8), "healed in time");
    // It may have healed and begun again.
    assert_eq!(verdict(1202, None, 2), "overdue");
    assert_eq!(verdict(1202, None, 3), "unknown");
    assert_eq!(verdict(1202, None, 18), "pending");
    assert_eq!(verdict(1202, Some(1214), 2), "overdue");
    assert_eq!(verdict(1202, Some(1214), 3), "unknown");
    assert_eq!(verdict(1202, Some(1214), 12), "healed in time");
    // The gap is none of its business.
    assert_eq!(verdict(1212, None, 7), "overdue");
    assert_eq!(verdict(1201, Some(1204), 3), "healed in time");
}

#[test]
fn what_began_since_a_commit_in_a_gap_is_not_known() {
    let history = partial();
    let counted = |onset: u32, healed: Option<u32>, since: u32| {
        let range = Range {
            bad: 1220,
            since,
            ..Range::default()
        };
        let found = locate(&rule(""), &seen(onset, healed), &history, &range);
        found.map(|found| found.onsets.len())
    };
    assert_eq!(counted(1210, None, 1206), Ok(1));
    assert!(counted(1210, None, 1207).is_err());
    assert_eq!(counted(1210, None, 1211), Ok(0));
    assert_eq!(counted(1202, Some(1210), 1207), Ok(0));
    assert!(counted(1202, None, 1207).is_err());
    assert_eq!(counted(1202, None, 1211), Ok(0));
    // Nor is what was bad in the first state.
    assert!(counted(0, Some(1203), 700).is_err());
    assert_eq!(counted(0, Some(1203), 1201), Ok(0));
}

#[cfg(unix)]
#[test]
fn a_command_is_not_asked_about_what_was_not_seen() {
    let history = partial();
    for (first_bad, last_good, from) in [
        (1201, 1200, None),
        (1205, 1204, None),
        (1210, 1205, Some(1206)),
        (1211, 1210, None),
        (1220, 1219, None),
    ] {
        let command = format!("test $FIRSTBAD_COMMIT -lt {first_bad}");
        let asked = RefCell::new(Vec::new());
        let mut judge = super::run::Judge::new(&history, &command);
        let told = |at, _: Answer| asked.borrow_mut().push(at);
        let found = judge.bisect(0, 1220, &told).expect("the command answers");
        let position = |at: Option<crate::verdict::At>| at.and_then(|at| at.commit);
        assert_eq!(
            position(found.first_bad.map(|first| first.at)),
            Some(first_bad)
        );
        assert_eq!(position(found.last_good), Some(last_good));
        let candidates = from.map(|from| Candidates {
            from,
            to: first_bad,
        });
        assert_eq!(found.candidates, candidates);
        let certainty = match from {
            Some(_) => Certainty::Bounded,
            None => Certainty::Exact,
        };
        assert_eq!(found.certainty, Some(certainty));
        let known = |at: &u32| history.unseen_at(*at).is_none() && *at >= 1200;
        assert!(asked.borrow().iter().all(known), "{asked:?}");
        assert_eq!(found.judged_states + found.sampled.unwrap_or(0), 17);
    }
}
