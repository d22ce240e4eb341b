//! What incidents come to, case by case.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;

pub(super) const SECOND: i64 = 1_000_000;

pub(super) fn facts(id: &str) -> RuleFacts {
    RuleFacts {
        id: id.into(),
        description: None,
        table: Some("public.t".into()),
        severity: Severity::Error,
        owner: None,
        runbook: None,
        within_us: None,
        threshold: None,
        event: false,
        key: vec!["id".into()],
        redact: Vec::new(),
        reads: vec!["public.t".into()],
        yaml: None,
        sql: None,
    }
}

/// Commits are ten seconds apart.
pub(super) fn time(commit: Commit) -> i64 {
    i64::from(commit) * 10 * SECOND
}

pub(super) fn write(commit: Commit) -> Write {
    Write {
        lsn: Some(format!("0/{commit:X}00")),
        xid: Some(700 + u64::from(commit)),
        time: Some(time(commit)),
        context: Some(Map::from_iter([("service".into(), json!("checkout"))])),
        last_good: None,
    }
}

pub(super) fn began(key: u8, onset: Commit) -> Began {
    Began {
        order: Box::new([key]),
        key: Map::from_iter([("id".into(), key.into())]),
        onset,
        write: write(onset),
    }
}

pub(super) fn healed(key: u8, at: Commit) -> Healed {
    Healed {
        order: Box::new([key]),
        at,
        write: write(at),
    }
}

pub(super) fn batch(from: Commit, until: Commit, rules: Vec<Turns>) -> Batch {
    Batch {
        from,
        until,
        now_us: Some(time(until)),
        rules,
    }
}

pub(super) fn turns(rule: &RuleFacts, began: Vec<Began>, healed: Vec<Healed>) -> Turns {
    let detail = |began: &Began| Detail {
        order: began.order.clone(),
        evidence: Map::from_iter([("total".into(), 9.into())]),
        impact: Some(format!("{}.50", began.order[0])),
    };
    Turns {
        late: false,
        rule: rule.clone(),
        details: began.iter().map(detail).collect(),
        began,
        healed,
        unknown: None,
        judged: None,
    }
}

pub(super) fn begun(directory: &Path, rules: &[Standing]) -> Incidents {
    let mut incidents = Incidents::open(directory, "db").expect("it opens");
    incidents.begin(0, Some(0), rules).expect("it begins");
    incidents
}

pub(super) fn listed(directory: &Path) -> Vec<Incident> {
    let reading = Reading::open(directory, false)
        .expect("it opens")
        .expect("it is there");
    reading.stretches().expect("it is read")
}

fn said(notices: &[Notice]) -> Vec<String> {
    let one = |notice: &Notice| {
        let id = notice.incident.as_ref().map(|incident| &incident["id"]);
        let id = id.and_then(Value::as_str).unwrap_or(&notice.rule);
        format!("{id} {}", notice.what.as_str())
    };
    notices.iter().map(one).collect()
}

struct Case {
    place: tempfile::TempDir,
    incidents: Incidents,
    rule: RuleFacts,
    at: Commit,
}

impl Case {
    fn new(rule: RuleFacts) -> Case {
        let place = tempfile::tempdir().expect("a temporary directory");
        let incidents = begun(place.path(), &[]);
        Case {
            place,
            incidents,
            rule,
            at: 0,
        }
    }

    /// One commit; says what came of it.
    fn commit(&mut self, bad: &[u8], good: &[u8]) -> Vec<String> {
        let at = self.at + 1;
        let turns = turns(
            &self.rule,
            bad.iter().map(|key| began(*key, at)).collect(),
            good.iter().map(|key| healed(*key, at)).collect(),
        );
        let notices = self.incidents.take(&batch(self.at, at, vec![turns]));
        self.at = at;
        said(&notices.expect("it is taken"))
    }

    fn list(&self) -> Vec<Incident> {
        listed(self.place.path())
    }

    fn people(&self) -> Reading {
        let reading = Reading::open(self.place.path(), true);
        reading.expect("it opens").expect("it is there")
    }
}

#[test]
fn an_incident_opens_grows_heals_and_closes() {
    let mut case = Case::new(facts("r"));
    assert!(case.commit(&[], &[]).is_empty());
    assert_eq!(case.commit(&[1], &[]), ["I-1 opened"]);
    assert_eq!(case.commit(&[2, 3], &[]), ["I-1 grew"]);
    assert_eq!(case.commit(&[], &[1, 2]), ["I-1 healed"]);
    // A key that heals while another breaks in the same commit does not end the stretch.
    assert_eq!(case.commit(&[1], &[3]), ["I-1 healed"]);
    assert_eq!(case.commit(&[], &[1]), ["I-1 healed", "I-1 closed"]);
    assert_eq!(case.commit(&[9], &[]), ["I-2 opened"]);
    let list = case.list();
    let first = &list[0];
    assert_eq!(
        (first.state, first.keys, first.bad, first.onsets),
        (State::Closed, 3, 0, 4)
    );
    assert_eq!(
        first
            .first_bad
            .as_ref()
            .map(|(commit, write)| (*commit, write.xid)),
        Some((2, Some(702)))
    );
    assert_eq!(first.impact.as_deref(), Some("7.50"));
    let document = first.document();
    assert_eq!(document["closed"]["commit"], 6);
    assert_eq!(
        document["first_bad"]["context"],
        json!({"service": "checkout"})
    );
    assert_eq!(
        document["onsets"][0],
        json!({"rule": "r", "key": {"id": 1}, "commit": 2, "healed": 4, "evidence": {"total": 9}, "impact": "1.50"})
    );
    assert_eq!(
        (list[1].id(), list[1].state, list[1].bad),
        ("I-2".into(), State::Open, 1)
    );
}

#[test]
fn what_heals_at_its_deadline_heals_in_time() {
    let mut rule = facts("r");
    rule.within_us = Some(20 * SECOND);
    let mut case = Case::new(rule);
    assert!(case.commit(&[1, 2], &[]).is_empty());
    assert!(case.commit(&[], &[]).is_empty());
    // The deadline is the time of commit 3.
    assert!(case.commit(&[], &[1]).is_empty());
    assert_eq!(
        case.incidents.next_deadline().expect("it is read"),
        Some(time(3))
    );
    assert!(case.incidents.tick(time(3)).expect("it passes").is_empty());
    let late = case.incidents.tick(time(3) + 1).expect("it passes");
    assert_eq!(said(&late), ["I-1 opened"]);
    let list = case.list();
    assert_eq!(
        (list[0].keys, list[0].overdue, list[0].opened),
        (1, Some(time(3)), Some(time(3)))
    );
    assert_eq!(list[0].first_bad.as_ref().map(|first| first.0), Some(1));
    assert_eq!(case.commit(&[], &[2]), ["I-1 healed", "I-1 closed"]);
}

#[test]
fn a_key_that_was_pending_before_the_heal_reopens_the_incident() {
    let mut rule = facts("r");
    rule.within_us = Some(20 * SECOND);
    let mut case = Case::new(rule);
    case.commit(&[1], &[]);
    case.commit(&[], &[]);
    case.commit(&[2], &[]);
    assert_eq!(
        case.commit(&[], &[1]),
        ["I-1 opened", "I-1 healed", "I-1 closed"]
    );
    // Key 2 began with commit 3, was pending at commit 4, and becomes overdue after commit 5.
    case.commit(&[], &[]);
    assert_eq!(case.commit(&[], &[]), ["I-1 reopened"]);
    let list = case.list();
    assert_eq!(
        (list.len(), list[0].state, list[0].keys, list[0].bad),
        (1, State::Open, 2, 1)
    );
    assert_eq!(list[0].first_bad.as_ref().map(|first| first.0), Some(1));
}

#[test]
fn a_threshold_tolerates_some() {
    let mut rule = facts("r");
    rule.threshold = Some(Threshold::Max(2));
    let mut case = Case::new(rule.clone());
    assert!(case.commit(&[1], &[]).is_empty());
    assert!(case.commit(&[2], &[]).is_empty());
    assert_eq!(case.commit(&[3], &[]), ["I-1 opened"]);
    // The write that made it too many.
    assert_eq!(
        case.list()[0].first_bad.as_ref().map(|first| first.0),
        Some(3)
    );
    assert_eq!(case.list()[0].keys, 3);
    assert_eq!(case.commit(&[], &[1]), ["I-1 healed", "I-1 closed"]);
    assert_eq!(case.commit(&[4], &[]), ["I-2 opened"]);
    assert_eq!(
        case.list()[1].first_bad.as_ref().map(|first| first.0),
        Some(5)
    );

    rule.threshold = Some(Threshold::MaxPercent("1.5".into()));
    assert_eq!(
        (
            rule.limit(1000),
            rule.limit(0),
            rule.limit(66),
            rule.limit(67)
        ),
        (15, 0, 0, 1)
    );
    assert_eq!(rule.limit(u64::MAX / 2), u64::MAX / 2 / 1000 * 15 + 12);
}

#[test]
fn events_join_until_somebody_closes() {
    let mut rule = facts("r");
    rule.event = true;
    let mut case = Case::new(rule);
    assert_eq!(case.commit(&[1], &[]), ["I-1 opened"]);
    assert_eq!(case.commit(&[1, 2], &[]), ["I-1 grew"]);
    assert!(
        case.incidents
            .open_keys("r")
            .expect("it is read")
            .is_empty()
    );
    let me = Person {
        by: Some("ann".into()),
        note: None,
        time: Some(time(2)),
    };
    assert_eq!(
        case.people().close("I-1", &me).expect("it is written"),
        Touched::Done
    );
    assert_eq!(
        case.people().close("i-1", &me).expect("it is written"),
        Touched::Already
    );
    assert_eq!(
        case.people()
            .acknowledge("I-1", &me)
            .expect("it is written"),
        Touched::IsClosed
    );
    for odd in [
        "I-2",
        "I-",
        "1",
        "I-01",
        "I-+1",
        "I-99999999999999999999",
        "I-1 ",
    ] {
        assert_eq!(
            case.people().close(odd, &me).expect("it is read"),
            Touched::Unknown,
            "{odd}"
        );
    }
    assert_eq!(case.commit(&[2], &[]), ["I-2 opened"]);
    let list = case.list();
    assert_eq!(
        (list[0].keys, list[0].onsets, list[0].state),
        (2, 3, State::Closed)
    );
    assert_eq!(list[0].first_keys[0].times, Some(2));
    assert_eq!(
        (list[1].keys, list[1].onsets, list[1].state),
        (1, 1, State::Open)
    );
}

#[test]
fn what_a_person_closed_stays_closed() {
    let mut case = Case::new(facts("r"));
    case.commit(&[1], &[]);
    let me = Person::default();
    assert_eq!(
        case.people()
            .acknowledge("I-1", &me)
            .expect("it is written"),
        Touched::Done
    );
    assert_eq!(case.list()[0].state, State::Acknowledged);
    assert_eq!(case.commit(&[2], &[]), ["I-1 grew"]);
    assert_eq!(case.list()[0].state, State::Acknowledged);
    assert_eq!(
        case.people().close("I-1", &me).expect("it is written"),
        Touched::Done
    );
    assert!(case.commit(&[3], &[1]).is_empty());
    assert_eq!(
        (case.list()[0].keys, case.list()[0].state),
        (3, State::Closed)
    );
    assert!(case.commit(&[], &[2, 3]).is_empty());
    assert_eq!(case.commit(&[1], &[]), ["I-2 opened"]);
    let all = case.incidents.unprinted(100).expect("they are read");
    assert_eq!(
        said(&all),
        [
            "I-1 opened",
            "I-1 acknowledged",
            "I-1 grew",
            "I-1 closed",
            "I-2 opened"
        ]
    );
    assert_eq!(
        all.iter().map(|notice| notice.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    case.incidents.printed(4).expect("it is written");
    assert_eq!(
        case.incidents.unprinted(100).expect("they are read"),
        all[4..]
    );
}

#[test]
fn what_was_bad_before_is_blamed_on_nobody() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let rule = facts("r");
    let key = |key: u8| {
        (
            Box::from([key]),
            Map::from_iter([("id".into(), key.into())]),
        )
    };
    let standing = Standing {
        rule: rule.clone(),
        keys: vec![key(1), key(2)],
        unnamed: 1,
        details: Vec::new(),
        unknown: None,
        judged: None,
    };
    let mut incidents = Incidents::open(place.path(), "db").expect("it opens");
    let told = incidents
        .begin(0, Some(0), std::slice::from_ref(&standing))
        .expect("it begins");
    assert_eq!(said(&told), ["I-1 opened"]);
    assert!(
        incidents
            .begin(0, Some(0), &[standing])
            .expect("it begins")
            .is_empty()
    );
    let mut take = |at: Commit, bad: Vec<Began>, good: Vec<Healed>| {
        let notices = incidents.take(&batch(at - 1, at, vec![turns(&rule, bad, good)]));
        said(&notices.expect("it is taken"))
    };
    assert_eq!(
        take(1, vec![began(7, 1)], vec![healed(1, 1)]),
        ["I-1 healed", "I-2 opened"]
    );
    let list = listed(place.path());
    assert_eq!(
        (list[0].certainty().as_str(), list[0].keys, list[0].bad),
        ("pre_existing", 3, 2)
    );
    assert_eq!(list[0].document()["first_bad"], Value::Null);
    assert_eq!(
        (list[1].certainty().as_str(), list[1].keys, list[1].bad),
        ("exact", 1, 1)
    );
    // The third was never named.
    assert_eq!(
        take(2, vec![], vec![healed(2, 2), healed(99, 2)]),
        ["I-1 healed", "I-1 closed"]
    );
    assert_eq!(
        take(3, vec![], vec![healed(7, 3)]),
        ["I-2 healed", "I-2 closed"]
    );
}

#[test]
fn batches_that_come_again_change_nothing_and_gaps_are_said() {
    let mut case = Case::new(facts("r"));
    let rule = case.rule.clone();
    let whole = batch(
        0,
        4,
        vec![turns(
            &rule,
            vec![began(1, 2), began(2, 4)],
            vec![healed(1, 3)],
        )],
    );
    let first = batch(0, 2, vec![turns(&rule, vec![began(1, 2)], vec![])]);
    assert_eq!(
        said(&case.incidents.take(&first).expect("it is taken")),
        ["I-1 opened"]
    );
    assert!(case.incidents.take(&first).expect("it is taken").is_empty());
    let more = case.incidents.take(&whole).expect("it is taken");
    assert_eq!(said(&more), ["I-1 healed", "I-1 closed", "I-2 opened"]);
    assert!(case.incidents.take(&whole).expect("it is taken").is_empty());
    let later = batch(6, 7, vec![]);
    let error = case
        .incidents
        .take(&later)
        .expect_err("commits are missing");
    assert_eq!(
        error.to_string(),
        "commits #5 to #6 were not judged, and nobody said why"
    );
    case.incidents
        .gap(5, 6, "the slot was lost")
        .expect("it is written");
    case.incidents.take(&later).expect("it is taken");
    assert_eq!(case.incidents.judged().expect("it is read"), Some(7));
    let open = case.incidents.open_keys("r").expect("it is read");
    assert_eq!(
        open.iter()
            .map(|key| (key.order[0], key.onset))
            .collect::<Vec<_>>(),
        [(2, 4)]
    );
}

#[test]
fn an_unknown_rule_is_said_once() {
    let mut case = Case::new(facts("r"));
    let unknown = |reason: Option<&str>| Turns {
        unknown: reason.map(str::to_owned),
        ..turns(&facts("r"), vec![], vec![])
    };
    let mut take = |at, reason| {
        said(
            &case
                .incidents
                .take(&batch(at - 1, at, vec![unknown(reason)]))
                .expect("it is taken"),
        )
    };
    assert!(take(1, None).is_empty());
    assert_eq!(take(2, Some("too slow")), ["r unknown"]);
    assert!(take(3, Some("too slow")).is_empty());
    assert_eq!(take(4, None), ["r known"]);
    let verdicts = case.incidents.verdicts().expect("it is read");
    assert_eq!(
        (verdicts[0].verdict.as_str(), &verdicts[0].reason),
        ("held", &None)
    );
}

#[test]
fn a_file_of_another_source_or_version_or_none_at_all_is_told() {
    let place = tempfile::tempdir().expect("a temporary directory");
    assert!(
        Reading::open(place.path(), false)
            .expect("nothing is there")
            .is_none()
    );
    drop(begun(place.path(), &[]));
    let error = Incidents::open(place.path(), "other").expect_err("it is another's");
    assert!(matches!(error, IncidentError::Foreign { .. }), "{error}");
    let path = place.path().join(DATABASE);
    let db = rusqlite::Connection::open(&path).expect("it opens");
    db.pragma_update(None, "user_version", 99)
        .expect("it is written");
    drop(db);
    let error = Incidents::open(place.path(), "db").expect_err("it is newer");
    assert!(matches!(error, IncidentError::Newer { .. }), "{error}");
    std::fs::write(&path, "no database at all, but long enough to be looked at")
        .expect("it is written");
    assert!(Incidents::open(place.path(), "db").is_err());
    assert!(Reading::open(place.path(), false).is_err());
}

#[test]
fn redacted_columns_stay_inside() {
    let mut rule = facts("r");
    rule.redact = vec!["id".into()];
    let mut case = Case::new(rule);
    case.commit(&[200], &[]);
    let notices = case.incidents.unprinted(9).expect("they are read");
    let shown = Value::Object(notices[0].document()).to_string() + &format!("{:?}", case.list());
    assert!(
        shown.contains("redacted:") && !shown.contains("\"id\":200"),
        "{shown}"
    );
    let open = case.incidents.open_keys("r").expect("it is read");
    assert_eq!(open[0].key["id"], 200);
}

#[test]
fn more_keys_than_are_kept_are_counted() {
    let wide = |key: u64, at: Commit| Began {
        order: Box::new(key.to_be_bytes()),
        ..began(0, at)
    };
    let well = |key: u64, at: Commit| Healed {
        order: Box::new(key.to_be_bytes()),
        ..healed(0, at)
    };
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut incidents = begun(place.path(), &[]);
    let rule = facts("r");
    let mut take = |at: Commit, bad: Vec<Began>, good: Vec<Healed>| {
        let turns = turns(&rule, bad, good);
        let notices = incidents.take(&batch(at - 1, at, vec![turns]));
        let notices = notices.expect("it is taken");
        let open = incidents.open_keys("r").expect("it is read").len() as u64;
        (said(&notices), open)
    };
    let all = OPEN_MAX + 5;
    let (told, open) = take(1, (0..all).map(|key| wide(key, 1)).collect(), vec![]);
    assert_eq!((told, open), (vec!["I-1 opened".to_owned()], OPEN_MAX));
    let one = listed(place.path()).remove(0);
    assert_eq!((one.keys, one.bad, one.incomplete), (all, all, true));
    // Those that were not kept heal first: they have no name.
    let (told, _) = take(2, vec![], (OPEN_MAX..all).map(|key| well(key, 2)).collect());
    assert_eq!(told, ["I-1 healed"]);
    assert_eq!(listed(place.path()).remove(0).bad, OPEN_MAX);
    let (told, open) = take(3, vec![], (0..OPEN_MAX).map(|key| well(key, 3)).collect());
    assert_eq!((told.len(), open), (2, 0));
    let one = listed(place.path()).remove(0);
    assert_eq!((one.state, one.keys, one.bad), (State::Closed, all, 0));

    let event = RuleFacts {
        event: true,
        ..facts("e")
    };
    let many = (0..KEPT_MAX + 50).map(|key| wide(key, 4)).collect();
    incidents
        .take(&batch(3, 4, vec![turns(&event, many, vec![])]))
        .expect("it is taken");
    let one = listed(place.path()).remove(1);
    assert_eq!((one.onsets, one.keys), (KEPT_MAX + 50, KEPT_MAX + 50));
    let reading = Reading::open(place.path(), false).expect("it opens");
    let shown = reading.expect("it is there").show("I-2");
    let (_, keys, _) = shown.expect("it is read").expect("it is there");
    assert_eq!(keys.len() as u64, KEPT_MAX);
}
