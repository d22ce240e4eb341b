//! What is true of a write.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::kind::changed;
use super::{Sample, Subject};
use crate::change::{Cell, Commit, Op};
use crate::schema::{DataType, value};

/// A field with more different values than this names single writes, and is not tried.
const VALUES_MAX: usize = 10_000;

/// How many context fields are looked at.
const CONTEXT_FIELDS_MAX: usize = 64;

/// The longest value that is tried, in bytes.
const VALUE_BYTES_MAX: usize = 80;

/// In how many parts of equal size the values of a number are cut to find thresholds.
const CUTS: usize = 10;

const WEEKDAYS: [&str; 7] = [
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
];

/// Something that may be true of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Feature {
    Context(String, String),
    Op(Op),
    Is(usize, String),
    IsNull(usize),
    Changed(usize),
    With(usize),
    Without(usize),
    Hour(i64),
    Weekday(i64),
    AtLeast(usize, String),
    Below(usize, String),
}

/// What can have too many values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Field {
    Context(String),
    Column(usize),
}

/// All features of some writes.
#[derive(Debug)]
pub(super) struct Features {
    /// The commit of each sample, bad ones first.
    pub(super) commits: Vec<Commit>,
    /// Each feature under its name with the samples that have it, most telling first.
    named: Vec<Named>,
}

/// A feature under its name.
#[derive(Debug)]
struct Named {
    name: String,
    /// The samples that have it, ascending.
    members: Vec<u32>,
    family: Family,
}

/// Who wrote and how, or what was written and when. There are few of the first and there may be thousands of the second: each family
/// is corrected for its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Writer,
    Written,
}

/// Features under construction.
#[derive(Default)]
struct Found {
    index: HashMap<Feature, usize>,
    members: Vec<(Feature, Vec<u32>)>,
    values: HashMap<Field, usize>,
}

impl Found {
    fn add(&mut self, feature: Feature, sample: u32) {
        if let Some(&at) = self.index.get(&feature) {
            self.members[at].1.push(sample);
            return;
        }
        let field = match &feature {
            Feature::Context(name, _) => Some(Field::Context(name.clone())),
            Feature::Is(column, _) => Some(Field::Column(*column)),
            _ => None,
        };
        if let Some(field) = field {
            let fields = self.values.len();
            let is_context = matches!(field, Field::Context(_));
            if is_context && fields >= CONTEXT_FIELDS_MAX && !self.values.contains_key(&field) {
                return;
            }
            let count = self.values.entry(field).or_insert(0);
            *count += 1;
            if *count > VALUES_MAX {
                return;
            }
        }
        self.index.insert(feature.clone(), self.members.len());
        self.members.push((feature, vec![sample]));
    }

    /// Whether the feature is a value of a field with too many of them.
    fn too_many(&self, feature: &Feature) -> bool {
        let field = match feature {
            Feature::Context(name, _) => Field::Context(name.clone()),
            Feature::Is(column, _) => Field::Column(*column),
            _ => return false,
        };
        self.values
            .get(&field)
            .is_some_and(|count| *count > VALUES_MAX)
    }
}

impl Features {
    pub(super) fn of(subject: &Subject<'_>, bad: &[Sample], good: &[Sample]) -> Self {
        let samples: Vec<&Sample> = bad.iter().chain(good).collect();
        let commits: Vec<Commit> = samples.iter().map(|sample| sample.commit).collect();
        let written = Others::of(subject, &commits);
        let mut found = Found::default();
        for (at, sample) in (0u32..).zip(&samples) {
            meta_features(subject, sample, at, &mut found);
            row_features(subject, sample, at, &mut found);
            written.features(sample, at, &mut found);
        }
        thresholds(subject, &samples, &mut found);
        let members = std::mem::take(&mut found.members);
        let mut named: Vec<((u8, u8), String, Vec<u32>)> = members
            .into_iter()
            .filter(|(feature, members)| members.len() > 1 && !found.too_many(feature))
            .map(|(feature, members)| (rank(&feature), name(subject, &feature), members))
            .collect();
        named.sort();
        let named = named.into_iter().map(|(rank, name, members)| Named {
            name,
            members,
            family: if WRITER_RANKS.contains(&rank.0) {
                Family::Writer
            } else {
                Family::Written
            },
        });
        Features {
            commits,
            named: named.collect(),
        }
    }

    pub(super) fn most_telling_first(&self) -> std::ops::Range<usize> {
        0..self.named.len()
    }

    /// The samples that have a feature, ascending.
    pub(super) fn members(&self, at: usize) -> &[u32] {
        &self.named[at].members
    }

    pub(super) fn name(&self, at: usize) -> String {
        self.named[at].name.clone()
    }

    pub(super) fn family(&self, at: usize) -> Family {
        self.named[at].family
    }
}

/// The ranks of [`Family::Writer`]: context, operation, changed columns, other tables of the transaction.
const WRITER_RANKS: [u8; 4] = [0, 1, 3, 4];

/// Smaller is more telling: who wrote says more than what was written, and that more than when.
fn rank(feature: &Feature) -> (u8, u8) {
    match feature {
        Feature::Context(name, _) => {
            let name = name.to_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
            if has(&["version", "release", "deploy", "build", "revision"]) {
                (0, 0)
            } else if has(&["service", "app", "job"]) {
                (0, 1)
            } else {
                (0, 2)
            }
        }
        Feature::Op(_) => (1, 0),
        Feature::Is(..) | Feature::IsNull(_) => (2, 0),
        Feature::Changed(_) => (3, 0),
        Feature::With(_) => (4, 0),
        Feature::Without(_) => (4, 1),
        Feature::Hour(_) => (5, 0),
        Feature::Weekday(_) => (5, 1),
        Feature::AtLeast(..) => (6, 0),
        Feature::Below(..) => (6, 1),
    }
}

fn name(subject: &Subject<'_>, feature: &Feature) -> String {
    let column = |at: &usize| subject.versions().table.columns[*at].name.clone();
    let table = |at: &usize| subject.history.schema.tables[*at].name.short();
    match feature {
        Feature::Context(name, value) => format!("context.{name} = {value}"),
        Feature::Op(op) => format!("op = {}", op.as_str()),
        Feature::Is(at, value) => format!("{} = {value}", column(at)),
        Feature::IsNull(at) => format!("{} is null", column(at)),
        Feature::Changed(at) => format!("changed = {}", column(at)),
        Feature::With(at) => format!("with = {}", table(at)),
        Feature::Without(at) => format!("without = {}", table(at)),
        Feature::Hour(hour) => format!("hour = {hour}"),
        Feature::Weekday(day) => {
            let name = usize::try_from(*day).ok().and_then(|day| WEEKDAYS.get(day));
            format!("weekday = {}", name.unwrap_or(&""))
        }
        Feature::AtLeast(at, value) => format!("{} >= {value}", column(at)),
        Feature::Below(at, value) => format!("{} < {value}", column(at)),
    }
}

/// Context and time.
fn meta_features(subject: &Subject<'_>, sample: &Sample, at: u32, found: &mut Found) {
    let Some(meta) = subject.history.meta(sample.commit) else {
        return;
    };
    for (field, value) in meta.context.iter().flatten() {
        context(field.clone(), value, at, found);
    }
    if let Some(time) = meta.time {
        const HOUR_US: i64 = 3_600_000_000;
        let hours = time.div_euclid(HOUR_US);
        found.add(Feature::Hour(hours.rem_euclid(24)), at);
        // 1970-01-01 was a Thursday.
        found.add(Feature::Weekday(hours.div_euclid(24).rem_euclid(7)), at);
    }
}

/// A field of the context; objects inside are flattened with dots, lists are passed over.
fn context(path: String, value: &Value, at: u32, found: &mut Found) {
    let text = match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                context(format!("{path}.{field}"), value, at, found);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) => return,
    };
    if text.len() <= VALUE_BYTES_MAX && path.len() <= VALUE_BYTES_MAX {
        found.add(Feature::Context(path, text), at);
    }
}

/// The operation, what the row holds, and which columns were changed.
fn row_features(subject: &Subject<'_>, sample: &Sample, at: u32, found: &mut Found) {
    let versions = subject.versions();
    if let Some(op) = sample.op {
        found.add(Feature::Op(op), at);
    }
    for column in changed(versions, sample) {
        found.add(Feature::Changed(column), at);
    }
    let Some(version) = sample.after.or(sample.before) else {
        return;
    };
    for (column, declared) in versions.table.columns.iter().enumerate() {
        if names_rows(subject, column) {
            continue;
        }
        let cell = versions.cell(column, version);
        match cell {
            Cell::Unknown => {}
            Cell::Null => found.add(Feature::IsNull(column), at),
            Cell::Bool(value) => found.add(Feature::Is(column, value.to_string()), at),
            _ if !has_few_values(&declared.data_type) => {}
            cell => {
                let text = value::to_text(&declared.data_type, &cell).unwrap_or_default();
                if text.len() <= VALUE_BYTES_MAX {
                    found.add(Feature::Is(column, text), at);
                }
            }
        }
    }
}

/// Whether a column's values say which row it is, or must not be shown.
fn names_rows(subject: &Subject<'_>, column: usize) -> bool {
    let table = &subject.versions().table;
    table.primary_key.contains(&column)
        || subject.key.contains(&column)
        || subject.hidden.contains(&column)
}

/// Whether equal values of the type can be more than an accident.
fn has_few_values(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::Float32
            | DataType::Float64
            | DataType::Bytea
            | DataType::Json
            | DataType::Jsonb
            | DataType::Array(_)
            | DataType::Time
            | DataType::Timestamp
            | DataType::TimestampTz
    )
}

/// Which other tables the commits wrote.
struct Others {
    /// The tables, by index in the schema, that any of the commits wrote, each with its commits.
    tables: BTreeMap<usize, HashSet<Commit>>,
}

impl Others {
    fn of(subject: &Subject<'_>, commits: &[Commit]) -> Self {
        let asked: HashSet<Commit> = commits.iter().copied().collect();
        let others = subject.history.tables.iter().enumerate();
        let tables = others
            .filter(|(at, _)| *at != subject.table)
            .map(|(at, versions)| {
                let commits = versions.commits().filter(|commit| asked.contains(commit));
                (at, commits.collect::<HashSet<Commit>>())
            })
            .filter(|(_, commits)| !commits.is_empty());
        Others {
            tables: tables.collect(),
        }
    }

    fn features(&self, sample: &Sample, at: u32, found: &mut Found) {
        for (&table, commits) in &self.tables {
            let feature = if commits.contains(&sample.commit) {
                Feature::With(table)
            } else {
                Feature::Without(table)
            };
            found.add(feature, at);
        }
    }
}

/// `total >= 100` and `total < 100` for some values of each number that is no reference. Times are left out: when it began is what
/// the onsets themselves say.
fn thresholds(subject: &Subject<'_>, samples: &[&Sample], found: &mut Found) {
    let versions = subject.versions();
    let table = &versions.table;
    for (column, declared) in table.columns.iter().enumerate() {
        let is_number = declared.data_type.is_number();
        let refers = table
            .foreign_keys
            .iter()
            .any(|key| key.columns.contains(&declared.name));
        if !is_number || refers || names_rows(subject, column) {
            continue;
        }
        let mut values: Vec<(Cell, u32)> = (0u32..)
            .zip(samples)
            .filter_map(|(at, sample)| {
                let cell = versions.cell(column, sample.after.or(sample.before)?);
                let is_value = !matches!(cell, Cell::Unknown | Cell::Null);
                is_value.then_some((cell, at))
            })
            .collect();
        values.sort_by(|a, b| by_value(&a.0, &b.0).then(a.1.cmp(&b.1)));
        let mut last: Option<&Cell> = values.first().map(|(cell, _)| cell);
        for cut in (1..CUTS).map(|part| part * values.len() / CUTS) {
            let Some((limit, _)) = values.get(cut) else {
                continue;
            };
            if last == Some(limit) {
                continue;
            }
            last = Some(limit);
            let Some(text) = value::to_text(&declared.data_type, limit) else {
                continue;
            };
            let from = values.partition_point(|(cell, _)| by_value(cell, limit).is_lt());
            let (below, above) = values.split_at(from);
            for (part, feature) in [
                (above, Feature::AtLeast(column, text.clone())),
                (below, Feature::Below(column, text)),
            ] {
                let mut members: Vec<u32> = part.iter().map(|(_, at)| *at).collect();
                members.sort_unstable();
                found.members.push((feature, members));
            }
        }
    }
}

/// The order of two numbers of one column; NaN is last.
fn by_value(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        // Decimals of one column have one scale.
        (Cell::Decimal(a), Cell::Decimal(b)) if a.scale == b.scale => a.unscaled.cmp(&b.unscaled),
        (Cell::Decimal(_) | Cell::Wide(_), Cell::Decimal(_) | Cell::Wide(_)) => {
            a.number_key().cmp(&b.number_key())
        }
        _ => Ordering::Equal,
    }
}
