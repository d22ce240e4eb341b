//! One entry of `rules`: its header, its check, and the rules they make.

use std::collections::BTreeMap;

use super::fields::{Fields, Form};
use super::read::{Reader, is_date, near};
use super::yaml::{Kind, Node, shortened};
use super::{Check, Rule, Severity, Span, Spanned, TableRef, Threshold, alias, case, id, kinds};
use crate::diagnostic::Level;

/// The most tags of a rule.
const TAGS_MAX: usize = 100;
/// How large the rules of one entry may become together, in bytes.
const ENTRY_BYTES_MAX: usize = 4 << 20;

const SEVERITIES: [(&str, Severity); 4] = [
    ("critical", Severity::Critical),
    ("error", Severity::Error),
    ("warn", Severity::Warn),
    ("info", Severity::Info),
];
pub(super) const HEADER: [&str; 16] = [
    "id",
    "description",
    "severity",
    "owner",
    "tags",
    "runbook",
    "table",
    "where",
    "key",
    "within",
    "threshold",
    "since",
    "expires",
    "impact",
    "redact",
    "cases",
];
static THRESHOLD: Form = Form {
    name: "threshold",
    arguments: &["max", "max_percent"],
    example: "threshold: {max: 5}",
};

/// A rule that may still lack its id.
pub(super) struct Draft {
    /// None when there is a mistake in it: then only its id counts.
    pub(super) rule: Option<Rule>,
    pub(super) written_id: Option<Spanned<String>>,
}

/// What a file says for all its rules.
#[derive(Default)]
pub(super) struct Defaults {
    pub(super) table: Option<TableRef>,
    /// True when `table` was written and is wrong, so that no rule is called to lack one.
    pub(super) table_broken: bool,
    pub(super) owner: Option<String>,
    pub(super) severity: Option<Severity>,
    pub(super) tags: Vec<String>,
}

/// The keys of one entry, sorted by what they are.
#[derive(Default)]
struct Entry<'n> {
    header: BTreeMap<&'static str, &'n Node>,
    checks: Vec<(&'static str, &'n Node, &'n Node)>,
    unknown: Vec<&'n Node>,
    broken: bool,
}

/// One entry of `rules`: the rules it makes, usually one.
pub(super) fn entry(r: &mut Reader<'_>, node: &Node, defaults: &Defaults) -> Vec<Draft> {
    let Kind::Mapping(entries) = &node.kind else {
        not_a_rule(r, node);
        return Vec::new();
    };
    r.refused = None;
    let mut found = Entry {
        broken: node.broken,
        ..Entry::default()
    };
    for (key, value) in entries {
        sort_key(r, key, value, &mut found);
    }
    let written_id = found
        .header
        .get("id")
        .copied()
        .map(|node| written_id(r, node));
    let id_broken = matches!(written_id, Some(None));
    let written_id = written_id.flatten();
    let mut rule = header(r, &found, node, defaults);
    let checks = checks(r, &found, node, written_id.is_some() || id_broken);
    let Some((checks, check_span)) = checks else {
        return vec![Draft {
            rule: None,
            written_id,
        }];
    };
    if let (Some(within), true) = (
        found.header.get("within"),
        checks.iter().any(Check::judges_writes),
    ) {
        let problem = r
            .source
            .span(within)
            .error("`within` changes nothing for a check of writes: an illegal write never heals");
        r.push(problem.with_hint("remove it").with_level(Level::Warning));
    }
    if found.broken || id_broken {
        rule = None;
    }
    let Some(rule) = rule else {
        return vec![Draft {
            rule: None,
            written_id,
        }];
    };
    let refused = r.refused.take();
    let make = |check: Check| Rule {
        check,
        refused: refused.clone(),
        check_span: check_span.clone(),
        ..rule.clone()
    };
    let drafts = checks.into_iter().map(|check| Draft {
        rule: Some(make(check)),
        written_id: written_id.clone(),
    });
    drafts.collect()
}

fn not_a_rule(r: &mut Reader<'_>, node: &Node) {
    let hint = match node.text() {
        Some(name) if kinds::NAMES.contains(&name) => format!("write `{}`", kinds::example(name)),
        _ => "write `- not_null: [id]`".to_owned(),
    };
    let message = format!(
        "a rule is a mapping with a check, found {}",
        node.describe()
    );
    r.wrong::<()>(node, message, hint);
}

fn sort_key<'n>(r: &mut Reader<'_>, key: &'n Node, value: &'n Node, found: &mut Entry<'n>) {
    let name = key.text().unwrap_or("");
    if let Some(kind) = kinds::NAMES.iter().find(|kind| **kind == name) {
        found.checks.push((kind, key, value));
        return;
    }
    let own = HEADER.iter().find(|own| **own == name).copied();
    if let Some(field) = own.or_else(|| alias::header(name)) {
        if own.is_none() {
            r.note(key, name, field);
        }
        if found.header.insert(field, value).is_some() {
            found.broken = true;
            r.wrong::<()>(
                key,
                format!("`{field}` is given twice in this rule"),
                "keep one of them",
            );
        }
        return;
    }
    if let Some(kind) = alias::check(name) {
        r.note(key, name, kind);
        found.checks.push((kind, key, value));
        return;
    }
    found.unknown.push(key);
}

fn written_id(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node)?;
    if id::is_kebab(&text.value) {
        return Some(text);
    }
    let message = format!("the id `{}` is not kebab-case", shortened(&text.value));
    let hint = match id::to_kebab(&text.value) {
        Some(kebab) => format!("write `{kebab}`"),
        None => {
            "write lower-case letters, digits and hyphens, such as `paid-order-without-shipment`"
                .to_owned()
        }
    };
    r.wrong(node, message, hint)
}

/// The one check of an entry, split by column where several columns have no id in common; None after what is wrong was said.
fn checks(
    r: &mut Reader<'_>,
    found: &Entry<'_>,
    node: &Node,
    has_id: bool,
) -> Option<(Vec<Check>, Span)> {
    let misplaced = misplaced_arguments(r, found);
    let mut may_be_check = misplaced || found.broken;
    for key in found.unknown.iter().copied() {
        if !(misplaced && is_argument_of_check(found, key)) {
            may_be_check |= unknown_in_rule(r, key);
        }
    }
    let (kind, key, value) = match found.checks.as_slice() {
        [] if may_be_check => return None,
        [] => {
            let hint =
                "add what must hold, such as `not_null: [id]`; docs/rules.md has every check";
            return r.wrong(node, "this rule has no check", hint);
        }
        [one] => *one,
        [_, (_, second, _), ..] => {
            let kinds: Vec<&str> = found.checks.iter().map(|(kind, ..)| *kind).collect();
            let message = format!(
                "a rule has one check, this one has {}: {}",
                kinds.len(),
                kinds::two_or_more(&kinds)
            );
            return r.wrong(second, message, "make a rule of each, beginning with `- `");
        }
    };
    if misplaced {
        return None;
    }
    let check = kinds::read(r, kind, key, value)?;
    let checks = if has_id { vec![check] } else { split(check) };
    if checks.len() > 1 && checks.len().saturating_mul(weight(node)) > ENTRY_BYTES_MAX {
        let message = format!("this entry is too large to become {} rules", checks.len());
        return r.wrong(
            key,
            message,
            "give it an `id`: then it is one rule of all these columns",
        );
    }
    if checks.len() > 1
        && let Some(cases) = found.header.get("cases")
    {
        let hint = "give the rule an `id`: then it is one rule of all these columns";
        return r.wrong(
            cases,
            format!(
                "these cases would belong to {} rules, one a column",
                checks.len()
            ),
            hint,
        );
    }
    found
        .unknown
        .is_empty()
        .then(|| (checks, r.source.span(key)))
}

fn is_argument_of_check(found: &Entry<'_>, key: &Node) -> bool {
    let name = key.text().unwrap_or("");
    matches!(found.checks.as_slice(), [(kind, ..)] if kinds::has_argument(kind, name))
}

/// Arguments that stand beside their check instead of below it, mostly for want of indentation: one message for all.
fn misplaced_arguments(r: &mut Reader<'_>, found: &Entry<'_>) -> bool {
    let misplaced: Vec<&Node> = found
        .unknown
        .iter()
        .copied()
        .filter(|key| is_argument_of_check(found, key))
        .collect();
    let (Some(first), [(kind, _, value)]) = (misplaced.first(), found.checks.as_slice()) else {
        return false;
    };
    let names: Vec<&str> = misplaced.iter().filter_map(|key| key.text()).collect();
    let verb = if names.len() == 1 {
        "belongs"
    } else {
        "belong"
    };
    let hint = if value.is_null() {
        format!("indent below `{kind}:`")
    } else {
        format!("write `{}`", kinds::example(kind))
    };
    r.wrong::<()>(
        first,
        format!(
            "{} {verb} in `{kind}`, not beside it",
            kinds::two_or_more(&names)
        ),
        hint,
    );
    true
}

/// Says that a key means nothing; true when it may have been meant as the check.
fn unknown_in_rule(r: &mut Reader<'_>, key: &Node) -> bool {
    let name = key.text().unwrap_or("");
    if let Some(advice) = alias::advice(name) {
        r.wrong::<()>(
            key,
            format!("there is no `{}` here", shortened(name)),
            advice,
        );
        return !matches!(name, "mostly" | "version" | "config" | "meta");
    }
    let foreign = alias::CHECKS.iter().map(|(foreign, _)| *foreign);
    let near = near(name, HEADER.iter().chain(kinds::NAMES.iter()).copied())
        .or_else(|| near(name, foreign));
    let (message, hint, may_be_check) = match near {
        Some(near) if HEADER.contains(&near) => {
            ("unknown field", format!("did you mean `{near}`?"), false)
        }
        Some(near) => (
            "unknown check",
            format!("did you mean `{}`?", alias::check(near).unwrap_or(near)),
            true,
        ),
        None => (
            "unknown check or field",
            "docs/rules.md has every check and field".to_owned(),
            true,
        ),
    };
    r.wrong::<()>(key, format!("{message} `{}`", shortened(name)), hint);
    may_be_check
}

/// One check a column, for the kinds whose columns are judged one by one.
fn split(check: Check) -> Vec<Check> {
    let one = |columns: Vec<Spanned<String>>, make: fn(Vec<Spanned<String>>) -> Check| {
        columns
            .into_iter()
            .map(|column| make(vec![column]))
            .collect()
    };
    match check {
        Check::NotNull { columns } => one(columns, |columns| Check::NotNull { columns }),
        Check::NotEmpty { columns } => one(columns, |columns| Check::NotEmpty { columns }),
        Check::Immutable { columns } => one(columns, |columns| Check::Immutable { columns }),
        Check::SetOnce { columns } => one(columns, |columns| Check::SetOnce { columns }),
        other => vec![other],
    }
}

/// Everything but id and check; None after what is wrong was said. The check is a placeholder.
fn header(r: &mut Reader<'_>, found: &Entry<'_>, node: &Node, defaults: &Defaults) -> Option<Rule> {
    let field = |name: &str| found.header.get(name).copied();
    let table = optional(r, "table", field("table"), Reader::table);
    let subject = table
        .clone()
        .map(|own| own.or_else(|| defaults.table.clone()));
    let description = optional(r, "description", field("description"), Reader::text);
    let severity = optional(r, "severity", field("severity"), severity);
    let owner = optional(r, "owner", field("owner"), Reader::text);
    let own_tags = optional(r, "tags", field("tags"), tags);
    let runbook = optional(r, "runbook", field("runbook"), url);
    let filter = optional(r, "where", field("where"), Reader::expression);
    let key = optional(r, "key", field("key"), Reader::columns);
    let within_us = optional(r, "within", field("within"), Reader::duration);
    let threshold = optional(r, "threshold", field("threshold"), threshold);
    let since = optional(r, "since", field("since"), since);
    let expires = optional(r, "expires", field("expires"), expires);
    let impact = optional(r, "impact", field("impact"), Reader::expression);
    let redact = optional(r, "redact", field("redact"), Reader::columns);
    let subject_of_cases = subject.clone().flatten();
    let cases = optional(r, "cases", field("cases"), |r, node| {
        case::read(r, node, subject_of_cases.as_ref())
    });
    let no_table = matches!(subject, Some(None)) && !defaults.table_broken;
    let mut lacking = false;
    if let ([(kind, key, _)], true) = (found.checks.as_slice(), no_table)
        && *kind != "sql"
    {
        lacking = true;
        r.wrong::<()>(
            key,
            format!("`{kind}` has no table to judge"),
            "add `table: …` to the rule, or to the top of the file",
        );
    }
    let mut all_tags = defaults.tags.clone();
    all_tags.extend(
        own_tags?
            .unwrap_or_default()
            .into_iter()
            .filter(|tag| !defaults.tags.contains(tag)),
    );
    let rule = Rule {
        id: String::new(),
        id_derived: true,
        description: description?.map(|text| text.value),
        severity: severity?.or(defaults.severity).unwrap_or_default(),
        owner: owner?
            .map(|text| text.value)
            .or_else(|| defaults.owner.clone()),
        tags: all_tags,
        runbook: runbook?,
        table: subject?,
        filter: filter?,
        key: key?,
        within_us: within_us?,
        threshold: threshold?,
        since: since?,
        expires: expires?,
        impact: impact?,
        redact: redact?.unwrap_or_default(),
        cases: cases?.unwrap_or_default(),
        check: Check::AppendOnly,
        refused: None,
        span: r.source.span(node),
        check_span: Span::default(),
    };
    (!lacking && !defaults.table_broken).then_some(rule)
}

/// A field that may be left out, but not left empty.
fn optional<'r, T>(
    r: &mut Reader<'r>,
    name: &str,
    node: Option<&Node>,
    read: impl FnOnce(&mut Reader<'r>, &Node) -> Option<T>,
) -> Option<Option<T>> {
    match node {
        None => Some(None),
        Some(node) if node.is_null() => r.wrong(
            node,
            format!("`{name}` has no value"),
            "give it one, or remove it",
        ),
        Some(node) => read(r, node).map(Some),
    }
}

fn url(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node)?.value;
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let is_url = rest
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '['))
        && !text.contains(char::is_whitespace);
    if is_url {
        Some(text)
    } else {
        r.wrong(
            node,
            "`runbook` is the address of a web page",
            "write `https://…`",
        )
    }
}

fn threshold(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<Threshold>> {
    if let Some(text) = node.text() {
        let hint = match text.strip_suffix('%') {
            Some(percent) => format!("write `{{max_percent: {}}}`", shortened(percent.trim())),
            None => format!(
                "write `{{max: {text}}}` for so many violations, or `{{max_percent: {text}}}`",
                text = shortened(text)
            ),
        };
        return r.wrong(
            node,
            format!("`threshold` needs a mapping, found {}", node.describe()),
            hint,
        );
    }
    let fields = Fields::open(r, &THRESHOLD, node, node)?;
    if let (Some(_), Some(second)) = (fields.get("max"), fields.written("max_percent")) {
        return r.wrong(
            second,
            "`threshold` has both `max` and `max_percent`",
            "keep one of them",
        );
    }
    fields.any_of(r, &["max", "max_percent"])?;
    let max = fields.optional(r, "max", Reader::count)?;
    let percent = fields.optional(r, "max_percent", Reader::percent)?;
    let value = max
        .map(Threshold::Max)
        .or_else(|| percent.map(|percent| Threshold::MaxPercent(percent.value)))?;
    (!fields.broken).then(|| Spanned {
        value,
        span: r.source.span(node),
    })
}

/// A position in any form; a date that does not exist is told here, everything else by the source.
fn since(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node)?;
    if is_date(&text.value) && !is_real_date(&text.value) {
        return r.wrong(
            node,
            format!("there is no date {}", node.describe()),
            "write `2026-03-12`, a time, `#1207` or an LSN",
        );
    }
    Some(text)
}

fn expires(r: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node)?;
    let is_time = chrono::DateTime::parse_from_rfc3339(&text.value).is_ok();
    if is_time || (text.value.len() == 10 && is_date(&text.value) && is_real_date(&text.value)) {
        return Some(text);
    }
    r.wrong(
        node,
        format!("a date or time is expected here, found {}", node.describe()),
        "write `2026-12-31` or `2026-12-31T00:00:00Z`",
    )
}

fn is_real_date(text: &str) -> bool {
    text.get(..10)
        .is_some_and(|date| chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok())
}

pub(super) fn severity(r: &mut Reader<'_>, node: &Node) -> Option<Severity> {
    if let Some(written @ ("warning" | "fatal" | "blocker")) = node.text() {
        let (ours, severity) = if written == "warning" {
            ("warn", Severity::Warn)
        } else {
            ("critical", Severity::Critical)
        };
        r.note(node, written, ours);
        return Some(severity);
    }
    r.word(node, "`severity`", &SEVERITIES)
}

pub(super) fn tags(r: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    let tags = r.list(node, "a word", Reader::text)?;
    if tags.len() > TAGS_MAX {
        return r.wrong(
            node,
            format!("{} tags", tags.len()),
            format!("write at most {TAGS_MAX}"),
        );
    }
    Some(tags.into_iter().map(|tag| tag.value).collect())
}

/// About how many bytes a rule made of this node takes.
fn weight(node: &Node) -> usize {
    const NODE_BYTES: usize = 500;
    NODE_BYTES
        + match &node.kind {
            Kind::Scalar { text, .. } => text.len(),
            Kind::Sequence(items) => items.iter().map(weight).sum(),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|(key, value)| weight(key) + weight(value))
                .sum(),
        }
}
