//! The picture of an incident's course: how many keys were bad when, the first bad write, heals, releases and gaps.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::{counted, grouped, shown_cut};
use crate::change::Commit;
use crate::evidence::Bundle;
use crate::schema::value::format_timestamp;

/// The picture's measures, and those of the field in which the course is drawn.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 936.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 214.0;
/// The least distance of two names of releases on a line, and how many lines there are.
const NAME_WIDTH: f64 = 120.0;
const NAME_LINES: usize = 3;
/// The most releases, heals and gaps that are drawn.
const MARKS: usize = 200;
/// How many positions are named below.
const TICKS: u32 = 4;

/// From commits to the picture's width.
struct Scale<'a> {
    bundle: &'a Bundle,
    /// By time where every commit that matters has one; else by commit.
    by_time: bool,
    from: i64,
    to: i64,
}

impl Scale<'_> {
    fn of(bundle: &Bundle) -> Option<Scale<'_>> {
        let course = bundle.course.iter().map(|one| (one.commit, one.time));
        let near = bundle
            .neighbours
            .iter()
            .map(|one| (one.at.commit, one.at.meta.time));
        let near = near.filter_map(|(commit, time)| Some((commit?, time)));
        let head = bundle
            .head
            .commit
            .map(|commit| (commit, bundle.head.meta.time));
        let places: Vec<(Commit, Option<i64>)> = course.chain(near).chain(head).collect();
        let by_time = places.iter().all(|(_, time)| time.is_some());
        let place = |(commit, time): &(Commit, Option<i64>)| match time {
            Some(time) if by_time => *time,
            _ => i64::from(*commit),
        };
        let from = places.iter().map(place).min()?;
        let to = places.iter().map(place).max()?;
        Some(Scale {
            bundle,
            by_time,
            from,
            to: to.max(from.saturating_add(1)),
        })
    }

    /// Where a commit stands; None where it lies outside, or has no time.
    fn x(&self, commit: Commit, time: Option<i64>) -> Option<f64> {
        let place = match self.by_time {
            true => time?,
            false => i64::from(commit),
        };
        let inside = (self.from..=self.to).contains(&place);
        inside.then(|| {
            let share = (place - self.from) as f64 / (self.to - self.from) as f64;
            LEFT + share * (RIGHT - LEFT)
        })
    }

    /// Where a commit stands of which only the number is known: at the next commit that has a place.
    fn x_near(&self, commit: Commit) -> f64 {
        if !self.by_time {
            let commit = commit.clamp(
                Commit::try_from(self.from).unwrap_or(0),
                Commit::try_from(self.to).unwrap_or(Commit::MAX),
            );
            return self.x(commit, None).unwrap_or(LEFT);
        }
        let course = self.bundle.course.iter().map(|one| (one.commit, one.time));
        let near = self
            .bundle
            .neighbours
            .iter()
            .map(|one| (one.at.commit.unwrap_or(0), one.at.meta.time));
        let later = course.chain(near).filter(|(at, _)| *at >= commit);
        let next = later.min_by_key(|(at, _)| *at);
        next.and_then(|(at, time)| self.x(at, time))
            .unwrap_or(RIGHT)
    }

    fn name(&self, place: i64) -> String {
        match self.by_time {
            true => format_timestamp(place).replace('T', " "),
            false => format!("#{place}"),
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// What the template draws; null where nothing is known of the course.
pub(super) fn picture(bundle: &Bundle, first_bad: Option<(Commit, String)>) -> Value {
    let Some(scale) = Scale::of(bundle).filter(|_| !bundle.course.is_empty()) else {
        return Value::Null;
    };
    let most = bundle
        .course
        .iter()
        .map(|one| one.bad)
        .max()
        .unwrap_or(0)
        .max(1);
    let y = |bad: u64| BOTTOM - (bad as f64 / most as f64) * (BOTTOM - TOP);
    let (line, area) = steps(&scale, &y);
    let first = first_bad.as_ref().map(|(commit, name)| {
        let moment = bundle.neighbours.iter().find(|one| one.is_first_bad);
        let x = scale.x(*commit, moment.and_then(|one| one.at.meta.time));
        let x = x.unwrap_or_else(|| scale.x_near(*commit));
        let anchor = if x > (LEFT + RIGHT) / 2.0 {
            "end"
        } else {
            "start"
        };
        json!({"x": round(x), "name": name, "anchor": anchor})
    });
    let heals = bundle
        .course
        .iter()
        .filter(|one| one.healed > 0)
        .take(MARKS);
    let heals = heals.filter_map(|one| {
        let x = scale.x(one.commit, one.time)?;
        let name = format!("#{} healed {}", one.commit, counted(one.healed, "key"));
        Some(json!({"x": round(x), "y": round(y(one.bad)), "name": name}))
    });
    let ticks = (0..=TICKS).map(|at| {
        let share = f64::from(at) / f64::from(TICKS);
        let place = scale.from + ((scale.to - scale.from) as f64 * share) as i64;
        let anchor = match at {
            0 => "start",
            TICKS => "end",
            _ => "middle",
        };
        json!({"x": round(LEFT + share * (RIGHT - LEFT)), "name": scale.name(place), "anchor": anchor})
    });
    json!({
        "width": WIDTH, "height": HEIGHT,
        "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM,
        "most": grouped(most),
        "line": line,
        "area": area,
        "first": first,
        "heals": heals.collect::<Vec<_>>(),
        "releases": releases(&scale),
        "gaps": gaps(&scale),
        "ticks": ticks.collect::<Vec<_>>(),
        "told": told(bundle, &scale, most),
    })
}

/// The line of the course and the area below it.
fn steps(scale: &Scale<'_>, y: &dyn Fn(u64) -> f64) -> (String, String) {
    let mut line = format!("M{LEFT} {BOTTOM}");
    let mut last = BOTTOM;
    for moment in &scale.bundle.course {
        let Some(x) = scale.x(moment.commit, moment.time) else {
            continue;
        };
        last = y(moment.bad);
        let _ = write!(line, "H{}V{}", round(x), round(last));
    }
    let _ = write!(line, "H{RIGHT}");
    let area = format!("{line}V{BOTTOM}Z");
    debug_assert!(last <= BOTTOM, "the course stays in its field");
    (line, area)
}

/// Releases in the field; names are left off where they would cover each other.
fn releases(scale: &Scale<'_>) -> Vec<Value> {
    let mut ends = [f64::NEG_INFINITY; NAME_LINES];
    let mut out = Vec::new();
    for release in scale
        .bundle
        .releases
        .iter()
        .filter(|release| release.before.is_some())
    {
        let at = release.at.commit.unwrap_or(0);
        let Some(x) = scale.x(at, release.at.meta.time) else {
            continue;
        };
        let line = ends
            .iter()
            .position(|end| x > *end && x + NAME_WIDTH < WIDTH);
        if let Some(line) = line {
            ends[line] = x + NAME_WIDTH;
        }
        let name = format!("{} {}", release.service, release.version);
        out.push(json!({
            "x": round(x),
            "y": line.map(|line| 12.0 + 13.0 * line as f64),
            "name": shown_cut(name.trim(), 20),
            "title": format!("#{at}: {} → {}", shown_cut(release.before.as_deref().unwrap_or(""), 60), shown_cut(name.trim(), 120)),
        }));
        if out.len() == MARKS {
            break;
        }
    }
    out
}

fn gaps(scale: &Scale<'_>) -> Vec<Value> {
    let gaps = scale.bundle.proof.gaps.iter().take(MARKS);
    let drawn = gaps.filter_map(|gap| {
        let (from, to) = (scale.x_near(gap.before()), scale.x_near(gap.to));
        (to > from)
            .then(|| json!({"x": round(from), "width": round(to - from), "name": gap.to_string()}))
    });
    drawn.collect()
}

/// The picture in words.
fn told(bundle: &Bundle, scale: &Scale<'_>, most: u64) -> String {
    let last = bundle.course.last().map_or(0, |one| one.bad);
    format!(
        "From {} to {}: at most {} bad at once, {} at the end; {}, {}.",
        scale.name(scale.from),
        scale.name(scale.to),
        grouped(most),
        grouped(last),
        counted(
            bundle
                .releases
                .iter()
                .filter(|one| one.before.is_some())
                .count() as u64,
            "release"
        ),
        counted(bundle.proof.gaps.len() as u64, "gap"),
    )
}
