//! The keys of the file: what each takes, and what is wrong with it.

mod alerts;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::variables::{Expanded, Variables};
use super::{
    Config, FILE_BYTES_MAX, Limits, Quarantine, Retention, Segments, Snapshots, Text, parse_size,
};
use crate::diagnostic::{Diagnostic, tidy};
use crate::rule::read::{Reader, near, one_of};
use crate::rule::yaml::{self, Kind, Node, Source, shortened};
use crate::rule::{Literal, parse_duration};

/// The keys of the file, each with an example.
const TOP: [(&str, &str); 9] = [
    ("source", "testdata/shop"),
    ("store", ".firstbad"),
    ("rules", "[rules/]"),
    ("retention", "{age: 90d, size: 20GB}"),
    (
        "segments",
        "{max_changes: 500000, max_bytes: 64MB, max_age: 5m}",
    ),
    ("snapshots", "{every_changes: 1000000}"),
    ("limits", "{rule_timeout: 60s, memory: 4GiB}"),
    (
        "quarantine",
        "{rules: [paid-order-without-shipment], max_rows: 100, database: \"${QUARANTINE_URL}\"}",
    ),
    ("alerts", "[{name: ops, slack: \"${SLACK_URL}\"}]"),
];

/// The text of a file within the size limit.
pub(super) fn text(path: &Path) -> Result<String, Diagnostic> {
    let unreadable = |error: &std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no file `{}`", path.display()),
            _ => format!("cannot read `{}`: {error}", path.display()),
        };
        Diagnostic::file(path, message)
    };
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        // Opened, a pipe would never end.
        return Err(Diagnostic::file(path, "this is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_large(path));
    }
    String::from_utf8(bytes)
        .map_err(|_| Diagnostic::file(path, "the file is not UTF-8").with_hint("save it as UTF-8"))
}

fn too_large(path: &Path) -> Diagnostic {
    let message = format!(
        "this file has at most {} KiB, this one has more",
        FILE_BYTES_MAX >> 10
    );
    Diagnostic::file(path, message).with_hint("rules and data belong in files of their own")
}

/// Reads the file from its text.
pub(super) fn config(
    text: &str,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, Vec<Diagnostic>> {
    if text.len() > FILE_BYTES_MAX {
        return Err(vec![too_large(file)]);
    }
    let source = Source::new(text, file);
    let mut wrong = Vec::new();
    let root = yaml::parse(&source, &mut wrong);
    for problem in wrong.iter_mut().filter(|problem| holds_variable(problem)) {
        problem.hint = Some("inside `[ ]` and `{ }`, quote a text that holds `${…}`".to_owned());
    }
    let mut keys = Keys {
        reader: Reader::new(&source),
        variables: Variables::new(environment),
        directory: file.parent().unwrap_or(Path::new("")),
    };
    let mut config = Config {
        file: Some(file.to_path_buf()),
        ..Config::default()
    };
    if let Some(root) = root.as_ref().filter(|root| !root.is_null()) {
        keys.top(root, &mut config);
    }
    config.variables = keys.variables.used;
    wrong.extend(keys.reader.out);
    if wrong.is_empty() {
        return Ok(config);
    }
    tidy(&mut wrong);
    Err(wrong.into_iter().map(without_password).collect())
}

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 6] = [
    "password",
    "secret",
    "routing_key",
    "webhook",
    "slack",
    "alertmanager",
];

/// The same message without its line where that may hold a password: `://user:password@host`, `?password=…`, or a key of secrets.
pub(super) fn without_password(mut problem: Diagnostic) -> Diagnostic {
    let may_hold = |line: &String| {
        let after = line.split_once("://").map(|(_, after)| after);
        after.is_some_and(|after| after.contains('@') || after.contains('='))
            || SECRET_KEYS.iter().any(|key| line.contains(key))
    };
    problem.source_line = problem.source_line.filter(|line| !may_hold(line));
    problem
}

/// True for a line on which `${` is met by YAML before it is met by us.
fn holds_variable(problem: &Diagnostic) -> bool {
    let line = problem.source_line.as_deref().unwrap_or_default();
    line.contains("${") && line.contains(['{', '[']) && !line.contains(['"', '\''])
}

/// A file being read.
struct Keys<'a> {
    reader: Reader<'a>,
    variables: Variables<'a>,
    /// What paths are relative to.
    directory: &'a Path,
}

impl Keys<'_> {
    fn top(&mut self, root: &Node, config: &mut Config) {
        let Some(entries) = self.mapping(root, "the file", "source: testdata/shop") else {
            return;
        };
        let known = TOP.map(|(name, _)| name);
        for (key, value) in entries {
            match self.key(key, value, None, &known) {
                Some("source") => config.source = self.texts(value),
                Some("rules") => config.rules = self.texts(value),
                Some("store") => config.store = self.text(value),
                Some("retention") => config.retention = self.retention(value),
                Some("segments") => config.segments = self.segments(value),
                Some("snapshots") => config.snapshots = self.snapshots(value),
                Some("limits") => config.limits = self.limits(value),
                Some("quarantine") => config.quarantine = self.quarantine(value),
                Some("alerts") => config.alerts = self.alerts(value),
                _ => {}
            }
        }
    }

    fn retention(&mut self, node: &Node) -> Retention {
        let mut out = Retention::default();
        self.each(
            "retention",
            node,
            &["age", "size"],
            |keys, name, value| match name {
                "age" => out.age = keys.duration(value),
                _ => out.size_bytes = keys.size(value),
            },
        );
        out
    }

    fn segments(&mut self, node: &Node) -> Segments {
        let mut out = Segments::default();
        let known = ["max_changes", "max_bytes", "max_age"];
        self.each("segments", node, &known, |keys, name, value| match name {
            "max_changes" => out.max_changes = keys.count(value, 1),
            "max_bytes" => out.max_bytes = keys.size(value),
            _ => out.max_age = keys.duration(value),
        });
        out
    }

    fn snapshots(&mut self, node: &Node) -> Snapshots {
        let mut out = Snapshots::default();
        self.each("snapshots", node, &["every_changes"], |keys, _, value| {
            out.every_changes = match value.is_null() {
                true => Some(0),
                false => keys.count(value, 0),
            };
        });
        out
    }

    fn limits(&mut self, node: &Node) -> Limits {
        let mut out = Limits::default();
        let known = ["rule_timeout", "memory"];
        self.each("limits", node, &known, |keys, name, value| match name {
            "rule_timeout" => out.rule_timeout = keys.duration(value),
            _ => out.memory_bytes = keys.size(value),
        });
        out
    }

    fn quarantine(&mut self, node: &Node) -> Quarantine {
        let mut out = Quarantine::default();
        let known = ["rules", "max_rows", "database"];
        self.each("quarantine", node, &known, |keys, name, value| match name {
            "rules" => out.rules = keys.ids(value),
            "max_rows" => out.rows_max = keys.count(value, 1),
            _ => out.database = keys.text(value),
        });
        out
    }

    /// One id, or a list of them.
    fn ids(&mut self, node: &Node) -> Vec<Text> {
        let items = match &node.kind {
            Kind::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut ids = Vec::new();
        for item in items {
            if let Some(Expanded { value, shown }) = self.scalar(item, "an id", "write an id") {
                let span = self.reader.source.span(item);
                ids.push(Text { value, shown, span });
            }
        }
        ids
    }

    /// The keys of a mapping that is a value of the file.
    fn each(
        &mut self,
        name: &str,
        node: &Node,
        known: &[&'static str],
        mut take: impl FnMut(&mut Self, &'static str, &Node),
    ) {
        let example = TOP.iter().find(|(known, _)| *known == name);
        let example = example.map_or("", |(_, example)| example);
        let example = format!("{name}: {example}");
        let Some(entries) = self.mapping(node, &format!("`{name}`"), &example) else {
            return;
        };
        for (key, value) in entries {
            if let Some(key) = self.key(key, value, Some(name), known) {
                take(self, key, value);
            }
        }
    }

    fn mapping<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        example: &str,
    ) -> Option<&'n [(Node, Node)]> {
        match &node.kind {
            Kind::Mapping(entries) => Some(entries),
            _ => {
                let message = format!("{what} needs a mapping, found {}", node.describe());
                self.reader
                    .wrong(node, message, format!("write `{example}`"))
            }
        }
    }

    /// The name of a known key that has a value.
    fn key(
        &mut self,
        key: &Node,
        value: &Node,
        of: Option<&str>,
        known: &[&'static str],
    ) -> Option<&'static str> {
        let written = key.text().unwrap_or_default();
        let Some(name) = known.iter().find(|name| **name == written) else {
            let message = match of {
                Some(of) => format!("`{of}` has no key `{}`", shortened(written)),
                None => format!("there is no key `{}`", shortened(written)),
            };
            let hint = match near(written, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                    format!("write {}", one_of(&known))
                }
            };
            return self.reader.wrong(key, message, hint);
        };
        // Without snapshots is a way to live; without any other value is a slip.
        if value.is_null() && *name != "every_changes" {
            let message = format!("`{name}` has no value");
            return self.reader.wrong(key, message, "give it one, or remove it");
        }
        Some(name)
    }

    /// One path or URL, or a list of them.
    fn texts(&mut self, node: &Node) -> Vec<Text> {
        match &node.kind {
            Kind::Sequence(items) if items.is_empty() => {
                let hint = "give it a path, or remove it";
                let _: Option<()> = self.reader.wrong(node, "this list is empty", hint);
                Vec::new()
            }
            Kind::Sequence(items) => items.iter().filter_map(|item| self.text(item)).collect(),
            _ => self.text(node).into_iter().collect(),
        }
    }

    /// A path, relative to the file's directory, or a URL.
    fn text(&mut self, node: &Node) -> Option<Text> {
        let Expanded { value, shown } = self.scalar(node, "a path", "write a path")?;
        let span = self.reader.source.span(node);
        let is_elsewhere = value.contains("://") || Path::new(&value).is_absolute();
        if is_elsewhere || self.directory == Path::new("") {
            return Some(Text { value, shown, span });
        }
        let Some(directory) = self.directory.to_str() else {
            let message = "the name of this file's directory is not UTF-8";
            return self.reader.wrong(node, message, "write an absolute path");
        };
        let below = |text: &str| {
            let path = Path::new(directory).join(text);
            path.to_string_lossy().into_owned()
        };
        Some(Text {
            value: below(&value),
            shown: below(&shown),
            span,
        })
    }

    /// A length of time that is longer than zero.
    fn duration(&mut self, node: &Node) -> Option<Duration> {
        const HINT: &str = "write e.g. `60s`, `5m`, `1h30m` or `90d`";
        let text = self.scalar(node, "a duration", HINT)?;
        let micros = match parse_duration(&text.value) {
            Ok(micros) => u64::try_from(micros).unwrap_or(0),
            Err(hint) => {
                // The hint may repeat the text, which may be the value of a variable.
                let hint = match text.value == text.shown {
                    true => hint,
                    false => HINT.to_owned(),
                };
                return self.unfit(node, "a duration", &hint);
            }
        };
        if micros == 0 {
            let hint = "write one that is longer than zero, or remove the key";
            return self.reader.wrong(node, "a duration of nothing", hint);
        }
        Some(Duration::from_micros(micros))
    }

    /// A size in bytes, at least 1.
    fn size(&mut self, node: &Node) -> Option<u64> {
        const HINT: &str = "write e.g. `512MiB`, `4GB` or a number of bytes";
        let text = self.scalar(node, "a size", HINT)?;
        match parse_size(&text.value) {
            Ok(0) => {
                let hint = "write one that is larger than zero, or remove the key";
                self.reader.wrong(node, "a size of nothing", hint)
            }
            Ok(bytes) => Some(bytes),
            Err(hint) => self.unfit(node, "a size", hint),
        }
    }

    /// A whole number.
    fn count(&mut self, node: &Node, least: u64) -> Option<u64> {
        let hint = "write digits only, such as `500000`";
        let text = self.scalar(node, "a whole number", hint)?;
        let is_number = !text.value.is_empty() && text.value.bytes().all(|b| b.is_ascii_digit());
        match text.value.parse::<u64>() {
            Ok(count) if is_number && count >= least => Some(count),
            Ok(_) if is_number => {
                let hint = format!("write {least} or more, or remove the key");
                self.unfit(node, "a larger number", &hint)
            }
            Err(_) if is_number => self.unfit(node, "a smaller number", "write a smaller one"),
            _ => self.unfit(node, "a whole number", hint),
        }
    }

    /// A scalar that is not empty, with its variables replaced.
    fn scalar(&mut self, node: &Node, what: &str, hint: &str) -> Option<Expanded> {
        let is_text = !matches!(node.literal(), Some(Literal::Null | Literal::Bool(_)));
        let text = node
            .text()
            .filter(|text| is_text && !text.trim().is_empty());
        let Some(text) = text else {
            return self.unfit(node, what, hint);
        };
        let span = self.reader.source.text_span(node);
        let mut wrong = Vec::new();
        let expanded = self.variables.expand(text, &span, &mut wrong);
        wrong.into_iter().for_each(|wrong| self.reader.push(wrong));
        let expanded = expanded?;
        if expanded.value.trim().is_empty() {
            let message = format!("{} is empty", node.describe());
            return self.reader.wrong(node, message, hint);
        }
        Some(expanded)
    }

    /// Says that something else is expected; the value of no variable is shown, for a node has none.
    fn unfit<T>(&mut self, node: &Node, what: &str, hint: &str) -> Option<T> {
        let message = format!("{what} is expected here, found {}", node.describe());
        self.reader.wrong(node, message, hint)
    }
}
