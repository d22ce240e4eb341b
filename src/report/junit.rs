//! JUnit XML as Jenkins (xUnit plugin), GitLab and most others read it: one suite a rule file, one test case a rule.
//!
//! A `failure` stands where the rule makes the run fail, an `error` where it could not be judged, so that this file and the
//! exit code say the same. What a baseline accepts, or what is below `--fail-on`, passes and says so in `system-out`.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::verdict::{CheckReport, Outcome, Verdict};

use super::{Options, shown_cut};

/// A value or a description is cut after so many characters.
const TEXT_MAX: usize = 2_000;

/// The XML being written; writing to memory does not fail.
struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn event(&mut self, event: Event<'_>) {
        self.0
            .write_event(event)
            .expect("writing to memory does not fail");
    }

    fn start(&mut self, name: &str, attributes: &[(&str, String)]) {
        self.event(Event::Start(element(name, attributes)));
    }

    fn end(&mut self, name: &str) {
        self.event(Event::End(BytesEnd::new(name)));
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, String)]) {
        self.event(Event::Empty(element(name, attributes)));
    }

    /// An element that holds text alone.
    fn text(&mut self, name: &str, attributes: &[(&str, String)], text: &str) {
        self.start(name, attributes);
        self.event(Event::Text(BytesText::new(&legal(text))));
        self.end(name);
    }
}

fn element<'a>(name: &'a str, attributes: &[(&str, String)]) -> BytesStart<'a> {
    let mut start = BytesStart::new(name);
    for (key, value) in attributes {
        start.push_attribute((*key, legal(value).as_str()));
    }
    start
}

/// The text without the characters that XML 1.0 forbids even as references.
fn legal(text: &str) -> String {
    let forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars()
        .map(|c| if forbidden(c) { '\u{fffd}' } else { c })
        .collect()
}

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let mut suites: Vec<(String, Vec<&Outcome>)> = Vec::new();
    for outcome in &report.outcomes {
        let file = super::rule_file(outcome);
        match suites.iter_mut().find(|(name, _)| *name == file) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => suites.push((file, vec![outcome])),
        }
    }
    let mut xml = Xml(Writer::new_with_indent(Vec::new(), b' ', 2));
    xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
    let all: Vec<&Outcome> = report.outcomes.iter().collect();
    xml.start(
        "testsuites",
        &totals("firstbad", report, &all, report.elapsed_ms),
    );
    for (file, outcomes) in &suites {
        let elapsed = outcomes.iter().map(|outcome| outcome.elapsed_ms).sum();
        xml.start(
            "testsuite",
            &totals(&shown_cut(file, TEXT_MAX), report, outcomes, elapsed),
        );
        properties(&mut xml, report);
        for outcome in outcomes {
            case(&mut xml, report, outcome, options);
        }
        xml.end("testsuite");
    }
    xml.end("testsuites");
    let bytes = xml.0.into_inner();
    super::guard_commands(String::from_utf8_lossy(&bytes).into_owned() + "\n")
}

fn totals(
    name: &str,
    report: &CheckReport,
    outcomes: &[&Outcome],
    elapsed_ms: u64,
) -> Vec<(&'static str, String)> {
    let failures = outcomes
        .iter()
        .filter(|outcome| report.fails(outcome))
        .count();
    let errors = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Unknown)
        .count();
    vec![
        ("name", name.to_owned()),
        ("tests", outcomes.len().to_string()),
        ("failures", failures.to_string()),
        ("errors", errors.to_string()),
        ("time", seconds(elapsed_ms)),
    ]
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn properties(xml: &mut Xml, report: &CheckReport) {
    let mut properties = vec![("source", shown_cut(&super::source(report), TEXT_MAX))];
    properties.extend(super::position(&report.at).map(|position| ("at", position)));
    xml.start("properties", &[]);
    for (name, value) in properties {
        xml.empty("property", &[("name", name.to_owned()), ("value", value)]);
    }
    xml.end("properties");
}

fn case(xml: &mut Xml, report: &CheckReport, outcome: &Outcome, options: &Options) {
    let attributes = [
        ("name", shown_cut(&outcome.rule.id, TEXT_MAX)),
        (
            "classname",
            shown_cut(super::table_name(outcome).unwrap_or("firstbad"), TEXT_MAX),
        ),
        ("time", seconds(outcome.elapsed_ms)),
    ];
    let kind = |word: &str| ("type", word.to_owned());
    let (element, said, text) = match outcome.verdict {
        Verdict::Unknown => {
            let reason = shown_cut(
                outcome.reason.as_deref().unwrap_or("no reason was given"),
                TEXT_MAX,
            );
            (
                "error",
                vec![kind("unknown"), ("message", reason)],
                place(outcome),
            )
        }
        Verdict::Violated if report.fails(outcome) => {
            let message = ("message", super::figures(report, outcome));
            (
                "failure",
                vec![kind(outcome.severity().as_str()), message],
                body(outcome, options),
            )
        }
        _ => match remark(report, outcome, options) {
            Some(text) => ("system-out", Vec::new(), text),
            None => return xml.empty("testcase", &attributes),
        },
    };
    xml.start("testcase", &attributes);
    xml.text(element, &said, &text);
    xml.end("testcase");
}

/// What is to be said of a rule that does not make the run fail; None where it simply holds.
fn remark(report: &CheckReport, outcome: &Outcome, options: &Options) -> Option<String> {
    let figures = super::figures(report, outcome);
    if outcome.verdict == Verdict::Violated && !outcome.fails() {
        return Some(format!(
            "violated, and all accepted by the baseline: {figures}"
        ));
    }
    if outcome.verdict == Verdict::Violated {
        let (severity, fail_on) = (outcome.severity().as_str(), report.fail_on.as_str());
        let body = body(outcome, options);
        return Some(format!(
            "violated, but {severity} is below --fail-on {fail_on}: {figures}\n{body}"
        ));
    }
    if outcome.vacuous() {
        return Some("held, but matched no row".to_owned());
    }
    let tolerated = outcome.violations.unwrap_or(0) > 0;
    tolerated.then(|| format!("held within its threshold: {figures}"))
}

/// Description, keys and place: what a person sees who opens the failed test.
fn body(outcome: &Outcome, options: &Options) -> String {
    let mut lines = Vec::new();
    lines.extend(
        outcome
            .rule
            .description
            .as_ref()
            .map(|text| shown_cut(text, TEXT_MAX)),
    );
    lines.extend(
        outcome
            .rule
            .owner
            .as_ref()
            .map(|owner| format!("owner: {}", shown_cut(owner, TEXT_MAX))),
    );
    lines.extend(
        outcome
            .rule
            .runbook
            .as_ref()
            .map(|url| format!("runbook: {}", shown_cut(url, TEXT_MAX))),
    );
    let listed = super::new_sample(outcome, options);
    lines.extend(
        listed
            .iter()
            .map(|violation| shown_cut(&super::violation_line(violation), TEXT_MAX)),
    );
    let more = super::left_off(outcome, listed.len());
    if more > 0 {
        lines.push(format!("… and {} more: --sample all", super::grouped(more)));
    }
    lines.extend(
        outcome
            .impact
            .as_ref()
            .map(|impact| format!("impact: {}", shown_cut(impact, TEXT_MAX))),
    );
    lines.push(place(outcome));
    lines.join("\n")
}

fn place(outcome: &Outcome) -> String {
    format!(
        "rule: {}:{}",
        shown_cut(&super::rule_file(outcome), TEXT_MAX),
        outcome.rule.span.line
    )
}
