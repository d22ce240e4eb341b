//! Runs every example that stands in a rule file: those of `tests/cases`, which say how each check kind is judged, those of the packs
//! in `rules/`, and those of the fixtures.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use firstbad::case::{self, CaseResult};
use firstbad::diagnostic;
use firstbad::rule::{Case, CaseRow, Expectation, Literal, Rule, file};
use firstbad::schema::{Schema, ddl};

/// The rules below some directory. Fails with every message when one does not read.
fn rules(directory: &Path) -> Vec<Rule> {
    let (rules, found) = file::load(&[directory.to_owned()]);
    assert!(
        !diagnostic::any_error(&found),
        "{}",
        diagnostic::render(&found, false)
    );
    assert!(
        !rules.is_empty(),
        "there is no rule in {}",
        directory.display()
    );
    rules
}

/// The schema beside a directory of rules, as the command line finds it.
fn schema_beside(directory: &Path) -> Option<Schema> {
    let path = directory.parent()?.join("schema.sql");
    let text = std::fs::read_to_string(&path).ok()?;
    let (schema, found) = ddl::parse(&text, &path);
    assert!(
        !diagnostic::any_error(&found),
        "{}",
        diagnostic::render(&found, false)
    );
    Some(schema)
}

/// The schema, if it knows the rule's tables: a case may use tables of its own.
fn fitting<'a>(schema: Option<&'a Schema>, rule: &Rule) -> Option<&'a Schema> {
    let given = rule
        .cases
        .iter()
        .flat_map(|case| &case.given)
        .map(|(table, _)| table);
    schema.filter(|schema| {
        rule.table
            .iter()
            .chain(given)
            .all(|table| schema.table(&table.value).is_some())
    })
}

/// What is wrong with a case, as `rules test` prints it; None when it passed.
fn failure(rule: &Rule, case: &Case, schema: Option<&Schema>) -> Option<String> {
    match case::run(rule, case, schema) {
        CaseResult::Passed => None,
        CaseResult::Failed { expected, found } => Some(format!(
            "FAILED  {}: {}\n        at {}:{}\n        expected {expected}\n        found    {found}\n",
            rule.id,
            case.name,
            case.span.file.display(),
            case.span.line
        )),
        CaseResult::Broken(diagnostics) => Some(diagnostic::render(&diagnostics, false)),
    }
}

/// Runs all cases of a directory and returns how many there are.
fn run_all(directory: &Path, failures: &mut String) -> usize {
    let schema = schema_beside(directory);
    let mut cases = 0;
    for rule in rules(directory) {
        for case in &rule.cases {
            cases += 1;
            failures.push_str(
                &failure(&rule, case, fitting(schema.as_ref(), &rule)).unwrap_or_default(),
            );
        }
    }
    cases
}

/// The directories `testdata/*/rules`.
fn fixtures() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("testdata").expect("testdata/ is part of the sources");
    let all = entries.map(|entry| entry.expect("testdata/ can be listed").path().join("rules"));
    let mut found: Vec<PathBuf> = all.filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[test]
fn every_case_comes_out_as_it_says() {
    let mut failures = String::new();
    let kinds = run_all(Path::new("tests/cases"), &mut failures);
    let packs = run_all(Path::new("rules"), &mut failures);
    let fixtures = fixtures();
    assert!(!fixtures.is_empty(), "no fixture has rules");
    let others: usize = fixtures
        .iter()
        .map(|directory| run_all(directory, &mut failures))
        .sum();
    assert!(failures.is_empty(), "\n{failures}");
    // A loader that loses cases must not look like success.
    assert!(
        kinds >= 500 && packs >= 150,
        "only {kinds} cases of check kinds, {packs} of packs, {others} of fixtures were run"
    );
}

/// The check kinds that the reference documents, in its order.
fn documented_kinds() -> Vec<String> {
    let text =
        std::fs::read_to_string("docs/rules.md").expect("docs/rules.md is part of the sources");
    let checks = text
        .split_once("\n## Checks of the state")
        .expect("the reference has checks of the state")
        .1;
    let checks = checks
        .split_once("\n## Names of other tools")
        .map_or(checks, |(checks, _)| checks);
    let titles = checks.lines().filter_map(|line| line.strip_prefix("### "));
    let kinds: Vec<String> = titles
        .map(|title| title.trim_matches('`').to_owned())
        .collect();
    assert!(
        kinds.len() >= 35,
        "only {} check kinds are documented",
        kinds.len()
    );
    kinds
}

fn is_violated(case: &Case) -> bool {
    matches!(
        case.expect,
        Expectation::Violated | Expectation::ViolatedKeys(_)
    )
}

fn is_held(case: &Case) -> bool {
    matches!(case.expect, Expectation::Held)
}

fn has_null(case: &Case) -> bool {
    let given = case.given.iter().flat_map(|(_, rows)| rows);
    let changes = case
        .changes
        .iter()
        .flat_map(|transaction| &transaction.changes);
    let written = changes.flat_map(|change| {
        [&change.key, &change.before, &change.after]
            .into_iter()
            .flatten()
    });
    let null = |row: &CaseRow| row.iter().any(|(_, literal)| *literal == Literal::Null);
    given.chain(written).any(null)
}

fn has_empty_subject(rule: &Rule, case: &Case) -> bool {
    let subject = rule.table.as_ref().map(|table| &table.value);
    case.given
        .iter()
        .any(|(table, rows)| Some(&table.value) == subject && rows.is_empty())
}

fn has_composite_key(rule: &Rule, case: &Case) -> bool {
    let found = match &case.expect {
        Expectation::ViolatedKeys(keys) => keys.iter().any(|key| key.len() > 1),
        _ => false,
    };
    found || rule.key.as_ref().is_some_and(|key| key.len() > 1)
}

#[test]
fn every_check_kind_has_cases_for_every_situation() {
    type Situation = (&'static str, fn(&Rule, &Case) -> bool);
    const SITUATIONS: [Situation; 9] = [
        ("holds", |_, case| is_held(case)),
        ("is violated", |_, case| is_violated(case)),
        ("has NULLs", |_, case| has_null(case)),
        ("has a composite key", has_composite_key),
        ("has `where` and holds", |rule, case| {
            rule.filter.is_some() && is_held(case)
        }),
        ("has `where` and is violated", |rule, case| {
            rule.filter.is_some() && is_violated(case)
        }),
        ("has `threshold` and holds", |rule, case| {
            rule.threshold.is_some() && is_held(case)
        }),
        ("has `threshold` and is violated", |rule, case| {
            rule.threshold.is_some() && is_violated(case)
        }),
        ("has an empty table", has_empty_subject),
    ];
    let rules = rules(Path::new("tests/cases"));
    let mut missing = String::new();
    for kind in documented_kinds() {
        let own: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.check.kind() == kind)
            .collect();
        for (name, is_there) in SITUATIONS {
            if !own
                .iter()
                .any(|rule| rule.cases.iter().any(|case| is_there(rule, case)))
            {
                let _ = writeln!(missing, "{kind}: no case that {name}");
            }
        }
    }
    assert!(missing.is_empty(), "\n{missing}");
    let kinds: BTreeSet<String> = documented_kinds().into_iter().collect();
    let unknown: Vec<&str> = rules
        .iter()
        .map(|rule| rule.check.kind())
        .filter(|kind| !kinds.contains(*kind))
        .collect();
    assert!(
        unknown.is_empty(),
        "the reference has no section for {unknown:?}"
    );
}

#[test]
fn every_rule_of_the_packs_is_described_and_shown() {
    let mut missing = String::new();
    for rule in rules(Path::new("rules")) {
        let mut say = |what: &str| _ = writeln!(missing, "{}: {what}", rule.id);
        if rule
            .description
            .as_ref()
            .is_none_or(|text| text.trim().is_empty())
        {
            say("has no description");
        }
        if !rule.cases.iter().any(is_held) {
            say("has no case that holds");
        }
        if !rule.cases.iter().any(is_violated) {
            say("has no case that is violated");
        }
    }
    assert!(missing.is_empty(), "\n{missing}");
}

/// Wrong expectations, each of which must be found: a runner that passes everything would pass all of the above.
const CANARIES: &str = "
table: stock
rules:
  - id: negative-stock
    key: [sku]
    range: {column: on_hand, min: 0}
    cases:
      - {name: held, given: {stock: [{sku: A, on_hand: -1}]}, expect: held}
      - {name: violated, given: {stock: [{sku: A, on_hand: 0}]}, expect: violated}
      - {name: unknown, given: {stock: [{sku: A, on_hand: 0}]}, expect: unknown}
      - {name: another key, given: {stock: [{sku: A, on_hand: -1}]}, expect: {violated: [{sku: B}]}}
      - {name: a key too few, given: {stock: [{sku: A, on_hand: -1}, {sku: B, on_hand: -1}]}, expect: {violated: [{sku: A}]}}
      - {name: a key too many, given: {stock: [{sku: A, on_hand: -1}]}, expect: {violated: [{sku: A}, {sku: B}]}}
      - {name: a key twice, given: {stock: [{sku: A, on_hand: -1}]}, expect: {violated: [{sku: A}, {sku: A}]}}
      - {name: half a key, given: {stock: [{sku: A, on_hand: -1}]}, expect: {violated: [{}]}}
      - {name: more than the key, given: {stock: [{sku: A, on_hand: -1}]}, expect: {violated: [{sku: A, on_hand: -1}]}}
      - {name: NULL is no text, given: {stock: [{sku: null, on_hand: -1}]}, expect: {violated: [{sku: ''}]}}
      - {name: another case of letters, given: {stock: [{sku: a, on_hand: -1}]}, expect: {violated: [{sku: A}]}}
";

#[test]
fn wrong_expectations_are_found() {
    let (rules, found) = file::parse(CANARIES, Path::new("canaries.yaml"));
    assert!(found.is_empty(), "{}", diagnostic::render(&found, false));
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].cases.len(), 11);
    for case in &rules[0].cases {
        let result = case::run(&rules[0], case, None);
        assert!(
            matches!(result, CaseResult::Failed { .. }),
            "the canary `{}` was not found: {result:?}",
            case.name
        );
        let shown = failure(&rules[0], case, None).unwrap_or_default();
        assert!(
            shown.contains("canaries.yaml") && shown.contains("expected"),
            "{shown}"
        );
    }
}
