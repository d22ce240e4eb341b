//! Rules: what must hold, as written in `rules/*.yaml`.
//!
//! A rule is a header and exactly one [`Check`]. [`file::load`] reads rule files, collects every mistake as a [`Diagnostic`](crate::diagnostic::Diagnostic)
//! and knows nothing of data; whether the named tables and columns exist is found when a rule meets a schema (`plan`).

mod alias;
mod build;
mod case;
mod entry;
mod fields;
pub mod file;
#[cfg(test)]
mod hostile_tests;
mod id;
mod kinds;
pub(crate) mod read;
mod span;
pub mod sql;
mod states;
#[cfg(test)]
mod tests;
mod writes;
pub mod yaml;

pub use read::parse_duration;
pub use span::{Span, TextRun};

use crate::schema::TableName;

/// How bad a violation of the rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Somebody should look.
    Warn,
    /// Wrong data.
    #[default]
    Error,
    /// Wrong data that hurts now.
    Critical,
}

impl Severity {
    /// The word used in files and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// A value together with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A literal in a rule file, as YAML has it. Numbers keep their text: no value passes through a double.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// `null`, `~`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A plain integer or decimal number, as written
    Number(String),
    /// Anything else, and everything quoted
    Text(String),
}

/// A name of a column, with its place.
pub type ColumnRef = Spanned<String>;
/// A table, with its place.
pub type TableRef = Spanned<TableName>;
/// SQL text, with its place.
pub type Sql = Spanned<String>;

/// How many violations are tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many.
    Max(u64),
    /// So many of a hundred judged; decimal text (`0.1`).
    MaxPercent(String),
}

/// One rule: a header and a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Kebab-case name of the wrong it finds, unique among the rules of a run.
    pub id: String,
    /// True when the id was not written but derived from table, columns and kind.
    pub id_derived: bool,
    /// What must hold, for people.
    pub description: Option<String>,
    /// How bad a violation is.
    pub severity: Severity,
    /// Who is responsible.
    pub owner: Option<String>,
    /// Free words to select by.
    pub tags: Vec<String>,
    /// URL of what to do.
    pub runbook: Option<String>,
    /// The subject; None only for `sql:` rules without a `table:`.
    pub table: Option<TableRef>,
    /// Which rows of the subject are judged.
    pub filter: Option<Sql>,
    /// The columns that name a violation, instead of the primary key.
    pub key: Option<Vec<ColumnRef>>,
    /// How long a violation may last before it is a finding, in microseconds.
    pub within_us: Option<i64>,
    /// How many violations are tolerated.
    pub threshold: Option<Spanned<Threshold>>,
    /// Violations that began before this position (any form that `--at` takes) are not findings.
    pub since: Option<Spanned<String>>,
    /// After this time (RFC 3339 or a date) the rule is no longer judged.
    pub expires: Option<Spanned<String>>,
    /// SQL expression summed over the violating rows.
    pub impact: Option<Sql>,
    /// Columns whose values never leave.
    pub redact: Vec<ColumnRef>,
    /// Examples that `rules test` runs.
    pub cases: Vec<Case>,
    /// What is judged.
    pub check: Check,
    /// The limit that the rule's text exceeds; it cannot be judged then.
    pub refused: Option<String>,
    /// Where the rule stands: its first line.
    pub span: Span,
    /// Where the check's own key (`not_null:` …) stands.
    pub check_span: Span,
}

impl Rule {
    /// The rule as its file has it: from its first line to the last that is indented more than that. None where the file cannot be read any
    /// more, or does not hold it.
    pub fn source(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.span.file).ok()?;
        let first = self.span.line.checked_sub(1)?;
        let mut lines = text.lines().skip(first);
        let mut own = vec![lines.next()?];
        let depth = |line: &str| line.len() - line.trim_start().len();
        let least = depth(own[0]);
        own.extend(lines.take_while(|line| line.trim().is_empty() || depth(line) > least));
        while own.last().is_some_and(|line| line.trim().is_empty()) {
            own.pop();
        }
        let own: Vec<&str> = own
            .iter()
            .map(|line| line.get(least..).unwrap_or(""))
            .collect();
        (!own.is_empty()).then(|| own.join("\n") + "\n")
    }
}

/// An example inside a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows; `case 2` when none was written.
    pub name: String,
    /// Rows of the state before the first change: table, rows of (column, value).
    pub given: Vec<(TableRef, Vec<CaseRow>)>,
    /// Transactions after it, for checks of writes and `within`.
    pub changes: Vec<CaseTransaction>,
    /// RFC 3339 time that stands for *now*.
    pub now: Option<Spanned<String>>,
    /// What must come out.
    pub expect: Expectation,
    /// Where the case stands.
    pub span: Span,
}

/// A row of a case: columns and values; a nested list or mapping is kept as JSON text in [`Literal::Text`].
pub type CaseRow = Vec<(ColumnRef, Literal)>;

/// One transaction of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseTransaction {
    /// Commit time, RFC 3339.
    pub time: Option<Spanned<String>>,
    /// Its changes in order.
    pub changes: Vec<CaseChange>,
    /// Where it stands.
    pub span: Span,
}

/// One change of a case, in the words of a history's `changes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseChange {
    /// The table.
    pub table: TableRef,
    /// What was done.
    pub op: crate::change::Op,
    /// The old primary key.
    pub key: Option<CaseRow>,
    /// The row before.
    pub before: Option<CaseRow>,
    /// The row after.
    pub after: Option<CaseRow>,
}

/// What a case says must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The rule holds.
    Held,
    /// The rule is violated, by whatever keys.
    Violated,
    /// The rule is violated by exactly these keys, in any order.
    ViolatedKeys(Vec<CaseRow>),
    /// The rule cannot be judged.
    Unknown,
}

/// The end points that a `range` leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusive {
    /// Both ends are allowed.
    #[default]
    None,
    /// The smallest value itself is out of range.
    Min,
    /// The largest value itself is out of range.
    Max,
    /// Both.
    Both,
}

/// Lower and upper bound, either may be absent (not both).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Smallest allowed.
    pub min: Option<Spanned<Literal>>,
    /// Largest allowed.
    pub max: Option<Spanned<Literal>>,
}

/// A known format of text values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name@host.tld`
    Email,
    /// 8-4-4-4-12 hexadecimal digits
    Uuid,
    /// An absolute URL with a host
    Url,
    /// Dotted quad
    Ipv4,
    /// RFC 4291 text
    Ipv6,
    /// `2026-03-12`
    IsoDate,
    /// `2026-03-12T16:03:51Z`
    IsoDatetime,
    /// `16:03:51`
    IsoTime,
    /// Any JSON text
    Json,
    /// An integer in decimal digits
    Integer,
    /// A decimal number
    Decimal,
    /// Two to three upper-case letters: ISO 4217 currency or ISO 3166 country shapes
    CurrencyCode,
    /// ISO 3166-1 alpha-2 shape
    CountryCode,
    /// E.164 phone number
    PhoneE164,
}

impl Format {
    /// Every format with the name used in rule files.
    pub const ALL: [(&'static str, Format); 14] = [
        ("email", Format::Email),
        ("uuid", Format::Uuid),
        ("url", Format::Url),
        ("ipv4", Format::Ipv4),
        ("ipv6", Format::Ipv6),
        ("iso_date", Format::IsoDate),
        ("iso_datetime", Format::IsoDatetime),
        ("iso_time", Format::IsoTime),
        ("json", Format::Json),
        ("integer", Format::Integer),
        ("decimal", Format::Decimal),
        ("currency_code", Format::CurrencyCode),
        ("country_code", Format::CountryCode),
        ("phone_e164", Format::PhoneE164),
    ];

    /// The name used in rule files.
    pub fn as_str(self) -> &'static str {
        Format::ALL
            .iter()
            .find(|(_, format)| *format == self)
            .map_or("", |(name, _)| name)
    }
}

/// The rows of another table that belong to a row: column there, column of the subject.
pub type Match = Vec<(ColumnRef, ColumnRef)>;

/// How `metric` looks at its series of figures. Percentages are decimal text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detect {
    /// A step from one point to the next of more than so many percent is violated.
    pub jump_percent: Option<Spanned<String>>,
    /// A last point that lies more than so many percent from the median of the `window` points before it is violated.
    pub drift_percent: Option<Spanned<String>>,
    /// How many earlier points `drift_percent` looks at.
    pub window: u32,
}

/// What a rule judges. CONTRACT section 3 defines each kind; `docs/rules.md` has one section for each.
#[allow(
    missing_docs,
    reason = "the form that captions each kind names its fields"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `not_null: [a, b]`
    NotNull { columns: Vec<ColumnRef> },
    /// `not_empty: [a]`
    NotEmpty { columns: Vec<ColumnRef> },
    /// `completeness: {column, min_percent}`; percent as decimal text
    Completeness {
        column: ColumnRef,
        min_percent: Spanned<String>,
    },
    /// `unique: [a, b]`
    Unique { columns: Vec<ColumnRef> },
    /// `accepted_values: {column, values}`
    AcceptedValues {
        column: ColumnRef,
        values: Vec<Spanned<Literal>>,
    },
    /// `rejected_values: {column, values}`
    RejectedValues {
        column: ColumnRef,
        values: Vec<Spanned<Literal>>,
    },
    /// `range: {column, min, max, exclusive}`
    Range {
        column: ColumnRef,
        bounds: Bounds,
        exclusive: Exclusive,
    },
    /// `length: {column, min, max}`
    Length {
        column: ColumnRef,
        min: Option<u64>,
        max: Option<u64>,
    },
    /// `matches: {column, pattern}`
    Pattern {
        column: ColumnRef,
        pattern: Spanned<String>,
    },
    /// `matches: {column, format}`
    Formatted { column: ColumnRef, format: Format },
    /// `expression: "a >= b"`; `strict` when NULL counts as violated
    Expression { sql: Sql, strict: bool },
    /// `references: {columns, to}`
    References {
        columns: Vec<ColumnRef>,
        to: TableRef,
        to_columns: Vec<ColumnRef>,
    },
    /// `has: {table, match, where, min, max}`
    Has {
        table: TableRef,
        matching: Match,
        filter: Option<Sql>,
        min: u64,
        max: Option<u64>,
    },
    /// `has_no: {table, match, where}`
    HasNo {
        table: TableRef,
        matching: Match,
        filter: Option<Sql>,
    },
    /// `sequence: {column, per, step, from}`
    Sequence {
        column: ColumnRef,
        per: Vec<ColumnRef>,
        step: i64,
        from: Option<i64>,
    },
    /// `window_gap: {column, every, per, min_rows}`; `every` in microseconds
    WindowGap {
        column: ColumnRef,
        every_us: i64,
        per: Vec<ColumnRef>,
        min_rows: u64,
    },
    /// `balance: {left, right, match | per, where, tolerance}`
    Balance {
        left: Sql,
        right: Sql,
        matching: Option<Match>,
        per: Vec<ColumnRef>,
        filter: Option<Sql>,
        tolerance: Spanned<String>,
    },
    /// `same_rows: {as, match, columns, tolerance}`; `matching` maps other to subject; no columns means all common ones
    SameRows {
        other: TableRef,
        matching: Match,
        columns: Option<Vec<ColumnRef>>,
        tolerance: Spanned<String>,
    },
    /// `no_overlap: {from, to, per}`
    NoOverlap {
        from: ColumnRef,
        to: ColumnRef,
        per: Vec<ColumnRef>,
    },
    /// `row_count: {min, max, per}`
    RowCount {
        min: Option<u64>,
        max: Option<u64>,
        per: Vec<ColumnRef>,
    },
    /// `aggregate: {sql, min, max, equals, per}`; bounds as decimal text
    Aggregate {
        sql: Sql,
        min: Option<Spanned<String>>,
        max: Option<Spanned<String>>,
        equals: Option<Spanned<String>>,
        per: Vec<ColumnRef>,
    },
    /// `fresh: {column, max_age, per}`
    Fresh {
        column: ColumnRef,
        max_age_us: i64,
        per: Vec<ColumnRef>,
    },
    /// `schema: {columns, strict}`: column and declared type
    SchemaShape {
        columns: Vec<(ColumnRef, Spanned<String>)>,
        strict: bool,
    },
    /// `metric: {sql, every, detect}`
    Metric {
        sql: Sql,
        every_us: i64,
        detect: Detect,
    },
    /// `sql: select …`
    Sql { sql: Sql },
    /// `append_only: true`
    AppendOnly,
    /// `no_delete: true`
    NoDelete,
    /// `no_resurrection: true`
    NoResurrection,
    /// `immutable: [a, b]`
    Immutable { columns: Vec<ColumnRef> },
    /// `set_once: [a]`
    SetOnce { columns: Vec<ColumnRef> },
    /// `transitions: {column, allowed, initial}`
    Transitions {
        column: ColumnRef,
        allowed: Vec<(Spanned<Literal>, Vec<Spanned<Literal>>)>,
        initial: Option<Vec<Spanned<Literal>>>,
    },
    /// `monotonic: {column, direction, strict}`
    Monotonic {
        column: ColumnRef,
        increasing: bool,
        strict: bool,
    },
    /// `increments: {column, by}`; decimal text
    Increments {
        column: ColumnRef,
        by: Spanned<String>,
    },
    /// `touched: {column, when}`
    Touched {
        column: ColumnRef,
        when: Option<Vec<ColumnRef>>,
    },
    /// `balanced_transaction: {sum, per, where}`
    BalancedTransaction {
        sum: Sql,
        per: Vec<ColumnRef>,
        filter: Option<Sql>,
    },
    /// `mass_change: {max_rows, max_percent, ops}`
    MassChange {
        max_rows: Option<u64>,
        max_percent: Option<Spanned<String>>,
        ops: Vec<crate::change::Op>,
    },
}

impl Check {
    /// The name of the kind as rule files have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Check::NotNull { .. } => "not_null",
            Check::NotEmpty { .. } => "not_empty",
            Check::Completeness { .. } => "completeness",
            Check::Unique { .. } => "unique",
            Check::AcceptedValues { .. } => "accepted_values",
            Check::RejectedValues { .. } => "rejected_values",
            Check::Range { .. } => "range",
            Check::Length { .. } => "length",
            Check::Pattern { .. } | Check::Formatted { .. } => "matches",
            Check::Expression { .. } => "expression",
            Check::References { .. } => "references",
            Check::Has { .. } => "has",
            Check::HasNo { .. } => "has_no",
            Check::Sequence { .. } => "sequence",
            Check::WindowGap { .. } => "window_gap",
            Check::Balance { .. } => "balance",
            Check::SameRows { .. } => "same_rows",
            Check::NoOverlap { .. } => "no_overlap",
            Check::RowCount { .. } => "row_count",
            Check::Aggregate { .. } => "aggregate",
            Check::Fresh { .. } => "fresh",
            Check::SchemaShape { .. } => "schema",
            Check::Metric { .. } => "metric",
            Check::Sql { .. } => "sql",
            Check::AppendOnly => "append_only",
            Check::NoDelete => "no_delete",
            Check::NoResurrection => "no_resurrection",
            Check::Immutable { .. } => "immutable",
            Check::SetOnce { .. } => "set_once",
            Check::Transitions { .. } => "transitions",
            Check::Monotonic { .. } => "monotonic",
            Check::Increments { .. } => "increments",
            Check::Touched { .. } => "touched",
            Check::BalancedTransaction { .. } => "balanced_transaction",
            Check::MassChange { .. } => "mass_change",
        }
    }

    /// True for checks of writes: they judge the net effect of commits, so they need changes.
    pub fn judges_writes(&self) -> bool {
        matches!(
            self,
            Check::AppendOnly
                | Check::NoDelete
                | Check::NoResurrection
                | Check::Immutable { .. }
                | Check::SetOnce { .. }
                | Check::Transitions { .. }
                | Check::Monotonic { .. }
                | Check::Increments { .. }
                | Check::Touched { .. }
                | Check::BalancedTransaction { .. }
                | Check::MassChange { .. }
        )
    }
}
