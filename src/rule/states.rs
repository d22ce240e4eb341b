//! Reading the arguments of checks of states.

use super::fields::{Fields, Form};
use super::read::{Reader, less};
use super::yaml::{Kind, Node, shortened};
use super::{Check, ColumnRef, Detect, Exclusive, Format, Spanned, Sql, TableRef};
use crate::change::Decimal;
use crate::diagnostic::counted;
use crate::schema::TableName;

static DETECT: Form = Form {
    name: "detect",
    arguments: &["jump_percent", "drift_percent", "window"],
    example: "detect: {jump_percent: 20, drift_percent: 5, window: 7}",
};
static TARGET: Form = Form {
    name: "to",
    arguments: &["table", "column", "columns"],
    example: "to: {table: customers, columns: [id]}",
};

/// How many earlier points `drift_percent` looks at when `window` is left out.
const DETECT_WINDOW: u32 = 7;

/// The check of a kind from its arguments; None after everything wrong with it was said.
pub(super) fn read(r: &mut Reader<'_>, kind: &str, f: &Fields<'_>) -> Option<Check> {
    match kind {
        "completeness" => completeness(r, f),
        "accepted_values" | "rejected_values" => values(r, f, kind == "accepted_values"),
        "range" => range(r, f),
        "length" => length(r, f),
        "matches" => matches(r, f),
        "expression" => expression(r, f),
        "references" => references(r, f),
        "has" | "has_no" => has(r, f, kind == "has"),
        "sequence" => sequence(r, f),
        "window_gap" => window_gap(r, f),
        "balance" => balance(r, f),
        "same_rows" => same_rows(r, f),
        "no_overlap" => no_overlap(r, f),
        "row_count" => row_count(r, f),
        "aggregate" => aggregate(r, f),
        "fresh" => fresh(r, f),
        "schema" => schema(r, f),
        "metric" => metric(r, f),
        "sql" => Some(Check::Sql {
            sql: f.required(r, "sql", Reader::query)?,
        }),
        _ => None,
    }
}

fn completeness(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let min_percent = match f.written("at_least") {
        Some(key) => {
            r.note(key, key.text().unwrap_or(""), "min_percent");
            f.required(r, "at_least", share)
        }
        None => f.required(r, "min_percent", Reader::percent),
    };
    Some(Check::Completeness {
        column: column?,
        min_percent: min_percent?,
    })
}

/// A share from 0 to 1 as a percentage: `0.95` is `95`.
fn share(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let number = r.decimal(node)?;
    let percent =
        Decimal::parse(&number.value).and_then(|share| Decimal::parse(&format!("{share}e2")));
    match percent.filter(|percent| {
        percent.unscaled >= 0
            && Decimal::parse("100").and_then(|all| less(&all, percent)) == Some(false)
    }) {
        Some(percent) => Some(Spanned {
            value: percent.normalized().to_string(),
            span: number.span,
        }),
        None => r.wrong(
            node,
            format!("a share lies between 0 and 1, found {}", node.describe()),
            "write `min_percent: 95` for 95 %",
        ),
    }
}

fn values(r: &mut Reader<'_>, f: &Fields<'_>, accepted: bool) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let values = f.required(r, "values", |r, node| {
        r.list(node, "a value", Reader::literal)
    });
    let (column, values) = (column?, values?);
    Some(if accepted {
        Check::AcceptedValues { column, values }
    } else {
        Check::RejectedValues { column, values }
    })
}

fn range(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    const WORDS: [(&str, Exclusive); 4] = [
        ("none", Exclusive::None),
        ("min", Exclusive::Min),
        ("max", Exclusive::Max),
        ("both", Exclusive::Both),
    ];
    let column = f.required(r, "column", Reader::column);
    let bounded = f.any_of(r, &["min", "max"]);
    let bounds = f.bounds(r);
    let exclusive = f.or(r, "exclusive", Exclusive::None, |r, node| {
        r.word(node, "`exclusive`", &WORDS)
    });
    bounded?;
    Some(Check::Range {
        column: column?,
        bounds: bounds?,
        exclusive: exclusive?,
    })
}

fn length(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let bounded = f.any_of(r, &["min", "max"]);
    let counts = f.counts(r);
    bounded?;
    let (min, max) = counts?;
    Some(Check::Length {
        column: column?,
        min,
        max,
    })
}

fn matches(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    if let (Some(_), Some(format)) = (f.get("pattern"), f.written("format")) {
        return r.wrong(
            format,
            "`matches` has both `pattern` and `format`",
            "make two rules of them",
        );
    }
    f.any_of(r, &["pattern", "format"])?;
    if f.get("format").is_some() {
        let format = f.required(r, "format", |r, node| {
            r.word(node, "`format`", &Format::ALL)
        });
        return Some(Check::Formatted {
            column: column?,
            format: format?,
        });
    }
    let pattern = f.required(r, "pattern", Reader::pattern);
    Some(Check::Pattern {
        column: column?,
        pattern: pattern?,
    })
}

fn expression(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let sql = f.required(r, "sql", Reader::expression);
    let strict = f.or(r, "null", false, |r, node| {
        r.word(node, "`null`", &[("violated", true), ("passes", false)])
    });
    Some(Check::Expression {
        sql: sql?,
        strict: strict?,
    })
}

fn references(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let columns = f.column_or_columns(r);
    let to = f.required(r, "to", |r, node| target(r, node, f.get("field").is_some()));
    let mut field = None;
    if let Some(key) = f.written("field") {
        r.note(key, key.text().unwrap_or(""), "to: table.column");
        field = Some(f.required(r, "field", Reader::columns));
    }
    let (columns, (table, mut to_columns)) = (columns?, to?);
    if let Some(field) = field {
        to_columns = field?;
    }
    if !to_columns.is_empty() && to_columns.len() != columns.len() {
        let message = format!(
            "{} here, but {} referenced",
            counted(columns.len() as u64, "column"),
            counted(to_columns.len() as u64, "column")
        );
        let node = f.written("to")?;
        return r.wrong(
            node,
            message,
            "name as many columns on both sides, in the same order",
        );
    }
    Some(Check::References {
        columns,
        to: table,
        to_columns,
    })
}

/// `customers`, `customers.id`, `sales.customers.id` or `{table, columns}`. With `table_only`, the columns stand elsewhere.
fn target(r: &mut Reader<'_>, node: &Node, table_only: bool) -> Option<(TableRef, Vec<ColumnRef>)> {
    if let Kind::Mapping(_) = node.kind {
        let fields = Fields::open(r, &TARGET, node, node)?;
        let table = fields.required(r, "table", Reader::table);
        let columns = if fields.get("column").or(fields.get("columns")).is_some() {
            fields.column_or_columns(r)
        } else {
            Some(Vec::new())
        };
        let (table, columns) = (table?, columns?);
        return (!fields.broken).then_some((table, columns));
    }
    let text = node.text().unwrap_or("");
    let parts: Vec<&str> = text.split('.').collect();
    if table_only || parts.len() < 2 || super::alias::dbt_ref(text).is_some() {
        return Some((r.table(node)?, Vec::new()));
    }
    if parts.len() > 3 || parts.iter().any(|part| part.trim().is_empty()) {
        let message = format!("`{}` is not a column of a table", shortened(text));
        return r.wrong(
            node,
            message,
            "write `customers.id`, or `sales.customers.id` where the schema is not `public`",
        );
    }
    let span = r.source.span(node);
    let (table, column) = text.rsplit_once('.')?;
    let column = Spanned {
        value: column.to_owned(),
        span: span.clone(),
    };
    Some((
        Spanned {
            value: TableName::parse(table),
            span,
        },
        vec![column],
    ))
}

fn has(r: &mut Reader<'_>, f: &Fields<'_>, wanted: bool) -> Option<Check> {
    let table = f.required(r, "table", Reader::table);
    let matching = f.required(r, "match", Reader::matching);
    let filter = f.optional(r, "where", Reader::expression);
    if !wanted {
        return Some(Check::HasNo {
            table: table?,
            matching: matching?,
            filter: filter?,
        });
    }
    let counts = f.counts(r);
    let (table, matching, filter, (min, max)) = (table?, matching?, filter?, counts?);
    let min = min.unwrap_or(1);
    match (min, max, f.written("min").or(f.written("max"))) {
        (0, None, Some(node)) => r.wrong(
            node,
            "any number of rows is allowed: nothing can be violated",
            "give `min` or `max`",
        ),
        (1, Some(0), Some(node)) => r.wrong(
            node,
            "at least one and at most no row: nothing can hold",
            "write `has_no` for rows that must not be there",
        ),
        _ => Some(Check::Has {
            table,
            matching,
            filter,
            min,
            max,
        }),
    }
}

fn sequence(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let per = f.columns_or_none(r, "per");
    let step = f.or(r, "step", 1, |r, node| match r.integer(node)? {
        step @ 1.. => Some(step),
        _ => r.wrong(
            node,
            "`step` must be greater than zero",
            "write the distance from one number to the next, such as `1`",
        ),
    });
    let from = f.optional(r, "from", Reader::integer);
    Some(Check::Sequence {
        column: column?,
        per: per?,
        step: step?,
        from: from?,
    })
}

fn window_gap(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let every = f.required(r, "every", Reader::duration);
    let per = f.columns_or_none(r, "per");
    let min_rows = f.or(r, "min_rows", 1, |r, node| match r.count(node)? {
        0 => r.wrong(
            node,
            "no row is needed: nothing can be violated",
            "write how many rows each window must have, such as `1`",
        ),
        rows => Some(rows),
    });
    Some(Check::WindowGap {
        column: column?,
        every_us: every?,
        per: per?,
        min_rows: min_rows?,
    })
}

fn balance(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let left = f.required(r, "left", Reader::expression);
    let right = f.required(r, "right", Reader::expression);
    let paired = match (f.written("match"), f.written("per")) {
        (Some(_), Some(per)) => r.wrong(
            per,
            "`balance` has both `match` and `per`",
            "`match` compares row by row, `per` group by group: keep one",
        ),
        _ => f.any_of(r, &["match", "per"]),
    };
    let matching = f.optional(r, "match", Reader::matching);
    let per = f.columns_or_none(r, "per");
    let filter = f.optional(r, "where", Reader::expression);
    let tolerance = f.or(r, "tolerance", f.standard(r, "0"), Reader::tolerance);
    paired?;
    Some(Check::Balance {
        left: left?,
        right: right?,
        matching: matching?,
        per: per?,
        filter: filter?,
        tolerance: tolerance?,
    })
}

fn same_rows(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let other = f.required(r, "as", Reader::table);
    let matching = f.required(r, "match", Reader::matching);
    let columns = f.optional(r, "columns", Reader::columns);
    let tolerance = f.or(r, "tolerance", f.standard(r, "0"), Reader::tolerance);
    Some(Check::SameRows {
        other: other?,
        matching: matching?,
        columns: columns?,
        tolerance: tolerance?,
    })
}

fn no_overlap(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let from = f.required(r, "from", Reader::column);
    let to = f.required(r, "to", Reader::column);
    let per = f.columns_or_none(r, "per");
    let (from, to) = (from?, to?);
    if from.value == to.value {
        return r.wrong(
            f.get("to")?,
            "a range begins and ends in the same column",
            "name the column where it begins and the one where it ends",
        );
    }
    Some(Check::NoOverlap {
        from,
        to,
        per: per?,
    })
}

fn row_count(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let bounded = f.any_of(r, &["min", "max"]);
    let counts = f.counts(r);
    let per = f.columns_or_none(r, "per");
    bounded?;
    let (min, max) = counts?;
    Some(Check::RowCount {
        min,
        max,
        per: per?,
    })
}

fn aggregate(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let sql = f.required(r, "sql", Reader::expression);
    let bounded = match (f.written("equals"), f.get("min").or(f.get("max"))) {
        (Some(equals), Some(_)) => r.wrong(
            equals,
            "`equals` leaves nothing for `min` and `max`",
            "keep `equals`, or the bounds",
        ),
        _ => f.any_of(r, &["min", "max", "equals"]),
    };
    let bounds = f.decimals(r);
    let equals = f.optional(r, "equals", Reader::decimal);
    let per = f.columns_or_none(r, "per");
    bounded?;
    let (min, max) = bounds?;
    Some(Check::Aggregate {
        sql: sql?,
        min,
        max,
        equals: equals?,
        per: per?,
    })
}

fn fresh(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let column = f.required(r, "column", Reader::column);
    let max_age = f.required(r, "max_age", Reader::duration);
    let per = f.columns_or_none(r, "per");
    Some(Check::Fresh {
        column: column?,
        max_age_us: max_age?,
        per: per?,
    })
}

fn schema(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let columns = f.required(r, "columns", |r, node| {
        let entries = match &node.kind {
            Kind::Mapping(entries) if !entries.is_empty() => entries,
            _ => {
                return r.wrong(
                    node,
                    format!(
                        "columns with their types are expected here, found {}",
                        node.describe()
                    ),
                    "write `{id: bigint, status: text}`",
                );
            }
        };
        let columns: Vec<Option<_>> = entries
            .iter()
            .map(|(name, data_type)| r.column(name).zip(r.text(data_type)))
            .collect();
        columns.into_iter().collect()
    });
    let strict = f.or(r, "strict", false, Reader::boolean);
    Some(Check::SchemaShape {
        columns: columns?,
        strict: strict?,
    })
}

fn metric(r: &mut Reader<'_>, f: &Fields<'_>) -> Option<Check> {
    let sql: Option<Sql> = f.required(r, "sql", Reader::expression);
    let every = f.required(r, "every", Reader::duration);
    let detect = match (f.written("detect"), f.get("detect")) {
        (Some(key), Some(value)) => detect(r, key, value),
        _ => f.required(r, "detect", |_, _| None::<Detect>),
    };
    Some(Check::Metric {
        sql: sql?,
        every_us: every?,
        detect: detect?,
    })
}

fn detect(r: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Detect> {
    let fields = Fields::open(r, &DETECT, key, value)?;
    let any = fields.any_of(r, &["jump_percent", "drift_percent"]);
    let positive = |r: &mut Reader<'_>, node: &Node| {
        let number = r.decimal(node)?;
        if Decimal::parse(&number.value).is_some_and(|value| value.unscaled <= 0) {
            return r.wrong(
                node,
                "this percentage must be greater than zero",
                "write how far a figure may move, such as `20`",
            );
        }
        Some(number)
    };
    let jump_percent = fields.optional(r, "jump_percent", positive);
    let drift_percent = fields.optional(r, "drift_percent", positive);
    let window = fields.or(r, "window", DETECT_WINDOW, |r, node| {
        match r.count(node)? {
            window @ 1..=100_000 => u32::try_from(window).ok(),
            _ => r.wrong(
                node,
                "`window` lies between 1 and 100000",
                format!("write how many earlier points to look at, such as `{DETECT_WINDOW}`"),
            ),
        }
    });
    any?;
    let detect = Detect {
        jump_percent: jump_percent?,
        drift_percent: drift_percent?,
        window: window?,
    };
    (!fields.broken).then_some(detect)
}
