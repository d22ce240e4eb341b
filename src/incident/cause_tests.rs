//! One incident for one cause, of several rules.

use serde_json::json;

use super::tests::{batch, began, begun, facts, healed, turns};
use super::{Person, Reading, State, Touched, What};
use crate::change::Commit;

/// Rules `a` and `b` at a commit: the keys of each that break and heal.
struct Play {
    place: tempfile::TempDir,
    incidents: super::Incidents,
    at: Commit,
}

type Keys<'a> = (&'a [u8], &'a [u8]);

impl Play {
    fn new() -> Play {
        let place = tempfile::tempdir().expect("a temporary directory");
        let incidents = begun(place.path(), &[]);
        Play {
            place,
            incidents,
            at: 0,
        }
    }

    fn commit(&mut self, a: Keys<'_>, b: Keys<'_>) -> Vec<String> {
        let at = self.at + 1;
        let turns = [("a", a), ("b", b)].map(|(rule, (bad, good))| {
            turns(
                &facts(rule),
                bad.iter().map(|key| began(*key, at)).collect(),
                good.iter().map(|key| healed(*key, at)).collect(),
            )
        });
        let notices = self.incidents.take(&batch(self.at, at, turns.into()));
        self.at = at;
        let said = |notice: super::Notice| {
            let incident = notice.incident.as_ref().expect("all are about incidents");
            let id = incident["id"].as_str().unwrap_or_default().to_owned();
            format!("{id} {} {}", notice.rule, notice.what.as_str())
        };
        notices
            .expect("it is taken")
            .into_iter()
            .map(said)
            .collect()
    }

    fn people(&self) -> Reading {
        let reading = Reading::open(self.place.path(), true);
        reading.expect("it opens").expect("it is there")
    }
}

#[test]
fn rules_that_one_write_broke_are_one_incident() {
    let mut play = Play::new();
    let said = play.commit((&[1], &[]), (&[1, 2], &[]));
    assert_eq!(said, ["I-1 a opened", "I-1 b joined"]);
    let list = play.people().list(false, None).expect("it is read");
    let [one] = list.as_slice() else {
        panic!("one incident");
    };
    let document = one.document();
    assert_eq!(document["rules"], json!(["a", "b"]));
    assert_eq!((one.keys, one.bad, one.onsets), (3, 3, 3));
    assert_eq!(document["impact"], "5.50");
    // Found by either rule, shown by either number.
    for (rule, id) in [("a", "I-1"), ("b", "I-2")] {
        let people = play.people();
        let listed = people.list(false, Some(rule)).expect("it is read");
        assert_eq!(listed.len(), 1);
        let (shown, keys, _) = people.show(id).expect("it is read").expect("it is there");
        assert_eq!((shown.id(), keys.len()), ("I-1".to_owned(), 3));
    }
    // It is over when all its rules hold again, and begins again as a whole.
    assert_eq!(play.commit((&[], &[1]), (&[], &[])), ["I-1 a healed"]);
    let said = play.commit((&[], &[]), (&[], &[1, 2]));
    assert_eq!(said, ["I-1 b healed", "I-1 b closed"]);
    assert!(
        play.people()
            .list(false, None)
            .expect("it is read")
            .is_empty()
    );
    let said = play.commit((&[], &[]), (&[3], &[]));
    assert_eq!(said, ["I-3 b opened"]);
}

#[test]
fn other_writes_are_other_incidents() {
    let mut play = Play::new();
    assert_eq!(play.commit((&[1], &[]), (&[], &[])), ["I-1 a opened"]);
    assert_eq!(play.commit((&[], &[]), (&[1], &[])), ["I-2 b opened"]);
    assert_eq!(
        play.people().list(false, None).expect("it is read").len(),
        2
    );
}

#[test]
fn an_incident_is_taken_care_of_as_a_whole() {
    let mut play = Play::new();
    play.commit((&[1], &[]), (&[1], &[]));
    let ann = Person {
        by: Some("ann".into()),
        ..Person::default()
    };
    let mut people = play.people();
    let states = |people: &Reading| -> Vec<State> {
        let all = people.stretches().expect("they are read");
        all.iter().map(|stretch| stretch.state).collect()
    };
    for (to, is) in [
        (State::Quarantined, State::Quarantined),
        (State::Open, State::Open),
        (State::Acknowledged, State::Acknowledged),
        (State::Repaired, State::Repaired),
        // Who took care of it does so still.
        (State::Open, State::Acknowledged),
    ] {
        assert_eq!(
            people.mark("I-1", to, &ann).expect("it is kept"),
            Touched::Done
        );
        assert_eq!(states(&people), [is, is]);
    }
    assert_eq!(people.mute("I-2", 77).expect("it is kept"), Touched::Done);
    let (shown, _, notices) = people
        .show("I-1")
        .expect("it is read")
        .expect("it is there");
    assert_eq!((shown.muted, shown.marked), (Some(77), Some(ann.clone())));
    let said: Vec<&What> = notices.iter().map(|notice| &notice.what).collect();
    assert_eq!(
        said[2..],
        [
            &What::Quarantined,
            &What::Released,
            &What::Acknowledged,
            &What::Repaired,
            &What::Released
        ]
    );
    assert_eq!(
        people.close("I-1", &ann).expect("it is kept"),
        Touched::Done
    );
    assert_eq!(states(&people), [State::Closed; 2]);
    let mark = people.mark("I-1", State::Repaired, &ann);
    assert_eq!(mark.expect("it is read"), Touched::IsClosed);
}
