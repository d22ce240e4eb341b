//! One incident for one cause: stretches of several rules that the same write began, or writes of the same release within an hour of each
//! other, are one incident. The first of them gives it its number, the others are its parts.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::Write;
use super::database::Wrong;
use crate::change::Commit;

/// Writes of the same release have the same cause when they lie no further apart.
const NEAR_US: i64 = 3_600_000_000;

/// The number of the open incident that a stretch with this first bad write belongs to, and its state.
pub(super) fn of(db: &Connection, first: &str) -> Result<Option<(i64, String)>, Wrong> {
    let Some(new) = Write::from_json(first) else {
        return Ok(None);
    };
    let open = "select coalesce(part_of, number), first_bad, state from incidents \
                where state <> 'closed' and first_bad is not null order by number";
    let mut open = db.prepare(open)?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    for row in open.query_map([], read)? {
        let (root, first, state): (i64, String, String) = row?;
        let old = Write::from_json(&first);
        if old.is_some_and(|old| is_same(&old, &new)) {
            return Ok(Some((root, state)));
        }
    }
    Ok(None)
}

/// Whether two first bad writes have one cause.
fn is_same(a: &(Commit, Write), b: &(Commit, Write)) -> bool {
    // Of what is bounded nobody knows whether it was one write.
    let exact = |write: &Write| write.last_good.is_none();
    if a.0 == b.0 && exact(&a.1) && exact(&b.1) {
        return true;
    }
    let near = match (a.1.time, b.1.time) {
        (Some(a), Some(b)) => a.abs_diff(b) <= NEAR_US.unsigned_abs(),
        _ => false,
    };
    near && release(&a.1).is_some_and(|release| self::release(&b.1) == Some(release))
}

/// Who wrote: the service and its version, where both are known.
fn release(write: &Write) -> Option<(&Value, &Value)> {
    let context = write.context.as_ref()?;
    let named = |name: &str| context.get(name).filter(|value| !value.is_null());
    Some((named("service")?, named("version")?))
}

/// The incident that a stretch belongs to: itself, or the one that it is a part of.
pub(super) fn root(db: &Connection, number: i64) -> Result<i64, Wrong> {
    let root = "select coalesce(part_of, number) from incidents where number = ?";
    Ok(db.query_row(root, [number], |row| row.get(0))?)
}

/// The stretches of an incident, in the order in which they joined it.
pub(super) fn parts(db: &Connection, root: i64) -> Result<Vec<i64>, Wrong> {
    let parts = "select number from incidents where number = ?1 or part_of = ?1 order by number";
    let mut parts = db.prepare(parts)?;
    let rows = parts.query_map(params![root], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_same;
    use crate::change::Commit;
    use crate::incident::Write;

    fn write(commit: Commit, minute: i64, version: Option<&str>) -> (Commit, Write) {
        let context = version.map(|version| json!({"service": "checkout", "version": version}));
        let context = context.and_then(|context| context.as_object().cloned());
        let time = Some(minute * 60_000_000);
        (
            commit,
            Write {
                time,
                context,
                ..Write::default()
            },
        )
    }

    #[test]
    fn one_write_or_one_release_is_one_cause() {
        let first = write(7, 0, Some("v2"));
        assert!(is_same(&first, &write(7, 0, None)));
        assert!(is_same(&first, &write(8, 60, Some("v2"))));
        assert!(!is_same(&first, &write(8, 61, Some("v2"))));
        assert!(!is_same(&first, &write(8, 1, Some("v3"))));
        assert!(!is_same(&write(7, 0, None), &write(8, 0, None)));
        let mut bounded = write(7, 0, None);
        bounded.1.last_good = Some(5);
        assert!(!is_same(&first, &bounded));
        assert!(!is_same(&bounded.clone(), &bounded));
    }
}
