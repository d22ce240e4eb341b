//! Names that other tools use for the same thing: dbt and its packages, Soda, Great Expectations, Deequ, DQX, pointblank, ODCS.
//!
//! Only what is unambiguous is translated; what looks alike but means something else has advice instead.

/// A foreign or differently written name of a check as rule files have it: `relationships`, `isComplete`, `dbt_utils.equality`.
pub(super) fn check(written: &str) -> Option<&'static str> {
    let snake = snake_case(written.rsplit_once('.').map_or(written, |(_, name)| name));
    let known = CHECKS
        .iter()
        .find(|(foreign, _)| *foreign == snake)
        .map(|(_, ours)| *ours);
    known.or_else(|| {
        super::kinds::NAMES
            .iter()
            .find(|name| **name == snake)
            .copied()
    })
}

/// Every foreign name of a check with ours, for finding the nearest.
pub(super) const CHECKS: [(&str, &str); 83] = [
    ("is_not_null", "not_null"),
    ("is_complete", "not_null"),
    ("are_complete", "not_null"),
    ("missing", "not_null"),
    ("null_values", "not_null"),
    ("col_vals_not_null", "not_null"),
    ("expect_column_values_to_not_be_null", "not_null"),
    ("not_empty_string", "not_empty"),
    ("is_not_empty", "not_empty"),
    ("is_not_null_and_not_empty", "not_empty"),
    ("not_null_proportion", "completeness"),
    ("has_completeness", "completeness"),
    ("missing_percent", "completeness"),
    ("col_pct_null", "completeness"),
    ("is_unique", "unique"),
    ("uniqueness", "unique"),
    ("duplicate", "unique"),
    ("duplicates", "unique"),
    ("duplicate_values", "unique"),
    ("rows_distinct", "unique"),
    ("unique_combination_of_columns", "unique"),
    ("expect_column_values_to_be_unique", "unique"),
    ("compound_columns_to_be_unique", "unique"),
    ("expect_compound_columns_to_be_unique", "unique"),
    ("is_contained_in", "accepted_values"),
    ("is_in_list", "accepted_values"),
    ("col_vals_in_set", "accepted_values"),
    ("valid_values", "accepted_values"),
    ("expect_column_values_to_be_in_set", "accepted_values"),
    ("not_accepted_values", "rejected_values"),
    ("is_not_in_list", "rejected_values"),
    ("col_vals_not_in_set", "rejected_values"),
    ("invalid_values", "rejected_values"),
    ("expect_column_values_to_not_be_in_set", "rejected_values"),
    ("accepted_range", "range"),
    ("is_in_range", "range"),
    ("between", "range"),
    ("col_vals_between", "range"),
    ("expect_column_values_to_be_between", "range"),
    ("valid_length", "length"),
    ("column_length", "length"),
    ("col_vals_str_len", "length"),
    ("expect_column_value_lengths_to_be_between", "length"),
    ("regex", "matches"),
    ("regex_match", "matches"),
    ("pattern", "matches"),
    ("format", "matches"),
    ("valid_format", "matches"),
    ("has_pattern", "matches"),
    ("col_vals_regex", "matches"),
    ("expect_column_values_to_match_regex", "matches"),
    ("expression_is_true", "expression"),
    ("sql_expression", "expression"),
    ("satisfies", "expression"),
    ("relationships", "references"),
    ("foreign_key", "references"),
    ("referential_integrity", "references"),
    ("valid_reference_data", "references"),
    ("col_vals_in_table", "references"),
    ("sequential_values", "sequence"),
    ("equality", "same_rows"),
    ("tbl_match", "same_rows"),
    ("compare_datasets", "same_rows"),
    ("dataset_match", "same_rows"),
    ("mutually_exclusive_ranges", "no_overlap"),
    ("has_size", "row_count"),
    ("expect_table_row_count_to_be_between", "row_count"),
    ("table_row_count_to_be_between", "row_count"),
    ("freshness", "fresh"),
    ("recency", "fresh"),
    ("data_freshness", "fresh"),
    ("is_data_fresh", "fresh"),
    ("schema_match", "schema"),
    ("has_valid_schema", "schema"),
    ("col_schema_match", "schema"),
    ("custom_sql", "sql"),
    ("sql_query", "sql"),
    ("query", "sql"),
    ("failed_rows", "sql"),
    ("unexpected_rows", "sql"),
    ("immutable_columns", "immutable"),
    ("allowed_transitions", "transitions"),
    ("column_values_in_set", "accepted_values"),
];

/// A foreign name of a rule's own field.
pub(super) fn header(written: &str) -> Option<&'static str> {
    Some(match written {
        "name" | "rule" | "rule_id" => "id",
        "filter" | "row_condition" | "condition" => "where",
        "model" | "dataset" => "table",
        "criticality" | "level" => "severity",
        "grace" | "grace_period" => "within",
        "primary_key" | "row_key" => "key",
        "examples" | "tests" => "cases",
        "docs" | "runbook_url" => "runbook",
        _ => return None,
    })
}

/// A foreign name of an argument of a check.
pub(super) fn argument(check: &str, written: &str) -> Option<&'static str> {
    let snake = snake_case(written);
    arguments(check)
        .find(|(foreign, _)| *foreign == snake)
        .map(|(_, ours)| ours)
}

/// Every foreign name of the arguments of a check with ours.
pub(super) fn arguments(check: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    ARGUMENTS
        .iter()
        .filter(move |(of, ..)| of.is_empty() || *of == check)
        .map(|(_, foreign, ours)| (*foreign, *ours))
}

/// Check (or any), foreign name, our name.
const ARGUMENTS: [(&str, &str, &str); 64] = [
    ("", "column_name", "column"),
    ("", "col", "column"),
    ("", "col_name", "column"),
    ("", "column_list", "columns"),
    ("", "cols", "columns"),
    ("", "column_names", "columns"),
    ("", "group_by", "per"),
    ("", "group_by_columns", "per"),
    ("", "group_by_column", "per"),
    ("", "partition_by", "per"),
    ("", "row_condition", "where"),
    ("", "filter", "where"),
    ("unique", "combination_of_columns", "columns"),
    ("completeness", "at_least", "at_least"),
    ("completeness", "mostly", "at_least"),
    ("completeness", "min", "min_percent"),
    ("completeness", "percent", "min_percent"),
    ("accepted_values", "value_set", "values"),
    ("accepted_values", "valid_values", "values"),
    ("accepted_values", "allowed", "values"),
    ("accepted_values", "allowed_values", "values"),
    ("accepted_values", "set", "values"),
    ("accepted_values", "list", "values"),
    ("rejected_values", "value_set", "values"),
    ("rejected_values", "invalid_values", "values"),
    ("rejected_values", "forbidden", "values"),
    ("rejected_values", "forbidden_values", "values"),
    ("rejected_values", "set", "values"),
    ("rejected_values", "list", "values"),
    ("range", "min_value", "min"),
    ("range", "max_value", "max"),
    ("range", "min_limit", "min"),
    ("range", "max_limit", "max"),
    ("range", "valid_min", "min"),
    ("range", "valid_max", "max"),
    ("length", "min_value", "min"),
    ("length", "max_value", "max"),
    ("length", "min_length", "min"),
    ("length", "max_length", "max"),
    ("length", "valid_min_length", "min"),
    ("length", "valid_max_length", "max"),
    ("row_count", "min_value", "min"),
    ("row_count", "max_value", "max"),
    ("aggregate", "min_value", "min"),
    ("aggregate", "max_value", "max"),
    ("aggregate", "expression", "sql"),
    ("matches", "regex", "pattern"),
    ("matches", "valid_regex", "pattern"),
    ("matches", "valid_format", "format"),
    ("expression", "expression", "sql"),
    ("expression", "condition", "sql"),
    ("references", "ref_table", "to"),
    ("references", "ref_columns", "field"),
    ("references", "field", "field"),
    ("sequence", "interval", "step"),
    ("sequence", "start", "from"),
    ("same_rows", "compare_model", "as"),
    ("same_rows", "compare_columns", "columns"),
    ("no_overlap", "lower_bound_column", "from"),
    ("no_overlap", "upper_bound_column", "to"),
    ("fresh", "field", "column"),
    ("fresh", "timestamp_column", "column"),
    ("fresh", "loaded_at_field", "column"),
    ("sql", "query", "sql"),
];

/// What to write for a foreign name of a rule's key that has no single twin.
pub(super) fn advice(written: &str) -> Option<&'static str> {
    let snake = snake_case(written.rsplit_once('.').map_or(written, |(_, name)| name));
    Some(match snake.as_str() {
        "<<" => {
            "merge keys are not used here; put shared values at the top of the file, or repeat them"
        }
        "mostly" => "write `threshold: {max_percent: 5}` for `mostly: 0.95`",
        "error_if" | "warn_if" | "fail" | "warn" | "must_be" | "must_be_less_than"
        | "fail_calc" => {
            "write `threshold: {max: 5}` for the violations that are tolerated, and `severity` for how bad more are"
        }
        "config" | "meta" | "arguments" => "write its fields directly in the rule",
        "columns" | "models" | "checks" | "expectations" => {
            "each rule is an entry of `rules`, with its check and columns"
        }
        "version" => "rule files have no version; remove it",
        "is_primary_key" | "primary_key" => "write two rules: `not_null` and `unique`",
        "invalid" | "invalid_percent" | "invalid_count" => {
            "write `accepted_values`, `range`, `length`, `matches` or `references`"
        }
        "expect_column_values_to_be_increasing" | "col_vals_increasing" => {
            "rows have no order here; `monotonic` judges a value over time, `sequence` finds missing numbers"
        }
        "is_non_negative" | "is_positive" => "write `range: {column: …, min: 0}`",
        "at_least_one" => "write `completeness: {column: …, min_percent: …}`",
        "equal_rowcount" | "fewer_rows_than" | "row_count_match" => {
            "compare the rows with `same_rows`, or write the query as `sql`"
        }
        "not_constant" | "cardinality_equality" | "has_distinctness" => {
            "write `aggregate: {sql: count(distinct …), min: 2}`"
        }
        "anomaly_detection" | "volume_anomalies" | "freshness_anomalies" => {
            "write `metric` or `fresh`"
        }
        _ => return None,
    })
}

/// What to write for a foreign argument that has no twin.
pub(super) fn argument_advice(written: &str) -> Option<&'static str> {
    Some(match snake_case(written).as_str() {
        "mostly" => "write `threshold: {max_percent: 5}` in the rule for `mostly: 0.95`",
        "inclusive" | "strictly" | "strict_min" | "strict_max" => {
            "write `exclusive: none`, `min`, `max` or `both`"
        }
        "severity" | "where" | "threshold" | "tags" | "owner" | "description" | "id" | "within" => {
            "it belongs to the rule: indent it like the check"
        }
        "datepart" => "write `max_age: 1d`",
        "equal_to" | "equals_to" => "write `min` and `max` alike",
        "quote" | "quote_values" => {
            "leave it out: values in quotes are text, plain numbers are numbers"
        }
        "must_be_less_than" | "must_be" | "warn_if" | "error_if" => {
            "write `threshold: {max: 5}` in the rule"
        }
        _ => return None,
    })
}

/// The table inside dbt's `ref('orders')` or `source('shop', 'orders')`.
pub(super) fn dbt_ref(text: &str) -> Option<&str> {
    let text = text
        .trim()
        .trim_start_matches("{{")
        .trim_end_matches("}}")
        .trim();
    let inside = text
        .strip_prefix("ref(")
        .or_else(|| text.strip_prefix("source("))?
        .strip_suffix(')')?;
    let name = inside.rsplit(',').next()?.trim();
    name.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"'])
}

/// `isComplete`, `IsComplete`, `is-complete` and `is_complete` as `is_complete`.
fn snake_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    let mut after_lower = false;
    for c in text.chars() {
        if c.is_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        match c {
            '-' | ' ' => out.push('_'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}
