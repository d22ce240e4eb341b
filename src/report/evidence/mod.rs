//! The evidence bundle of an incident and its spread, as text, JSON, and the files of an export.

pub(in crate::report) mod json;
pub(in crate::report) mod text;

use serde_json::Value;

use super::html;
use super::incident::Listed;
use super::safe_json;
use crate::evidence::Bundle;
use crate::incident::{Key, Notice};

pub use json::{bundle as bundle_json, spread as spread_json};
pub(in crate::report) use text::path_text;
pub use text::{bundle as bundle_text, spread as spread_text, spread_row as spread_row_text};

/// An incident with everything that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The store as it was named.
    pub store: &'a str,
    /// The incident and the changes of its first bad write.
    pub listed: &'a Listed,
    /// All its keys that are kept.
    pub keys: &'a [Key],
    /// What was said of it.
    pub notices: &'a [Notice],
    /// What its store knows of it.
    pub bundle: &'a Bundle,
}

/// The files of an export, by name, in the order of their names but for `MANIFEST`, which is the last: it holds the BLAKE3 hash of each of
/// the others in the form that `b3sum --check` reads.
pub fn files(whole: &Whole<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let bundle = whole.bundle;
    let pretty = |value: &Value| {
        let text = serde_json::to_string_pretty(value).expect("a JSON value can always be written");
        (safe_json(&text) + "\n").into_bytes()
    };
    let lines = |values: Vec<Value>| {
        let lines = values
            .iter()
            .map(|value| safe_json(&value.to_string()) + "\n");
        lines.collect::<String>().into_bytes()
    };
    let first = super::incident::first_bad_document(whole.listed);
    let mut files = vec![
        ("first-bad-write.json", pretty(&first)),
        ("incident.json", json::whole(whole).into_bytes()),
        ("later-writes.jsonl", lines(json::later(bundle))),
        ("report.html", html::render(whole).into_bytes()),
        ("rows.jsonl", lines(json::rows(bundle))),
        ("rule.sql", rule_sql(bundle).into_bytes()),
        ("rule.yaml", rule_yaml(bundle).into_bytes()),
        ("schema.sql", bundle.schema.clone().into_bytes()),
        (
            "spread.json",
            json::spread(whole.store, &whole.listed.0.id(), &bundle.spread, None).into_bytes(),
        ),
        ("store.json", pretty(&json::proof(&bundle.proof))),
    ];
    let manifest = files.iter().map(|(name, bytes)| {
        let hash = crate::store::Hash::of(bytes);
        format!("{hash}  {name}\n")
    });
    let manifest: String = manifest.collect();
    files.push(("MANIFEST", manifest.into_bytes()));
    files
}

/// The incident's rules as a rule file.
fn rule_yaml(bundle: &Bundle) -> String {
    let mut out = String::from("rules:\n");
    for rule in &bundle.rules {
        match &rule.yaml {
            Some(yaml) => {
                let lines = yaml.lines().map(str::to_owned);
                let lines = lines.chain(table_line(yaml, rule.table.as_deref()));
                lines.for_each(|line| out += &format!("  {line}\n"));
            }
            None => out += &format!("  # the text of {} was not kept\n", one_line(&rule.id)),
        }
    }
    out
}

/// What names the subject of a rule that leaves it to its file: a line to stand behind the rule's own.
fn table_line(yaml: &str, table: Option<&str>) -> Option<String> {
    let first = yaml.lines().next()?;
    let own = first.strip_prefix('-')?.trim_start();
    let indent = first.len() - own.len();
    let names = |line: &str| {
        let depth = line.len() - line.trim_start().len();
        depth == indent && line.trim_start().starts_with("table:")
    };
    let is_named = own.starts_with("table:") || yaml.lines().any(names);
    // What is written on one line in braces has no line of its own.
    let table = table.filter(|_| !is_named && !own.starts_with('{'))?;
    Some(format!("{:indent$}table: {}", "", Value::from(table)))
}

/// The SQL that judges them.
fn rule_sql(bundle: &Bundle) -> String {
    let mut out = String::new();
    for rule in &bundle.rules {
        out += &format!("-- {}\n", one_line(&rule.id));
        match &rule.sql {
            Some(sql) => out += &format!("{}\n", sql.trim_end()),
            None => out += "-- the SQL was not kept\n",
        }
    }
    out
}

/// Foreign text that cannot end a comment.
fn one_line(text: &str) -> String {
    super::shown_cut(text, 200)
}
